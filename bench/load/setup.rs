//! From options to what a run needs: the server, what is said to it, rings, a folder.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use super::options::Options;
use super::say::CallShape;
use super::server::Started;
use super::target::Target;
use crate::facts::date;

/// Where our own server is by default.
const DEFAULT_TARGET: &str = "http://127.0.0.1:8080/mcp";
/// The same, for lines.
const DEFAULT_TCP: &str = "127.0.0.1:9001";
/// Slots of a ring beyond the connections meant for it: those that are closing.
const SLOTS_SPARE: u64 = 640;
/// A ring larger than this is no better than two.
const RING_CAPACITY_MAX: u64 = 1 << 18;

/// Where the server is; started, if that was asked for.
pub fn find_target(options: &Options) -> Result<(Target, Option<Started>), String> {
    let told = |url: &str| Target::parse(url, options.tcp.as_deref());
    let mut target = match (&options.target, options.tcp.is_some()) {
        (Some(url), _) => told(url)?,
        (None, true) => told(DEFAULT_TARGET)?,
        (None, false) => Target::parse(DEFAULT_TARGET, Some(DEFAULT_TCP))?,
    };
    let Some(command) = &options.start else { return Ok((target, None)) };
    let awaited = options.target.is_some().then_some(target.http);
    let started = Started::start(command, awaited)?;
    if options.target.is_none()
        && let Some(http) = started.http
    {
        target.http = http;
        target.host = http.to_string();
    }
    if options.tcp.is_none() && started.tcp.is_some() {
        target.tcp = started.tcp;
    }
    Ok((target, Some(started)))
}

/// What is called.
pub fn shape(options: &Options) -> Result<CallShape, String> {
    let payload = options.payload.map(|bytes| bytes.0);
    let arguments = options.arguments.as_deref().map(serde_json::from_str::<Value>).transpose();
    let arguments = arguments.map_err(|err| format!("--arguments: {err}"))?;
    match (&options.tool, arguments) {
        (None, None) => Ok(CallShape::echo(payload)),
        (tool, arguments) => Ok(CallShape {
            tool: tool.clone().unwrap_or_else(|| "echo".to_owned()),
            arguments: arguments.unwrap_or_else(|| json!({})),
            text: None,
        }),
    }
}

/// How many rings each thread has, and of what size.
pub fn rings(connections: u32, threads: usize, rings: Option<u16>) -> Result<(u16, u32), String> {
    let descriptors = raise_descriptors().min(RING_CAPACITY_MAX);
    let each_thread = u64::from(connections).div_ceil(threads as u64);
    let fit = descriptors.saturating_sub(SLOTS_SPARE).max(1);
    let needed = each_thread.div_ceil(fit).max(1);
    let per_thread = match rings {
        Some(rings) => u64::from(rings).div_ceil(threads as u64).max(1),
        None => needed,
    };
    if per_thread < needed {
        return Err(format!(
            "{connections} connections need {} rings of {descriptors} descriptors: --rings {}",
            needed * threads as u64,
            needed * threads as u64
        ));
    }
    let capacity = (each_thread.div_ceil(per_thread) + SLOTS_SPARE).min(descriptors);
    let per_thread = u16::try_from(per_thread).map_err(|_| "that many rings are too many")?;
    Ok((per_thread, capacity as u32))
}

/// As many descriptors as this process may have.
fn raise_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if let Some(maximum) = limit.maximum {
        // Refused or not, what counts is what it is afterwards.
        let _ =
            setrlimit(Resource::Nofile, Rlimit { current: Some(maximum), maximum: Some(maximum) });
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// `results/hold-2026-11-21T120000Z`.
pub fn folder(scenario: &str) -> PathBuf {
    let stamp = date(SystemTime::now()).replace(':', "");
    Path::new("results").join(format!("{scenario}-{stamp}"))
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::units::Bytes;

    #[test]
    fn rings_are_as_many_as_descriptors_ask_for() {
        let descriptors = raise_descriptors().min(RING_CAPACITY_MAX);
        assert_eq!(rings(100, 1, None), Ok((1, 100 + SLOTS_SPARE as u32)));
        let (count, capacity) = rings(u32::try_from(descriptors * 5).unwrap(), 1, None).unwrap();
        assert_eq!(count, 6);
        assert!(u64::from(capacity) <= descriptors);
        assert_eq!(rings(100, 2, Some(8)).unwrap().0, 4);
        assert!(rings(u32::try_from(descriptors * 5).unwrap(), 1, Some(2)).is_err());
    }

    #[test]
    fn a_tool_of_ones_own_is_called_with_its_arguments() {
        let mut options = Options { payload: Some(Bytes(10)), ..Options::default() };
        assert_eq!(shape(&options).unwrap().text.unwrap().len(), 10);
        options.tool = Some("add".into());
        options.arguments = Some(r#"{"a":1,"b":2}"#.into());
        let shape_of_add = shape(&options).unwrap();
        assert_eq!((shape_of_add.tool.as_str(), shape_of_add.text), ("add", None));
        options.arguments = Some("{".into());
        assert!(shape(&options).is_err());
    }
}
