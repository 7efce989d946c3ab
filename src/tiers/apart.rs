//! Records that are merged apart from the others, so that none of them hurts another: large ones one after the other over
//! a connection of their own, and those under suspicion each alone over one more. The tasks of `recovery` merge them.
//!
//! A record comes under suspicion when its merge is not answered although Redis answers a probe, or when the connection
//! ends on it more than once. Alone, an innocent one is merged at once. A culprit (Redis closes the connection on a value
//! above its `proto-max-bulk-len`; the script works on it longer than anybody waits) is given twice the time at every
//! attempt and waits twice as long for the next, up to five minutes, and is named: in [`Health`], once in
//! the log, by the operator's tool. The shared connection never sees it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use crate::{
    answer::{Health, Isolated},
    key::Uid,
    shared::{pace::Pace, side::Side},
    telemetry::log,
};

/// The wait before the third attempt to merge a record alone; it doubles with each.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_mins(5);

/// The longest that a record may take, however often it was not merged in less, unless its bytes alone take longer.
const LIMIT_MAX: Duration = Duration::from_mins(1);

/// Attempts that fail before a record is named. One may be chance.
const NAMED_FROM: u32 = 2;

/// What is merged apart, and over what.
#[derive(Default)]
pub(crate) struct Apart {
    records: Mutex<RecordsApart>,
    /// Wakes the task that merges large records, and the one that tries those under suspicion.
    pub(crate) large_work: Notify,
    pub(crate) suspect_work: Notify,
    pub(crate) large: Side,
    pub(crate) suspects: Side,
    /// For large writes of the application.
    pub(crate) calls: Side,
}

#[derive(Default)]
pub(crate) struct RecordsApart {
    pub(crate) large: BTreeMap<Uid, u64>,
    suspects: BTreeMap<Uid, Suspect>,
    /// Records that the shared connection ended on, and how often in a row.
    ended_on: BTreeMap<Uid, u32>,
    /// Why the last of them was put off, if none was merged since.
    pub(crate) put_off: Option<String>,
    /// No further connection is asked for before then: the last attempt failed.
    pub(crate) open_from: Duration,
    pub(crate) pace: Pace,
}

#[derive(Clone)]
pub(crate) struct Suspect {
    pub(crate) bytes: u64,
    pub(crate) failures: u32,
    retry_at: Duration,
    reason: String,
}

/// A page of what is pending, sorted.
pub(crate) struct Sorted {
    /// The next batch on the shared connection, each record with its bytes.
    pub(crate) batch: Vec<(Uid, u64)>,
    /// How many of the page, from its start, are in the batch or handed on.
    pub(crate) covered: usize,
}

impl Apart {
    /// Sorts a page of what is pending, in order. What does not belong on the shared connection is handed to the tasks that
    /// merge it apart.
    pub(crate) fn sort(&self, page: &[(Uid, u64)], now: Duration) -> Sorted {
        let mut records = self.lock();
        let (mut batch, mut batch_bytes) = (Vec::new(), 0);
        for (covered, (uid, bytes)) in page.iter().enumerate() {
            if let Some(suspect) = records.suspects.get_mut(uid) {
                if suspect.bytes != *bytes {
                    // Written since: perhaps it is another case now.
                    (suspect.bytes, suspect.retry_at) = (*bytes, now);
                    suspect.failures = suspect.failures.min(NAMED_FROM);
                }
                self.suspect_work.notify_one();
            } else if *bytes > records.pace.large_bytes() {
                records.large.insert(uid.clone(), *bytes);
                self.large_work.notify_one();
            } else if !batch.is_empty() && batch_bytes + bytes > records.pace.window() {
                return Sorted { batch, covered };
            } else {
                batch.push((uid.clone(), *bytes));
                batch_bytes += bytes;
            }
        }
        Sorted { batch, covered: page.len() }
    }

    /// A batch was merged, see [`Pace::merged`].
    pub(crate) fn merged(&self, batch: &[(Uid, u64)], spread: Duration, patience: Duration) {
        let mut records = self.lock();
        records.pace.merged(batch.iter().map(|(_, bytes)| bytes).sum(), spread, patience);
        if !records.ended_on.is_empty() {
            records.ended_on.retain(|ended_on, _| !batch.iter().any(|(uid, _)| uid == ended_on));
        }
    }

