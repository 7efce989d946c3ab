//! One pass after the other over what is pending: small records in batches over the shared connection, the others handed
//! to whoever merges them apart.

use std::time::Duration;

use futures_util::future::join_all;

use super::merge;
use crate::{
    env::{Env, timeout, yield_now},
    health::HealthEvent,
    key::Uid,
    shared::{CallError, connection::Connection},
    tiers::{Sorted, Tiers},
};

/// Records looked at, and merged, at the same time: enough to hide the round trips, few enough that calls of the
/// application find room between them.
const REPLAY_CONCURRENCY: usize = 16;

/// How far a pass over everything pending has come.
#[derive(Default)]
pub(super) struct Pass {
    /// The last record that was merged or handed on, in the order of uids.
    after: Option<Uid>,
    /// What Redis refused in it.
    refused: Option<String>,
}

/// Records of a batch that were not answered, with their bytes. If Redis answers a probe, it is one of them that is to
/// blame.
pub(super) struct Unanswered(pub(super) Vec<(Uid, u64)>);

/// Merges the next batch of what is pending.
///
/// # Errors
/// Some of it was not answered in time. Redis has to show that it is there.
pub(super) async fn replay<E: Env>(inner: &Tiers<E>, pass: &mut Pass) -> Result<(), Unanswered> {
    let Some(connection) = inner.link.usable() else { return Ok(()) };
    if pass.after.is_none() {
        inner.link.pending(HealthEvent::PassBegan, inner.env.now());
    }
    let page = inner.local.pending_after(pass.after.as_ref(), REPLAY_CONCURRENCY);
    if page.is_empty() {
        inner.link.pending(HealthEvent::PassEnded, inner.env.now());
        // Only now: while a pass runs, what the one before it was refused still holds.
        inner.link.refuse(pass.refused.take(), inner.env.now());
        *pass = Pass::default();
        return Ok(());
    }
    let Sorted { batch, covered } = inner.apart.sort(&page, inner.env.now());
    let unanswered = match merge_batch(inner, &connection, &batch, pass).await {
        Ok(unanswered) => unanswered,
        Err(error) => {
            let reason = error.to_string();
            // A server that says what keeps it from working (READONLY, ..) blames no record.
            if matches!(error, CallError::Unknown(_)) {
                inner.apart.ended_on(&batch, &reason, inner.env.now());
            }
            inner.link.lose(connection.id, &reason, inner.env.now(), inner.env.random());
            *pass = Pass::default();
            return Ok(());
        }
    };
    pass.after = page[..covered].last().map(|(uid, _)| uid.clone());
    if !unanswered.is_empty() {
        return Err(Unanswered(unanswered));
    }
    // Copies that turn out to have nothing pending are merged without a wait: others should run all the same.
    yield_now().await;
    Ok(())
}

/// Merges these at the same time. Those that were not answered in time are left; an error if the connection is of no use
/// any more.
async fn merge_batch<E: Env>(
    inner: &Tiers<E>,
    connection: &Connection,
    batch: &[(Uid, u64)],
    pass: &mut Pass,
) -> Result<Vec<(Uid, u64)>, CallError> {
    let patience = inner.config.reply_timeout;
    let merges = batch.iter().map(async |(uid, _)| {
        let result = timeout(&inner.env, patience, merge(inner, connection, uid)).await;
        (result, inner.env.now())
    });
    let (mut unanswered, mut answered_at) = (Vec::new(), Vec::new());
    for (record, (result, at)) in batch.iter().zip(join_all(merges).await) {
        match result {
            Some(Ok(())) => answered_at.push(at),
            // A refusal concerns this record, for now: it stays pending and must not hold up the others.
            Some(Err(error @ (CallError::NotARecord { .. } | CallError::Refused(_)))) => {
                pass.refused = Some(error.to_string());
                inner.link.refuse(pass.refused.clone(), inner.env.now());
            }
            Some(Err(error @ (CallError::Unusable(_) | CallError::Unknown(_)))) => return Err(error),
            None => unanswered.push(record.clone()),
        }
    }
    if unanswered.is_empty() {
        let first = answered_at.iter().min().copied().unwrap_or(Duration::ZERO);
        let last = answered_at.iter().max().copied().unwrap_or(first);
        inner.apart.merged(batch, last.saturating_sub(first), patience);
    }
    Ok(unanswered)
}
