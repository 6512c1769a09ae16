//! A WebSocket echo server: the decoder and the writers behind blocking sockets, so that they can be
//! held to the Autobahn test suite itself. It has no limits to speak of and is no part of the server.
//!
//! ```text
//! cargo run --release -p erlmcp-protocol --example ws_echo -- 127.0.0.1:9002
//! pip install autobahntestsuite        # Python 2.7
//! echo '{"servers": [{"url": "ws://127.0.0.1:9002"}], "cases": ["*"],
//!        "exclude-cases": ["12.*", "13.*"], "outdir": "reports"}' > spec.json
//! wstest -m fuzzingclient -s spec.json
//! ```
//! Chapters 12 and 13 are about compression, which is never negotiated.

use std::io::{Error, ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use erlmcp_protocol::Parsed;
use erlmcp_protocol::http::write_upgrade;
use erlmcp_protocol::ws::{
    Decoder, Event, check_handshake, close, write_binary, write_close, write_pong, write_text,
};

const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
const RECEIVE_BYTES: usize = 2048;
const HEAD_BYTES_MAX: usize = 16 * 1024;

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9002".to_owned());
    let listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || {
            if let Err(err) = serve(stream) {
                eprintln!("{err}");
            }
        });
    }
    Ok(())
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut unread = Vec::new();
    upgrade(&mut stream, &mut unread)?;
    let mut decoder = Decoder::default();
    let mut out = Vec::new();
    loop {
        let (consumed, open) = answer(&mut decoder, &mut unread, &mut out);
        unread.drain(..consumed);
        stream.write_all(&out)?;
        out.clear();
        if !open {
            stream.shutdown(std::net::Shutdown::Write)?;
            // Closing with unread bytes would reset the connection and lose our close frame.
            std::io::copy(&mut stream, &mut std::io::sink())?;
            return Ok(());
        }
        if receive(&mut stream, &mut unread)? == 0 {
            return Ok(());
        }
    }
}

/// Echoes every message there is. Says how much it read, and whether the connection goes on.
fn answer(decoder: &mut Decoder, unread: &mut [u8], out: &mut Vec<u8>) -> (usize, bool) {
    let mut consumed = 0;
    loop {
        match decoder.read(&mut unread[consumed..], MESSAGE_BYTES_MAX) {
            Ok(Parsed::Partial) => return (consumed, true),
            Ok(Parsed::Complete(event, used)) => {
                consumed += used;
                match event {
                    Event::Text(payload) => write_text(out, payload.as_bytes()),
                    Event::Binary(payload) => write_binary(out, payload),
                    Event::Ping(payload) => write_pong(out, payload),
                    Event::Pong(_) | Event::Fragment => {}
                    Event::Close { code, .. } => {
                        write_close(out, code.unwrap_or(close::NORMAL), "");
                        return (consumed, false);
                    }
                }
            }
            Err(err) => {
                write_close(out, err.close_code(), &err.to_string());
                return (consumed, false);
            }
        }
    }
}

/// Just enough HTTP: fields by name, one each.
fn upgrade(stream: &mut TcpStream, unread: &mut Vec<u8>) -> std::io::Result<()> {
    let end = loop {
        if let Some(at) = unread.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break at + 4;
        }
        if HEAD_BYTES_MAX < unread.len() || receive(stream, unread)? == 0 {
            return Err(Error::new(ErrorKind::InvalidData, "no request"));
        }
    };
    let head = String::from_utf8_lossy(&unread[..end]).into_owned();
    unread.drain(..end);
    let field = |name: &str| {
        head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    };
    let line = head.lines().next().unwrap_or_default();
    let accept = check_handshake(
        line.starts_with("GET "),
        line.ends_with(" HTTP/1.1"),
        field("connection").is_some_and(|list| list.to_ascii_lowercase().contains("upgrade")),
        field("upgrade"),
        field("sec-websocket-version"),
        field("sec-websocket-key"),
    );
    let mut out = Vec::new();
    match accept {
        Ok(accept) => {
            write_upgrade(&mut out, &accept, None, None);
            stream.write_all(&out)
        }
        Err(err) => {
            write!(out, "HTTP/1.1 {} refused\r\nContent-Length: 0\r\n\r\n", err.status())?;
            stream.write_all(&out)?;
            Err(Error::new(ErrorKind::InvalidData, err))
        }
    }
}

fn receive(stream: &mut TcpStream, unread: &mut Vec<u8>) -> std::io::Result<usize> {
    let mut buffer = [0; RECEIVE_BYTES];
    let received = stream.read(&mut buffer)?;
    unread.extend_from_slice(&buffer[..received]);
    Ok(received)
}
