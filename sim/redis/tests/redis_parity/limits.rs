//! What a server closes a connection for, and what it denies: the simulated one does it as the real one does.

use std::{
    io::{BufReader, Read, Write},
    os::unix::net::UnixStream,
};

use seedbed_redis::{ClientId, Engine, Flow, ServerLimit};

use super::{
    encode, running,
    states::{ask, of, ok, until},
    wall_ms,
};

/// The least that Redis takes for a limit in bytes.
const MIB: usize = 1 << 20;
/// Commands that are denied, one set at a time.
const DENIED: [&[&str]; 6] = [&["scan"], &["eval", "evalsha"], &["hgetall"], &["hset"], &["get"], &["time"]];

#[test]
fn a_user_who_is_denied_a_command_may_use_all_others_also_from_scripts() {
    let Some(server) = running() else { return };
    for denied in DENIED {
        let (mut real, mut engine) = (BufReader::new(server.connect()), Engine::new());
        engine.connect(ClientId(0));
        for command in denied {
            ok(&mut real, &["ACL", "SETUSER", "default", &format!("-{command}")]);
        }
        engine.deny(denied);
        for words in [
            &["SCAN", "0", "MATCH", "none"][..],
            &["GET", "k"],
            &["HGETALL", "h"],
            &["HSET", "h", "f", "v"],
            &["EVALSHA", "ffffffffffffffffffffffffffffffffffffffff", "0"],
            &["EVAL", "return redis.call('hgetall', 'h')", "0"],
            &["EVAL", "return redis.call('hset', 'h', 'f', 'v')", "0"],
            &["EVAL", "return redis.pcall('hset', 'h', 'f', 'v')", "0"],
            &["EVAL", "return {redis.call('set', 'k', 'v'), #redis.call('time')}", "0"],
        ] {
            assert_eq!(told(&mut engine, words), ask(&mut real, words), "{denied:?}: {words:?}");
        }
        ok(&mut real, &["ACL", "SETUSER", "default", "+@all"]);
        ok(&mut real, &["FLUSHALL"]);
    }
}

#[test]
fn a_query_that_fills_its_buffer_ends_its_connection_without_a_word() {
    let Some(server) = running() else { return };
    ok(&mut BufReader::new(server.connect()), &["CONFIG", "SET", "client-query-buffer-limit", &MIB.to_string()]);
    // Of several words only one is in the buffer at a time.
    let (half, below, above) = ("x".repeat(MIB / 2), "x".repeat(MIB - 64), "x".repeat(MIB + 1));
    for words in [&["ECHO", &below][..], &["ECHO", &above], &["DEL", &half, &half, &half]] {
        let mut engine = Engine::new();
        engine.limit(ServerLimit::QueryBytes { bytes: MIB as u64 });
        let same = ends_of(&mut engine, words) == end_of(server.connect(), words);
        assert!(same, "{} of {} bytes", words[0], words[1].len());
    }
}

#[test]
fn a_word_above_its_limit_ends_its_connection_after_an_error() {
    let Some(server) = running() else { return };
    ok(&mut BufReader::new(server.connect()), &["CONFIG", "SET", "proto-max-bulk-len", &MIB.to_string()]);
    for length in [MIB, MIB + 1] {
        let mut engine = Engine::new();
        engine.limit(ServerLimit::BulkBytes { bytes: MIB as u64 });
        let words = ["ECHO", &"x".repeat(length)];
        assert!(ends_of(&mut engine, &words) == end_of(server.connect(), &words), "{length} bytes");
    }
}

#[test]
fn a_client_above_the_limit_is_told_so_and_closed_while_those_before_go_on() {
    let Some(server) = running() else { return };
    let mut first = BufReader::new(server.connect());
    ok(&mut first, &["CONFIG", "SET", "maxclients", "2"]);
    let mut second = BufReader::new(server.connect());
    ok(&mut second, &["SET", "k", "v"]);
    let mut told = String::new();
    server.connect().read_to_string(&mut told).expect("it is closed");

    let mut engine = Engine::new();
    engine.limit(ServerLimit::Clients { clients: 2 });
    for client in 0..2 {
        assert_eq!(engine.turns_away(), None);
        engine.connect(ClientId(client));
    }
    assert_eq!(engine.turns_away(), Some(told.as_bytes()));
    engine.disconnect(ClientId(0));
    assert_eq!(engine.turns_away(), None);
    ok(&mut first, &["SET", "k", "v"]);
}

