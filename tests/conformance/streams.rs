//! Streams: how connects, reads and writes end, and how they wait.

use std::{
    future::{Future, poll_fn},
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::Poll,
    time::Duration,
};

use contact_cache::env::{Endpoint, Env, Listener, Network, Task};
use seedbed_contact::world::net::connect_in_turn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::place::{BACKLOG, Place, connected, within};

pub(crate) async fn connecting_where_nobody_listens_is_refused(place: &impl Place) {
    let (listener, port) = place.listen().await;
    drop(listener);
    let error =
        connect_in_turn(place.env().network(), &Endpoint::tcp(place.host(), port)).await.err().expect("nobody listens");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

pub(crate) async fn a_port_takes_connections_for_as_long_as_it_is_listened_on(place: &impl Place) {
    let (listener, port) = place.listen().await;
    drop(listener);
    let (network, endpoint) = (place.env().network(), Endpoint::tcp(place.own_host(), port));
    let listener = network.listen(port).expect("the port is free");
    assert_eq!(network.listen(port).err().expect("it is taken").kind(), io::ErrorKind::AddrInUse);
    // The kernel takes a connection that nobody has accepted yet.
    let mut stream = connect_in_turn(network, &endpoint).await.expect("somebody listens");
    stream.write_all(b"knock").await.expect("the stream is open");
    let mut accepted = listener.accept().await.expect("somebody waits");
    let mut heard = [0; 5];
    accepted.read_exact(&mut heard).await.expect("the stream is open");
    assert_eq!(&heard, b"knock");
    drop(listener);
    let error = connect_in_turn(network, &endpoint).await.err().expect("nobody listens any more");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    accepted.write_all(b"hello").await.expect("connections outlive the port");
    stream.read_exact(&mut heard).await.expect("the stream is open");
    assert_eq!(&heard, b"hello");
}

pub(crate) async fn bytes_come_back_in_order(place: &impl Place) {
    let (mut stream, mut peer) = connected(place).await;
    let sent: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let copy = place.env().spawn(async move {
        let (mut from, mut to) = tokio::io::split(&mut peer);
        tokio::io::copy(&mut from, &mut to).await.expect("the stream stays open");
    });
    let mut received = Vec::new();
    for chunk in sent.chunks(30_000) {
        stream.write_all(chunk).await.expect("the stream stays open");
        let mut reply = vec![0; chunk.len()];
        stream.read_exact(&mut reply).await.expect("the stream stays open");
        received.extend(reply);
    }
    assert!(received == sent, "the bytes were changed on the way");
    copy.abort();
}

pub(crate) async fn an_orderly_close_reads_as_the_end_behind_all_data(place: &impl Place) {
    let (mut stream, mut peer) = connected(place).await;
    peer.write_all(b"last words").await.expect("the stream is open");
    peer.shutdown().await.expect("the stream is open");
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.expect("the close is orderly");
    assert_eq!(heard, b"last words");
    assert_eq!(stream.read(&mut [0; 8]).await.expect("the end stays the end"), 0);
}

pub(crate) async fn half_closing_leaves_the_other_direction_open(place: &impl Place) {
    let (mut stream, mut peer) = connected(place).await;
    stream.shutdown().await.expect("the stream is open");
    assert_eq!(peer.read(&mut [0; 8]).await.expect("the close is orderly"), 0);
    peer.write_all(b"reply").await.expect("this direction is open");
    let mut reply = [0; 5];
    stream.read_exact(&mut reply).await.expect("this direction is open");
    assert_eq!(&reply, b"reply");
    assert_eq!(stream.write(b"x").await.expect_err("it was shut down").kind(), io::ErrorKind::BrokenPipe);
}

pub(crate) async fn a_reset_reads_as_an_error(place: &impl Place) {
    let (mut stream, peer) = connected(place).await;
    place.reset(peer);
    let error = stream.read(&mut [0; 8]).await.expect_err("it was reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

pub(crate) async fn dropping_a_stream_ends_it_for_the_peer(place: &impl Place) {
    let (stream, mut peer) = connected(place).await;
    drop(stream);
    assert_eq!(peer.read(&mut [0; 8]).await.expect("the close is orderly"), 0);
}

pub(crate) async fn writes_wait_for_a_peer_that_does_not_read(place: &impl Place) {
    const BYTES: usize = 32 * 1024 * 1024;
    let (mut stream, mut peer) = connected(place).await;
    let written = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&written);
    place.env().spawn(async move {
        let block = vec![7; BYTES / 32];
        for _ in 0..32 {
            stream.write_all(&block).await.expect("the stream stays open");
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    place.env().sleep(Duration::from_millis(100)).await;
    assert!(written.load(Ordering::Relaxed) < 32, "everything was written though nothing was read");
    let mut read = Vec::new();
    peer.read_to_end(&mut read).await.expect("the close is orderly");
    assert_eq!((read.len(), written.load(Ordering::Relaxed)), (BYTES, 32));
}

pub(crate) async fn dropping_a_connect_harms_nothing<P: Place>(place: &P) {
    let (listener, port) = place.listen().await;
    for _ in 0..3 {
        let endpoint = Endpoint::tcp(place.host(), port);
        let mut connect = Box::pin(connect_in_turn(place.env().network(), &endpoint));
        let polled = poll_fn(|context| Poll::Ready(connect.as_mut().poll(context).is_ready())).await;
        assert!(!polled, "a connect takes a round trip");
    }
    let mut stream =
        connect_in_turn(place.env().network(), &Endpoint::tcp(place.host(), port)).await.expect("the peer listens");
    stream.write_all(b"x").await.expect("the stream is open");
    loop {
        // The abandoned ones may be there too, at their end.
        let mut peer = P::accept(&listener).await;
        if peer.read(&mut [0; 8]).await.is_ok_and(|count| count == 1) {
            break;
        }
    }
}

pub(crate) async fn a_cancelled_read_takes_nothing(place: &impl Place) {
    let (mut stream, mut peer) = connected(place).await;
    for round in 0..3_u8 {
        let mut buffer = [0; 8];
        let polled = {
            let mut read = pin!(stream.read(&mut buffer));
            poll_fn(|context| Poll::Ready(read.as_mut().poll(context).is_ready())).await
        };
        assert!(!polled, "nothing was said yet");
        peer.write_all(&[round; 8]).await.expect("the stream is open");
        stream.read_exact(&mut buffer).await.expect("the stream is open");
        assert_eq!(buffer, [round; 8]);
    }
}

pub(crate) async fn a_cancelled_write_has_taken_nothing_or_says_how_much(place: &impl Place) {
    let (mut stream, mut peer) = connected(place).await;
    let block = vec![7; 100_000];
    let mut sent = 0;
    while let Some(written) = within(place.env(), Duration::from_millis(100), stream.write(&block)).await {
        sent += written.expect("the stream stays open");
    }
    drop(stream);
    let mut read = Vec::new();
    peer.read_to_end(&mut read).await.expect("the close is orderly");
    assert_eq!(read.len(), sent);
}

pub(crate) async fn a_killed_peer_that_had_read_everything_reads_as_the_end(place: &impl Place) {
    let (mut stream, mut peer) = connected(place).await;
    peer.write_all(b"last words").await.expect("the stream is open");
    place.kill(peer);
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.expect("its kernel closes in order");
    assert_eq!(heard, b"last words");
}

pub(crate) async fn a_killed_peer_that_had_not_read_everything_is_a_reset_behind_what_it_said(place: &impl Place) {
    let (mut stream, mut peer) = connected(place).await;
    stream.write_all(b"ab").await.expect("the stream is open");
    assert_eq!(peer.read_u8().await.expect("it was sent"), b'a');
    peer.write_all(b"last words").await.expect("the stream is open");
    place.kill(peer);
    let mut heard = [0; 10];
    stream.read_exact(&mut heard).await.expect("it was said before");
    assert_eq!(&heard, b"last words");
    let error = stream.read(&mut heard).await.expect_err("it had not read everything");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(stream.read(&mut heard).await.expect("an error is told once"), 0);
    assert_eq!(stream.write(b"x").await.expect_err("it is over").kind(), io::ErrorKind::BrokenPipe);
}

pub(crate) async fn a_write_to_a_peer_that_has_gone_is_lost_and_the_next_ones_fail(place: &impl Place) {
    let (mut stream, peer) = connected(place).await;
    drop(peer);
    assert_eq!(stream.read(&mut [0; 8]).await.expect("the close is orderly"), 0);
    stream.write_all(b"lost").await.expect("it cannot be known yet");
    let refused = async {
        loop {
            place.env().sleep(Duration::from_millis(1)).await;
            if let Err(error) = stream.write(b"x").await {
                return error.kind();
            }
        }
    };
    let refused = within(place.env(), Duration::from_secs(10), refused).await;
    assert_eq!(refused, Some(io::ErrorKind::BrokenPipe));
}

pub(crate) async fn a_full_backlog_drops_the_next_syn_until_the_peer_accepts<P: Place>(place: &P) {
    let (listener, port) = place.listen().await;
    let endpoint = Endpoint::tcp(place.host(), port);
    let mut waiting = Vec::new();
    // The SYN is sent again after a second.
    let patience = Duration::from_millis(900);
    while let Some(stream) = within(place.env(), patience, connect_in_turn(place.env().network(), &endpoint)).await {
        waiting.push(stream.expect("the peer listens"));
    }
    // Linux takes one more than was asked for, and another if its SYN arrives before the last one's acknowledgement.
    let over = waiting.len().checked_sub(BACKLOG as usize).expect("as many as were asked for");
    assert!((1..=2).contains(&over), "{} connections wait", waiting.len());
    let mut accepted = Vec::new();
    for _ in 0..over {
        accepted.push(P::accept(&listener).await);
    }
    let connect = within(place.env(), Duration::from_secs(10), connect_in_turn(place.env().network(), &endpoint)).await;
    connect.expect("there is room again").expect("the peer listens");
}
