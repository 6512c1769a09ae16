//! What becomes of a server when something happens to it. Its sockets are tested from outside, in `tests/`.

use super::*;
use crate::Server;

fn running() -> Running {
    let free = "127.0.0.1:0".parse().unwrap();
    let server = Server::new(erlmcp_catalog::demo().unwrap());
    server.listen(free).tcp(None).admin(None).start().unwrap()
}

#[track_caller]
fn check(events: impl IntoIterator<Item = Event>, expect: Exit, code: u8) {
    check_of(running(), events, expect, code);
}

#[track_caller]
fn check_of(running: Running, events: impl IntoIterator<Item = Event>, expect: Exit, code: u8) {
    for event in events {
        running.events.send(event).unwrap();
    }
    let exit = running.wait();
    assert_eq!((exit, exit.code()), (expect, code));
}

/// With a notice so long that only a hang reaches its end.
fn patient() -> Running {
    let mut config = crate::Config::default();
    config.server.listen = crate::config::Bind::parse("127.0.0.1:0").unwrap();
    (config.server.tcp, config.server.admin) = (crate::config::Bind::Off, crate::config::Bind::Off);
    config.server.drain_notice_ms = crate::config::DRAIN_NOTICE_MS_MAX;
    Server::new(erlmcp_catalog::demo().unwrap()).config(config).start().unwrap()
}

#[test]
fn a_notice_is_cut_short_by_who_must_not_wait() {
    let term = || Event::Signal(SIGTERM);
    check_of(patient(), [term(), term()], Exit::Aborted(SIGTERM), 143);
    check_of(patient(), [Event::Signal(SIGINT)], Exit::Drained, 0);
    check_of(patient(), [Event::Drain, term(), Event::StdioClosed], Exit::Drained, 0);
    check_of(patient(), [term(), died()], Exit::ShardDied, 70);
}

fn died() -> Event {
    Event::FleetEnded(Err(Panicked { shard: 1, message: "planned".to_owned() }))
}

#[test]
fn one_signal_drains() {
    check([Event::Signal(SIGTERM)], Exit::Drained, 0);
    check([Event::Signal(SIGINT)], Exit::Drained, 0);
}

#[test]
fn a_second_signal_says_so_in_the_exit_code() {
    // Both lie in the queue before the shards can have left.
    check([Event::Signal(SIGTERM), Event::Signal(SIGTERM)], Exit::Aborted(SIGTERM), 143);
    check([Event::Signal(SIGTERM), Event::Signal(SIGINT)], Exit::Aborted(SIGINT), 130);
}

#[test]
fn asking_to_drain_twice_is_asking_once() {
    check([Event::Drain, Event::Drain, Event::Signal(SIGHUP)], Exit::Drained, 0);
}

#[test]
fn a_signal_after_an_order_to_drain_is_no_second_signal() {
    check([Event::Drain, Event::Signal(SIGTERM)], Exit::Drained, 0);
    let twice = [Event::Drain, Event::Signal(SIGTERM), Event::Signal(SIGTERM)];
    check(twice, Exit::Aborted(SIGTERM), 143);
}

#[test]
fn a_dead_shard_ends_the_server_loudly() {
    check([died()], Exit::ShardDied, 70);
    check([Event::Drain, died()], Exit::ShardDied, 70);
}

#[test]
fn shards_that_leave_unasked_are_dead_too() {
    let running = running();
    running.tell_all(|| Mail::Abort);
    assert_eq!(running.wait(), Exit::ShardDied);
}

#[test]
fn sighup_without_a_catalog_file_changes_nothing() {
    check([Event::Signal(SIGHUP), Event::Signal(SIGTERM)], Exit::Drained, 0);
}

#[test]
fn addresses_are_printed_as_scripts_expect_them() {
    let addresses = Addresses {
        http: Some("127.0.0.1:8080".parse().unwrap()),
        tcp: None,
        admin: Some("[::1]:9464".parse().unwrap()),
        mesh: None,
    };
    assert_eq!(addresses.lines(), ["listening http 127.0.0.1:8080", "listening admin [::1]:9464"]);
}
