//! Which redis-server the tests run against: the one that `CONTACT_CACHE_TEST_REDIS` names, else the one on the PATH.
//!
//! Without any, the tests that need it pass and say that they were skipped, unless `CONTACT_CACHE_REQUIRE_REDIS` is 1.

use std::{
    env,
    io::{Write, stderr},
    path::PathBuf,
    process::Command,
    sync::LazyLock,
};

/// The program of a real server, if there is one. The first to ask has it told, past the capture of test output: a
/// report of passed tests should say on which servers they passed.
pub(crate) fn redis_server() -> Option<PathBuf> {
    static FOUND: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
        let found = find();
        let real = found.as_ref().map_or_else(
            || "no redis-server on the PATH: tests on a real one are skipped".to_owned(),
            |(program, version)| format!("redis-server {version} at {}", program.display()),
        );
        // Nothing hangs on it.
        let _ = writeln!(stderr(), "servers: embedded, {real}");
        found.map(|(program, _)| program)
    });
    let required = env::var_os("CONTACT_CACHE_REQUIRE_REDIS").is_some_and(|value| value == "1");
    assert!(FOUND.is_some() || !required, "no redis-server on the PATH, and CONTACT_CACHE_REQUIRE_REDIS is 1");
    FOUND.clone()
}

/// The program and its version. One that is named has to be there; one on the PATH may be missing.
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
