//! How a record of another cache is taken over: read first, to tell what it would change, then merged in mode *each*.
//!
//! Its stamps are below all that a clock issues, so it can win over nothing, and a record has the same ones at every
//! import, so an attempt whose outcome is unknown may be repeated (R10 is about stamps that an instance made up). It is
//! never kept pending: who imports waits for Redis, and can begin again.

use std::pin::pin;

use super::write::{Stamped, WriteAttempt};
use crate::{
    answer::Imported,
    contact::CachedContact,
    env::Env,
    error::Error,
    record::{Merged, Record},
    shared::{CallError, script::Mode},
    stamp::Stamp,
    tiers::Tiers,
};

impl<E: Env> Tiers<E> {
    pub(super) async fn import(&self, contact: &CachedContact, write: bool) -> Result<Imported, Error> {
        let Some(connection) = self.link.usable() else {
            return Err(Error::NotShared { reason: self.link.why_away(self.env.now()), sent: false });
        };
        let (uid, key) = (&contact.uid, self.keys.record(&contact.uid));
        let estimate = self.estimate();
        let record = Record::imported(contact, estimate.life);
        let written = Stamped { stamp: Stamp::imported(contact.last_updated_at), record, estimate: Some(estimate) };
        let reply = self.ask(&connection, pin!(connection.read(&key))).await;
        let reply =
            reply.and_then(|flat| self.decoder.decode(uid, &key, &flat)).map_err(|error| failed(error, false))?;
        self.config.record_limits().check_join(&reply.record, &written.record)?;
        let would = outcome(&reply.record, &written.record, self.shared_ms());
        if !write || matches!(would, Imported::Present | Imported::Removed) {
            return Ok(would);
        }
        let sent_at_ms = self.env.wall_ms();
        let aside = self.aside(&written.record, &connection, self.config.reply_timeout).await;
        let connection = aside.map_err(|error| failed(error, false))?.unwrap_or(connection);
        let merge = connection.merge(&key, Mode::Each, &written.record, self.terms(written.life()));
        // Apart from the match, or the request would be kept through its arms.
        let merged = self.ask(&connection, pin!(merge)).await;
        let confirmed = match merged {
            Ok(Merged::Applied(told)) => {
                self.hear_if_cut(&connection, written.life(), told.life()).await;
                written.record.clone().living(told.life())
            }
            Ok(Merged::Outdone(whole)) => whole,
            Ok(Merged::Conflict(_) | Merged::Over) => {
                let reason = "the merge script answered a conflict in mode each".to_owned();
                return Err(Error::NotShared { reason, sent: true });
            }
            Err(error) => {
                self.apart.calls.discard(connection.id).await;
                return Err(failed(error, true));
            }
        };
        // R4: what won is held from now on, so it is below a durable ceiling.
        self.observe(confirmed.newest()).await?;
        match self.placed(uid, &connection, written.stamp, &confirmed, sent_at_ms).await? {
            // Removed between the two requests.
            WriteAttempt::Placed(_) if confirmed.existence().is_none() => Ok(Imported::Removed),
            WriteAttempt::Placed(_) => Ok(would),
            WriteAttempt::NotPlaced { reason, sent } => Err(Error::NotShared { reason, sent }),
        }
    }
}

/// What a join of `import` does to what is there at this time of Redis's clock.
fn outcome(there: &Record, import: &Record, now_ms: u64) -> Imported {
    let mut there = there.clone();
    if there.existence().is_some() && !there.is_alive_at(now_ms) {
        // Redis will delete these cells when it meets them.
        there.split_off_life();
    }
    let all_there = import.cells().iter().all(|(name, cell)| there.covers_cell(name, cell));
    match (there.existence().is_some(), all_there) {
        (false, false) => Imported::Created,
        (false, true) => Imported::Removed,
        (true, true) if there.times.covers(import.times) => Imported::Present,
        (true, _) => Imported::Joined,
    }
}

fn failed(error: CallError, sent: bool) -> Error {
    match error {
        CallError::NotARecord { key, reason } => Error::NotARecord { key, reason },
        CallError::Refused(reason) | CallError::Unusable(reason) | CallError::Unknown(reason) => {
            Error::NotShared { reason, sent }
        }
    }
}
