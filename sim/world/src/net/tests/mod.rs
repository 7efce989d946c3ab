//! What the simulated network does that a loopback cannot: cuts, power losses, dead peers, and all of it again exactly.
//! What links, sockets, names and captures do is in files of their own.

mod capture;
mod links;
mod names;
mod sockets;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use seedbed_env::{Endpoint, Env as _, Listener as _, Network as _};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connect_in_turn;
use crate::{
    Host, SimEnv, SimStream, Stop, World,
    host::{HUB, SPARE},
    simulate,
};

const PORT: u16 = 6379;

/// Starts a server on Redis's host that sends back what it gets.
fn start_echo(world: &World) {
    start_echo_on(world, HUB);
}

fn start_echo_on(world: &World, host: Host) {
    world.start(host, |env| async move {
        let listener = env.network().listen(PORT).expect("the port is free");
        while let Ok(mut stream) = listener.accept().await {
            let task = async move {
                let mut buffer = [0; 4_096];
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    if stream.write_all(&buffer[..count]).await.is_err() {
                        break;
                    }
                }
            };
            seedbed_env::Env::spawn(&env, task);
        }
    });
}

async fn connect(world: &World) -> io::Result<SimStream> {
    if !world.is_running(1) {
        world.boot(1);
    }
    connect_in_turn(world.env(1).network(), &Endpoint::tcp("server", PORT)).await
}

/// A connection to the echo server, used once.
async fn connected(world: &World) -> SimStream {
    start_echo(world);
    world.sleep_us(1).await;
    let mut stream = connect(world).await.expect("the server listens");
    assert_eq!(echo(&mut stream, b"hello").await.expect("the link is open"), b"hello");
    stream
}

async fn echo(stream: &mut SimStream, bytes: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(bytes).await?;
    let mut reply = vec![0; bytes.len()];
    stream.read_exact(&mut reply).await?;
    Ok(reply)
}

/// How long `act` takes, in milliseconds.
async fn ms<T>(world: &World, act: impl Future<Output = T>) -> (T, u64) {
    let before_us = world.now_us();
    let output = act.await;
    (output, (world.now_us() - before_us) / 1_000)
}

/// Undoes a cut after `us`, in the background.
fn heal_after(world: &World, us: u64) {
    let world = world.clone();
    madsim::task::spawn(async move {
        world.sleep_us(us).await;
        world.net().cut(1, HUB, false);
        world.net().cut(HUB, 1, false);
    });
}

#[test]
fn a_round_trip_takes_a_fraction_of_a_millisecond() {
    simulate(1, async |world| {
        let mut stream = connected(&world).await;
        let before_us = world.now_us();
        for _ in 0..100 {
            echo(&mut stream, b"x").await.expect("the link is open");
        }
        let us = (world.now_us() - before_us) / 100;
        assert!((160..1_000).contains(&us), "a round trip takes {us} us");
    });
}

#[test]
fn extra_latency_counts_once_for_each_direction() {
    simulate(1, async |world| {
        let mut stream = connected(&world).await;
        world.net().set_extra_us(1, HUB, 20_000);
        world.net().set_extra_us(HUB, 1, 3_000);
        let (_, ms) = ms(&world, echo(&mut stream, b"x")).await;
        assert!((23..29).contains(&ms), "it takes {ms} ms");
    });
}

#[test]
fn requests_lost_in_a_cut_arrive_at_the_first_retransmission_after_it() {
    simulate(1, async |world| {
        let mut stream = connected(&world).await;
        world.net().cut(1, HUB, true);
        heal_after(&world, 3_500_000);
        // Sent again after 0.2, 0.6, 1.4, 3.0 and 6.2 s.
        let (reply, ms) = ms(&world, echo(&mut stream, b"x")).await;
        assert_eq!(reply.expect("the request arrives"), b"x");
        assert!((6_200..6_205).contains(&ms), "it takes {ms} ms");
    });
}

#[test]
fn replies_lost_in_a_cut_arrive_after_it() {
    simulate(1, async |world| {
        let mut stream = connected(&world).await;
        world.net().cut(HUB, 1, true);
        heal_after(&world, 1_000_000);
        let (reply, ms) = ms(&world, echo(&mut stream, b"x")).await;
        assert_eq!(reply.expect("the reply arrives"), b"x");
        assert!((1_400..1_405).contains(&ms), "it takes {ms} ms");
    });
}

#[test]
fn what_is_on_the_wire_when_a_cut_begins_is_lost_with_it() {
    simulate(1, async |world| {
        let mut stream = connected(&world).await;
        stream.write_all(b"x").await.expect("there is room");
        world.sleep_us(10).await;
        world.net().cut(1, HUB, true);
        world.net().cut(1, HUB, false);
        let (reply, ms) = ms(&world, stream.read_u8()).await;
        assert_eq!(reply.expect("it is sent again"), b'x');
        assert!((199..205).contains(&ms), "it takes {ms} ms");
    });
}

