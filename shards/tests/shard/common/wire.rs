//! The client's side of HTTP and WebSocket, as little of it as tests need.

/// One HTTP response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Response {
    pub fn says_close(&self) -> bool {
        self.head.contains("\r\nConnection: close\r\n")
    }
}

/// Whole responses at the front of `bytes`, in order; the rest stays. A body without length or chunks ends
/// where the bytes do.
pub fn take_responses(bytes: &mut Vec<u8>) -> Vec<Response> {
    let mut responses = Vec::new();
    while let Some((response, used)) = parse_response(bytes) {
        responses.push(response);
        bytes.drain(..used);
    }
    responses
}

pub fn parse_response(bytes: &[u8]) -> Option<(Response, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8(bytes[..end].to_vec()).expect("a head is text");
    let status = head[9..12].parse().expect("a status");
    let field = |name: &str| {
        head.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
    };
    let (body, used) = if let Some(length) = field("Content-Length:") {
        let length: usize = length.parse().expect("a length");
        (bytes.get(end..end + length)?.to_vec(), end + length)
    } else if field("Transfer-Encoding:").is_some() {
        take_chunks(bytes, end)?
    } else if matches!(status, 100..=199 | 204 | 304) {
        (Vec::new(), end)
    } else {
        (bytes[end..].to_vec(), bytes.len())
    };
    Some((Response { status, head, body }, used))
}

fn take_chunks(bytes: &[u8], mut at: usize) -> Option<(Vec<u8>, usize)> {
    let mut body = Vec::new();
    loop {
        let line = bytes[at..].windows(2).position(|two| two == b"\r\n")?;
        let digits = std::str::from_utf8(&bytes[at..at + line]).expect("a chunk size");
        let size = usize::from_str_radix(digits, 16).expect("a chunk size");
        at += line + 2;
        body.extend_from_slice(bytes.get(at..at + size)?);
        at += size + 2;
        if bytes.len() < at {
            return None;
        }
        if size == 0 {
            return Some((body, at));
        }
    }
}

/// A request with a body (or without, when empty).
pub fn request(method: &str, target: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

pub fn post(target: &str, body: &[u8]) -> Vec<u8> {
    request("POST", target, body)
}

pub fn get(target: &str) -> Vec<u8> {
    request("GET", target, b"")
}

pub fn upgrade() -> Vec<u8> {
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
      Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_vec()
}

/// A masked frame, as clients send them.
pub fn frame(opcode: u8, fin: bool, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
    let mut bytes = vec![opcode | if fin { 0x80 } else { 0 }];
    match payload.len() {
        length @ 0..=125 => bytes.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

pub fn text(payload: &[u8]) -> Vec<u8> {
    frame(1, true, payload)
}

/// Whole frames of a server at the front of `bytes`: (opcode, payload).
pub fn take_frames(bytes: &mut Vec<u8>) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    loop {
        let (start, length) = match bytes.get(1) {
            None => return frames,
            Some(126) if 4 <= bytes.len() => {
                (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]])))
            }
            Some(127) if 10 <= bytes.len() => {
                let mut eight = [0; 8];
                eight.copy_from_slice(&bytes[2..10]);
                (10, u64::from_be_bytes(eight) as usize)
            }
            Some(126 | 127) => return frames,
            Some(length) => (2, usize::from(*length)),
        };
        let Some(payload) = bytes.get(start..start + length) else { return frames };
        assert_eq!(bytes[0] & 0x80, 0x80, "servers do not fragment");
        frames.push((bytes[0] & 0x0f, payload.to_vec()));
        bytes.drain(..start + length);
    }
}
