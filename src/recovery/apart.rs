//! The tasks that merge records apart from the others ([`Apart`](crate::tiers::Apart) says which and why): one for the large
//! records, one for those under suspicion.

use std::{pin::pin, time::Duration};

use super::merge;
use crate::{
    env::{Env, timeout},
    key::Uid,
    shared::{CallError, connection::Connection, side::Side},
    telemetry::log,
    tiers::{Suspect, Tiers},
};

/// The wait after a further connection could not be opened: so much, and up to as much again, drawn. Passes over what is pending
/// follow each other without a wait while somebody asks for them.
const OPEN_BACKOFF_MS: u64 = 1000;

/// The wait after a record that a connection ended on, before another is tried alone: so much, and up to as much again, drawn.
const CULPRIT_BACKOFF_MS: u64 = 50;

/// How often a merge under way looks whether the shared connection still stands: without it Redis is away.
const LOOK: Duration = Duration::from_millis(50);

/// What became of a record that was tried alone.
enum TriedAlone {
    Merged,
    /// Redis refused it for now: the next pass tries again.
    PutOff(String),
    /// It is to blame.
    Blamed(String),
    /// Redis is away.
    Interrupted,
}

/// Merges large records, one after the other. Runs until it is dropped.
pub(super) async fn merge_large<E: Env>(inner: &Tiers<E>) {
    let apart = &inner.apart;
    loop {
        let Some((uid, bytes)) = apart.next_large() else {
            apart.large_work.notified().await;
            continue;
        };
        match alone(inner, &apart.large, &uid, apart.limit(bytes, 0, inner.config.reply_timeout), bytes).await {
            TriedAlone::Merged => apart.lock().put_off = None,
            TriedAlone::PutOff(reason) => apart.lock().put_off = Some(reason),
            TriedAlone::Blamed(reason) => {
                apart.lock().blame(&uid, bytes, 1, &reason, inner.env.now());
                apart.suspect_work.notify_one();
            }
            // A pass begins with every connection, and hands them over again.
            TriedAlone::Interrupted => apart.lock().large.clear(),
        }
    }
}

/// Tries those under suspicion, each when it is due. Runs until it is dropped.
pub(super) async fn try_suspects<E: Env>(inner: &Tiers<E>) {
    let apart = &inner.apart;
    loop {
        let (uid, suspect) = match apart.next_suspect(inner.env.now()) {
            Ok(next) => next,
            Err(None) => {
                apart.suspect_work.notified().await;
                continue;
            }
            Err(Some(wait)) => {
                timeout(&inner.env, wait.max(Duration::from_millis(1)), apart.suspect_work.notified()).await;
                continue;
            }
        };
        let Suspect { bytes, failures, .. } = suspect;
        let limit = apart.limit(bytes, failures, inner.config.reply_timeout);
        match alone(inner, &apart.suspects, &uid, limit, bytes).await {
            TriedAlone::Merged => {
                apart.lock().settle(&uid, None);
                if suspect.is_named() {
                    log!(info, uid = ?uid.as_str(), "the record is merged after all");
                }
            }
            // It does no more harm than that: it goes with the others again.
            TriedAlone::PutOff(reason) => apart.lock().settle(&uid, Some(reason)),
            TriedAlone::Blamed(reason) => {
                apart.lock().blame(&uid, bytes, failures + 1, &reason, inner.env.now());
                // Each culprit costs a connection: where Redis takes none of many records, the next is not opened at once.
                let wait_ms = CULPRIT_BACKOFF_MS + inner.env.random() % CULPRIT_BACKOFF_MS;
                inner.env.sleep(Duration::from_millis(wait_ms)).await;
            }
            // A pass begins with every connection, and wakes this.
            TriedAlone::Interrupted => apart.suspect_work.notified().await,
        }
    }
}

/// Merges one record with nothing else under way on its connection.
async fn alone<E: Env>(inner: &Tiers<E>, side: &Side, uid: &Uid, limit: Duration, bytes: u64) -> TriedAlone {
    let Some(shared) = inner.link.usable() else { return TriedAlone::Interrupted };
    if !inner.local.is_pending(uid) {
        return TriedAlone::Merged;
    }
    if inner.env.now() < inner.apart.lock().open_from {
        return TriedAlone::Interrupted;
    }
    let connection = match inner.beside(side, &shared, inner.config.connect_timeout).await {
        Ok(connection) => connection,
        Err(error) => return failed_to_open(inner, &shared, &error.to_string()),
    };
    let begun = inner.env.now();
    let merged = while_stands(inner, &shared, limit, merge(inner, &connection, uid)).await;
    let reason = match merged {
        Some(Ok(())) => {
            let took = inner.env.now().saturating_sub(begun);
            inner.apart.lock().pace.merged_alone(bytes, took);
            return TriedAlone::Merged;
        }
        Some(Err(error @ (CallError::Refused(_) | CallError::NotARecord { .. }))) => {
            inner.note_refusal(&error);
            return TriedAlone::PutOff(error.to_string());
        }
        Some(Err(CallError::Unusable(reason))) => {
            side.discard(connection.id).await;
            inner.link.lose(shared.id, &reason, inner.env.now(), inner.env.random());
            return TriedAlone::Interrupted;
        }
        Some(Err(CallError::Unknown(reason))) => reason,
        None => format!("no reply within {} ms", limit.as_millis()),
    };
    side.discard(connection.id).await;
    // It is to blame only if Redis works: a probe says so.
    let probe = timeout(&inner.env, inner.config.reply_timeout, shared.probe(&inner.keys)).await;
    match probe {
        Some(Ok((Some(found), _))) if *found == *shared.generation => TriedAlone::Blamed(reason),
        _ => TriedAlone::Interrupted,
    }
}

/// A second connection may be one too many where the first one stands.
fn failed_to_open<E: Env>(inner: &Tiers<E>, shared: &Connection, reason: &str) -> TriedAlone {
    let wait_ms = OPEN_BACKOFF_MS + inner.env.random() % OPEN_BACKOFF_MS;
    let open_from = inner.env.now() + Duration::from_millis(wait_ms);
    let stands = stands(inner, shared);
    let mut records = inner.apart.lock();
    records.open_from = open_from;
    if stands {
        records.put_off = Some(format!("a second connection, for a record apart from the others: {reason}"));
    }
    TriedAlone::Interrupted
}

/// The output of `work`; none after `limit`, or when the shared connection is another.
async fn while_stands<E: Env, T>(
    inner: &Tiers<E>,
    shared: &Connection,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Option<T> {
    let mut work = pin!(work);
    let end = inner.env.now() + limit;
    loop {
        let left = end.saturating_sub(inner.env.now());
        if let Some(output) = timeout(&inner.env, left.min(LOOK), work.as_mut()).await {
            return Some(output);
        }
        if left <= LOOK || !stands(inner, shared) {
            return None;
        }
    }
}

fn stands<E: Env>(inner: &Tiers<E>, shared: &Connection) -> bool {
    inner.link.connection().is_some_and(|connection| connection.id == shared.id)
}
