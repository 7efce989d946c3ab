//! What an application decides about its cache.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use redis::{ConnectionAddr, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo};

use crate::key::Prefix;

/// The settings of one cache. [`Config::new`] gives the defaults for all that has one.
#[derive(Clone, Debug)]
pub struct Config {
    /// The Redis that the instances share.
    pub redis: RedisUrl,
    /// What separates this application's records from others in the same Redis.
    pub prefix: Prefix,
    /// Where this instance keeps its local store. One directory an instance and prefix.
    pub directory: PathBuf,
    /// Every call returns within this time: connecting, queueing, sending, waiting and falling back together.
    pub op_deadline: Duration,
    /// How long a call waits for Redis before it falls back. Less than `op_deadline`, so that the fallback has time.
    pub reply_timeout: Duration,
    /// How long an attempt to connect may take.
    pub connect_timeout: Duration,
    /// How often a healthy connection is asked for a sign of life; also how soon a flushed Redis is noticed.
    pub probe_interval: Duration,
    /// The delay before the first reconnect is drawn from zero to this.
    pub backoff_first: Duration,
    /// The range of the delay doubles with each failure, up to this.
    pub backoff_max: Duration,
    /// Copies of what Redis holds are written to disk within this time, in batches. Writes that answer `Local` do not
    /// wait for it: they are on disk when they answer.
    pub flush_interval: Duration,
    /// How long a removal is remembered. Longer than the longest outage that an instance may survive: an instance that
    /// comes back later could bring a removed record back.
    pub tombstone_ttl: Duration,
    /// The local log is rewritten when it is larger than this, in bytes, and mostly dead.
    pub compact_bytes: u64,
}

impl Config {
    /// The defaults, for this Redis, prefix and directory.
    pub fn new(redis: RedisUrl, prefix: Prefix, directory: impl Into<PathBuf>) -> Self {
        Self {
            redis,
            prefix,
            directory: directory.into(),
            op_deadline: Duration::from_secs(1),
            reply_timeout: Duration::from_millis(250),
            connect_timeout: Duration::from_secs(1),
            probe_interval: Duration::from_secs(1),
            backoff_first: Duration::from_secs(1),
            backoff_max: Duration::from_secs(8),
            flush_interval: Duration::from_millis(100),
            tombstone_ttl: Duration::from_hours(30 * 24),
            compact_bytes: 4 << 20,
        }
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

/// Where Redis is: `redis://[user[:password]@]host[:port][/database]`. Never shows its password.
#[derive(Clone)]
pub struct RedisUrl {
    host: String,
    port: u16,
    info: RedisConnectionInfo,
}

/// A text that is no URL of a Redis that this client can reach. Does not repeat the text, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the redis url {reason}; it has the form redis://[user[:password]@]host[:port][/database]")]
pub struct ParseUrlError {
    reason: String,
}

impl RedisUrl {
    /// The host, a name or an address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn connection_info(&self) -> &RedisConnectionInfo {
        &self.info
    }
}

impl FromStr for RedisUrl {
    type Err = ParseUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |reason: &str| ParseUrlError { reason: reason.to_owned() };
        let info = text.into_connection_info().map_err(|cause| {
            // The category is fixed text; the detail could repeat the URL.
            error(&format!("does not parse ({})", cause.category()))
        })?;
        if info.redis_settings().protocol() != ProtocolVersion::RESP2 {
            return Err(error("asks for RESP3, which this version does not speak"));
        }
        match info.addr() {
            ConnectionAddr::Tcp(host, port) => {
                Ok(Self { host: host.clone(), port: *port, info: info.redis_settings().clone() })
            }
            ConnectionAddr::TcpTls { .. } => Err(error("asks for TLS, which this version does not offer")),
            ConnectionAddr::Unix(_) => Err(error("names a Unix socket, which this version does not offer")),
            _ => Err(error("is of a kind that this version does not offer")),
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "redis://{}:{}/{}", self.host, self.port, self.info.db())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gives_host_port_and_database_and_hides_its_password() {
        let url: RedisUrl = "redis://app:secret@cache.example:7000/3".parse().unwrap();
        assert_eq!((url.host(), url.port(), url.info.db()), ("cache.example", 7000, 3));
        assert_eq!(format!("{url:?}"), "redis://cache.example:7000/3");
        assert_eq!(url.connection_info().password(), Some("secret"));
    }

    #[test]
    fn a_text_that_is_no_url_is_an_error_without_the_text() {
        for text in
            ["", "cache.example", "http://secret@x", "redis://:secret@", "redis://x/notanumber", "redis://x:99999"]
        {
            let error = text.parse::<RedisUrl>().unwrap_err().to_string();
            assert!(error.contains("redis://[user[:password]@]host") && !error.contains("secret"), "{error}");
        }
        assert!("redis://x/?protocol=resp3".parse::<RedisUrl>().unwrap_err().to_string().contains("RESP3"));
        assert!("redis+unix:///tmp/x".parse::<RedisUrl>().unwrap_err().to_string().contains("Unix socket"));
    }

    #[test]
    fn settings_that_do_not_fit_together_are_named() {
        let mut config = Config::new("redis://x".parse().unwrap(), "p".parse().unwrap(), "dir");
        assert_eq!(config.check(), Ok(()));
        config.op_deadline = Duration::MAX;
        assert_eq!(config.check().unwrap_err().to_string(), "setting op_deadline must be at most a day");
        config.op_deadline = config.reply_timeout;
        assert_eq!(
            config.check().unwrap_err().to_string(),
            "setting reply_timeout must be at most half of op_deadline"
        );
    }
}
