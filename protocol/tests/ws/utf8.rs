//! Autobahn chapter 6 (UTF-8). What is valid is decided here by the standard library; which byte a
//! text must be refused at follows from it: the first that cannot be part of any valid text, or, if
//! there is none, the last byte of the message.

use crate::client::*;
use erlmcp_protocol::ws::WsError;

const HELLO: &str = "Hello-µ@ßöäüàá-UTF-8!!";
const KOSME: &[u8] = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5";

/// Bytes of a frame's head before a payload of at most 125 bytes.
const HEAD: usize = 6;

#[test]
fn case_6_1_fragments_without_payload() {
    let empty = || frame(CONTINUATION, "");
    check("6.1.1", &[frame(FIN | TEXT, "")], &[text("")]);
    check("6.1.2", &[frame(TEXT, ""), empty(), frame(FIN, "")], &[text("")]);
    let payload = "middle frame payload";
    check(
        "6.1.3",
        &[frame(TEXT, ""), frame(CONTINUATION, payload), frame(FIN, "")],
        &[text(payload)],
    );
}

#[test]
fn case_6_2_text_cut_between_and_within_characters() {
    check("6.2.1", &[frame(FIN | TEXT, HELLO)], &[text(HELLO)]);
    let (left, right) = ("Hello-µ@ßöä", "üàá-UTF-8!!");
    check("6.2.2", &[frame(TEXT, left), frame(FIN, right)], &[text(HELLO)]);
    check("6.2.3", &in_single_bytes(HELLO.as_bytes()), &[text(HELLO)]);
    let kosme = std::str::from_utf8(KOSME).unwrap();
    check("6.2.4", &in_single_bytes(KOSME), &[text(kosme)]);
}

#[test]
fn case_6_3_invalid_text_whole_and_in_single_bytes() {
    let payload = [KOSME, b"\xed\xa0\x80", b"edited"].concat();
    let refused = WsError::InvalidUtf8;
    check_fails("6.3.1", &[frame(FIN | TEXT, &payload)], &[], refused);
    check_fails_at("6.3.1", &[frame(FIN | TEXT, &payload)], HEAD + 12, refused);
    let frames = in_single_bytes(&payload);
    check_fails("6.3.2", &frames, &[], refused);
    // Each frame is a head and one byte.
    check_fails_at("6.3.2", &frames, 12 * (HEAD + 1) + HEAD, refused);
}

#[test]
fn case_6_4_invalid_text_is_refused_with_the_byte_that_shows_it() {
    // Byte 12 puts the code point above U+10FFFF.
    let payload = [KOSME, b"\xf4\x90\x80\x80", b"edited"].concat();
    let refused = WsError::InvalidUtf8;
    let in_frames = |cuts: [usize; 2]| {
        [
            frame(TEXT, &payload[..cuts[0]]),
            frame(CONTINUATION, &payload[cuts[0]..cuts[1]]),
            frame(FIN | CONTINUATION, &payload[cuts[1]..]),
        ]
    };
    let at_parts = in_frames([11, 15]);
    check_fails("6.4.1", &at_parts, &[], refused);
    check_fails_at("6.4.1", &at_parts, at_parts[0].len() + HEAD + 1, refused);
    let at_octet = in_frames([12, 13]);
    check_fails("6.4.2", &at_octet, &[], refused);
    check_fails_at("6.4.2", &at_octet, at_octet[0].len() + HEAD, refused);
    // One frame, in chops.
    for (case, first_chop, second_chop) in [("6.4.3", 11, 15), ("6.4.4", 12, 13)] {
        let bytes = frame(FIN | TEXT, &payload);
        let mut connection = Connection::new();
        connection.feed(&bytes[..HEAD + first_chop]);
        assert_eq!(connection.error, None, "case {case}");
        connection.feed(&bytes[HEAD + first_chop..HEAD + second_chop]);
        assert_eq!(connection.error, Some(refused), "case {case}");
    }
}

