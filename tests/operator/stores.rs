//! Local stores: looked into, damaged, drained.

#![expect(clippy::disallowed_methods, reason = "files looked at, and damaged, from outside")]

use std::{fs, path::Path};

use contact_cache::{
    Config, ContactCache,
    env::{TokioDisk, TokioEnv},
    inspect,
};
use redis_launcher::Program;
use serde_json::{Value as Json, json};

use crate::{
    directory,
    server::{Kind, Server},
    text, tool, tool_reading, words,
};

const RECORD: &str = r#"{"uid": "u1", "profile": {"name": "Ada"}}"#;

pub(crate) fn what_is_pending_is_shown_and_drained_after_an_outage(kind: Kind) {
    let (mut server, store) = (Server::absent(kind), directory());
    let (url, dir) = (server.url(), text(store.path()));
    let at = |verb: &[&str]| words(&["--redis", &url, "--prefix", "p", "--directory", dir], verb);
    tool_reading(RECORD, &at(&["put"])).ended(0, &["u1: kept in", "redis is away", "`drain`"]);
    tool(&at(&["get", "u1"])).ended(0, &["Ada", "by the local store alone"]);
    tool(&at(&["list"])).ended(0, &["u1\n", "by the local store alone"]);
    let before = fs::read(store.path().join("store.log")).expect("a store");

    let shown = tool(&["inspect", dir]);
    shown.ended(0, &["prefix         p\n", "closed in order", "pending        1 records\n  u1\n", r#"pname "Ada""#]);
    let shown: Json = serde_json::from_str(&tool(&["inspect", dir, "--json"]).out).expect("json");
    let cells = shown["pending"][0]["cells"].as_array().expect("cells");
    assert_eq!((cells.len(), &cells[1]["field"], &cells[1]["value"]), (2, &json!("pname"), &json!("\"Ada\"")));
    assert_eq!((&shown["records"], &shown["copies"], &shown["format"]), (&json!(1), &json!(0), &json!(4)));
    assert_eq!(fs::read(store.path().join("store.log")).expect("a store"), before, "inspect changed it");

    tool(&at(&["drain", "--within", "10ms"])).ended(3, &["1 records are left in", "redis is away: ", "`inspect`"]);
    server.start();
    tool(&at(&["drain"])).ended(0, &["drained: redis has everything"]);
    tool(&["--redis", &url, "--prefix", "p", "get", "u1"]).ended(0, &["Ada"]);
    tool(&["inspect", dir]).ended(0, &["pending        0 records", "copies         1\n"]);
}

pub(crate) fn what_redis_refuses_stays_and_is_said(kind: Kind) {
    let (mut server, store) = (Server::absent(kind), directory());
    let (url, dir) = (server.url(), text(store.path()));
    let at = |verb: &[&str]| words(&["--redis", &url, "--prefix", "p", "--directory", dir], verb);
    tool_reading(RECORD, &at(&["put"])).ended(0, &["kept in"]);
    server.start();
    server.ask(&["SET", "cc1:p:u1", "not ours"]);
    tool(&at(&["drain", "--within", "8s"])).ended(1, &["1 records are left", "redis refused", "cc1:p:u1"]);
    server.ask(&["DEL", "cc1:p:u1"]);
    tool(&at(&["drain", "--json"])).ended(0, &[r#""left":0"#, r#""pending_before":1"#]);
}

#[test]
fn a_record_that_redis_cannot_take_is_named_and_the_others_are_drained() {
    if Program::redis_server().is_none() {
        return;
    }
    let (mut server, store, files) = (Server::absent(Kind::Real), directory(), directory());
    let (config, dir) = (files.path().join("cache.toml"), text(store.path()));
    let settings = format!("redis = {:?}\nprefix = \"p\"\nrecord_bytes_max = 4000000\n", server.url());
    fs::write(&config, settings).expect("room for a file");
    let at = |verb: &[&str]| words(&["--config", text(&config), "--directory", dir], verb);
    for (uid, value) in [("a", "small".to_owned()), ("m", "x".repeat(1_200_000)), ("z", "small".to_owned())] {
        let record = format!(r#"{{"uid": "{uid}", "profile": {{"name": "{value}"}}}}"#);
        tool_reading(&record, &at(&["put"])).ended(0, &["kept in"]);
    }
    tool(&["inspect", dir]).ended(0, &["  a\n", "  m: large, 2 cells of 1200072 bytes, merged alone", "  z\n"]);
    server.start();
    server.ask(&["CONFIG", "SET", "proto-max-bulk-len", "1048576"]);
    let left = ["1 records are left", "cannot take 1 of them", "record m, ", " times alone: "];
    tool(&at(&["drain", "--within", "8s"])).ended(1, &left);
    server.ask(&["CONFIG", "SET", "proto-max-bulk-len", "512mb"]);
    tool(&at(&["drain", "--json"])).ended(0, &[r#""left":0"#, r#""pending_before":1"#, r#""isolated":[]"#]);
}

#[tokio::test]
async fn a_store_in_use_is_refused_by_name_and_can_be_looked_into() {
    let (url, store) = (Server::absent(Kind::Embedded).url(), directory());
    let dir = text(store.path());
    let config = Config::new(url.parse().expect("a url"), "p".parse().expect("a prefix"), store.path());
    let cache = ContactCache::open(TokioEnv::new(), config).await.expect("a directory of its own");
    for verb in [&["drain"][..], &["get", "u1"]] {
        let refused = tool(&[&["--redis", &url, "--prefix", "p", "--directory", dir], verb].concat());
        refused.ended(3, &[dir, "is in use", "--fresh", "`inspect`"]);
    }
    tool(&["inspect", dir]).ended(0, &["not closed: in use", "pending        0 records"]);
    cache.close().await.expect("nothing in its way");
    let other = tool(&["--redis", &url, "--prefix", "q", "--directory", dir, "list"]);
    other.ended(2, &[dir, r#"belongs to prefix "p", not "q""#]);
}

#[test]
fn a_damaged_store_is_shown_as_it_is_and_its_rest_is_drained() {
    let (mut server, store) = (Server::absent(Kind::Embedded), directory());
    let (url, dir) = (server.url(), text(store.path()));
    let at = |verb: &[&str]| words(&["--redis", &url, "--prefix", "p", "--directory", dir], verb);
    for uid in ["u1", "u2"] {
        tool_reading(&format!(r#"{{"uid": "{uid}", "profile": {{"name": "{uid}!"}}}}"#), &at(&["put"])).ended(0, &[]);
    }
    let log = store.path().join("store.log");
    let mut bytes = fs::read(&log).expect("a store");
    let rotten = find(&bytes, b"u1!");
    bytes[rotten] ^= 1;
    fs::write(&log, &bytes).expect("room for a file");

    let shown: Json = serde_json::from_str(&tool(&["inspect", dir, "--json"]).ended(1, &[]).out).expect("json");
    let hole = &shown["damage"]["unreadable"][0];
    let (offset, length) = (hole["offset"].as_u64().expect("a number"), hole["length"].as_u64().expect("a number"));
    assert!((offset..offset + length).contains(&(rotten as u64)), "{hole} does not hold byte {rotten}");
    assert_eq!((&shown["pending"][0]["uid"], &shown["pending"][1]), (&json!("u2"), &Json::Null));
    assert_eq!(fs::read(&log).expect("a store"), bytes, "inspect changed it");

    server.start();
    // Of what the rotten record was to merge, Redis has nothing.
    for said in ["the store was damaged", "damaged-0.log was set aside"] {
        let drained = tool(&at(&["drain"]));
        drained.ended(1, &["redis has what could be read", said, "damaged-0.log"]);
        assert!(!drained.out.contains("everything"), "{drained:?}");
    }
    let aside = store.path().join("damaged-0.log");
    tool(&["inspect", dir]).ended(0, &["set aside      damaged-0.log"]);
    tool(&["inspect", text(&aside)]).ended(1, &[&format!("DAMAGED        {length} bytes at byte {offset}"), "u2\n"]);
    assert_eq!(tool(&["--redis", &url, "--prefix", "p", "list"]).out, "u2\n");

    // Without the entry that names the prefix, no other verifies unless it is told.
    let at_prefix = find(&bytes, br#""prefix":"p""#);
    bytes[at_prefix] ^= 1;
    fs::write(&aside, &bytes).expect("room for a file");
    tool(&["inspect", text(&aside)]).ended(1, &["cannot be read", "add --prefix", "pending        0 records"]);
    tool(&["inspect", text(&aside), "--prefix", "p"]).ended(1, &["pending        1 records\n  u2\n"]);
}

#[test]
fn a_store_that_was_cut_anywhere_is_never_said_to_be_in_redis_whole() {
    let (server, store) = (Server::running(Kind::Embedded), directory());
    let (url, dir) = (server.url(), text(store.path()));
    let nowhere = Server::absent(Kind::Embedded).url();
    let log = store.path().join("store.log");
    let kept = |uid: &str| {
        let record = format!(r#"{{"uid": "{uid}", "profile": {{"name": "{uid}!"}}}}"#);
        let at = ["--redis", &nowhere, "--prefix", "p", "--directory", dir, "put"];
        tool_reading(&record, &at).ended(0, &["kept in"]);
        fs::read(&log).expect("a store")
    };
    kept("u1");
    // Between two entries, within one, and within the header.
    let lens = [kept("u2").len(), kept("u3").len() - 30, 7, 0];
    let at = |verb: &[&str]| words(&["--redis", &url, "--prefix", "p", "--directory", dir, "--config"], verb);
    let settings = store.path().join("settings.toml");
    fs::write(&settings, "on_other_redis = \"publish\"").expect("room for a file");
    for len in lens {
        kept("u4");
        let whole = fs::read(&log).expect("a store");
        let cut = fs::OpenOptions::new().write(true).open(&log).and_then(|log| log.set_len(len as u64));
        cut.expect("it is there");
        tool(&["inspect", dir]).ended(1, &["DAMAGED"]);
        for _ in 0..2 {
            let drained = tool(&at(&[text(&settings), "drain"]));
            drained.ended(1, &["may not be all", "damaged-"]);
            assert!(!drained.out.contains("everything"), "{drained:?}");
        }
        for entry in fs::read_dir(store.path()).expect("a store") {
            let path = entry.expect("an entry").path();
            if text(&path).contains("damaged-") {
                fs::remove_file(path).expect("it is there");
            }
        }
        assert!(whole.len() > len);
    }
}

#[test]
fn a_store_whose_log_is_gone_or_cannot_be_read_is_never_said_to_be_in_redis() {
    let (server, store) = (Server::running(Kind::Embedded), directory());
    let (url, dir) = (server.url(), text(store.path()));
    let log = store.path().join("store.log");
    let at = |verb: &[&str]| words(&["--redis", &url, "--prefix", "p", "--directory", dir], verb);
    tool_reading(RECORD, &at(&["put"])).ended(0, &[]);
    fs::rename(&log, store.path().join("elsewhere")).expect("it is there");
    for verb in [&at(&["drain"]), &words(&["inspect", dir], &[])] {
        tool(verb).ended(3, &[dir, "is gone", "put back"]);
    }
    assert!(!log.exists(), "an empty store would hide it");
    std::os::unix::fs::symlink("elsewhere", &log).expect("the name is free");
    tool(&at(&["drain"])).ended(3, &["store.log", "is a symbolic link"]);
    tool(&["inspect", dir]).ended(0, &["prefix         p"]);
    fs::remove_file(&log).expect("it is there");
    fs::create_dir(&log).expect("the name is free");
    tool(&at(&["drain"])).ended(3, &["store.log"]);
    tool(&["inspect", dir]).ended(3, &["store.log"]);
}

#[test]
fn a_store_of_another_redis_is_not_drained_into_this_one() {
    let (server, store) = (Server::running(Kind::Embedded), directory());
    let (url, dir) = (server.url(), text(store.path()));
    let at = |url: &str, verb: &[&str]| words(&["--redis", url, "--prefix", "p", "--directory", dir], verb);
    tool_reading(RECORD, &at(&Server::absent(Kind::Embedded).url(), &["put"])).ended(0, &["kept in"]);
    let refused = tool(&at(&url, &["drain"]));
    refused.ended(2, &[dir, "belongs to redis://127.0.0.1:", "on_other_redis"]);
    assert_eq!(tool(&["--redis", &url, "--prefix", "p", "list"]).out, "");
    tool(&["inspect", dir]).ended(0, &["pending        1 records", "redis          redis://127.0.0.1:"]);
    let settings = store.path().join("settings.toml");
    fs::write(&settings, "on_other_redis = \"publish\"").expect("room for a file");
    tool(&at(&url, &["--config", text(&settings), "drain"])).ended(0, &["drained: redis has everything"]);
    assert_eq!(tool(&["--redis", &url, "--prefix", "p", "list"]).out, "u1\n");
}

#[test]
fn no_damage_makes_inspect_panic_or_show_what_was_not_written() {
    let (url, store) = (Server::absent(Kind::Embedded).url(), directory());
    let dir = text(store.path());
    tool_reading(RECORD, &["--redis", &url, "--prefix", "p", "--directory", dir, "put"]).ended(0, &[]);
    let whole = fs::read(store.path().join("store.log")).expect("a store");
    let look = |bytes: &[u8]| {
        let path = store.path().join("damaged-7.log");
        fs::write(&path, bytes).expect("room for a file");
        let file = TokioDisk.open_to_read(&path).expect("it is there");
        inspect(file, Path::new("damaged-7.log"), Some(&"p".parse().expect("a prefix")))
    };
    let sound = look(&whole).expect("sound");
    assert!(sound.pending.len() == 1 && sound.clean_end && !sound.damage.is_loss());
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        if let Ok(found) = look(&flipped) {
            assert!(found.damage.is_loss() || found.damage.torn_tail_bytes > 0, "byte {at} was not missed");
            assert!(found.pending.iter().all(|record| sound.pending.contains(record)), "byte {at}: {found:?}");
        }
        if let Ok(found) = look(&whole[..at]) {
            assert!(found.pending.iter().all(|record| sound.pending.contains(record)), "cut at {at}: {found:?}");
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> usize {
    bytes.windows(what.len()).position(|window| window == what).expect("it is in there")
}
