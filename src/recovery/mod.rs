//! The one background task that owns the connection: it connects, probes, notices lost data, and merges what is pending.
//!
//! It never gives up, and it does one thing at a time, so that at most one probe or attempt to connect is under way. Beside
//! it, records are merged that would hold it up (`apart`).

mod apart;
mod replay;

use std::{
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join3;
use redis::aio::MultiplexedConnection;

use self::replay::{Pass, Unanswered, replay};
use crate::{
    answer::{Freshness, OtherRedis},
    config::OnOtherRedis,
    env::{Env, timeout},
    health::{HealthEvent, Next, State},
    key::Uid,
    local::Sent,
    record::Merged,
    shared::{
        CallError,
        clock::AskedAt,
        connection::{Connection, confirmed_clock, dial, generation, marker_and_clock},
        said::CLOSED,
        script::Mode,
    },
    tiers::Tiers,
};

/// Copies that are read again at each probe of an instance that has nothing else to do, if they are due (R9).
const REVALIDATED_PER_PROBE: usize = 8;

/// Why an attempt came to nothing: by what it waited for when its time was over.
const SILENT_NETWORK: &str =
    "no connection within connect_timeout: the address does not answer, or the name service, or a TLS handshake";
const SILENT_SERVER: &str = "redis is silent: it took the connection and answered nothing within connect_timeout";
const SILENT_WITHOUT_DATA: &str = "redis is silent: its data was lost, and it answers no more";
const SILENT_PROBE: &str = "redis is silent: no answer to a probe within reply_timeout";

/// Runs until it is aborted.
pub(crate) async fn supervise<E: Env>(inner: Arc<Tiers<E>>) {
    join3(supervise_link(&inner), apart::merge_large(&inner), apart::try_suspects(&inner)).await;
}

async fn supervise_link<E: Env>(inner: &Arc<Tiers<E>>) {
    let (mut pass, mut revalidated) = (Pass::default(), None);
    loop {
        // A disk that is stuck must not keep the instance from Redis: a call that needs the ceiling waits for it itself.
        timeout(&inner.env, inner.config.op_deadline, inner.keep_ceiling_ahead()).await;
        inner.metrics.publish(&inner.health());
        let now = inner.env.now();
        match inner.link.next(now) {
            Next::Connect => {
                connect(inner).await;
                pass = Pass::default();
            }
            Next::Probe => {
                probe(inner).await;
                inner.apart.tidy(inner.env.now());
                revalidate(inner, &mut revalidated).await;
            }
            Next::Replay => {
                if let Err(Unanswered(records)) = replay(inner, &mut pass).await {
                    // Calls go on meanwhile: those that wait in vain say so themselves.
                    if probe(inner).await {
                        inner.apart.suspect(&records, inner.env.now());
                    }
                }
            }
            Next::Wait(until) => {
                let wait = until.saturating_sub(now).max(Duration::from_millis(1));
                timeout(&inner.env, wait, inner.link.wake.notified()).await;
            }
        }
    }
}

async fn connect<E: Env>(inner: &Arc<Tiers<E>>) {
    inner.link.begin_attempt(inner.env.now());
    let id = inner.env.random();
    let reached = AtomicBool::default();
    let established = timeout(&inner.env, inner.config.connect_timeout, establish(inner, id, &reached)).await;
    let (now, random) = (inner.env.now(), inner.env.random());
    match established {
        Some(Ok(connection)) => inner.link.establish(connection, now, random),
        Some(Err(error)) => inner.link.fail(&error.to_string(), now, random),
        None if reached.load(Ordering::Relaxed) => inner.link.fail(SILENT_SERVER, now, random),
        None => inner.link.fail(SILENT_NETWORK, now, random),
    }
}

async fn establish<E: Env>(inner: &Arc<Tiers<E>>, id: u64, reached: &AtomicBool) -> Result<Connection, CallError> {
    let ended = Arc::downgrade(inner);
    let on_end = move || {
        if let Some(inner) = ended.upgrade() {
            inner.link.lose(id, CLOSED, inner.env.now(), inner.env.random());
        }
    };
    let mut dialled = dial(&inner.env, &inner.config, &inner.link.addresses, id, reached, on_end).await?;
    let owner = check_owner(inner, &mut dialled.multiplexed).await;
    dialled.heard(owner)?;
    let fresh = format!("{:016x}", inner.env.random());
    let asked = AskedAt::now(&inner.env);
    let found = generation(&mut dialled.multiplexed, &inner.keys, &fresh).await;
    let (found, clock_ms) = dialled.heard(found)?;
    let (told, by) = ((clock_ms, asked), (&inner.env, &inner.config));
    let clock_ms = confirmed_clock(&mut dialled.multiplexed, &inner.keys, told, inner.shared_ms(), by).await;
    let clock_ms = dialled.heard(clock_ms)?;
    // Before the first call on it: until then deadlines went by this instance's own clock, however wrong.
    inner.read_clock(clock_ms);
    inner.local.take_redis();
    adopt(inner, &found).await;
    Ok(dialled.with_generation(&found, inner.metrics.scripts_sent.clone(), &inner.link.horizon))
}

/// A store belongs to one Redis. What is found at another endpoint, or in another database, is the same data if its generation
/// is; else it is asked nothing, and nothing is published to it, not even a generation, unless the settings allow it.
async fn check_owner<E: Env>(inner: &Tiers<E>, connection: &mut MultiplexedConnection) -> Result<(), CallError> {
    let other = match inner.local.other_redis() {
        Some(belongs_to) if inner.config.on_other_redis == OnOtherRedis::Hold => {
            let (generation, (found_generation, _)) =
                (inner.local.generation().0, marker_and_clock(connection, &inner.keys).await?);
            let (directory, found) = (inner.config.directory.clone(), inner.config.redis.to_string());
            let other = OtherRedis { directory, belongs_to, found, generation, found_generation };
            let is_same = other.generation.is_some() && other.generation == other.found_generation;
            Some(other).filter(|_| !is_same)
        }
        _ => None,
    };
    let refused = other.as_ref().map(|other| CallError::Unusable(other.to_string()));
    *inner.other_redis.lock().unwrap_or_else(PoisonError::into_inner) = other;
    refused.map_or(Ok(()), Err)
}

/// R6: takes Redis's generation as the current one. If it is another than that of the copies held, those that R9 allows
/// become pending, in one durable commit with the new generation.
async fn adopt<E: Env>(inner: &Tiers<E>, found: &str) {
    let (current, ticket) = inner.local.generation();
    inner.metrics.lost_generations.increment(u64::from(current.as_deref().is_some_and(|current| current != found)));
    let ticket = if current.as_deref() == Some(found) {
        // An attempt that was given up may have begun the change.
        Ok(ticket)
    } else {
        inner.local.change_generation(found, inner.republish_since_ms())
    };
    // A store that takes no writes keeps no copies either: the cache goes on without.
    if let Ok(ticket) = ticket {
        let _ = inner.local.durable(ticket).await;
    }
}

/// Asks for a sign of life; says whether one came, from the data that was known.
async fn probe<E: Env>(inner: &Arc<Tiers<E>>) -> bool {
    let Some(connection) = inner.link.connection() else { return false };
    match timeout(&inner.env, inner.config.reply_timeout, inner.hear(&connection)).await {
        Some(Ok(Some(found))) if *found == *connection.generation => {
            inner.link.report(connection.id, HealthEvent::ProbeAnswered, inner.env.now());
            if inner.local.pending_count() > 0 {
                // What could not be merged in the last pass is tried again.
                inner.link.pending(HealthEvent::Pending, inner.env.now());
            }
            return true;
        }
        Some(Ok(_)) => regenerate(inner, &connection).await,
        Some(Err(error)) => {
            inner.metrics.failed_probes.increment(1);
            inner.link.lose(connection.id, &error.to_string(), inner.env.now(), inner.env.random());
        }
        None => {
            inner.metrics.failed_probes.increment(1);
            inner.link.lose(connection.id, SILENT_PROBE, inner.env.now(), inner.env.random());
        }
    }
    false
}

/// Redis lost its data under a living connection.
async fn regenerate<E: Env>(inner: &Arc<Tiers<E>>, connection: &Connection) {
    let fresh = format!("{:016x}", inner.env.random());
    let adopted = async {
        let found = connection.find_generation(&inner.keys, &fresh).await?;
        adopt(inner, &found).await;
        Ok::<_, CallError>(found)
    };
    let adopted = timeout(&inner.env, inner.config.connect_timeout, adopted).await;
    let (now, random) = (inner.env.now(), inner.env.random());
    match adopted {
        Some(Ok(found)) => inner.link.establish(connection.regenerated(&found), now, random),
        Some(Err(error)) => inner.link.lose(connection.id, &error.to_string(), now, random),
        None => inner.link.lose(connection.id, SILENT_WITHOUT_DATA, now, random),
    }
}

/// R9: reads copies again that were confirmed long ago, so that they may be published if Redis loses its data. `after`
/// is where the search goes on.
async fn revalidate<E: Env>(inner: &Tiers<E>, after: &mut Option<Uid>) {
    if inner.link.state() != State::Connected {
        return;
    }
    let before_ms = inner.env.wall_ms().saturating_sub(2 * inner.stale_ms());
    let (stale, last) = inner.local.stale_after(after.as_ref(), before_ms, REVALIDATED_PER_PROBE);
    for uid in &stale {
        // A failure is the next round's.
        let _ = timeout(&inner.env, inner.config.op_deadline, inner.get(uid, Freshness::Any)).await;
    }
    *after = last;
}

/// Merges one record, the oldest of its lives first (L4).
async fn merge<E: Env>(inner: &Tiers<E>, connection: &Connection, uid: &Uid) -> Result<(), CallError> {
    let Ok(held) = inner.held(uid) else { return Ok(()) };
    if !held.is_pending() {
        return Ok(());
    }
    let _replaying = inner.replaying.enter(uid);
    for sent in held.to_send(inner.shared_ms()) {
        if !merge_life(inner, connection, uid, &sent).await? {
            return Ok(());
        }
    }
    inner.metrics.replayed.increment(1);
    Ok(())
}

/// Whether the next may follow.
async fn merge_life<E: Env>(
    inner: &Tiers<E>,
    connection: &Connection,
    uid: &Uid,
    sent: &Sent,
) -> Result<bool, CallError> {
    let sent_at_ms = inner.env.wall_ms();
    let terms = inner.terms(sent.life);
    let merged = connection.merge(&inner.keys.record(uid), Mode::Each, &sent.record, terms).await?;
    let (Merged::Applied(told) | Merged::Outdone(told)) = &merged else {
        return Err(CallError::Unknown("the merge script answered a conflict in mode each".to_owned()));
    };
    // R4: what was told is held from now on, so it is below a durable ceiling. Without one it stays pending.
    if inner.observe(told.newest()).await.is_err() {
        return Ok(false);
    }
    inner.hear_if_cut(connection, sent.life, told.life()).await;
    let (asking, shifts) = (inner.asking(sent_at_ms, false), inner.shifts());
    // R6: an acknowledgement from an older generation clears nothing. A store that takes no writes any more keeps the
    // cells pending; merging them again does no harm.
    let _ = inner.local.update_in_generation(uid, &connection.generation, |held| {
        held.correct(&shifts);
        held.acknowledge(sent, &merged, asking);
    });
    inner.metrics.buried_writes.increment(u64::from(told.buries_any(&sent.record)));
    Ok(true)
}
