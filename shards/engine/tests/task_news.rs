//! `notifications/tasks` on listen streams: of tasks of every shard, the whole state, in order.

use serde_json::{Value, json};

use super::ask::{Heard, META, modern, tool};
use super::tasks::{Yard, accept, client, declared, form};
use super::world::{Sent, Setup};
use crate::net::PipeKind;
use erlmcp_catalog::{IntoStep as _, text};

fn listen(yard: &mut Yard, shard: u16, ids: &[&str]) -> Sent {
    yard.send(shard, "subscriptions/listen", json!({ "notifications": { "taskIds": ids } }))
}

/// What the acknowledgement accepted.
#[track_caller]
fn accepted(heard: &Heard) -> Value {
    let first = heard.messages().remove(0);
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged", "{first}");
    first["params"]["notifications"].clone()
}

/// The statuses of one task that were told, in order.
#[track_caller]
fn statuses(heard: &Heard, id: &str) -> Vec<String> {
    let mut all = Vec::new();
    let subscription = heard.messages()[0]["params"]["_meta"].clone();
    assert!(subscription[format!("{META}subscriptionId")].is_u64(), "{subscription}");
    for message in heard.messages().into_iter().skip(1) {
        assert_eq!(message["method"], "notifications/tasks", "{message}");
        let params = &message["params"];
        assert_eq!(params["_meta"], subscription);
        for member in ["createdAt", "lastUpdatedAt", "ttlMs"] {
            assert!(params.get(member).is_some(), "{member} in {params}");
        }
        if params["taskId"] == id {
            let status = params["status"].as_str().expect("a status");
            assert_eq!(params.get("result").is_some(), status == "completed", "{params}");
            assert_eq!(params.get("inputRequests").is_some(), status == "input_required");
            all.push(status.to_owned());
        }
    }
    all
}

#[test]
fn every_change_of_a_task_is_told_on_any_shard() {
    let mut yard = Yard::new();
    let (id, other) = (yard.begin(0, "may"), yard.begin(0, "may"));
    let streams = [0, 1].map(|shard| listen(&mut yard, shard, &[&id]));
    for sent in streams {
        assert_eq!(accepted(&yard.world.heard(sent)), json!({ "taskIds": [id] }));
    }
    yard.ask([form("a"), form("b")], Some(json!("again")));
    yard.update(0, &id, json!({ "a-1": accept(1) }));
    yard.update(1, &id, json!({ "b-1": accept(1) }));
    yard.step(text("of the other").into_step());
    yard.step(text("done").into_step());
    let expect = ["input_required", "working", "completed"];
    for sent in streams {
        let heard = yard.world.heard(sent);
        assert_eq!(statuses(&heard, &id), expect, "shard {}", sent.shard);
        assert_eq!(statuses(&heard, &other), [""; 0]);
        assert!(heard.open);
    }
    // A handler that goes on and ends in one turn is told of once.
    let id = yard.begin(1, "may");
    let streams = [0, 1].map(|shard| listen(&mut yard, shard, &[&id]));
    yard.ask([form("a")], None);
    yard.update(0, &id, json!({ "a-1": accept(1) }));
    for sent in streams {
        assert_eq!(statuses(&yard.world.heard(sent), &id), ["input_required", "completed"]);
        yard.world.leave(sent);
    }
}

#[test]
fn who_comes_late_is_told_what_a_task_has_become() {
    let mut yard = Yard::new();
    let (asks, done, works) = (yard.begin(0, "may"), yard.begin(0, "may"), yard.begin(0, "may"));
    yard.ask([form("a")], None);
    yard.step(text("done").into_step());
    let cancelled = yard.begin(0, "may");
    yard.cancel(0, &cancelled);
    for shard in [0, 1] {
        let sent = listen(&mut yard, shard, &[&asks, &done, &works, &cancelled]);
        let heard = yard.world.heard(sent);
        assert_eq!(accepted(&heard)["taskIds"].as_array().map(Vec::len), Some(4));
        assert_eq!(statuses(&heard, &asks), ["input_required"]);
        assert_eq!(statuses(&heard, &done), ["completed"]);
        assert_eq!(statuses(&heard, &works), [""; 0]);
        assert_eq!(statuses(&heard, &cancelled), ["cancelled"]);
    }
}

