//! Names: prefixes, uids, and the keys in Redis that they become.
//!
//! A record lives at `cc1:<prefix>:<uid>`, the marker of the data's generation at `cc1g:<prefix>`. Prefix and uid are
//! percent-escaped, so that a key is unambiguous (no `:` of a name is left), readable for ordinary names, free of glob
//! characters and of accidental hash tags (`{..}` decides the slot in a cluster).

use std::{fmt, str::FromStr, sync::Arc};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::shown::Name;

/// Longest prefix, in bytes.
pub const PREFIX_BYTES_MAX: usize = 1024;
/// Longest uid, in bytes.
pub const UID_BYTES_MAX: usize = 8192;

const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-').remove(b'.').remove(b'@').remove(b'+');

/// A name that is too long.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} of {bytes} bytes is longer than {bytes_max} bytes: shorten it, or use a hash of it")]
pub struct NameError {
    what: &'static str,
    bytes: usize,
    bytes_max: usize,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $bytes_max:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                if text.len() > $bytes_max {
                    return Err(NameError { what: $what, bytes: text.len(), bytes_max: $bytes_max });
                }
                Ok(Self(text.into()))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        /// For people: quoted and escaped where it has characters that do not print. The name itself is
        #[doc = concat!("[`", stringify!($name), "::as_str`].")]
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                Name(&self.0).fmt(f)
            }
        }
    };
}

name!(
    /// The name that separates this application's records from all others in the same Redis. Any text of at most
    /// [`PREFIX_BYTES_MAX`] bytes.
    Prefix,
    "prefix",
    PREFIX_BYTES_MAX
);
name!(
    /// The name of a record. Any text of at most [`UID_BYTES_MAX`] bytes.
    Uid,
    "uid",
    UID_BYTES_MAX
);

/// The keys of one prefix.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    records: String,
    generation: String,
}

impl Keys {
    pub(crate) fn new(prefix: &Prefix) -> Self {
        let prefix = utf8_percent_encode(prefix.as_str(), ESCAPED);
        Self { records: format!("cc1:{prefix}:"), generation: format!("cc1g:{prefix}") }
    }

    /// The key of a record.
    pub(crate) fn record(&self, uid: &Uid) -> String {
        format!("{}{}", self.records, utf8_percent_encode(uid.as_str(), ESCAPED))
    }

    /// The key of the marker that tells one lifetime of Redis's data from the next.
    pub(crate) fn generation(&self) -> &str {
        &self.generation
    }

    /// The `MATCH` pattern of all records of the prefix.
    pub(crate) fn pattern(&self) -> String {
        format!("{}*", glob_escape(&self.records))
    }

    /// The uid of a key, if it is one that [`Keys::record`] gives.
    pub(crate) fn uid(&self, key: &str) -> Option<Uid> {
        let escaped = key.strip_prefix(&self.records)?;
        let uid: Uid = percent_decode_str(escaped).decode_utf8().ok()?.parse().ok()?;
        // A key in another spelling (lower-case escapes) is not ours: it would be read and written at another key.
        (self.record(&uid) == key).then_some(uid)
    }
}

/// Redis's `stringmatchlen` takes these as special outside of brackets; a `]` only closes what a `[` opened.
pub(crate) fn glob_escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, c| {
        if matches!(c, '*' | '?' | '[' | ']' | '\\') {
            escaped.push('\\');
        }
        escaped.push(c);
        escaped
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_ordinary_name_is_readable_in_the_key() {
        let keys = Keys::new(&"crm-prod".parse().unwrap());
        assert_eq!(keys.record(&"user_17@example.org".parse().unwrap()), "cc1:crm-prod:user_17@example.org");
        assert_eq!(keys.generation(), "cc1g:crm-prod");
    }

    #[test]
    fn a_name_that_looks_like_an_escape_has_a_key_of_its_own() {
        let keys = Keys::new(&"p".parse().unwrap());
        let [colon, escape]: [Uid; 2] = ["a:b", "a%3Ab"].map(|uid| uid.parse().unwrap());
        assert_ne!(keys.record(&colon), keys.record(&escape));
        assert_eq!(keys.uid(&keys.record(&escape)), Some(escape));
        let generation = |prefix: &str| Keys::new(&prefix.parse().unwrap()).generation;
        assert_ne!(generation("a:b"), generation("a%3Ab"));
    }

    #[test]
    fn a_name_is_shown_on_one_line_and_stored_as_it_is() {
        let uid: Uid = "a\u{1b}[2J\n".parse().unwrap();
        assert_eq!((format!("{uid}"), format!("{uid:?}")), (r#""a\u{1b}[2J\n""#.into(), r#""a\u{1b}[2J\n""#.into()));
        assert_eq!(serde_json::to_value(&uid).unwrap(), "a\u{1b}[2J\n");
    }

    #[test]
    fn a_name_beyond_the_limit_is_refused_with_its_length() {
        let error = "x".repeat(UID_BYTES_MAX + 1).parse::<Uid>().unwrap_err();
        assert!(error.to_string().contains("uid of 8193 bytes"), "{error}");
    }

    proptest! {
        #[test]
        fn two_different_names_never_share_a_key(a in ".{0,12}", b in ".{0,12}", c in ".{0,12}", d in ".{0,12}") {
            let key = |prefix: &str, uid: &str| Keys::new(&prefix.parse().unwrap()).record(&uid.parse().unwrap());
            prop_assert_eq!(key(&a, &b) == key(&c, &d), (&a, &b) == (&c, &d));
        }

        #[test]
        fn a_key_leads_back_to_its_uid_and_to_no_other_prefix(prefix in ".{0,12}", uid in ".{0,12}", other in ".{0,12}") {
            let uid: Uid = uid.parse().unwrap();
            let keys = Keys::new(&prefix.parse().unwrap());
            prop_assert_eq!(keys.uid(&keys.record(&uid)), Some(uid.clone()));
            if other != prefix {
                prop_assert_eq!(Keys::new(&other.parse().unwrap()).uid(&keys.record(&uid)), None);
            }
        }

        #[test]
        fn a_key_has_no_character_that_redis_takes_as_special(prefix in ".{0,12}", uid in ".{0,12}") {
            let key = Keys::new(&prefix.parse().unwrap()).record(&uid.parse().unwrap());
            prop_assert!(!key.contains(['{', '}', '*', '?', '[', ']', '\\', '\n', ' ']), "{}", key);
        }
    }
}
