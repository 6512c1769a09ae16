use super::*;

const NOW_MS: u64 = 1_790_000_000_000;
const NONCE: [u8; NONCE_BYTES] = [7; NONCE_BYTES];

fn keyring() -> Keyring {
    Keyring::new(b"the secret of this cluster")
}

fn token() -> SessionToken {
    SessionToken {
        node: 0xA001,
        shard: 513,
        slot: u32::MAX - 1,
        generation: 0x0102_0304,
        epoch: 77,
        random: *b"sixteen bytes..!",
    }
}

fn sealed_state() -> String {
    keyring().seal_state(NONCE, b"alice tools/call add", NOW_MS, b"{\"step\":2}").expect("small")
}

/// Every text that differs from `text` in one place: another character, one less, one more.
fn neighbours(text: &str) -> Vec<String> {
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut all = Vec::new();
    for at in 0..text.len() {
        for other in alphabet.chars().chain("=+/ .é\0".chars()) {
            if !text[at..].starts_with(other) {
                all.push(format!("{}{other}{}", &text[..at], &text[at + 1..]));
            }
        }
        all.push(text[..at].to_owned());
        all.push(format!("{}{}", &text[..at], &text[at + 1..]));
        all.push(format!("{}A{}", &text[..at], &text[at..]));
    }
    all.push(format!("{text}A"));
    all.push(format!("{text}="));
    all
}

#[test]
fn a_session_id_says_what_was_sealed() {
    let text = keyring().seal_session(&token());
    assert_eq!(text.len(), SESSION_TEXT_BYTES);
    assert!(text.bytes().all(|byte| (0x21..=0x7E).contains(&byte)), "{text}");
    assert_eq!(keyring().open_session(&text), Some(token()));
    assert_eq!(keyring().seal_session(&token()), text);
    assert_eq!(format!("{text} {text:?}"), format!("{0} {1:?}", &*text, &*text));
}

fn task_token() -> TaskToken {
    TaskToken { at: token(), expires_unix_ms: (1 << 48) - 2 }
}

#[test]
fn a_task_id_says_what_was_sealed() {
    let text = keyring().seal_task(&task_token());
    assert_eq!(text.len(), TASK_TEXT_BYTES);
    assert!(text.bytes().all(|byte| (0x21..=0x7E).contains(&byte)), "{text}");
    assert_eq!(keyring().open_task(&text), Some(task_token()));
    let rotated = Keyring::new(b"the next secret").with_previous(b"the secret of this cluster");
    assert_eq!(rotated.open_task(&text), Some(task_token()));
    assert_eq!(Keyring::new(b"the next secret").open_task(&text), None);
}

#[test]
fn a_task_id_changed_anywhere_is_refused() {
    let keyring = keyring();
    let text = keyring.seal_task(&task_token());
    for other in neighbours(&text) {
        assert_eq!(keyring.open_task(&other), None, "{other}");
    }
}

#[test]
fn a_task_id_is_no_session_id_and_the_other_way_round() {
    let keyring = keyring();
    assert_eq!(keyring.open_session(&keyring.seal_task(&task_token())), None);
    assert_eq!(keyring.open_task(&keyring.seal_session(&token())), None);
}

#[test]
fn a_session_id_changed_anywhere_is_refused() {
    let keyring = keyring();
    let text = keyring.seal_session(&token());
    for other in neighbours(&text) {
        assert_eq!(keyring.open_session(&other), None, "{other}");
    }
    assert_eq!(keyring.open_session(""), None);
}

#[test]
fn another_secret_opens_nothing() {
    let other = Keyring::new(b"the secret of that cluster");
    assert_eq!(other.open_session(&keyring().seal_session(&token())), None);
    assert_eq!(other.open_cursor(1, 2, &keyring().seal_cursor(1, 2, 3)), None);
    let opened = other.open_state(&sealed_state(), b"alice tools/call add", 0);
    assert_eq!(opened, Err(SealError::Forged));
}

#[test]
fn what_an_earlier_secret_sealed_is_opened_while_it_is_kept() {
    let rotated = Keyring::new(b"the next secret").with_previous(b"the secret of this cluster");
    assert_eq!(rotated.open_session(&keyring().seal_session(&token())), Some(token()));
    assert_eq!(rotated.open_cursor(1, 2, &keyring().seal_cursor(1, 2, 3)), Some(3));
    let opened = rotated.open_state(&sealed_state(), b"alice tools/call add", NOW_MS - 1);
    assert_eq!(opened.as_deref(), Ok(&b"{\"step\":2}"[..]));
    // What it seals itself is sealed with the next one.
    assert_eq!(keyring().open_session(&rotated.seal_session(&token())), None);
    assert!(
        Keyring::new(b"the next secret").open_session(&rotated.seal_session(&token())).is_some()
    );
}

