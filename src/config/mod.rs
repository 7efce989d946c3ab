//! What an application decides about its cache.

mod load;
mod url;

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

pub use self::{
    load::LoadError,
    url::{ParseUrlError, RedisUrl},
};
use crate::{
    env::{Endpoint, Tls},
    key::Prefix,
    limits::RecordLimits,
};

/// The most that [`Config::record_bytes_max`] and [`Config::record_cells_max`] can be.
const RECORD_BYTES_LIMIT: u64 = 16 << 20;
const RECORD_CELLS_LIMIT: u64 = 100_000;

/// The settings of one cache. [`Config::new`] gives the defaults for all that has one.
#[derive(Clone, Debug)]
pub struct Config {
    /// The Redis that the instances share.
    pub redis: RedisUrl,
    /// How a Redis behind `rediss://` is trusted, and how this instance shows who it is.
    pub tls: Tls,
    /// What separates this application's records from others in the same Redis.
    pub prefix: Prefix,
    /// Where this instance keeps its local store. One directory an instance and prefix.
    pub directory: PathBuf,
    /// Every call returns within this time: connecting, queueing, sending, waiting and falling back together.
    pub op_deadline: Duration,
    /// How long a call waits for Redis before it falls back. Less than `op_deadline`, so that the fallback has time.
    pub reply_timeout: Duration,
    /// How long an attempt to connect may take, with the resolution of the name and all of its addresses.
    pub connect_timeout: Duration,
    /// How often a healthy connection is asked for a sign of life; also how soon a flushed Redis is noticed.
    pub probe_interval: Duration,
    /// The delay before the first reconnect is drawn from zero to this. Three seconds keep forty instances that lose
    /// Redis in one moment to at most ten connects within 100 ms, but for one outage in two thousand; with one second it was
    /// every other.
    pub backoff_first: Duration,
    /// The range of the delay doubles with each failure, up to this.
    pub backoff_max: Duration,
    /// Copies of what Redis holds are written to disk within this time, in batches. Writes that answer `Local` do not
    /// wait for it: they are on disk when they answer.
    pub flush_interval: Duration,
    /// How long a removal is remembered. Longer than the longest outage that an instance may survive: an instance that
    /// comes back later could bring a removed record back.
    pub tombstone_ttl: Duration,
    /// How long a record lives after the last upsert, less up to a tenth drawn at random, so that records written together
    /// do not expire together; none for ever.
    pub record_ttl: Option<Duration>,
    /// What is on disk before a write answers.
    pub durability: Durability,
    /// What to do when Redis turns out to have lost data that this instance has a copy of.
    pub on_loss: OnLoss,
    /// Bytes of one record as Redis holds it: names, values and 32 for the stamp of each of its cells. A write that would
    /// pass the limit is the error [`TooLarge`](crate::TooLarge), before anything is stored or sent. What other instances
    /// wrote counts as far as this one has read it. At most 16 MiB.
    pub record_bytes_max: u64,
    /// Cells of one record: one a contact point, profile field and metadata field, removed ones too until the record is
    /// removed, and one for its existence. At most 100,000.
    pub record_cells_max: u64,
    /// What to do when the local store belongs to the data of another Redis.
    pub on_other_redis: OnOtherRedis,
    /// Bytes on disk of what was written locally and Redis does not have yet. A write that would pass the limit is an
    /// error, and nothing is lost.
    pub pending_bytes_max: u64,
    /// Bytes on disk of copies of what Redis holds. Beyond it the copies confirmed longest ago are forgotten.
    pub copies_bytes_max: u64,
    /// Copies confirmed within this time are forgotten last, and not for the sake of new ones: they are what is published
    /// again if Redis loses its data.
    pub republish_window: Duration,
    /// The local log is rewritten when it is larger than this, in bytes, and mostly dead.
    pub compact_bytes: u64,
}

/// What is on disk before a write answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// Writes that answer `Local` are synced first; the copies of those that answer `Shared` are written behind, within
    /// [`Config::flush_interval`]. A crash may cost the copy, not the write.
    WriteBehind,
    /// Every write is synced first, the copies of those that answer `Shared` too: should Redis lose them, this instance
    /// publishes them again even after a crash of its own. Costs one group commit a write.
    Always,
}

/// What to do when Redis turns out to have lost data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnLoss {
    /// Publish the copies again, save those so old that Redis may have forgotten a removal of them (R9).
    Republish,
    /// Take Redis's word: an operator who flushed it meant it. Copies yield; what is pending is still merged.
    Accept,
}

/// What to do when the local store belongs to the data of another Redis: it was opened for another endpoint or database
/// before, and what is found at the new one is not the same data (a new name for the same data is no question).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnOtherRedis {
    /// Keep to oneself: that Redis is neither asked nor written to, and counts as away. What is pending stays pending.
    Hold,
    /// Belong to that one from now on: what is pending is merged there, and copies by [`Config::on_loss`].
    Publish,
}

