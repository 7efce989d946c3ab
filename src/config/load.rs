//! Settings from a file and from the environment.
//!
//! A file in TOML, then variables over it: the setting `op_deadline` is the variable `CONTACT_CACHE_OP_DEADLINE`. Times
//! are texts like `250ms`, `30s` or `7days`. `redis`, `prefix` and `directory` have no default; the others have that of
//! [`Config::new`].

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use ::config::{Config as Layers, File, FileFormat};
use serde::Deserialize;

use super::{Config, ConfigError, Durability, OnLoss, OnOtherRedis, ParseUrlError};
use crate::{
    key::NameError,
    shown::{Line, without_values},
};

const VARIABLE: &str = "CONTACT_CACHE_";

/// Variables of that form that are no settings: they tell the tests of this repository which server to use.
const NO_SETTINGS: [&str; 2] = ["test_redis", "require_redis"];

/// Why settings cannot be loaded. Names the setting; shows no secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be read or is no TOML, or a setting has a value of another kind, or is unknown.
    #[error("settings: {}", Line(.0))]
    Form(String),
    /// A setting without a default is missing.
    #[error("setting {key} is missing: give it in the file, or as the variable {variable}")]
    Missing {
        /// The setting.
        key: &'static str,
        /// The variable.
        variable: String,
    },
    /// A variable that looks like a setting and is none.
    #[error("variable {} is no setting of the cache: correct its name, or remove it", Line(.0))]
    UnknownVariable(String),
    /// The setting `redis` is no URL.
    #[error("setting redis: {0}")]
    Url(#[from] ParseUrlError),
    /// The setting `prefix` is too long.
    #[error("setting prefix: {0}")]
    Prefix(#[from] NameError),
    /// The file that the setting `password_file` names cannot be read.
    #[error("setting password_file: cannot read {path:?}: {message}")]
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        message: String,
    },
    /// The settings do not fit together.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// The settings as they stand in a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSettings {
    redis: Option<String>,
    password: Option<String>,
    password_file: Option<PathBuf>,
    tls_ca_file: Option<PathBuf>,
    tls_cert_file: Option<PathBuf>,
    tls_key_file: Option<PathBuf>,
    prefix: Option<String>,
    directory: Option<PathBuf>,
    #[serde(default, with = "humantime_serde")]
    op_deadline: Option<Duration>,
    #[serde(default, with = "humantime_serde")]
    reply_timeout: Option<Duration>,
    #[serde(default, with = "humantime_serde")]
    connect_timeout: Option<Duration>,
    #[serde(default, with = "humantime_serde")]
    probe_interval: Option<Duration>,
    #[serde(default, with = "humantime_serde")]
    backoff_first: Option<Duration>,
    #[serde(default, with = "humantime_serde")]
    backoff_max: Option<Duration>,
    #[serde(default, with = "humantime_serde")]
    flush_interval: Option<Duration>,
    #[serde(default, with = "humantime_serde")]
    tombstone_ttl: Option<Duration>,
    #[serde(default, with = "humantime_serde")]
    record_ttl: Option<Duration>,
    durability: Option<Durability>,
    on_loss: Option<OnLoss>,
    record_bytes_max: Option<u64>,
    record_cells_max: Option<u64>,
    on_other_redis: Option<OnOtherRedis>,
    pending_bytes_max: Option<u64>,
    copies_bytes_max: Option<u64>,
    #[serde(default, with = "humantime_serde")]
    republish_window: Option<Duration>,
    compact_bytes: Option<u64>,
}

/// Every key of [`FileSettings`].
const KEYS: [&str; 26] = [
    "redis",
    "password",
    "password_file",
    "tls_ca_file",
    "tls_cert_file",
    "tls_key_file",
    "prefix",
    "directory",
    "op_deadline",
    "reply_timeout",
    "connect_timeout",
    "probe_interval",
    "backoff_first",
    "backoff_max",
    "flush_interval",
    "tombstone_ttl",
    "record_ttl",
    "durability",
    "on_loss",
    "record_bytes_max",
    "record_cells_max",
    "on_other_redis",
    "pending_bytes_max",
    "copies_bytes_max",
    "republish_window",
    "compact_bytes",
];

