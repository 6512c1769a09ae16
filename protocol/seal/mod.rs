//! Sealed tokens: session ids, task ids, request states, cursors (design §5).
//!
//! A token says whose it is, and a MAC under a key of the whole cluster says that we made it: any
//! shard of any node refuses a forgery without a look-up. A token is an address, never a proof of
//! who holds it.
//!
//! Layout, then base64url without padding: format (1), kind (1), key id (1), content, MAC or AEAD
//! tag. Kinds have keys of their own (BLAKE3 `derive_key`), so no token can pass for one of another
//! kind. Session ids, task ids and cursors are readable and authentic (BLAKE3 keyed hash, cut to
//! 128 bits or more); a request state is secret as well (XChaCha20-Poly1305, whose nonce is long enough to be
//! drawn at random).

use std::fmt;
use std::ops::Deref;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

#[cfg(test)]
mod tests;

/// Payload of a request state.
pub const STATE_BYTES_MAX: usize = 16 * 1024;
/// Characters of a session id.
pub const SESSION_TEXT_BYTES: usize = SESSION_BYTES / 3 * 4;
/// Characters of a task id.
pub const TASK_TEXT_BYTES: usize = TASK_BYTES / 3 * 4;
/// Characters of a cursor.
pub const CURSOR_TEXT_BYTES: usize = CURSOR_BYTES / 3 * 4;

const FORMAT: u8 = 1;
const KIND_SESSION: u8 = 1;
const KIND_STATE: u8 = 2;
const KIND_CURSOR: u8 = 3;
const KIND_TASK: u8 = 4;

const HEAD_BYTES: usize = 3;
const SESSION_CONTENT_BYTES: usize = 2 + 2 + 4 + 4 + 4 + 16;
const SESSION_MAC_BYTES: usize = 16;
const SESSION_BYTES: usize = HEAD_BYTES + SESSION_CONTENT_BYTES + SESSION_MAC_BYTES;
/// Milliseconds since 1970 in 48 bits reach beyond the year 10000.
const EXPIRY_BYTES: usize = 6;
const TASK_CONTENT_BYTES: usize = SESSION_CONTENT_BYTES + EXPIRY_BYTES;
const TASK_MAC_BYTES: usize = 16;
const TASK_BYTES: usize = HEAD_BYTES + TASK_CONTENT_BYTES + TASK_MAC_BYTES;
const CURSOR_CONTENT_BYTES: usize = 1 + 4;
const CURSOR_MAC_BYTES: usize = 16;
const CURSOR_BYTES: usize = HEAD_BYTES + CURSOR_CONTENT_BYTES + CURSOR_MAC_BYTES;
/// Bytes of the random nonce of a sealed state.
pub const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
const STATE_HEAD_BYTES: usize = HEAD_BYTES + NONCE_BYTES + 8;
const STATE_TEXT_BYTES_MAX: usize =
    (STATE_HEAD_BYTES + STATE_BYTES_MAX + TAG_BYTES).div_ceil(3) * 4;

const _: () = assert!(SESSION_BYTES.is_multiple_of(3), "a session id's text has no spare bits");
const _: () = assert!(TASK_BYTES.is_multiple_of(3), "a task id's text has no spare bits");
const _: () = assert!(CURSOR_BYTES.is_multiple_of(3), "a cursor's text has no spare bits");

/// The cluster's keys: one seals, that one and its predecessors open.
pub struct Keyring {
    current: Keys,
    previous: Vec<Keys>,
}

/// One secret's keys.
struct Keys {
    /// Tells which secret sealed a token. Two may share it: both are tried.
    id: u8,
    session: [u8; 32],
    task: [u8; 32],
    state: XChaCha20Poly1305,
    cursor: [u8; 32],
}

impl Keys {
    fn derive(secret: &[u8]) -> Keys {
        let key = |purpose| blake3::derive_key(purpose, secret);
        Keys {
            id: key("erlmcp-shard 2026-11 seal: key id")[0],
            session: key("erlmcp-shard 2026-11 seal: session id"),
            task: key("erlmcp-shard 2026-11 seal: task id"),
            state: XChaCha20Poly1305::new(&key("erlmcp-shard 2026-11 seal: request state").into()),
            cursor: key("erlmcp-shard 2026-11 seal: cursor"),
        }
    }
}