#[test]
fn two_secrets_may_share_a_key_id() {
    let id = keyring().current.id;
    let twin = (0u32..).map(|n| n.to_be_bytes()).find(|secret| Keys::derive(secret).id == id);
    let twin = twin.expect("one in 256 does");
    let both = Keyring::new(&twin).with_previous(b"the secret of this cluster");
    assert_eq!(both.open_session(&keyring().seal_session(&token())), Some(token()));
    assert_eq!(both.open_session(&both.seal_session(&token())), Some(token()));
    assert!(both.open_state(&sealed_state(), b"alice tools/call add", 0).is_ok());
}

#[test]
fn a_state_comes_back_for_its_purpose_only() {
    let text = sealed_state();
    assert!(!text.contains("step"), "a state is secret");
    let open = |purpose: &[u8]| keyring().open_state(&text, purpose, NOW_MS - 1);
    assert_eq!(open(b"alice tools/call add").as_deref(), Ok(&b"{\"step\":2}"[..]));
    for other in [&b"bob tools/call add"[..], b"", b"alice tools/call add "] {
        assert_eq!(open(other), Err(SealError::Forged));
    }
}

#[test]
fn a_state_expires_at_its_time() {
    let text = sealed_state();
    let open = |now| keyring().open_state(&text, b"alice tools/call add", now).map(drop);
    assert_eq!(open(0), Ok(()));
    assert_eq!(open(NOW_MS - 1), Ok(()));
    assert_eq!(open(NOW_MS), Err(SealError::Expired));
    assert_eq!(open(u64::MAX), Err(SealError::Expired));
    // What is forged is forged, however old.
    assert_eq!(keyring().open_state(&text, b"bob", u64::MAX), Err(SealError::Forged));
}

#[test]
fn a_state_changed_anywhere_is_refused() {
    let (keyring, text) = (keyring(), sealed_state());
    for other in neighbours(&text) {
        let opened = keyring.open_state(&other, b"alice tools/call add", 0);
        assert!(matches!(opened, Err(SealError::Forged | SealError::Malformed)), "{other}");
    }
}

#[test]
fn a_state_is_of_bounded_size() {
    let keyring = keyring();
    let seal = |bytes: usize| keyring.seal_state(NONCE, b"", NOW_MS, &vec![b'x'; bytes]);
    for bytes in [0, 1, STATE_BYTES_MAX] {
        let text = seal(bytes).expect("fits");
        assert_eq!(keyring.open_state(&text, b"", 0).map(|payload| payload.len()), Ok(bytes));
    }
    assert_eq!(seal(STATE_BYTES_MAX + 1), Err(SealError::TooLarge));
    let long = "A".repeat(STATE_TEXT_BYTES_MAX + 1);
    assert_eq!(keyring.open_state(&long, b"", 0), Err(SealError::Malformed));
}

#[test]
fn a_nonce_of_its_own_makes_every_state_another() {
    let other = keyring().seal_state([8; NONCE_BYTES], b"", NOW_MS, b"x");
    assert_ne!(other, keyring().seal_state(NONCE, b"", NOW_MS, b"x"));
}

#[test]
fn a_cursor_belongs_to_its_list_and_scope() {
    let keyring = keyring();
    for offset in [0, 1, 500, u32::MAX] {
        let text = keyring.seal_cursor(2, 99, offset);
        assert_eq!(text.len(), CURSOR_TEXT_BYTES);
        assert_eq!(keyring.open_cursor(2, 99, &text), Some(offset));
        assert_eq!(keyring.open_cursor(3, 99, &text), None);
        assert_eq!(keyring.open_cursor(2, 98, &text), None);
    }
    let text = keyring.seal_cursor(2, 99, 100);
    for other in neighbours(&text) {
        assert_eq!(keyring.open_cursor(2, 99, &other), None, "{other}");
    }
}

#[test]
fn no_token_passes_for_one_of_another_kind() {
    let keyring = keyring();
    let session = keyring.seal_session(&token());
    let cursor = keyring.seal_cursor(0, 0, 0);
    let state = keyring.seal_state(NONCE, b"", NOW_MS, b"").expect("small");
    assert_eq!(keyring.open_state(&session, b"", 0), Err(SealError::Malformed));
    assert_eq!(keyring.open_state(&cursor, b"", 0), Err(SealError::Malformed));
    assert_eq!(keyring.open_session(&state), None);
    assert_eq!(keyring.open_cursor(0, 0, &state), None);
    // A payload that makes a state as long as a session id changes nothing.
    let padding = SESSION_BYTES.saturating_sub(STATE_HEAD_BYTES + TAG_BYTES);
    let state = keyring.seal_state(NONCE, b"", NOW_MS, &vec![0; padding]).expect("small");
    assert_eq!(state.len(), session.len());
    assert_eq!(keyring.open_session(&state), None);
}

#[test]
fn keys_are_not_shown() {
    let shown = format!("{:?}", keyring().with_previous(b"x"));
    assert!(shown.len() < 12, "{shown}");
}

#[test]
fn nothing_random_is_opened() {
    for input in ["", "AQEA", "AQI", "AQMA", "é", "AQ=="] {
        fuzz_open(input.as_bytes());
    }
    for len in 0..200 {
        fuzz_open("AQEB".repeat(len).as_bytes());
        fuzz_open("A".repeat(len).as_bytes());
    }
}