impl Config {
    /// Loads the settings from a file, if one is given, and from variables over it, which `std::env::vars()` gives.
    ///
    /// # Errors
    /// Names the setting and what is wrong with it.
    pub fn load(file: Option<&Path>, variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, LoadError> {
        let mut layers = Layers::builder();
        if let Some(file) = file {
            layers = layers.add_source(File::from(file).format(FileFormat::Toml));
        }
        for (name, value) in variables {
            let Some(key) = name.strip_prefix(VARIABLE).map(str::to_lowercase) else { continue };
            if NO_SETTINGS.contains(&key.as_str()) {
                continue;
            }
            if !KEYS.contains(&key.as_str()) {
                return Err(LoadError::UnknownVariable(name));
            }
            layers = layers.set_override(key, value).map_err(form)?;
        }
        layers.build().map_err(form)?.try_deserialize::<FileSettings>().map_err(form)?.into_config()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn form(error: ::config::ConfigError) -> LoadError {
    LoadError::Form(match &error {
        ::config::ConfigError::FileParse { uri, cause } => {
            format!("{}: {}", uri.as_deref().unwrap_or("the file"), without_source(&cause.to_string()))
        }
        _ => without_word(&without_values(&error.to_string())),
    })
}

/// What is said of a word that a setting does not know, without the word.
fn without_word(said: &str) -> String {
    match (said.split_once(" does not have variant constructor "), said.rsplit_once(" for key ")) {
        (Some(_), Some((_, key))) => format!("the value is not one of those that it takes, for key {key}"),
        _ => said.to_owned(),
    }
}

/// What a parser of TOML says, without the line of the file that it shows: a password may stand there.
fn without_source(said: &str) -> String {
    let lines: Vec<_> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let source = lines.iter().rposition(|line| line.trim_start().starts_with('|'));
    match (lines.first(), source) {
        (Some(first), Some(source)) if first.starts_with("TOML parse error at line ") => {
            let reason = lines[source + 1..].join(", ");
            format!("{first}{}{reason}", if reason.is_empty() { "" } else { ": " })
        }
        // A file that cannot be read, say.
        (Some(first), None) if lines.len() == 1 => without_values(first),
        _ => "it is not valid TOML".to_owned(),
    }
}

fn required<T>(key: &'static str, value: Option<T>) -> Result<T, LoadError> {
    value.ok_or_else(|| LoadError::Missing { key, variable: format!("{VARIABLE}{}", key.to_uppercase()) })
}

impl FileSettings {
    fn into_config(self) -> Result<Config, LoadError> {
        let mut redis: super::RedisUrl = required("redis", self.redis)?.parse()?;
        if let Some(path) = self.password_file {
            let password = std::fs::read_to_string(&path)
                .map_err(|error| LoadError::PasswordFile { path, message: error.to_string() })?;
            redis = redis.with_password(password.trim_end_matches(['\r', '\n']));
        }
        if let Some(password) = self.password {
            redis = redis.with_password(&password);
        }
        let mut config =
            Config::new(redis, required("prefix", self.prefix)?.parse()?, required("directory", self.directory)?);
        config.tls.ca_file = self.tls_ca_file;
        config.tls.cert_file = self.tls_cert_file;
        config.tls.key_file = self.tls_key_file;
        config.record_ttl = self.record_ttl;
        set(&mut config.op_deadline, self.op_deadline);
        set(&mut config.reply_timeout, self.reply_timeout);
        set(&mut config.connect_timeout, self.connect_timeout);
        set(&mut config.probe_interval, self.probe_interval);
        set(&mut config.backoff_first, self.backoff_first);
        set(&mut config.backoff_max, self.backoff_max);
        set(&mut config.flush_interval, self.flush_interval);
        set(&mut config.tombstone_ttl, self.tombstone_ttl);
        set(&mut config.durability, self.durability);
        set(&mut config.on_loss, self.on_loss);
        set(&mut config.record_bytes_max, self.record_bytes_max);
        set(&mut config.record_cells_max, self.record_cells_max);
        set(&mut config.on_other_redis, self.on_other_redis);
        set(&mut config.pending_bytes_max, self.pending_bytes_max);
        set(&mut config.copies_bytes_max, self.copies_bytes_max);
        set(&mut config.republish_window, self.republish_window);
        set(&mut config.compact_bytes, self.compact_bytes);
        config.check()?;
        Ok(config)
    }
}

fn set<T>(setting: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *setting = value;
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "files to load are made outside of any environment")]

    use std::collections::BTreeMap;

    use super::*;

    /// Every setting, each with a value that is not its default.
    fn everything() -> BTreeMap<&'static str, &'static str> {
        let values = [
            "redis://app@cache:7000/2",
            "hunter2",
            "",
            "ca.pem",
            "cert.pem",
            "key.pem",
            "crm",
            "/var/lib/x",
            "2s",
            "300ms",
            "3s",
            "4s",
            "5s",
            "6s",
            "7ms",
            "90days",
            "1h",
            "always",
            "accept",
            "4000",
            "50",
            "publish",
            "1000",
            "2000",
            "30min",
            "3000",
        ];
        KEYS.into_iter().zip(values).filter(|(_, value)| !value.is_empty()).collect()
    }

    fn variables<'a>(settings: &BTreeMap<&'a str, &'a str>) -> Vec<(String, String)> {
        let variable =
            |(key, value): (&&str, &&str)| (format!("{VARIABLE}{}", key.to_uppercase()), (*value).to_owned());
        settings.iter().map(variable).collect()
    }