#[test]
fn a_client_that_is_idle_for_longer_than_the_limit_is_closed_without_a_word() {
    let Some(server) = running() else { return };
    let mut busy = BufReader::new(server.connect());
    ok(&mut busy, &["CONFIG", "SET", "timeout", "1"]);
    let mut idle = server.connect();
    let began_ms = wall_ms();
    let (mut told, mut engine) = (Vec::new(), Engine::new());
    engine.connect_at(ClientId(0), began_ms);
    engine.connect_at(ClientId(1), began_ms);
    engine.limit(ServerLimit::Idle { seconds: 1 });
    idle.set_nonblocking(true).expect("a socket");
    until(|| {
        ask(&mut busy, &["PING"]);
        matches!(idle.read_to_end(&mut told), Ok(0))
    });
    let closed_ms = wall_ms();
    assert_eq!(told, b"");
    assert!((1_000..4_000).contains(&(closed_ms - began_ms)), "after {} ms", closed_ms - began_ms);

    engine.feed(ClientId(1), b"PING\r\n", began_ms + 1_500, &mut Vec::new());
    assert_eq!(engine.close_idle(began_ms + 999), Some(Vec::new()));
    assert_eq!(engine.close_idle(began_ms + 2_000), Some(vec![ClientId(0)]));
    assert_eq!(engine.feed(ClientId(0), b"PING\r\n", began_ms + 2_000, &mut Vec::new()), Flow::Close);
}

#[test]
fn a_script_without_end_that_has_written_nothing_is_killed() {
    let Some(server) = running() else { return };
    let mut real = BufReader::new(server.connect());
    ok(&mut real, &["CONFIG", "SET", "busy-reply-threshold", "1"]);
    let mut other = server.connect();
    other.write_all(&encode(&of(&["EVAL", "while true do end", "0"]))).expect("the server reads");
    until(|| ask(&mut real, &["PING"]).starts_with("-BUSY"));
    let mut engine = Engine::new();
    engine.connect(ClientId(0));
    engine.run_endless_script();
    for words in [&["GET", "k"][..], &["SCRIPT", "KILL"], &["PING"], &["SCRIPT", "KILL"]] {
        until(|| words != ["PING"] || ask(&mut real, &["PING"]).starts_with('+'));
        assert_eq!(told(&mut engine, words), ask(&mut real, words), "{words:?}");
    }
}

/// What the engine answers its first client.
fn told(engine: &mut Engine, words: &[&str]) -> String {
    let mut out = Vec::new();
    engine.feed(ClientId(0), &encode(&of(words)), wall_ms(), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// What is answered to these words and PINGs after them, until an answer to those comes or the connection is closed.
#[expect(clippy::disallowed_methods, reason = "the real server reads at its own pace")]
fn end_of(mut real: UnixStream, words: &[&str]) -> (Vec<u8>, bool) {
    let mut asking = real.try_clone().expect("a second handle");
    let bytes = encode(&of(words));
    // The server may close before it has read all.
    let writer = std::thread::spawn(move || asking.write_all(&bytes).and_then(|()| asking.write_all(b"PING\r\n")));
    let (mut out, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    let is_closed = loop {
        match real.read(&mut buffer) {
            Ok(0) | Err(_) => break true,
            Ok(count) => out.extend_from_slice(&buffer[..count]),
        }
        if out.ends_with(b"+PONG\r\n") {
            break false;
        }
    };
    let _ = writer.join().expect("it does not panic");
    (out, is_closed)
}

/// The same of the engine, which is given what a server reads at a time.
fn ends_of(engine: &mut Engine, words: &[&str]) -> (Vec<u8>, bool) {
    let (mut bytes, mut out) = (encode(&of(words)), Vec::new());
    engine.connect(ClientId(0));
    bytes.extend_from_slice(b"PING\r\n");
    let is_closed =
        bytes.chunks(16 << 10).any(|chunk| engine.feed(ClientId(0), chunk, wall_ms(), &mut out) == Flow::Close);
    (out, is_closed)
}
