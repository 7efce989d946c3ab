//! A server that is there and refuses: each right that a user may lack, and texts that repeat what was sent.

use contact_cache::{ContactCache, Error, Freshness, Placement, Source};
use redis_launcher::{Program, Server};

use crate::{
    assert_told,
    client::{RIGHTS, at_rest, directory, named, open, open_with, uid},
    eager, until, with_log,
};

/// A server with a user that lacks something, and a record.
async fn lacking(redis: &Program, right: &str, directory: &std::path::Path) -> (Server, String) {
    let server = Server::running(redis);
    let cache = open(&server.url(), &directory.join("other")).await;
    at_rest(&cache).await;
    cache.upsert(&uid("u"), &named("before")).await.expect("redis");
    assert_eq!(server.ask(&format!("ACL SETUSER app {RIGHTS} {right}")), "+OK\r\n");
    let url = server.url_for("app:right@");
    (server, url)
}

/// Redis 7.0 has words of its own for what a script may not do.
fn told(reason: &str) -> bool {
    reason.contains("NOPERM") || reason.contains("The user executing the script can't run this command")
}

async fn placed(cache: &ContactCache) -> (Source, Placement, Source) {
    let read = cache.get(&uid("u")).await.expect("an answer").source;
    let written = cache.upsert(&uid("w"), &named("x")).await.expect("an answer").placement;
    (read, written, cache.list().await.expect("an answer").source)
}

/// The rows of `NOPERM` in docs/OPERATIONS.md.
#[test]
fn each_right_that_is_missing_costs_what_needs_it_and_is_told_once() {
    use Placement::{Local as Kept, Shared as Written};
    use Source::{Local, Merged, Shared};
    for (right, expected) in [
        ("-evalsha", (Shared, Kept, Merged)),
        ("-hset", (Shared, Kept, Merged)),
        ("-scan", (Shared, Written, Local)),
        ("resetkeys ~cc1g:p", (Local, Kept, Local)),
    ] {
        with_log(async |log, redis| {
            let directory = directory();
            let (server, url) = lacking(redis, right, directory.path()).await;
            let cache = open_with(eager(&url, &directory.path().join("app"))).await;
            until(&cache, |health| health.connections == 1).await;
            for _ in 0..5 {
                let (read, written, listed) = placed(&cache).await;
                assert_eq!((read, written, listed), expected, "{right}");
            }
            let health = cache.health();
            assert!(health.refused.as_ref().is_some_and(|refused| told(refused)), "{right}: {health:?}");
            assert_eq!((health.connections, health.away_because), (1, None), "{right}");
            if expected.0 == Local {
                let error = cache.get_with(&uid("u"), Freshness::Shared).await.expect_err("refused").to_string();
                assert!(told(&error), "{right}: {error}");
            }
            if expected.1 == Kept {
                let error = cache.upsert_shared(&uid("u"), &named("x")).await.expect_err("refused").to_string();
                assert!(told(&error), "{right}: {error}");
            }
            if expected.2 == Local {
                let because = cache.list().await.expect("local").local_because.expect("refused");
                assert!(told(&because), "{right}: {because}");
            }
            let warnings = log.warnings();
            let mut distinct = warnings.iter().map(|line| line.split("WARN").nth(1)).collect::<Vec<_>>();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(warnings.len(), distinct.len(), "{right}: a reason is told once: {warnings:#?}");
            assert!(warnings.iter().all(|line| told(line)) && !warnings.is_empty(), "{warnings:?}");
            // An operator gives the right, and all is as if it had been there.
            assert_eq!(server.ask(&format!("ACL SETUSER app {RIGHTS}")), "+OK\r\n");
            at_rest(&cache).await;
            assert_eq!(placed(&cache).await, (Shared, Written, Shared), "{right}");
        });
    }
}

#[test]
fn a_user_who_may_not_read_is_answered_locally_and_told_so() {
    with_log(async |log, redis| {
        let directory = directory();
        let (_server, url) = lacking(redis, "-hgetall", directory.path()).await;
        let cache = open_with(eager(&url, &directory.path().join("app"))).await;
        until(&cache, |health| health.connections == 1).await;
        assert_eq!(cache.get(&uid("u")).await.expect("an answer").source, Source::Local);
        let many = cache.get_many(&[uid("u")].into(), Freshness::Shared).await.expect("an answer");
        let errors = [
            cache.get_with(&uid("u"), Freshness::Shared).await.expect_err("refused").to_string(),
            many[&uid("u")].as_ref().expect_err("refused").to_string(),
        ];
        assert!(errors.iter().all(|error| error.contains("NOPERM")), "{errors:?}");
        assert!(log.warnings().iter().any(|line| line.contains("NOPERM")), "{}", log.text());
    });
}

#[test]
fn a_user_who_may_not_ask_for_the_generation_is_away() {
    for right in ["-get", "-time", "resetkeys ~cc1:p:*"] {
        with_log(async |log, redis| {
            let directory = directory();
            let (_server, url) = lacking(redis, right, directory.path()).await;
            let cache = open_with(eager(&url, &directory.path().join("app"))).await;
            assert_told(&cache, &log, "NOPERM").await;
        });
    }
}

#[test]
fn an_error_that_repeats_what_was_sent_shows_no_data() {
    with_log(async |log, redis| {
        let arguments = ["--rename-command", "EVALSHA", "", "--rename-command", "EVAL", ""];
        let mut server = Server::absent(redis).with(arguments);
        server.start();
        let directory = directory();
        let cache = open_with(eager(&server.url(), directory.path())).await;
        at_rest(&cache).await;
        let mut patch = named("Lovelace");
        patch.contacts = serde_json::from_str(r#"[{"type": "email", "value": "ada@x.org"}]"#).expect("a point");
        assert_eq!(cache.upsert(&uid("u"), &patch).await.expect("the disk").placement, Placement::Local);
        until(&cache, |health| health.refused.is_some()).await;
        let Err(error @ Error::NotShared { .. }) = cache.upsert_shared(&uid("u"), &patch).await else {
            panic!("it is refused")
        };
        let told = format!("{error} {error:?} {:?} {}", cache.health(), log.text());
        assert!(told.contains("ERR unknown command 'evalsha'"), "{told}");
        for data in ["Lovelace", "ada@x.org", "args beginning"] {
            assert!(!told.contains(data), "{data} in {told}");
        }
    });
}

#[test]
fn an_error_that_repeats_the_login_shows_no_password() {
    with_log(async |log, redis| {
        let arguments = ["--rename-command", "AUTH", ""];
        let (mut server, directory) = (Server::absent(redis).with(arguments), directory());
        server.start();
        let url = server.url_for(":hunter2@");
        let cache = open_with(eager(&url, directory.path())).await;
        assert_told(&cache, &log, "unknown command 'auth'").await;
        let told = format!("{:?} {}", cache.health(), log.text());
        assert!(!told.contains("hunter2"), "{told}");
    });
}
