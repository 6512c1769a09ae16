//! Tools that are programs: one process per call.
//!
//! The arguments go to the program's standard input as JSON, its standard output is the answer, an exit code
//! other than 0 is a failure told with the end of its standard error. No shell is ever involved: `argv` is
//! fixed by the catalog, and nothing a client sends becomes part of it.
//!
//! Invariants: the program leads a process group of its own; the group is killed before its leader is reaped
//! (so its number cannot have been given to someone else), on every way out; every child is reaped. What a
//! program started in a session of its own (`setsid`) is out of our reach.
//!
//! Runs on a thread that may block, which waits with poll(2) for all three pipes and the exit at once.
//! Refused: reader threads (three more per call), and SIGCHLD (process-wide).

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use erlmcp_protocol::mcp::{Content, ToolResult};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde_json::Value;

use crate::call::{Call, Step, TraceContext};
use crate::offload::timed_out;
use crate::step::{IntoStep, failed, text};

/// How long a program may run unless told otherwise.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// How much a program may write to its standard output unless told otherwise, in bytes.
pub const OUTPUT_BYTES_MAX_DEFAULT: usize = 1024 * 1024;
/// How many calls of one program may run at once unless told otherwise.
pub const CONCURRENCY_MAX_DEFAULT: u32 = 16;
/// How much of the end of standard error a failure quotes, in bytes.
const STDERR_TAIL_BYTES: usize = 4096;
/// How often a running call looks whether it was cancelled: there is no event to wait for.
const CANCEL_CHECK: Duration = Duration::from_millis(50);
/// One read; also what is read at most from standard error after the program has gone.
const READ_BYTES: usize = 64 * 1024;

/// How a program's standard output is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// As text; what is not UTF-8 is replaced.
    Text,
    /// As one JSON value, answered as text and, if it is an object or an array, as `structuredContent`.
    Json,
}

/// A program that answers a call.
pub struct Exec {
    argv: Vec<String>,
    folder: Option<PathBuf>,
    env: Vec<(String, String)>,
    env_inherit: Vec<String>,
    timeout: Duration,
    output: Output,
    output_bytes_max: usize,
}

impl Exec {
    /// A program and its arguments. A program without `/` is looked up in `PATH`, which is the one
    /// variable of our environment it sees unless others are named.
    pub fn new<T: Into<String>>(argv: impl IntoIterator<Item = T>) -> Exec {
        Exec {
            argv: argv.into_iter().map(Into::into).collect(),
            folder: None,
            env: Vec::new(),
            env_inherit: vec!["PATH".into()],
            timeout: TIMEOUT_DEFAULT,
            output: Output::Text,
            output_bytes_max: OUTPUT_BYTES_MAX_DEFAULT,
        }
    }

    /// The folder it runs in; ours unless set.
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Exec {
        self.folder = Some(folder.into());
        self
    }