#[test]
fn a_connect_through_a_partition_hangs_and_succeeds_after_heal() {
    for directions in [[true, false], [false, true], [true, true]] {
        simulate(1, async move |world| {
            start_echo(&world);
            world.sleep_us(1).await;
            world.net().cut(1, HUB, directions[0]);
            world.net().cut(HUB, 1, directions[1]);
            heal_after(&world, 4_000_000);
            // SYNs at 0, 1, 3 and 7 s.
            let (stream, ms) = ms(&world, connect(&world)).await;
            assert!((7_000..7_005).contains(&ms), "it takes {ms} ms");
            echo(&mut stream.expect("the server listens"), b"x").await.expect("the link is open");
        });
    }
}

#[test]
fn a_connect_times_out_after_two_minutes_of_silence() {
    simulate(1, async |world| {
        world.kill(HUB, Stop::PowerLost);
        let (stream, ms) = ms(&world, connect(&world)).await;
        assert_eq!(stream.expect_err("nobody is there").kind(), io::ErrorKind::TimedOut);
        assert_eq!(ms, 127_000);
    });
}

#[test]
fn a_connect_is_refused_after_a_round_trip() {
    simulate(1, async |world| {
        world.add(HUB);
        let before_us = world.now_us();
        let error = connect(&world).await.expect_err("nobody listens");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(world.now_us() - before_us > 160);
        assert_eq!(world.net().counters().refused, 1);
    });
}

#[test]
fn the_kernel_of_a_paused_process_takes_connections_and_data_until_its_buffers_are_full() {
    simulate(1, async |world| {
        start_echo(&world);
        world.sleep_us(1).await;
        world.pause(HUB);
        let mut stream = connect(&world).await.expect("the kernel answers");
        let full = world.env(1);
        let written = std::cell::Cell::new(0);
        let writing = async {
            loop {
                written.set(written.get() + stream.write(&[7; 10_000]).await.expect("the peer is there"));
            }
        };
        let mut writing = std::pin::pin!(writing);
        let mut timer = std::pin::pin!(full.sleep(Duration::from_secs(20)));
        std::future::poll_fn(|context| {
            assert!(writing.as_mut().poll(context).is_pending());
            timer.as_mut().poll(context)
        })
        .await;
        assert!((65_000..=65_536).contains(&written.get()), "{} bytes were taken", written.get());
    });
}

#[test]
fn a_listener_whose_backlog_is_full_drops_connects_in_silence() {
    simulate(1, async |world| {
        let listener = world.boot(HUB).network().listen(PORT).expect("the port is free");
        let mut waiting = Vec::new();
        for _ in 0..512 {
            waiting.push(connect(&world).await.expect("there is room in the backlog"));
            world.sleep_us(10_000).await;
        }
        let accept = {
            let world = world.clone();
            async move {
                world.sleep_us(500_000).await;
                listener.accept().await.expect("many are waiting");
                std::future::pending::<()>().await;
            }
        };
        seedbed_env::Env::spawn(&world.env(HUB), accept);
        let (stream, ms) = ms(&world, connect(&world)).await;
        stream.expect("one was accepted meanwhile");
        assert_eq!(ms, 1_000);
    });
}

#[test]
fn unacknowledged_data_fails_a_stream_after_thirty_seconds_whichever_way_is_cut() {
    for (from, to) in [(Host::Instance(1), HUB), (HUB, Host::Instance(1))] {
        simulate(1, async move |world| {
            let mut stream = connected(&world).await;
            world.sleep_us(7_000_000).await;
            world.net().cut(from, to, true);
            let (reply, ms) = ms(&world, echo(&mut stream, b"x")).await;
            assert_eq!(reply.expect_err("nothing is acknowledged").kind(), io::ErrorKind::TimedOut);
            assert!((30_000..30_010).contains(&ms), "it takes {ms} ms");
        });
    }
}

#[test]
fn a_silent_peer_is_noticed_by_keepalives() {
    simulate(1, async |world| {
        let mut stream = connected(&world).await;
        world.kill(HUB, Stop::PowerLost);
        let (end, ms) = ms(&world, stream.read_u8()).await;
        assert_eq!(end.expect_err("nobody is there").kind(), io::ErrorKind::TimedOut);
        assert!((29_990..30_010).contains(&ms), "it takes {ms} ms");
    });
}

