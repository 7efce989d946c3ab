//! How a write is placed: in Redis, by the merge script; or on this instance's disk, to be merged later.

use std::pin::pin;

use crate::{
    answer::{Placement, Written},
    config::Durability,
    contact::{Patch, Timestamp},
    env::Env,
    error::Error,
    health::HealthEvent,
    key::Uid,
    local::{Estimate, Held},
    record::{Estimated, Merged, Record, SentLife},
    shared::{CallError, connection::Connection, script::Mode},
    stamp::Stamp,
    tiers::Tiers,
};

/// How often a write is stamped again after a definite conflict, before it is kept locally (R10).
const CONFLICTS_MAX: u32 = 4;

/// Which tier a write is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// Redis, or the disk.
    Any,
    /// Redis alone.
    Shared,
}

/// What became of a write that was meant for Redis.
pub(super) enum WriteAttempt {
    /// Redis has it, under this stamp.
    Placed(Stamp),
    /// Redis does not have it, or it is not known whether it has: why, and whether it may take effect yet.
    NotPlaced { reason: String, sent: bool },
}

impl<E: Env> Tiers<E> {
    pub(super) async fn upsert(&self, uid: &Uid, patch: &Patch, demand: Demand) -> Result<Written, Error> {
        let now = Timestamp::from_millis(self.env.wall_ms());
        let cells = |stamp, seen: Option<&Record>| {
            let estimate = self.estimate();
            let record = Record::patched(patch, stamp, now, estimate.life, seen);
            Stamped { stamp, record, estimate: Some(estimate) }
        };
        self.write(uid, demand, cells).await
    }

    pub(super) async fn remove(&self, uid: &Uid, demand: Demand) -> Result<Written, Error> {
        let cells = |stamp, _: Option<&Record>| Stamped { stamp, record: Record::tombstone(stamp), estimate: None };
        self.write(uid, demand, cells).await
    }

    async fn write(
        &self,
        uid: &Uid,
        demand: Demand,
        stamped: impl Fn(Stamp, Option<&Record>) -> Stamped,
    ) -> Result<Written, Error> {
        let held = self.held(uid)?;
        // What is held was seen, whoever brought it here.
        if let Some(newest) = held.newest() {
            self.see(newest);
        }
        let now_ms = self.shared_ms();
        let seen = Some(held.shown_at(now_ms)).filter(|record| record.is_alive_at(now_ms));
        let stamped = |stamp| stamped(stamp, seen.as_deref());
        let mut written = stamped(self.issue().await?);
        self.config.record_limits().check_join(&held.shown_at(now_ms), &written.record)?;
        let attempt = match self.link.usable() {
            Some(connection) => self.attempt(uid, &connection, &mut written, stamped).await?,
            None => WriteAttempt::NotPlaced { reason: self.link.why_away(self.env.now()), sent: false },
        };
        match attempt {
            WriteAttempt::Placed(stamp) => Ok(Written { placement: Placement::Shared, stamp }),
            WriteAttempt::NotPlaced { reason, sent } if demand == Demand::Shared => {
                Err(Error::NotShared { reason, sent })
            }
            WriteAttempt::NotPlaced { sent, .. } => {
                self.metrics.unknown_writes.increment(u64::from(sent));
                self.keep(uid, &written, sent).await
            }
        }
    }

