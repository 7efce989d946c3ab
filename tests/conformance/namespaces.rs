//! Two network namespaces with a wire between them: the only addresses that the tests use outside of loopback are in
//! here. What was made is removed when it is dropped, also if the test failed.

use std::{
    fs::File,
    net::TcpListener,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use contact_cache::env::TokioEnv;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{
    mount::not_shown,
    place::{Place, kill, runtime},
    wire::Wire,
};

const PEER: &str = "10.0.0.2";

/// The place at one end of the wire.
pub(crate) struct Wired {
    env: TokioEnv,
    dir: tempfile::TempDir,
    ends: Namespaces,
}

struct Namespaces {
    near: String,
    far: String,
}

impl Namespaces {
    /// # Errors
    /// What the first command that failed said.
    fn new() -> Result<Self, String> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = |end: &str| format!("conformance-{}-{number}-{end}", std::process::id());
        let this = Self { near: name("near"), far: name("far") };
        let Self { near, far } = &this;
        ip(&format!("netns add {near}"))?;
        ip(&format!("netns add {far}"))?;
        ip(&format!("link add wire netns {near} type veth peer name wire netns {far}"))?;
        for (end, number) in [(near, 1), (far, 2)] {
            ip(&format!("-n {end} link set wire address 02:00:00:00:00:0{number}"))?;
            ip(&format!("-n {end} link set wire up"))?;
            ip(&format!("-n {end} addr add 10.0.0.{number}/24 dev wire"))?;
        }
        // Known for good: a lost question for the address would be an error, and not silence.
        ip(&format!("-n {near} neigh replace {PEER} lladdr 02:00:00:00:00:02 dev wire nud permanent"))?;
        this.know_near()?;
        Ok(this)
    }

    fn know_near(&self) -> Result<(), String> {
        ip(&format!("-n {} neigh replace 10.0.0.1 lladdr 02:00:00:00:00:01 dev wire nud permanent", self.far))
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in [&self.near, &self.far] {
            // The one that was not made is not there.
            let _ = ip(&format!("netns del {name}"));
        }
    }
}

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.map_err(|error| format!("failed to run ip (of iproute2): {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("`ip {arguments}`: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// Makes this thread, and those that it starts, see the network of a namespace.
fn enter(name: &str) {
    let namespace = File::open(Path::new("/run/netns").join(name)).expect("it was made");
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("who makes one may enter it");
}

/// Runs `test` at the near end, if this process may make one.
pub(crate) fn on_a_wire(test: impl AsyncFnOnce(Wired) + Send + 'static) {
    let ends = match Namespaces::new() {
        Ok(ends) => ends,
        Err(why) => return not_shown(&format!("cuts of a real network: {why}")),
    };
    let run = move || {
        enter(&ends.near);
        let dir = tempfile::tempdir().expect("there is room for a directory");
        runtime().block_on(async {
            test(Wired { env: TokioEnv::new(), dir, ends }).await;
        });
    };
    std::thread::spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

impl Place for Wired {
    type Env = TokioEnv;
    type Peer = tokio::net::TcpStream;
    type Listener = tokio::net::TcpListener;

    fn env(&self) -> &TokioEnv {
        &self.env
    }

    fn dir(&self) -> PathBuf {
        self.dir.path().into()
    }

    fn host(&self) -> &'static str {
        PEER
    }

    async fn listen(&self) -> (tokio::net::TcpListener, u16) {
        let far = self.ends.far.clone();
        // A socket stays in the namespace of the thread that made it.
        let listener = std::thread::spawn(move || {
            enter(&far);
            TcpListener::bind((PEER, 0)).expect("there are free ports")
        });
        let listener = listener.join().expect("it listens");
        let port = listener.local_addr().expect("it is bound").port();
        listener.set_nonblocking(true).expect("it is a socket");
        (tokio::net::TcpListener::from_std(listener).expect("it is a socket"), port)
    }

    async fn accept(listener: &tokio::net::TcpListener) -> tokio::net::TcpStream {
        listener.accept().await.expect("the listener is open").0
    }

    fn reset(&self, peer: tokio::net::TcpStream) {
        peer.set_zero_linger().expect("the stream is open");
    }

    fn kill(&self, peer: tokio::net::TcpStream) {
        kill(peer);
    }
}

impl Wire for Wired {
    /// Nobody at the far end has the address any more, and who has not does not answer.
    fn cut(&self) {
        ip(&format!("-n {} addr del {PEER}/24 dev wire", self.ends.far)).expect("it was added");
    }

    fn heal(&self) {
        ip(&format!("-n {} addr add {PEER}/24 dev wire", self.ends.far)).expect("it was taken away");
        self.ends.know_near().expect("it was known before");
    }
}
