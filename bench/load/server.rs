//! A server that this program starts, and ends by its id whatever becomes of us.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::target::Target;

/// How long a server may take to be ready.
const BOOT_PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to leave when asked.
const LEAVE_PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks at it.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A running server.
pub struct Started {
    child: Child,
    command: String,
    /// Where it serves HTTP, if it said so.
    pub http: Option<SocketAddr>,
    /// Where it takes lines, if it said so.
    pub tcp: Option<SocketAddr>,
    /// Where it is watched, if it said so.
    pub admin: Option<SocketAddr>,
}

impl Started {
    /// Runs the command in a shell. The server is ready when it prints `ready`, as ours does, or when each of
    /// `targets` accepts a connection; a command that starts servers and returns is done when both are so.
    pub fn start(command: &str, targets: &[SocketAddr]) -> Result<Self, String> {
        if let Some(target) = targets.iter().find(|target| is_there(**target)) {
            return Err(format!("something listens on {target} already"));
        }
        let mut shell = Command::new("/bin/sh");
        // `exec`, so that the child is the server and not a shell beside it.
        shell.arg("-c").arg(format!("exec {command}"));
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let child = shell.spawn().map_err(|err| format!("{command}: {err}"))?;
        let mut server =
            Self { child, command: command.to_owned(), http: None, tcp: None, admin: None };
        let lines = server.lines()?;
        let deadline = Instant::now() + BOOT_PATIENCE;
        while Instant::now() < deadline {
            if let Ok(line) = lines.recv_timeout(LOOK_EVERY) {
                match line.split_whitespace().collect::<Vec<_>>()[..] {
                    ["listening", "http", address] => server.http = address.parse().ok(),
                    ["listening", "tcp", address] => server.tcp = address.parse().ok(),
                    ["listening", "admin", address] => server.admin = address.parse().ok(),
                    ["ready"] => return Ok(server),
                    // As the servers we compare with say it.
                    ["ready", url] => {
                        server.http = Target::parse(url, None).ok().map(|target| target.http);
                        return Ok(server);
                    }
                    _ => {}
                }
                continue;
            }
            let ended = server.child.try_wait().ok().flatten();
            let is_done = ended.is_none_or(|status| status.success()) && !targets.is_empty();
            if is_done && targets.iter().all(|target| is_there(*target)) {
                return Ok(server);
            }
            if let Some(status) = ended.filter(|_| !is_done) {
                return Err(format!("{command}: ended at once with {status}"));
            }
        }
        Err(format!("{command}: not ready after {} s", BOOT_PATIENCE.as_secs()))
    }

    /// What started it.
    pub fn command(&self) -> &str {
        &self.command
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
        if !matches!(self.child.try_wait(), Ok(None)) {
            // Its id may be somebody else's by now.
            return;
        }
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It is our child and has not ended, so the id is its own.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_ready_when_it_says_so_and_tells_where_it_is() {
        let script = "sh -c 'echo listening http 127.0.0.1:4711; echo ready; read line'";
        let server = Started::start(script, &[]).unwrap();
        assert_eq!(server.http, Some("127.0.0.1:4711".parse().unwrap()));
        assert_ne!(server.pid(), 0);
        let server = Started::start("sh -c 'echo ready http://127.0.0.1:4712/mcp; read line'", &[]);
        assert_eq!(server.unwrap().http, Some("127.0.0.1:4712".parse().unwrap()));
    }

    #[test]
    fn a_server_that_ends_is_an_error_and_so_is_one_that_was_there_before() {
        for command in ["false", "true"] {
            let ended = Started::start(command, &[]);
            assert!(ended.is_err_and(|why| why.contains("ended at once")), "{command}");
        }
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        assert!(Started::start("cat", &[target]).is_err_and(|why| why.contains("already")));
    }
}
