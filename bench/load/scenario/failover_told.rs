//! What a failover came to: events, sessions and tenths of seconds as raw files, and a summary held against the goals.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::super::failover::Fault;
use super::super::failover::book::{BEAT_US, Blame, Book, Ending};
use super::super::failover::clients::Clients;
use super::super::failover::course::Course;
use super::super::failover::watch::Watch;
use super::super::options::Options;
use super::super::outcome::Threshold;
use super::super::record::Step;
use super::failover::{Script, is_alive, is_gone};
use super::told;
use crate::facts::Facts;
use crate::numbers::Spread;

/// Header of `events.csv`.
pub const EVENTS: &str = "elapsed_seconds,since_fault_seconds,node,event";
/// Header of `sessions.csv`: the sessions of the node that failed.
pub const SESSIONS: &str = "session,node,shard,answered_after_ms,attempts,last_refusal";
/// Header of `timeline.csv`: tenths of seconds.
pub const TIMELINE: &str =
    "timestamp_epoch,elapsed_seconds,answers_per_second,failed_attempts,longest_ms";
/// The death of a process is seen within this.
const DEATH_SEEN_MS_MAX: f64 = 200.0;
/// Silence is seen within this.
const SILENCE_SEEN_MS_MAX: f64 = 2000.0;

/// How the node came back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Came {
    /// When it was started, or continued.
    pub asked_us: u64,
    /// When its `/health` was good.
    pub serves_us: Option<u64>,
    /// How many sessions could be opened there.
    pub new_sessions: usize,
    /// Calls given up meanwhile.
    pub refused: u64,
}

/// Everything that is told beside what the clients and the watch know.
pub(super) struct Told<'t> {
    pub options: &'t Options,
    pub script: &'t Script,
    pub rate: f64,
    pub per_node: u32,
    pub nodes: Vec<String>,
    pub pids: Vec<u32>,
    /// The failed node's number, as its session ids say.
    pub victim: Option<u16>,
    pub fault_us: u64,
    /// Whether all its sessions answered elsewhere.
    pub moved: bool,
    pub came: Option<Came>,
    /// New sessions that the node should have taken.
    pub new_sessions: usize,
    /// Sessions that nobody could be asked for at the end.
    pub unasked: usize,
    pub steps: Vec<(&'static str, Step)>,
    /// Every node's status at the end.
    pub at_end: Vec<Value>,
    pub facts: Facts,
    pub epoch: f64,
}

/// What a survivor saw, milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Sight {
    suspected_ms: Option<f64>,
    gone_ms: Option<f64>,
    /// Since it was started again or continued.
    back_ms: Option<f64>,
}

/// Writes the raw files, the summary and the report; whether all goals were met.
pub(super) fn tell(
    course: &mut Course,
    clients: &Clients,
    mut watch: Watch,
    told: &Told<'_>,
) -> Result<bool, String> {
    watch.listen();
    let book = &clients.book;
    let sights = sights(&watch, told);
    let answered: Vec<f64> = book
        .of_victim()
        .filter_map(|(_, session)| Some(ms(told.fault_us, session.answered_us?)))
        .collect();
    let goals = goals(told, &sights, &answered, book);
    course.recorder.keep("events.csv", &events(&watch, told, &answered))?;
    course.recorder.keep("sessions.csv", &sessions(book, told.fault_us))?;
    course.recorder.keep("timeline.csv", &timeline(book, told.epoch))?;
    course.finish()?;
    let seen = sights.iter().map(|(by, sight)| {
        let sight = json!({ "suspected_ms": sight.suspected_ms, "gone_ms": sight.gone_ms, "back_ms": sight.back_ms });
        (told.nodes[usize::from(*by)].clone(), sight)
    });
    let results = json!({
        "failed": { "target": told.nodes[usize::from(told.script.victim)], "node": told.victim, "signal": told.script.fault.as_str() },
        "seen_by": seen.collect::<Map<_, _>>(),
        "detected_ms": worst(&sights, |sight| sight.gone_ms),
        "sessions": {
            "all": book.sessions.len(),
            "of_the_node": book.of_victim().count(),
            "answered_elsewhere": answered.len(),
            "all_answered": told.moved,
            "answered_after_ms": Spread::of(answered.iter().copied()),
            "last_answered_after_ms": answered.iter().copied().reduce(f64::max),
            "lost": book.lost(),
            "not_asked_at_the_end": told.unasked,
        },
        "failed_attempts": failed(book),
        "calls_given_up": book.given_up,
        "calls_missed": book.missed,
        "said": book.texts,
        "return": told.came.map(|came| json!({
            "serves_ms": came.serves_us.map(|at| ms(came.asked_us, at)),
            "seen_by_all_ms": worst(&sights, |sight| sight.back_ms),
            "new_sessions": came.new_sessions,
            "calls_given_up_meanwhile": came.refused,
        })),
        "phases": told.steps.iter().map(|(name, step)| json!({ "phase": name, "step": step })).collect::<Vec<_>>(),
        "sessions_by_node_at_end": told.at_end.iter().map(|one| one["total"]["sessions"].clone()).collect::<Vec<_>>(),
        "connections_at_end": clients.connected,
    });
    let document = json!({
        "scenario": "failover",
        "command": std::env::args().collect::<Vec<_>>().join(" "),
        "generator_limited": false,
        "thresholds": goals,
        "host": told.facts,
        "options": options(told),
        "results": results,
    });
    let text = serde_json::to_string_pretty(&document).map_err(|err| err.to_string())?;
    course.recorder.keep("summary.json", &format!("{text}\n"))?;
    crate::report::write(course.recorder.folder())?;
    show(told, &sights, &answered, book, &goals);
    println!("{}", course.recorder.folder().display());
    Ok(goals.iter().all(|one| one.passed))
}

