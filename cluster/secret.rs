//! The secret that makes nodes one cluster, and the keys that come of it.
//!
//! A secret file has one secret per line. The first one proves and seals; the others are still accepted, so that a
//! secret can be replaced node by node. What the file's permissions must be is checked by who opens it.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Secrets in one file.
pub const SECRETS_MAX: usize = 4;
/// Bytes of one secret, at least. Secrets are not stretched: the entropy must be in them.
pub const SECRET_BYTES_MIN: usize = 16;
/// Bytes of one secret, at most.
pub const SECRET_BYTES_MAX: usize = 1024;
/// Bytes of a handshake's MAC.
pub const MAC_BYTES: usize = 32;

/// All secrets of a node, current one first. Shown to nobody: `Debug` says only how many there are.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets {
    /// Never empty.
    lines: Vec<Vec<u8>>,
}

/// What is wrong with a secret file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretError {
    /// No line has anything in it.
    Empty,
    /// This line (from 1) has fewer than [`SECRET_BYTES_MIN`] bytes.
    TooShort(usize),
    /// This line (from 1) has more than [`SECRET_BYTES_MAX`] bytes.
    TooLong(usize),
    /// More than [`SECRETS_MAX`] secrets.
    TooMany,
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(
                f,
                "has no secret in it: write one of at least {SECRET_BYTES_MIN} bytes on a line"
            ),
            Self::TooShort(line) => {
                write!(f, "line {line}: a secret needs at least {SECRET_BYTES_MIN} bytes")
            }
            Self::TooLong(line) => {
                write!(f, "line {line}: a secret has at most {SECRET_BYTES_MAX} bytes")
            }
            Self::TooMany => write!(f, "has more than {SECRETS_MAX} secrets"),
        }
    }
}

impl std::error::Error for SecretError {}

impl Secrets {
    /// Reads a secret file: a secret per line, white space around it and empty lines ignored.
    pub fn parse(text: &[u8]) -> Result<Self, SecretError> {
        let mut lines = Vec::new();
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            match line.len() {
                0 => continue,
                1..SECRET_BYTES_MIN => return Err(SecretError::TooShort(index + 1)),
                SECRET_BYTES_MIN..=SECRET_BYTES_MAX => lines.push(line.to_vec()),
                _ => return Err(SecretError::TooLong(index + 1)),
            }
        }
        match lines.len() {
            0 => Err(SecretError::Empty),
            1..=SECRETS_MAX => Ok(Self { lines }),
            _ => Err(SecretError::TooMany),
        }
    }

    /// Keys for a purpose, one of each secret, current one first. A purpose is a sentence that nobody else uses
    /// (BLAKE3 `derive_key`), so keys of different purposes say nothing about each other.
    pub fn keys(&self, purpose: &'static str) -> impl Iterator<Item = [u8; 32]> + '_ {
        self.lines.iter().map(move |line| blake3::derive_key(purpose, line))
    }

    /// One MAC of `parts` under each secret, current one first.
    pub(crate) fn macs(&self, parts: &[&[u8]]) -> Vec<[u8; MAC_BYTES]> {
        self.hashers(parts).map(|hasher| hasher.finalize().into_bytes().into()).collect()
    }

    /// The MAC of `parts` under one secret.
    pub(crate) fn mac(&self, secret: usize, parts: &[&[u8]]) -> Option<[u8; MAC_BYTES]> {
        self.hashers(parts).nth(secret).map(|hasher| hasher.finalize().into_bytes().into())
    }

    /// Which secret made one of these MACs; compared in constant time.
    pub(crate) fn verify(&self, parts: &[&[u8]], macs: &[[u8; MAC_BYTES]]) -> Option<usize> {
        self.hashers(parts)
            .position(|hasher| macs.iter().any(|mac| hasher.clone().verify_slice(mac).is_ok()))
    }

    fn hashers(&self, parts: &[&[u8]]) -> impl Iterator<Item = Hmac<Sha256>> {
        self.keys("erlmcp-shard 2026-11 mesh: handshake").filter_map(move |key| {
            // HMAC takes keys of any length (RFC 2104 §3), so none is left out here.
            let mut hasher = Hmac::<Sha256>::new_from_slice(&key).ok()?;
            for part in parts {
                // Lengths too, so that no part can pass for a piece of its neighbour.
                hasher.update(&(part.len() as u64).to_be_bytes());
                hasher.update(part);
            }
            Some(hasher)
        })
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.lines.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &[u8], expect: Result<usize, SecretError>) {
        assert_eq!(Secrets::parse(text).map(|secrets| secrets.lines.len()), expect);
    }

    #[test]
    fn a_file_has_one_to_four_secrets_of_sixteen_bytes_or_more() {
        let sixteen = b"0123456789abcdef";
        check(sixteen, Ok(1));
        check(&sixteen[..15], Err(SecretError::TooShort(1)));
        check(b"", Err(SecretError::Empty));
        check(b" \n\r\n\t\n", Err(SecretError::Empty));
        check(b"\n 0123456789abcdef\r\n\nfedcba9876543210 \n", Ok(2));
        check(b"0123456789abcdef\nshort\n", Err(SecretError::TooShort(2)));
        let lines = |count| [&sixteen[..]].repeat(count).join(&b'\n');
        check(&lines(SECRETS_MAX), Ok(SECRETS_MAX));
        check(&lines(SECRETS_MAX + 1), Err(SecretError::TooMany));
        check(&[b'x'; SECRET_BYTES_MAX], Ok(1));
        check(&[b'x'; SECRET_BYTES_MAX + 1], Err(SecretError::TooLong(1)));
        check(&[0xff; 40], Ok(1));
    }

    #[test]
    fn purposes_and_secrets_have_keys_of_their_own() {
        let secrets = Secrets::parse(b"0123456789abcdef\nfedcba9876543210").expect("two");
        let keys: Vec<_> = secrets.keys("one").chain(secrets.keys("two")).collect();
        let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!((keys.len(), distinct.len()), (4, 4));
        assert_eq!(format!("{secrets:?}"), "Secrets(2)");
    }

    #[test]
    fn a_mac_says_where_its_parts_end() {
        let secrets = Secrets::parse(b"0123456789abcdef").expect("one");
        let macs = secrets.macs(&[b"ab", b"c"]);
        assert_eq!(secrets.verify(&[b"ab", b"c"], &macs), Some(0));
        assert_eq!(secrets.verify(&[b"a", b"bc"], &macs), None);
    }
}
