//! Clients that cheat: each is the contact cache with one habit that makes it useless, and that a bed which looks only at what is
//! answered lets pass. Each must be caught, by the guarantee that it breaks.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use seedbed_env::Env;
use serde::{Deserialize, Serialize};

use super::{Pending, Settings, Status, Subject, contact_cache::ContactCacheSubject};
use crate::history::{Answer, Call, Outcome, Placement, Source};

/// What a client does instead of what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cheat {
    /// It refuses every write.
    RefusesWrites,
    /// It refuses every write with contact points.
    RefusesContacts,
    /// It refuses every write of more than a kilobyte.
    RefusesLargeWrites,
    /// It says of every write that it was kept locally.
    WritesLocally,
    /// It answers without Redis unless a call has the instance for itself.
    LocalUnlessQuiet,
    /// It takes 700 ms for every call.
    Sleeps,
    /// It does without Redis for 25 s after each outage.
    StaysAway,
    /// It fails to list.
    FailsToList,
    /// It lists without Redis.
    ListsLocally,
    /// It says that it has cleared, and does nothing.
    ClearsNothing,
    /// It says that nothing is pending.
    SyncsNothing,
    /// It has forgotten what it would have to read locally.
    Forgets,
}

/// How long each call of [`Cheat::Sleeps`] takes.
const NAP: Duration = Duration::from_millis(700);

/// How long [`Cheat::StaysAway`] does.
const AWAY: Duration = Duration::from_secs(25);

/// What [`Cheat::RefusesLargeWrites`] takes for a large write, in bytes of JSON.
const LARGE_BYTES: usize = 1 << 10;

pub(super) struct CheatingSubject<E: Env> {
    env: E,
    honest: ContactCacheSubject<E>,
    cheat: Cheat,
    /// Calls under way.
    under_way: AtomicU64,
    /// Until when it stays away from Redis, in microseconds of its monotonic clock.
    away_until_us: AtomicU64,
}

impl<E: Env> CheatingSubject<E> {
    pub(super) async fn open(env: E, settings: &Settings, cheat: Cheat) -> Result<Self, ::contact_cache::OpenError> {
        let honest = ContactCacheSubject::open(env.clone(), settings).await?;
        let (under_way, away_until_us) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Self { env, honest, cheat, under_way, away_until_us })
    }

    async fn answer(&self, call: &Call) -> Outcome {
        let is_write = matches!(call, Call::Upsert { .. } | Call::Remove { .. } | Call::Clear);
        match (self.cheat, call) {
            (Cheat::RefusesWrites, _) if is_write => refused("it is a write"),
            (Cheat::RefusesContacts, Call::Upsert { patch, .. }) if !patch.contacts.is_empty() => {
                refused("it has contact points")
            }
            (Cheat::RefusesLargeWrites, Call::Upsert { patch, .. })
                if serde_json::to_vec(patch).is_ok_and(|json| json.len() > LARGE_BYTES) =>
            {
                refused("it is large")
            }
            (Cheat::FailsToList, Call::List) => refused("it is a list"),
            (Cheat::ClearsNothing, Call::Clear) => Outcome::Ok {
                answer: Answer::Cleared { placement: Placement::Shared, uids: Vec::new(), complete: true },
            },
            (Cheat::SyncsNothing, Call::Sync) => Outcome::Ok { answer: Answer::Synced { pending: 0 } },
            (Cheat::Sleeps, _) => {
                let since = self.env.now();
                let outcome = self.honest.call(call).await;
                self.env.sleep((since + NAP).saturating_sub(self.env.now())).await;
                outcome
            }
            (Cheat::WritesLocally, _) if is_write => without_redis(self.honest.call(call).await),
            (Cheat::ListsLocally, Call::List) => without_redis(self.honest.call(call).await),
            (Cheat::LocalUnlessQuiet, _) => {
                let is_quiet = self.under_way.load(Ordering::Relaxed) == 1;
                let outcome = self.honest.call(call).await;
                if is_quiet { outcome } else { without_redis(outcome) }
            }
            (Cheat::StaysAway, _) => {
                let outcome = self.honest.call(call).await;
                if self.is_away() { without_redis(outcome) } else { outcome }
            }
            (Cheat::Forgets, Call::Get { .. }) => match self.honest.call(call).await {
                Outcome::Ok { answer: Answer::Read { source: Source::Local, .. } } => {
                    Outcome::Fail { error: "forgotten: it has no copy any more".to_owned() }
                }
                outcome => outcome,
            },
            _ => self.honest.call(call).await,
        }
    }

    /// Whether it stays away from Redis since an outage; looks for one.
    fn is_away(&self) -> bool {
        let now_us = u64::try_from(self.env.now().as_micros()).expect("a run is shorter");
        if self.honest.status().state != "connected" {
            let until_us = now_us + u64::try_from(AWAY.as_micros()).expect("seconds");
            self.away_until_us.store(until_us, Ordering::Relaxed);
        }
        now_us < self.away_until_us.load(Ordering::Relaxed)
    }
}

