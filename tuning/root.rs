//! Where readings come from and changes go to: the host's `/`, or a folder that looks like one.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

/// The root below which `proc` and `sys` are read and written.
#[derive(Debug, Clone)]
pub struct Root(PathBuf);

/// A reading that is there and makes no sense, or a file that may not be read or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostError {
    doing: &'static str,
    path: PathBuf,
    why: String,
}

impl fmt::Display for HostError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "cannot {} {}: {}", self.doing, self.path.display(), self.why)
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

    /// Whether readings come from the host this process runs on.
    pub fn is_host(&self) -> bool {
        self.0 == std::path::Path::new("/")
    }

    /// The text of a file; `None` when it does not exist.
    pub fn read_text(&self, path: &str) -> Result<Option<String>, HostError> {
        match fs::read_to_string(self.0.join(path)) {
            Ok(text) => Ok(Some(text)),
            Err(err) if is_absence(&err) => Ok(None),
            Err(err) => Err(self.error("read", path, err.to_string())),
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
            _ => {
                let why = format!("no number at word {index} of {:?}", text.trim());
                Err(self.error("read", path, why))
            }
        }
    }

    /// A file of exactly `N` numbers; `None` when it does not exist.
    pub fn read_words<const N: usize>(&self, path: &str) -> Result<Option<[u64; N]>, HostError> {
        let mut words = [0; N];
        for (index, word) in words.iter_mut().enumerate() {
            match self.read_word(path, index)? {
                Some(value) => *word = value,
                None => return Ok(None),
            }
        }
        Ok(Some(words))
    }

    /// The number behind a name in a file of `Name:   123 kB` lines; `None` when file or line do not exist.
    pub fn read_named(&self, path: &str, name: &str) -> Result<Option<u64>, HostError> {
        let Some(text) = self.read_text(path)? else { return Ok(None) };
        let Some(rest) = text.lines().find_map(|line| line.strip_prefix(name)) else {
            return Ok(None);
        };
        match rest.split_ascii_whitespace().next().map(str::parse) {
            Some(Ok(value)) => Ok(Some(value)),
            _ => Err(self.error("read", path, format!("no number behind {name:?}"))),
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
            _ => Err(self.error("read", PATH, format!("no two numbers behind {name:?}"))),
        }
    }

    /// Names in a folder, sorted; empty when it does not exist.
    pub fn names(&self, path: &str) -> Result<Vec<String>, HostError> {
        let entries = match fs::read_dir(self.0.join(path)) {
            Ok(entries) => entries,
            Err(err) if is_absence(&err) => return Ok(Vec::new()),
            Err(err) => return Err(self.error("read", path, err.to_string())),
        };
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Writes into a file that exists: the kernel's settings are never created.
    pub fn write_text(&self, path: &str, text: &str) -> Result<(), HostError> {
        let write = || {
            let mut file =
                fs::OpenOptions::new().write(true).truncate(true).open(self.0.join(path))?;
            // In one piece: the kernel parses each write by itself.
            file.write_all(format!("{text}\n").as_bytes())
        };
        write().map_err(|err| {
            let root = match err.kind() {
                io::ErrorKind::PermissionDenied => "; this needs root",
                io::ErrorKind::ReadOnlyFilesystem => "; in a container, change it on the host",
                _ => "",
            };
            self.error("write", path, format!("{err}{root}"))
        })
    }

    fn error(&self, doing: &'static str, path: &str, why: String) -> HostError {
        HostError { doing, path: self.0.join(path), why }
    }
}

/// No such file, or no such folder on the way to it.
fn is_absence(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
