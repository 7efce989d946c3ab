//! A server as a process, to be killed, stopped and started again.
//!
//! A verb has had its effect when it returns: [`Server::kill`] has reaped the process, [`Server::pause`] has seen it stop,
//! [`Server::start`] has had an answer. So tests need no sleeps to know how their server is.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::{port::free_port, program::Program};

/// How long a client waits for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// A server, running or not. Its process and its directory end with this.
pub struct Server {
    program: Program,
    listens_at: ListensAt,
    arguments: Vec<String>,
    directory: tempfile::TempDir,
    process: Option<Process>,
}

/// The same at every start.
enum ListensAt {
    Port(u16),
    Socket(PathBuf),
}

struct Process {
    child: Child,
    /// Held open until the process ends: a server cannot write a log that has no reader.
    log: BufReader<ChildStdout>,
}

impl Server {
    /// A server that runs, at a port of 127.0.0.1.
    pub fn running(program: &Program) -> Self {
        let mut server = Self::absent(program);
        server.start();
        server
    }

    /// A server that does not run yet. Its port is known, and nobody listens there.
    pub fn absent(program: &Program) -> Self {
        Self::at(program, directory(), ListensAt::Port(free_port()))
    }

    /// A server that does not run yet, and will listen at a socket file instead of a port: no other process can have taken it.
    pub fn at_socket(program: &Program) -> Self {
        let directory = directory();
        let socket = directory.path().join("redis.sock");
        Self::at(program, directory, ListensAt::Socket(socket))
    }

    fn at(program: &Program, directory: tempfile::TempDir, listens_at: ListensAt) -> Self {
        Self { program: program.clone(), listens_at, arguments: Vec::new(), directory, process: None }
    }

