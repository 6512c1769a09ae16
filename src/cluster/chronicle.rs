//! What happens to the nodes, in words for the log: a line per change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use erlmcp_cluster::view::{Member, State, View};
use log::Level;

/// Compares each view with the one before. This node is left out: it knows.
pub struct Chronicle {
    seen: Arc<View>,
    /// Since when, by node.
    suspected: BTreeMap<u16, Instant>,
}

impl Chronicle {
    /// From this view on.
    pub fn new(seen: Arc<View>) -> Self {
        Self { seen, suspected: BTreeMap::new() }
    }

    /// What has changed, in order of the nodes' numbers.
    pub fn handle_view(&mut self, now: Instant, view: Arc<View>) -> Vec<(Level, String)> {
        let before = std::mem::replace(&mut self.seen, view.clone());
        if view.member(view.me).is_some_and(|me| me.state == State::Dead) {
            // We have said goodbye: links that end now say nothing about the others.
            return Vec::new();
        }
        let count = view.members.iter().filter(|member| member.owns()).count();
        let mut lines = Vec::new();
        let mut say = |level, node: u16, what: &str| {
            lines.push((level, format!("node {node} {what} (nodes now: {count})")));
        };
        for member in view.members.iter().filter(|member| member.node != view.me) {
            let change = self.change(now, before.member(member.node), member);
            if let Some((level, what)) = change {
                say(level, member.node, &what);
            }
        }
        for old in before.members.iter().filter(|old| view.member(old.node).is_none()) {
            self.suspected.remove(&old.node);
            say(Level::Info, old.node, "is forgotten: gone for long");
        }
        lines
    }

    fn change(
        &mut self,
        now: Instant,
        old: Option<&Member>,
        new: &Member,
    ) -> Option<(Level, String)> {
        let since = match new.state {
            State::Suspect => {
                self.suspected.entry(new.node).or_insert(now);
                None
            }
            _ => self.suspected.remove(&new.node),
        };
        let Some(old) = old.filter(|old| old.epoch == new.epoch) else {
            let how = if old.is_none() { "has joined" } else { "has been started anew" };
            return (new.state != State::Dead).then(|| (Level::Info, arrival(how, new)));
        };
        let what = match (old.state, new.state) {
            (before, after) if before == after => return None,
            (State::Dead, State::Alive | State::Suspect) => {
                "is back: it was out of reach, not dead".to_owned()
            }
            (State::Suspect, State::Alive) => "is heard again".to_owned(),
            (_, State::Alive) => "stays".to_owned(),
            (_, State::Suspect) => "is suspect: a link broke, or it is silent".to_owned(),
            (_, State::Leaving) => "is leaving".to_owned(),
            (State::Leaving, State::Dead) => "has left".to_owned(),
            (_, State::Dead) => match since {
                Some(since) => {
                    let after = took(now.saturating_duration_since(since));
                    format!(
                        "is dead, {after} after the first suspicion; others take over its sessions"
                    )
                }
                None => "is gone; others take over its sessions".to_owned(),
            },
        };
        let is_bad = matches!((old.state, new.state), (_, State::Suspect))
            || (new.state == State::Dead && old.state != State::Leaving);
        Some((if is_bad { Level::Warn } else { Level::Info }, what))
    }
}

fn arrival(how: &str, member: &Member) -> String {
    let at = member.addresses.first().map_or_else(String::new, |first| format!(" at {first}"));
    let shards = match member.shards() {
        1 => "1 shard".to_owned(),
        count => format!("{count} shards"),
    };
    let leaving = if member.state == State::Leaving { ", about to leave" } else { "" };
    format!("{how}{at} with {shards}{leaving}")
}

