//! A Redis for the tool: the embedded one, in this process, or a redis-server. (The program that serves the embedded one,
//! `seedbed redis-server`, is of another crate: the tests of this one do not know its path.)

use std::{
    net::{Ipv4Addr, TcpListener},
    thread,
};

use redis_launcher::{Program, ask, free_port};
use tokio::sync::oneshot;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Embedded,
    Real,
}

pub(crate) enum Server {
    Embedded(Embedded),
    Real(redis_launcher::Server),
}

/// The simulated Redis on a thread of this process, running or not. It ends with this.
pub(crate) struct Embedded {
    port: u16,
    serving: Option<(oneshot::Sender<()>, thread::JoinHandle<()>)>,
}

impl Server {
    /// One that does not run yet; nobody listens at its port.
    pub(crate) fn absent(kind: Kind) -> Self {
        match kind {
            Kind::Embedded => Self::Embedded(Embedded { port: free_port(), serving: None }),
            Kind::Real => Self::Real(redis_launcher::Server::absent(&redis_server())),
        }
    }

    pub(crate) fn running(kind: Kind) -> Self {
        let mut server = Self::absent(kind);
        server.start();
        server
    }

    /// A real one that asks for a password.
    pub(crate) fn guarded(password: &str) -> Self {
        let mut server = redis_launcher::Server::absent(&redis_server()).with_password(password);
        server.start();
        Self::Real(server)
    }

    pub(crate) fn url(&self) -> String {
        self.url_for("")
    }

    pub(crate) fn url_for(&self, login: &str) -> String {
        format!("redis://{login}127.0.0.1:{}/", self.port())
    }

    fn port(&self) -> u16 {
        match self {
            Self::Embedded(server) => server.port,
            Self::Real(server) => server.port(),
        }
    }

    /// Returns once it takes connections.
    pub(crate) fn start(&mut self) {
        match self {
            Self::Embedded(server) => server.start(),
            Self::Real(server) => server.start(),
        }
    }

    /// What it answers to a command, as it goes over the wire.
    pub(crate) fn ask(&self, words: &[&str]) -> String {
        ask(self.port(), words)
    }
}

fn redis_server() -> Program {
    Program::redis_server().expect("asked for before")
}

impl Embedded {
    fn start(&mut self) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                let serving = std::pin::pin!(seedbed_redis::serve_tcp::serve(listener));
                futures_util::future::select(serving, stopped).await;
            });
        };
        let thread = thread::Builder::new().spawn(serve).expect("room for a thread");
        self.serving = Some((stop, thread));
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.serving.take() {
            drop(stop);
            // A panic of the server has been printed where it happened.
            let _ = thread.join();
        }
    }
}
