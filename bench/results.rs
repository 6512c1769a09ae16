//! Where results are kept: `<folder>/<date>-<scenario>/summary.json`, and whatever raw data belongs to it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use crate::facts::{Facts, date};

/// Runs of one scenario on one day.
const RUNS_PER_DAY_MAX: u32 = 1000;

/// The folder of one run.
pub struct Results {
    folder: PathBuf,
    scenario: &'static str,
}

impl Results {
    /// Makes the folder; a second run on the same day gets `-2` behind its name.
    pub fn create(root: &Path, scenario: &'static str) -> Result<Self, String> {
        let told = |err: io::Error| format!("{}: {err}", root.display());
        fs::create_dir_all(root).map_err(told)?;
        let name = format!("{}-{scenario}", &date(SystemTime::now())[..10]);
        for run in 1..=RUNS_PER_DAY_MAX {
            let suffix = if run == 1 { String::new() } else { format!("-{run}") };
            let folder = root.join(format!("{name}{suffix}"));
            match fs::create_dir(&folder) {
                Ok(()) => return Ok(Self { folder, scenario }),
                Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
                Err(err) => return Err(told(err)),
            }
        }
        Err(format!("{} is full of runs of {name}", root.display()))
    }

    /// Keeps a file of raw data; returns where.
    pub fn keep(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, String> {
        let path = self.folder.join(name);
        fs::write(&path, bytes).map_err(|err| format!("{}: {err}", path.display()))?;
        Ok(path)
    }

    /// Writes the summary and says where it is.
    pub fn finish(&self, facts: &Facts, summary: &impl Serialize) -> Result<(), String> {
        let document = serde_json::json!({
            "scenario": self.scenario,
            "command": std::env::args().collect::<Vec<_>>().join(" "),
            "host": facts,
            "results": summary,
        });
        let text = serde_json::to_string_pretty(&document).map_err(|err| err.to_string())?;
        let path = self.keep("summary.json", format!("{text}\n").as_bytes())?;
        println!("\n{}", path.display());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_run_overwrites_another() {
        let root = std::env::temp_dir().join(format!("erlmcp-bench-{}", std::process::id()));
        for _ in 0..3 {
            let results = Results::create(&root, "test").unwrap();
            results.keep("raw", b"x").unwrap();
        }
        assert_eq!(fs::read_dir(&root).unwrap().count(), 3);
        fs::remove_dir_all(&root).unwrap();
    }
}
