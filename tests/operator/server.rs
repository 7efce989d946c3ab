//! A Redis for the tool: the embedded one, in this process, or a redis-server. (`servers` starts the embedded one as a
//! process of seedbed's, whose path the tests of this crate do not know.)

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpStream},
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use crate::{port::free_port, program};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Embedded,
    Real,
}

pub(crate) struct Server {
    kind: Kind,
    port: u16,
    password: Option<&'static str>,
    running: Option<Running>,
}

enum Running {
    Embedded {
        stop: tokio::sync::oneshot::Sender<()>,
        thread: thread::JoinHandle<()>,
    },
    /// With its log, held open.
    Real {
        child: Child,
        _log: BufReader<ChildStdout>,
    },
}

impl Server {
    /// One that does not run yet; nobody listens at its port.
    pub(crate) fn absent(kind: Kind) -> Self {
        Self { kind, port: free_port(), password: None, running: None }
    }

    pub(crate) fn running(kind: Kind) -> Self {
        let mut server = Self::absent(kind);
        server.start();
        server
    }

    /// A real one that asks for a password.
    pub(crate) fn guarded(password: &'static str) -> Self {
        let mut server = Self::absent(Kind::Real);
        server.password = Some(password);
        server.start();
        server
    }

    pub(crate) fn url(&self) -> String {
        self.url_for("")
    }

    pub(crate) fn url_for(&self, login: &str) -> String {
        format!("redis://{login}127.0.0.1:{}/", self.port)
    }

    /// Returns once it takes connections.
    pub(crate) fn start(&mut self) {
        self.running = Some(match self.kind {
            Kind::Embedded => self.embedded(),
            Kind::Real => self.real(),
        });
    }

    fn embedded(&self) -> Running {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                let serving = std::pin::pin!(seedbed_redis::serve_tcp::serve(listener));
                futures_util::future::select(serving, stopped).await;
            });
        };
        let thread = thread::Builder::new().spawn(serve).expect("room for a thread");
        Running::Embedded { stop, thread }
    }

    fn real(&self) -> Running {
        let mut command = Command::new(program::redis_server().expect("asked for before"));
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir", "/tmp"]);
        if let Some(password) = self.password {
            command.args(["--requirepass", password]);
        }
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the server starts");
        let mut log = BufReader::new(child.stdout.take().expect("piped"));
        let mut said = String::new();
        while !said.contains("eady to accept connections") {
            assert!(log.read_line(&mut said).expect("a log in UTF-8") > 0, "the server ended:\n{said}");
        }
        Running::Real { child, _log: log }
    }

    /// What it answers to a command, as it goes over the wire.
    #[expect(clippy::disallowed_methods, reason = "a client of a real server")]
    pub(crate) fn ask(&self, words: &[&str]) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout above zero");
        let parts = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
        let request = format!("*{}\r\n{}QUIT\r\n", words.len(), parts.collect::<String>());
        stream.write_all(request.as_bytes()).expect("the server reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the server answers, and closes after QUIT");
        answer.strip_suffix("+OK\r\n").unwrap_or(&answer).to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        match self.running.take() {
            Some(Running::Embedded { stop, thread }) => {
                drop(stop);
                // A panic of the server has been printed where it happened.
                let _ = thread.join();
            }
            Some(Running::Real { mut child, .. }) => {
                child.kill().expect("a process of our own");
                child.wait().expect("a process of our own");
            }
            None => {}
        }
    }
}