impl Config {
    /// The defaults, for this Redis, prefix and directory.
    pub fn new(redis: RedisUrl, prefix: Prefix, directory: impl Into<PathBuf>) -> Self {
        Self {
            redis,
            tls: Tls::default(),
            prefix,
            directory: directory.into(),
            op_deadline: Duration::from_secs(1),
            reply_timeout: Duration::from_millis(250),
            connect_timeout: Duration::from_secs(1),
            probe_interval: Duration::from_secs(1),
            backoff_first: Duration::from_secs(3),
            backoff_max: Duration::from_secs(8),
            flush_interval: Duration::from_millis(100),
            tombstone_ttl: Duration::from_hours(30 * 24),
            record_ttl: None,
            durability: Durability::WriteBehind,
            on_loss: OnLoss::Republish,
            record_bytes_max: 1 << 20,
            record_cells_max: 10_000,
            on_other_redis: OnOtherRedis::Hold,
            pending_bytes_max: 1 << 30,
            copies_bytes_max: 1 << 30,
            republish_window: Duration::from_hours(1),
            compact_bytes: 4 << 20,
        }
    }

    /// How large a record may be.
    pub(crate) fn record_limits(&self) -> RecordLimits {
        RecordLimits { bytes_max: self.record_bytes_max, cells_max: self.record_cells_max }
    }

    /// Where to connect to.
    pub(crate) fn endpoint(&self) -> Endpoint {
        self.redis.endpoint(&self.tls)
    }

    /// Whether the settings fit together.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        // Nobody means longer, and sums of them must not overflow.
        for (key, duration) in [
            ("op_deadline", self.op_deadline),
            ("connect_timeout", self.connect_timeout),
            ("probe_interval", self.probe_interval),
            ("backoff_max", self.backoff_max),
            ("flush_interval", self.flush_interval),
        ] {
            if duration > Duration::from_hours(24) {
                return Err(ConfigError { key, reason: "must be at most a day" });
            }
        }
        if self.reply_timeout > self.op_deadline / 2 {
            return Err(ConfigError { key: "reply_timeout", reason: "must be at most half of op_deadline" });
        }
        for (key, duration) in [
            ("reply_timeout", self.reply_timeout),
            ("connect_timeout", self.connect_timeout),
            ("probe_interval", self.probe_interval),
            ("backoff_first", self.backoff_first),
            ("flush_interval", self.flush_interval),
        ] {
            if duration.is_zero() {
                return Err(ConfigError { key, reason: "must be longer than zero" });
            }
        }
        if self.backoff_max < self.backoff_first {
            return Err(ConfigError { key: "backoff_max", reason: "must not be less than backoff_first" });
        }
        if self.tombstone_ttl < Duration::from_mins(1) || self.tombstone_ttl > Duration::from_hours(24 * 366 * 10) {
            return Err(ConfigError { key: "tombstone_ttl", reason: "must be from a minute to ten years" });
        }
        if self.republish_window > self.tombstone_ttl / 2 {
            return Err(ConfigError { key: "republish_window", reason: "must be at most half of tombstone_ttl" });
        }
        // With 16 MB a write takes 0.8 s of the default deadline, most of it work on this machine.
        if !(1..=RECORD_BYTES_LIMIT).contains(&self.record_bytes_max) {
            return Err(ConfigError { key: "record_bytes_max", reason: "must be from 1 to 16777216 (16 MiB)" });
        }
        if !(1..=RECORD_CELLS_LIMIT).contains(&self.record_cells_max) {
            return Err(ConfigError { key: "record_cells_max", reason: "must be from 1 to 100000" });
        }
        if self.tls.cert_file.is_some() != self.tls.key_file.is_some() {
            return Err(ConfigError { key: "tls_key_file", reason: "and tls_cert_file go together" });
        }
        if self.record_ttl.is_some_and(|ttl| ttl < Duration::from_secs(1) || ttl > Duration::from_hours(24 * 366 * 10))
        {
            return Err(ConfigError { key: "record_ttl", reason: "must be from a second to ten years" });
        }
        Ok(())
    }
}

/// A setting that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("setting {key} {reason}")]
pub struct ConfigError {
    key: &'static str,
    reason: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_do_not_fit_together_are_named() {
        let mut config = Config::new("redis://x".parse().unwrap(), "p".parse().unwrap(), "dir");
        assert_eq!(config.check(), Ok(()));
        config.op_deadline = Duration::MAX;
        assert_eq!(config.check().unwrap_err().to_string(), "setting op_deadline must be at most a day");
        config.op_deadline = Duration::from_secs(1);
        config.record_bytes_max = 100 << 20;
        assert_eq!(
            config.check().unwrap_err().to_string(),
            "setting record_bytes_max must be from 1 to 16777216 (16 MiB)"
        );
        config.record_bytes_max = 16 << 20;
        config.record_cells_max = 0;
        assert_eq!(config.check().unwrap_err().to_string(), "setting record_cells_max must be from 1 to 100000");
        config.record_cells_max = 100_000;
        config.op_deadline = config.reply_timeout;
        assert_eq!(
            config.check().unwrap_err().to_string(),
            "setting reply_timeout must be at most half of op_deadline"
        );
    }
}
