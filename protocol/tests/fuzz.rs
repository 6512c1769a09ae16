//! The fuzz functions on stable Rust: the committed corpus, and seeded mutations of it.
//!
//! `cargo +nightly fuzz run http_request` in `protocol/fuzz` explores further; what it finds joins
//! the corpus.

use std::path::Path;

use erlmcp_protocol::{http, lines};

/// Seeded mutations per target; 100,000 over the five of them.
const MUTATIONS: u64 = 20_000;

fn check(name: &str, target: fn(&[u8])) {
    let corpus = corpus(name);
    for (file, data) in &corpus {
        named(file, || target(data));
    }
    for seed in 0..MUTATIONS {
        let mut random = Random(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (file, data) = &corpus[random.below(corpus.len())];
        let other = &corpus[random.below(corpus.len())].1;
        let mutated = mutate(data, other, &mut random);
        named(&format!("{file}, seed {seed}: {}", mutated.escape_ascii()), || target(&mutated));
    }
}

/// File name and content, in a stable order.
fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("the corpus is in the repository")
        .map(|file| {
            let path = file.expect("a file of the corpus").path();
            (path.display().to_string(), std::fs::read(&path).expect("a file of the corpus"))
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{name}: an empty corpus proves nothing");
    files
}

/// Runs `check`; if it panics, says on what.
fn named(what: &str, check: impl FnOnce()) {
    struct Running<'a>(&'a str);
    impl Drop for Running<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("input: {}", self.0);
            }
        }
    }
    let _running = Running(what);
    check();
}

/// Up to four edits: flip, replace, drop or double a stretch, insert a word, splice with another
/// input.
fn mutate(data: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = data.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(out.len());
        let end = (at + random.below(8)).min(out.len());
        match random.below(7) {
            0 if at < out.len() => out[at] ^= 1 << random.below(8),
            1 if at < out.len() => out[at] = random.below(256) as u8,
            2 => drop(out.drain(at..end)),
            3 => out.extend_from_within(at..end),
            4 => drop(out.splice(at..end, WORDS[random.below(WORDS.len())].iter().copied())),
            5 => drop(out.splice(at..at, WORDS[random.below(WORDS.len())].iter().copied())),
            _ => drop(out.splice(at.., other[random.below(other.len())..].iter().copied())),
        }
    }
    out
}

const WORDS: [&[u8]; 22] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"\"",
    b"0\r\n\r\n",
    b"1\r\nx\r\n",
    b"ffffffff",
    b"Host: b\r\n",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b";q=0",
    b"*/*",
    b"localhost",
    b"://",
];

/// xorshift64: the same numbers everywhere.
struct Random(u64);

impl Random {
    /// Below `bound`; 0 when there is no room.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound.max(1)
    }
}

#[test]
fn requests_are_the_same_whole_and_in_pieces() {
    check("http_request", http::fuzz_request);
}

#[test]
fn our_chunks_are_read_back() {
    check("http_response", http::fuzz_response);
}

#[test]
fn accept_lists_never_surprise() {
    check("http_accept", http::fuzz_accept);
}

#[test]
fn what_is_listed_is_allowed_and_nothing_panics() {
    check("http_access", http::fuzz_access);
}

#[test]
fn lines_are_the_same_whole_and_in_pieces() {
    check("lines", lines::fuzz_lines);
}
