//! What the tool prints: nothing that changes a terminal, no data of a contact in an error, the real reason.

use std::{fmt::Write as _, fs, process::Command, time::Instant};

use redis_launcher::Program;
use serde_json::{Value as Json, json};

use crate::{
    directory, run,
    server::{Kind, Server},
    text, tool, tool_reading, words,
};

/// Names and values that would change a terminal, or forge a line of a log.
const HOSTILE: [&str; 6] = ["line\nbreak", "\u{1b}[2Jx", "\u{9b}31mx", "\u{202e}x", "\u{2066}x", "\u{85}x"];

pub(crate) fn what_would_change_a_terminal_is_escaped_everywhere(kind: Kind) {
    let (server, store) = (Server::running(kind), directory());
    let (url, dir) = (server.url(), text(store.path()));
    let mut printed = String::new();
    let mut note = |ended: &crate::Run| {
        for text in [&ended.out, &ended.err] {
            let hostile = |c: char| (c.is_control() && c != '\n') || ['\u{202e}', '\u{2066}'].contains(&c);
            assert!(!text.contains(hostile), "{text:?}");
            printed.push_str(text);
        }
    };
    for name in HOSTILE {
        let at = |verb: &[&str]| words(&["--redis", &url, "--prefix", name], verb);
        let record = json!({"uid": name, "profile": {name: name}, "contacts": [{"type": name, "value": name}]});
        note(tool_reading(&record.to_string(), &at(&["put"])).ended(0, &[]));
        for verb in [&["get", name][..], &["get", name, "--json"], &["list"], &["list", "--json"], &["health"]] {
            note(tool(&at(verb)).ended(0, &[]));
        }
        let got: Json = serde_json::from_str(&tool(&at(&["get", name])).out).expect("json");
        assert_eq!((&got["uid"], &got["profile"][name]), (&json!(name), &json!(name)), "escaped, and the same value");
        note(tool(&at(&["remove", name, "--json"])).ended(0, &[]));
        note(tool(&at(&["get", name])).ended(1, &["no record"]));
        // Bad input repeats it.
        note(tool(&at(&["put", name])).ended(2, &["cannot read"]));
        note(tool(&at(&["import", "json", name])).ended(2, &["cannot read"]));
        note(tool(&at(&["inspect", name])).ended(2, &["no local store at"]));
        note(tool(&at(&["drain", "--within", name])).ended(2, &["--within"]));
        note(tool(&["--redis", &format!("redis://{name}:x@h:y/"), "--prefix", "p", "list"]).ended(2, &[]));
        note(&tool(&["--redis", &format!("unix://{}/{name}", text(store.path())), "--prefix", "p", "health"]));
        let mut variable = Command::new(env!("CARGO_BIN_EXE_contact-cache"));
        note(run("", variable.env_clear().env(format!("CONTACT_CACHE_{name}"), "x").arg("list")).ended(2, &[]));
        // What is pending is shown by `inspect`.
        let absent = Server::absent(kind).url();
        let away = store.path().join(format!("of {name}"));
        let away = |verb: &[&str]| words(&["--redis", &absent, "--prefix", name, "--directory", text(&away)], verb);
        note(tool_reading(&record.to_string(), &away(&["put"])).ended(0, &["kept in"]));
        note(tool(&away(&["inspect", text(&store.path().join(format!("of {name}")))])).ended(0, &["1 records"]));
        note(tool(&away(&["drain", "--within", "1ms"])).ended(3, &[]));
        // Fields and names in a file that is imported.
        let path = store.path().join(format!("{name}.json"));
        write(&path, &json!({name: {name: 1}, "b": {"uid": name}}).to_string());
        note(tool(&at(&["import", "json", text(&path)])).ended(1, &["2 skipped"]));
        server.ask(&["SET", "old:x", &json!({name: 1}).to_string()]);
        note(tool(&at(&["import", "redis", "--legacy-prefix", "old"])).ended(1, &["1 skipped"]));
    }
    assert!(printed.contains(r"\u{202e}x") && printed.contains(r"\u202ex") && !dir.is_empty(), "{printed}");
}

#[test]
fn errors_about_a_record_show_none_of_its_values() {
    let (url, files) = (Server::absent(Kind::Embedded).url(), directory());
    let at = |verb: &[&str]| words(&["--redis", &url, "--prefix", "p"], verb);
    let path = files.path().join("revealed_contacts.json");
    for record in [
        r#"{"uid": "u", "profile": "Lovelace"}"#,
        r#"{"uid": "u", "profile": {"n": 1}, "contacts": ["Lovelace"]}"#,
        r#"{"uid": "u", "contacts": [{"type": "email", "value": ["Lovelace"]}]}"#,
        r#"{"uid": "u", "contacts": [{"type": "email", "value": "Lovelace"}, {"type": "email", "value": "Lovelace"}]}"#,
        r#"{"uid": "u", "contacts": [{"type": {"x": "Lovelace"}, "value": "v"}]}"#,
        r#"{"uid": "u", "first_revealed_at": "Lovelace"}"#,
        r#"{"uid": "u", "profile": {"$serde_json::private::Number": "Lovelace"}}"#,
        r#"{"uid": "u", "profile": {"n": Lovelace}}"#,
    ] {
        for ended in [tool_reading(record, &at(&["put"])), {
            write(&path, &format!("{{\"u\": {record}}}"));
            tool(&at(&["import", "json", text(&path)]))
        }] {
            assert!(ended.code > 0 && !ended.err.is_empty(), "{record}: {ended:?}");
            assert!(!ended.err.contains("Lovelace") && !ended.out.contains("Lovelace"), "{record}: {ended:?}");
        }
    }
}