#[test]
fn a_host_that_came_back_after_a_power_loss_answers_old_streams_with_resets() {
    for writes in [false, true] {
        simulate(1, async move |world| {
            let mut stream = connected(&world).await;
            world.kill(HUB, Stop::PowerLost);
            world.sleep_us(2_000_000).await;
            start_echo(&world);
            let (end, ms) = ms(&world, async {
                if writes {
                    stream.write_all(b"x").await?;
                }
                stream.read_u8().await
            })
            .await;
            assert_eq!(end.expect_err("the peer forgot").kind(), io::ErrorKind::ConnectionReset);
            // With a write after a round trip, without one at the first keepalive.
            assert!(if writes { ms <= 5 } else { (7_995..8_005).contains(&ms) }, "it takes {ms} ms");
            assert_eq!(echo(&mut connect(&world).await.expect("it listens"), b"x").await.expect("it answers"), b"x");
        });
    }
}

#[test]
fn a_killed_process_ends_its_streams_unless_its_last_word_is_lost() {
    simulate(1, async |world| {
        let mut stream = connected(&world).await;
        world.kill(HUB, Stop::Killed);
        assert_eq!(stream.read(&mut [0; 8]).await.expect("a FIN arrives"), 0);
    });
    simulate(1, async |world| {
        let mut stream = connected(&world).await;
        world.net().cut(HUB, 1, true);
        world.kill(HUB, Stop::Killed);
        heal_after(&world, 1_000_000);
        let (end, ms) = ms(&world, stream.read(&mut [0; 8])).await;
        assert_eq!(end.expect("a FIN is sent again, as data is"), 0);
        assert!((1_400..1_405).contains(&ms), "it takes {ms} ms");
    });
}

