//! The built binary as a child process, on free ports, ended whatever the test does.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Only a hang reaches it.
pub const HANG: Duration = Duration::from_secs(60);

/// The binary with these words, its output piped.
pub fn command(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_erlmcp-shard"));
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs to the end: exit code, stdout, stderr.
pub fn run(words: &[&str]) -> (i32, String, String) {
    let output = command(words).output().expect("the binary runs");
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// Sends a signal, by name with a dash.
pub fn signal(child: &Child, name: &str) {
    // Through the shell's own tool: no unsafe in a test.
    let status = Command::new("kill").args([name, &child.id().to_string()]).status();
    assert!(status.is_ok_and(|status| status.success()), "kill {name}");
}

/// A running server.
pub struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub http: String,
    pub tcp: String,
    pub admin: String,
    /// Where its first shard listens for other nodes; empty of a server that is alone.
    pub mesh: String,
}

impl Server {
    /// Starts on free ports and waits for `ready`.
    pub fn start(words: &[&str]) -> Self {
        let free = "127.0.0.1:0";
        let mut command = command(&["--listen", free, "--tcp", free, "--admin", free]);
        command.args(words);
        Self::spawn(command)
    }

    /// Starts as this says and waits for `ready`.
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the binary starts");
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let nowhere = String::new;
        let mut server = Self {
            child,
            stdout,
            http: nowhere(),
            tcp: nowhere(),
            admin: nowhere(),
            mesh: nowhere(),
        };
        loop {
            let mut line = String::new();
            if server.stdout.read_line(&mut line).expect("stdout is text") == 0 {
                panic!("it ended before it was ready: {}", server.stderr());
            }
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["listening", "http", address] => server.http = address.to_owned(),
                ["listening", "tcp", address] => server.tcp = address.to_owned(),
                ["listening", "admin", address] => server.admin = address.to_owned(),
                ["listening", "mesh", address] => server.mesh = address.to_owned(),
                ["ready"] => return server,
                _ => panic!("unexpected line {line:?}"),
            }
        }
    }

    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Waits for the end.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let stderr = self.stderr();
        (self.child.wait().expect("it can be waited for"), stderr)
    }

    fn stderr(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            let _ = stderr.read_to_string(&mut text);
        }
        text
    }

    /// Status line, fields and body of a request to the admin listener.
    pub fn admin(&self, method: &str, path: &str) -> String {
        ask(
            &self.admin,
            &format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
        )
    }

    /// A JSON-RPC request of the modern era over HTTP.
    pub fn call(&self, method: &str, name: Option<&str>, body: &str) -> String {
        let name = name.map_or_else(String::new, |name| format!("Mcp-Name: {name}\r\n"));
        ask(
            &self.http,
            &format!(
                "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                 Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\n\
                 Mcp-Method: {method}\r\n{name}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            ),
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The params every modern request carries.
pub const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;

/// Sends, reads until the other side closes.
pub fn ask(address: &str, request: &str) -> String {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).expect("it takes the request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

pub fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(HANG)).expect("a timeout can be set");
    stream
}

/// Looks until it is so.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + HANG;
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}

/// A file of this test, gone with it.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(text: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("erlmcp-test-{}-{number}.toml", std::process::id());
        let scratch = Self(std::env::temp_dir().join(name));
        scratch.write(text);
        scratch
    }

    pub fn write(&self, text: &str) {
        std::fs::write(&self.0, text).expect("the scratch file can be written");
    }

    pub fn path(&self) -> &str {
        self.0.to_str().expect("the path is text")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A server that speaks over its own stdin and stdout.
pub struct Pipe {
    pub child: Child,
    pub stdin: Option<ChildStdin>,
    pub stdout: BufReader<ChildStdout>,
}

impl Pipe {
    pub fn start(words: &[&str]) -> Self {
        let mut child =
            command(&["--stdio"]).args(words).stdin(Stdio::piped()).spawn().expect("it starts");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        Self { child, stdin, stdout }
    }

    pub fn send(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).expect("it reads");
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it writes text");
        line
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