    fn check_everything(config: Config) {
        // Without `..`: a setting that is added has to be loaded too.
        let Config {
            redis,
            tls,
            prefix,
            directory,
            op_deadline,
            reply_timeout,
            connect_timeout,
            probe_interval,
            backoff_first,
            backoff_max,
            flush_interval,
            tombstone_ttl,
            record_ttl,
            durability,
            on_loss,
            record_bytes_max,
            record_cells_max,
            on_other_redis,
            pending_bytes_max,
            copies_bytes_max,
            republish_window,
            compact_bytes,
        } = config;
        assert_eq!(format!("{redis:?}"), "redis://cache:7000/2");
        assert_eq!(redis.connection_info().password(), Some("hunter2"));
        assert_eq!(
            (tls.ca_file, tls.cert_file, tls.key_file),
            (Some("ca.pem".into()), Some("cert.pem".into()), Some("key.pem".into()))
        );
        assert_eq!((prefix.as_str(), directory), ("crm", PathBuf::from("/var/lib/x")));
        let seconds = [op_deadline, connect_timeout, probe_interval, backoff_first, backoff_max].map(|d| d.as_secs());
        assert_eq!(seconds, [2, 3, 4, 5, 6]);
        assert_eq!([reply_timeout, flush_interval].map(|d| d.as_millis()), [300, 7]);
        assert_eq!((tombstone_ttl, record_ttl), (Duration::from_hours(90 * 24), Some(Duration::from_hours(1))));
        assert_eq!((durability, on_loss), (Durability::Always, OnLoss::Accept));
        assert_eq!((record_bytes_max, record_cells_max), (4000, 50));
        assert_eq!(on_other_redis, OnOtherRedis::Publish);
        assert_eq!((pending_bytes_max, copies_bytes_max, compact_bytes), (1000, 2000, 3000));
        assert_eq!(republish_window, Duration::from_mins(30));
    }