impl fmt::Debug for Keyring {
    /// Key ids only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all().map(|keys| keys.id)).finish()
    }
}

/// What a session id says: where the session lives, and which of the many that lived there it is.
/// A task id says the same of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionToken {
    /// The node that made it.
    pub node: u16,
    /// The shard of that node.
    pub shard: u16,
    /// The slot in that shard's table.
    pub slot: u32,
    /// Which tenant of the slot.
    pub generation: u32,
    /// Which run of the node.
    pub epoch: u32,
    /// From a CSPRNG: what makes the id unguessable even to who knows the key's other tokens.
    pub random: [u8; 16],
}

impl SessionToken {
    fn put(&self, writer: &mut Writer<'_>) {
        writer.put(&self.node.to_be_bytes());
        writer.put(&self.shard.to_be_bytes());
        writer.put(&self.slot.to_be_bytes());
        writer.put(&self.generation.to_be_bytes());
        writer.put(&self.epoch.to_be_bytes());
        writer.put(&self.random);
    }

    fn take(reader: &mut Reader<'_>) -> Option<SessionToken> {
        Some(SessionToken {
            node: u16::from_be_bytes(reader.take()?),
            shard: u16::from_be_bytes(reader.take()?),
            slot: u32::from_be_bytes(reader.take()?),
            generation: u32::from_be_bytes(reader.take()?),
            epoch: u32::from_be_bytes(reader.take()?),
            random: reader.take()?,
        })
    }
}

/// What a task id says: where the task lives, and until when. A task is kept exactly that long, so
/// any shard knows without a look-up whether it still lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TaskToken {
    /// Where.
    pub at: SessionToken,
    /// From then on it is forgotten. 48 bits travel.
    pub expires_unix_ms: u64,
}

/// The text of a session id, on the stack.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenText([u8; SESSION_TEXT_BYTES]);

impl Deref for TokenText {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default() // The base64url alphabet is ASCII.
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

/// Why a request state was not sealed or not opened. Peers are told one thing for all
/// ([`crate::mcp::errors::invalid_state`]); the difference is for counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealError {
    /// No token of this kind at all.
    Malformed,
    /// Not ours, changed on its way, or made for another purpose.
    Forged,
    /// Ours, and too old.
    Expired,
    /// To be sealed: the payload is over [`STATE_BYTES_MAX`].
    TooLarge,
}

impl Keyring {
    /// Keys of a secret. It is not stretched: it must have its 128 bits of entropy itself.
    pub fn new(secret: &[u8]) -> Keyring {
        Keyring { current: Keys::derive(secret), previous: Vec::new() }
    }

    /// Also opens what was sealed with this secret: for the time of a rotation.
    pub fn with_previous(mut self, secret: &[u8]) -> Keyring {
        self.previous.push(Keys::derive(secret));
        self
    }

    fn all(&self) -> impl Iterator<Item = &Keys> {
        std::iter::once(&self.current).chain(&self.previous)
    }

    fn with_id(&self, id: u8) -> impl Iterator<Item = &Keys> {
        self.all().filter(move |keys| keys.id == id)
    }

    /// The session id of a session.
    pub fn seal_session(&self, token: &SessionToken) -> TokenText {
        let mut bytes = [0; SESSION_BYTES];
        let mut writer = Writer { bytes: &mut bytes, at: 0 };
        writer.put(&[FORMAT, KIND_SESSION, self.current.id]);
        token.put(&mut writer);
        let (content, mac) = bytes.split_at_mut(SESSION_BYTES - SESSION_MAC_BYTES);
        mac.copy_from_slice(&mac_of(&self.current.session, content, &[])[..SESSION_MAC_BYTES]);
        let mut text = TokenText([b'A'; SESSION_TEXT_BYTES]);
        // The text's length is that of the bytes, by construction.
        let written = URL_SAFE_NO_PAD.encode_slice(bytes, &mut text.0);
        debug_assert_eq!(written, Ok(SESSION_TEXT_BYTES));
        text
    }

