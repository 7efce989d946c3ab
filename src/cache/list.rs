//! How records are listed: SCAN over Redis joined with what Redis does not have yet, or what is held here; and how what
//! was listed is cleared.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use super::write::Demand;
use crate::{
    answer::{Cleared, Listing, Source},
    env::{Env, timeout},
    error::{Effect, Error},
    key::Uid,
    local::Held,
    record::Record,
    shared::{CallError, connection::Connection},
    tiers::Tiers,
};

impl<E: Env> Tiers<E> {
    pub(super) async fn list(&self) -> Result<Listing, Error> {
        let local_because = match self.link.usable() {
            Some(connection) => match self.list_shared(&connection).await? {
                Ok(listing) => return Ok(listing),
                Err(reason) => {
                    self.metrics.cut_off_lists.increment(1);
                    reason
                }
            },
            None => self.link.why_away(self.env.now()),
        };
        let (uids, complete) = (self.local.uids(self.shared_ms())?, !self.local.forgot());
        Ok(Listing { source: Source::Local, uids, complete, local_because: Some(local_because) })
    }

    /// The list by Redis, or why it has none.
    async fn list_shared(&self, connection: &Connection) -> Result<Result<Listing, String>, Error> {
        // R7: from before the scan. It may pass a key before what was pending is merged there, and nothing is pending
        // any more when it ends.
        let pending = self.local.pending()?;
        let mut found = match self.scan(connection).await {
            Ok(found) => found,
            Err(error) => return Ok(Err(error.to_string())),
        };
        if self.local.generation().0.as_deref() != Some(&*connection.generation) {
            return Ok(Err("redis lost its data while it was asked".to_owned()));
        }
        self.observe(found.values().filter_map(Record::newest).max()).await?;
        let now_ms = self.shared_ms();
        let source = join_existence(&mut found, &pending, now_ms);
        found.retain(|_, record| record.is_alive_at(now_ms));
        Ok(Ok(Listing { source, uids: found.into_keys().collect(), complete: true, local_because: None }))
    }

    /// Removes what was listed, until the deadline.
    pub(super) async fn clear(&self, listing: Listing, deadline: Duration) -> Cleared {
        let Listing { source, uids, .. } = listing;
        let (mut removed, mut unknown) = (BTreeMap::new(), BTreeSet::new());
        for uid in &uids {
            let left = deadline.saturating_sub(self.env.now());
            if left <= self.config.reply_timeout {
                // No time to wait for Redis and fall back: better not begun than cut off.
                break;
            }
            match timeout(&self.env, left, self.remove(uid, Demand::Any)).await {
                Some(Ok(written)) => {
                    removed.insert(uid.clone(), written.placement);
                }
                // One that cannot be removed should not keep the others.
                Some(Err(error)) if error.effect() == Effect::None => {}
                Some(Err(_)) => {
                    unknown.insert(uid.clone());
                }
                None => {
                    unknown.insert(uid.clone());
                    break;
                }
            }
        }
        // Without Redis, only what is held here was seen.
        Cleared { complete: source != Source::Local && removed.len() == uids.len(), unknown, removed }
    }

    /// All records of the prefix in Redis: each page within the time of a reply, all within half of the deadline, so that
    /// there is time to fall back. A uid that is there from before the call to its end is in it.
    async fn scan(&self, connection: &Connection) -> Result<BTreeMap<Uid, Record>, CallError> {
        let end = self.env.now() + self.config.op_deadline / 2;
        let (mut found, mut cursor) = (BTreeMap::new(), "0".to_owned());
        while self.env.now() < end {
            let (next, page) = self.ask(connection, pin!(connection.scan_page(&self.keys, &cursor))).await?;
            found.extend(page);
            if next == "0" {
                return Ok(found);
            }
            self.metrics.list_pages.increment(1);
            cursor = next;
        }
        Err(CallError::Refused("the list takes longer than half of op_deadline".to_owned()))
    }
}

/// R2: joins what Redis does not have yet into what it listed.
fn join_existence(found: &mut BTreeMap<Uid, Record>, pending: &BTreeMap<Uid, Arc<Held>>, now_ms: u64) -> Source {
    let mut source = Source::Shared;
    for (uid, held) in pending {
        let record = found.entry(uid.clone()).or_default();
        let before = record.is_alive_at(now_ms);
        record.join(&held.shown_at(now_ms));
        if record.is_alive_at(now_ms) != before {
            source = Source::Merged;
        }
    }
    source
}