fn ms(from_us: u64, to_us: u64) -> f64 {
    to_us.saturating_sub(from_us) as f64 / 1000.0
}

/// What each survivor that is watched saw.
fn sights(watch: &Watch, told: &Told<'_>) -> BTreeMap<u16, Sight> {
    let Some(node) = told.victim else { return BTreeMap::new() };
    let mut sights = BTreeMap::new();
    for seen in watch.history.iter().filter(|seen| seen.by != told.script.victim) {
        sights.entry(seen.by).or_insert_with(|| {
            let first = |since, is_so: fn(Option<&str>) -> bool| {
                watch.first(seen.by, since, is_so, node).map(|at| ms(since, at))
            };
            let gone_us = watch.first(seen.by, told.fault_us, is_gone, node);
            let back = told.came.and_then(|came| {
                // Who never saw it go has nothing to see.
                gone_us?;
                first(came.asked_us, is_alive)
            });
            Sight {
                suspected_ms: first(told.fault_us, |state| state == Some("suspect")),
                gone_ms: gone_us.map(|at| ms(told.fault_us, at)),
                back_ms: back,
            }
        });
    }
    sights
}

/// The last survivor's; `None` unless all saw it.
fn worst(sights: &BTreeMap<u16, Sight>, of: fn(&Sight) -> Option<f64>) -> Option<f64> {
    let all: Option<Vec<f64>> = sights.values().map(of).collect();
    all?.into_iter().reduce(f64::max)
}

fn goals(
    told: &Told<'_>,
    sights: &BTreeMap<u16, Sight>,
    answered: &[f64],
    book: &Book,
) -> Vec<Threshold> {
    let goal = |name, limit: f64, measured: Option<f64>| {
        let passed = measured.is_some_and(|measured| measured <= limit);
        Threshold { name, limit, measured, passed }
    };
    let none = |name, count: u64| goal(name, 0.0, Some(count as f64));
    let waiting = (book.of_victim().count() - answered.len()) as u64;
    let mut goals = Vec::new();
    let seen = match told.script.fault {
        Fault::Kill => Some(DEATH_SEEN_MS_MAX),
        Fault::Stop => Some(SILENCE_SEEN_MS_MAX),
        Fault::Term => None,
    };
    if let Some(limit) = seen {
        goals.push(goal("detected_ms", limit, worst(sights, |sight| sight.gone_ms)));
    }
    goals.push(none("sessions_lost", book.lost() as u64));
    goals.push(none("sessions_that_did_not_answer_elsewhere", waiting));
    goals.push(none("sessions_not_asked_at_the_end", told.unasked as u64));
    // A client that hears this begins a new session, whoever knows better later.
    let not_found = Ending::Gone(String::new()).as_str();
    let not_found = book.failed.iter().filter(|((_, ending), _)| *ending == not_found);
    goals.push(none(
        "answers_that_there_is_no_such_session",
        not_found.map(|(_, count)| count).sum(),
    ));
    goals.push(none("failures_of_nobodys_fault", book.failed_by(Blame::None)));
    goals.push(none("calls_given_up_or_missed", book.given_up + book.missed));
    if told.script.fault == Fault::Term {
        // A request that meets the end of an idle connection on its way is nobody's fault: RFC 9112 §9.3.1 has
        // clients send it again.
        let met_the_end = (Blame::ToTheNode, Ending::Cut(String::new()).as_str());
        let met_the_end = book.failed.get(&met_the_end).copied().unwrap_or(0);
        goals.push(none("failed_attempts_in_a_drain", book.failures() - met_the_end));
    }
    if let Some(came) = told.came {
        let missing = told.new_sessions.saturating_sub(came.new_sessions);
        goals.push(none("new_sessions_refused_by_the_returned_node", missing as u64));
    }
    goals
}

