//! From options to what a run needs: the server, what is said to it, rings, a folder.

use std::net::SocketAddr;
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

/// Where the servers are, and which processes they are.
pub struct Servers {
    /// At least one, at most [`TARGETS_MAX`].
    pub targets: Vec<Target>,
    /// As far as they are known.
    pub pids: Vec<u32>,
    /// Those that we started; they end with this.
    pub started: Vec<Started>,
}

impl Servers {
    /// As the options say; started, if that was asked for.
    pub fn find(options: &Options) -> Result<Self, String> {
        let mut targets = targets(options)?;
        let mut started = Vec::new();
        let has_targets = options.target.is_some();
        for (index, command) in options.start.iter().enumerate() {
            // As many commands as targets start one each; one command may start them all.
            let awaited = match has_targets {
                false => &[],
                true if options.start.len() == targets.len() => &targets[index..=index],
                true if index + 1 == options.start.len() => &targets[..],
                true => &[],
            };
            let awaited: Vec<SocketAddr> = awaited.iter().map(|target| target.http).collect();
            started.push(Started::start(command, &awaited)?);
        }
        if !has_targets && !started.is_empty() {
            targets =
                started.iter().map(|one| found(one, &targets[0])).collect::<Result<_, _>>()?;
        }
        if options.tcp.is_none() && started.len() == targets.len() {
            let said = started.iter().zip(&mut targets).filter(|(one, _)| one.tcp.is_some());
            said.for_each(|(one, target)| target.tcp = one.tcp);
        }
        let pids = match &options.pid {
            Some(list) => list.split(',').map(|word| pid(word.trim())).collect::<Result<_, _>>()?,
            None => started.iter().map(Started::pid).collect(),
        };
        Ok(Self { targets, pids, started })
    }
}

/// Servers of one run.
pub const TARGETS_MAX: usize = 64;

fn targets(options: &Options) -> Result<Vec<Target>, String> {
    let (urls, tcp) = match (&options.target, &options.tcp) {
        (Some(urls), tcp) => (urls.as_str(), tcp.as_deref()),
        (None, Some(tcp)) => (DEFAULT_TARGET, Some(tcp.as_str())),
        (None, None) => (DEFAULT_TARGET, Some(DEFAULT_TCP)),
    };
    let urls: Vec<&str> = urls.split(',').map(str::trim).filter(|url| !url.is_empty()).collect();
    let tcp: Vec<&str> = tcp.iter().flat_map(|list| list.split(',')).map(str::trim).collect();
    if urls.is_empty() || TARGETS_MAX < urls.len() {
        return Err(format!("name 1 to {TARGETS_MAX} targets"));
    }
    if !tcp.is_empty() && tcp.len() != urls.len() {
        return Err(format!("{} targets and {} addresses for lines", urls.len(), tcp.len()));
    }
    let tcp = tcp.into_iter().map(Some).chain(std::iter::repeat(None));
    urls.into_iter().zip(tcp).map(|(url, tcp)| Target::parse(url, tcp)).collect()
}

/// Where a server says that it is; without a word of it, where one is by default.
fn found(started: &Started, default: &Target) -> Result<Target, String> {
    match started.http {
        None => Ok(default.clone()),
        Some(http) => Target::parse(&format!("http://{http}{}", default.path), None),
    }
}

/// A number, or a file that holds one.
pub fn pid(word: &str) -> Result<u32, String> {
    if let Ok(pid) = word.parse() {
        return Ok(pid);
    }
    let text = std::fs::read_to_string(word).map_err(|err| format!("{word}: {err}"))?;
    text.trim().parse().map_err(|_| format!("{word} holds no process id"))
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

    #[track_caller]
    fn check_targets(
        target: Option<&str>,
        tcp: Option<&str>,
        expect: Result<&[(u16, Option<u16>)], &str>,
    ) {
        let own = |text: &str| text.to_owned();
        let options = Options { target: target.map(own), tcp: tcp.map(own), ..Options::default() };
        let ports = |one: &Target| (one.http.port(), one.tcp.map(|tcp| tcp.port()));
        match (targets(&options), expect) {
            (Ok(all), Ok(expect)) => assert_eq!(all.iter().map(ports).collect::<Vec<_>>(), expect),
            (Err(why), Err(expect)) => assert!(why.contains(expect), "{why}"),
            (got, _) => panic!("{got:?}"),
        }
    }

    #[test]
    fn targets_are_several_or_the_default_each_with_its_port_for_lines() {
        let two = "http://127.0.0.1:1/mcp, http://127.0.0.1:2/mcp";
        check_targets(None, None, Ok(&[(8080, Some(9001))]));
        check_targets(None, Some("127.0.0.1:5"), Ok(&[(8080, Some(5))]));
        check_targets(Some(two), None, Ok(&[(1, None), (2, None)]));
        check_targets(
            Some(two),
            Some("127.0.0.1:5,127.0.0.1:6"),
            Ok(&[(1, Some(5)), (2, Some(6))]),
        );
        check_targets(Some(two), Some("127.0.0.1:5"), Err("2 targets and 1 addresses"));
        check_targets(Some(","), None, Err("name 1 to 64"));
        check_targets(Some(&[two; 33].join(",")), None, Err("name 1 to 64"));
    }

    #[test]
    fn a_process_is_named_by_its_number_or_by_a_file_that_holds_it() {
        let file = std::env::temp_dir().join(format!("erlmcp-pid-{}", std::process::id()));
        std::fs::write(&file, "4711\n").unwrap();
        assert_eq!(pid(file.to_str().unwrap()), Ok(4711));
        std::fs::write(&file, "soon").unwrap();
        assert!(pid(file.to_str().unwrap()).is_err());
        std::fs::remove_file(&file).unwrap();
        assert_eq!(pid("12"), Ok(12));
        assert!(pid(file.to_str().unwrap()).is_err());
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