#[test]
fn a_password_is_not_shown_by_an_error_of_the_settings() {
    let files = directory();
    let path = files.path().join("cache.toml");
    for line in ["password = hunter2", "password = \"hunter2", "password: hunter2", "password = [\"hunter2\"]"] {
        write(&path, &format!("prefix = \"p\"\n{line}\n"));
        let ended = tool(&["--config", text(&path), "health"]);
        ended.ended(2, &["settings: "]);
        assert!(!ended.err.contains("hunter2"), "{ended:?}");
    }
}

pub(crate) fn a_map_that_means_a_number_to_the_parser_is_refused(kind: Kind) {
    let (server, files) = (Server::running(kind), directory());
    let url = server.url();
    let at = |verb: &[&str]| words(&["--redis", &url, "--prefix", "p"], verb);
    let times = r#""first_revealed_at": "2026-01-01", "last_updated_at": "2026-01-01""#;
    for map in [
        r#"{"$serde_json::private::Number":"1"}"#,
        r#"{"\u0024serde_json::private::Number" : "1"}"#,
        r#"{"$serde_json::private::RawValue":"[1]"}"#,
    ] {
        for field in [format!(r#""profile": {{"n": [{map}]}}"#), format!(r#""metadata": {{"n": {map}}}"#)] {
            let put = tool_reading(&format!(r#"{{"uid": "u", {field}}}"#), &at(&["put"]));
            put.ended(2, &["the field at byte ", "has a reserved name"]);
            let path = files.path().join("revealed_contacts.json");
            write(&path, &format!("{{\"u\":\n {{{field}, {times}}}}}"));
            tool(&at(&["import", "json", text(&path)])).ended(1, &["line 2, column ", "a reserved name", "1 skipped"]);
            server.ask(&["SET", "old:u", &format!("{{{field}, {times}}}")]);
            tool(&at(&["import", "redis", "--legacy-prefix", "old"])).ended(1, &["a reserved name", "1 skipped"]);
        }
    }
    assert_eq!(tool(&at(&["list"])).out, "", "something was written");
}

/// A user without `SCAN` was told that the list did not come to its end, and with a store of its own that Redis is away.
#[test]
fn a_list_that_redis_refuses_says_so() {
    if Program::redis_server().is_none() {
        return;
    }
    let (server, store) = (Server::running(Kind::Real), directory());
    server.ask(&["ACL", "SETUSER", "app", "on", ">right", "~*", "+@all", "-scan"]);
    let url = server.url_for("app:right@");
    let at = ["--redis", &url, "--prefix", "p"];
    tool(&[&at[..], &["list"]].concat()).ended(3, &["redis was asked for and cannot answer", "NOPERM"]);
    let with_store = [&at[..], &["--directory", text(store.path()), "list"]].concat();
    let ended = tool(&with_store);
    ended.ended(0, &["by the local store alone: NOPERM"]);
    assert!(!ended.err.contains("away"), "{ended:?}");
    let json: Json = serde_json::from_str(&tool(&[&with_store[..], &["--json"]].concat()).out).expect("json");
    assert!(json["local_because"].as_str().is_some_and(|reason| reason.contains("NOPERM")), "{json}");
    // The right to read is missing as well.
    server.ask(&["ACL", "SETUSER", "app", "-hgetall"]);
    tool(&[&at[..], &["get", "u"]].concat()).ended(3, &["cannot answer", "NOPERM"]);
    tool(&[&at[..], &["--directory", text(store.path()), "get", "u"]].concat()).ended(1, &["redis refuses: NOPERM"]);
}

/// Ten thousand bad records took 0.4 s, forty thousand 4.6 s: each counted the lines of the file before it.
#[test]
#[expect(clippy::disallowed_methods, reason = "the time of a process")]
fn bad_records_cost_the_same_each_however_many_there_are() {
    let files = directory();
    let server = Server::running(Kind::Embedded);
    let url = server.url();
    let took = |records: u32| {
        let path = files.path().join("bad.json");
        let mut file = String::from("{");
        for number in 0..records {
            let comma = if number == 0 { "" } else { ",\n" };
            write!(file, "{comma}\"u{number}\": {{\"contacts\": \"none\"}}").expect("room");
        }
        file.push('}');
        write(&path, &file);
        let begun = Instant::now();
        let ended = tool(&["--redis", &url, "--prefix", "p", "import", "json", text(&path), "--dry-run"]);
        let last = format!("record \"u{}\": line {records}, column ", records - 1);
        ended.ended(1, &[&format!("{records} skipped"), &last]);
        begun.elapsed()
    };
    let (few, many) = (took(10_000), took(80_000));
    // Eight times as many: 64 times the time if each costs its place in the file. The machine may be busy.
    assert!(many < few * 24, "10,000 bad records took {few:?}, 80,000 {many:?}");
}

#[expect(clippy::disallowed_methods, reason = "a user's editor")]
fn write(path: &std::path::Path, text: &str) {
    fs::write(path, text).expect("room for a file");
}
