//! What the survivors say of the cluster: their `/status`, asked again and again, each by a thread of its own so that
//! one that hangs holds up nobody.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::load::pulse::Clock;

/// Between two questions while something is awaited.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Between two questions otherwise: to ask costs the servers something.
const REST: Duration = Duration::from_millis(200);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_millis(1000);
/// Bytes of a status that are read.
const STATUS_BYTES_MAX: u64 = 4 << 20;

/// What one node said of the members, by number; only what changed is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// When the answer had come.
    pub at_us: u64,
    /// Who was asked: index of the target.
    pub by: u16,
    /// Members by number, with their state in lower case.
    pub members: BTreeMap<u16, String>,
}

/// The threads that ask.
pub struct Watch {
    seen: Receiver<Seen>,
    /// All that was told, in order.
    pub history: Vec<Seen>,
    is_keen: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Watch {
    /// Asks these admin addresses, one for each target.
    pub fn start(clock: Clock, admins: &[SocketAddr]) -> Result<Self, String> {
        let (sender, seen) = channel();
        let (is_keen, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let mut threads = Vec::new();
        for (by, admin) in (0..).zip(admins) {
            let (admin, sender) = (*admin, sender.clone());
            let (is_keen, stop) = (is_keen.clone(), stop.clone());
            let look = move || look(clock, by, admin, &sender, &is_keen, &stop);
            let thread = std::thread::Builder::new().name(format!("watch-{by}")).spawn(look);
            threads.push(thread.map_err(|err| err.to_string())?);
        }
        Ok(Self { seen, history: Vec::new(), is_keen, stop, threads })
    }

    /// Asks often, or seldom.
    pub fn be_keen(&self, is_keen: bool) {
        self.is_keen.store(is_keen, Ordering::Relaxed);
    }

    /// Takes in what was told.
    pub fn listen(&mut self) {
        self.history.extend(self.seen.try_iter());
    }

    /// When this one first saw the member so, at or after a time.
    pub fn first(
        &self,
        by: u16,
        since_us: u64,
        is_so: impl Fn(Option<&str>) -> bool,
        node: u16,
    ) -> Option<u64> {
        let told = self.history.iter().filter(|seen| seen.by == by && since_us <= seen.at_us);
        let mut told = told.filter(|seen| is_so(seen.members.get(&node).map(String::as_str)));
        told.next().map(|seen| seen.at_us)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn look(
    clock: Clock,
    by: u16,
    admin: SocketAddr,
    sender: &Sender<Seen>,
    is_keen: &AtomicBool,
    stop: &AtomicBool,
) {
    let mut last = None;
    while !stop.load(Ordering::Relaxed) {
        if let Some(members) = status(admin).map(|status| members(&status))
            && last.as_ref() != Some(&members)
        {
            last = Some(members.clone());
            if sender.send(Seen { at_us: clock.us(), by, members }).is_err() {
                return;
            }
        }
        std::thread::sleep(if is_keen.load(Ordering::Relaxed) { LOOK_EVERY } else { REST });
    }
}

/// What a server says of itself and the cluster; `None` if it does not answer.
pub fn status(admin: SocketAddr) -> Option<Value> {
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let ask = format!("GET /status HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.take(STATUS_BYTES_MAX).read_to_end(&mut answer).ok()?;
    let at = memchr::memmem::find(&answer, b"\r\n\r\n")? + 4;
    serde_json::from_slice(&answer[at..]).ok()
}

/// The members in a status: every object anywhere in it that has a node's number and a state.
pub fn members(status: &Value) -> BTreeMap<u16, String> {
    let mut found = BTreeMap::new();
    walk(status, &mut found);
    found
}

fn walk(value: &Value, found: &mut BTreeMap<u16, String>) {
    match value {
        Value::Array(list) => list.iter().for_each(|one| walk(one, found)),
        Value::Object(map) => {
            let node =
                map.get("node").and_then(Value::as_u64).and_then(|node| node.try_into().ok());
            if let (Some(node), Some(state)) = (node, map.get("state").and_then(Value::as_str)) {
                found.insert(node, state.to_lowercase());
            }
            map.values().for_each(|one| walk(one, found));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_are_found_wherever_a_status_tells_of_them() {
        let status = json!({
            "node": 1,
            "cluster": { "nodes": [{ "node": 1, "state": "Alive" }, { "node": 2, "state": "dead" }] },
            "shards": [{ "shard": 0, "state": "x" }],
        });
        let expect = BTreeMap::from([(1, "alive".to_owned()), (2, "dead".to_owned())]);
        assert_eq!(members(&status), expect);
        assert!(members(&json!({ "total": {} })).is_empty());
    }
}