#[test]
fn case_6_5_to_6_23_sequences() {
    for (chapter, valid, sequences) in sequences() {
        for (at, payload) in sequences.iter().enumerate() {
            let case = format!("6.{chapter}.{} ({payload:02x?})", at + 1);
            assert_eq!(std::str::from_utf8(payload).is_ok(), valid.is(at), "case {case}");
            check_text(&case, payload);
        }
    }
}

#[test]
fn every_character_survives_being_cut() {
    for character in ('\u{0}'..=char::MAX).step_by(251).chain(['\u{d7ff}', '\u{e000}', char::MAX]) {
        check_text(&format!("{character:?}"), format!("a{character}b").as_bytes());
    }
}

#[test]
fn every_pair_of_bytes_is_judged_like_the_standard_library_does() {
    for first in 0x7f..=0xff {
        for second in 0..=0xff {
            let payload = [first, second, 0x80, 0x80];
            let mut connection = Connection::new();
            let bytes = frame(FIN | TEXT, payload);
            bytes.chunks(1).for_each(|byte| connection.feed(byte));
            let expect = std::str::from_utf8(&payload).is_ok();
            assert_eq!(connection.error.is_none(), expect, "{payload:02x?}");
        }
    }
}

/// A text is taken or refused, in one frame and in frames of one byte, and refused at the right byte.
#[track_caller]
fn check_text(case: &str, payload: &[u8]) {
    let whole = [frame(FIN | TEXT, payload)];
    let singles = in_single_bytes(payload);
    if let Ok(valid) = std::str::from_utf8(payload) {
        check(case, &whole, &[text(valid)]);
        check(case, &singles, &[text(valid)]);
        return;
    }
    let culprit = (0..payload.len())
        .find(|&at| {
            std::str::from_utf8(&payload[..=at]).is_err_and(|err| err.error_len().is_some())
        })
        .unwrap_or(payload.len() - 1);
    check_fails(case, &whole, &[], WsError::InvalidUtf8);
    check_fails(case, &singles, &[], WsError::InvalidUtf8);
    check_fails_at(case, &whole, HEAD + culprit, WsError::InvalidUtf8);
    check_fails_at(case, &singles, culprit * (HEAD + 1) + HEAD, WsError::InvalidUtf8);
}

fn in_single_bytes(payload: &[u8]) -> Vec<Vec<u8>> {
    let last = payload.len() - 1;
    (0..=last)
        .map(|at| {
            let fin = if at == last { FIN } else { 0 };
            frame(fin | if at == 0 { TEXT } else { CONTINUATION }, [payload[at]])
        })
        .collect()
}

