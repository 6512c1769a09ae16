//! What is kept, and what is told.

use crossbeam_channel::Receiver;
use erlmcp_cluster::view::{Member, State};

use super::*;

fn board() -> (Board, Receiver<Nudge>) {
    let (nudges, on_nudge) = crossbeam_channel::bounded(64);
    let seed = "127.0.0.1:7002".parse().unwrap();
    let nudge = move |nudge| nudges.try_send(nudge).unwrap();
    (Board::new(1, 9, vec![seed], nudge), on_nudge)
}

fn view(nodes: &[u16]) -> Arc<View> {
    let mut view = View::alone(1, 9, 1);
    for node in nodes {
        let addresses = vec![([127, 0, 0, 1], 7000 + *node).into()];
        let member =
            Member { node: *node, epoch: 3, incarnation: 0, state: State::Alive, addresses };
        view.members.push(member);
    }
    Arc::new(view)
}

#[test]
fn the_last_word_of_each_node_counts_and_its_age() {
    let (board, _) = board();
    let before = Instant::now();
    board.handle_status(2, b"old");
    board.handle_status(2, &[]);
    board.handle_status(3, b"nonsense");
    let reports = board.reports(before + Duration::from_secs(60));
    assert_eq!(reports.keys().copied().collect::<Vec<_>>(), [2, 3]);
    assert!(reports.values().all(|last| last.report.is_none()));
    assert!(reports[&2].age <= Duration::from_secs(60));
    assert!(Duration::from_secs(50) < reports[&2].age, "{:?}", reports[&2].age);
}

#[test]
fn nodes_nobody_knows_any_more_are_forgotten() {
    let (board, on_nudge) = board();
    board.handle_status(2, b"x");
    board.handle_status(3, b"x");
    board.handle_view(&view(&[3]));
    assert_eq!(on_nudge.try_recv(), Ok(Nudge::View(view(&[3]))));
    board.tidy();
    assert_eq!(board.reports(Instant::now()).keys().copied().collect::<Vec<_>>(), [3]);
    assert_eq!(board.view().peers().count(), 1);
}

#[test]
fn orders_are_passed_on() {
    let (board, on_nudge) = board();
    board.handle_order(4, Order::Drain);
    assert_eq!(on_nudge.try_recv(), Ok(Nudge::Order(4, Order::Drain)));
}

#[test]
fn reports_are_bounded_in_number_and_size() {
    let (board, _) = board();
    for node in 0..=REPORTS_MAX {
        board.handle_status(node as u16, b"x");
    }
    assert_eq!(board.reports(Instant::now()).len(), REPORTS_MAX);
    // Who is there already is still heard.
    board.handle_status(0, &vec![1; REPORT_BYTES_MAX]);
    board.handle_status(0, &vec![1; REPORT_BYTES_MAX + 1]);
    assert_eq!(board.lock()[&0].bytes.len(), REPORT_BYTES_MAX);
}

#[test]
fn a_shard_does_not_wait_for_a_reader() {
    let (board, _) = board();
    let reader = board.lock();
    board.handle_status(2, b"x");
    drop(reader);
    assert!(board.reports(Instant::now()).is_empty());
}
