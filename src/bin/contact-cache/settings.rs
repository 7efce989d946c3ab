//! Which cache is meant: the settings, and where the local store is.

use contact_cache::{Config, ContactCache, config::LoadError, env::TokioEnv};
use tempfile::TempDir;

use crate::{arguments::Tool, exit::Failure};

/// Settings, and the directory that they name if it is thrown away at the end.
pub(crate) struct ToolSettings {
    pub(crate) config: Config,
    thrown_away: Option<TempDir>,
}

/// An open cache.
pub(crate) struct Opened {
    pub(crate) cache: ContactCache,
    pub(crate) config: Config,
    thrown_away: Option<TempDir>,
}

impl ToolSettings {
    /// With a directory that lasts, if one is set.
    pub(crate) fn load(tool: &Tool) -> Result<Self, Failure> {
        if tool.fresh {
            return Self::fresh(tool);
        }
        match Self::with(tool, tool.directory.as_ref().map(|path| path.display().to_string())) {
            Ok(config) => Ok(Self { config, thrown_away: None }),
            Err(SettingRefused::Load(LoadError::Missing { key: "directory", .. })) => Self::fresh(tool),
            Err(refused) => Err(refused.into()),
        }
    }

    /// With a directory that is thrown away, whatever is set.
    pub(crate) fn fresh(tool: &Tool) -> Result<Self, Failure> {
        let directory =
            tempfile::tempdir().map_err(|error| Failure::unavailable(format!("no temporary directory: {error}")))?;
        let config = Self::with(tool, Some(directory.path().display().to_string()))?;
        Ok(Self { config, thrown_away: Some(directory) })
    }

    fn with(tool: &Tool, directory: Option<String>) -> Result<Config, SettingRefused> {
        let mut variables = variables()?;
        let options = [("REDIS", tool.redis.clone()), ("PREFIX", tool.prefix.clone()), ("DIRECTORY", directory)];
        let options = options.into_iter().filter_map(|(key, value)| Some((format!("CONTACT_CACHE_{key}"), value?)));
        variables.extend(options);
        Config::load(tool.config.as_deref(), variables).map_err(SettingRefused::Load)
    }

    pub(crate) fn is_thrown_away(&self) -> bool {
        self.thrown_away.is_some()
    }

    pub(crate) async fn open(self, env: TokioEnv) -> Result<Opened, Failure> {
        let cache = ContactCache::open(env, self.config.clone()).await?;
        Ok(Opened { cache, config: self.config, thrown_away: self.thrown_away })
    }
}

impl Opened {
    /// Whether what is kept locally is lost at the end.
    pub(crate) fn is_thrown_away(&self) -> bool {
        self.thrown_away.is_some()
    }

    /// Ends with `result`, once everything is on disk.
    pub(crate) async fn close<T>(self, result: Result<T, Failure>) -> Result<T, Failure> {
        let closed = self.cache.close().await;
        if self.thrown_away.is_none() {
            closed?;
        }
        result
    }
}

enum SettingRefused {
    Load(LoadError),
    NotUnicode(String),
}

impl From<SettingRefused> for Failure {
    fn from(refused: SettingRefused) -> Self {
        match refused {
            SettingRefused::Load(error) => error.into(),
            SettingRefused::NotUnicode(name) => {
                Self::bad_input(format!("variable {name} is no Unicode text: correct it"))
            }
        }
    }
}

/// Those that are settings. (`std::env::vars` panics at one that is no Unicode, whosever it is.)
fn variables() -> Result<Vec<(String, String)>, SettingRefused> {
    let ours = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let ours = ours.filter(|(name, _)| name.starts_with("CONTACT_CACHE_"));
    ours.map(|(name, value)| match value.into_string() {
        Ok(value) => Ok((name, value)),
        Err(_) => Err(SettingRefused::NotUnicode(name)),
    })
    .collect()
}
