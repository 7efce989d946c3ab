//! Redis servers of a test's own, each a process on a port of its own, to be killed, stopped and started again.
//!
//! A signal is over when a verb returns: [`Server::kill`] has reaped the process, [`Server::pause`] has seen it stop,
//! [`Server::start`] has read that it is ready. So tests need no sleeps to know how their server is.

pub(crate) mod port;
pub(crate) mod program;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpStream},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use contact_cache::config::RedisUrl;
pub(crate) use port::free_port;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The simulated Redis, served by `seedbed redis-server`.
    Embedded,
    /// A redis-server, as [`program::redis_server`] finds it.
    Real,
}

/// What a server is started with beyond the defaults. The embedded server knows neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Feature {
    /// Everything acknowledged survives a kill: an append-only file, synced at every write.
    AppendOnlyFile,
    /// Clients have to give this password.
    Password(&'static str),
    /// These arguments, as on its command line.
    Arguments(Vec<String>),
}

/// A server, running or not. It ends with this.
pub(crate) struct Server {
    kind: Kind,
    features: Vec<Feature>,
    port: u16,
    directory: tempfile::TempDir,
    process: Option<Process>,
}

struct Process {
    child: Child,
    /// Held open: nobody reads on, but a log without a reader would be an error of the server's.
    _log: BufReader<ChildStdout>,
}

impl Server {
    /// A server that runs.
    pub(crate) fn running(kind: Kind) -> Self {
        let mut server = Self::absent(kind);
        server.start();
        server
    }

    /// A server that does not run yet; its port is known, and nobody listens there.
    pub(crate) fn absent(kind: Kind) -> Self {
        let directory = tempfile::tempdir().expect("room for a directory");
        Self { kind, features: Vec::new(), port: free_port(), directory, process: None }
    }

    /// From the next start on.
    pub(crate) fn with(mut self, feature: Feature) -> Self {
        assert_eq!(self.kind, Kind::Real, "the embedded server knows no {feature:?}");
        self.features.push(feature);
        self
    }

    /// The port where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Where it listens, as text.
    pub(crate) fn address(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> RedisUrl {
        self.url_for("")
    }

    /// Likewise, with user and password (`user:password@`).
    pub(crate) fn url_for(&self, login: &str) -> RedisUrl {
        format!("redis://{login}127.0.0.1:{}", self.port).parse().expect("a url")
    }

    /// Starts the process, at the same port every time, and waits until it answers.
    pub(crate) fn start(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let mut child = self.command().stdout(Stdio::piped()).spawn().expect("the server starts");
        let mut log = BufReader::new(child.stdout.take().expect("piped"));
        let ready = match self.kind {
            Kind::Embedded => "redis://",
            Kind::Real => "ready to accept connections",
        };
        let mut said = String::new();
        while !said.to_lowercase().contains(ready) {
            let read = log.read_line(&mut said).expect("a log in UTF-8");
            assert!(read > 0, "the server ended before it was ready:\n{said}");
        }
        self.process = Some(Process { child, _log: log });
        let answer = self.ask("PING");
        assert!(answer.starts_with("+PONG") || answer.starts_with("-NOAUTH"), "PING was answered with {answer:?}");
    }

    /// SIGKILL. When this returns, the server does no more.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.child.kill().expect("a process of our own");
        process.child.wait().expect("a process of our own");
    }

    /// SIGSTOP. When this returns, the server does nothing until [`Self::resume`]; its connections stay open.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
        let stopped = waitpid(Some(self.pid()), WaitOptions::UNTRACED).expect("a process of our own");
        assert!(stopped.is_some_and(|(_, status)| status.stopped()), "the server did not stop");
    }

    /// SIGCONT.
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// What it answers to a command (one line, words without spaces), on a connection of its own.
    #[expect(clippy::disallowed_methods, reason = "a client of a real server")]
    pub(crate) fn ask(&self, command: &str) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout above zero");
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).expect("the server reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the server answers, and closes after QUIT");
        answer.strip_suffix("+OK\r\n").unwrap_or(&answer).to_owned()
    }

    fn command(&self) -> Command {
        let port = self.port.to_string();
        let mut command = match self.kind {
            Kind::Embedded => Command::new(env!("CARGO_BIN_EXE_seedbed")),
            Kind::Real => Command::new(program::redis_server().expect("asked for before")),
        };
        command.current_dir(self.directory.path());
        match self.kind {
            Kind::Embedded => command.args(["redis-server", "--port", &port]),
            Kind::Real => command.args(["--port", &port, "--bind", "127.0.0.1", "--save", ""]),
        };
        for feature in &self.features {
            match feature {
                Feature::AppendOnlyFile => command.args(["--appendonly", "yes", "--appendfsync", "always"]),
                Feature::Password(password) => command.args(["--requirepass", password]),
                Feature::Arguments(arguments) => command.args(arguments),
            };
        }
        command
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("a process of our own");
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.process.as_ref().expect("it runs").child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
    }
}
