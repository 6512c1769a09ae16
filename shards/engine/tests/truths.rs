//! What must be true of every world at any time, and of one whose clients have gone.

use super::world::World;
use crate::engine::Waiter;
use crate::engine::caller::CallOut;

impl World {
    /// Everything an engine still holds, one line each. Empty when all clients have gone.
    pub fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        for (engine, wire) in self.engines.iter().zip(&self.wires) {
            let counters = &wire.counters;
            if let Some(keeping) = &engine.keeping {
                for (what, count) in [
                    ("replicas", keeping.replicas.len()),
                    ("owned", keeping.owned.len()),
                    ("copies", keeping.copies.len()),
                    ("bytes of copies", keeping.copies.bytes()),
                    ("directory entries", keeping.directory.len()),
                    ("answers withheld", keeping.withheld.len()),
                ] {
                    if count > 0 {
                        left.push(format!("shard {}: {count} {what}", wire.index));
                    }
                }
            }
            for (what, count) in [
                ("waiters", engine.waiters.len()),
                ("aways", engine.aways.len()),
                ("calls", engine.calls.len()),
                ("batches", engine.batches.len()),
                ("tasks", engine.tasks.len()),
                ("listens", engine.listens.len()),
                ("sessions", engine.sessions.keys().len()),
                ("pipes", engine.pipes.conns().len()),
                ("answers", engine.answers.waiting()),
                ("calls_active", counters.calls_active as usize),
                ("tasks_active", counters.tasks_active as usize),
                ("sessions_active", counters.sessions_active as usize),
                ("streams_active", counters.streams_active as usize),
            ] {
                if count > 0 {
                    left.push(format!("shard {}: {count} {what}", wire.index));
                }
            }
        }
        left
    }

    /// What refers to something that is not there, or is not referred to by what it belongs to.
    pub fn loose_ends(&self) -> Vec<String> {
        let mut loose = Vec::new();
        for (engine, wire) in self.engines.iter().zip(&self.wires) {
            let mut object = |what: String| loose.push(format!("shard {}: {what}", wire.index));
            for (key, call) in engine.calls.iter() {
                let session = call.caller().session.map(|session| engine.sessions.get(session));
                if session.is_some_and(|session| session.is_none_or(|s| !s.calls.contains(&key))) {
                    object(format!("{key:?} is no call of its session"));
                }
                let (CallOut::Modern { place, .. } | CallOut::Request { place: Some(place), .. }) =
                    call.caller().out
                else {
                    continue;
                };
                if engine.waiters.get(&place) != Some(&Waiter::Call(key)) {
                    object(format!("nobody at {place:?} waits for {key:?}"));
                }
            }
            for (key, session) in engine.sessions.iter() {
                let asking = session.pending.iter().map(|pending| &pending.call);
                if session.calls.iter().chain(asking).any(|call| engine.calls.get(*call).is_none())
                {
                    object(format!("{key:?} has a call that is over"));
                }
            }
            for (place, waiter) in &engine.waiters {
                let lives = match waiter {
                    Waiter::Call(key) => engine.calls.get(*key).is_some(),
                    Waiter::Listen(key) => engine.listens.get(*key).is_some(),
                    Waiter::Stream(key) | Waiter::Sse(key) => engine.sessions.get(*key).is_some(),
                    Waiter::Batch(key) => engine.batches.get(*key).is_some(),
                };
                if !lives {
                    object(format!("{place:?} waits for {waiter:?}, which is over"));
                }
            }
            if let Some(keeping) = &engine.keeping {
                let known =
                    keeping.owned.values().filter(|key| engine.sessions.get(**key).is_some());
                if (known.count(), keeping.replicas.len())
                    != (keeping.owned.len(), keeping.owned.len())
                {
                    object("others are told of sessions that are over".to_owned());
                }
            }
            let counters = &wire.counters;
            let counted = (counters.calls_active, counters.sessions_active);
            let held = (engine.calls.len() as u64, engine.sessions.keys().len() as u64);
            if counted != held {
                object(format!("{counted:?} calls and sessions are counted, {held:?} there"));
            }
            let pipes = engine.pipes.conns().into_iter().map(|conn| engine.pipes.listens(conn));
            let open = wire.exchanges.values().filter(|said| said.streaming).count();
            let streams = (pipes.sum::<usize>() + open) as u64;
            if counters.streams_active != streams {
                object(format!("{} streams are counted, {streams} open", counters.streams_active));
            }
        }
        loose
    }

    #[track_caller]
    pub fn check_faults(&self) {
        for wire in &self.wires {
            assert!(wire.faults.is_empty(), "{}", wire.faults.join("\n"));
        }
    }
}