    /// A variable of its environment.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Exec {
        self.env.push((name.into(), value.into()));
        self
    }

    /// A variable of our environment that it sees as well.
    pub fn env_inherit(mut self, name: impl Into<String>) -> Exec {
        self.env_inherit.push(name.into());
        self
    }

    /// How long it may run before it and all it started are killed; [`TIMEOUT_DEFAULT`] unless set.
    pub fn timeout(mut self, timeout: Duration) -> Exec {
        self.timeout = timeout;
        self
    }

    /// How its standard output is read; as text unless set.
    pub fn output(mut self, output: Output) -> Exec {
        self.output = output;
        self
    }

    /// How much it may write to standard output, in bytes; more kills it. [`OUTPUT_BYTES_MAX_DEFAULT`]
    /// unless set.
    pub fn output_bytes_max(mut self, bytes: usize) -> Exec {
        self.output_bytes_max = bytes;
        self
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        match self.argv.first() {
            None => Err("`exec` names no program".into()),
            Some(program) if program.is_empty() => Err("`exec` names no program".into()),
            Some(_) if self.argv.iter().any(|word| word.contains('\0')) => {
                Err("`exec` contains a NUL".into())
            }
            Some(_) => Ok(()),
        }
    }

    /// Runs it to its end, or to ours.
    pub(crate) fn run(&self, call: Call) -> Step {
        let input = call.arguments.to_string().into_bytes();
        let answer = match self
            .start(call.trace.as_deref())
            .and_then(|running| running.finish(self, &input, &call))
        {
            Ok(Finish::Exited(status, output, errors)) => self.answer(status, output, &errors),
            Ok(Finish::TimedOut) => timed_out(self.timeout),
            Ok(Finish::TooMuchOutput) => failed(format_args!(
                "The program wrote more than {} bytes and was stopped",
                self.output_bytes_max
            )),
            Ok(Finish::Cancelled) => failed("Cancelled"),
            Err(err) => failed(format_args!("The program could not be run: {}", err.kind())),
        };
        answer.into_step()
    }

    fn start(&self, trace: Option<&TraceContext>) -> io::Result<Running> {
        let (program, arguments) = self.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for name in &self.env_inherit {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        // OpenTelemetry's names for trace context in an environment. A NUL cannot be in one.
        let trace = trace.into_iter().flat_map(|trace| {
            [
                ("TRACEPARENT", &trace.traceparent),
                ("TRACESTATE", &trace.tracestate),
                ("BAGGAGE", &trace.baggage),
            ]
        });
        for (name, value) in trace {
            if let Some(value) = value.as_deref().filter(|value| !value.contains('\0')) {
                command.env(name, value);
            }
        }
        command.current_dir(self.folder.as_deref().unwrap_or(Path::new(".")));
        Running::adopt(command.spawn()?)
    }

    fn answer(&self, status: ExitStatus, output: Vec<u8>, errors: &[u8]) -> ToolResult {
        if !status.success() {
            let how = match (status.code(), status.signal()) {
                (Some(code), _) => format!("exited with code {code}"),
                (None, Some(signal)) => format!("was ended by signal {signal}"),
                (None, None) => "failed".into(),
            };
            let errors = String::from_utf8_lossy(errors);
            let errors = errors.trim();
            let separator = if errors.is_empty() { "" } else { ": " };
            return failed(format_args!("The program {how}{separator}{errors}"));
        }
        let output = String::from_utf8(output)
            .unwrap_or_else(|err| String::from_utf8_lossy(err.as_bytes()).into_owned());
        match self.output {
            Output::Text => text(output),
            Output::Json => match serde_json::from_str::<Value>(&output) {
                Ok(value) => ToolResult {
                    content: vec![Content::Text(value.to_string())],
                    structured: Some(value).filter(|v| v.is_object() || v.is_array()),
                    is_error: false,
                },
                Err(err) => failed(format_args!("The program did not answer with JSON: {err}")),
            },
        }
    }
}

/// How a run ended.
enum Finish {
    /// Its own way: status, standard output, end of standard error.
    Exited(ExitStatus, Vec<u8>, Vec<u8>),
    TimedOut,
    TooMuchOutput,
    Cancelled,
}

/// A child that is killed with its whole group and reaped, whatever happens to us.
struct Running {
    child: Child,
    group: Pid,
    exit: Option<OwnedFd>,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

impl Running {
    fn adopt(mut child: Child) -> io::Result<Running> {
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let group = Pid::from_child(&child);
        // From here on the child belongs to `running`, so that no early return leaks it.
        let mut running = Running { child, group, exit: None, stdin, stdout, stderr };
        running.exit = Some(pidfd_open(group, PidfdFlags::empty())?);
        if let Some(stdin) = &running.stdin {
            rustix::io::ioctl_fionbio(stdin, true)?;
        }
        if let Some(stdout) = &running.stdout {
            rustix::io::ioctl_fionbio(stdout, true)?;
        }
        if let Some(stderr) = &running.stderr {
            rustix::io::ioctl_fionbio(stderr, true)?;
        }
        Ok(running)
    }

    /// Kills whatever is left of the group, then reaps the leader. In this order: until the leader is
    /// reaped, nobody else can have its number.
    fn end(&mut self) -> io::Result<ExitStatus> {
        // Once reaped, `try_wait` and `wait` answer from memory, and the group must be left alone.
        if self.exit.take().is_some() || self.child.try_wait()?.is_none() {
            let _ = kill_process_group(self.group, Signal::KILL);
        }
        self.child.wait()
    }

