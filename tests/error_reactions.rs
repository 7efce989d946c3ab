//! What the client does about each error of Redis: the table of docs/OPERATIONS.md, row by row. However long a trouble
//! lasts, the client comes back by itself, with everything merged.

mod stage;

use std::{collections::BTreeSet, time::Duration};

use contact_cache::{Config, Placement, Source, State};
use seedbed_contact::{
    faults::Refusal::{self, *},
    redis_host::REDIS,
};
use serde_json::json;
use stage::{
    Stage, config, field,
    log::{LevelFilter, Log},
    play, play_logged, profile, uid,
};

/// How long each trouble lasts.
const OUTAGE: Duration = Duration::from_mins(10);

/// What calls do while Redis answers so.
struct Row {
    refusal: Refusal,
    /// Who answers a read, at first and later.
    reads: [Source; 2],
    writes: Placement,
    /// Whether the connection stays.
    keeps: bool,
    /// What `health()` says, in part.
    says: &'static str,
}

const fn row(refusal: Refusal, reads: [Source; 2], keeps: bool, says: &'static str) -> Row {
    let writes = if matches!(refusal, MaxClients) { Placement::Shared } else { Placement::Local };
    Row { refusal, reads, writes, keeps, says }
}

const ROWS: [Row; 9] = [
    // Nothing works there, and will not for a while: another connection may lead to a server that works.
    row(Loading, [Source::Local, Source::Local], false, "loading the dataset"),
    row(MasterDown, [Source::Local, Source::Local], false, "MASTER is down"),
    row(NoAuth, [Source::Local, Source::Local], false, "NOAUTH"),
    row(NoPermission, [Source::Local, Source::Local], false, "NOPERM"),
    row(Busy, [Source::Local, Source::Local], false, "BUSY"),
    // It was a master and is a replica: its reads are as good as before until the first write notices.
    row(ReadOnly, [Source::Shared, Source::Local], false, "read only replica"),
    // Reads work, writes wait.
    row(OutOfMemory, [Source::Shared, Source::Merged], true, "OOM"),
    row(Misconfigured, [Source::Shared, Source::Merged], true, "MISCONF"),
    // Who is in stays in.
    row(MaxClients, [Source::Shared, Source::Shared], true, ""),
];

#[test]
#[expect(clippy::disallowed_methods, reason = "a thread of the test, without a cache")]
fn a_log_is_whole_whoever_met_its_events_first() {
    let event = || tracing::warn!("met by two threads");
    let (log, _guard) = Log::of_this_thread(LevelFilter::WARN);
    std::thread::spawn(event).join().expect("an event");
    event();
    assert_eq!(log.warnings().len(), 1, "{}", log.text());
}

fn refuse(stage: &Stage, with: Option<Refusal>) {
    stage.redis.with_engine(|engine| engine.refuse(with));
}

#[test]
fn each_error_has_its_reaction_and_none_is_for_ever() {
    for row in ROWS {
        play_logged(async move |stage, log| {
            let Row { refusal, reads, writes, keeps, says } = row;
            let cache = stage.open(1).await;
            stage.at_rest(&cache).await;
            cache.upsert(&uid("u"), &field("v", "before")).await.expect("redis");

            refuse(&stage, Some(refusal));
            let read = profile(&cache, "u").await;
            assert_eq!(read, (reads[0], Some(json!({"v": "before"}))), "{refusal:?}");
            let written = cache.upsert(&uid("u"), &field("v", "meanwhile")).await.expect("the disk works");
            assert_eq!(written.placement, writes, "{refusal:?}");
            let read = profile(&cache, "u").await;
            assert_eq!(read, (reads[1], Some(json!({"v": "meanwhile"}))), "{refusal:?}");
            stage.sleep(OUTAGE).await;
            let health = cache.health();
            let said = [health.away_because.clone(), health.refused.clone()].into_iter().flatten().collect::<String>();
            assert!(said.to_lowercase().contains(&says.to_lowercase()), "{refusal:?}: {health:?}");
            assert_eq!(health.attempts == 1, keeps, "{refusal:?}: {health:?}");
            // No refusal without a line in the log, and ten minutes of it are one line for each reason.
            let told = log.warnings().into_iter().filter(|line| line.to_lowercase().contains(&says.to_lowercase()));
            let (away, refuses): (Vec<_>, Vec<_>) = told.partition(|line| line.contains("redis is away"));
            assert_eq!(away.is_empty() && refuses.is_empty(), refusal == MaxClients, "{refusal:?}: {}", log.text());
            let reasons: BTreeSet<_> = refuses.iter().filter_map(|line| line.split("reason=").nth(1)).collect();
            // NOPERM names the command, and there were two.
            let reasons_max = if refusal == NoPermission { 2 } else { 1 };
            assert!(refuses.len() == reasons.len() && refuses.len() <= reasons_max, "{refusal:?}: {}", log.text());
            assert!(away.len() <= usize::from(!keeps), "{refusal:?}: {}", log.text());

            refuse(&stage, None);
            stage.at_rest(&cache).await;
            let other = stage.open(2).await;
            assert_eq!(profile(&other, "u").await, (Source::Shared, Some(json!({"v": "meanwhile"}))), "{refusal:?}");
            assert_eq!(cache.health().away_because, None);
        });
    }
}

