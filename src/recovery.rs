//! The one background task that owns the connection: it connects, probes, notices lost data, and merges what is pending.
//!
//! It never gives up, and it does one thing at a time, so that at most one probe or attempt to connect is under way.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;

use crate::{
    cache::Inner,
    env::{Env, timeout},
    health::{Event, Next},
    key::Uid,
    shared::{
        CallError,
        connection::{Connection, dial, generation},
        script::{Merged, Mode},
    },
};

/// Records merged at the same time after an outage: enough to hide the round trips, few enough that calls of the
/// application find room between them.
const REPLAY_CONCURRENCY: usize = 16;

/// Runs until it is aborted.
pub(crate) async fn supervise<E: Env>(inner: Arc<Inner<E>>) {
    let mut pass = Pass::default();
    loop {
        inner.keep_ceiling_ahead().await;
        let now = inner.env.now();
        match inner.link.next(now) {
            Next::Connect => {
                connect(&inner).await;
                pass = Pass::default();
            }
            Next::Probe => probe(&inner).await,
            Next::Replay => replay(&inner, &mut pass).await,
            Next::Wait(until) => {
                let wait = until.saturating_sub(now).max(Duration::from_millis(1));
                timeout(&inner.env, wait, inner.link.wake.notified()).await;
            }
        }
    }
}

async fn connect<E: Env>(inner: &Arc<Inner<E>>) {
    inner.link.begin_attempt();
    let id = inner.env.random();
    let established = timeout(&inner.env, inner.config.connect_timeout, establish(inner, id)).await;
    match established {
        Some(Ok(connection)) => inner.link.establish(connection, inner.env.now()),
        Some(Err(_)) | None => inner.link.fail(inner.env.now(), inner.env.random()),
    }
}

async fn establish<E: Env>(inner: &Arc<Inner<E>>, id: u64) -> Result<Connection, CallError> {
    let ended = Arc::downgrade(inner);
    let on_end = move || {
        if let Some(inner) = ended.upgrade() {
            inner.link.lose(id, inner.env.now(), inner.env.random());
        }
    };
    let mut dialled = dial(&inner.env, &inner.config.redis, id, on_end).await?;
    let fresh = format!("{:016x}", inner.env.random());
    match generation(&mut dialled.multiplexed, &inner.keys, &fresh).await {
        Ok(found) => {
            adopt(inner, &found).await;
            Ok(dialled.with_generation(&found))
        }
        Err(error) => {
            dialled.abandon();
            Err(error)
        }
    }
}

/// R6: takes Redis's generation as the current one. If it is another than that of the copies held, those that R9 allows
/// become pending, in one durable commit with the new generation.
async fn adopt<E: Env>(inner: &Inner<E>, found: &str) {
    if inner.local.generation().as_deref() == Some(found) {
        return;
    }
    // A store that takes no writes keeps no copies either: the cache goes on without.
    if let Ok(ticket) = inner.local.change_generation(found, inner.republish_since_ms()) {
        let _ = inner.local.durable(ticket).await;
    }
}

async fn probe<E: Env>(inner: &Arc<Inner<E>>) {
    let Some(connection) = inner.link.connection() else { return };
    let answer = timeout(&inner.env, inner.config.reply_timeout, connection.probe(&inner.keys)).await;
    let now = inner.env.now();
    match answer {
        Some(Ok(Some(found))) if *found == *connection.generation => {
            inner.link.report(connection.id, Event::ProbeAnswered, now);
        }
        // Redis lost its data under a living connection.
        Some(Ok(_)) => {
            let fresh = format!("{:016x}", inner.env.random());
            let found =
                timeout(&inner.env, inner.config.reply_timeout, connection.find_generation(&inner.keys, &fresh));
            match found.await {
                Some(Ok(found)) => {
                    adopt(inner, &found).await;
                    inner.link.establish(connection.regenerated(&found), inner.env.now());
                }
                Some(Err(_)) | None => inner.link.lose(connection.id, inner.env.now(), inner.env.random()),
            }
        }
        Some(Err(_)) | None => inner.link.lose(connection.id, now, inner.env.random()),
    }
}

/// How far a pass over everything pending has come.
#[derive(Default)]
struct Pass {
    /// The last record that was merged, in the order of uids.
    after: Option<Uid>,
    /// Whether something was merged in this pass.
    progressed: bool,
}

/// Merges the next batch of what is pending.
async fn replay<E: Env>(inner: &Inner<E>, pass: &mut Pass) {
    let Some(connection) = inner.link.usable() else { return };
    let batch = inner.local.pending_after(pass.after.as_ref(), REPLAY_CONCURRENCY);
    let Some(last) = batch.last() else {
        // What is left after a whole pass came meanwhile, or cannot be merged now and waits for the next news.
        if !(pass.progressed && inner.local.pending_count() > 0) {
            inner.link.pending(Event::Drained, inner.env.now());
        }
        *pass = Pass::default();
        return;
    };
    let merges = batch.iter().map(|uid| {
        let merge = merge(inner, &connection, uid);
        async { timeout(&inner.env, inner.config.reply_timeout, merge).await.unwrap_or(Err(CallError::timed_out())) }
    });
    for result in join_all(merges).await {
        match result {
            Ok(progressed) => pass.progressed |= progressed,
            // It stays pending and must not hold up the others.
            Err(CallError::NotARecord { .. }) => {}
            Err(CallError::Refused(_) | CallError::Unusable(_) | CallError::Unknown(_)) => {
                inner.link.lose(connection.id, inner.env.now(), inner.env.random());
                *pass = Pass::default();
                return;
            }
        }
    }
    pass.after = Some(last.clone());
}

/// Merges one record; says whether its acknowledgement was taken in.
async fn merge<E: Env>(inner: &Inner<E>, connection: &Connection, uid: &Uid) -> Result<bool, CallError> {
    let Ok(Some(held)) = inner.local.read(uid) else { return Ok(false) };
    if !held.is_pending() {
        return Ok(false);
    }
    let sent = held.to_send();
    let sent_at_ms = inner.env.wall_ms();
    let merged = connection.merge(&inner.keys.record(uid), Mode::Each, &sent.record, inner.tombstone_ttl_ms()).await?;
    let Merged::Applied(winners) = merged else {
        return Err(CallError::Unknown("the merge script answered a conflict in mode each".to_owned()));
    };
    // R6: an acknowledgement from an older generation clears nothing. A store that takes no writes any more keeps the
    // cells pending; merging them again does no harm.
    let acknowledged = inner.local.update_in_generation(uid, &connection.generation, |held| {
        held.acknowledge(&sent, sent_at_ms);
        held.join_confirmed(&winners, sent_at_ms, inner.stale_ms());
    });
    Ok(acknowledged.unwrap_or(false))
}
