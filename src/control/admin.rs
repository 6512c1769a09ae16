//! The admin listener: `/metrics`, `/livez`, `/readyz`, `/status`, `POST /drain`, and the sample that is taken of the
//! shards every second, which in a cluster the other nodes are told.
//!
//! Requests are read by the protocol's own reader, with the same strictness as clients'. Bounded: connections,
//! sizes, time per request. A page in a browser cannot drain the server: `Origin` and `Host` are checked.

use std::cell::{Cell, RefCell};
use std::os::fd::{FromRawFd, IntoRawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use erlmcp_protocol::Parsed;
use erlmcp_protocol::http::{
    Access, HttpError, Limits, Method, Request, RequestReader, ResponseHead, write_response,
};
use erlmcp_shards::engine::EngineMail;
use erlmcp_shards::message::Mail;
use erlmcp_shards::stats::ShardSnapshot;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};

use super::future_queue::spawn;
use super::nodes::cluster_view;
use super::orders::{Ordered, drain_node};
use super::sample::Rates;
use super::{
    AdminSeat, ClusterSeat, Collect, LeavingStage, LeavingView, SharedStage, metrics, status,
};
use crate::cluster::Report;
use crate::leaving::Stage;

/// Connections at once; one more is closed unanswered.
const CONNECTIONS_MAX: usize = 64;
/// Requests have small heads and no bodies.
const LIMITS: Limits = Limits { head_bytes_max: 8 * 1024, body_bytes_max: 1024 };
/// A request must be whole, and its answer taken, within this; an idle connection goes after it too.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two samples for rates.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// After an accept that failed (descriptors run out), before the next one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

struct Admin {
    access: Access,
    collect: Collect,
    shards: usize,
    on_drain: Box<dyn Fn() + Send>,
    cluster: Option<ClusterSeat>,
    stage: Arc<SharedStage>,
    started: Instant,
    rates: RefCell<Rates>,
    connections: Cell<usize>,
}

/// Serves until the executor ends.
pub async fn serve(seat: AdminSeat, stage: Arc<SharedStage>, started: Instant) {
    let AdminSeat { listener, access, collect, shards, on_drain, cluster } = seat;
    let admin = Rc::new(Admin {
        access,
        collect,
        shards,
        on_drain,
        cluster,
        stage,
        started,
        rates: RefCell::default(),
        connections: Cell::new(0),
    });
    spawn(Box::pin(sample(admin.clone())));
    if let Some(listener) = listener {
        listen(listener, admin).await;
    }
}

