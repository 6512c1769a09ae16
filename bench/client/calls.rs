//! A closed loop of calls: each connection sends one, waits for its answer, checks it, sends the next.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use erlmcp_protocol::Parsed;
use hdrhistogram::Histogram;
use serde_json::Value;

use super::{Client, Conversation, Faults};
use crate::answer::{Answer, read_answer};
use crate::request::{self, ID_DIGITS, ID_FIRST, Request};

/// How long connections may take to open, and the first answers to come.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest latency told apart, microseconds.
const LATENCY_US_MAX: u64 = 60_000_000;

/// What every answer must be: this body, with the id that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    body: Vec<u8>,
    id_at: usize,
    /// The floor cannot know ids: its answers have the one of the recording.
    is_floor: bool,
}

impl Expectation {
    /// Learns from an answer that was read as JSON and found right.
    fn learn(body: &[u8], id: u64) -> Result<Self, String> {
        let digits = id.to_string();
        let mut found = memchr::memmem::find_iter(body, digits.as_bytes());
        match (found.next(), found.next()) {
            (Some(id_at), None) => Ok(Self { body: body.to_vec(), id_at, is_floor: false }),
            _ => Err("the answer does not hold the id once".to_owned()),
        }
    }

    /// The same for the floor, which echoes no ids.
    pub fn of_floor(&self) -> Self {
        Self { is_floor: true, ..self.clone() }
    }

    fn check(&self, answer: &Answer<'_>, id: u64) -> Result<(), String> {
        let end = self.id_at + ID_DIGITS;
        let mut digits = [0; ID_DIGITS];
        request::write_digits(&mut digits, id);
        let body = answer.body;
        let is_right = answer.status == 200
            && body.len() == self.body.len()
            && body[..self.id_at] == self.body[..self.id_at]
            && body[end..] == self.body[end..]
            && (self.is_floor || body[self.id_at..end] == digits);
        if is_right {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&body[..body.len().min(300)]);
        Err(format!("call {id} was answered with {} {text}", answer.status))
    }
}

/// Makes one call on a connection of its own, reads the answer as JSON and checks all of it. Returns what
/// later answers must look like, and the response as it came.
pub fn probe(
    target: SocketAddr,
    request: &Request,
    call: &request::Call,
) -> Result<(Expectation, Vec<u8>), String> {
    let told = |err: std::io::Error| format!("cannot call {target}: {err}");
    let mut stream = TcpStream::connect(target).map_err(told)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(told)?;
    let mut out = Vec::new();
    request.write(ID_FIRST, &mut out);
    stream.write_all(&out).map_err(told)?;
    let mut input = Vec::new();
    let mut piece = [0; 4096];
    let (used, body) = loop {
        match read_answer(&input)? {
            Parsed::Complete(answer, used) if answer.status == 200 => {
                break (used, answer.body.to_vec());
            }
            Parsed::Complete(_, _) => return Err(String::from_utf8_lossy(&input).into_owned()),
            Parsed::Partial => {}
        }
        match stream.read(&mut piece).map_err(told)? {
            0 => return Err(format!("{target} closed the connection")),
            count => input.extend_from_slice(&piece[..count]),
        }
    };
    input.truncate(used);
    check_json(&body, call).map_err(|why| format!("{why}: {}", String::from_utf8_lossy(&body)))?;
    Ok((Expectation::learn(&body, ID_FIRST)?, input))
}

fn check_json(body: &[u8], call: &request::Call) -> Result<(), &'static str> {
    let message: Value = serde_json::from_slice(body).map_err(|_| "the answer is not JSON")?;
    let result = &message["result"];
    let text = &result["content"][0]["text"];
    match () {
        () if message["jsonrpc"] != "2.0" => Err("the answer is not JSON-RPC 2.0"),
        () if message["id"] != ID_FIRST => Err("the answer has another id"),
        () if message.get("error").is_some() => Err("the answer is an error"),
        () if result["isError"] == true => Err("the tool failed"),
        () if text != call.text => Err("the result is wrong"),
        () => Ok(()),
    }
}

/// What other threads see of a load that runs.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Right answers so far.
    pub calls: AtomicU64,
    /// Every connection has had an answer.
    pub is_warm: AtomicBool,
    /// Whether latencies are recorded.
    pub is_measured: AtomicBool,
    /// To end it.
    pub is_over: AtomicBool,
}

/// The conversation of a closed loop.
pub struct Calls {
    request: Request,
    expectation: Expectation,
    pulse: Arc<Pulse>,
    next_id: u64,
    asked: Vec<Asked>,
    calls: u64,
    /// Connections that have had an answer.
    warm: u32,
    micros: u64,
    latency_us: Histogram<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    id: u64,
    at_us: u64,
    is_first: bool,
}

impl Calls {
    /// A loop of this request.
    pub fn new(request: Request, expectation: Expectation, pulse: Arc<Pulse>) -> Self {
        let latency_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3);
        Self {
            request,
            expectation,
            pulse,
            next_id: ID_FIRST,
            asked: Vec::new(),
            calls: 0,
            warm: 0,
            micros: 0,
            latency_us: latency_us.expect("bounds that hdrhistogram accepts"),
        }
    }

    fn ask(&mut self, conn: u32, is_first: bool, out: &mut Vec<u8>) {
        self.next_id += 1;
        let asked = Asked { id: self.next_id, at_us: self.micros, is_first };
        let index = conn as usize;
        if self.asked.len() <= index {
            self.asked.resize(index + 1, asked);
        }
        self.asked[index] = asked;
        self.request.write(asked.id, out);
    }
}

impl Conversation for Calls {
    fn handle_time(&mut self, micros: u64) {
        self.micros = micros;
        self.pulse.calls.store(self.calls, Ordering::Relaxed);
    }