#[test]
fn a_change_on_its_way_while_somebody_subscribes_is_not_lost() {
    let mut yard = Yard::new();
    let id = yard.begin(0, "may");
    yard.world.slow_mail = true;
    let sent = listen(&mut yard, 1, &[&id]);
    // Acknowledged, but the owner does not know yet.
    assert_eq!(accepted(&yard.world.heard(sent)), json!({ "taskIds": [id] }));
    let reply = yard.dock.take();
    assert!(reply.done(text("done")));
    yard.world.deliver(0, crate::engine::EngineMail::Answers);
    assert_eq!(statuses(&yard.world.heard(sent), &id), [""; 0]);
    yard.world.pump();
    assert_eq!(statuses(&yard.world.heard(sent), &id), ["completed"]);
}

#[test]
fn only_living_tasks_are_accepted() {
    let mut yard = Yard::new();
    let (here, there, brief) = (yard.begin(0, "may"), yard.begin(1, "may"), yard.begin(1, "brief"));
    yard.world.advance(6000);
    let sent = listen(&mut yard, 0, &["x", &here, &brief, &there, &here]);
    let mut expect = [here.clone(), there.clone()];
    expect.sort();
    assert_eq!(accepted(&yard.world.heard(sent)), json!({ "taskIds": expect }));
    let sent = listen(&mut yard, 0, &[&brief]);
    assert_eq!(accepted(&yard.world.heard(sent)), json!({}));
    // An owner that cannot be asked is not promised for.
    yard.world.block_mail(0, 1, true);
    let sent = listen(&mut yard, 0, &[&here, &there]);
    assert_eq!(accepted(&yard.world.heard(sent)), json!({ "taskIds": [here] }));
}

#[test]
fn task_ids_are_for_clients_that_declare_tasks() {
    let mut yard = Yard::new();
    let id = yard.begin(0, "may");
    let params = json!({ "notifications": { "taskIds": [id] } });
    let heard = yard.world.modern(1, "subscriptions/listen", params).reply();
    assert_eq!((heard.status, heard.code()), (400, -32021));
    for wrong in [json!("x"), json!([5]), json!({})] {
        let params = json!({ "notifications": { "taskIds": wrong } });
        let heard = yard.world.modern(1, "subscriptions/listen", params).client(client()).reply();
        assert_eq!((heard.status, heard.code()), (200, -32602));
    }
    let mut harbour = super::world::World::new();
    let params = json!({ "notifications": { "taskIds": ["x"] } });
    let heard = harbour.modern(1, "subscriptions/listen", params).reply();
    assert_eq!(accepted(&heard), json!({}));
}

#[test]
fn a_reader_that_lags_is_told_the_last_state_of_each_task() {
    let mut yard = Yard::new();
    let (first, second) = (yard.begin(0, "may"), yard.begin(1, "may"));
    let sent = listen(&mut yard, 0, &[&first, &second]);
    let conn = sent.exchange.conn;
    yard.world.set_backlog(0, conn, 1 << 20);
    yard.ask([form("a")], None);
    yard.step(text("second").into_step());
    yard.update(0, &first, json!({ "a-1": accept(1) }));
    assert_eq!(statuses(&yard.world.heard(sent), &first), [""; 0]);
    yard.world.set_backlog(0, conn, 0);
    yard.world.advance(100);
    let heard = yard.world.heard(sent);
    assert_eq!(statuses(&heard, &first), ["completed"]);
    assert_eq!(statuses(&heard, &second), ["completed"]);
}

#[test]
fn tasks_are_listened_to_on_pipes() {
    let mut yard = Yard::new();
    let id = yard.begin(0, "may");
    let pipe = yard.world.pipe(1, PipeKind::WebSocket);
    let params = declared(json!({ "notifications": { "taskIds": [id] } }));
    let told = yard.world.tell(pipe, &modern("l", "subscriptions/listen", params));
    assert_eq!(told["params"]["notifications"], json!({ "taskIds": [id] }));
    yard.step(text("done").into_step());
    let told = yard.world.told(pipe);
    assert_eq!(told.len(), 1, "{told:?}");
    let params = &told[0]["params"];
    assert_eq!(params["_meta"], json!({ format!("{META}subscriptionId"): "l" }));
    assert_eq!((&params["taskId"], &params["status"]), (&json!(id), &json!("completed")));
    yard.world.hang_up(pipe);
}

