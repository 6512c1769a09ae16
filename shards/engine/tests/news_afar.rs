//! Changes between nodes: everybody who waits for one hears of it once, wherever it happened, and nobody else is
//! bothered. Three nodes of two shards each, as in `afar`.

use erlmcp_catalog::{Change, IntoStep as _, text};
use erlmcp_cluster::interest::{CONFIRM_MS, LATE_MS, REFUSED_MS};
use erlmcp_cluster::letter::Urgency;
use erlmcp_cluster::view::State;
use serde_json::{Value, json};

use super::ask::{Legacy, modern, tool};
use super::tasks::{Yard, accept, form};
use super::world::{PipeId, Sent, Setup, World};
use crate::net::PipeKind;

const NOTHING: [String; 0] = [];
const URI: &str = "crane://7/state";
const OTHER: &str = "crane://8/state";
const UPDATED: &str = "notifications/resources/updated";

fn setup() -> Setup {
    Setup { nodes: 3, shards: 2, ..Setup::default() }
}

fn cluster() -> World {
    World::with(setup())
}

/// One subscriber of each kind.
enum Ear {
    Listen(Sent),
    Pipe(PipeId, usize),
    Session(Legacy, Sent),
}

impl Ear {
    fn listen(world: &mut World, shard: u16, uri: &str) -> Self {
        let wanted = json!({ "notifications": { "resourceSubscriptions": [uri] } });
        Self::Listen(world.modern(1, "subscriptions/listen", wanted).on(shard).send())
    }

    fn pipe(world: &mut World, shard: u16, uri: &str) -> Self {
        let wanted = json!({ "notifications": { "resourceSubscriptions": [uri] } });
        let pipe = world.pipe(shard, PipeKind::WebSocket);
        world.tell(pipe, &modern(1, "subscriptions/listen", wanted));
        Self::Pipe(pipe, 0)
    }

    /// A session of one shard, whose stream is held on another.
    fn session(world: &mut World, shard: u16, stream: u16, uri: &str) -> Self {
        let session = world.initialize(shard, "2025-11-25", json!({}));
        session.ask(world, 1, "resources/subscribe", json!({ "uri": uri })).on(stream).send();
        let get = session.get(world).on(stream).send();
        Self::Session(session, get)
    }

    /// How many updates it has heard of, in all.
    fn updates(&mut self, world: &mut World) -> usize {
        match self {
            Ear::Listen(sent) | Ear::Session(_, sent) => {
                world.heard(*sent).methods().iter().filter(|method| *method == UPDATED).count()
            }
            Ear::Pipe(pipe, count) => {
                let told = world.told(*pipe);
                *count += told.iter().filter(|message| message["method"] == UPDATED).count();
                *count
            }
        }
    }

    fn end(self, world: &mut World) {
        match self {
            Ear::Listen(sent) => world.leave(sent),
            Ear::Pipe(pipe, _) => world.hang_up(pipe),
            Ear::Session(session, _) => _ = session.delete(world).send(),
        }
    }
}

fn ears(world: &mut World, uri: &str) -> Vec<Ear> {
    let mut ears = Vec::new();
    for shard in 0..6 {
        ears.push(Ear::listen(world, shard, uri));
        ears.push(Ear::pipe(world, shard, uri));
        ears.push(Ear::session(world, shard, (shard + 2) % 6, uri));
    }
    ears
}

#[track_caller]
fn check_updates(world: &mut World, ears: &mut [Ear], expect: usize) {
    let counts: Vec<usize> = ears.iter_mut().map(|ear| ear.updates(world)).collect();
    assert_eq!(counts, vec![expect; ears.len()]);
}

#[test]
fn an_update_is_heard_once_by_everybody_who_waits_for_it_on_any_node() {
    let mut world = cluster();
    let mut of_seven = ears(&mut world, URI);
    let mut of_eight = ears(&mut world, OTHER);
    // By a handler on each shard, and from outside on each node.
    for shard in 0..6 {
        let call = tool("publish", json!({ "uri": URI }));
        assert_eq!(world.modern(2, "tools/call", call).on(shard).reply().text(), "published");
        check_updates(&mut world, &mut of_seven, usize::from(shard) + 1);
    }
    for node in 0..3 {
        world.nodes[node].handle.publish(Change::Resource(URI.to_owned()));
        world.pump();
        check_updates(&mut world, &mut of_seven, 7 + node);
    }
    check_updates(&mut world, &mut of_eight, 0);
    for from in 0..3 {
        for to in (0..3).filter(|to| *to != from) {
            assert_eq!(world.letters(from, to, "changed"), 3, "one per update and node");
        }
    }
    world.handle.publish(Change::Resource(OTHER.to_owned()));
    world.pump();
    check_updates(&mut world, &mut of_eight, 1);
    check_updates(&mut world, &mut of_seven, 9);
    of_seven.into_iter().chain(of_eight).for_each(|ear| ear.end(&mut world));
    assert_eq!(world.leftovers(), NOTHING);
}

