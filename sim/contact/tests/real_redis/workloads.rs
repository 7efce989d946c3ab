//! The workloads of the bed, each on a server of its own, judged by every checker.

use std::{collections::BTreeSet, time::Duration};

use contact_cache::env::{Env, TokioEnv};
use redis_launcher::{Program, Server};
use seedbed_contact::{
    checker::{Verdict, judge},
    faults::{Fault, Persistence},
    history::{History, What},
    live,
    outcomes::{ending, worst},
    recorder::Recorder,
    report::timeline,
    scenario::Scenario,
    seed::Seed,
    workload::Workload,
};

/// Over how long the operations of a run are spread.
const LENGTH: Duration = Duration::from_secs(2);

/// When a test does something to the server.
const MIDDLE: Duration = Duration::from_millis(700);

/// For how long: more than the 250 ms that a call waits for a reply.
const OUTAGE: Duration = Duration::from_millis(700);

pub(crate) async fn what_is_written_comes_back_equal(redis: &Program) {
    validated(redis, Workload::Serialization).await;
}

pub(crate) async fn instances_go_on_and_lose_nothing(redis: &Program) {
    validated(redis, Workload::Fallback).await;
}

pub(crate) async fn instances_of_one_prefix_agree(redis: &Program) {
    validated(redis, Workload::Consistency).await;
}

pub(crate) async fn prefixes_do_not_see_each_other(redis: &Program) {
    validated(redis, Workload::Isolation).await;
}

async fn validated(redis: &Program, workload: Workload) {
    let server = Server::running(redis);
    let history = play(&scenario(workload), &server.url(), async |_| {}).await;
    assert_holds(&history, &["written shared", "read shared"]);
}

pub(crate) async fn nothing_is_lost_when_redis_is_killed_and_comes_back_empty(redis: &Program) {
    let mut server = Server::running(redis);
    let history = play(&scenario(Workload::Fallback), &server.url(), async |recorder| {
        pass(MIDDLE).await;
        let trouble = Trouble::begins(&recorder, Fault::RedisCrash { data: Persistence::Lost });
        server.kill();
        // Nothing is answered between the two: the process is gone.
        recorder.note(What::RedisLostData);
        pass(OUTAGE).await;
        server.start();
        trouble.ends();
    })
    .await;
    assert_holds(&history, &["written shared", "written local", "read local"]);
}

pub(crate) async fn nothing_is_lost_when_redis_is_killed_and_comes_back_with_its_data(redis: &Program) {
    let mut server = Server::absent(redis).with_append_only_file();
    server.start();
    let history = play(&scenario(Workload::Fallback), &server.url(), async |recorder| {
        pass(MIDDLE).await;
        let trouble = Trouble::begins(&recorder, Fault::RedisCrash { data: Persistence::Kept });
        server.kill();
        pass(OUTAGE).await;
        server.start();
        trouble.ends();
    })
    .await;
    assert_holds(&history, &["written shared", "written local", "read local"]);
}

pub(crate) async fn every_call_is_in_time_while_redis_is_stopped(redis: &Program) {
    let server = Server::running(redis);
    let history = play(&scenario(Workload::Consistency), &server.url(), async |recorder| {
        // Just after the probes of the first second: for most of another one, only the calls themselves can notice.
        pass(Duration::from_millis(1_100)).await;
        let trouble = Trouble::begins(&recorder, Fault::RedisPause);
        server.pause();
        // Longer than a call may take: one that waits for the reply alone is late.
        pass(OUTAGE * 2).await;
        server.resume();
        trouble.ends();
    })
    .await;
    assert_holds(&history, &["written shared", "written local", "read local"]);
}

pub(crate) async fn nothing_is_lost_when_redis_forgets_its_scripts(redis: &Program) {
    let server = Server::running(redis);
    let history = play(&scenario(Workload::Consistency), &server.url(), async |_| {
        pass(MIDDLE).await;
        assert_eq!(server.ask("SCRIPT FLUSH"), "+OK\r\n");
    })
    .await;
    assert_holds(&history, &["written shared"]);
}

pub(crate) async fn nothing_is_lost_when_an_operator_empties_redis(redis: &Program) {
    let server = Server::running(redis);
    let mut scenario = scenario(Workload::Fallback);
    // The loss and its place in the history cannot be one moment: no call may be under way between them.
    for planned in &mut scenario.operations {
        planned.at_us += if planned.at_us < us(MIDDLE) { 0 } else { us(OUTAGE) };
    }
    let history = play(&scenario, &server.url(), async |recorder| {
        pass(MIDDLE + OUTAGE / 2).await;
        let trouble = Trouble::begins(&recorder, Fault::FlushAll);
        recorder.note(What::RedisLostData);
        assert_eq!(server.ask("FLUSHALL"), "+OK\r\n");
        trouble.ends();
    })
    .await;
    assert_holds(&history, &["written shared"]);
}

pub(crate) async fn instances_that_open_before_redis_is_there_catch_up(redis: &Program) {
    let mut server = Server::absent(redis);
    let history = play(&scenario(Workload::Consistency), &server.url(), async |recorder| {
        let trouble = Trouble::begins(&recorder, Fault::RedisCrash { data: Persistence::Kept });
        pass(MIDDLE).await;
        server.start();
        trouble.ends();
    })
    .await;
    assert_holds(&history, &["written local", "read local"]);
}

/// The first scenario of the workload with a few instances, without faults, and shortened: time is real here.
fn scenario(workload: Workload) -> Scenario {
    let grown = (0..).map(|seed| Scenario::generate(workload, Seed(seed)));
    let mut few = grown.filter(|scenario| (2..=4).contains(&scenario.prefixes.len()));
    let mut scenario = few.next().expect("one of all seeds");
    scenario.faults.clear();
    let last_us = scenario.operations.last().expect("a workload asks something").at_us;
    for planned in &mut scenario.operations {
        planned.at_us = planned.at_us * us(LENGTH) / last_us;
    }
    scenario
}

/// What a test does to the server, told in the history: an instance need not use Redis meanwhile, nor for a while after (G13).
struct Trouble<'a>(&'a Recorder);

impl<'a> Trouble<'a> {
    fn begins(recorder: &'a Recorder, what: Fault) -> Self {
        recorder.note(What::FaultBegin { fault: 0, what, at: None });
        Self(recorder)
    }

    fn ends(self) {
        self.0.note(What::FaultEnd { fault: 0, effects: 1 });
    }
}

async fn play<F: Future<Output = ()>>(scenario: &Scenario, redis: &str, chaos: impl FnOnce(Recorder) -> F) -> History {
    let directory = tempfile::tempdir().expect("room for a directory");
    live::run(scenario, redis, directory.path(), chaos).await
}

/// Every guarantee held, and operations ended in these ways as well: a run in which nothing went wrong proves nothing.
fn assert_holds(history: &History, seen: &[&str]) {
    let judgements = judge(history);
    let verdicts = timeline::verdicts(&judgements);
    assert!(worst(&judgements) == Verdict::Pass, "{}\n{verdicts}", timeline::text(history));
    let completed = history.events.iter().filter_map(|event| match &event.what {
        What::Complete { outcome, .. } => Some(ending(outcome)),
        _ => None,
    });
    let endings: BTreeSet<_> = completed.collect();
    assert!(seen.iter().all(|ending| endings.contains(ending)), "{seen:?} should be in {endings:?}");
}

async fn pass(time: Duration) {
    TokioEnv::new().sleep(time).await;
}

fn us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).expect("seconds")
}
