//! Where Redis is, as a URL.

use std::{fmt, path::PathBuf, str::FromStr};

use redis::{ConnectionAddr, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo};

use crate::{
    env::{Endpoint, Tls},
    shown::Line,
};

/// Where Redis is, and who asks. Never shows its password.
///
/// - `redis://[user[:password]@]host[:port][/database]`
/// - `rediss://...`: the same, through TLS
/// - `unix:///path/to/socket[?db=1&user=name&pass=password]`
#[derive(Clone)]
pub struct RedisUrl {
    place: UrlPlace,
    info: RedisConnectionInfo,
}

#[derive(Clone, Debug)]
enum UrlPlace {
    Tcp(String, u16),
    Tls(String, u16),
    Unix(PathBuf),
}

/// A text that is no URL of a Redis that this client can reach. Does not repeat the text, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the redis url {reason}; it has the form redis://[user[:password]@]host[:port][/database], rediss://... for TLS, or \
     unix:///path"
)]
pub struct ParseUrlError {
    reason: String,
}

impl RedisUrl {
    /// The same Redis, asked with this password.
    #[must_use]
    pub fn with_password(mut self, password: &str) -> Self {
        self.info = self.info.set_password(password);
        self
    }

    pub(super) fn endpoint(&self, tls: &Tls) -> Endpoint {
        match &self.place {
            UrlPlace::Tcp(host, port) => Endpoint::tcp(host, *port),
            UrlPlace::Tls(host, port) => Endpoint::Tls { host: host.clone(), port: *port, tls: tls.clone() },
            UrlPlace::Unix(path) => Endpoint::Unix(path.clone()),
        }
    }

    pub(crate) fn connection_info(&self) -> &RedisConnectionInfo {
        &self.info
    }
}

impl FromStr for RedisUrl {
    type Err = ParseUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |reason: &str| ParseUrlError { reason: reason.to_owned() };
        // The crate reads `rediss` only if it brings a TLS of its own; ours runs below it.
        let (through_tls, text) = match text.strip_prefix("rediss://") {
            Some(rest) => (true, format!("redis://{rest}")),
            None => (false, text.to_owned()),
        };
        if through_tls && text.ends_with("#insecure") {
            return Err(error("asks for TLS without verification: give the server's authority as tls_ca_file"));
        }
        let info = text.into_connection_info().map_err(|cause| {
            // The category is fixed text; the detail could repeat the URL.
            error(&format!("does not parse ({})", cause.category()))
        })?;
        if info.redis_settings().protocol() != ProtocolVersion::RESP2 {
            return Err(error("asks for RESP3, which this version does not speak"));
        }
        let place = match info.addr() {
            ConnectionAddr::Tcp(host, port) if through_tls => UrlPlace::Tls(host.clone(), *port),
            ConnectionAddr::Tcp(host, port) => UrlPlace::Tcp(host.clone(), *port),
            ConnectionAddr::Unix(path) => UrlPlace::Unix(path.clone()),
            _ => return Err(error("is of a kind that this version does not offer")),
        };
        Ok(Self { place, info: info.redis_settings().clone() })
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Endpoint and database.
impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let database = self.info.db();
        match &self.place {
            UrlPlace::Tcp(host, port) => write!(f, "redis://{}:{port}/{database}", Line(host)),
            UrlPlace::Tls(host, port) => write!(f, "rediss://{}:{port}/{database}", Line(host)),
            UrlPlace::Unix(path) => write!(f, "unix://{}?db={database}", Line(path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gives_host_port_and_database_and_hides_its_password() {
        let url: RedisUrl = "redis://app:secret@cache.example:7000/3".parse().unwrap();
        assert_eq!(url.endpoint(&Tls::default()), Endpoint::tcp("cache.example", 7000));
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
    }

    #[test]
    fn tls_and_unix_sockets_are_endpoints_of_their_own() {
        let tls = Tls { ca_file: Some("ca.pem".into()), ..Tls::default() };
        let url: RedisUrl = "rediss://app:secret@cache.example:7000/3".parse().unwrap();
        let expected = Endpoint::Tls { host: "cache.example".into(), port: 7000, tls: tls.clone() };
        assert_eq!((url.endpoint(&tls), format!("{url:?}")), (expected, "rediss://cache.example:7000/3".into()));
        let url: RedisUrl = "unix:///run/redis.sock?db=2&user=app&pass=secret".parse().unwrap();
        assert_eq!(url.endpoint(&tls), Endpoint::Unix("/run/redis.sock".into()));
        assert_eq!((url.info.username(), url.info.password()), (Some("app"), Some("secret")));
        assert_eq!(format!("{url:?}"), "unix:///run/redis.sock?db=2");
        let insecure = "rediss://x/#insecure".parse::<RedisUrl>().unwrap_err().to_string();
        assert!(insecure.contains("tls_ca_file"), "{insecure}");
        assert_eq!(url.with_password("other").info.password(), Some("other"));
    }
}