/// Which sequences of a chapter are valid.
#[derive(Clone, Copy)]
enum Valid {
    All,
    None,
    Only(&'static [usize]),
}

impl Valid {
    fn is(self, at: usize) -> bool {
        match self {
            Valid::All => true,
            Valid::None => false,
            Valid::Only(which) => which.contains(&at),
        }
    }
}

/// The sequences of Markus Kuhn's UTF-8 test, in Autobahn's numbering.
fn sequences() -> Vec<(u8, Valid, Vec<Vec<u8>>)> {
    let list = |items: &[&[u8]]| items.iter().map(|item| item.to_vec()).collect::<Vec<_>>();
    let lonely = |from: u8, to: u8| (from..to).flat_map(|b| [b, b' ']).collect::<Vec<u8>>();
    let unfinished: [&[u8]; 10] = [
        b"\xc0",
        b"\xe0\x80",
        b"\xf0\x80\x80",
        b"\xf8\x80\x80\x80",
        b"\xfc\x80\x80\x80\x80",
        b"\xdf",
        b"\xef\xbf",
        b"\xf7\xbf\xbf",
        b"\xfb\xbf\xbf\xbf",
        b"\xfd\xbf\xbf\xbf\xbf",
    ];
    let high: [&[u8]; 4] = [b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf"];
    let low: [&[u8]; 2] = [b"\xed\xb0\x80", b"\xed\xbf\xbf"];
    // U+nFFFE and U+nFFFF of every plane.
    let noncharacters = (0..=0x10)
        .flat_map(|plane| [plane << 16 | 0xfffe, plane << 16 | 0xffff])
        .filter_map(char::from_u32)
        .map(|character| character.to_string().into_bytes())
        .collect();
    vec![
        (
            5,
            Valid::All,
            list(&[
                b"hello\x24world",
                b"hello\xc2\xa2world",
                b"hello\xe2\x82\xacworld",
                b"hello\xf0\xa4\xad\xa2world",
                KOSME,
            ]),
        ),
        (
            6,
            Valid::Only(&[1, 4, 6, 8, 10]),
            (1..=KOSME.len()).map(|length| KOSME[..length].to_vec()).collect(),
        ),
        (7, Valid::All, list(&[b"\x00", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80"])),
        (8, Valid::None, list(&[b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"])),
        (9, Valid::All, list(&[b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"])),
        (
            10,
            Valid::None,
            list(&[b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf"]),
        ),
        (
            11,
            Valid::Only(&[0, 1, 2, 3]),
            list(&[
                b"\xed\x9f\xbf",
                b"\xee\x80\x80",
                b"\xef\xbf\xbd",
                b"\xf4\x8f\xbf\xbf",
                b"\xf4\x90\x80\x80",
            ]),
        ),
        (
            12,
            Valid::None,
            [
                list(&[b"\x80", b"\xbf"]),
                (2..=6).map(|length| b"\x80\xbf\x80\xbf\x80\xbf"[..length].to_vec()).collect(),
                vec![(0x80..0xbf).collect()],
            ]
            .concat(),
        ),
        (
            13,
            Valid::None,
            vec![
                lonely(0xc0, 0xdf),
                lonely(0xe0, 0xef),
                lonely(0xf0, 0xf7),
                lonely(0xf8, 0xfb),
                lonely(0xfc, 0xfd),
            ],
        ),
        (14, Valid::None, list(&unfinished)),
        (15, Valid::None, vec![unfinished.concat()]),
        (16, Valid::None, list(&[b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"])),
        (
            17,
            Valid::None,
            list(&[
                b"\xc0\xaf",
                b"\xe0\x80\xaf",
                b"\xf0\x80\x80\xaf",
                b"\xf8\x80\x80\x80\xaf",
                b"\xfc\x80\x80\x80\x80\xaf",
            ]),
        ),
        (
            18,
            Valid::None,
            list(&[
                b"\xc1\xbf",
                b"\xe0\x9f\xbf",
                b"\xf0\x8f\xbf\xbf",
                b"\xf8\x87\xbf\xbf\xbf",
                b"\xfc\x83\xbf\xbf\xbf\xbf",
            ]),
        ),
        (
            19,
            Valid::None,
            list(&[
                b"\xc0\x80",
                b"\xe0\x80\x80",
                b"\xf0\x80\x80\x80",
                b"\xf8\x80\x80\x80\x80",
                b"\xfc\x80\x80\x80\x80\x80",
            ]),
        ),
        (20, Valid::None, [list(&high), list(&[low[0], b"\xed\xbe\x80", low[1]])].concat()),
        (
            21,
            Valid::None,
            high.iter().flat_map(|high| low.map(|low| [*high, low].concat())).collect(),
        ),
        (22, Valid::All, noncharacters),
        (
            23,
            Valid::All,
            list(&[
                b"\xef\xbf\xb9",
                b"\xef\xbf\xba",
                b"\xef\xbf\xbb",
                b"\xef\xbf\xbc",
                b"\xef\xbf\xbd",
                b"\xef\xbf\xbe",
                b"\xef\xbf\xbf",
            ]),
        ),
    ]
}