/// Random clients on three shards with mail in any order: what a listener was told last is what `tasks/get`
/// says, and when all time is over nothing is left.
#[test]
fn listeners_and_askers_agree_whatever_the_order() {
    for seed in 1..=60 {
        println!("seed {seed}");
        let mut yard = Yard::with(Setup { shards: 3, seed, ..Setup::default() });
        yard.world.slow_mail = true;
        let mut tasks: Vec<(String, Vec<Sent>)> = Vec::new();
        for _ in 0..60 {
            let shard = yard.world.draw(3) as u16;
            match yard.world.draw(9) {
                0 | 1 => {
                    let id = yard.begin(shard, "may");
                    tasks.push((id, Vec::new()));
                }
                2 if !tasks.is_empty() => {
                    let pick = yard.world.draw(tasks.len());
                    let id = tasks[pick].0.clone();
                    let sent = listen(&mut yard, shard, &[&id]);
                    tasks[pick].1.push(sent);
                }
                3 if !tasks.is_empty() => {
                    let pick = yard.world.draw(tasks.len());
                    let round = 1 + yard.world.draw(2);
                    let answers = json!({ format!("a-{round}"): accept(1) });
                    let params = json!({ "taskId": tasks[pick].0, "inputResponses": answers });
                    yard.send(shard, "tasks/update", params);
                }
                4 if !tasks.is_empty() && yard.world.draw(4) == 0 => {
                    let pick = yard.world.draw(tasks.len());
                    yard.send(shard, "tasks/cancel", json!({ "taskId": tasks[pick].0 }));
                }
                5 | 6 => {
                    let Some(reply) = yard.dock.try_take() else { continue };
                    let again = yard.world.draw(2) == 0;
                    let need = erlmcp_catalog::NeedInput::ask([form("a")]).remember(json!("again"));
                    reply.step(if again { need.into_step() } else { text("x").into_step() });
                }
                7 => {
                    let to = yard.world.draw(3) as u16;
                    let blocked = yard.world.draw(3) == 0;
                    yard.world.block_mail(shard, to, blocked);
                }
                _ => {
                    for _ in 0..yard.world.draw(5) {
                        yard.world.step();
                    }
                }
            }
        }
        for (from, to) in (0..9).map(|lane| (lane / 3, lane % 3)) {
            yard.world.block_mail(from, to, false);
        }
        yard.world.pump();
        yard.world.slow_mail = false;
        for (id, streams) in &tasks {
            let status = yard.get(id)["status"].as_str().expect("a status").to_owned();
            for sent in streams {
                // Where the owner could not be asked, nothing was promised.
                if accepted(&yard.world.heard(*sent)) == json!({}) {
                    continue;
                }
                let told = statuses(&yard.world.heard(*sent), id);
                // A task that only ever worked is not told of.
                let last = told.last().map_or("working", String::as_str);
                assert_eq!(last, status, "{told:?}");
            }
        }
        for sent in tasks.iter().flat_map(|(_, streams)| streams) {
            yard.world.leave(*sent);
        }
        yard.world.advance(4_000_000);
        assert_eq!(yard.world.leftovers(), [""; 0]);
    }
}

#[test]
fn a_listener_of_many_things_hears_each() {
    let mut yard = Yard::new();
    let id = yard.begin(0, "may");
    let wanted = json!({ "toolsListChanged": true, "taskIds": [id] });
    let sent = yard.send(0, "subscriptions/listen", json!({ "notifications": wanted }));
    let heard = yard.world.heard(sent);
    assert_eq!(accepted(&heard), json!({ "toolsListChanged": true, "taskIds": [id] }));
    yard.world.handle.publish(erlmcp_catalog::Change::Tools);
    yard.world.pump();
    yard.step(text("done").into_step());
    let methods = yard.world.heard(sent).methods();
    let expect = ["subscriptions/acknowledged", "tools/list_changed", "tasks"];
    assert_eq!(methods, expect.map(|name| format!("notifications/{name}")));
    let call = yard.reply(0, "tools/call", tool("plain", json!({ "now": true })));
    assert_eq!(call.text(), "at once");
}