    #[test]
    fn every_setting_can_be_given_as_a_variable_and_in_a_file() {
        check_everything(Config::load(None, variables(&everything())).unwrap());
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("cache.toml");
        let lines = everything().into_iter().map(|(key, value)| match value.parse::<u64>() {
            Ok(number) => format!("{key} = {number}\n"),
            Err(_) => format!("{key} = {value:?}\n"),
        });
        std::fs::write(&file, lines.collect::<String>()).unwrap();
        check_everything(Config::load(Some(&file), []).unwrap());
        // A variable wins over the file.
        let over = [("CONTACT_CACHE_PREFIX".to_owned(), "other".to_owned())];
        assert_eq!(Config::load(Some(&file), over).unwrap().prefix.as_str(), "other");
    }

    #[test]
    fn an_error_names_the_setting_and_shows_no_secret() {
        let wrong = [
            ("op_deadline", "soon", "op_deadline"),
            ("pending_bytes_max", "many", "pending_bytes_max"),
            ("durability", "never", "durability"),
            ("redis", "http://app:hunter2@cache", "setting redis"),
            ("reply_timeout", "1min", "reply_timeout"),
        ];
        for (key, value, named) in wrong {
            let mut settings = everything();
            settings.insert(key, value);
            let error = Config::load(None, variables(&settings)).unwrap_err().to_string();
            assert!(error.contains(named) && !error.contains("hunter2"), "{key}: {error}");
        }
        for key in ["redis", "prefix", "directory"] {
            let mut settings = everything();
            settings.remove(key);
            let error = Config::load(None, variables(&settings)).unwrap_err().to_string();
            assert!(error.contains(&format!("CONTACT_CACHE_{}", key.to_uppercase())), "{error}");
        }
        let typo = [("CONTACT_CACHE_OP_DEADLIN".to_owned(), "1s".to_owned())];
        let error = Config::load(None, typo).unwrap_err().to_string();
        assert!(error.contains("CONTACT_CACHE_OP_DEADLIN is no setting"), "{error}");
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("cache.toml");
        std::fs::write(&file, "op_deadlin = \"1s\"").unwrap();
        let error = Config::load(Some(&file), variables(&everything())).unwrap_err().to_string();
        assert!(error.contains("op_deadlin"), "{error}");
        let error = Config::load(Some(Path::new("/no/such.toml")), []).unwrap_err().to_string();
        assert!(error.contains("/no/such.toml"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_toml_is_an_error_with_its_line_and_without_its_text() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("cache.toml");
        for text in [
            "password = hunter2",
            "password = \"hunter2",
            "password = \"\"\"\nhunter2\n",
            "password = 'hunter2' 'hunter2'",
            "password = \"hunter2\\q\"",
            "password = \"hunter2\u{1}\"",
            "hunter2",
            "password: hunter2",
            "password = \"x\"\npassword = \"hunter2\"",
            "[hunter2",
            "op_deadline = \"hunter2\"",
            "durability = \"hunter2\"",
            "pending_bytes_max = \"hunter2\"",
            "op_deadline = { x = \"hunter2\" }",
            "password = [\"hunter2\"]",
            "redis = { url = \"redis://:hunter2@x\" }",
            "redis = \"redis://:hunter2@x:port\"",
        ] {
            std::fs::write(&file, format!("prefix = \"p\"\ndirectory = \"d\"\n{text}\n")).unwrap();
            let error = Config::load(Some(&file), []).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("hunter2"), "{text}: {shown}");
            let named = ["cache.toml: TOML parse error at line ", "for key `", "setting "];
            let named = named.iter().any(|name| shown.contains(name));
            assert!(named, "{text}: {shown}");
        }
    }

    #[test]
    fn a_password_can_come_from_a_file_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("password");
        std::fs::write(&file, "from the file\n").unwrap();
        let mut settings = everything();
        settings.remove("password");
        let path = file.display().to_string();
        settings.insert("password_file", &path);
        let config = Config::load(None, variables(&settings)).unwrap();
        assert_eq!(config.redis.connection_info().password(), Some("from the file"));
        assert!(!format!("{config:?}").contains("from the file"));
        settings.insert("password_file", "/no/such");
        let error = Config::load(None, variables(&settings)).unwrap_err().to_string();
        assert!(error.contains("password_file") && error.contains("/no/such"), "{error}");
    }
}
