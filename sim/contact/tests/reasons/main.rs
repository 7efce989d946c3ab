//! What an operator is told when Redis does not serve: the real reason, in the log, in `health()` and in errors; once; and
//! nothing of what is stored. On real servers, in real time. `error_reactions` has the reactions.

mod certificates;
#[allow(dead_code, reason = "each test binary uses a part of it")]
#[path = "../real_redis/client.rs"]
mod client;
#[path = "../../../../tests/stage/log.rs"]
mod log;
mod refusals;

use std::{net::TcpListener, path::Path, time::Duration};

use client::{PATIENCE, at_rest, config, directory, named, open, open_with, uid};
use contact_cache::{
    Config, ContactCache, Error, Freshness, Placement,
    env::{Env as _, TokioEnv},
};
use log::Log;
use redis_launcher::{Program, Server};

/// Plays `test` with its log, all tasks on this thread; not at all without a redis-server.
pub(crate) fn with_log(test: impl AsyncFnOnce(Log, &Program)) {
    let Some(redis) = Program::redis_server() else { return };
    let (log, _guard) = Log::of_this_thread(log::LevelFilter::TRACE);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("room for a runtime").block_on(test(log, &redis));
}

/// A cache that looks for Redis several times a second.
pub(crate) fn eager(redis: &str, directory: &Path) -> Config {
    let mut config = config(redis, directory);
    (config.backoff_first, config.backoff_max) = (Duration::from_millis(100), Duration::from_millis(100));
    config.probe_interval = Duration::from_millis(200);
    config
}

/// Waits until `over`.
pub(crate) async fn until(cache: &ContactCache, over: impl Fn(&contact_cache::Health) -> bool) {
    let env = TokioEnv::new();
    while !over(&cache.health()) {
        assert!(env.now() < PATIENCE, "{:?}", cache.health());
        env.sleep(Duration::from_millis(5)).await;
    }
}

/// The instance gives this reason everywhere, and logs it once however often it tries.
pub(crate) async fn assert_told(cache: &ContactCache, log: &Log, reason: &str) {
    until(cache, |health| health.attempts >= 4).await;
    let health = cache.health();
    let because = health.away_because.expect("redis is away");
    assert!(because.contains(reason), "no {reason:?} in {because:?}");
    let error = cache.get_with(&uid("u"), Freshness::Shared).await.expect_err("redis is away").to_string();
    assert!(error.contains(reason), "no {reason:?} in {error:?}");
    let Err(Error::NotShared { reason: refused, .. }) = cache.upsert_shared(&uid("u"), &named("x")).await else {
        panic!("redis is away")
    };
    assert!(refused.contains(reason), "no {reason:?} in {refused:?}");
    let because = cache.list().await.expect("a local list").local_because.expect("redis is away");
    assert!(because.contains(reason), "no {reason:?} in {because:?}");
    let told = log.warnings().iter().filter(|line| line.contains(reason)).count();
    assert_eq!(told, 1, "{reason:?} in {}", log.text());
}

#[test]
fn a_refused_login_is_told_by_what_redis_said() {
    for (login, reason) in [("", "NOAUTH"), (":hunter2@", "WRONGPASS"), ("nobody:hunter2@", "WRONGPASS")] {
        with_log(async |log, redis| {
            let (mut server, directory) = (Server::absent(redis).with_password("right"), directory());
            server.start();
            let url = server.url_for(login);
            let cache = open_with(eager(&url, directory.path())).await;
            assert_told(&cache, &log, reason).await;
            assert!(!log.text().contains("hunter2"), "{}", log.text());
        });
    }
}

#[test]
fn a_server_without_room_for_clients_is_told_as_that() {
    with_log(async |log, redis| {
        let arguments = ["--maxclients", "2"];
        let (mut server, directory) = (Server::absent(redis).with(arguments), directory());
        server.start();
        let held = [(); 2].map(|()| connected(server.port()));
        let cache = open_with(eager(&server.url(), directory.path())).await;
        assert_told(&cache, &log, "max number of clients reached").await;
        drop(held);
        at_rest(&cache).await;
    });
}

