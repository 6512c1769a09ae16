//! `status` and `drain`: the command line's side of the admin listener.

use std::io::{self, IsTerminal, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::cli::{DrainArgs, StatusArgs};
use crate::control::StatusView;
use crate::table::table;

/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Far more than any answer of ours.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Between two looks of `--watch`.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// `erlmcp-shard status`.
pub fn status(args: &StatusArgs) -> Result<(), String> {
    let mut is_first = true;
    loop {
        let text = match look(args) {
            Ok(text) => text,
            // Whoever watches wants to see it come back.
            Err(why) if args.watch && !is_first => why + "\n",
            Err(why) => return Err(why),
        };
        is_first = false;
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

fn look(args: &StatusArgs) -> Result<String, String> {
    let body = request(&args.admin, "GET", "/status")?;
    if args.json {
        return Ok(body + "\n");
    }
    let view: StatusView = serde_json::from_str(&body)
        .map_err(|err| format!("{} does not answer like this version: {err}", args.admin))?;
    Ok(table(&view, args.shards))
}

/// Cursor home, screen cleared.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// `erlmcp-shard drain`.
pub fn drain(args: &DrainArgs) -> Result<(), String> {
    match args.node {
        None => {
            request(&args.admin, "POST", "/drain")?;
            println!("draining");
        }
        Some(node) => {
            request(&args.admin, "POST", &format!("/drain?node={node}"))?;
            println!("draining node {node}");
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_not_there_is_an_error_with_advice() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let err = request(&address, "GET", "/status").unwrap_err();
        assert!(err.contains(&address) && err.contains("Is it running?"), "{err}");
    }
}