    /// With these arguments too, from the next start on.
    #[must_use]
    pub fn with<A: Into<String>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Everything acknowledged survives a kill: an append-only file, synced at every write.
    #[must_use]
    pub fn with_append_only_file(self) -> Self {
        self.with(["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// Clients have to give this password.
    #[must_use]
    pub fn with_password(self, password: &str) -> Self {
        self.with(["--requirepass", password])
    }

    /// The port where it listens.
    ///
    /// # Panics
    /// If it listens at a socket file.
    pub fn port(&self) -> u16 {
        match self.listens_at {
            ListensAt::Port(port) => port,
            ListensAt::Socket(_) => panic!("it listens at a socket file, and at no port"),
        }
    }

    /// Where it listens, as a URL.
    pub fn url(&self) -> String {
        match &self.listens_at {
            ListensAt::Port(_) => self.url_for(""),
            ListensAt::Socket(path) => format!("unix://{}", path.display()),
        }
    }

    /// The URL with user and password (`user:password@`).
    ///
    /// # Panics
    /// If it listens at a socket file.
    pub fn url_for(&self, login: &str) -> String {
        format!("redis://{login}127.0.0.1:{}", self.port())
    }

    /// The directory in which it is started. It lasts until this is dropped.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts the process, and waits until it answers.
    ///
    /// # Panics
    /// If it runs already, or ends before it answers.
    pub fn start(&mut self) {
        self.start_without_waiting();
        let process = self.process.as_mut().expect("just started");
        let (mut said, mut line) = (String::new(), String::new());
        while !self.program.is_ready(&line) {
            line.clear();
            let read = process.log.read_line(&mut line).expect("a log in UTF-8");
            said.push_str(&line);
            assert!(read > 0, "the server ended before it was ready:\n{said}");
        }
        let answer = self.ask("PING");
        assert!(answer.starts_with("+PONG") || answer.starts_with("-NOAUTH"), "PING was answered with {answer:?}");
    }

    /// Starts the process, which may have to load its data before it answers.
    ///
    /// # Panics
    /// If it runs already.
    pub fn start_without_waiting(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let mut command = self.program.command();
        match &self.listens_at {
            ListensAt::Port(port) => command.args(["--port", &port.to_string()]),
            ListensAt::Socket(path) => command.args(["--port", "0", "--unixsocket"]).arg(path),
        };
        command.args(&self.arguments).current_dir(self.directory.path()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the server starts");
        let log = BufReader::new(child.stdout.take().expect("piped"));
        self.process = Some(Process { child, log });
    }

    /// SIGKILL. When this returns, the server does no more.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.child.kill().expect("a process of our own");
        process.child.wait().expect("a process of our own");
    }

    /// SIGSTOP. When this returns, the server does nothing until [`Self::resume`]; its connections stay open.
    ///
    /// # Panics
    /// If it does not run.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        let stopped = waitpid(Some(self.pid()), WaitOptions::UNTRACED).expect("a process of our own");
        assert!(stopped.is_some_and(|(_, status)| status.stopped()), "the server did not stop");
    }

    /// SIGCONT.
    ///
    /// # Panics
    /// If it does not run.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Its answer to a command, whose words are separated by spaces. As it goes over the wire, on a connection of its own.
    ///
    /// # Panics
    /// If it does not answer within 20 s.
    pub fn ask(&self, command: &str) -> String {
        self.ask_words(&command.split_whitespace().collect::<Vec<_>>())
    }

    /// Likewise, where a word may hold anything.
    ///
    /// # Panics
    /// If it does not answer within 20 s.
    pub fn ask_words(&self, words: &[&str]) -> String {
        match &self.listens_at {
            ListensAt::Port(port) => ask(*port, words),
            ListensAt::Socket(_) => exchange(self.connect(), words),
        }
    }

    /// A connection to its socket file, which waits up to 20 s for an answer.
    ///
    /// # Panics
    /// If it listens at a port, or not at all.
    pub fn connect(&self) -> UnixStream {
        let ListensAt::Socket(path) = &self.listens_at else { panic!("it listens at a port") };
        let stream = UnixStream::connect(path).expect("the server listens");
        stream.set_read_timeout(Some(ANSWER_WITHIN)).expect("a timeout above zero");
        stream
    }

    /// Whether somebody listens at its socket file.
    ///
    /// # Panics
    /// If it listens at a port.
    pub fn takes_connections(&self) -> bool {
        let ListensAt::Socket(path) = &self.listens_at else { panic!("it listens at a port") };
        UnixStream::connect(path).is_ok()
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

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("room for a directory")
}

/// The answer of whoever listens at a port of 127.0.0.1. As it goes over the wire, on a connection of its own.
///
/// # Panics
/// If there is no answer within 20 s.
#[expect(clippy::disallowed_methods, reason = "a client of a real server")]
pub fn ask(port: u16, words: &[&str]) -> String {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the server listens");
    stream.set_read_timeout(Some(ANSWER_WITHIN)).expect("a timeout above zero");
    exchange(stream, words)
}

fn exchange(mut stream: impl Read + Write, words: &[&str]) -> String {
    let parts = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
    let request = format!("*{}\r\n{}QUIT\r\n", words.len(), parts.collect::<String>());
    stream.write_all(request.as_bytes()).expect("the server reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the server answers, and closes after QUIT");
    answer.strip_suffix("+OK\r\n").unwrap_or(&answer).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_server_comes_back_at_its_place_with_what_it_was_told_to_keep() {
        let Some(program) = Program::redis_server() else { return };
        for server in [Server::absent(&program), Server::at_socket(&program)] {
            let mut server = server.with_append_only_file();
            server.start();
            assert_eq!(server.ask_words(&["SET", "k", "two words"]), "+OK\r\n");
            server.kill();
            server.start();
            assert_eq!(server.ask("GET k"), "$9\r\ntwo words\r\n", "{}", server.url());
        }
    }

    #[test]
    fn a_paused_server_answers_once_it_goes_on() {
        let Some(program) = Program::redis_server() else { return };
        let mut server = Server::at_socket(&program);
        server.start();
        let mut stream = server.connect();
        server.pause();
        stream.write_all(b"PING\r\n").expect("room in the socket");
        stream.set_nonblocking(true).expect("a socket");
        assert!(stream.read(&mut [0]).is_err(), "it is stopped");
        stream.set_nonblocking(false).expect("a socket");
        server.resume();
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"+PONG\r\n");
    }

    #[test]
    fn a_password_is_asked_for() {
        let Some(program) = Program::redis_server() else { return };
        let mut server = Server::absent(&program).with_password("right");
        server.start();
        assert!(server.ask("GET k").starts_with("-NOAUTH"));
    }

    #[test]
    #[should_panic(expected = "the server ended before it was ready")]
    fn a_server_that_ends_at_once_is_an_error() {
        Server::running(&Program::other("/bin/echo", &["hello"], "ready"));
    }
}
