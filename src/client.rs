//! `status` and `drain`: the command line's side of the admin listener.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::cli::{DrainArgs, StatusArgs};
use crate::control::{ShardView, StatusView};

/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Far more than any answer of ours.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Between two looks of `--watch`.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// `erlmcp-shard status`.
pub fn status(args: &StatusArgs) -> Result<(), String> {
    loop {
        let body = request(&args.admin, "GET", "/status")?;
        let text = if args.json {
            body + "\n"
        } else {
            let view: StatusView = serde_json::from_str(&body).map_err(|err| {
                format!("{} does not answer like this version: {err}", args.admin)
            })?;
            table(&view, args.shards)
        };
        let mut stdout = io::stdout().lock();
        let clear = if args.watch && !args.json && stdout.is_terminal() { CLEAR } else { "" };
        if write!(stdout, "{clear}{text}").and_then(|()| stdout.flush()).is_err() {
            // Whoever read us has seen enough.
            return Ok(());
        }
        if !args.watch {
            return Ok(());
        }
        std::thread::sleep(WATCH_EVERY);
    }
}

/// Cursor home, screen cleared.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// `erlmcp-shard drain`.
pub fn drain(args: &DrainArgs) -> Result<(), String> {
    request(&args.admin, "POST", "/drain")?;
    println!("draining");
    Ok(())
}

/// One request, one answer; anything but success is an error that says so.
fn request(admin: &str, method: &str, path: &str) -> Result<String, String> {
    let answer = exchange(admin, method, path).map_err(|err| {
        format!("cannot reach a server at {admin}: {err}. Is it running? See --admin")
    })?;
    let text = String::from_utf8_lossy(&answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return Err(format!("{admin} does not speak HTTP"));
    };
    let status = head.split_ascii_whitespace().nth(1).unwrap_or_default();
    match status {
        "200" | "202" => Ok(body.to_owned()),
        _ => Err(format!("{admin} answered {status}: {}", body.trim())),
    }
}

fn exchange(admin: &str, method: &str, path: &str) -> io::Result<Vec<u8>> {
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "write it as IP:PORT");
    for address in admin.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(mut stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                write!(
                    stream,
                    "{method} {path} HTTP/1.1\r\nHost: {admin}\r\nContent-Length: 0\r\n\
                     Connection: close\r\n\r\n"
                )?;
                let mut answer = Vec::new();
                stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
                return Ok(answer);
            }
            Err(err) => last = err,
        }
    }
    Err(last)
}

/// One line for everything, and one per shard if asked.
fn table(view: &StatusView, with_shards: bool) -> String {
    let state = if view.draining { "draining" } else { "ready" };
    let mut out = format!(
        "erlmcp-shard {}  pid {}  up {}  {state}  {} of {} shards answer\n",
        view.version,
        view.pid,
        duration(view.uptime_s),
        view.shards.len(),
        view.shards_expected
    );
    let _ = writeln!(
        out,
        "{:<12} {:>9} {:>9} {:>8} {:>7} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "", "CONNS", "ROOM", "SESSIONS", "STREAMS", "IN/S", "OUT/S", "P50", "P95", "P99", "ERRORS"
    );
    line(&mut out, "total", &view.total);
    if with_shards {
        for shard in &view.shards {
            let number = shard.shard.map_or_else(String::new, |shard| shard.to_string());
            let name = match shard.core {
                Some(core) => format!("{number} (core {core})"),
                None => number,
            };
            line(&mut out, &name, shard);
        }
    }
    out
}

fn line(out: &mut String, name: &str, view: &ShardView) {
    let latency = view.latency_us;
    let _ = writeln!(
        out,
        "{name:<12} {:>9} {:>9} {:>8} {:>7} {:>8.0} {:>8.0} {:>8} {:>8} {:>8} {:>8}",
        view.connections,
        view.capacity,
        view.sessions,
        view.streams,
        view.rate_in,
        view.rate_out,
        micros(latency.p50),
        micros(latency.p95),
        micros(latency.p99),
        view.errors
    );
}

fn micros(value: u64) -> String {
    match value {
        0..1_000 => format!("{value}us"),
        1_000..1_000_000 => format!("{:.1}ms", value as f64 / 1e3),
        _ => format!("{:.1}s", value as f64 / 1e6),
    }
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
