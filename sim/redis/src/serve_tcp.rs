//! The engine on a real loopback port, with the real clock: a Redis for examples and tests on machines without one.
//!
//! Everything real stands in this file. A simulated run never comes here.

use std::{
    cell::RefCell,
    future::{pending, poll_fn},
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
    runtime, sync,
    task::{self, LocalSet},
    time,
};

use super::{ClientId, DueReply, Engine, Flow};

/// The engine that all connections share, and what tells those that wait for an element that replies are due.
#[derive(Default)]
struct Shared {
    engine: RefCell<Engine>,
    came: sync::Notify,
}

/// Serves one empty engine to every client of `listener`, until accepting fails for good. Dropping the future closes
/// the port and every connection. The runtime needs its timers, for BLPOP and its like.
pub async fn serve(listener: TcpListener) -> io::Result<()> {
    LocalSet::new().run_until(accept(listener, Rc::default())).await
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
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let (stop, stopped) = sync::oneshot::channel();
    let work = move || {
        runtime.block_on(LocalSet::new().run_until(async move {
            // A failure to accept ends the server, which its clients notice.
            task::spawn_local(async move {
                let listener = TcpListener::from_std(listener)?;
                accept(listener, Rc::default()).await
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

async fn accept(listener: TcpListener, shared: Rc<Shared>) -> io::Result<()> {
    for number in 0.. {
        let (stream, _) = listener.accept().await?;
        let shared = Rc::clone(&shared);
        task::spawn_local(async move {
            let client = ClientId(number);
            shared.engine.borrow_mut().connect(client);
            // However a connection ends, it is the client's to notice.
            let _ = converse(stream, client, &shared).await;
            shared.engine.borrow_mut().disconnect(client);
        });
    }
    pending().await
}

async fn converse(mut stream: TcpStream, client: ClientId, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut input, mut output) = (vec![0; 16 * 1024], Vec::new());
    loop {
        let is_waiting = shared.engine.borrow().is_waiting(client);
        let arrived = if is_waiting {
            read_or_due(&mut stream, &mut input, client, shared).await?
        } else {
            ServedEvent::Bytes(stream.read(&mut input).await?)
        };
        output.clear();
        let flow = match arrived {
            ServedEvent::Bytes(0) => return Ok(()),
            ServedEvent::Bytes(length) => {
                let mut engine = shared.engine.borrow_mut();
                let flow = engine.feed(client, &input[..length], wall_ms(), &mut output);
                // Others are told that they are served, and those that wait that there may be another end of a wait.
                if engine.due().next().is_some() {
                    shared.came.notify_waiters();
                }
                flow
            }
            ServedEvent::Due(DueReply { bytes, flow }) => {
                output = bytes;
                flow
            }
        };
        stream.write_all(&output).await?;
        if flow == Flow::Close {
            return stream.shutdown().await;
        }
    }
}

/// What a client that waits has met.
enum ServedEvent {
    /// So many bytes of its own; none at the end of the connection.
    Bytes(usize),
    Due(DueReply),
}

/// Waits for bytes, or for the replies that end the wait of the client for an element.
async fn read_or_due(
    stream: &mut TcpStream,
    input: &mut [u8],
    client: ClientId,
    shared: &Shared,
) -> io::Result<ServedEvent> {
    loop {
        // It is made first, so that nothing that comes from here on is missed.
        let mut came = pin!(shared.came.notified());
        came.as_mut().enable();
        let wakes_at_ms = {
            let mut engine = shared.engine.borrow_mut();
            engine.wake(wall_ms());
            if let Some(due) = engine.take_due(client) {
                return Ok(ServedEvent::Due(due));
            }
            if engine.due().next().is_some() {
                shared.came.notify_waiters();
            }
            engine.wakes_at_ms()
        };
        // A day is as good as for ever.
        let left_ms = wakes_at_ms.map_or(86_400_000, |at_ms| at_ms.saturating_sub(wall_ms()).min(86_400_000));
        #[expect(clippy::disallowed_methods, reason = "a real server on a real port has the real clock")]
        let mut over = pin!(time::sleep(Duration::from_millis(left_ms)));
        let mut buffer = ReadBuf::new(input);
        let length = poll_fn(|context| {
            if let Poll::Ready(read) = Pin::new(&mut *stream).poll_read(context, &mut buffer) {
                return Poll::Ready(read.map(|()| Some(buffer.filled().len())));
            }
            let is_over = over.as_mut().poll(context).is_ready();
            if came.as_mut().poll(context).is_ready() || is_over { Poll::Ready(Ok(None)) } else { Poll::Pending }
        });
        if let Some(length) = length.await? {
            return Ok(ServedEvent::Bytes(length));
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
    async fn a_client_that_waits_is_answered_when_an_element_comes_or_its_time_is_over() {
        let server = spawn_embedded().await.unwrap();
        let mut waiting = TcpStream::connect(server.address()).await.unwrap();
        let mut other = TcpStream::connect(server.address()).await.unwrap();
        waiting.write_all(b"BLPOP a 0.001\r\nRPUSH b x\r\nBLPOP a 0\r\nQUIT\r\n").await.unwrap();
        // The second wait has begun when the key is there.
        other.write_all(b"BLPOP b 0\r\nRPUSH a y\r\nQUIT\r\n").await.unwrap();
        let mut answers = [Vec::new(), Vec::new()];
        other.read_to_end(&mut answers[0]).await.unwrap();
        waiting.read_to_end(&mut answers[1]).await.unwrap();
        assert_eq!(answers[0], b"*2\r\n$1\r\nb\r\n$1\r\nx\r\n:1\r\n+OK\r\n");
        assert_eq!(answers[1], b"*-1\r\n:1\r\n*2\r\n$1\r\na\r\n$1\r\ny\r\n+OK\r\n");
    }

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