    fn begin(&mut self, conn: u32, out: &mut Vec<u8>) {
        self.ask(conn, true, out);
    }

    fn handle(&mut self, conn: u32, input: &[u8], out: &mut Vec<u8>) -> Result<usize, String> {
        let Parsed::Complete(answer, used) = read_answer(input)? else { return Ok(0) };
        let asked = self.asked[conn as usize];
        self.expectation.check(&answer, asked.id)?;
        self.calls += 1;
        self.warm += u32::from(asked.is_first);
        if self.pulse.is_measured.load(Ordering::Relaxed) {
            self.latency_us.saturating_record(self.micros.saturating_sub(asked.at_us));
        }
        self.ask(conn, false, out);
        Ok(used)
    }
}

/// A closed loop on a thread of its own.
pub struct Load {
    /// What can be seen of it.
    pub pulse: Arc<Pulse>,
    thread: JoinHandle<Result<(Faults, Histogram<u64>), String>>,
}

impl Load {
    /// Opens `connections` and begins to call.
    pub fn start(
        target: SocketAddr,
        connections: u32,
        core: usize,
        request: Request,
        expectation: Expectation,
    ) -> Result<Self, String> {
        let pulse = Arc::new(Pulse::default());
        let theirs = pulse.clone();
        let run = move || {
            if !core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
                return Err(format!("cannot run on core {core}"));
            }
            let calls = Calls::new(request, expectation, theirs.clone());
            let mut client = Client::new(target, calls).map_err(|err| err.to_string())?;
            let told = |err: std::io::Error| err.to_string();
            client.open(connections).map_err(told)?;
            client.turn_until(PATIENCE, |calls| calls.warm == connections).map_err(told)?;
            theirs.is_warm.store(true, Ordering::Relaxed);
            while !theirs.is_over.load(Ordering::Relaxed) {
                client.turn(super::TURN_MS);
            }
            let faults = client.faults().clone();
            Ok((faults, client.conversation().latency_us.clone()))
        };
        let thread = std::thread::Builder::new().name("load".into()).spawn(run);
        Ok(Self { pulse, thread: thread.map_err(|err| err.to_string())? })
    }

    /// Waits until every connection has had an answer, or the load failed.
    pub fn wait_warm(&self) {
        while !self.pulse.is_warm.load(Ordering::Relaxed) && !self.thread.is_finished() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Right answers so far.
    pub fn calls(&self) -> u64 {
        self.pulse.calls.load(Ordering::Relaxed)
    }

    /// Ends it: what went wrong, and latencies in microseconds. Any fault is an error.
    pub fn finish(self) -> Result<Histogram<u64>, String> {
        self.pulse.is_over.store(true, Ordering::Relaxed);
        let ended = self.thread.join().map_err(|_| "the load panicked".to_owned())?;
        let (faults, latency_us) = ended?;
        if faults.count != 0 {
            return Err(format!("{} wrong answers: {}", faults.count, faults.first.join("; ")));
        }
        Ok(latency_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::CALLS;

    fn body(id: u64, text: &str) -> Vec<u8> {
        let result = format!(r#"{{"content":[{{"type":"text","text":"{text}"}}]}}"#);
        format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#).into_bytes()
    }

    fn check(expectation: &Expectation, status: u16, body: &[u8], id: u64) -> bool {
        let answer = Answer { status, head: b"", body, is_stream: false };
        expectation.check(&answer, id).is_ok()
    }

    #[test]
    fn only_the_learnt_answer_with_the_right_id_counts() {
        let right = Expectation::learn(&body(ID_FIRST, "42"), ID_FIRST).unwrap();
        let id = ID_FIRST + 7;
        assert!(check(&right, 200, &body(id, "42"), id));
        assert!(!check(&right, 200, &body(id + 1, "42"), id));
        assert!(!check(&right, 200, &body(id, "43"), id));
        assert!(!check(&right, 200, &body(id, "421"), id));
        assert!(!check(&right, 500, &body(id, "42"), id));
        let floor = right.of_floor();
        assert!(check(&floor, 200, &body(ID_FIRST, "42"), id));
        assert!(!check(&floor, 200, &body(ID_FIRST, "43"), id));
    }

    #[test]
    fn the_first_answer_is_read_as_json() {
        let add = &CALLS[1];
        assert_eq!(check_json(&body(ID_FIRST, "42"), add), Ok(()));
        assert!(check_json(&body(ID_FIRST, "41"), add).is_err());
        assert!(check_json(&body(ID_FIRST + 1, "42"), add).is_err());
        let error = format!(r#"{{"jsonrpc":"2.0","id":{ID_FIRST},"error":{{"code":-32603}}}}"#);
        assert!(check_json(error.as_bytes(), add).is_err());
    }

    #[test]
    fn each_answer_brings_the_next_call() {
        let request = request::call_post("127.0.0.1:1".parse().unwrap(), &CALLS[1]);
        let expectation = Expectation::learn(&body(ID_FIRST, "42"), ID_FIRST).unwrap();
        let mut calls = Calls::new(request, expectation, Arc::default());
        let mut out = Vec::new();
        calls.begin(0, &mut out);
        for round in 1..=3 {
            let id = ID_FIRST + round;
            assert!(memchr::memmem::find(&out, id.to_string().as_bytes()).is_some(), "{round}");
            out.clear();
            let body = body(id, "42");
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let input = [head.as_bytes(), &body].concat();
            for cut in 0..input.len() {
                assert_eq!(calls.handle(0, &input[..cut], &mut out), Ok(0), "cut at {cut}");
            }
            assert_eq!(calls.handle(0, &input, &mut out), Ok(input.len()));
            calls.handle_time(0);
            assert_eq!(calls.pulse.calls.load(Ordering::Relaxed), round);
        }
    }
}
