//! `POST /drain?node=N`: an order for this node, or for another one through this one's links.

use std::time::{Duration, Instant};

use crossbeam_channel::TryRecvError;
use erlmcp_cluster::letter::Order;
use erlmcp_cluster::view::State;
use erlmcp_shards::engine::EngineMail;
use erlmcp_shards::message::Mail;

use super::{ClusterSeat, LOOK};

/// How long the first shard may take to say whether an order left.
const PATIENCE: Duration = Duration::from_secs(1);

/// What became of an order.
pub enum Ordered {
    /// It is this node that is meant.
    Own,
    /// It is on its way to that node.
    Told(u16),
    /// It is not: HTTP status, and why.
    Refused(u16, String),
}

/// Passes a drain on to a node. `None`, or this node's own number: this one.
pub async fn drain_node(node: Option<&str>, cluster: Option<&ClusterSeat>) -> Ordered {
    let Some(text) = node else { return Ordered::Own };
    let node = match crate::config::parse_node(text) {
        Ok(node) => node,
        Err(why) => return Ordered::Refused(400, format!("node: {why}\n")),
    };
    let Some(seat) = cluster else {
        return Ordered::Refused(404, "this server is in no cluster\n".to_owned());
    };
    if node == seat.board.me() {
        return Ordered::Own;
    }
    let view = seat.board.view();
    match view.member(node).map(|member| member.state) {
        None => {
            let known: Vec<String> =
                view.members.iter().map(|member| member.node.to_string()).collect();
            let why = format!("there is no node {node}; there are {}\n", known.join(", "));
            return Ordered::Refused(404, why);
        }
        Some(State::Dead) => return Ordered::Refused(409, format!("node {node} is dead\n")),
        Some(State::Alive | State::Suspect | State::Leaving) => {}
    }
    if tell(seat, node, Order::Drain).await {
        Ordered::Told(node)
    } else {
        let why = format!("node {node} cannot be reached from here now; try again\n");
        Ordered::Refused(503, why)
    }
}

/// Whether the order left for that node.
async fn tell(seat: &ClusterSeat, node: u16, order: Order) -> bool {
    let (left, has_left) = crossbeam_channel::bounded(1);
    let mail = Mail::Engine(EngineMail::Order { node, order, left });
    if seat.lead.send(mail).is_err() {
        return false;
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        match has_left.try_recv() {
            Ok(has_left) => return has_left,
            Err(TryRecvError::Disconnected) => return false,
            Err(TryRecvError::Empty) if deadline <= Instant::now() => return false,
            Err(TryRecvError::Empty) => glommio::timer::sleep(LOOK).await,
        }
    }
}
