//! What is different between two views, in words for the log: a line per node and change.

use erlmcp_cluster::view::{Member, State, View};

/// From one view to the next, in order of the nodes' numbers. This node is left out: it knows.
pub fn changes(before: &View, after: &View) -> Vec<String> {
    let mut lines = Vec::new();
    let others = after.members.iter().filter(|member| member.node != after.me);
    for member in others {
        let old = before.member(member.node);
        lines.extend(change(old, member).map(|what| format!("node {} {what}", member.node)));
    }
    let forgotten = before.members.iter().filter(|old| after.member(old.node).is_none());
    lines.extend(forgotten.map(|old| format!("node {} is forgotten: gone for long", old.node)));
    if !lines.is_empty() {
        lines.push(census(after));
    }
    lines
}

fn change(old: Option<&Member>, new: &Member) -> Option<String> {
    let at = new.addresses.first().map_or_else(String::new, |first| format!(" at {first}"));
    let shards = match new.shards() {
        1 => "1 shard".to_owned(),
        count => format!("{count} shards"),
    };
    let joined = |how: &str| format!("{how}{at}, {shards}");
    let Some(old) = old else {
        return match new.state {
            State::Dead => None,
            State::Leaving => Some(joined("is here, about to leave,")),
            State::Alive | State::Suspect => Some(joined("has joined")),
        };
    };
    if old.epoch != new.epoch {
        return match new.state {
            State::Dead => Some("has been started anew, and is dead".to_owned()),
            _ => Some(joined("has been started anew")),
        };
    }
    match (old.state, new.state) {
        (before, after) if before == after => None,
        (State::Dead, State::Alive | State::Suspect) => {
            Some("is back: it was out of reach, not dead".to_owned())
        }
        (State::Suspect, State::Alive) => Some("is heard again".to_owned()),
        (_, State::Alive) => Some("stays".to_owned()),
        (_, State::Suspect) => Some("is silent: suspected to be dead".to_owned()),
        (_, State::Leaving) => Some("is leaving".to_owned()),
        (State::Suspect, State::Dead) => {
            Some("is dead: it stayed silent. Others take over its sessions".to_owned())
        }
        (State::Leaving, State::Dead) => Some("has left".to_owned()),
        (_, State::Dead) => {
            Some("is dead: nobody answers where it was. Others take over its sessions".to_owned())
        }
    }
}

/// `cluster: 1 2 4 alive, 3 dead`.
fn census(view: &View) -> String {
    let states = [
        (State::Alive, "alive"),
        (State::Suspect, "suspect"),
        (State::Leaving, "leaving"),
        (State::Dead, "dead"),
    ];
    let parts: Vec<String> = states
        .into_iter()
        .filter_map(|(state, name)| {
            let nodes: Vec<String> = view
                .members
                .iter()
                .filter(|member| member.state == state)
                .map(|member| member.node.to_string())
                .collect();
            (!nodes.is_empty()).then(|| format!("{} {name}", nodes.join(" ")))
        })
        .collect();
    format!("cluster: {}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes as (number, epoch, state); node 1 looks.
    fn view(nodes: &[(u16, u32, State)]) -> View {
        let mut view = View::alone(1, 0, 2);
        let member = view.members[0].clone();
        for (node, epoch, state) in nodes {
            let mut member = Member { node: *node, epoch: *epoch, state: *state, ..member.clone() };
            member.addresses =
                vec![([127, 0, 0, 1], 7000 + *node).into(); usize::from(*node).clamp(1, 2)];
            view.members.push(member);
        }
        view
    }

    #[track_caller]
    fn check(before: &[(u16, u32, State)], after: &[(u16, u32, State)], expect: &[&str]) {
        assert_eq!(changes(&view(before), &view(after)), expect);
    }

    #[test]
    fn every_change_of_a_node_is_one_line_and_then_the_whole() {
        use State::{Alive, Dead, Leaving, Suspect};
        check(
            &[],
            &[(2, 5, Alive), (3, 5, Leaving), (4, 5, Dead)],
            &[
                "node 2 has joined at 127.0.0.1:7002, 2 shards",
                "node 3 is here, about to leave, at 127.0.0.1:7003, 2 shards",
                "cluster: 1 2 alive, 3 leaving, 4 dead",
            ],
        );
        for (old, new, line) in [
            (Alive, Suspect, "is silent: suspected to be dead"),
            (Suspect, Alive, "is heard again"),
            (Suspect, Dead, "is dead: it stayed silent. Others take over its sessions"),
            (Alive, Dead, "is dead: nobody answers where it was. Others take over its sessions"),
            (Alive, Leaving, "is leaving"),
            (Leaving, Dead, "has left"),
            (Dead, Alive, "is back: it was out of reach, not dead"),
        ] {
            let lines = changes(&view(&[(2, 5, old)]), &view(&[(2, 5, new)]));
            assert_eq!(lines[0], format!("node 2 {line}"));
            assert_eq!(lines.len(), 2);
        }
        check(
            &[(2, 5, Dead)],
            &[(2, 6, Alive)],
            &["node 2 has been started anew at 127.0.0.1:7002, 2 shards", "cluster: 1 2 alive"],
        );
        check(&[(2, 5, Dead)], &[], &["node 2 is forgotten: gone for long", "cluster: 1 alive"]);
    }

    #[test]
    fn nothing_new_is_no_line() {
        let same = [(2, 5, State::Alive), (3, 5, State::Dead)];
        check(&same, &same, &[]);
    }
}