    /// What a session id says, if we made it. No allocation; what has not the right length,
    /// alphabet and format costs no hash.
    pub fn open_session(&self, text: &str) -> Option<SessionToken> {
        let bytes: [u8; SESSION_BYTES] = decode(text, KIND_SESSION)?;
        let (content, mac) = bytes.split_at(SESSION_BYTES - SESSION_MAC_BYTES);
        let ours = |keys: &Keys| same(&mac_of(&keys.session, content, &[]), mac);
        if !self.with_id(bytes[2]).any(ours) {
            return None;
        }
        SessionToken::take(&mut Reader(&content[HEAD_BYTES..]))
    }

    /// The id of a task.
    pub fn seal_task(&self, token: &TaskToken) -> String {
        let mut bytes = [0; TASK_BYTES];
        let mut writer = Writer { bytes: &mut bytes, at: 0 };
        writer.put(&[FORMAT, KIND_TASK, self.current.id]);
        token.at.put(&mut writer);
        writer.put(&token.expires_unix_ms.to_be_bytes()[8 - EXPIRY_BYTES..]);
        let (content, mac) = bytes.split_at_mut(TASK_BYTES - TASK_MAC_BYTES);
        mac.copy_from_slice(&mac_of(&self.current.task, content, &[])[..TASK_MAC_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What a task id says, if we made it; whether its time is over is for the caller to compare.
    pub fn open_task(&self, text: &str) -> Option<TaskToken> {
        let bytes: [u8; TASK_BYTES] = decode(text, KIND_TASK)?;
        let (content, mac) = bytes.split_at(TASK_BYTES - TASK_MAC_BYTES);
        let ours = |keys: &Keys| same(&mac_of(&keys.task, content, &[]), mac);
        if !self.with_id(bytes[2]).any(ours) {
            return None;
        }
        let mut reader = Reader(&content[HEAD_BYTES..]);
        let at = SessionToken::take(&mut reader)?;
        let expiry: [u8; EXPIRY_BYTES] = reader.take()?;
        let expires_unix_ms = expiry.iter().fold(0, |all, byte| all << 8 | u64::from(*byte));
        Some(TaskToken { at, expires_unix_ms })
    }

    /// Seals a handler's state for its way through the client. `nonce`: from a CSPRNG, new for
    /// each. `purpose`: what the state is bound to (principal, method, a digest of the params); it
    /// does not travel. Fails only with [`SealError::TooLarge`].
    pub fn seal_state(
        &self,
        nonce: [u8; NONCE_BYTES],
        purpose: &[u8],
        expires_unix_ms: u64,
        payload: &[u8],
    ) -> Result<String, SealError> {
        if STATE_BYTES_MAX < payload.len() {
            return Err(SealError::TooLarge);
        }
        let mut bytes = Vec::with_capacity(STATE_HEAD_BYTES + payload.len() + TAG_BYTES);
        bytes.extend_from_slice(&[FORMAT, KIND_STATE, self.current.id]);
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(&expires_unix_ms.to_be_bytes());
        let aad = state_aad(&bytes, purpose);
        let payload = Payload { msg: payload, aad: &aad };
        let nonce = XNonce::from(nonce);
        let secret = self.current.state.encrypt(&nonce, payload);
        bytes.extend_from_slice(&secret.map_err(|_| SealError::TooLarge)?);
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Opens a state sealed for just this purpose; from `expires_unix_ms` on it is expired.
    pub fn open_state(
        &self,
        text: &str,
        purpose: &[u8],
        now_unix_ms: u64,
    ) -> Result<Vec<u8>, SealError> {
        if STATE_TEXT_BYTES_MAX < text.len() {
            return Err(SealError::Malformed);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| SealError::Malformed)?;
        if bytes.len() < STATE_HEAD_BYTES + TAG_BYTES || bytes[..2] != [FORMAT, KIND_STATE] {
            return Err(SealError::Malformed);
        }
        let (head, secret) = bytes.split_at(STATE_HEAD_BYTES);
        let mut reader = Reader(&head[HEAD_BYTES..]);
        let nonce: [u8; NONCE_BYTES] = reader.take().ok_or(SealError::Malformed)?;
        let expires_unix_ms = u64::from_be_bytes(reader.take().ok_or(SealError::Malformed)?);
        let (nonce, aad) = (XNonce::from(nonce), state_aad(head, purpose));
        let payload = self
            .with_id(head[2])
            .find_map(|keys| keys.state.decrypt(&nonce, Payload { msg: secret, aad: &aad }).ok())
            .ok_or(SealError::Forged)?;
        // Only now: the time of a forgery means nothing.
        if expires_unix_ms <= now_unix_ms { Err(SealError::Expired) } else { Ok(payload) }
    }

    /// The cursor to the page that begins at `offset`. `scope` is what the cursor is bound to
    /// besides its list: a fingerprint of the catalog, so that a cursor dies with the list it was
    /// cut from.
    pub fn seal_cursor(&self, list: u8, scope: u64, offset: u32) -> String {
        let mut bytes = [0; CURSOR_BYTES];
        let mut writer = Writer { bytes: &mut bytes, at: 0 };
        writer.put(&[FORMAT, KIND_CURSOR, self.current.id, list]);
        writer.put(&offset.to_be_bytes());
        let (content, mac) = bytes.split_at_mut(CURSOR_BYTES - CURSOR_MAC_BYTES);
        let full = mac_of(&self.current.cursor, content, &scope.to_be_bytes());
        mac.copy_from_slice(&full[..CURSOR_MAC_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The offset a cursor stands for, if we made it for this list and scope.
    pub fn open_cursor(&self, list: u8, scope: u64, text: &str) -> Option<u32> {
        let bytes: [u8; CURSOR_BYTES] = decode(text, KIND_CURSOR)?;
        let (content, mac) = bytes.split_at(CURSOR_BYTES - CURSOR_MAC_BYTES);
        let scope = scope.to_be_bytes();
        let ours = |keys: &Keys| same(&mac_of(&keys.cursor, content, &scope), mac);
        let mut reader = Reader(&content[HEAD_BYTES..]);
        let [sealed_list] = reader.take()?;
        if sealed_list != list || !self.with_id(bytes[2]).any(ours) {
            return None;
        }
        reader.take().map(u32::from_be_bytes)
    }
}

/// What a state is bound to: format, kind, key and expiry as they travel, and the purpose, which
/// does not.
fn state_aad(head: &[u8], purpose: &[u8]) -> Vec<u8> {
    [head, purpose].concat()
}

/// The bytes of a token of fixed size, if its text is one of this format and kind.
fn decode<const N: usize>(text: &str, kind: u8) -> Option<[u8; N]> {
    if text.len() != N / 3 * 4 {
        return None;
    }
    let mut bytes = [0; N];
    let count = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
    (count == N && bytes[..2] == [FORMAT, kind]).then_some(bytes)
}

fn mac_of(key: &[u8; 32], content: &[u8], bound: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(content);
    hasher.update(bound);
    *hasher.finalize().as_bytes()
}

/// Compares a MAC with the beginning of a full one, in a time that does not tell where they differ.
fn same(full: &[u8; 32], mac: &[u8]) -> bool {
    let differences = full.iter().zip(mac).fold(0, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(differences) == 0
}

struct Writer<'b> {
    bytes: &'b mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }
}

struct Reader<'b>(&'b [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }
}

/// Opening anything as anything never panics, and never succeeds.
pub fn fuzz_open(data: &[u8]) {
    let keyring = Keyring::new(b"a secret that no fuzzer guesses").with_previous(b"another");
    let Ok(text) = std::str::from_utf8(data) else { return };
    assert_eq!(keyring.open_session(text), None);
    assert_eq!(keyring.open_task(text), None);
    assert_eq!(keyring.open_cursor(0, 0, text), None);
    assert!(keyring.open_state(text, b"", 0).is_err());
}