    /// These of a batch were not answered, and Redis answers.
    pub(crate) fn suspect(&self, unanswered: &[(Uid, u64)], now: Duration) {
        let mut records = self.lock();
        records.pace.narrow();
        for (uid, bytes) in unanswered {
            records.blame(uid, *bytes, 0, "no reply in time", now);
        }
        self.suspect_work.notify_one();
    }

    /// The shared connection ended while these were under way. That is chance, until it happens again.
    pub(crate) fn ended_on(&self, batch: &[(Uid, u64)], reason: &str, now: Duration) {
        let mut records = self.lock();
        let before = std::mem::take(&mut records.ended_on);
        for (uid, bytes) in batch {
            let times = before.get(uid).map_or(1, |times| times + 1);
            if times > 1 {
                records.blame(uid, *bytes, 0, reason, now);
            } else {
                records.ended_on.insert(uid.clone(), times);
            }
        }
    }

    /// Bytes above which a write does not belong on the shared connection.
    pub(crate) fn large_bytes(&self) -> u64 {
        self.lock().pace.large_bytes()
    }

    /// How many records are named, and the first of them.
    pub(crate) fn named(&self, now: Duration, is_pending: impl Fn(&Uid) -> bool) -> (u64, Vec<Isolated>) {
        let records = self.lock();
        let named = records.suspects.iter().filter(|(uid, suspect)| suspect.is_named() && is_pending(uid));
        let isolated = named.clone().take(Health::ISOLATED_MAX).map(|(uid, suspect)| Isolated {
            uid: uid.clone(),
            bytes: suspect.bytes,
            attempts: suspect.failures,
            reason: suspect.reason.clone(),
            next_attempt_in: suspect.retry_at.saturating_sub(now),
        });
        let isolated = isolated.collect();
        (named.count() as u64, isolated)
    }

    /// Closes all connections.
    pub(crate) fn close(&self) {
        for side in [&self.large, &self.suspects, &self.calls] {
            side.close();
        }
    }

    /// Closes what is not used.
    pub(crate) fn tidy(&self, now: Duration) {
        for side in [&self.large, &self.suspects, &self.calls] {
            side.tidy(now);
        }
    }

    /// Why a record was put off, if none was merged apart since.
    pub(crate) fn put_off(&self) -> Option<String> {
        self.lock().put_off.clone()
    }

    pub(crate) fn next_large(&self) -> Option<(Uid, u64)> {
        let mut records = self.lock();
        loop {
            let (uid, bytes) = records.large.pop_first()?;
            if !records.suspects.contains_key(&uid) {
                return Some((uid, bytes));
            }
        }
    }

    /// Who of those under suspicion is tried next, the least suspicious first; or how long until then.
    pub(crate) fn next_suspect(&self, now: Duration) -> Result<(Uid, Suspect), Option<Duration>> {
        let records = self.lock();
        let due = records.suspects.iter().filter(|(_, suspect)| suspect.retry_at <= now);
        if let Some((uid, suspect)) = due.min_by_key(|(_, suspect)| (suspect.failures, suspect.retry_at)) {
            return Ok((uid.clone(), suspect.clone()));
        }
        Err(records.suspects.values().map(|suspect| suspect.retry_at.saturating_sub(now)).min())
    }

