//! Which program is started.
//!
//! The redis-server is the one that `CONTACT_CACHE_TEST_REDIS` names, else the one on the PATH. Without any, the tests that need it
//! pass and say that they were skipped, unless `CONTACT_CACHE_REQUIRE_REDIS` is 1.

use std::{
    env,
    io::{Write, stderr},
    path::PathBuf,
    process::Command,
    sync::LazyLock,
};

/// A program that serves as redis-server does, and takes `--port` and `--unixsocket` as it does.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    /// Before the arguments of a server.
    leading: Vec<String>,
    /// What a line of its output says, in lower case, once it takes connections.
    ready: String,
}

impl Program {
    /// The redis-server of this machine, if there is one. The first call prints which it is, past the capture of test output: a
    /// report of passed tests should say on which servers they passed.
    ///
    /// # Panics
    /// If there is none and `CONTACT_CACHE_REQUIRE_REDIS` is 1; if `CONTACT_CACHE_TEST_REDIS` names one that does not run.
    pub fn redis_server() -> Option<Self> {
        static FOUND: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
            let found = find();
            let told = found.as_ref().map_or_else(
                || "no redis-server on the PATH: tests on a real one are skipped".to_owned(),
                |(path, version)| format!("redis-server {version} at {}", path.display()),
            );
            // No test depends on it.
            let _ = writeln!(stderr(), "{told}");
            found.map(|(path, _)| path)
        });
        let required = env::var_os("CONTACT_CACHE_REQUIRE_REDIS").is_some_and(|value| value == "1");
        assert!(FOUND.is_some() || !required, "no redis-server on the PATH, and CONTACT_CACHE_REQUIRE_REDIS is 1");
        let leading = ["--bind", "127.0.0.1", "--save", ""].map(str::to_owned).to_vec();
        FOUND.clone().map(|path| Self { path, leading, ready: "ready to accept connections".to_owned() })
    }

    /// Another program, started with the arguments `leading` before those of the server. A line of its output contains `ready`
    /// once it takes connections; case does not count.
    pub fn other(path: impl Into<PathBuf>, leading: &[&str], ready: &str) -> Self {
        let leading = leading.iter().copied().map(str::to_owned).collect();
        Self { path: path.into(), leading, ready: ready.to_lowercase() }
    }

    /// Its command line so far.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.leading);
        command
    }

    /// Whether this is what it says once it takes connections.
    pub(crate) fn is_ready(&self, line: &str) -> bool {
        line.to_lowercase().contains(&self.ready)
    }
}

/// The path and its version. A program that is named has to be there; one on the PATH may be missing.
fn find() -> Option<(PathBuf, String)> {
    if let Some(named) = env::var_os("CONTACT_CACHE_TEST_REDIS").map(PathBuf::from) {
        let version = version(&named);
        assert!(version.is_some(), "CONTACT_CACHE_TEST_REDIS names {}, which does not run", named.display());
        return Some((named, version?));
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|dir| dir.join("redis-server"))
        .find_map(|program| Some((program.clone(), version(&program)?)))
}

/// Of `Redis server v=7.0.15 sha=..`: the word behind `v=`.
fn version(program: &PathBuf) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().find_map(|word| word.strip_prefix("v=")).map(str::to_owned)
}
