//! One client that waits: asks a server what it understands before thousands do, and publishes updates.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::kind::{Kind, Mix};
use super::say::{CallShape, LEGACY, Say};
use super::talk::{Event, Talk};
use super::target::Target;
use super::voice::Voice;

/// How long a server may take for anything said here.
const PATIENCE: Duration = Duration::from_secs(15);
/// Bytes kept of what was said first, to find the revision in it.
const HEARD_BYTES_MAX: usize = 64 * 1024;

/// One connection, one conversation.
pub struct Blocking {
    stream: TcpStream,
    talk: Talk,
    voice: Voice,
    kept: Vec<u8>,
    /// Everything heard until the client was ready.
    heard: Vec<u8>,
}

impl Blocking {
    /// Connects, and waits until the client is ready.
    pub fn open(target: &Target, kind: Kind, say: Say) -> Result<Self, String> {
        let addr = match kind {
            Kind::Tcp => target.tcp.ok_or("clients of kind tcp need --tcp IP:PORT")?,
            _ => target.http,
        };
        let told = |err: std::io::Error| format!("{addr}: {err}");
        let stream = TcpStream::connect_timeout(&addr, PATIENCE).map_err(told)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(told)?;
        stream.set_nodelay(true).map_err(told)?;
        let (kept, heard) = (Vec::new(), Vec::new());
        let voice = Voice::new(say, false, FIRST_ID);
        let mut client = Self { stream, talk: Talk::new(kind), voice, kept, heard };
        let mut out = Vec::new();
        let is_ready = client.talk.begin(&mut client.voice, &mut out);
        client.stream.write_all(&out).map_err(told)?;
        if !is_ready {
            client.wait()?;
        }
        Ok(client)
    }

    /// Makes a call and waits for the right answer.
    pub fn call(&mut self) -> Result<(), String> {
        let mut out = Vec::new();
        self.talk.call(&mut self.voice, &mut out);
        self.stream.write_all(&out).map_err(|err| err.to_string())?;
        match self.wait()? {
            Event::Wrong(why) => Err(why),
            _ => Ok(()),
        }
    }

    /// Until something other than nothing happened.
    fn wait(&mut self) -> Result<Event, String> {
        let mut piece = [0; 16 * 1024];
        loop {
            let mut out = Vec::new();
            let (used, event) = self.talk.read(&mut self.voice, &self.kept, &mut out)?;
            self.kept.drain(..used);
            self.stream.write_all(&out).map_err(|err| err.to_string())?;
            if event != Event::Quiet {
                return Ok(event);
            }
            if used != 0 && !self.kept.is_empty() {
                continue;
            }
            match self.stream.read(&mut piece) {
                Ok(0) => return Err("the server closed the connection".to_owned()),
                Ok(count) => {
                    self.kept.extend_from_slice(&piece[..count]);
                    if self.heard.len() < HEARD_BYTES_MAX {
                        self.heard.extend_from_slice(&piece[..count]);
                    }
                }
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(err) => return Err(format!("the server did not answer: {err}")),
            }
        }
    }
}

/// Asks the server with one client of each kind; returns what shall be said to it.
pub fn learn(target: &Target, mix: &Mix, shape: &CallShape, uri: &str) -> Result<Say, String> {
    let mut say = Say::new(target, shape.clone(), true, LEGACY, uri);
    if mix.has(Kind::Session) || mix.has(Kind::Stream) {
        // The server may know older revisions only; its clients then speak those.
        let client = Blocking::open(target, Kind::Session, say.clone())
            .map_err(|why| format!("a legacy session: {why}"))?;
        let legacy = revision(&client.heard).unwrap_or_else(|| LEGACY.to_owned());
        say = Say::new(target, shape.clone(), true, &legacy, uri);
    }
    for kind in mix.kinds() {
        let try_with = |say: &Say| {
            let mut client = Blocking::open(target, kind, say.clone())?;
            if kind.is_caller() { client.call() } else { Ok(()) }
        };
        let Err(why) = try_with(&say) else { continue };
        if kind != Kind::Http {
            return Err(format!("a client of kind {}: {why}", kind.as_str()));
        }
        let legacy = Say::new(target, shape.clone(), false, LEGACY, uri);
        try_with(&legacy).map_err(|legacy| {
            format!(
                "the server answers no call without a session: modern: {why}; legacy: {legacy}; \
                 `--mix session` may be what it wants"
            )
        })?;
        say.http_call = legacy.http_call;
        say.is_modern = false;
    }
    Ok(say)
}

/// The revision in the answer to `initialize`.
fn revision(heard: &[u8]) -> Option<String> {
    let mark = b"\"protocolVersion\":";
    let at = memchr::memmem::find(heard, mark)? + mark.len();
    let rest = std::str::from_utf8(heard.get(at..)?).ok()?;
    let value = rest.trim_start().strip_prefix('"')?.split('"').next()?;
    Some(value.to_owned())
}

/// Its ids are far from those of the load.
const FIRST_ID: u64 = 899_000_000_000;

#[cfg(test)]
mod tests {
    use super::revision;

    #[test]
    fn the_revision_is_found_in_json_of_any_spacing() {
        let find = |text: &str| revision(text.as_bytes());
        assert_eq!(find(r#"x{"protocolVersion":"2025-06-18",}"#), Some("2025-06-18".into()));
        assert_eq!(find(r#"{"protocolVersion": "2025-03-26"}"#), Some("2025-03-26".into()));
        assert_eq!(find("{}"), None);
    }
}