#[test]
fn a_server_without_room_is_asked_again_until_it_has_some() {
    play(async |stage| {
        let cache = stage.open(1).await;
        stage.at_rest(&cache).await;
        refuse(&stage, Some(MaxClients));
        stage.world.net().reset_between(1, REDIS);
        stage.away(&cache).await;
        cache.upsert(&uid("u"), &field("v", "1")).await.expect("the disk works");
        stage.sleep(OUTAGE).await;
        let health = cache.health();
        let because = health.away_because.clone().unwrap_or_default();
        assert!(because.contains("max number of clients reached"), "{health:?}");
        // At most as often as the backoff says: a delay of four seconds on average, once it is at its cap.
        assert!((60..400).contains(&health.attempts), "{health:?}");
        refuse(&stage, None);
        stage.at_rest(&cache).await;
    });
}

#[test]
fn a_name_that_does_not_resolve_is_asked_for_again_and_again() {
    play(async |stage| {
        let nowhere = Config { redis: "redis://nowhere:6379".parse().expect("a url"), ..config() };
        let cache = stage.open_with(1, nowhere).await;
        cache.upsert(&uid("u"), &field("v", "1")).await.expect("the disk works");
        stage.sleep(OUTAGE).await;
        let health = cache.health();
        assert!(
            matches!(health.state, State::Degraded | State::Probing)
                && health.away_because.as_ref().is_some_and(|reason| reason.contains("nowhere")),
            "{health:?}"
        );
        assert!((60..400).contains(&health.attempts), "{health:?}");
        assert_eq!(profile(&cache, "u").await, (Source::Local, Some(json!({"v": "1"}))));
    });
}

#[test]
fn a_silent_connection_is_probed_once_and_replaced() {
    play(async |stage| {
        let cache = stage.open(1).await;
        stage.at_rest(&cache).await;
        cache.upsert(&uid("u"), &field("v", "1")).await.expect("redis");
        stage.cut_from_redis(1, true);
        let begun = stage.world.now_us();
        assert_eq!(profile(&cache, "u").await.0, Source::Local);
        let waited = stage.world.now_us() - begun;
        assert!(waited <= 260_000, "waited {waited} us for a reply");
        assert!(cache.health().away_because.is_some_and(|reason| reason.contains("redis is silent")));
        // From now on nobody waits.
        for _ in 0..100 {
            let begun = stage.world.now_us();
            assert_eq!(profile(&cache, "u").await.0, Source::Local);
            assert!(stage.world.now_us() - begun < 1_000, "the breaker is open");
        }
        stage.cut_from_redis(1, false);
        stage.at_rest(&cache).await;
        assert_eq!(cache.health().connections, 2);
        assert_eq!(profile(&cache, "u").await.0, Source::Shared);
    });
}

#[test]
fn a_script_that_redis_forgot_is_sent_again() {
    play(async |stage| {
        let cache = stage.open(1).await;
        stage.at_rest(&cache).await;
        for round in 0..3 {
            stage.redis.with_engine(seedbed_redis::Engine::script_flush);
            let written = cache.upsert(&uid("u"), &field("v", &round.to_string())).await.expect("redis");
            assert_eq!(written.placement, Placement::Shared);
        }
        assert_eq!(cache.health().connections, 1);
    });
}
