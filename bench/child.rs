//! The servers under measurement: child processes, ended by their id whatever becomes of us.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a server may take to say that it is ready.
const BOOT_PATIENCE: Duration = Duration::from_secs(20);
/// How long it may take to leave when asked.
const LEAVE_PATIENCE: Duration = Duration::from_secs(5);
/// How long its admin listener may take.
const ADMIN_PATIENCE: Duration = Duration::from_secs(5);
/// Metrics of ours are a fraction of this.
const METRICS_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A running server.
pub struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// Where it serves HTTP.
    pub http: SocketAddr,
    admin: Option<SocketAddr>,
}

impl Server {
    /// Our server, one shard on each of these cores.
    pub fn ours(binary: &Path, cores: &str) -> Result<Self, String> {
        let mut command = Command::new(binary);
        command.args(["--cores", cores, "--shards-per-core", "1", "--listen", "127.0.0.1:0"]);
        command.args(["--tcp", "off", "--admin", "127.0.0.1:0", "--catalog", "demo"]);
        Self::start(command)
    }

    /// The floor, on this core, answering with what is in this file.
    pub fn floor(core: usize, answer: &Path) -> Result<Self, String> {
        let own = std::env::current_exe().map_err(|err| err.to_string())?;
        let mut command = Command::new(own);
        command.args(["floor", "--core", &core.to_string(), "--answer"]).arg(answer);
        Self::start(command)
    }

    fn start(mut command: Command) -> Result<Self, String> {
        let name = command.get_program().display().to_string();
        let told = |err: std::io::Error| format!("{name}: {err}");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().map_err(told)?;
        let stdout = child.stdout.take().ok_or("a child without stdout")?;
        let mut server = Self {
            child,
            stdout: BufReader::new(stdout),
            http: SocketAddr::from(([0, 0, 0, 0], 0)),
            admin: None,
        };
        let deadline = Instant::now() + BOOT_PATIENCE;
        let mut line = String::new();
        while line.trim() != "ready" {
            line.clear();
            let count = server.stdout.read_line(&mut line).map_err(told)?;
            if count == 0 || deadline < Instant::now() {
                return Err(format!("{name} did not start"));
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            if let ["listening", what, address] = words[..] {
                let address = address.parse().map_err(|_| format!("{name} said {line:?}"))?;
                match what {
                    "http" => server.http = address,
                    "admin" => server.admin = Some(address),
                    _ => {}
                }
            }
        }
        Ok(server)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Calls of io_uring_enter so far, over all shards: the system calls of a running ring.
    pub fn enters(&mut self) -> Result<u64, String> {
        match self.admin {
            Some(admin) => {
                let metrics = get(admin, "/metrics").map_err(|err| format!("metrics: {err}"))?;
                sum_metric(&metrics, "erlmcp_ring_events_total", "event=\"enters\"")
                    .ok_or_else(|| "the server does not tell its enters".to_owned())
            }
            None => self.floor_enters(),
        }
    }

    fn floor_enters(&mut self) -> Result<u64, String> {
        let stdin = self.child.stdin.as_mut().ok_or("a child without stdin")?;
        writeln!(stdin).and_then(|()| stdin.flush()).map_err(|err| err.to_string())?;
        let mut line = String::new();
        self.stdout.read_line(&mut line).map_err(|err| err.to_string())?;
        let counters: serde_json::Value =
            serde_json::from_str(&line).map_err(|err| format!("the floor said {line:?}: {err}"))?;
        counters["enters"].as_u64().ok_or_else(|| "the floor does not tell its enters".to_owned())
    }
}

impl Drop for Server {
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
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A GET, answered and closed.
fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ADMIN_PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.take(METRICS_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// The sum of a metric's samples that have this label.
fn sum_metric(text: &str, name: &str, label: &str) -> Option<u64> {
    text.lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.split_once('}'))
        .filter(|(labels, _)| labels.split(',').any(|one| one == label))
        .map(|(_, value)| value.trim().parse::<u64>().ok())
        .try_fold(None, |sum: Option<u64>, value| Some(Some(sum.unwrap_or(0) + value?)))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::sum_metric;

    #[test]
    fn samples_with_the_label_are_summed_over_shards() {
        let text = "# HELP x y\nx_total{shard=\"0\",event=\"a\"} 2\nx_total{shard=\"1\",event=\"a\"} 3\n\
                    x_total{shard=\"0\",event=\"ab\"} 7\nx_total_more{event=\"a\"} 9\n";
        assert_eq!(sum_metric(text, "x_total", "event=\"a\""), Some(5));
        assert_eq!(sum_metric(text, "x_total", "event=\"b\""), None);
    }
}