    fn finish(mut self, limits: &Exec, input: &[u8], call: &Call) -> io::Result<Finish> {
        let deadline = Instant::now().checked_add(limits.timeout);
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let mut written = 0;
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(Finish::TimedOut);
            }
            if call.is_cancelled() {
                return Ok(Finish::Cancelled);
            }
            let ready = self.wait(left.map_or(CANCEL_CHECK, |left| left.min(CANCEL_CHECK)))?;
            if ready.stdin && !feed(&mut self.stdin, input, &mut written) {
                self.stdin = None;
            }
            if ready.exit {
                // Nobody is left to write once the group is gone; what it wrote is still in the pipes.
                let status = self.end()?;
                drain(&mut self.stdout, &mut output, limits.output_bytes_max + 1);
                drain(&mut self.stderr, &mut errors, READ_BYTES);
                keep_tail(&mut errors);
                return Ok(if limits.output_bytes_max < output.len() {
                    Finish::TooMuchOutput
                } else {
                    Finish::Exited(status, output, errors)
                });
            }
            if ready.stdout {
                drain(&mut self.stdout, &mut output, limits.output_bytes_max + 1);
                if limits.output_bytes_max < output.len() {
                    return Ok(Finish::TooMuchOutput);
                }
            }
            if ready.stderr {
                drain(&mut self.stderr, &mut errors, READ_BYTES);
                keep_tail(&mut errors);
            }
        }
    }

    /// Waits until something can be done, or `timeout` has passed.
    fn wait(&self, timeout: Duration) -> io::Result<Ready> {
        let watched = [
            (self.stdin.as_ref().map(AsFd::as_fd), PollFlags::OUT),
            (self.stdout.as_ref().map(AsFd::as_fd), PollFlags::IN),
            (self.stderr.as_ref().map(AsFd::as_fd), PollFlags::IN),
            (self.exit.as_ref().map(AsFd::as_fd), PollFlags::IN),
        ];
        let open = watched.iter().filter_map(|(fd, flags)| Some((fd.as_ref()?, *flags)));
        let mut fds: Vec<_> = open.map(|(fd, flags)| PollFd::new(fd, flags)).collect();
        let timeout = Timespec::try_from(timeout).map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(err) => return Err(err.into()),
        }
        let mut answers = fds.iter().map(|fd| !fd.revents().is_empty());
        // Only what is open was asked for, in this order.
        let mut ready = |(fd, _): &(Option<_>, _)| fd.is_some() && answers.next() == Some(true);
        let [stdin, stdout, stderr, exit] = &watched;
        Ok(Ready {
            stdin: ready(stdin),
            stdout: ready(stdout),
            stderr: ready(stderr),
            exit: ready(exit),
        })
    }
}

/// Which descriptors have something for us.
struct Ready {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    exit: bool,
}

/// Writes what the pipe takes; `false` when all is written or the program will not read it.
fn feed(stdin: &mut Option<ChildStdin>, input: &[u8], written: &mut usize) -> bool {
    let Some(stdin) = stdin else { return false };
    match stdin.write(&input[*written..]) {
        Ok(count) => {
            *written += count;
            *written < input.len()
        }
        Err(err) => matches!(err.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
    }
}

/// Reads what is there, up to `bytes_max` bytes in `into`; closes the pipe at its end.
fn drain<R: Read>(pipe: &mut Option<R>, into: &mut Vec<u8>, bytes_max: usize) {
    let Some(reader) = pipe else { return };
    let mut buffer = [0; 8 * 1024];
    while into.len() < bytes_max {
        let room = (bytes_max - into.len()).min(buffer.len());
        match reader.read(&mut buffer[..room]) {
            Ok(0) => break,
            Ok(count) => into.extend_from_slice(&buffer[..count]),
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => break,
        }
    }
    if into.len() < bytes_max {
        *pipe = None;
    }
}

fn keep_tail(errors: &mut Vec<u8>) {
    if STDERR_TAIL_BYTES < errors.len() {
        errors.drain(..errors.len() - STDERR_TAIL_BYTES);
    }
}
