//! The fuzz functions on stable Rust: the committed corpus, and seeded mutations of it.
//!
//! `cargo +nightly fuzz run frame` in `cluster/fuzz` explores further; what it finds joins the corpus.

use std::path::Path;

use erlmcp_cluster::world::Dice;
use erlmcp_cluster::{frame, link, membership, replicas};

/// Seeded mutations per target.
const MUTATIONS: u64 = 20_000;

fn check(name: &str, target: fn(&[u8])) {
    let corpus = corpus(name);
    for (file, data) in &corpus {
        named(file, || target(data));
    }
    for seed in 0..MUTATIONS {
        let mut dice = Dice(seed);
        let (file, data) = &corpus[dice.index(corpus.len())];
        let other = &corpus[dice.index(corpus.len())].1;
        let mutated = mutate(data, other, &mut dice);
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

/// Up to four edits: flip, replace, drop or double a stretch, insert a number, splice with another input.
fn mutate(data: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut out = data.to_vec();
    for _ in 0..=dice.below(4) {
        let at = dice.index(out.len());
        let end = (at + dice.index(8)).min(out.len());
        match dice.below(6) {
            0 if at < out.len() => out[at] ^= 1 << dice.below(8),
            1 if at < out.len() => out[at] = dice.below(256) as u8,
            2 => drop(out.drain(at..end)),
            3 => out.extend_from_within(at..end),
            4 => drop(out.splice(at..end, NUMBERS[dice.index(NUMBERS.len())].iter().copied())),
            _ => drop(out.splice(at.., other[dice.index(other.len())..].iter().copied())),
        }
    }
    out
}

/// The largest of each width as postcard writes them, lengths that lie, and a length of ours.
const NUMBERS: [&[u8]; 6] = [
    &[0xff, 0xff, 0x03],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0x80, 0x80, 0x80, 0x80, 0x00],
    &[0, 0, 0, 40],
    &[0, 0, 0x20, 0],
];

#[test]
fn frames_are_the_same_whole_and_in_pieces() {
    check("frame", frame::fuzz_frame);
}

#[test]
fn nobody_becomes_a_link_without_the_secret() {
    check("handshake", link::fuzz_handshake);
}

#[test]
fn whatever_members_say_a_machine_keeps_its_bounds() {
    check("message", membership::fuzz_message);
}

#[test]
fn whatever_happens_to_an_owner_its_sessions_are_kept_in_the_end() {
    check("replicas", replicas::fuzz_replicas);
}
