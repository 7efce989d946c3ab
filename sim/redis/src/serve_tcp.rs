//! The engine on a real loopback port, with the real clock: a Redis for examples and tests on machines without one.
//!
//! Everything real stands in this file. A simulated run never comes here.

use std::{
    cell::RefCell,
    future::pending,
    io,
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime, sync,
    task::{self, LocalSet},
};

use super::{ClientId, Engine, Flow};

/// Serves one empty engine to every client of `listener`, until accepting fails for good. Dropping the future closes
/// the port and every connection.
pub async fn serve(listener: TcpListener) -> io::Result<()> {
    let engine = Rc::new(RefCell::new(Engine::new()));
    LocalSet::new().run_until(accept(listener, engine)).await
}

/// An engine that serves on a port of its own, until this is dropped.
#[derive(Debug)]
pub struct Embedded {
    address: SocketAddr,
    stop: Option<sync::oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Starts an engine on a free port of the loopback interface, on a thread of its own; it takes connections when this
/// returns. Dropping the future early stops it.
#[expect(clippy::unused_async, reason = "room to wait for the server without changing its callers")]
pub async fn spawn_embedded() -> io::Result<Embedded> {
    // Bound here and not on the thread, so that an error has somebody to go to.
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
    let (stop, stopped) = sync::oneshot::channel();
    let work = move || {
        runtime.block_on(LocalSet::new().run_until(async move {
            // A failure to accept ends the server, which its clients notice.
            task::spawn_local(async move {
                let listener = TcpListener::from_std(listener)?;
                accept(listener, Rc::new(RefCell::new(Engine::new()))).await
            });
            // An error is the handle's end as well.
            let _ = stopped.await;
        }));
    };
    let thread = thread::Builder::new().name("embedded redis".to_owned()).spawn(work)?;
    Ok(Embedded { address, stop: Some(stop), thread: Some(thread) })
}

impl Embedded {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// A URL for Redis clients.
    pub fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the server has been printed where it happened; here it would hide the test's own.
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, engine: Rc<RefCell<Engine>>) -> io::Result<()> {
    for number in 0.. {
        let (stream, _) = listener.accept().await?;
        let engine = Rc::clone(&engine);
        task::spawn_local(async move {
            let client = ClientId(number);
            engine.borrow_mut().connect(client);
            // However a connection ends, it is the client's to notice.
            let _ = converse(stream, client, &engine).await;
            engine.borrow_mut().disconnect(client);
        });
    }
    pending().await
}

async fn converse(mut stream: TcpStream, client: ClientId, engine: &RefCell<Engine>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut input, mut output) = (vec![0; 16 * 1024], Vec::new());
    loop {
        let length = stream.read(&mut input).await?;
        if length == 0 {
            return Ok(());
        }
        output.clear();
        let flow = engine.borrow_mut().feed(client, &input[..length], wall_ms(), &mut output);
        stream.write_all(&output).await?;
        if flow == Flow::Close {
            return stream.shutdown().await;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a real server on a real port has the real clock")]
fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "a real client of a real port")]
    async fn an_embedded_server_answers_until_it_is_dropped() {
        let server = spawn_embedded().await.unwrap();
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(b"SET k v\r\nGET k\r\nQUIT\r\n").await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"+OK\r\n$1\r\nv\r\n+OK\r\n");
        let address = server.address();
        drop(server);
        assert!(TcpStream::connect(address).await.is_err());
    }
}