    /// Tries Redis. After a definite conflict `written` is stamped again; after anything else it is left as it was sent
    /// (R10).
    async fn attempt(
        &self,
        uid: &Uid,
        connection: &Connection,
        written: &mut Stamped,
        stamped: impl Fn(Stamp) -> Stamped,
    ) -> Result<WriteAttempt, Error> {
        let key = self.keys.record(uid);
        let mut left = self.config.reply_timeout;
        let deadline = self.env.now() + left;
        let aside = match self.aside(&written.record, connection, left).await {
            Ok(aside) => aside,
            Err(error) => return Ok(WriteAttempt::NotPlaced { reason: error.to_string(), sent: false }),
        };
        let connection = match &aside {
            // What it took to open it is drawn off. The shared one has all of it: less would be no suspicion of it.
            Some(aside) => {
                left = deadline.saturating_sub(self.env.now());
                aside
            }
            None => connection,
        };
        for _ in 0..CONFLICTS_MAX {
            let sent_at_ms = self.env.wall_ms();
            if left.is_zero() {
                break;
            }
            let merge = connection.merge(&key, Mode::All, &written.record, self.terms(written.life()));
            // Apart from the match, or the request would be kept through its arms.
            let merged = self.ask_within(connection, left, pin!(merge)).await;
            match merged {
                Ok(Merged::Applied(told)) => {
                    self.hear_if_cut(connection, written.life(), told.life()).await;
                    let confirmed = written.record.clone().living(told.life());
                    return self.placed(uid, connection, written.stamp, &confirmed, sent_at_ms).await;
                }
                // Definite: nothing was written, so another stamp may be tried.
                Ok(Merged::Conflict(in_the_way)) => {
                    self.metrics.conflicts.increment(1);
                    self.observe(Some(in_the_way)).await?;
                    *written = stamped(self.issue().await?);
                    left = deadline.saturating_sub(self.env.now());
                }
                // Likewise: the estimate of Redis's clock is off by more than a time to live.
                Ok(Merged::Over) => {
                    left = deadline.saturating_sub(self.env.now());
                    // Rare: in a box, so that every other write is not moved about with it.
                    if let Err(error) = self.ask_within(connection, left, pin!(Box::pin(self.hear(connection)))).await {
                        return Ok(WriteAttempt::NotPlaced { reason: error.to_string(), sent: true });
                    }
                    *written = stamped(self.issue().await?);
                    left = deadline.saturating_sub(self.env.now());
                }
                Ok(Merged::Outdone(_)) => {
                    let reason = "the merge script left out a part in mode all".to_owned();
                    return Ok(WriteAttempt::NotPlaced { reason, sent: true });
                }
                Err(CallError::NotARecord { key, reason }) => return Err(Error::NotARecord { key, reason }),
                Err(CallError::Refused(reason) | CallError::Unusable(reason) | CallError::Unknown(reason)) => {
                    // The shared one is not there to be found.
                    self.apart.calls.discard(connection.id).await;
                    return Ok(WriteAttempt::NotPlaced { reason, sent: true });
                }
            }
        }
        self.metrics.outpaced_writes.increment(1);
        let reason = "other instances kept writing to the record at the same time".to_owned();
        Ok(WriteAttempt::NotPlaced { reason, sent: false })
    }

    /// Redis has the write, or as much of it as `confirmed` says: a copy is kept.
    pub(super) async fn placed(
        &self,
        uid: &Uid,
        connection: &Connection,
        stamp: Stamp,
        confirmed: &Record,
        sent_at_ms: u64,
    ) -> Result<WriteAttempt, Error> {
        let (shifts, asking) = (self.shifts(), self.asking(sent_at_ms, false));
        let copy = |held: &mut Held| {
            held.correct(&shifts);
            held.join_placed(confirmed, asking);
        };
        let copied = self.local.update_in_generation(uid, &connection.generation, copy);
        match (copied, self.config.durability) {
            // R6: a success from before the data was lost counts as unknown.
            (Ok(None), _) => {
                let reason = "redis lost its data while it was written".to_owned();
                Ok(WriteAttempt::NotPlaced { reason, sent: true })
            }
            (Ok(Some(ticket)), Durability::Always) => {
                self.local.durable(ticket).await?;
                Ok(WriteAttempt::Placed(stamp))
            }
            (Err(error), Durability::Always) => Err(error.into()),
            // An error means that no copy is kept, but Redis has it.
            (Ok(Some(_)) | Err(_), Durability::WriteBehind) => Ok(WriteAttempt::Placed(stamp)),
        }
    }

    /// Keeps a write on this instance's disk until Redis takes it.
    async fn keep(&self, uid: &Uid, written: &Stamped, sent: bool) -> Result<Written, Error> {
        let shifts = self.shifts();
        let keep = |held: &mut Held| {
            held.correct(&shifts);
            held.join_pending(&written.record, written.estimate);
        };
        let ticket = self.local.keep(uid, keep)?;
        let limit_bytes = self.config.pending_bytes_max;
        let ticket = ticket.ok_or(Error::PendingFull { limit_bytes, sent })?;
        self.link.pending(HealthEvent::Pending, self.env.now());
        self.local.durable(ticket).await?;
        Ok(Written { placement: Placement::Local, stamp: written.stamp })
    }
}

/// What is written, under its stamp.
pub(super) struct Stamped {
    pub(super) stamp: Stamp,
    pub(super) record: Record,
    /// The life that an upsert asks for.
    pub(super) estimate: Option<Estimate>,
}

impl Stamped {
    pub(super) fn life(&self) -> SentLife {
        let estimated = self.estimate.map(|Estimate { life, ttl_ms, .. }| Estimated { life, ttl_ms });
        SentLife { told: None, estimated }
    }
}
