//! One run on a real server: the same operations, instances and judges, in real time over real sockets and a real disk.
//!
//! Nothing here replays. It is the proof that what is simulated is what is shipped: the tests of the real world play
//! workloads through this, while they kill and stop the server.

use std::{path::Path, pin::pin, time::Duration};

use futures_util::future::select;
use seedbed_env::{Env, TokioEnv};

use crate::{
    history::{History, Phase, What},
    instances::Instances,
    recorder::Recorder,
    scenario::Scenario,
    subject::Settings,
};

/// How long the instances may take for anything that the runner waits for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Plays the operations of a scenario on the server at `redis`, with the local stores under `directory`, while `chaos`
/// runs; `chaos` must leave the server running. The scenario's own faults and clocks stay out.
pub async fn run<F: Future<Output = ()>>(
    scenario: &Scenario,
    redis: &str,
    directory: &Path,
    chaos: impl FnOnce(Recorder) -> F,
) -> History {
    let env = TokioEnv::new();
    let (clock, start) = (env.clone(), env.now());
    let recorder =
        Recorder::new(move || u64::try_from(clock.now().saturating_sub(start).as_micros()).expect("minutes"));
    let settings: Vec<_> = (0..)
        .zip(&scenario.prefixes)
        .map(|(number, prefix)| settings(redis, prefix, directory, number))
        .map(|settings| Settings { tuning: scenario.tuning.clone(), ..settings })
        .collect();
    let deadline_us = u64::try_from(settings[0].op_deadline().as_micros()).expect("seconds");
    let instances = Instances::new(scenario, settings, &recorder);

    recorder.note(What::Phase { phase: Phase::SetUp });
    for instance in 0..instances.count() {
        env.spawn(instances.clone().live(env.clone(), instance, || true));
    }
    in_patience(&env, instances.all_open()).await;
    recorder.note(What::Phase { phase: Phase::Faults });
    instances.open_gate();
    chaos(recorder.clone()).await;
    recorder.note(What::Phase { phase: Phase::Heal });
    in_patience(&env, instances.all_done()).await;
    recorder.note(What::Phase { phase: Phase::Quiesce });
    // As in the simulated world: an instance looks for lost data once a second.
    env.sleep(Duration::from_secs(2)).await;
    in_patience(&env, at_rest(&env, &instances)).await;
    instances.note_states();
    recorder.note(What::Phase { phase: Phase::FinalReads });
    instances.read_everything(scenario, async || {}).await;
    recorder.finish(scenario, deadline_us)
}

fn settings(redis: &str, prefix: &str, directory: &Path, number: u32) -> Settings {
    let mut settings = Settings::new(redis, prefix, directory.join(format!("instance-{number}")));
    // Real seconds: a test should not wait eight of them.
    settings.backoff_max = Duration::from_secs(1);
    settings
}

async fn in_patience(env: &TokioEnv, over: impl Future<Output = ()>) {
    select(pin!(over), pin!(env.sleep(PATIENCE))).await;
}

async fn at_rest(env: &TokioEnv, instances: &Instances) {
    while !instances.all_at_rest() {
        env.sleep(Duration::from_millis(10)).await;
    }
}