#[test]
fn a_process_killed_with_unread_data_resets_its_streams() {
    simulate(1, async |world| {
        let mut stream = connected(&world).await;
        world.pause(HUB);
        stream.write_all(b"unread").await.expect("the kernel takes it");
        world.sleep_us(5_000).await;
        world.kill(HUB, Stop::Killed);
        let error = stream.read_u8().await.expect_err("the data was not read");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(stream.read(&mut [0; 8]).await.expect("the error was told"), 0);
        assert_eq!(stream.write(b"x").await.expect_err("nobody reads").kind(), io::ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_stream_of_a_killed_process_can_do_nothing_more() {
    simulate(1, async |world| {
        let mut stream = connected(&world).await;
        let segments = world.net().counters().segments;
        world.kill(1, Stop::PowerLost);
        assert_eq!(stream.write(b"x").await.expect_err("it is dead").kind(), io::ErrorKind::BrokenPipe);
        drop(stream);
        let mut fresh = connect(&world).await.expect("the server listens");
        echo(&mut fresh, b"x").await.expect("the link is open");
        assert_eq!(world.net().counters().segments, segments + 2);
    });
}

#[test]
fn an_injected_reset_is_seen_at_both_ends_at_once() {
    simulate(1, async |world| {
        let mut stream = connected(&world).await;
        assert_eq!(world.net().reset_between(HUB, 1), 1);
        let (error, ms) = ms(&world, stream.read_u8()).await;
        assert_eq!(error.expect_err("it was reset").kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(ms, 0);
        drop(stream);
        world.sleep_us(1_000).await;
        assert_eq!((world.net().open_connections(1), world.net().open_connections(HUB)), (0, 0));
    });
}

#[test]
fn a_connection_that_was_forgotten_on_the_way_is_silent_for_good_and_a_new_one_works() {
    simulate(1, async |world| {
        let mut old = connected(&world).await;
        assert_eq!(world.net().forget_between(1, HUB), 1);
        let mut new = connect(&world).await.expect("the server listens");
        let (error, waited_ms) = ms(&world, echo(&mut old, b"lost")).await;
        assert_eq!((error.expect_err("no reply").kind(), waited_ms), (io::ErrorKind::TimedOut, 30_000));
        assert_eq!(echo(&mut new, b"here").await.expect("it is as good as ever"), b"here");
    });
}

#[test]
fn closed_connections_are_forgotten() {
    simulate(1, async |world| {
        start_echo(&world);
        world.sleep_us(1).await;
        for _ in 0..1_000 {
            let mut stream = connect(&world).await.expect("it listens");
            echo(&mut stream, b"x").await.expect("it answers");
        }
        world.sleep_us(10_000).await;
        assert_eq!(world.net().with(|tcp| tcp.conns.ids().len()), 0);
    });
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    let run = |seed| {
        simulate(seed, async |world| {
            start_echo(&world);
            world.sleep_us(1).await;
            let clients = (1..=20_u32).map(|number| {
                let world = world.clone();
                world.clone().start(number, move |env| async move {
                    let mut stream =
                        connect_in_turn(env.network(), &Endpoint::tcp("server", PORT)).await.expect("it listens");
                    for size in 1..200 {
                        echo(&mut stream, &vec![1; size * 20]).await.expect("it answers");
                        world.sleep_us(env.random() % 100).await;
                    }
                })
            });
            for client in clients.collect::<Vec<_>>() {
                client.await.expect("the client ends");
            }
            (world.trace(), world.now_us(), world.net().counters())
        })
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1).0, run(2).0);
}

/// What client `number` sends: so that no byte can be taken for another's.
fn byte(number: u32, connection: u64, position: usize) -> u8 {
    let place = u64::from(number) * 31 + connection * 7 + position as u64 * 13;
    place.to_le_bytes()[0] ^ place.to_le_bytes()[1]
}

/// Connects again and again, for ever, and checks that what comes back on a connection is what was sent, from its first
/// byte on. Leaves the time of the last success in `served_us`.
async fn keep_echoing(env: SimEnv, served_us: Arc<AtomicU64>) {
    let Host::Instance(number) = env.host() else { panic!("Redis is no client") };
    for connection in 0.. {
        let Ok(mut stream) = connect_in_turn(env.network(), &Endpoint::tcp("server", PORT)).await else {
            env.sleep(Duration::from_millis(100)).await;
            continue;
        };
        let mut position = 0;
        while !env.random().is_multiple_of(20) {
            let size = usize::try_from(env.random() % 40_000 + 1).expect("it is small");
            let bytes: Vec<u8> = (position..position + size).map(|at| byte(number, connection, at)).collect();
            let Ok(reply) = echo(&mut stream, &bytes).await else { break };
            assert_eq!(reply, bytes, "bytes were lost, changed or taken for another's");
            served_us.store(u64::try_from(env.now().as_micros()).expect("runs are short"), Ordering::Relaxed);
            position += size;
            env.sleep(Duration::from_micros(env.random() % 500_000)).await;
        }
    }
}

/// Cuts, slows, resets, kills and pauses at random, and heals everything at the end.
async fn disturb(world: &World, seed: u64, until_us: u64) {
    use rand::RngExt;
    let mut stream = crate::seed::Seed(seed).stream("nemesis");
    while world.now_us() < until_us {
        let client = stream.random_range(1..=4_u32);
        let [from, to] = if stream.random() { [Host::Instance(client), HUB] } else { [HUB, Host::Instance(client)] };
        match stream.random_range(0..10) {
            0..2 => world.net().cut(from, to, true),
            2..5 => world.net().cut(from, to, false),
            5..7 => {
                // A cut of a moment loses what is on the wire.
                world.net().cut(from, to, true);
                world.net().cut(from, to, false);
            }
            7..9 => world.net().set_extra_us(from, to, stream.random_range(0..300_000)),
            _ => drop(world.net().reset_between(from, to)),
        }
        if stream.random_range(0..20) == 0 {
            world.kill(HUB, if stream.random() { Stop::Killed } else { Stop::PowerLost });
            world.sleep_us(stream.random_range(1..1_000_000)).await;
            start_echo(world);
        }
        if stream.random_range(0..20) == 0 {
            world.pause(HUB);
            world.sleep_us(stream.random_range(1..1_000_000)).await;
            world.resume(HUB);
        }
        world.sleep_us(stream.random_range(1..500_000)).await;
    }
    for client in 1..=4_u32 {
        world.net().cut(client, HUB, false);
        world.net().cut(HUB, client, false);
        world.net().set_extra_us(client, HUB, 0);
        world.net().set_extra_us(HUB, client, 0);
    }
}

#[test]
fn whatever_the_nemesis_does_streams_keep_their_bytes_and_everyone_is_served_after_heal() {
    const FAULTS_END_US: u64 = 60_000_000;
    for seed in 0..20 {
        let run = move || {
            simulate(seed, async move |world| {
                start_echo(&world);
                let served: [Arc<AtomicU64>; 4] = Default::default();
                for (number, served_us) in (1_u32..).zip(&served) {
                    world.start(number, |env| keep_echoing(env, Arc::clone(served_us)));
                }
                disturb(&world, seed, FAULTS_END_US).await;
                // The next SYN, or retransmission, may be as far behind heal as the faults were long.
                world.sleep_us(FAULTS_END_US).await;
                for (number, served_us) in (1_u32..).zip(&served) {
                    let idle_us = world.now_us() - served_us.load(Ordering::Relaxed);
                    assert!(idle_us < 1_000_000, "client {number} was last served {idle_us} us ago");
                    world.kill(number, if number % 2 == 0 { Stop::Killed } else { Stop::PowerLost });
                }
                world.kill(HUB, Stop::Closed);
                world.sleep_us(1_200_000_000).await;
                assert_eq!(world.net().with(|tcp| tcp.conns.ids().len()), 0, "connections are left");
                (world.trace(), world.net().counters())
            })
        };
        assert_eq!(run(), run());
    }
}
