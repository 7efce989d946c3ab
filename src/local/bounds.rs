//! What the local store forgets to keep within its limits.

use std::ops::Bound;

use super::{entry::LogEntry, held::Held, slot::Slot, state::StoreState};
use crate::{env::Env, key::Uid};

/// Copies looked at to find one to forget: more come closer to the one confirmed longest ago, and cost more.
const EVICTION_SAMPLE: usize = 64;

/// Limits of what is held, see [`Config`](crate::Config).
#[derive(Clone, Copy, Debug)]
pub(super) struct StoreLimits {
    pub(super) pending_bytes_max: u64,
    pub(super) copies_bytes_max: u64,
    pub(super) republish_window_ms: u64,
    pub(super) tombstone_ttl_ms: u64,
}

impl<E: Env> StoreState<E> {
    /// Drops what nobody misses: removed and expired records that Redis itself has forgotten by now, with nothing
    /// pending.
    pub(super) fn prune(&mut self, page: &[(Uid, Slot)], limits: StoreLimits, now_ms: u64) {
        for (uid, slot) in page {
            let dead = slot.alive_until_ms <= now_ms && slot.weight.owed == 0 && !self.pending.contains(uid);
            let forgotten_by_redis = slot.seen_ms.saturating_add(limits.tombstone_ttl_ms) < now_ms;
            if dead && forgotten_by_redis && !self.overlay.contains_key(uid) {
                self.remove_slot(uid);
            }
        }
    }

    /// Whether `held` in the place of what is held would pass the limit of what is pending.
    pub(super) fn is_full(&self, uid: &Uid, held: &Held, limits: StoreLimits) -> bool {
        let before = self.weight(uid).map_or(0, |before| u64::from(before.owed));
        let owed = u64::from(held.weight().owed);
        owed > 0 && self.usage.owed_bytes - before + owed > limits.pending_bytes_max
    }

    /// Whether there is room for a copy that was not held before. Forgets others to make room.
    pub(super) fn admits(&mut self, held: &Held, limits: StoreLimits, now_ms: u64) -> bool {
        let bytes = u64::from(held.weight().copied);
        // A disk that takes nothing must not fill the memory instead.
        while self.failed.is_some() || self.usage.copies_bytes + bytes > limits.copies_bytes_max {
            if self.failed.is_some() || !self.evict_one(Some(limits.republish_window_ms), now_ms) {
                self.usage.not_admitted += 1;
                self.note_forgot();
                return false;
            }
        }
        true
    }

    /// Forgets copies until they are within the limit: writes that Redis has taken since are copies now, and copies grow.
    /// Those that were confirmed lately are forgotten last; those that are not on disk yet stay.
    pub(super) fn shrink(&mut self, limits: StoreLimits, now_ms: u64) {
        for window_ms in [Some(limits.republish_window_ms), None] {
            let looks = self.index.len() / EVICTION_SAMPLE + 2;
            while self.usage.copies_bytes > limits.copies_bytes_max
                && (0..looks).any(|_| self.evict_one(window_ms, now_ms))
            {}
        }
    }

    /// Forgets a copy, of some looked at the one confirmed longest ago; none within the window, none that is pending.
    fn evict_one(&mut self, window_ms: Option<u64>, now_ms: u64) -> bool {
        for _ in 0..2 {
            let start = self.hand.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let sample = self.index.range::<Uid, _>((start, Bound::Unbounded)).take(EVICTION_SAMPLE);
            let (mut last, mut oldest) = (None, None);
            for (uid, slot) in sample {
                last = Some(uid);
                let free = slot.weight.owed == 0 && !self.pending.contains(uid) && !self.overlay.contains_key(uid);
                let seen_ms = slot.seen_ms;
                let outside = window_ms.is_none_or(|window_ms| seen_ms.saturating_add(window_ms) < now_ms);
                if free && outside && oldest.is_none_or(|(oldest_ms, _)| seen_ms < oldest_ms) {
                    oldest = Some((seen_ms, uid));
                }
            }
            let (last, victim) = (last.cloned(), oldest.map(|(_, uid)| uid.clone()));
            self.hand = last;
            if let Some(uid) = victim {
                self.remove_slot(&uid);
                self.usage.evicted += 1;
                self.note_forgot();
                if let Some(moved) = &mut self.moved_since {
                    moved.insert(uid.clone());
                }
                self.push(LogEntry::Forget { uid });
                return true;
            }
            if self.hand.is_some() {
                // Nothing here; the next call looks further on.
                return false;
            }
        }
        false
    }

    fn note_forgot(&mut self) {
        if !self.forgot {
            self.forgot = true;
            self.push(LogEntry::Forgot);
        }
    }
}
