//! The admin listener over a real socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering as Atomic};
use std::time::{Duration, Instant};

use erlmcp_protocol::http::Access;
use erlmcp_shards::stats::ShardSnapshot;

use super::CONNECTIONS_MAX;
use crate::control::{AdminSeat, Control, StatusView};
use crate::leaving::Stage;

/// Only a hang reaches it.
const HANG: Duration = Duration::from_secs(20);

struct Rig {
    control: Control,
    address: SocketAddr,
    drains: Arc<AtomicUsize>,
}

fn rig() -> Rig {
    let control = Control::start().unwrap();
    let drains = Arc::new(AtomicUsize::new(0));
    let on_drain = drains.clone();
    let seat = AdminSeat {
        listener: Some(StdListener::bind("127.0.0.1:0").unwrap()),
        access: Access::new(&[], &["ops.example".to_owned()]).unwrap(),
        collect: Arc::new(|| {
            let mut shard = ShardSnapshot {
                shard: 0,
                core: Some(3),
                capacity: 50,
                mesh: None,
                counters: Default::default(),
                ring: Vec::new(),
            };
            shard.counters.connections_active = [2, 1, 0, 0];
            vec![shard]
        }),
        shards: 1,
        on_drain: Box::new(move || {
            on_drain.fetch_add(1, Atomic::Relaxed);
        }),
        cluster: None,
    };
    let address = control.serve_admin(seat).unwrap().unwrap();
    Rig { control, address, drains }
}

impl Rig {
    fn connect(&self) -> StdStream {
        let stream = StdStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(HANG)).unwrap();
        stream
    }

    /// Sends and reads until the server closes.
    fn send(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // A close with unread input behind it may arrive as a reset; what was read before counts.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }

    #[track_caller]
    fn check(&self, method: &str, path: &str, status: u16, body: &str) {
        let answer = self.send(&format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        ));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains(body), "{answer}");
    }
}

#[test]
fn every_endpoint_answers_and_others_are_named() {
    let rig = rig();
    rig.check("GET", "/livez", 200, "ok");
    rig.check("GET", "/readyz", 200, "ready");
    rig.check(
        "GET",
        "/metrics",
        200,
        "erlmcp_connections_active{shard=\"0\",transport=\"http\"} 2",
    );
    rig.check("GET", "/metrics", 200, "Content-Type: application/openmetrics-text; version=1.0.0");
    rig.check("GET", "/status", 200, "\"connections\":3");
    rig.check("GET", "/nothing", 404, "/metrics, /livez");
    rig.check("POST", "/metrics", 405, "Allow: GET");
    rig.check("GET", "/drain", 405, "Allow: POST");
    assert_eq!(rig.drains.load(Atomic::Relaxed), 0);
    rig.check("POST", "/drain", 202, "draining");
    assert_eq!(rig.drains.load(Atomic::Relaxed), 1);
}

#[test]
fn status_is_the_document_the_command_reads() {
    let answer = rig().send("GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let view: StatusView = serde_json::from_str(body).unwrap();
    assert_eq!((view.total.connections, view.total.http, view.total.websocket), (3, 2, 1));
    assert_eq!(view.total.capacity, 50);
    assert_eq!(view.shards[0].core, Some(3));
    assert!(!view.draining);
}

#[test]
fn a_draining_server_is_alive_and_not_ready() {
    let rig = rig();
    let until = Instant::now() + HANG;
    let stages = [
        (Stage::Notice { until }, "ms; still serving\n", "\"leaving\":{\"stage\":\"notice\","),
        (Stage::Drain { until }, "\r\n\r\ndraining\n", "\"leaving\":{\"stage\":\"drain\","),
        (Stage::Abort, "\r\n\r\ndraining\n", "\"leaving\":{\"stage\":\"abort\",\"left_ms\":0}"),
    ];
    rig.check("GET", "/status", 200, "\"draining\":false,\"shards_expected\"");
    for (stage, ready, status) in stages {
        rig.control.set_stage(stage);
        rig.check("GET", "/readyz", 503, ready);
        rig.check("GET", "/livez", 200, "ok");
        rig.check("GET", "/status", 200, "\"draining\":true");
        rig.check("GET", "/status", 200, status);
    }
}

#[test]
fn pages_in_browsers_are_refused() {
    let rig = rig();
    let send = |fields: &str| {
        rig.send(&format!("POST /drain HTTP/1.1\r\n{fields}Connection: close\r\n\r\n"))
    };
    for denied in ["Host: evil.example\r\n", "Host: localhost\r\nOrigin: https://evil.example\r\n"]
    {
        let answer = send(denied);
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    }
    assert_eq!(rig.drains.load(Atomic::Relaxed), 0);
    for allowed in ["Host: 127.0.0.1:9\r\n", "Host: ops.example\r\n"] {
        let answer = send(allowed);
        assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    }
}

#[test]
fn requests_on_one_connection_are_answered_in_order() {
    let answer = rig().send(
        "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\nGET /readyz HTTP/1.1\r\nHost: localhost\r\n\
         Connection: close\r\n\r\n",
    );
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
    assert!(answer.find("\r\n\r\nok\n").unwrap() < answer.find("\r\n\r\nready\n").unwrap());
}

#[test]
fn a_request_byte_by_byte_is_a_request() {
    let rig = rig();
    let mut stream = rig.connect();
    stream.set_nodelay(true).unwrap();
    for byte in b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" {
        stream.write_all(&[*byte]).unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn what_is_too_large_or_not_http_is_refused_and_closed() {
    let rig = rig();
    let answer = rig.send("nonsense\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let long = format!("GET /livez HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(9000));
    let answer = rig.send(&long);
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let answer =
        rig.send("POST /drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1025\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(rig.drains.load(Atomic::Relaxed), 0);
}

#[test]
fn connections_are_bounded_and_room_comes_back() {
    let rig = rig();
    let ask = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut answer = [0; 512];
    let mut guests: Vec<StdStream> = (0..CONNECTIONS_MAX).map(|_| rig.connect()).collect();
    for guest in &mut guests {
        guest.write_all(ask).unwrap();
        assert_ne!(guest.read(&mut answer).unwrap(), 0);
    }
    // One more is closed without an answer.
    let mut extra = rig.connect();
    let _ = extra.write_all(ask);
    assert!(matches!(extra.read(&mut answer), Ok(0) | Err(_)));
    guests.pop();
    // The server notices the close in its own time.
    let deadline = std::time::Instant::now() + HANG;
    loop {
        let mut next = rig.connect();
        let _ = next.write_all(ask);
        if matches!(next.read(&mut answer), Ok(count) if count != 0) {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "no room came back");
    }
}

#[test]
fn stopping_closes_the_listener_and_its_connections() {
    let rig = rig();
    let mut stream = rig.connect();
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = [0; 512];
    assert_ne!(stream.read(&mut answer).unwrap(), 0);
    let address = rig.address;
    rig.control.stop();
    assert!(matches!(stream.read(&mut answer), Ok(0) | Err(_)));
    assert!(StdStream::connect(address).is_err());
}
