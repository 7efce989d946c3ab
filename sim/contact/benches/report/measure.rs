//! Rounds of calls, and what is told of their times.

use std::{future::Future, time::Duration};

use contact_cache::env::{Env, TokioEnv};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

/// Times of calls, in microseconds.
pub(crate) struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new(3).expect("3 digits"))
    }
}

impl Latencies {
    pub(crate) fn record(&mut self, time: Duration) {
        self.0.record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)).expect("it grows as need be");
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("the same bounds");
    }

    /// Of the fastest half, of all but a hundredth, of all but a thousandth: the slowest.
    pub(crate) fn columns(&self) -> String {
        let at = |share| self.0.value_at_quantile(share);
        format!("{} | {} | {}", at(0.5), at(0.99), at(0.999))
    }

    /// Likewise the fastest half, all but a hundredth, and all, in milliseconds.
    pub(crate) fn columns_ms(&self) -> String {
        let ms = |micros| format!("{:.2}", Duration::from_micros(micros).as_secs_f64() * 1e3);
        [self.0.value_at_quantile(0.5), self.0.value_at_quantile(0.99), self.0.max()].map(ms).join(" | ")
    }

    pub(crate) fn calls(&self) -> u64 {
        self.0.len()
    }
}

/// What a round of calls came to.
pub(crate) struct Round {
    pub(crate) per_second: f64,
    pub(crate) latencies: Latencies,
}

/// Makes `calls` calls, numbered, from so many tasks, each waiting for its own.
pub(crate) async fn round<F: Future<Output = ()> + Send>(
    tasks: usize,
    calls: usize,
    call: &(impl Fn(usize) -> F + Clone + Send + 'static),
) -> Round {
    let env = TokioEnv::new();
    let begun = env.now();
    let mut running = JoinSet::new();
    for task in 0..tasks {
        let (call, env) = (call.clone(), env.clone());
        running.spawn(async move {
            let mut latencies = Latencies::default();
            for number in (task..calls).step_by(tasks) {
                let begun = env.now();
                call(number).await;
                latencies.record(env.now().saturating_sub(begun));
            }
            latencies
        });
    }
    let mut latencies = Latencies::default();
    while let Some(of_one) = running.join_next().await {
        latencies.add(&of_one.expect("a call failed"));
    }
    let seconds = env.now().saturating_sub(begun).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    Round { per_second: calls as f64 / seconds, latencies }
}

/// Median, least and most.
pub(crate) fn spread(values: &[f64], digits: usize) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (least, median, most) = (sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
    format!("{median:.digits$} ({least:.digits$} .. {most:.digits$})")
}