    pub(crate) fn limit(&self, bytes: u64, failures: u32, patience: Duration) -> Duration {
        let limit = self.lock().pace.limit(bytes, patience);
        limit.saturating_mul(1 << failures.min(16)).min(LIMIT_MAX.max(limit))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, RecordsApart> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RecordsApart {
    pub(crate) fn blame(&mut self, uid: &Uid, bytes: u64, failures: u32, reason: &str, now: Duration) {
        let wait = match failures {
            0 | 1 => Duration::ZERO,
            _ => BACKOFF_FIRST.saturating_mul(1 << (failures - 2).min(16)).min(BACKOFF_MAX),
        };
        let suspect = Suspect { bytes, failures, retry_at: now + wait, reason: reason.to_owned() };
        if failures == NAMED_FROM {
            log!(
                warn,
                uid = ?uid.as_str(), bytes, reason,
                "a record cannot be merged; it is tried apart from the others from now on"
            );
        }
        self.suspects.insert(uid.clone(), suspect);
    }

    /// The record is merged, or was put off: in either case it did no harm.
    pub(crate) fn settle(&mut self, uid: &Uid, put_off: Option<String>) {
        self.suspects.remove(uid);
        self.put_off = put_off;
    }
}

impl Suspect {
    pub(crate) fn is_named(&self) -> bool {
        self.failures >= NAMED_FROM
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(10);

    fn page(records: &[(&str, u64)]) -> Vec<(Uid, u64)> {
        records.iter().map(|(uid, bytes)| (uid.parse().unwrap(), *bytes)).collect()
    }

    fn names(batch: &[(Uid, u64)]) -> Vec<&str> {
        batch.iter().map(|(uid, _)| uid.as_str()).collect()
    }

    #[test]
    fn a_batch_ends_before_it_has_more_bytes_than_the_link_carries() {
        let apart = Apart::default();
        let page = page(&[("a", 30_000), ("b", 30_000), ("c", 30_000), ("d", 10)]);
        let Sorted { batch, covered } = apart.sort(&page, NOW);
        assert_eq!((names(&batch), covered), (vec!["a", "b"], 2));
        let Sorted { batch, covered } = apart.sort(&page[covered..], NOW);
        assert_eq!((names(&batch), covered), (vec!["c", "d"], 2));
    }

    #[test]
    fn large_records_and_suspects_are_in_no_batch() {
        let apart = Apart::default();
        apart.suspect(&page(&[("b", 10)]), NOW);
        let Sorted { batch, covered } = apart.sort(&page(&[("a", 10), ("b", 10), ("c", 1 << 20)]), NOW);
        assert_eq!((names(&batch), covered), (vec!["a"], 3));
        assert_eq!(apart.next_large().unwrap().0.as_str(), "c");
        assert_eq!(apart.next_suspect(NOW).unwrap_or_else(|_| panic!("none is due")).0.as_str(), "b");
        assert_eq!(apart.named(NOW, |_| true).0, 0, "it was never tried alone");
    }

    #[test]
    fn a_connection_that_ends_once_is_chance_and_twice_on_the_same_records_is_not() {
        let apart = Apart::default();
        apart.ended_on(&page(&[("a", 10), ("b", 10)]), "it ended", NOW);
        assert!(apart.next_suspect(NOW).is_err());
        apart.ended_on(&page(&[("b", 10), ("c", 10)]), "it ended", NOW);
        assert_eq!(names(&apart.sort(&page(&[("a", 10), ("b", 10), ("c", 10)]), NOW).batch), ["a", "c"]);
    }

    #[test]
    fn who_fails_alone_waits_longer_each_time_is_named_and_lets_others_go_first() {
        let apart = Apart::default();
        let poison = page(&[("a", 10)]);
        let mut waits = Vec::new();
        for failures in 1..14 {
            apart.lock().blame(&poison[0].0, 10, failures, "no reply", NOW);
            waits.push(apart.next_suspect(NOW).map_or_else(|wait| wait.unwrap().as_secs(), |_| 0));
        }
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        let (count, named) = apart.named(NOW, |_| true);
        assert_eq!((count, named[0].attempts, named[0].next_attempt_in.as_secs()), (1, 13, 300));
        assert_eq!(apart.named(NOW, |_| false).0, 0, "what is not pending any more is not named");
        let later = NOW + BACKOFF_MAX;
        apart.suspect(&page(&[("b", 10)]), later);
        assert_eq!(apart.next_suspect(later).unwrap_or_else(|_| panic!("both are due")).0.as_str(), "b");
        assert_eq!(apart.limit(10, 13, Duration::from_millis(250)), LIMIT_MAX);
    }

    #[test]
    fn a_suspect_that_was_written_since_is_tried_at_once() {
        let apart = Apart::default();
        apart.lock().blame(&page(&[("a", 10)])[0].0, 10, 9, "no reply", NOW);
        apart.sort(&page(&[("a", 10)]), NOW);
        assert!(apart.next_suspect(NOW).is_err());
        apart.sort(&page(&[("a", 11)]), NOW);
        assert!(apart.next_suspect(NOW).is_ok());
    }
}