#[expect(clippy::disallowed_methods, reason = "a client of a real server")]
fn connected(port: u16) -> std::net::TcpStream {
    std::net::TcpStream::connect(("127.0.0.1", port)).expect("the server listens")
}

#[test]
fn a_name_without_an_address_is_told_as_that() {
    with_log(async |log, _| {
        let directory = directory();
        let cache = open_with(eager("redis://no-such-host.invalid", directory.path())).await;
        assert_told(&cache, &log, "the name does not resolve: no-such-host.invalid").await;
    });
}

#[test]
fn a_server_that_takes_connections_and_says_nothing_is_silent() {
    with_log(async |log, _| {
        let directory = directory();
        let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = silent.local_addr().expect("a port").port();
        let quick = Config {
            connect_timeout: Duration::from_millis(100),
            ..eager(&format!("redis://127.0.0.1:{port}"), directory.path())
        };
        let cache = open_with(quick).await;
        assert_told(&cache, &log, "redis is silent").await;
    });
}

#[test]
fn a_server_that_stops_answering_is_silent_and_one_that_dies_closed_the_connection() {
    with_log(async |log, redis| {
        let (mut server, directory) = (Server::running(redis), directory());
        let cache = open_with(eager(&server.url(), directory.path())).await;
        at_rest(&cache).await;
        server.pause();
        let error = cache.get_with(&uid("u"), Freshness::Shared).await.expect_err("no answer").to_string();
        assert!(error.contains("redis is silent"), "{error}");
        until(&cache, |health| health.attempts >= 4).await;
        let because = cache.health().away_because.expect("it is silent");
        assert!(because.contains("redis is silent: it took the connection"), "{because}");
        let silent = |line: &&String| line.contains("redis is silent");
        let told: Vec<_> = log.warnings().into_iter().filter(|line| silent(&line)).collect();
        assert!(told.len() == 2 && told[0].contains("no answer to a probe"), "{told:?}");
        server.resume();
        at_rest(&cache).await;
        server.kill();
        until(&cache, |health| health.away_because.as_ref().is_some_and(|reason| reason.contains("refused"))).await;
        let warnings = log.warnings().join("\n");
        assert!(
            warnings.contains("redis closed the connection") && warnings.contains("onnection refused"),
            "{warnings}"
        );
        assert!(!warnings.contains("the connection ended"), "{warnings}");
    });
}

#[test]
fn names_that_would_change_a_terminal_are_escaped_in_the_log() {
    with_log(async |log, redis| {
        let (server, directory) = (Server::running(redis), directory());
        let cache = open(&server.url(), directory.path()).await;
        for name in ["line\nbreak", "\u{1b}[2J", "\u{9b}31m", "\u{202e}x", "\u{2066}"] {
            cache.upsert(&uid(name), &named(name)).await.expect("redis");
            cache.get(&uid(name)).await.expect("redis");
            cache.remove(&uid(name)).await.expect("redis");
        }
        let text = log.text();
        assert!(text.contains("contact_cache.get{uid=") && text.contains(r"\u{202e}x"), "{text}");
        let hostile = |c: char| (c.is_control() && c != '\n') || ['\u{202e}', '\u{2066}'].contains(&c);
        assert!(!text.contains(hostile), "{text:?}");
        assert!(text.lines().all(|line| line.len() > 20 && line.starts_with("20")), "a forged line: {text}");
    });
}

#[test]
fn a_write_is_local_and_named_as_such_when_the_server_is_gone() {
    with_log(async |_, redis| {
        let directory = directory();
        let cache = open_with(eager(&Server::absent(redis).url(), directory.path())).await;
        assert_eq!(cache.upsert(&uid("u"), &named("x")).await.expect("the disk").placement, Placement::Local);
        let error = cache.upsert_shared(&uid("u"), &named("x")).await.expect_err("redis is away").to_string();
        assert!(error.contains("refused"), "{error}");
    });
}
