//! What crosses a network that loses everything for a while. In the real world that takes two network namespaces with a
//! wire between them, which only root may make: without the right the tests say so, and pass.

use std::{io, pin::pin, time::Duration};

use contact_cache::env::{Endpoint, Env};
use seedbed_contact::redis_host::REDIS;
use seedbed_contact::world::net::connect_in_turn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::place::{Place, Simulation, connected, within};

/// A place whose peer can be cut off.
pub(crate) trait Wire: Place {
    /// Everything that is sent is lost, in silence, in both directions.
    fn cut(&self);

    fn heal(&self);
}

pub(crate) async fn a_connect_into_a_cut_hangs_until_the_syn_that_gets_through(place: &impl Wire) {
    let (_listener, port) = place.listen().await;
    let (network, endpoint) = (place.env().network(), Endpoint::tcp(place.host(), port));
    place.cut();
    let mut connect = pin!(connect_in_turn(network, &endpoint));
    assert!(within(place.env(), Duration::from_millis(500), connect.as_mut()).await.is_none(), "a lost SYN is silent");
    place.heal();
    let connected = within(place.env(), Duration::from_secs(20), connect).await;
    connected.expect("the SYN is sent again").expect("the peer listens");
}

pub(crate) async fn a_writer_into_a_cut_stops_when_its_buffer_is_full_and_nothing_is_lost(place: &impl Wire) {
    let (mut stream, mut peer) = connected(place).await;
    place.cut();
    let block = vec![7; 50_000];
    let mut sent = 0;
    while let Some(written) = within(place.env(), Duration::from_millis(200), stream.write(&block)).await {
        sent += written.expect("nothing is known to be wrong");
        assert!(sent < 64 << 20, "writes never wait");
    }
    assert!(sent > 0, "not even the first write went through");
    place.heal();
    drop(stream);
    let mut read = Vec::new();
    let reading = within(place.env(), Duration::from_secs(30), peer.read_to_end(&mut read)).await;
    reading.expect("it is sent again").expect("the close is orderly");
    assert_eq!(read.len(), sent);
}

/// What `Network` promises: 30 s, whether something was sent into the cut or not.
pub(crate) async fn a_dead_peer_is_noticed_by_the_user_timeout_and_by_keepalives(place: &impl Wire) {
    let (mut busy, _busy_peer) = connected(place).await;
    let (mut idle, _idle_peer) = connected(place).await;
    place.cut();
    busy.write_all(b"into the cut").await.expect("nothing is known to be wrong");
    let patience = Duration::from_mins(1);
    let early = within(place.env(), Duration::from_secs(15), busy.read(&mut [0])).await;
    assert!(early.is_none(), "it was noticed too early: {early:?}");
    for stream in [&mut busy, &mut idle] {
        let read = within(place.env(), patience, stream.read(&mut [0])).await;
        let error = read.expect("a dead peer is noticed in bounded time").expect_err("nothing arrived");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}

impl Wire for Simulation {
    fn cut(&self) {
        self.world.net().cut(1, REDIS, true);
        self.world.net().cut(REDIS, 1, true);
    }

    fn heal(&self) {
        self.world.net().cut(1, REDIS, false);
        self.world.net().cut(REDIS, 1, false);
    }
}