impl<E: Env> Subject for CheatingSubject<E> {
    fn call<'a>(&'a self, call: &'a Call) -> Pending<'a, Outcome> {
        Box::pin(async {
            let _under_way = UnderWay::of(&self.under_way);
            self.answer(call).await
        })
    }

    fn close(&self) -> Pending<'_, Result<(), String>> {
        self.honest.close()
    }

    fn status(&self) -> Status {
        let status = self.honest.status();
        if self.cheat == Cheat::StaysAway && self.is_away() {
            return Status { state: "probing".to_owned(), ..status };
        }
        status
    }
}

/// A call counted while it is under way, also if it is dropped.
struct UnderWay<'a>(&'a AtomicU64);

impl<'a> UnderWay<'a> {
    fn of(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn refused(why: &str) -> Outcome {
    Outcome::Fail { error: format!("refused: {why}") }
}

/// The same answer, told as one that needed no Redis.
fn without_redis(mut outcome: Outcome) -> Outcome {
    if let Outcome::Ok { answer } = &mut outcome {
        match answer {
            Answer::Written { placement, .. } | Answer::Cleared { placement, .. } => *placement = Placement::Local,
            Answer::Read { source, .. } | Answer::Listed { source, .. } => *source = Source::Local,
            Answer::ReadMany { reads } => {
                for read in reads {
                    read.outcome = without_redis(std::mem::replace(&mut read.outcome, refused("it is being told")));
                }
            }
            Answer::Imported { .. } | Answer::Synced { .. } => {}
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checker::{Guarantee, Verdict},
        explore::{Tasks, judge_seed},
        outcomes::Common,
        seed::Seed,
        subject::SubjectKind,
        workload::ALL,
    };

    /// Within so many runs of all workloads in turn each has to be caught.
    const RUNS: u64 = 100;

    /// Catches the client by this guarantee, and tells after how many runs.
    fn caught(cheat: Cheat, by: Guarantee) {
        let common = Common { subject: SubjectKind::Cheating(cheat), ..Common::default() };
        let tasks = Tasks { workloads: ALL.to_vec(), base: Seed(0), numbers: 0..RUNS };
        let mut others = Vec::new();
        for (run, task) in (1..).zip(tasks.each()) {
            let outcomes = judge_seed(task, common).outcome.expect("it runs to its end");
            let violations = outcomes.judgements.into_iter().filter_map(|judgement| match judgement.verdict {
                Verdict::Violation { message, .. } => Some((judgement.guarantee, message)),
                _ => None,
            });
            for (guarantee, message) in violations {
                if guarantee == by {
                    println!("{cheat:?}: {guarantee} after {run} runs: {message}");
                    return;
                }
                others.push((run, guarantee, message));
            }
        }
        panic!("{by} does not catch {cheat:?} within {RUNS} runs; others: {others:#?}");
    }

    #[test]
    fn one_that_refuses_writes_is_caught() {
        caught(Cheat::RefusesWrites, Guarantee::Availability);
    }

    #[test]
    fn one_that_refuses_contact_points_is_caught() {
        caught(Cheat::RefusesContacts, Guarantee::Availability);
    }

    #[test]
    fn one_that_refuses_large_writes_is_caught() {
        caught(Cheat::RefusesLargeWrites, Guarantee::Availability);
    }

    #[test]
    fn one_that_writes_locally_is_caught() {
        caught(Cheat::WritesLocally, Guarantee::Availability);
    }

    #[test]
    fn one_that_is_local_unless_all_is_quiet_is_caught() {
        caught(Cheat::LocalUnlessQuiet, Guarantee::Availability);
    }

    #[test]
    fn one_that_sleeps_is_caught() {
        caught(Cheat::Sleeps, Guarantee::Availability);
    }

    #[test]
    fn one_that_stays_away_after_an_outage_is_caught() {
        caught(Cheat::StaysAway, Guarantee::Availability);
    }

    #[test]
    fn one_that_fails_to_list_is_caught() {
        caught(Cheat::FailsToList, Guarantee::Availability);
    }

    #[test]
    fn one_that_lists_locally_is_caught() {
        caught(Cheat::ListsLocally, Guarantee::Availability);
    }

    #[test]
    fn one_that_clears_nothing_is_caught() {
        caught(Cheat::ClearsNothing, Guarantee::Listing);
    }

    #[test]
    fn one_that_syncs_nothing_is_caught() {
        caught(Cheat::SyncsNothing, Guarantee::Recovery);
    }

    #[test]
    fn one_that_forgets_is_caught() {
        caught(Cheat::Forgets, Guarantee::Latency);
    }
}
