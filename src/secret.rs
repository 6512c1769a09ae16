//! The secret file of a cluster: read with suspicion, made with care.
//!
//! Who reads the secret is a node. So a file that others may read, that belongs to somebody else, or that looks
//! like anything but secrets stops the boot, and the message says what to do about it.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use erlmcp_cluster::secret::{self, SECRET_BYTES_MAX, SECRETS_MAX, Secrets};
use erlmcp_protocol::seal::Keyring;

/// A secret file has no more, bytes: every line at its longest, with room for line ends.
const FILE_BYTES_MAX: u64 = (SECRETS_MAX * (SECRET_BYTES_MAX + 2)) as u64;
/// Different characters in a secret, at least. A random one of 16 hexadecimal digits has ten; `aaaaaaaaaaaaaaaa`
/// and `changemechangeme` have fewer than this.
const DISTINCT_MIN: usize = 8;
/// Random bytes of a secret made here.
const FRESH_BYTES: usize = 32;
/// Permission bits of group and others.
const SHARED_BITS: u32 = 0o077;
/// Permission bits of others.
const OTHERS_BITS: u32 = 0o007;

/// Why a secret file cannot be used.
#[derive(Debug)]
pub struct SecretError {
    path: PathBuf,
    why: Why,
}

#[derive(Debug)]
enum Why {
    Unreadable(io::Error),
    NotAFile,
    Shared(u32),
    Foreign { owner: u32, us: u32 },
    TooLarge(u64),
    NotText(usize),
    Weak(usize),
    Content(secret::SecretError),
}

impl fmt::Display for SecretError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        write!(out, "the cluster's secret {path} ")?;
        match &self.why {
            Why::Unreadable(err) if err.kind() == io::ErrorKind::NotFound => write!(
                out,
                "is not there. Make one with `erlmcp-shard secret {path}`, or copy that of the other nodes"
            ),
            Why::Unreadable(err) if err.kind() == io::ErrorKind::PermissionDenied => write!(
                out,
                "cannot be read by this server's user: chown it to that user (it must not be readable by others), or \
                 have systemd hand it over (LoadCredential=, see systemd/README.md)"
            ),
            Why::Unreadable(err) => write!(out, "cannot be read: {err}"),
            Why::NotAFile => write!(out, "is not a regular file: name the file with the secret"),
            Why::Shared(mode) => {
                write!(out, "is open to others than its owner (mode {mode:04o}): chmod 600 {path}")
            }
            Why::Foreign { owner, us } => write!(
                out,
                "belongs to user {owner}, but this server runs as user {us}: chown {us} {path}"
            ),
            Why::TooLarge(bytes) => write!(
                out,
                "has {bytes} bytes, and a secret file has at most {FILE_BYTES_MAX}: is it the right file?"
            ),
            Why::NotText(line) => write!(
                out,
                "has bytes in line {line} that are no printable ASCII: is it the right file? A secret is a line \
                 like `erlmcp-shard secret` prints"
            ),
            Why::Weak(line) => write!(
                out,
                "is easy to guess (line {line}): replace it by one that `erlmcp-shard secret` prints, on every node"
            ),
            Why::Content(err) => write!(out, "{err}"),
        }
    }
}

impl std::error::Error for SecretError {}

/// Reads a secret file, current secret first.
pub fn read(path: &Path) -> Result<Secrets, SecretError> {
    let fail = |why| SecretError { path: path.to_owned(), why };
    let text = read_text(path).map_err(fail)?;
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        let line = line.trim_ascii();
        if !line.iter().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(fail(Why::NotText(number)));
        }
    }
    let secrets = Secrets::parse(&text).map_err(|err| fail(Why::Content(err)))?;
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        let line = line.trim_ascii();
        if !line.is_empty() && distinct(line) < DISTINCT_MIN {
            return Err(fail(Why::Weak(number)));
        }
    }
    Ok(secrets)
}

fn read_text(path: &Path) -> Result<Vec<u8>, Why> {
    // A FIFO that nobody writes to must not hang the boot.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path);
    let file = file.map_err(Why::Unreadable)?;
    let found = file.metadata().map_err(Why::Unreadable)?;
    if !found.is_file() {
        return Err(Why::NotAFile);
    }
    let vouched = is_credential(path);
    let refused_bits = if vouched { OTHERS_BITS } else { SHARED_BITS };
    if found.mode() & refused_bits != 0 {
        return Err(Why::Shared(found.mode() & 0o7777));
    }
    let us = rustix::process::geteuid().as_raw();
    if !vouched && found.uid() != us && found.uid() != 0 {
        return Err(Why::Foreign { owner: found.uid(), us });
    }
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(Why::Unreadable)?;
    if FILE_BYTES_MAX < text.len() as u64 {
        return Err(Why::TooLarge(found.len()));
    }
    Ok(text)
}

/// Whether systemd put it there for us alone (systemd.exec(5), `LoadCredential=`): it may do so by an access list,
/// which shows as permissions of the group.
pub fn is_credential(path: &Path) -> bool {
    std::env::var_os("CREDENTIALS_DIRECTORY").is_some_and(|folder| path.starts_with(folder))
}

fn distinct(line: &[u8]) -> usize {
    let mut seen = [false; 256];
    line.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    seen.iter().filter(|seen| **seen).count()
}

/// The keys of tokens: the first secret seals, all of them open.
pub fn keyring(secrets: &Secrets) -> Keyring {
    let mut keys = secrets.keys("erlmcp-shard 2026-11 cluster: tokens");
    // There is always a first one.
    let current = keys.next().unwrap_or_default();
    keys.fold(Keyring::new(&current), |ring, key| ring.with_previous(&key))
}

/// `erlmcp-shard secret`: one fresh line, to stdout or into a new file that only its owner may read.
pub fn make(file: Option<&Path>) -> Result<(), String> {
    let mut random = [0; FRESH_BYTES];
    getrandom::fill(&mut random).map_err(|err| format!("no randomness for a secret: {err}"))?;
    let mut line: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    line.push('\n');
    match file {
        None => {
            let mut stdout = io::stdout().lock();
            stdout
                .write_all(line.as_bytes())
                .and_then(|()| stdout.flush())
                .map_err(|err| format!("cannot print the secret: {err}"))
        }
        Some(path) => write_new(path, &line).map_err(|err| match err.kind() {
            io::ErrorKind::AlreadyExists => format!(
                "{} is there already, and its cluster may need it: to replace a secret see deploy/README.md, \
                 to start anew remove the file",
                path.display()
            ),
            _ => format!("cannot write the secret to {}: {err}", path.display()),
        }),
    }
}

/// All of it or nothing: half a secret would be one, and another than was meant.
fn write_new(path: &Path, line: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(line.as_bytes()).and_then(|()| File::sync_all(&file));
    if written.is_err() {
        let _ = std::fs::remove_file(path);
    }
    written
}

#[cfg(test)]
#[path = "secret_tests.rs"]
mod tests;