/// By whose fault and by how they ended.
fn failed(book: &Book) -> Value {
    let mut by_blame = Map::new();
    for blame in Blame::ALL {
        let mut endings = Map::new();
        for ((_, ending), count) in book.failed.iter().filter(|((by, _), _)| *by == blame) {
            endings.insert((*ending).to_owned(), json!(count));
        }
        by_blame.insert(blame.as_str().to_owned(), Value::Object(endings));
    }
    Value::Object(by_blame)
}

fn events(watch: &Watch, told: &Told<'_>, answered: &[f64]) -> String {
    let mut all: Vec<(u64, String, String)> = Vec::new();
    let victim = &told.nodes[usize::from(told.script.victim)];
    all.push((told.fault_us, victim.clone(), format!("gets {}", told.script.fault.as_str())));
    if let Some(last) = answered.iter().copied().reduce(f64::max).filter(|_| told.moved) {
        let at = told.fault_us + (last * 1000.0) as u64;
        all.push((at, victim.clone(), "the last of its sessions has answered elsewhere".into()));
    }
    if let Some(came) = told.came {
        all.push((came.asked_us, victim.clone(), "is started or continued".into()));
        all.extend(came.serves_us.map(|at| (at, victim.clone(), "serves again".into())));
    }
    for seen in &watch.history {
        let members = seen.members.iter().map(|(node, state)| format!("{node} {state}"));
        let text = format!("sees {}", members.collect::<Vec<_>>().join("; "));
        all.push((seen.at_us, told.nodes[usize::from(seen.by)].clone(), text));
    }
    all.sort();
    let mut out = format!("{EVENTS}\n");
    for (at, node, event) in all {
        let since = (at as f64 - told.fault_us as f64) / 1e6;
        let _ = writeln!(out, "{:.3},{since:.3},{node},{event}", at as f64 / 1e6);
    }
    out
}

fn sessions(book: &Book, fault_us: u64) -> String {
    let mut out = format!("{SESSIONS}\n");
    for (index, session) in book.of_victim() {
        let after = session.answered_us.map(|at| format!("{:.3}", ms(fault_us, at)));
        let (node, shard) = match session.home {
            None => (String::new(), String::new()),
            Some(home) => (home.node.to_string(), home.shard.to_string()),
        };
        let refusal = session.refusal.as_deref().unwrap_or_default();
        let refusal = refusal.replace([',', '\n', '\r'], ";");
        let after = after.unwrap_or_default();
        let _ = writeln!(out, "{index},{node},{shard},{after},{},{refusal}", session.attempts);
    }
    out
}

fn timeline(book: &Book, epoch: f64) -> String {
    let mut out = format!("{TIMELINE}\n");
    let seconds = BEAT_US as f64 / 1e6;
    for (index, beat) in book.beats.iter().enumerate() {
        let end = (index + 1) as f64 * seconds;
        let per_s = f64::from(beat.right) / seconds;
        let longest = if beat.right == 0 {
            String::new()
        } else {
            (beat.longest_us as f64 / 1e3).to_string()
        };
        let _ = writeln!(out, "{:.3},{end:.3},{per_s:.1},{},{longest}", epoch + end, beat.failed);
    }
    out
}

fn options(told: &Told<'_>) -> Value {
    let script = told.script;
    json!({
        "targets": told.nodes,
        "server_pids": told.pids,
        "start": told.options.start,
        "sessions": script.sessions,
        "connections": told.per_node as usize * told.nodes.len(),
        "rate_per_s": told.rate,
        "probe_rate_per_s": script.probe_rate,
        "signal": script.fault.as_str(),
        "pause_s": script.pause.as_secs_f64(),
        "restart": script.restart,
        "seed": script.seed,
    })
}

fn show(
    told: &Told<'_>,
    sights: &BTreeMap<u16, Sight>,
    answered: &[f64],
    book: &Book,
    goals: &[Threshold],
) {
    println!(
        "{} got {}: detected by all in {}; {} of its {} sessions answered elsewhere, the last after {}; {} lost",
        told.nodes[usize::from(told.script.victim)],
        told.script.fault.as_str(),
        told_ms(worst(sights, |sight| sight.gone_ms)),
        answered.len(),
        book.of_victim().count(),
        told_ms(answered.iter().copied().reduce(f64::max)),
        book.lost(),
    );
    for ((blame, ending), count) in &book.failed {
        println!("  {count:7} attempts failed: {} ({})", ending, blame.as_str());
    }
    for (text, count) in &book.texts {
        println!("  {count:7} × {text}");
    }
    if let Some(came) = told.came {
        println!(
            "back: it served after {}, all saw it after {}, it took {} new sessions",
            told_ms(came.serves_us.map(|at| ms(came.asked_us, at))),
            told_ms(worst(sights, |sight| sight.back_ms)),
            came.new_sessions,
        );
    }
    for goal in goals {
        println!("{goal}");
    }
}

fn told_ms(value: Option<f64>) -> String {
    told(value, " ms")
}
