//! The merge script in a real Redis and the join in Rust are one function: tried on random records.

use std::net::{Ipv4Addr, SocketAddr};

use metrics::Counter;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use redis::{AsyncConnectionConfig, RedisConnectionInfo, Value, aio::MultiplexedConnection};
use redis_launcher::{Program, Server};

use super::{
    reply::record_of,
    script::{self, Mode, Terms},
};
use crate::{
    contact::Timestamp,
    env::{Address, Endpoint, Env, Network, TokioEnv},
    record::{Cell, CellName, Estimated, Life, Merged, Record, SentLife, Times},
    stamp::Stamp,
};

const TOMBSTONE_TTL_MS: u64 = 3_600_000;

async fn connect(server: &Server) -> MultiplexedConnection {
    let env = TokioEnv::new();
    let endpoint = Endpoint::tcp("127.0.0.1", server.port());
    let address = Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, server.port())));
    let stream = env.network().connect(&endpoint, &address).await.unwrap();
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let info = RedisConnectionInfo::default();
    let (connection, driver) = MultiplexedConnection::new_with_config(&info, stream, config).await.unwrap();
    env.spawn(driver);
    connection
}

/// Few stamps, names and values, so that collisions are common; and names that are hard to carry.
fn record(rng: &mut StdRng) -> Record {
    const NAMES: [&str; 6] = ["a", "", "\u{0}\r\n", "e", "\"\\", "\u{1f980}"];
    const VALUES: [&str; 4] = ["1", "[]", "\"\u{e4}\"", "+5"];
    let name = |rng: &mut StdRng| NAMES[rng.random_range(0..NAMES.len())].to_owned();
    let time = |rng: &mut StdRng| rng.random_bool(0.5).then(|| Timestamp::from_millis(rng.random_range(0..9)));
    let mut record = Record::with_times(Times { first: time(rng), last: time(rng) });
    for _ in 0..rng.random_range(0..8) {
        let value = rng.random_bool(0.7).then(|| VALUES[rng.random_range(0..VALUES.len())].into());
        let (name, value) = match rng.random_range(0..10) {
            0 => (CellName::tombstone(), None),
            1 | 2 => (CellName::existence(), None),
            3..6 => (CellName::profile(&name(rng)), value),
            6 | 7 => (CellName::metadata(&name(rng)), value),
            _ => (CellName::contact(&name(rng), &name(rng)), value),
        };
        record.join_cell(&name, &Cell { stamp: stamp(rng.random_range(0..6)), value });
    }
    // What has a life comes with the existence cell, whose stamp is the largest.
    let tombstone = CellName::tombstone();
    let newest = record.cells().iter().filter(|(name, _)| **name != tombstone).map(|(_, cell)| cell.stamp).max();
    if let Some(stamp) = newest {
        record.join_cell(&CellName::existence(), &Cell { stamp, value: None });
        // Never past: what expires is no join.
        let begin_ms = rng.random_range(0..3);
        record.set_life(Life::from_now(begin_ms, rng.random_bool(0.5).then(|| (1 << 47) + rng.random_range(0..3))));
    }
    record
}

fn terms(record: &Record, rng: &mut StdRng) -> Terms {
    let (told, estimated) = match record.life() {
        life if rng.random_bool(0.5) => (life, None),
        life => (None, life.map(|life| Estimated { life, ttl_ms: life.has_end().then_some(1 << 47) })),
    };
    Terms { tombstone_ttl_ms: TOMBSTONE_TTL_MS, life: SentLife { told, estimated } }
}

fn stamp(number: u64) -> Stamp {
    format!("{number:032x}").parse().unwrap()
}

async fn stored(connection: &mut MultiplexedConnection, key: &str) -> Record {
    let Value::Array(flat) = redis::cmd("HGETALL").arg(key).query_async(connection).await.unwrap() else {
        panic!("HGETALL gives a list")
    };
    record_of(key, &flat).unwrap()
}

/// What mode *all* demands, said without the script: each cell above what is stored of it and above the tombstone, a
/// tombstone above everything. The largest stamp that is not, if one is not.
fn in_the_way(stored: &Record, sent: &Record) -> Option<Stamp> {
    let pairs = sent.cells().iter().flat_map(|cell| stored.cells().iter().map(move |held| (cell, held)));
    let in_the_way = pairs.filter(|((name, cell), (held_name, held))| {
        let meets = held_name == name || held_name.is_tombstone() || name.is_tombstone();
        meets && cell.stamp <= held.stamp
    });
    in_the_way.map(|(_, (_, held))| held.stamp).max()
}

async fn agree(connection: &mut MultiplexedConnection, key: &str, rng: &mut StdRng) {
    let mut joined = Record::default();
    for step in 0..rng.random_range(1..8) {
        let sent = record(rng);
        let mode = if rng.random_bool(0.5) { Mode::Each } else { Mode::All };
        let merged = script::merge(connection, key, mode, &sent, terms(&sent, rng), &Counter::noop()).await.unwrap();
        let context = format!("{key}, step {step}, {mode:?} of {sent:?} onto {joined:?}: {merged:?}");
        let before = joined.clone();
        match merged {
            Merged::Applied(told) => {
                assert!(mode == Mode::Each || in_the_way(&before, &sent).is_none(), "{context}");
                joined.join(&sent);
                let known = sent.clone().living(told.life());
                assert!(sent.cells().iter().all(|(name, cell)| joined.cells().get(name) == Some(cell)), "{context}");
                assert_eq!(known.life(), joined.life().filter(|_| sent.life().is_some()), "{context}");
            }
            Merged::Outdone(whole) => {
                assert_eq!(mode, Mode::Each, "{context}");
                joined.join(&sent);
                assert_eq!(whole, joined, "the sender does not know what won: {context}");
            }
            Merged::Over => panic!("none of these lives is ever over: {context}"),
            Merged::Conflict(told) => {
                assert_eq!(mode, Mode::All, "{context}");
                assert_eq!(Some(told), in_the_way(&before, &sent), "the next attempt must meet no other: {context}");
            }
        }
        assert_eq!(stored(connection, key).await, joined, "{context}");
        let ttl: i64 = redis::cmd("PTTL").arg(key).query_async(connection).await.unwrap();
        let as_it_should = match joined.alive_until_ms() {
            _ if joined == Record::default() => ttl == -2,
            u64::MAX => ttl == -1,
            _ => ttl > 0,
        };
        assert!(as_it_should, "ttl {ttl}: {context}");
    }
}

#[test]
fn the_script_joins_as_the_client_does() {
    let Some(program) = Program::redis_server() else { return };
    let server = Server::running(&program);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = connect(&server).await;
        let mut rng = StdRng::seed_from_u64(7);
        for number in 0..3000 {
            agree(&mut connection, &format!("record-{number}"), &mut rng).await;
        }
    });
}
