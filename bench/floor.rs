//! The floor: a server on the same ring layer as the shards that looks at nothing. Whatever arrives, it
//! answers each piece with the same bytes. What it costs is what the kernel takes for a request and an
//! answer; a server that also parses can only come near.
//!
//! It prints `listening http IP:PORT` and `ready` like the real one. A line on stdin is answered on stdout
//! with its counters as JSON; the end of stdin ends it.

use std::io::{BufRead, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use erlmcp_shards::io::bells::Bells;
use erlmcp_shards::io::listen::{self, ListenOptions};
use erlmcp_shards::io::probe;
use erlmcp_shards::io::uring::{Uring, UringConfig};
use erlmcp_shards::io::{Completion, ConnId, Io, RecvEnd};

use crate::cli::FloorArgs;

/// Answered when no file is given: as long as our server's answer to a call.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
    Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 180\r\n\r\n\
    {\"jsonrpc\":\"2.0\",\"id\":100000000000,\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"the floor\"}],\
    \"isError\":false,\"resultType\":\"complete\",\"_meta\":{\"padding\":\"-----------------------\"}}}";
/// Descriptors at most.
const CAPACITY: u32 = 16_384;
/// No sleep is longer, milliseconds.
const SLEEP_MS: u64 = 60_000;
/// Generations travel in 24 bits.
const GENERATION_MASK: u32 = 0xFF_FFFF;

/// Counters, written by the ring's thread once a turn.
#[derive(Debug, Default)]
struct Counters {
    answers: AtomicU64,
    enters: AtomicU64,
}

/// `erlmcp-bench floor`.
pub fn run(args: &FloorArgs) -> Result<(), String> {
    let answer = match &args.answer {
        None => ANSWER.to_vec(),
        Some(path) => std::fs::read(path).map_err(|err| format!("{}: {err}", path.display()))?,
    };
    let told = |err: std::io::Error| err.to_string();
    let claim = listen::claim(args.listen).map_err(told)?;
    let listener = listen::bind(claim.addr(), &ListenOptions::default()).map_err(told)?;
    let counters = Arc::new(Counters::default());
    let (theirs, core) = (counters.clone(), args.core);
    std::thread::Builder::new()
        .name("floor".into())
        .spawn(move || {
            let life = Floor::new(listener, answer, core, theirs).map(Floor::run);
            if let Err(err) = life {
                eprintln!("erlmcp-bench floor: {err}");
                std::process::exit(1);
            }
        })
        .map_err(told)?;
    println!("listening http {}", claim.addr());
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        line.map_err(told)?;
        let answers = counters.answers.load(Ordering::Relaxed);
        let enters = counters.enters.load(Ordering::Relaxed);
        println!("{}", serde_json::json!({ "answers": answers, "enters": enters }));
        std::io::stdout().flush().map_err(told)?;
    }
    Ok(())
}

struct Floor {
    io: Uring,
    answer: Vec<u8>,
    conns: Vec<Conn>,
    /// Answers not in flight, the warmest last.
    answers: Vec<Vec<u8>>,
    rearm: Vec<ConnId>,
    answered: u64,
    counters: Arc<Counters>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Conn {
    generation: u32,
    is_sending: bool,
    is_receiving: bool,
    is_over: bool,
    /// Pieces that arrived while an answer was in flight.
    owed: u32,
}

impl Floor {
    /// On the thread that will run it.
    fn new(
        listener: OwnedFd,
        answer: Vec<u8>,
        core: Option<usize>,
        counters: Arc<Counters>,
    ) -> Result<Self, String> {
        if let Some(id) = core
            && !core_affinity::set_for_current(core_affinity::CoreId { id })
        {
            return Err(format!("cannot run on core {id}"));
        }
        let features = probe::probe().map_err(|missing| missing.to_string())?;
        let config = UringConfig {
            capacity: CAPACITY,
            no_sqarray: features.no_sqarray,
            ..UringConfig::default()
        };
        let bells = Bells::new(1).map_err(|err| err.to_string())?;
        let mut io =
            Uring::new(&config, vec![listener], 0, bells).map_err(|err| err.to_string())?;
        io.accept(0);
        Ok(Self {
            io,
            answer,
            conns: Vec::new(),
            answers: Vec::new(),
            rearm: Vec::new(),
            answered: 0,
            counters,
        })
    }

    fn run(mut self) {
        let mut completions = Vec::new();
        loop {
            self.io.turn(Some(SLEEP_MS), &mut completions);
            for completion in completions.drain(..) {
                self.complete(completion);
            }
            // Their buffers are back now.
            for id in std::mem::take(&mut self.rearm) {
                self.io.recv(id);
            }
            self.counters.answers.store(self.answered, Ordering::Relaxed);
            self.counters.enters.store(self.io.stats().enters, Ordering::Relaxed);
        }
    }

    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Received { id, chunk } => {
                self.io.recycle(chunk);
                self.answer(id);
            }
            Completion::Sent { id, buffer, result } => {
                let conn = &mut self.conns[id.slot as usize];
                conn.is_sending = false;
                conn.is_over |= result != Ok(buffer.len());
                self.answers.push(buffer);
                if 0 < conn.owed {
                    conn.owed -= 1;
                    self.answer(id);
                }
                self.settle(id);
            }
            Completion::Accepted { slot, .. } => {
                let index = slot as usize;
                if self.conns.len() <= index {
                    self.conns.resize(index + 1, Conn::default());
                }
                let generation = (self.conns[index].generation + 1) & GENERATION_MASK;
                self.conns[index] = Conn { generation, is_receiving: true, ..Conn::default() };
                self.io.recv(ConnId { slot, generation });
            }
            Completion::AcceptEnded { errno: 0, .. } => self.io.accept(0),
            // Out of descriptors: the load asks for more than fits, and will say so itself.
            Completion::AcceptEnded { errno, .. } => {
                eprintln!("erlmcp-bench floor: accepts no more: errno {errno}");
            }
            Completion::RecvEnded { id, why } => match why {
                RecvEnd::NoBuffers | RecvEnd::Rearm => self.rearm.push(id),
                RecvEnd::Eof | RecvEnd::Cancelled | RecvEnd::Error(_) => {
                    let conn = &mut self.conns[id.slot as usize];
                    conn.is_receiving = false;
                    conn.is_over = true;
                    self.settle(id);
                }
            },
            Completion::Connected { .. } | Completion::Closed { .. } | Completion::Bell => {}
        }
    }

    fn answer(&mut self, id: ConnId) {
        let conn = &mut self.conns[id.slot as usize];
        if conn.is_over {
            return;
        }
        if conn.is_sending {
            conn.owed += 1;
            return;
        }
        conn.is_sending = true;
        self.answered += 1;
        let buffer = self.answers.pop().unwrap_or_else(|| self.answer.clone());
        self.io.send(id, buffer, 0);
    }

    /// Closes what is over and has nothing pending.
    fn settle(&mut self, id: ConnId) {
        let conn = &self.conns[id.slot as usize];
        if conn.is_over && !conn.is_sending && !conn.is_receiving {
            self.io.close(id);
        }
    }
}
