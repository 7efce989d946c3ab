//! What a link does to the segments on it: loss, bandwidth, latency, cuts. A real kernel shows each under `tc qdisc add dev
//! lo root netem` with `loss 20%`, `rate 8mbit`, `delay 30ms 10ms`.

use super::*;
use crate::net::Latency;

const THERE: (Host, Host) = (Host::Instance(1), HUB);
const BACK: (Host, Host) = (HUB, Host::Instance(1));

fn set_loss(world: &World, per_mille: u32) {
    for (from, to) in [THERE, BACK] {
        world.net().set_loss(from, to, per_mille);
    }
}

/// Both ends of a connection, without anyone to answer.
async fn pair(world: &World) -> (SimStream, SimStream) {
    let redis = if world.is_running(HUB) { world.env(HUB) } else { world.boot(HUB) };
    let listener = redis.network().listen(PORT).expect("the port is free");
    let client = connect(world).await.expect("it listens");
    let server = listener.accept().await.expect("one connects");
    (client, server)
}

#[test]
fn loss_is_delay_and_not_a_gap() {
    simulate(1, async |world| {
        let mut stream = connected(&world).await;
        set_loss(&world, 100);
        let (mut quick, mut late) = (0, 0);
        for number in 0..400_u32 {
            let (reply, ms) = ms(&world, echo(&mut stream, &number.to_be_bytes())).await;
            assert_eq!(reply.expect("it comes back"), number.to_be_bytes());
            match ms {
                0..10 => quick += 1,
                199.. => late += 1,
                _ => panic!("{ms} ms: neither at once nor after a retransmission"),
            }
        }
        // Request and reply get through in 81 of 100.
        assert!((280..370).contains(&quick), "{quick} of 400 were quick, {late} late");
    });
}

#[test]
fn what_follows_a_lost_segment_waits_for_it() {
    simulate(1, async |world| {
        let (mut client, mut server) = pair(&world).await;
        set_loss(&world, 1_000);
        client.write_all(b"a").await.expect("there is room");
        world.sleep_us(1_000).await;
        set_loss(&world, 0);
        client.write_all(b"b").await.expect("there is room");
        let mut bytes = [0; 2];
        let (read, ms) = ms(&world, server.read_exact(&mut bytes)).await;
        read.expect("both arrive");
        assert_eq!((&bytes, ms), (b"ab", 199));
    });
}

#[test]
fn loss_on_one_connection_does_not_hold_up_another() {
    simulate(1, async |world| {
        let mut first = connected(&world).await;
        let mut second = connect(&world).await.expect("it listens");
        echo(&mut second, b"x").await.expect("it answers");
        set_loss(&world, 1_000);
        first.write_all(b"lost").await.expect("there is room");
        world.sleep_us(10).await;
        set_loss(&world, 0);
        let (reply, ms) = ms(&world, echo(&mut second, b"later")).await;
        assert_eq!((reply.expect("it answers"), ms), (b"later".to_vec(), 0));
        let mut reply = [0; 4];
        first.read_exact(&mut reply).await.expect("it is sent again");
        assert_eq!(&reply, b"lost");
    });
}

#[test]
fn a_lost_syn_costs_a_second() {
    simulate(1, async |world| {
        start_echo(&world);
        world.sleep_us(1).await;
        set_loss(&world, 1_000);
        let healing = world.clone();
        madsim::task::spawn(async move {
            healing.sleep_us(500_000).await;
            set_loss(&healing, 0);
        });
        let (stream, ms) = ms(&world, connect(&world)).await;
        stream.expect("the second SYN arrives");
        assert_eq!(ms, 1_000);
    });
}

#[test]
fn nothing_but_loss_fails_a_stream_as_a_cut_does() {
    simulate(1, async |world| {
        let mut stream = connected(&world).await;
        set_loss(&world, 1_000);
        let (reply, ms) = ms(&world, echo(&mut stream, b"x")).await;
        assert_eq!(reply.expect_err("nothing arrives").kind(), io::ErrorKind::TimedOut);
        assert!((30_000..30_010).contains(&ms), "it takes {ms} ms");
    });
}