#[test]
fn nodes_that_do_not_care_get_no_letter() {
    let mut world = cluster();
    let mut ear = Ear::listen(&mut world, 2, URI);
    let mut second = Ear::session(&mut world, 3, 3, URI);
    world.publish(URI);
    world.publish(OTHER);
    assert_eq!(world.letters(0, 1, "changed"), 1);
    assert_eq!(world.letters(0, 2, "changed"), 0);
    // Only when the last subscriber of the last shard has gone.
    assert_eq!(ear.updates(&mut world), 1);
    ear.end(&mut world);
    world.publish(URI);
    assert_eq!(second.updates(&mut world), 2);
    second.end(&mut world);
    world.publish(URI);
    assert_eq!(world.letters(0, 1, "changed"), 2);
    assert_eq!(world.letters(0, 2, "changed"), 0);
}

#[test]
fn everybody_hears_of_a_list_that_changed_on_any_node() {
    let mut world = cluster();
    let wanted = json!({ "notifications": { "toolsListChanged": true } });
    let listens: Vec<Sent> = (0..6)
        .map(|shard| world.modern(1, "subscriptions/listen", wanted.clone()).on(shard).send())
        .collect();
    let session = world.initialize(4, "2025-11-25", json!({}));
    let get = session.get(&mut world).on(3).send();
    world.add_tool("crane_paint");
    let changed = "notifications/tools/list_changed";
    for sent in listens {
        let methods = world.heard(sent).methods();
        assert_eq!(methods[1..], [changed], "on {}", sent.shard);
    }
    assert_eq!(world.heard(get).methods(), [changed]);
    assert_eq!(world.all_letters("changed"), 2);
}

#[test]
fn a_subscription_on_its_way_hears_of_what_happens_meanwhile() {
    let mut world = cluster();
    world.slow_mail = true;
    let mut ear = Ear::listen(&mut world, 2, URI);
    // Acknowledged; nobody else knows of it yet.
    assert_eq!(world.letters(0, 1, "changed"), 0);
    for shard in [0, 1] {
        // Announced on both shards of the first node before any letter is read.
        let news = crate::message::Announcement {
            snapshot: None,
            changes: [Change::Resource(URI.to_owned())].into(),
        };
        world.deliver(shard, crate::engine::EngineMail::Announce(news));
    }
    world.pump();
    assert_eq!(ear.updates(&mut world), 1);
    // Said again, it is still heard once.
    world.lose_link(0, 1);
    world.link(0, 1);
    world.pump();
    assert_eq!(ear.updates(&mut world), 1);
}

#[test]
fn who_subscribes_after_a_change_does_not_hear_of_long_ago() {
    let mut world = cluster();
    world.publish(URI);
    world.advance(LATE_MS + 1);
    let mut ear = Ear::listen(&mut world, 2, URI);
    world.advance(5 * CONFIRM_MS);
    assert_eq!(ear.updates(&mut world), 0);
}