async fn listen(listener: std::net::TcpListener, admin: Rc<Admin>) {
    let _closing = match listener.try_clone() {
        Ok(twin) => Closing(twin),
        Err(err) => return log::error!("admin listener: {err}"),
    };
    // SAFETY: `into_raw_fd` gives up an open, listening socket; nobody else owns it from here on. glommio's own
    // `bind` is refused because it sets SO_REUSEPORT: two servers would share the port without a word.
    let listener = unsafe { TcpListener::from_raw_fd(listener.into_raw_fd()) };
    loop {
        match listener.accept().await {
            Ok(stream) => {
                if CONNECTIONS_MAX <= admin.connections.get() {
                    continue;
                }
                let guest = Guest::enter(admin.clone());
                spawn(Box::pin(guest.serve(stream)));
            }
            Err(err) => {
                log::warn!("admin listener: {err}");
                glommio::timer::Timer::new(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Stops listening when dropped. Closing is not enough: the accept in flight holds the socket until the kernel
/// has taken the ring apart, some time after we are gone.
struct Closing(std::net::TcpListener);

impl Drop for Closing {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&self.0, rustix::net::Shutdown::Both);
    }
}

async fn sample(admin: Rc<Admin>) {
    loop {
        let shards = admin.snapshots().await;
        admin.rates.borrow_mut().handle_sample(Instant::now(), &shards);
        admin.publish(&shards);
        let missing = admin.shards.saturating_sub(shards.len());
        if missing != 0 && !admin.stage().has_begun_to_drain() {
            log::warn!("{missing} of {} shards did not report in time", admin.shards);
        }
        glommio::timer::Timer::new(SAMPLE_EVERY).await;
    }
}

/// One connection, counted while it lives.
struct Guest {
    admin: Rc<Admin>,
}

impl Guest {
    fn enter(admin: Rc<Admin>) -> Self {
        admin.connections.set(admin.connections.get() + 1);
        Self { admin }
    }

    async fn serve(self, mut stream: TcpStream) {
        let patient = stream
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
        if patient.is_err() {
            return;
        }
        let mut reader = RequestReader::default();
        let mut input: Vec<u8> = Vec::new();
        let mut chunk = vec![0; 4096];
        loop {
            let (answer, consumed) = match reader.read(&mut input, &LIMITS) {
                Ok(Parsed::Partial) => {
                    match stream.read(&mut chunk).await {
                        Ok(0) | Err(_) => return,
                        Ok(count) => input.extend_from_slice(&chunk[..count]),
                    }
                    continue;
                }
                Ok(Parsed::Complete(request, consumed)) => {
                    (self.admin.answer(&request).await, consumed)
                }
                Err(err) => (refusal(&err), input.len()),
            };
            input.drain(..consumed);
            if stream.write_all(&answer.bytes).await.is_err() || !answer.keep_alive {
                return;
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.admin.connections.set(self.admin.connections.get() - 1);
    }
}

struct Answer {
    bytes: Vec<u8>,
    keep_alive: bool,
}

impl Admin {
    async fn answer(&self, request: &Request<'_>) -> Answer {
        let head = &request.head;
        let keep_alive = head.keep_alive;
        if let Err(denied) = self.access.check(head) {
            return plain(403, keep_alive, None, &format!("{denied}\n"));
        }
        let allowed = if head.path == "/drain" { Method::Post } else { Method::Get };
        if !matches!(head.path, "/metrics" | "/livez" | "/readyz" | "/status" | "/drain") {
            return plain(
                404,
                keep_alive,
                None,
                "there are /metrics, /livez, /readyz, /status and POST /drain\n",
            );
        }
        if head.method != allowed {
            let allow = if allowed == Method::Post { "POST" } else { "GET" };
            return plain(405, keep_alive, Some(allow), "method not allowed\n");
        }
        match head.path {
            "/livez" => plain(200, keep_alive, None, "ok\n"),
            "/readyz" => {
                let (status, text) = self.ready(Instant::now());
                plain(status, keep_alive, None, &text)
            }
            "/metrics" => self.metrics(keep_alive).await,
            "/status" => self.status(keep_alive).await,
            _ => self.drain(head.query_value("node").as_deref(), keep_alive).await,
        }
    }

    /// A node that finds none of its peers is ready all the same: it serves every request there is, and a cluster
    /// must be able to begin with somebody.
    fn ready(&self, now: Instant) -> (u16, String) {
        match LeavingView::of(self.stage(), now) {
            Some(LeavingView { stage: LeavingStage::Notice, left_ms }) => {
                return (503, format!("draining in {left_ms} ms; still serving\n"));
            }
            Some(_) => return (503, "draining\n".to_owned()),
            None => {}
        }
        let Some(ClusterSeat { board, .. }) = &self.cluster else {
            return (200, "ready\n".to_owned());
        };
        let text = match (board.view().peers().count(), board.seeds()) {
            (0, 0) => "ready: the first node of its cluster\n".to_owned(),
            (0, seeds) => format!(
                "ready: alone, none of {seeds} peers has been found yet; requests and new sessions are served \
                 here meanwhile\n"
            ),
            (peers, _) => format!("ready: in a cluster of {}\n", peers + 1),
        };
        (200, text)
    }

    async fn drain(&self, node: Option<&str>, keep_alive: bool) -> Answer {
        match drain_node(node, self.cluster.as_ref()).await {
            Ordered::Own => {
                (self.on_drain)();
                whole(202, keep_alive, "application/json", None, b"{\"draining\":true}\n")
            }
            Ordered::Told(node) => {
                let body = format!("{{\"draining\":true,\"node\":{node}}}\n");
                whole(202, keep_alive, "application/json", None, body.as_bytes())
            }
            Ordered::Refused(status, why) => plain(status, keep_alive, None, &why),
        }
    }

    /// Tells the other nodes how this one fares. A letter that finds no room is not missed for long.
    fn publish(&self, shards: &[ShardSnapshot]) {
        if let Some(seat) = &self.cluster
            && let Some(bytes) = self.report(shards, seat).write()
        {
            let _ = seat.lead.send(Mail::Engine(EngineMail::Publish(bytes)));
        }
    }

    fn report(&self, shards: &[ShardSnapshot], seat: &ClusterSeat) -> Report {
        Report::of(
            shards,
            &self.rates.borrow(),
            self.shards,
            self.started.elapsed(),
            !self.stage().is_ready(),
            seat.board.epoch(),
        )
    }

    async fn metrics(&self, keep_alive: bool) -> Answer {
        let shards = self.snapshots().await;
        let uptime = self.started.elapsed().as_secs_f64();
        let view = self.cluster.as_ref().map(|seat| seat.board.view());
        match metrics::render(shards, metrics::resident_bytes(), uptime, view) {
            Ok(text) => whole(200, keep_alive, metrics::CONTENT_TYPE, None, text.as_bytes()),
            Err(err) => plain(500, keep_alive, None, &format!("{err}\n")),
        }
    }

    async fn status(&self, keep_alive: bool) -> Answer {
        let shards = self.snapshots().await;
        let mut view = status::view(
            &shards,
            &self.rates.borrow(),
            self.shards,
            self.started.elapsed(),
            LeavingView::of(self.stage(), Instant::now()),
        );
        view.cluster = self
            .cluster
            .as_ref()
            .map(|seat| cluster_view(&seat.board, self.report(&shards, seat), Instant::now()));
        match serde_json::to_vec(&view) {
            Ok(json) => whole(200, keep_alive, "application/json", None, &json),
            Err(err) => plain(500, keep_alive, None, &format!("{err}\n")),
        }
    }

    fn stage(&self) -> Stage {
        **self.stage.load()
    }

    async fn snapshots(&self) -> Vec<ShardSnapshot> {
        let mut shards = super::snapshots(&self.collect).await;
        shards.sort_unstable_by_key(|shard| shard.shard);
        shards
    }
}

fn refusal(err: &HttpError) -> Answer {
    plain(err.status(), false, None, &format!("{err}\n"))
}

fn plain(status: u16, keep_alive: bool, allow: Option<&str>, text: &str) -> Answer {
    whole(status, keep_alive, "text/plain; charset=utf-8", allow, text.as_bytes())
}

fn whole(
    status: u16,
    keep_alive: bool,
    content_type: &str,
    allow: Option<&str>,
    body: &[u8],
) -> Answer {
    let mut bytes = Vec::new();
    let head = ResponseHead {
        status,
        content_type: Some(content_type),
        allow,
        extra: &[("Cache-Control", "no-store")],
        keep_alive,
        ..ResponseHead::default()
    };
    write_response(&mut bytes, &head, body);
    Answer { bytes, keep_alive }
}

#[cfg(test)]
#[path = "admin_tests.rs"]
mod tests;