#[test]
fn bandwidth_is_a_queue_that_connections_share() {
    simulate(1, async |world| {
        let (mut client, mut server) = pair(&world).await;
        let (from, to) = THERE;
        world.net().set_bandwidth(from, to, Some(1_000_000));
        client.write_all(&vec![7; 50_000]).await.expect("there is room");
        // A connect's SYN stands behind them; the way back is free.
        let second = {
            let world = world.clone();
            madsim::task::spawn(async move { ms(&world, connect(&world)).await.1 })
        };
        let (read, took_ms) = ms(&world, server.read_exact(&mut vec![0; 50_000])).await;
        read.expect("all arrives");
        assert!((50..55).contains(&took_ms), "50 kB at 1 MB/s take {took_ms} ms");
        let syn_ms = second.await.expect("the task ends");
        assert!((50..55).contains(&syn_ms), "a SYN behind them takes {syn_ms} ms");
        server.write_all(&vec![8; 50_000]).await.expect("there is room");
        let (read, took_ms) = ms(&world, client.read_exact(&mut vec![0; 50_000])).await;
        read.expect("all arrives");
        assert!(took_ms < 10, "the other direction has no limit, and takes {took_ms} ms");
    });
}

#[test]
fn latency_is_each_links_own_and_jitter_overtakes_only_across_connections() {
    simulate(1, async |world| {
        let mut streams = [connected(&world).await, connect(&world).await.expect("it listens")];
        let latency = Latency { base_us: 30_000, jitter_us: 20_000, tail_every: 0, tail_us: 0 };
        world.net().set_latency(1, HUB, Some(latency));
        let (_, ms) = ms(&world, echo(&mut streams[0], b"x")).await;
        assert!((30..51).contains(&ms), "it takes {ms} ms");
        let mut overtaken = 0;
        for round in 0..50_u8 {
            for (stream, which) in streams.iter_mut().zip([0, 100]) {
                for byte in [round, round + 1] {
                    stream.write_all(&[which + byte]).await.expect("there is room");
                    world.sleep_us(100).await;
                }
            }
            let mut arrivals = [0, 0];
            for (stream, which, arrival_us) in
                streams.iter_mut().zip([0, 100]).zip(&mut arrivals).map(|((a, b), c)| (a, b, c))
            {
                let mut reply = [0; 2];
                stream.read_exact(&mut reply).await.expect("both come back");
                assert_eq!(reply, [which + round, which + round + 1], "in order on each");
                *arrival_us = world.now_us();
            }
            overtaken += u32::from(arrivals[0] == arrivals[1]);
        }
        assert!(overtaken > 5, "the second was there before the first {overtaken} times of 50");
    });
}

/// On a real kernel: a receiver of 64 KiB, and `iptables -A OUTPUT -p tcp --sport 6379 -j DROP` for a moment.
#[test]
fn acknowledgements_on_the_wire_when_a_cut_begins_are_lost_with_it() {
    for cut in [false, true] {
        simulate(1, async move |world| {
            let (mut client, mut server) = pair(&world).await;
            world.net().set_extra_us(HUB, 1, 10_000);
            client.write_all(&vec![7; 65_536]).await.expect("there is room");
            world.sleep_us(10_000).await;
            server.read_exact(&mut vec![0; 65_536]).await.expect("all arrived");
            if cut {
                world.sleep_us(5_000).await;
                world.net().cut(HUB, 1, true);
                world.net().cut(HUB, 1, false);
            }
            // The window is known to be open again only when the sender hears of it.
            let (written, ms) = ms(&world, client.write(b"x")).await;
            written.expect("there is room in the end");
            assert!(if cut { (200..230).contains(&ms) } else { ms < 25 }, "cut: {cut}, it takes {ms} ms");
        });
    }
}