#[test]
fn interest_is_repaired_after_links_were_full_or_lost() {
    type Trouble = (&'static str, fn(&mut World), fn(&mut World));
    let troubles: [Trouble; 3] = [
        ("no link", |world| world.lose_link(0, 1), |world| world.link(0, 1)),
        (
            "no room where the subscriber is",
            |world| world.narrow(1, 0, Urgency::Request),
            |world| world.narrow(1, 0, Urgency::Sync),
        ),
        (
            // Nobody notices but by the numbers.
            "letters lost inside a node",
            |world| world.slow_mail = true,
            |world| {
                world.mesh.borrow_mut().forget_letters();
                world.slow_mail = false;
            },
        ),
    ];
    for (what, begin, end) in troubles {
        let mut world = cluster();
        let gone = Ear::listen(&mut world, 3, OTHER);
        begin(&mut world);
        gone.end(&mut world);
        let mut ear = Ear::listen(&mut world, 2, URI);
        end(&mut world);
        world.advance(3 * CONFIRM_MS);
        let before = world.letters(0, 1, "changed");
        world.publish(URI);
        world.publish(OTHER);
        assert_eq!(ear.updates(&mut world), 1, "{what}");
        assert_eq!(world.letters(0, 1, "changed"), before + 1, "{what}");
    }
}

#[test]
fn what_a_full_link_refused_is_sent_when_it_has_room_and_not_later() {
    let mut world = cluster();
    let mut ear = Ear::listen(&mut world, 2, URI);
    world.narrow(0, 1, Urgency::Request);
    world.publish(URI);
    assert_eq!(ear.updates(&mut world), 0);
    world.advance(REFUSED_MS);
    world.narrow(0, 1, Urgency::Sync);
    assert_eq!(ear.updates(&mut world), 1);
    world.narrow(0, 1, Urgency::Request);
    world.publish(URI);
    world.advance(REFUSED_MS + 1);
    world.narrow(0, 1, Urgency::Sync);
    assert_eq!(ear.updates(&mut world), 1, "the link was full for too long");
    assert_eq!(world.errors("news_lost"), 1, "which is counted");
}

#[test]
fn without_change_nodes_say_nothing() {
    let mut world = cluster();
    let ear = Ear::listen(&mut world, 2, URI);
    world.advance(5 * CONFIRM_MS);
    let said = world.all_letters("wants") + world.all_letters("heard");
    world.advance(1000 * CONFIRM_MS);
    assert_eq!(world.all_letters("wants") + world.all_letters("heard"), said);
    ear.end(&mut world);
}

#[test]
fn what_a_dead_node_wanted_is_forgotten_until_it_says_so_again() {
    let mut world = cluster();
    let mut ear = Ear::listen(&mut world, 2, URI);
    let others = Ear::listen(&mut world, 4, OTHER);
    world.lose_link(0, 1);
    world.see(0, |node| if node == 1 { State::Dead } else { State::Alive });
    assert_eq!(world.engines.iter().take(2).map(|e| e.relay.wants()).sum::<usize>(), 1);
    world.publish(URI);
    assert_eq!(world.errors("news_lost"), 0);
    world.advance(LATE_MS + 1);
    world.meet();
    world.publish(URI);
    assert_eq!(ear.updates(&mut world), 1, "what happened while it was dead is lost on it");
    others.end(&mut world);
    // A new run begins with nothing.
    world.kill(1);
    world.meet();
    let before = world.letters(0, 1, "changed");
    world.publish(URI);
    assert_eq!(world.letters(0, 1, "changed"), before);
}

/// Random subscribers, changes, delays, full and broken links: nobody hears of a change twice, and if no link breaks
/// or stays full, everybody who waits for it hears of it.
#[test]
fn nobody_hears_twice_and_without_faults_everybody_hears_once() {
    for seed in 1..=80 {
        let faults = seed % 2 == 0;
        let mut world = World::with(Setup { seed, ..setup() });
        world.slow_mail = true;
        // Who listens, to what, since and until which change.
        let mut ears: Vec<(Sent, usize, usize, Option<usize>)> = Vec::new();
        let uri = |number: usize| format!("crane://{}/log?change={number}", number % 7);
        let mut published = 0;
        while published < 40 {
            let (shard, number) = (world.draw(6) as u16, world.draw(40));
            match world.draw(12) {
                0..=3 => {
                    let wanted =
                        json!({ "notifications": { "resourceSubscriptions": [uri(number)] } });
                    let ask = world.modern(1, "subscriptions/listen", wanted).on(shard);
                    ears.push((ask.send(), number, published, None));
                }
                4 => {
                    let index = world.draw(ears.len());
                    let Some((sent, _, _, until)) = ears.get_mut(index) else { continue };
                    let sent = *sent;
                    until.get_or_insert(published);
                    world.leave(sent);
                }
                5 | 6 => {
                    let node = world.draw(3);
                    world.nodes[node].handle.publish(Change::Resource(uri(published)));
                    published += 1;
                }
                7 => {
                    let ms = [1, 30, 100][world.draw(3)];
                    world.advance(ms);
                }
                8 if faults => {
                    let one = world.draw(3) as u16;
                    let other = (one + 1) % 3;
                    match world.draw(4) {
                        0 => world.lose_link(one, other),
                        1 => world.link(one, other),
                        2 => world.narrow(one, other, Urgency::Request),
                        _ => world.narrow(one, other, Urgency::Sync),
                    }
                }
                _ => {
                    for _ in 0..world.draw(30) {
                        world.step();
                    }
                }
            }
        }
        if faults {
            world.meet();
        }
        world.pump();
        world.advance(5 * CONFIRM_MS);
        world.pump();
        for (sent, number, since, until) in ears {
            let methods = world.heard(sent).methods();
            let heard = methods.iter().filter(|method| *method == UPDATED).count();
            assert!(heard <= 1, "seed {seed}: {sent:?} heard of {number} {heard} times");
            let waited = since <= number && until.is_none();
            if waited && !faults {
                assert_eq!(heard, 1, "seed {seed}: {sent:?} did not hear of {number}");
            }
            world.leave(sent);
        }
        world.pump();
        world.advance(5 * CONFIRM_MS);
        world.pump();
        assert_eq!(world.leftovers(), NOTHING, "seed {seed}");
        let wants: usize = world.engines.iter().map(|engine| engine.relay.wants()).sum();
        assert_eq!(wants, 0, "seed {seed}: nobody wants anything any more");
    }
}

// ---- Tasks ----

fn listen(yard: &mut Yard, shard: u16, id: &str) -> Sent {
    yard.send(shard, "subscriptions/listen", json!({ "notifications": { "taskIds": [id] } }))
}

/// The statuses that were told, in order.
fn statuses(yard: &Yard, sent: Sent) -> Vec<String> {
    let messages = yard.world.heard(sent).messages();
    let status = |message: &Value| message["params"]["status"].as_str().map(str::to_owned);
    messages.iter().filter_map(status).collect()
}

#[test]
fn tasks_are_heard_of_on_every_node() {
    let mut yard = Yard::with(setup());
    let id = yard.begin(3, "may");
    let streams: Vec<Sent> = (0..6).map(|shard| listen(&mut yard, shard, &id)).collect();
    yard.ask([form("a")], Some(json!("again")));
    yard.update(0, &id, json!({ "a-1": accept(1) }));
    yard.step(text("done").into_step());
    for sent in &streams {
        let expect = ["input_required", "working", "completed"];
        assert_eq!(statuses(&yard, *sent), expect, "on {}", sent.shard);
    }
    let late = listen(&mut yard, 0, &id);
    assert_eq!(statuses(&yard, late), ["completed"]);
    streams.into_iter().chain([late]).for_each(|sent| yard.world.leave(sent));
    yard.world.advance(4_000_000);
    assert_eq!(yard.world.leftovers(), NOTHING);
}

#[test]
fn the_end_of_a_task_is_heard_of_even_if_the_link_was_full_or_broke() {
    type Trouble = (fn(&mut World), fn(&mut World));
    let troubles: [Trouble; 3] = [
        (|w| w.narrow(1, 0, Urgency::Request), |w| w.narrow(1, 0, Urgency::Sync)),
        (|w| w.lose_link(0, 1), |w| w.link(0, 1)),
        // Under way when the link breaks.
        (
            |w| w.slow_mail = true,
            |w| {
                w.lose_link(0, 1);
                w.slow_mail = false;
                w.link(0, 1);
            },
        ),
    ];
    for (begin, end) in troubles {
        let mut yard = Yard::with(setup());
        let id = yard.begin(2, "may");
        let sent = listen(&mut yard, 0, &id);
        begin(&mut yard.world);
        let reply = yard.dock.take();
        assert!(reply.done(text("done")));
        yard.world.deliver(2, crate::engine::EngineMail::Answers);
        end(&mut yard.world);
        yard.world.pump();
        assert_eq!(statuses(&yard, sent), ["completed"]);
    }
}

#[test]
fn an_owner_that_was_told_nothing_is_not_promised_for() {
    let mut yard = Yard::with(setup());
    let id = yard.begin(2, "may");
    yard.world.narrow(0, 1, Urgency::Reply);
    let sent = listen(&mut yard, 0, &id);
    let first = yard.world.heard(sent).messages().remove(0);
    assert_eq!(first["params"]["notifications"], json!({}));
    // A dead node's subscribers are forgotten, and remembered when they say so again.
    yard.world.narrow(0, 1, Urgency::Sync);
    let sent = listen(&mut yard, 0, &id);
    yard.world.see(1, |node| if node == 0 { State::Dead } else { State::Alive });
    yard.world.lose_link(0, 1);
    yard.world.meet();
    yard.step(text("done").into_step());
    assert_eq!(statuses(&yard, sent), ["completed"]);
}
