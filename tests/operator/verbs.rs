//! Records, health, and bad input.

use std::process::Command;

use redis_launcher::Program;
use serde_json::{Value as Json, json};

use crate::{
    directory, run,
    server::{Kind, Server},
    text, tool, tool_reading, words,
};

const RECORD: &str = r#"{"uid": "u1", "contacts": [{"type": "email", "value": "a@x.org", "label": "work"}],
    "profile": {"n": 12345678901234567890123}, "metadata": {"none": null}}"#;

pub(crate) fn a_record_is_put_read_listed_and_removed(kind: Kind) {
    let server = Server::running(kind);
    let url = server.url();
    let at = |verb: &[&str]| words(&["--redis", &url, "--prefix", "p"], verb);
    tool_reading(RECORD, &at(&["put"])).ended(0, &["u1: written to redis"]);
    let got = tool(&at(&["get", "u1"]));
    got.ended(0, &["12345678901234567890123"]);
    let record: Json = serde_json::from_str(&got.out).expect("json");
    assert_eq!(record["contacts"], json!([{"type": "email", "value": "a@x.org", "label": "work"}]));
    // What `get` prints, `put` takes; another field joins.
    tool_reading(&got.out, &at(&["put", "-"])).ended(0, &[]);
    let put = tool_reading(r#"{"uid": "line\nbreak", "profile": {"a": 1}}"#, &at(&["put", "--json"]));
    let put: Json = serde_json::from_str(&put.out).expect("json");
    assert_eq!((&put["uid"], &put["placement"]), (&json!("line\nbreak"), &json!("shared")));
    assert_eq!(tool(&at(&["list"])).out, "\"line\\nbreak\"\nu1\n");
    let list: Json = serde_json::from_str(&tool(&at(&["list", "--json"])).out).expect("json");
    assert_eq!(
        list,
        json!({"source": "shared", "complete": true, "uids": ["line\nbreak", "u1"], "local_because": null})
    );
    tool(&at(&["remove", "u1", "line\nbreak"])).ended(0, &["u1: removed from redis"]);
    tool(&at(&["get", "u1"])).ended(1, &[r#"no record "u1""#]);
    assert_eq!(tool(&at(&["list"])).out, "");
    server.ask(&["SET", "cc1:p:other", "x"]);
    tool(&at(&["get", "other"])).ended(1, &["cc1:p:other", "no contact record"]);
}

pub(crate) fn health_says_how_an_instance_is(kind: Kind) {
    let mut server = Server::absent(kind);
    let url = server.url();
    let at = ["--redis", &url, "--prefix", "p", "health"];
    tool(&at).ended(3, &["degraded", "away because", "refused"]);
    server.start();
    tool(&at).ended(0, &["connected", "none is set"]);
    let health: Json = serde_json::from_str(&tool(&[&at[..], &["--json"]].concat()).out).expect("json");
    assert_eq!((&health["state"], &health["away_because"]), (&json!("connected"), &Json::Null));
}

#[test]
fn without_redis_and_without_a_directory_nothing_is_done_and_nothing_is_lost_unsaid() {
    let url = Server::absent(Kind::Embedded).url();
    let at = |verb: &[&str]| words(&["--redis", &url, "--prefix", "p"], verb);
    for verb in [&["put"][..], &["get", "u1"], &["list"], &["remove", "u1"]] {
        let ended = tool_reading(RECORD, &at(verb));
        ended.ended(3, &["error: ", "redis was asked for and cannot answer"]);
        assert_eq!(ended.out, "", "{verb:?}");
    }
}

#[test]
fn bad_input_names_the_thing_the_place_and_the_cure() {
    let (url, dir) = (Server::absent(Kind::Embedded).url(), directory());
    let dir = text(dir.path());
    let set = ["--redis", &url, "--prefix", "p"];
    for (input, arguments, said) in [
        ("", &["list"][..], &["setting redis is missing", "CONTACT_CACHE_REDIS"][..]),
        ("", &["list", "--redis", "cache"], &["the redis url", "redis://[user[:password]@]host"]),
        ("", &["list", "--config", "/no/such.toml"], &["/no/such.toml"]),
        ("", &["get"], &["<UID>"]),
        ("", &["frobnicate"], &["frobnicate", "--help"]),
        ("{", &["put"], &["the standard input is no record", "line 1 column 1"]),
        (r#"{"uid": "u", "zip": 1}"#, &["put"], &["unknown field `zip`"]),
        (r#"["u", [], {}, {}, null, null]"#, &["put"], &["it is no object"]),
        (r#"{"profile": {}}"#, &["put"], &["missing field `uid`"]),
        ("", &["put", "/no/such.json"], &["cannot read /no/such.json"]),
        ("", &["drain"], &["which local store?", "--directory"]),
        ("", &["drain", "--directory", dir], &["there is no local store at", dir, "store.log"]),
        ("", &["drain", "--within", "soon"], &["--within", "soon"]),
        ("", &["inspect", dir], &["there is no local store at", dir, "damaged-<n>.log"]),
        ("", &["import", "json", "/no/such.json"], &["cannot read /no/such.json"]),
        ("", &["import", "redis"], &["--legacy-prefix"]),
        ("", &["import", "redis", "--legacy-prefix", "x", "--from-url", "http://h"], &["--from-url: the redis url"]),
    ] {
        let is_about_settings = arguments[0] == "list";
        let arguments = if is_about_settings { arguments.to_vec() } else { [&set, arguments].concat() };
        let ended = tool_reading(input, &arguments);
        assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{arguments:?}: {ended:?}");
        ended.ended(2, said);
    }
    assert!(!std::path::Path::new(dir).join("store.log").exists(), "a misspelt directory became a store");
}

#[test]
fn no_password_is_ever_printed() {
    if Program::redis_server().is_none() {
        return;
    }
    let (server, files) = (Server::guarded("hunter2"), directory());
    let (config, password) = (files.path().join("cache.toml"), files.path().join("password"));
    write(&password, "hunter2\n");
    write(&config, &format!("redis = {:?}\nprefix = \"p\"\npassword_file = {:?}\n", server.url(), text(&password)));
    tool(&["--config", text(&config), "health"]).ended(0, &["connected"]);
    tool(&["--config", text(&config), "import", "redis", "--legacy-prefix", "x"]).ended(0, &["0 imported"]);
    let away = server.url_for(":hunter3@");
    for arguments in [
        &["--redis", &away, "--prefix", "p", "get", "u"][..],
        &["--redis", &away, "--prefix", "p", "health", "--json"],
        &["--redis", "redis://:hunter3@", "--prefix", "p", "list"],
        &["--redis", &away, "--prefix", "p", "import", "redis", "--legacy-prefix", "x"],
    ] {
        let ended = tool(arguments);
        assert!(ended.code > 1 && !ended.out.contains("hunter") && !ended.err.contains("hunter"), "{ended:?}");
    }
    let mut by_variable = Command::new(env!("CARGO_BIN_EXE_contact-cache"));
    by_variable.env_clear().env("CONTACT_CACHE_PASSWORD", "hunter2").args(["--redis", &server.url(), "--prefix", "p"]);
    let ended = run("", by_variable.args(["health"]));
    ended.ended(0, &["connected"]);
    assert!(!ended.out.contains("hunter"), "{ended:?}");
}

#[expect(clippy::disallowed_methods, reason = "a user's editor")]
fn write(path: &std::path::Path, text: &str) {
    std::fs::write(path, text).expect("room for a file");
}
