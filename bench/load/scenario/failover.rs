//! `failover`: sessions on all nodes, used over all nodes, while one node fails and comes back.
//!
//! Each session is opened at one node, evenly, and used over any of them at random. Then the node fails: its sessions
//! are asked again and again, each until it answers over another node, while the steady calls go on. A session is lost
//! when a node says that there is no such session after everything has settled.

use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::super::blocking::learn;
use super::super::failover::Fault;
use super::super::failover::book::Failure;
use super::super::failover::clients::Clients;
use super::super::failover::course::Course;
use super::super::failover::watch::{Watch, status};
use super::super::kind::{Kind, Mix};
use super::super::options::{FailoverArgs, Options};
use super::super::pulse::Clock;
use super::super::record::Step;
use super::super::roam::Home;
use super::super::say::{Say, URI};
use super::super::server::Started;
use super::super::setup::{self, Servers, folder, shape};
use super::failover_told::{Came, Told, tell};
use crate::facts::Facts;

/// Steady calls per second over all nodes.
const RATE: f64 = 2000.0;
/// Sessions of the failed node asked per second.
const PROBE_RATE: f64 = 5000.0;
/// Connections over all nodes.
const CONNECTIONS: u64 = 256;
/// Opening all sessions may take so long, seconds.
const OPEN_PATIENCE_S: f64 = 300.0;
/// All sessions of the failed node shall answer within this, seconds.
const MOVE_PATIENCE_S: f64 = 60.0;
/// A node shall be back within this, seconds.
const BACK_PATIENCE_S: f64 = 60.0;
/// Asking every session once may take so long, seconds.
const SWEEP_PATIENCE_S: f64 = 120.0;
/// New sessions that a node is given when it is back.
const NEW_SESSIONS: usize = 100;
/// After a fault the survivors agree within this or not at all, seconds.
const SEEN_PATIENCE_S: f64 = 30.0;

/// What the scenario is told.
#[derive(Debug, Clone)]
pub(super) struct Script {
    pub admins: Option<String>,
    pub sessions: usize,
    /// Index of the target.
    pub victim: u16,
    pub fault: Fault,
    pub pause: Duration,
    pub restart: Option<String>,
    pub probe_rate: f64,
    pub seed: u64,
}

/// `failover`.
pub fn failover(args: &FailoverArgs) -> Result<bool, String> {
    let script = Script {
        admins: args.admin.clone(),
        sessions: args.sessions.map_or(20_000, |count| count.0 as usize),
        victim: args.victim.unwrap_or(2).checked_sub(1).ok_or("nodes are counted from 1")?,
        fault: args.signal,
        pause: args.pause.map_or(Duration::from_secs(5), |span| span.0),
        restart: args.restart.clone(),
        probe_rate: args.probe_rate.map_or(PROBE_RATE, |rate| rate.0 as f64),
        seed: args.seed.unwrap_or(1),
    };
    failover_with(&args.options(), &script)
}

pub(super) fn failover_with(options: &Options, script: &Script) -> Result<bool, String> {
    let mut servers = Servers::find(options)?;
    let nodes = servers.targets.len();
    let victim = usize::from(script.victim);
    if nodes < 2 || nodes <= victim {
        return Err(format!("node {} of {nodes} cannot fail over", victim + 1));
    }
    let pid = *servers
        .pids
        .get(victim)
        .ok_or("say --pid of every node, so that one can be made to fail")?;
    let admins = admins(script, &servers)?;
    let (mix, shape) = (Mix::only(Kind::Session), shape(options)?);
    let uri = options.uri.as_deref().unwrap_or(URI);
    let learn = |target| learn(target, &mix, &shape, uri);
    let says: Vec<Say> = servers.targets.iter().map(learn).collect::<Result<_, _>>()?;
    let clock = Clock::start();
    let facts = Facts::gather(None);
    let folder = options.output.clone().unwrap_or_else(|| folder("failover"));
    let mut course = Course::create(&folder, clock, servers.pids.clone())?;
    let connections = options.connections.map_or(CONNECTIONS, |count| count.0);
    let per_node =
        u32::try_from(connections.div_ceil(nodes as u64)).map_err(|_| "too many connections")?;
    let mut clients = Clients::new(clock, &servers.targets, says, per_node, script.seed)?;
    let watch = Watch::start(clock, &admins)?;
    let rate = options.rate.map_or(RATE, |rate| rate.0 as f64);
    let steady = options.duration.map_or(Duration::from_secs(10), |span| span.0).as_secs_f64();
    let mut play = Play {
        clock,
        course: &mut course,
        clients: &mut clients,
        watch,
        script,
        pids: options.pid.as_deref(),
        steps: Vec::new(),
    };

    play.open(script.sessions)?;
    play.clients.load(Some(rate));
    play.pass("before", steady)?;
    let fault_us = play.fail(pid)?;
    let moved = play.wait_for_move()?;
    play.pass("without", script.pause.as_secs_f64().max(1.0))?;
    let came = play.come_back(pid, &mut servers)?;
    play.pass("after", steady)?;
    play.clients.load(None);
    let unasked = play.sweep()?;
    let step = play.steps.len();
    play.next("close", step)?;

    let Play { watch, steps, .. } = play;
    let at_end: Vec<Value> =
        admins.iter().map(|admin| status(*admin).unwrap_or(Value::Null)).collect();
    let told = Told {
        options,
        script,
        rate,
        per_node,
        nodes: servers.targets.iter().map(|target| target.http.to_string()).collect(),
        pids: servers.pids.clone(),
        victim: clients
            .book
            .of_victim()
            .find_map(|(_, session)| session.home)
            .map(|home: Home| home.node),
        fault_us,
        moved,
        came,
        new_sessions: NEW_SESSIONS,
        unasked,
        steps,
        at_end,
        facts,
        epoch: clock.epoch,
    };
    tell(&mut course, &clients, watch, &told)
}

