//! The secret of a test's cluster, in a file that nobody else may read.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// A file, gone with the test.
pub struct Secret(PathBuf);

impl Secret {
    /// With a secret that no other test has.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("erlmcp-secret-{}-{number}", std::process::id());
        let secret = Self(std::env::temp_dir().join(&name));
        secret.write(&format!("the secret of {name}\n"));
        secret
    }

    /// Puts other lines into it.
    pub fn write(&self, lines: &str) {
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&self.0);
        file.and_then(|mut file| file.write_all(lines.as_bytes()))
            .expect("the secret can be written");
    }

    /// What is in it.
    pub fn text(&self) -> String {
        fs::read_to_string(&self.0).expect("the secret can be read")
    }

    pub fn path(&self) -> &str {
        self.0.to_str().expect("the path is text")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
