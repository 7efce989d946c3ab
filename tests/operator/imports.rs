//! Taking over the records of the cache that came before, from its file and from its keys.

#![expect(clippy::disallowed_methods, reason = "files made outside of any environment")]

use std::{fs, path::Path};

use serde_json::{Value as Json, json};

use crate::{
    directory,
    server::{Kind, Server},
    text, tool, tool_reading, words,
};

fn record(name: &str) -> Json {
    json!({
        "contacts": [{"type": "email", "value": format!("{name}@x.org")}], "profile": {"name": name, "none": null},
        "metadata": {"source": "legacy"}, "first_revealed_at": "2020-01-31T12:00:00.123456",
        "last_updated_at": "2021-01-31T12:00:00+00:00",
    })
}

/// A file with three good records, and two bad ones in the middle.
fn file(directory: &Path) -> String {
    let path = directory.join("revealed_contacts.json");
    let (a, b, c) = (record("a"), record("b"), record("c"));
    let lines =
        format!("{{\n\"a\": {a},\n\"bad1\": {{\"contacts\": \"none\"}},\n\"b\": {b},\n\"bad2\": [],\n\"c\": {c}\n}}\n");
    fs::write(&path, lines).expect("room for a file");
    text(&path).to_owned()
}

pub(crate) fn a_file_is_imported_and_its_bad_records_are_named(kind: Kind) {
    let (server, files) = (Server::running(kind), directory());
    let (url, file) = (server.url(), file(files.path()));
    let at = |verb: &[&str]| words(&["--redis", &url, "--prefix", "p"], verb);
    let bad =
        [&format!("{file}: record \"bad1\": line 3, column "), &format!("{file}: record \"bad2\": line 5, column ")];
    let dry = tool(&at(&["import", "json", &file, "--dry-run"]));
    dry.ended(1, &["dry run: 3 to import (3 new", "2 skipped", bad[0], bad[1]]);
    assert_eq!(tool(&at(&["list"])).out, "", "a dry run writes nothing");
    tool(&at(&["import", "json", &file])).ended(1, &["3 imported (3 new", "0 already there", "2 skipped", bad[0]]);
    let got: Json = serde_json::from_str(&tool(&at(&["get", "b"])).out).expect("json");
    assert_eq!((&got["profile"], &got["contacts"]), (&json!({"name": "b"}), &record("b")["contacts"]));
    assert_eq!(got["first_revealed_at"], json!("2020-01-31T12:00:00.123Z"));
    assert_eq!(got["last_updated_at"], json!("2021-01-31T12:00:00.000Z"));
    let stored = server.ask(&["HGETALL", "cc1:p:b"]);
    tool(&at(&["import", "json", &file])).ended(1, &["0 imported (0 new", "3 already there", "2 skipped"]);
    assert_eq!(server.ask(&["HGETALL", "cc1:p:b"]).len(), stored.len(), "importing again changed it");
    let json = tool(&at(&["import", "json", &file, "--json"]));
    json.ended(1, &[r#""already_there":3"#, r#""skipped":2"#, r#""complete":true"#]);
}

pub(crate) fn keys_are_imported_and_the_bad_ones_are_named(kind: Kind) {
    let server = Server::running(kind);
    let url = server.url();
    let at = |verb: &[&str]| words(&["--redis", &url, "--prefix", "p"], verb);
    for number in 0..1200 {
        let name = format!("u{number}");
        server.ask(&["SET", &format!("old*:{name}"), &record(&name).to_string()]);
    }
    server.ask(&["SET", "old*:bad", "{\"uid\":\n 7}"]);
    let mut other = record("u1");
    other["uid"] = json!("u1");
    server.ask(&["SET", "old*:other", &other.to_string()]);
    server.ask(&["HSET", "old*:hash", "x", "y"]);
    server.ask(&["SET", "older:u1", "another prefix, which the pattern must not match"]);
    let said = [
        r#"key "old*:bad": line 2, column "#,
        r#"key "old*:other": line 1, column 1: it says uid "u1", and is filed under "other""#,
        r#"key "old*:hash": line 1, column 1: the value cannot be read"#,
        "WRONGTYPE",
        "3 skipped",
    ];
    let import = ["import", "redis", "--legacy-prefix", "old*"];
    tool(&at(&[&import[..], &["--dry-run"]].concat())).ended(1, &[&said[..], &["1200 to import"]].concat());
    assert_eq!(tool(&at(&["list"])).out, "", "a dry run writes nothing");
    let imported = tool(&at(&[&import[..], &["--from-url", &url]].concat()));
    imported.ended(1, &[&said[..], &["1200 imported (1200 new"]].concat());
    assert!(!imported.err.contains("older:"), "{}", imported.err);
    assert_eq!(tool(&at(&["list"])).out.lines().count(), 1200);
    tool(&at(&import)).ended(1, &["0 imported", "1200 already there"]);
    assert!(server.ask(&["GET", "old*:u7"]).contains("u7@x.org"), "the old keys stay");
}

pub(crate) fn an_import_changes_nothing_that_was_written_since(kind: Kind) {
    let (server, files) = (Server::running(kind), directory());
    let (url, path) = (server.url(), files.path().join("revealed_contacts.json"));
    let at = |verb: &[&str]| words(&["--redis", &url, "--prefix", "p"], verb);
    tool_reading(r#"{"uid": "a", "profile": {"name": "new"}}"#, &at(&["put"])).ended(0, &[]);
    tool_reading(r#"{"uid": "b", "profile": {"name": "new"}}"#, &at(&["put"])).ended(0, &[]);
    tool(&at(&["remove", "b"])).ended(0, &[]);
    // As if the old cache had been written to until long after the new one.
    let (mut a, mut late) = (record("a"), record("b"));
    a["last_updated_at"] = json!("2099-01-01T00:00:00Z");
    late["last_updated_at"] = json!("2099-01-01T00:00:00Z");
    fs::write(&path, json!({"a": a, "b": late}).to_string()).expect("room for a file");
    let import = at(&["import", "json", text(&path)]);
    tool(&import).ended(0, &["1 imported (0 new, 1 joined", "1 removed from the cache since"]);
    let got: Json = serde_json::from_str(&tool(&at(&["get", "a"])).out).expect("json");
    assert_eq!(got["profile"], json!({"name": "new"}), "what is there stays");
    assert_eq!((&got["metadata"], &got["contacts"]), (&json!({"source": "legacy"}), &record("a")["contacts"]));
    assert_eq!(got["first_revealed_at"], json!("2020-01-31T12:00:00.123Z"));
    tool(&at(&["get", "b"])).ended(1, &[]);
    // And what is written after an import wins over it.
    tool_reading(r#"{"uid": "a", "metadata": {"source": "new"}}"#, &at(&["put"])).ended(0, &[]);
    tool(&import).ended(0, &["0 imported", "1 already there"]);
    let got: Json = serde_json::from_str(&tool(&at(&["get", "a"])).out).expect("json");
    assert_eq!(got["metadata"], json!({"source": "new"}));
}

#[test]
fn what_stands_before_the_break_of_a_file_is_imported_and_the_break_is_named() {
    let (server, files) = (Server::running(Kind::Embedded), directory());
    let path = files.path().join("revealed_contacts.json");
    let at = ["--redis", &server.url(), "--prefix", "p", "import", "json", text(&path)];
    fs::write(&path, format!("{{\"a\": {},\n\"b\": {{\"prof", record("a"))).expect("room for a file");
    tool(&at).ended(1, &["1 imported", "line 2, column ", "nothing behind it can be read"]);
    fs::write(&path, "[]").expect("room for a file");
    tool(&at).ended(2, &["is no file of the legacy cache", "one object, from uid to record"]);
}

#[test]
fn an_import_without_redis_says_so_and_can_be_begun_again() {
    let (url, files) = (Server::absent(Kind::Embedded).url(), directory());
    let file = file(files.path());
    let ended = tool(&["--redis", &url, "--prefix", "p", "import", "json", &file]);
    ended.ended(3, &["0 imported", "stopped: redis was asked for and cannot answer", "import again"]);
    tool(&["--redis", &url, "--prefix", "p", "import", "redis", "--legacy-prefix", "x"])
        .ended(3, &["the legacy redis at redis://127.0.0.1", "cannot be read"]);
}