/// Where each node is watched, as far as anybody said.
fn admins(script: &Script, servers: &Servers) -> Result<Vec<SocketAddr>, String> {
    let Some(list) = &script.admins else {
        return Ok(servers.started.iter().filter_map(|one| one.admin).collect());
    };
    let parse = |word: &str| word.trim().parse().map_err(|_| format!("{word:?} is no address"));
    let admins: Vec<SocketAddr> = list.split(',').map(parse).collect::<Result<_, _>>()?;
    match admins.len() == servers.targets.len() {
        true => Ok(admins),
        false => {
            Err(format!("{} nodes and {} admin addresses", servers.targets.len(), admins.len()))
        }
    }
}

/// What goes on, step by step.
struct Play<'p> {
    clock: Clock,
    course: &'p mut Course,
    clients: &'p mut Clients,
    watch: Watch,
    script: &'p Script,
    /// Numbers of the processes, or files that hold them, as they were given.
    pids: Option<&'p str>,
    /// Each phase with what was measured in it.
    steps: Vec<(&'static str, Step)>,
}

/// The phases, in order.
const PHASES: [&str; 8] =
    ["start", "open", "before", "move", "without", "return", "after", "sweep"];

impl Play<'_> {
    /// The phase that was is over.
    fn next(&mut self, phase: &'static str, index: usize) -> Result<(), String> {
        let step = self.course.phase(self.clients, phase)?;
        self.steps.push((PHASES[index.min(PHASES.len() - 1)], step));
        Ok(())
    }

    fn begin(&mut self, phase: &'static str) -> Result<(), String> {
        let index = self.steps.len();
        self.next(phase, index)
    }

    fn open(&mut self, sessions: usize) -> Result<(), String> {
        self.begin("open")?;
        self.clients.open(sessions, None);
        let all =
            self.course.until(self.clients, OPEN_PATIENCE_S, |clients| clients.opening() == 0)?;
        let there = self.clients.book.sessions.len();
        if !all || there < sessions {
            let texts = &self.clients.book.texts;
            return Err(format!("{there} of {sessions} sessions were opened; said was {texts:?}"));
        }
        if self.clients.book.sessions.iter().any(|session| session.home.is_none()) {
            return Err("the ids of these sessions do not say where they live".to_owned());
        }
        Ok(())
    }

    fn pass(&mut self, phase: &'static str, seconds: f64) -> Result<(), String> {
        self.begin(phase)?;
        self.course.until(self.clients, seconds, |_| false).map(drop)
    }

    /// The node fails; returns when.
    fn fail(&mut self, pid: u32) -> Result<u64, String> {
        self.begin("move")?;
        self.watch.be_keen(true);
        // A moment, so that nobody is asleep between two looks.
        self.course.until(self.clients, 0.3, |_| false)?;
        let fault_us = self.clock.us();
        let sessions = self.clients.book.sessions.len();
        let fault = Failure { target: self.script.victim, at_us: fault_us, sessions };
        self.clients.book.fault = Some(fault);
        send(pid, self.script.fault.signal())?;
        self.clients.probe(self.script.probe_rate);
        Ok(fault_us)
    }

    /// Until the node's last session has answered elsewhere, and all others have seen that it is gone.
    fn wait_for_move(&mut self) -> Result<bool, String> {
        let moved = self
            .course
            .until(self.clients, MOVE_PATIENCE_S, |clients| clients.book.waiting() == 0)?;
        let node = self.node();
        let since = self.clients.book.fault.map_or(0, |fault| fault.at_us);
        let deadline_us = self.clock.us() + (SEEN_PATIENCE_S * 1e6) as u64;
        while !self.all_see(node, since, is_gone) && self.clock.us() < deadline_us {
            self.course.until(self.clients, 0.05, |_| false)?;
        }
        self.watch.be_keen(false);
        Ok(moved)
    }

    /// The number of the node that failed, as the ids of its sessions say.
    fn node(&self) -> Option<u16> {
        self.clients.book.of_victim().find_map(|(_, session)| session.home).map(|home| home.node)
    }

    /// Whether every survivor that is watched saw it so since then.
    fn all_see(
        &mut self,
        node: Option<u16>,
        since_us: u64,
        is_so: fn(Option<&str>) -> bool,
    ) -> bool {
        self.watch.listen();
        let Some(node) = node else { return true };
        let watched = self.watch.history.iter().map(|seen| seen.by);
        let mut watched: Vec<u16> = watched.filter(|by| *by != self.script.victim).collect();
        watched.sort_unstable();
        watched.dedup();
        watched.into_iter().all(|by| self.watch.first(by, since_us, is_so, node).is_some())
    }

    /// The node comes back, and is given something to do.
    fn come_back(&mut self, pid: u32, servers: &mut Servers) -> Result<Option<Came>, String> {
        self.begin("return")?;
        let victim = self.script.victim;
        let asked_us = self.clock.us();
        let command = self.script.restart.clone().or_else(|| {
            servers.started.get(usize::from(victim)).map(|one| one.command().to_owned())
        });
        self.watch.be_keen(true);
        let starting: Option<JoinHandle<Result<Started, String>>> =
            match (self.script.fault, command) {
                (Fault::Stop, _) => {
                    send(pid, Signal::CONT)?;
                    None
                }
                (_, None) => return Ok(None),
                (_, Some(command)) => {
                    let target = servers.targets[usize::from(victim)].http;
                    // Its old process may take a moment to go when it was only asked to.
                    let is_free = |_: &mut Clients| std::net::TcpStream::connect(target).is_err();
                    self.course.until(self.clients, BACK_PATIENCE_S, is_free)?;
                    let start = move || Started::start(&command, &[target]);
                    let thread = std::thread::Builder::new().name("restart".into()).spawn(start);
                    Some(thread.map_err(|err| err.to_string())?)
                }
            };
        let up = |clients: &mut Clients| clients.is_up(victim);
        let is_up = self.course.until(self.clients, BACK_PATIENCE_S, up)?;
        let serves_us = is_up.then(|| self.clock.us());
        if let Some(thread) = starting {
            let ended =
                self.course.until(self.clients, BACK_PATIENCE_S, |_| thread.is_finished())?;
            if ended {
                let started = thread.join().map_err(|_| "the thread that restarts died")??;
                // A file that holds its number holds the new one now.
                let word = self.pids.and_then(|list| list.split(',').nth(usize::from(victim)));
                let is_own = self.script.restart.is_none();
                let new = word.map(|word| setup::pid(word.trim())).unwrap_or(Ok(started.pid()));
                if let (Some(slot), Ok(new)) = (self.course.pids.get_mut(usize::from(victim)), new)
                    && (word.is_some() || is_own)
                {
                    *slot = new;
                }
                servers.started.push(started);
            }
        }
        let node = self.node();
        let deadline_us = self.clock.us() + (SEEN_PATIENCE_S * 1e6) as u64;
        while !self.all_see(node, asked_us, is_alive) && self.clock.us() < deadline_us {
            self.course.until(self.clients, 0.05, |_| false)?;
        }
        self.watch.be_keen(false);
        // Until the others have seen it, what fails there is its own fault.
        self.clients.book.healed_us = serves_us.map(|_| self.clock.us());
        let (first, given_up) = (self.clients.book.sessions.len(), self.clients.book.given_up);
        self.clients.open(NEW_SESSIONS, Some(victim));
        self.course.until(self.clients, BACK_PATIENCE_S, |clients| clients.opening() == 0)?;
        let new_sessions = self.clients.book.sessions.len() - first;
        Ok(Some(Came {
            asked_us,
            serves_us,
            new_sessions,
            refused: self.clients.book.given_up - given_up,
        }))
    }

    /// Every session once more; returns how many could not be asked: anywhere; and those of the node that failed on every node, so that two that both think
    /// it theirs would be found out.
    fn sweep(&mut self) -> Result<usize, String> {
        self.begin("sweep")?;
        let all = 0..self.clients.book.sessions.len() as u32;
        self.clients.sweep(all, None);
        self.course.until(self.clients, SWEEP_PATIENCE_S, |clients| clients.sweeping() == 0)?;
        let its: Vec<u32> = self.clients.book.of_victim().map(|(index, _)| index).collect();
        for node in 0..self.clients.nodes() {
            if self.clients.is_up(node) {
                self.clients.sweep(its.iter().copied(), Some(node));
            }
        }
        self.course.until(self.clients, SWEEP_PATIENCE_S, |clients| clients.sweeping() == 0)?;
        Ok(self.clients.sweeping())
    }
}

/// A member that the others have given up, or that has gone of its own will.
pub(super) fn is_gone(state: Option<&str>) -> bool {
    !matches!(state, Some("alive" | "suspect" | "leaving" | "draining" | "ready"))
}

/// A member like any other.
pub(super) fn is_alive(state: Option<&str>) -> bool {
    matches!(state, Some("alive" | "ready"))
}

fn send(pid: u32, signal: Signal) -> Result<(), String> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or("that is no process id")?;
    kill_process(pid, signal).map_err(|err| format!("process {pid:?}: {err}"))
}
