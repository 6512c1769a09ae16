//! A server that this program starts, and ends by its id whatever becomes of us.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a server may take to be ready.
const BOOT_PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to leave when asked.
const LEAVE_PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks at it.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A running server.
pub struct Started {
    child: Child,
    /// Where it serves HTTP, if it said so.
    pub http: Option<SocketAddr>,
    /// Where it takes lines, if it said so.
    pub tcp: Option<SocketAddr>,
}

impl Started {
    /// Runs the command in a shell. The server is ready when it prints `ready`, as ours does, or when `target`
    /// accepts a connection.
    pub fn start(command: &str, target: Option<SocketAddr>) -> Result<Self, String> {
        if target.is_some_and(is_there) {
            return Err(format!("something listens on {} already", show(target)));
        }
        let mut shell = Command::new("/bin/sh");
        // `exec`, so that the child is the server and not a shell beside it.
        shell.arg("-c").arg(format!("exec {command}"));
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let child = shell.spawn().map_err(|err| format!("{command}: {err}"))?;
        let mut server = Self { child, http: None, tcp: None };
        let lines = server.lines()?;
        let deadline = Instant::now() + BOOT_PATIENCE;
        while Instant::now() < deadline {
            if let Ok(line) = lines.recv_timeout(LOOK_EVERY) {
                match line.split_whitespace().collect::<Vec<_>>()[..] {
                    ["listening", "http", address] => server.http = address.parse().ok(),
                    ["listening", "tcp", address] => server.tcp = address.parse().ok(),
                    ["ready"] => return Ok(server),
                    _ => {}
                }
                continue;
            }
            if let Ok(Some(status)) = server.child.try_wait() {
                return Err(format!("{command}: ended at once with {status}"));
            }
            if target.is_some_and(is_there) {
                return Ok(server);
            }
        }
        Err(format!("{command}: not ready after {} s", BOOT_PATIENCE.as_secs()))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it prints, read as long as it lives so that it never waits for us.
    fn lines(&mut self) -> Result<Receiver<String>, String> {
        let stdout = self.child.stdout.take().ok_or("a child without stdout")?;
        let (lines, receiver) = channel();
        let read = move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        };
        let thread = std::thread::Builder::new().name("server-stdout".into()).spawn(read);
        thread.map_err(|err| err.to_string())?;
        Ok(receiver)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It is our child and not waited for yet, so the id is its own.
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + LEAVE_PATIENCE;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_there(target: SocketAddr) -> bool {
    TcpStream::connect_timeout(&target, Duration::from_millis(200)).is_ok()
}

fn show(target: Option<SocketAddr>) -> String {
    target.map(|target| target.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_ready_when_it_says_so_and_tells_where_it_is() {
        let script = "sh -c 'echo listening http 127.0.0.1:4711; echo ready; read line'";
        let server = Started::start(script, None).unwrap();
        assert_eq!(server.http, Some("127.0.0.1:4711".parse().unwrap()));
        assert_ne!(server.pid(), 0);
    }

    #[test]
    fn a_server_that_ends_is_an_error_and_so_is_one_that_was_there_before() {
        assert!(Started::start("false", None).is_err_and(|why| why.contains("ended at once")));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        assert!(Started::start("cat", Some(target)).is_err_and(|why| why.contains("already")));
    }
}
