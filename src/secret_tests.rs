//! Secret files as operators leave them, and what is said about each.

use std::os::unix::fs::PermissionsExt;

use erlmcp_protocol::seal::SessionToken;

use super::*;

const GOOD: &str = "4f0c9e1b7a6d2358";
const OTHER: &str = "b1946ac92492d2347c6235b4d2611184";

/// A folder of its own, gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = format!("erlmcp-secret-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self, bytes: &[u8], mode: u32) -> PathBuf {
        let path = self.0.join("secret");
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Expects a refusal that says this.
#[track_caller]
fn check(bytes: &[u8], mode: u32, says: &str) {
    let folder = Folder::new(&format!("{}", std::panic::Location::caller().line()));
    let path = folder.file(bytes, mode);
    let said = read(&path).unwrap_err().to_string();
    assert!(said.contains(says) && said.contains(path.to_str().unwrap()), "{said}");
    assert!(!said.contains(GOOD), "a message must not show a secret: {said}");
}

#[test]
fn a_file_of_its_owner_alone_is_read() {
    let folder = Folder::new("good");
    for mode in [0o600, 0o400] {
        let path = folder.file(format!("{GOOD}\n\n  {OTHER}\r\n").as_bytes(), mode);
        assert_eq!(
            read(&path).unwrap(),
            Secrets::parse(format!("{GOOD}\n{OTHER}").as_bytes()).unwrap()
        );
    }
}

#[test]
fn a_file_that_others_may_touch_is_refused_with_the_line_that_helps() {
    for mode in [0o640, 0o604, 0o620, 0o660, 0o644, 0o601] {
        check(GOOD.as_bytes(), mode, &format!("(mode {mode:04o}): chmod 600 "));
    }
}

#[test]
fn short_weak_and_empty_secrets_are_refused() {
    check(b"", 0o600, "no secret in it");
    check(b"\n  \n", 0o600, "no secret in it");
    check(&GOOD.as_bytes()[..15], 0o600, "at least 16 bytes");
    check(format!("{OTHER}\nshort").as_bytes(), 0o600, "line 2");
    check(b"aaaaaaaaaaaaaaaaaaaaaaaa", 0o600, "easy to guess (line 1)");
    check(format!("{OTHER}\nchangemechangeme").as_bytes(), 0o600, "easy to guess (line 2)");
}

#[test]
fn what_is_no_secret_file_is_refused() {
    check(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\0\0\0\0", 0o600, "no printable ASCII");
    check(format!("{OTHER}\n{GOOD}\u{e4}").as_bytes(), 0o600, "line 2");
    check(&vec![b'x'; FILE_BYTES_MAX as usize + 1], 0o600, "is it the right file?");
    check([OTHER, "\n"].concat().repeat(5).as_bytes(), 0o600, "more than 4");
    let said = read(Path::new("/nonexistent/secret")).unwrap_err().to_string();
    assert!(said.contains("erlmcp-shard secret /nonexistent/secret"), "{said}");
    for special in ["/dev/full", "/dev/zero", "/"] {
        let said = read(Path::new(special)).unwrap_err().to_string();
        assert!(said.contains("not a regular file"), "{special}: {said}");
    }
}

#[test]
fn a_fifo_does_not_hang_the_boot() {
    let folder = Folder::new("fifo");
    let path = folder.0.join("fifo");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert!(read(&path).unwrap_err().to_string().contains("not a regular file"));
}

#[test]
fn what_was_made_is_read_and_never_overwritten() {
    let folder = Folder::new("made");
    let path = folder.0.join("made");
    make(Some(&path)).unwrap();
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    let first = read(&path).unwrap();
    assert!(make(Some(&path)).unwrap_err().contains("is there already"));
    assert_eq!(read(&path).unwrap(), first);
    let other = folder.0.join("other");
    make(Some(&other)).unwrap();
    assert_ne!(read(&other).unwrap(), first);
    assert!(make(Some(&folder.0.join("no/such/folder"))).unwrap_err().contains("cannot write"));
}

#[test]
fn ids_sealed_before_a_rotation_are_opened_after_it_and_not_for_ever() {
    let ring = |lines: &str| keyring(&Secrets::parse(lines.as_bytes()).unwrap());
    let token =
        SessionToken { node: 1, shard: 2, slot: 3, generation: 4, epoch: 5, random: [6; 16] };
    let id = ring(GOOD).seal_session(&token);
    assert_eq!(ring(GOOD).open_session(&id), Some(token));
    assert_eq!(ring(&format!("{OTHER}\n{GOOD}")).open_session(&id), Some(token));
    assert_eq!(ring(&format!("{GOOD}\n{OTHER}")).seal_session(&token), id);
    assert_ne!(ring(&format!("{OTHER}\n{GOOD}")).seal_session(&token), id);
    assert_eq!(ring(OTHER).open_session(&id), None);
}
