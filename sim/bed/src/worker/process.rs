//! Starts worker processes, gives them runs, and tells how a process ended that did not answer.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, Read, Write},
    marker::PhantomData,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::Signal,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{MEMORY_BYTES_MAX, READY};

/// How worker processes are started: this very program, with other arguments.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Environment variables, beside those of this process.
    pub variables: Vec<(String, String)>,
    /// How long a run may take on the machine's clock.
    pub stuck_after: Duration,
    /// Whether panics and other output of the runs are dropped. Otherwise they go to standard error.
    pub is_silent: bool,
}

/// How a run ended its process, or had to be ended with it. Its verdicts are not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessEnd {
    /// The process exited with this code.
    Exited(i32),
    /// A signal of this number ended it.
    Signalled(i32),
    /// It was ended, since the run took longer than this.
    Stuck(Duration),
}

impl std::error::Error for ProcessEnd {}

impl fmt::Display for ProcessEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = "standard error says which";
        match self {
            Self::Exited(code) => write!(f, "the run ended its process: it exited with code {code}"),
            Self::Signalled(signal) if *signal == Signal::ABORT.as_raw() => write!(
                f,
                "the run ended its process with SIGABRT: an abort, a full stack, or memory beyond the limit of {} GiB; {said}",
                MEMORY_BYTES_MAX >> 30
            ),
            Self::Signalled(signal) if *signal == Signal::KILL.as_raw() => {
                write!(
                    f,
                    "the run's process was ended with SIGKILL, as the kernel does when the machine is out of memory"
                )
            }
            Self::Signalled(signal) => write!(f, "the run ended its process with signal {signal}"),
            Self::Stuck(limit) => write!(
                f,
                "the run was ended after {} seconds: it spins without letting simulated time pass, or a checker does; \
                 --stuck-after or SEEDBED_STUCK_AFTER give it longer",
                limit.as_secs()
            ),
        }
    }
}

/// A worker process, which is started when it is needed, and again after it has ended.
pub struct Worker<Request, Reply> {
    program: Program,
    process: Option<WorkerProcess>,
    /// Requests without a reply, the oldest first: the process is at that.
    waiting: VecDeque<Request>,
    /// When the process began with the oldest.
    since: Instant,
    reply: PhantomData<fn() -> Reply>,
}

struct WorkerProcess {
    child: Child,
    requests: ChildStdin,
    replies: ChildStdout,
    /// What was read of the reply to come.
    read: Vec<u8>,
    /// Whether its next line is a reply.
    is_ready: bool,
}

impl<Request: Serialize, Reply: DeserializeOwned> Worker<Request, Reply> {
    /// Starts no process yet.
    pub fn new(program: Program) -> Self {
        Self { program, process: None, waiting: VecDeque::new(), since: now(), reply: PhantomData }
    }

    /// Makes one run.
    ///
    /// # Errors
    /// No process can be started.
    pub fn run(&mut self, request: Request) -> io::Result<Result<Reply, ProcessEnd>> {
        self.send(request)?;
        self.receive()
    }

    /// Asks for a run. The process begins with it when it has answered the requests before.
    ///
    /// # Errors
    /// No process can be started.
    pub fn send(&mut self, request: Request) -> io::Result<()> {
        if self.waiting.is_empty() {
            self.since = now();
        }
        self.process()?.write(&request);
        self.waiting.push_back(request);
        Ok(())
    }

    /// Waits for what came of the oldest request. If it has ended its process, the others go to a new one.
    ///
    /// # Errors
    /// No process can be started.
    pub fn receive(&mut self) -> io::Result<Result<Reply, ProcessEnd>> {
        let limit = self.program.stuck_after;
        let ends = self.since + limit;
        let replied = self.process()?.read_until(ends, limit)?;
        self.waiting.pop_front();
        if replied.is_err() {
            self.process = None;
            for request in std::mem::take(&mut self.waiting) {
                self.process()?.write(&request);
                self.waiting.push_back(request);
            }
        }
        self.since = now();
        Ok(replied)
    }

    fn process(&mut self) -> io::Result<&mut WorkerProcess> {
        match &mut self.process {
            Some(_) => {}
            none => *none = Some(WorkerProcess::start(&self.program)?),
        }
        Ok(self.process.as_mut().expect("it was just started"))
    }
}

impl WorkerProcess {
    fn start(program: &Program) -> io::Result<Self> {
        let path = this_program()?;
        let mut command = Command::new(&path);
        command.arg0(std::env::args_os().next().unwrap_or_default());
        command.args(&program.arguments).envs(program.variables.iter().cloned());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        if program.is_silent {
            command.stderr(Stdio::null());
        }
        let mut child = command.spawn().map_err(|cause| {
            let path = path.display();
            io::Error::new(cause.kind(), format!("failed to start a worker process from {path}: {cause}"))
        })?;
        let requests = child.stdin.take().expect("a pipe was asked for");
        let replies = child.stdout.take().expect("a pipe was asked for");
        Ok(Self { child, requests, replies, read: Vec::new(), is_ready: false })
    }

    /// A process that has ended takes nothing; whoever waits for the reply finds out.
    fn write(&mut self, request: &impl Serialize) {
        let mut line = serde_json::to_vec(request).expect("a request becomes JSON");
        line.push(b'\n');
        let _ = self.requests.write_all(&line);
    }

    fn read_until<Reply: DeserializeOwned>(
        &mut self,
        ends: Instant,
        limit: Duration,
    ) -> io::Result<Result<Reply, ProcessEnd>> {
        let mut looked_at = 0;
        loop {
            if let Some(length) = self.read[looked_at..].iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=looked_at + length).collect();
                if self.is_ready {
                    return Ok(Ok(serde_json::from_slice(&line)?));
                }
                self.is_ready = line.trim_ascii_end() == READY;
                looked_at = 0;
                continue;
            }
            looked_at = self.read.len();
            let left = ends.saturating_duration_since(now());
            if !self.wait(left)? {
                self.child.kill()?;
                self.child.wait()?;
                return Ok(Err(ProcessEnd::Stuck(limit)));
            }
            let mut bytes = [0; 1 << 13];
            let count = self.replies.read(&mut bytes)?;
            if count == 0 {
                let status = self.child.wait()?;
                if self.is_ready {
                    return Ok(Err(end_of(status)));
                }
                return Err(io::Error::other(format!("a worker process ended before it took a request: {status}")));
            }
            self.read.extend_from_slice(&bytes[..count]);
        }
    }

    /// Whether there is something to read within this time.
    fn wait(&self, left: Duration) -> io::Result<bool> {
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut polled = [PollFd::new(&self.replies, PollFlags::IN)];
        Ok(rustix::io::retry_on_intr(|| poll(&mut polled, Some(&left)))? > 0)
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        // It may have ended already, or be at a run that nobody waits for any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// This very program, also if its file was built anew meanwhile.
fn this_program() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok(PathBuf::from("/proc/self/exe")) } else { std::env::current_exe() }
}

fn end_of(status: ExitStatus) -> ProcessEnd {
    status.signal().map_or_else(|| ProcessEnd::Exited(status.code().unwrap_or_default()), ProcessEnd::Signalled)
}

#[expect(
    clippy::disallowed_methods,
    reason = "outside of any run: the machine's clock ends what simulated time cannot"
)]
fn now() -> Instant {
    Instant::now()
}
