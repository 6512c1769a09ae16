//! Where readings come from: the host's `/`, or a folder that looks like one.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The root below which `proc` and `sys` are read.
#[derive(Debug, Clone)]
pub struct Root(PathBuf);

/// A reading that is there and makes no sense, or may not be read.
#[derive(Debug)]
pub struct HostError {
    path: PathBuf,
    why: String,
}

impl fmt::Display for HostError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "cannot read {}: {}", self.path.display(), self.why)
    }
}

impl std::error::Error for HostError {}

impl Root {
    /// The running host.
    pub fn host() -> Self {
        Self(PathBuf::from("/"))
    }

    /// A folder that holds `proc/…` and `sys/…`.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// The text of a file; `None` when it does not exist.
    pub fn read_text(&self, path: &str) -> Result<Option<String>, HostError> {
        let full = self.0.join(path);
        match fs::read_to_string(&full) {
            Ok(text) => Ok(Some(text)),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(self.error(path, err.to_string())),
        }
    }

    /// A file of one number; `None` when it does not exist.
    pub fn read_u64(&self, path: &str) -> Result<Option<u64>, HostError> {
        self.read_word(path, 0)
    }

    /// The `index`-th number of a file of several; `None` when the file does not exist.
    pub fn read_word(&self, path: &str, index: usize) -> Result<Option<u64>, HostError> {
        let Some(text) = self.read_text(path)? else { return Ok(None) };
        match text.split_ascii_whitespace().nth(index).map(str::parse::<u64>) {
            Some(Ok(value)) => Ok(Some(value)),
            _ => Err(self.error(path, format!("no number at word {index} of {:?}", text.trim()))),
        }
    }

    /// Soft and hard value of one line of `proc/self/limits`, `u64::MAX` for "unlimited".
    pub fn read_limit(&self, name: &str) -> Result<Option<(u64, u64)>, HostError> {
        const PATH: &str = "proc/self/limits";
        let Some(text) = self.read_text(PATH)? else { return Ok(None) };
        let Some(rest) = text.lines().find_map(|line| line.strip_prefix(name)) else {
            return Ok(None);
        };
        let mut words = rest.split_ascii_whitespace().map(|word| match word {
            "unlimited" => Some(u64::MAX),
            number => number.parse().ok(),
        });
        match (words.next().flatten(), words.next().flatten()) {
            (Some(soft), Some(hard)) => Ok(Some((soft, hard))),
            _ => Err(self.error(PATH, format!("no two numbers behind {name:?}"))),
        }
    }

    fn error(&self, path: &str, why: String) -> HostError {
        HostError { path: Path::new(&self.0).join(path), why }
    }
}
