//! Who asks what, and when: every way from serving to gone, without waiting for any of it.

use signal_hook::consts::SIGTERM;

use super::*;

const TERM: Ask = Ask::Signal(SIGTERM);
const INT: Ask = Ask::Signal(SIGINT);
const NOTICE_MS: u64 = 2_000;
const DRAIN_MS: u64 = 10_000;

/// What happens, milliseconds after the beginning, and what is to be done then.
enum At {
    Ask(u64, Ask, Option<Step>),
    Time(u64, Option<Step>),
}
use At::{Ask as Asks, Time};

/// Plays it, and looks at each timeout from both sides: a nanosecond before it nothing is to be done.
#[track_caller]
fn check(notice_ms: u64, story: &[At], exit: Exit) {
    let ms = Duration::from_millis;
    let mut leaving = Leaving::new(Plan { notice: ms(notice_ms), drain: ms(DRAIN_MS) });
    let start = Instant::now();
    for (number, at) in story.iter().enumerate() {
        let (got, expect) = match at {
            Asks(after, ask, expect) => (leaving.handle_ask(start + ms(*after), *ask), expect),
            Time(after, expect) => {
                let now = start + ms(*after);
                if expect.is_some() {
                    assert_eq!(leaving.poll_timeout(), Some(now), "number {number}");
                    let before = now - Duration::from_nanos(1);
                    assert_eq!(leaving.handle_timeout(before), None, "before number {number}");
                }
                (leaving.handle_timeout(now), expect)
            }
        };
        assert_eq!(got, *expect, "number {number}");
    }
    assert_eq!(leaving.exit(), exit);
}

#[test]
fn nobody_asks_and_nothing_happens() {
    check(NOTICE_MS, &[Time(0, None), Time(1_000_000_000, None)], Exit::Drained);
    assert_eq!(Leaving::new(Plan::of(&ServerConfig::default())).poll_timeout(), None);
}

#[test]
fn without_a_notice_whoever_asks_begins_the_drain() {
    for ask in [TERM, INT, Ask::Order, Ask::StdinEnd] {
        let story = [
            Asks(5, ask, Some(Step::Drain)),
            Time(12_005, Some(Step::Abort)),
            Time(14_005, Some(Step::GiveUp)),
        ];
        check(0, &story, Exit::Drained);
    }
}

#[test]
fn the_drain_has_all_its_time_after_the_notice() {
    for ask in [TERM, Ask::Order] {
        let story = [
            Asks(5, ask, Some(Step::Notice)),
            Time(2_005, Some(Step::Drain)),
            Time(14_005, Some(Step::Abort)),
            Time(16_005, Some(Step::GiveUp)),
        ];
        check(NOTICE_MS, &story, Exit::Drained);
    }
}

#[test]
fn a_person_and_a_client_that_left_are_not_made_to_wait() {
    for ask in [INT, Ask::StdinEnd] {
        check(NOTICE_MS, &[Asks(5, ask, Some(Step::Drain))], Exit::Drained);
        let story = [
            Asks(5, Ask::Order, Some(Step::Notice)),
            Asks(700, ask, Some(Step::Drain)),
            Time(2_005, None),
            Time(12_700, Some(Step::Abort)),
        ];
        check(NOTICE_MS, &story, Exit::Drained);
    }
}

#[test]
fn a_second_signal_ends_it_at_once_wherever_it_is() {
    for (first, step) in [(TERM, Step::Notice), (INT, Step::Drain), (Ask::StdinEnd, Step::Drain)] {
        for signal in [SIGTERM, SIGINT] {
            let story = [
                Asks(5, first, Some(step)),
                Asks(6, Ask::Signal(signal), Some(Step::Abort)),
                Asks(7, TERM, None),
                Time(2_005, None),
                Time(2_006, Some(Step::GiveUp)),
            ];
            check(NOTICE_MS, &story, Exit::Aborted(signal));
        }
    }
    let late = [
        Asks(0, TERM, Some(Step::Notice)),
        Time(2_000, Some(Step::Drain)),
        Asks(2_001, TERM, Some(Step::Abort)),
    ];
    check(NOTICE_MS, &late, Exit::Aborted(SIGTERM));
}

#[test]
fn asking_again_neither_shortens_nor_lengthens_anything() {
    let story = [
        Asks(0, TERM, Some(Step::Notice)),
        Asks(900, Ask::Order, None),
        Time(2_000, Some(Step::Drain)),
        Asks(2_001, Ask::Order, None),
        Asks(2_002, Ask::StdinEnd, None),
        Time(14_000, Some(Step::Abort)),
        Asks(14_001, Ask::Order, None),
        Asks(14_002, TERM, None),
        Time(16_000, Some(Step::GiveUp)),
    ];
    check(NOTICE_MS, &story, Exit::Drained);
}

#[test]
fn the_signal_that_follows_an_order_is_no_second_one() {
    for (notice_ms, step) in [(0, Step::Drain), (NOTICE_MS, Step::Notice)] {
        let story = [
            Asks(0, Ask::Order, Some(step)),
            Asks(1, TERM, None),
            Asks(2, TERM, Some(Step::Abort)),
        ];
        check(notice_ms, &story, Exit::Aborted(SIGTERM));
    }
}

#[test]
fn no_more_time_is_asked_for_than_is_taken() {
    let ms = Duration::from_millis;
    let plan = Plan { notice: ms(NOTICE_MS), drain: ms(DRAIN_MS) };
    let mut leaving = Leaving::new(plan);
    let start = Instant::now();
    assert_eq!(leaving.handle_ask(start, TERM), Some(Step::Notice));
    let end = start + plan.rest(leaving.stage());
    for step in [Step::Drain, Step::Abort, Step::GiveUp] {
        let now = leaving.poll_timeout().unwrap();
        assert_eq!(leaving.handle_timeout(now), Some(step));
        if step == Step::Drain {
            assert_eq!(now + plan.rest(leaving.stage()), end);
        }
    }
    assert_eq!(leaving.poll_timeout(), Some(end));
}

#[test]
fn where_nobody_can_ask_there_is_no_notice() {
    let on = ServerConfig::default().listen;
    for (listen, admin, notice_ms) in
        [(on, on, 700), (on, Bind::Off, 700), (Bind::Off, on, 700), (Bind::Off, Bind::Off, 0)]
    {
        let server = ServerConfig { listen, admin, drain_notice_ms: 700, ..Default::default() };
        assert_eq!(Plan::of(&server).notice, Duration::from_millis(notice_ms));
    }
}

#[test]
fn only_a_node_that_serves_is_ready_and_shards_leave_only_in_a_drain() {
    let until = Instant::now();
    let stages = [
        (Stage::Serving, true, false),
        (Stage::Notice { until }, false, false),
        (Stage::Drain { until }, false, true),
        (Stage::Abort, false, true),
    ];
    for (stage, is_ready, drains) in stages {
        assert_eq!((stage.is_ready(), stage.has_begun_to_drain()), (is_ready, drains), "{stage:?}");
    }
}
