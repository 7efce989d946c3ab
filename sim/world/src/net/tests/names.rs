//! Names of hosts that resolve slowly, not at all, wrongly, to several addresses, or to another one than before. What a
//! real machine does: the same with a name server of one's own, `tests/conformance/main.rs` says what both agree on.

use seedbed_env::Network as _;

use super::*;
use crate::net::{Resolver, Says};

/// An echo server on the host that a failover leads to.
fn start_other(world: &World) {
    start_echo_on(world, SPARE);
}

#[test]
fn a_slow_resolver_delays_the_connect() {
    simulate(1, async |world| {
        start_echo(&world);
        world.sleep_us(1).await;
        world.net().set_resolver(1, Resolver { delay_us: 3_000_000, ..Resolver::default() });
        let (stream, ms) = ms(&world, connect(&world)).await;
        echo(&mut stream.expect("the answer is right"), b"x").await.expect("it answers");
        assert_eq!(ms, 3_000);
    });
}

#[test]
fn a_failing_resolver_fails_the_connect_of_its_host_alone() {
    simulate(1, async |world| {
        start_echo(&world);
        world.boot(2);
        world.sleep_us(1).await;
        world.net().set_resolver(1, Resolver { delay_us: 10_000_000, says: Says::Failure });
        let (stream, ms) = ms(&world, connect(&world)).await;
        let error = stream.expect_err("nobody answers").to_string();
        assert!(error.contains("temporary failure in name resolution"), "{error}");
        assert_eq!(ms, 10_000);
        connect_in_turn(world.env(2).network(), &Endpoint::tcp("server", PORT))
            .await
            .expect("it has a resolver of its own");
        world.net().set_resolver(1, Resolver::default());
        connect(&world).await.expect("the resolver is well again");
    });
}

#[test]
fn a_connect_dropped_while_it_resolves_sends_nothing() {
    simulate(1, async |world| {
        start_echo(&world);
        world.sleep_us(1).await;
        world.net().set_resolver(1, Resolver { delay_us: 1_000_000, ..Resolver::default() });
        let env = world.boot(1);
        let endpoint = Endpoint::tcp("server", PORT);
        let mut connect = Box::pin(connect_in_turn(env.network(), &endpoint));
        std::future::poll_fn(|context| {
            assert!(connect.as_mut().poll(context).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        drop(connect);
        world.sleep_us(5_000_000).await;
        assert_eq!(world.net().counters().connects, 0);
    });
}

#[test]
fn a_wrong_address_is_refused_or_silent() {
    for silent in [false, true] {
        simulate(1, async move |world| {
            start_echo(&world);
            world.sleep_us(1).await;
            if silent {
                world.kill(SPARE, Stop::PowerLost);
            }
            world.net().set_resolver(1, Resolver { delay_us: 0, says: Says::Addresses(vec![SPARE]) });
            let (stream, ms) = ms(&world, connect(&world)).await;
            let kind = stream.expect_err("Redis is not there").kind();
            let expected =
                if silent { (io::ErrorKind::TimedOut, 127_000) } else { (io::ErrorKind::ConnectionRefused, 0) };
            assert_eq!((kind, ms), expected);
        });
    }
}

#[test]
fn several_addresses_are_tried_in_turn() {
    simulate(1, async |world| {
        start_echo(&world);
        world.sleep_us(1).await;
        world.net().set_addresses("server", &[SPARE, Host::Instance(7), HUB]);
        let mut stream = connect(&world).await.expect("the third is right");
        assert_eq!(echo(&mut stream, b"x").await.expect("it answers"), b"x");
        assert_eq!(world.net().counters().refused, 2);
        // One that is silent holds up all that follow, for as long as its connect lasts.
        world.kill(SPARE, Stop::PowerLost);
        let (stream, ms) = ms(&world, connect(&world)).await;
        stream.expect("the third is right");
        assert_eq!(ms, 127_000);
        world.net().set_addresses("server", &[]);
        assert_eq!(connect(&world).await.expect_err("it has no address").kind(), io::ErrorKind::NotFound);
    });
}

#[test]
fn after_a_failover_a_new_connection_leads_to_the_new_address() {
    simulate(1, async |world| {
        let mut stream = connected(&world).await;
        start_other(&world);
        world.kill(HUB, Stop::PowerLost);
        world.net().set_addresses("server", &[SPARE]);
        // The old connection leads where it led.
        let (reply, ms) = ms(&world, echo(&mut stream, b"x")).await;
        assert_eq!((reply.expect_err("nobody is there").kind(), ms / 1_000), (io::ErrorKind::TimedOut, 30));
        let mut stream = connect(&world).await.expect("the replica listens");
        assert_eq!(echo(&mut stream, b"x").await.expect("it answers"), b"x");
        assert_eq!(world.net().open_connections(SPARE), 1);
    });
}

#[test]
fn a_server_is_found_by_its_name_alone() {
    simulate(1, async |world| {
        let [hub, front, back] = ["server", "front", "back"].map(|name| world.server(name));
        assert_ne!(front, back);
        assert_eq!([world.server("front"), world.server("server")], [front, hub]);
        start_echo_on(&world, hub);
        world.sleep_us(1).await;
        let mut stream = connect(&world).await.expect("it listens");
        assert_eq!(echo(&mut stream, b"x").await.expect("it answers"), b"x");
    });
}

#[test]
fn a_name_that_no_machine_has_is_said_and_so_are_two_servers_with_one() {
    simulate(1, async |world| {
        let endpoint = Endpoint::tcp("server", PORT);
        let error = world.boot(1).network().resolve(&endpoint).await.expect_err("it has not been added");
        assert_eq!(error.to_string(), "unknown host \"server\": no machine of this world has that name");
        world.add(HUB);
        world.add(HUB);
        assert!(world.env(1).network().resolve(&endpoint).await.is_ok());
        for other in [Host::Server { number: 0, name: "another" }, Host::Server { number: 7, name: "server" }] {
            let added = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.add(other)));
            assert!(added.is_err(), "{other:?} beside {HUB:?}");
        }
    });
}