fn took(time: Duration) -> String {
    match time.as_millis() {
        ms @ 0..1_000 => format!("{ms} ms"),
        ms => format!("{:.1} s", ms as f64 / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use State::{Alive, Dead, Leaving, Suspect};

    use super::*;

    /// Nodes as (number, epoch, state); node 1 looks.
    fn view(nodes: Nodes<'_>) -> Arc<View> {
        let mut view = View::alone(1, 0, 2);
        let member = view.members[0].clone();
        for (node, epoch, state) in nodes {
            let mut member = Member { node: *node, epoch: *epoch, state: *state, ..member.clone() };
            member.addresses = vec![([127, 0, 0, 1], 7000 + *node).into(); 2];
            view.members.push(member);
        }
        Arc::new(view)
    }

    type Nodes<'t> = &'t [(u16, u32, State)];

    /// Each step: how long after the one before in milliseconds, the nodes then, and the lines expected.
    #[track_caller]
    fn check(steps: &[(u64, Nodes<'_>, &[&str])]) {
        let mut chronicle = Chronicle::new(view(&[]));
        let mut now = Instant::now();
        for (ms, nodes, expect) in steps {
            now += Duration::from_millis(*ms);
            let lines = chronicle.handle_view(now, view(nodes));
            let lines: Vec<String> = lines.into_iter().map(|(_, line)| line).collect();
            assert_eq!(lines, *expect);
        }
    }

    const JOINED: &str = "node 2 has joined at 127.0.0.1:7002 with 2 shards (nodes now: 2)";
    const SUSPECT: &str = "node 2 is suspect: a link broke, or it is silent (nodes now: 2)";

    #[test]
    fn a_death_says_how_long_it_was_suspected() {
        let dead = |after| {
            format!(
                "node 2 is dead, {after} after the first suspicion; others take over its sessions (nodes now: 1)"
            )
        };
        for (ms, after) in [(0, "0 ms"), (999, "999 ms"), (1_000, "1.0 s"), (1_260, "1.3 s")] {
            check(&[
                (0, &[(2, 5, Alive)], &[JOINED]),
                (9, &[(2, 5, Suspect)], &[SUSPECT]),
                (0, &[(2, 5, Suspect)], &[]),
                (ms, &[(2, 5, Dead)], &[&dead(after)]),
            ]);
        }
        // A suspicion that was taken back does not count.
        check(&[
            (0, &[(2, 5, Alive)], &[JOINED]),
            (0, &[(2, 5, Suspect)], &[SUSPECT]),
            (9_000, &[(2, 5, Alive)], &["node 2 is heard again (nodes now: 2)"]),
            (9_000, &[(2, 5, Suspect)], &[SUSPECT]),
            (20, &[(2, 5, Dead)], &[&dead("20 ms")]),
        ]);
    }

    #[test]
    fn nodes_come_and_go() {
        check(&[
            (0, &[(2, 5, Alive), (3, 5, Dead)], &[JOINED]),
            (0, &[(2, 5, Leaving), (3, 5, Dead)], &["node 2 is leaving (nodes now: 2)"]),
            (0, &[(2, 5, Dead), (3, 5, Dead)], &["node 2 has left (nodes now: 1)"]),
            (
                0,
                &[(2, 6, Alive), (3, 5, Alive)],
                &[
                    "node 2 has been started anew at 127.0.0.1:7002 with 2 shards (nodes now: 3)",
                    "node 3 is back: it was out of reach, not dead (nodes now: 3)",
                ],
            ),
            (0, &[(2, 6, Alive)], &["node 3 is forgotten: gone for long (nodes now: 2)"]),
            (0, &[(2, 6, Dead)], &["node 2 is gone; others take over its sessions (nodes now: 1)"]),
        ]);
    }

    #[test]
    fn who_has_said_goodbye_says_no_more() {
        let mut chronicle = Chronicle::new(view(&[(2, 5, Alive)]));
        let mut gone = (*view(&[(2, 5, Suspect)])).clone();
        gone.members[0].state = Dead;
        assert_eq!(chronicle.handle_view(Instant::now(), Arc::new(gone)), []);
    }

    #[test]
    fn deaths_and_suspicions_are_warnings_and_departures_are_not() {
        let level = |old, new| {
            let mut chronicle = Chronicle::new(view(&[(2, 5, old)]));
            chronicle.handle_view(Instant::now(), view(&[(2, 5, new)]))[0].0
        };
        for (old, new) in [(Alive, Suspect), (Alive, Dead), (Suspect, Dead)] {
            assert_eq!(level(old, new), Level::Warn);
        }
        for (old, new) in [(Leaving, Dead), (Alive, Leaving), (Dead, Alive), (Suspect, Alive)] {
            assert_eq!(level(old, new), Level::Info);
        }
    }
}
