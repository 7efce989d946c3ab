//! Every public call and every setting of the client is asked by some workload, or this table says who asks it instead. The list
//! of both is read from the client's source, so that a new one fails here until somebody asks it.

use std::{collections::BTreeSet, fs, path::Path};

use seedbed_contact::{
    history::{Call, Freshness, Tuning},
    seed::Seed,
    workload::ALL,
};

/// Seeds of each workload that are looked at.
const SEEDS: u64 = 30;

/// Who asks for something.
enum By {
    /// A workload: by a call like this.
    Call(fn(&Call) -> bool),
    /// A workload: by a setting of its runs.
    Tuning(fn(&Tuning) -> bool),
    /// This file holds these words; why no workload does.
    File(&'static str, &'static str, &'static str),
}

use By::{Call as InCall, File, Tuning as InTuning};

/// The public functions of `ContactCache`.
const CALLS: [(&str, By); 17] = [
    (
        "open",
        File("sim/contact/src/subject/contact_cache/mod.rs", "ContactCache::open(", "the bed opens each instance"),
    ),
    (
        "open_report",
        File("sim/contact/src/subject/contact_cache/mod.rs", ".open_report(", "the bed notes it at each opening"),
    ),
    ("get", InCall(|call| matches!(call, Call::Get { freshness: Freshness::Any, .. }))),
    (
        "get_with",
        InCall(|call| matches!(call, Call::Get { freshness: Freshness::Shared | Freshness::WithinMs(_), .. })),
    ),
    ("get_many", InCall(|call| matches!(call, Call::GetMany { .. }))),
    ("upsert", InCall(|call| matches!(call, Call::Upsert { shared: false, .. }))),
    ("upsert_shared", InCall(|call| matches!(call, Call::Upsert { shared: true, .. }))),
    ("remove", InCall(|call| matches!(call, Call::Remove { shared: false, .. }))),
    ("remove_shared", InCall(|call| matches!(call, Call::Remove { shared: true, .. }))),
    ("import", InCall(|call| matches!(call, Call::Import { preview: false, .. }))),
    ("preview_import", InCall(|call| matches!(call, Call::Import { preview: true, .. }))),
    ("list", InCall(|call| matches!(call, Call::List))),
    ("clear", InCall(|call| matches!(call, Call::Clear))),
    ("sync", InCall(|call| matches!(call, Call::Sync))),
    (
        "connected",
        File(
            "sim/contact/src/subject/contact_cache/mod.rs",
            ".connected()",
            "the bed notes when an instance first meets Redis",
        ),
    ),
    ("health", File("sim/contact/src/subject/contact_cache/mod.rs", ".health()", "the bed asks after each call")),
    ("close", File("sim/contact/src/subject/contact_cache/mod.rs", ".close()", "the bed closes instances in order")),
];

/// What a `Patch` may ask for.
const PARTS: [(&str, By); 6] = [
    ("contacts", InCall(|call| call.patch().is_some_and(|patch| !patch.contacts.is_empty()))),
    ("profile", InCall(|call| call.patch().is_some_and(|patch| !patch.profile.is_empty()))),
    ("metadata", InCall(|call| call.patch().is_some_and(|patch| !patch.metadata.is_empty()))),
    ("without_contacts", InCall(|call| call.patch().is_some_and(|patch| !patch.without_contacts.is_empty()))),
    ("without_profile", InCall(|call| call.patch().is_some_and(|patch| !patch.without_profile.is_empty()))),
    ("without_metadata", InCall(|call| call.patch().is_some_and(|patch| !patch.without_metadata.is_empty()))),
];

/// The settings of `Config`.
const SETTINGS: [(&str, By); 22] = [
    (
        "redis",
        File("sim/contact/src/subject/contact_cache/mod.rs", "settings.redis", "each instance is told its Redis"),
    ),
    ("tls", File("sim/contact/tests/reasons/certificates.rs", "Tls", "the simulated network carries no TLS")),
    ("prefix", File("sim/contact/src/subject/contact_cache/mod.rs", "settings.prefix", "workloads draw prefixes")),
    (
        "directory",
        File("sim/contact/src/subject/contact_cache/mod.rs", "settings.directory", "each instance has its own"),
    ),
    (
        "op_deadline",
        File("sim/contact/tests/real_redis/isolation.rs", "op_deadline", "G8 holds each run to the default"),
    ),
    ("reply_timeout", File("tests/scenarios/poison_record.rs", "reply_timeout", "G9 reckons with the default")),
    ("connect_timeout", File("tests/scenarios/stopped_redis.rs", "connect_timeout", "G9 reckons with the default")),
    ("probe_interval", File("tests/rules/answers.rs", "probe_interval", "G9 reckons with the default")),
    ("backoff_first", File("tests/cancellation.rs", "backoff_first", "G9 reckons with the default")),
    ("backoff_max", File("sim/contact/src/subject/contact_cache/mod.rs", "config.backoff_max", "real runs shorten it")),
    ("flush_interval", File("tests/protocol_rules.rs", "flush_interval", "a later copy is a copy lost in a crash")),
    ("tombstone_ttl", InTuning(|tuning| tuning.tombstone_ttl_ms.is_some())),
    ("record_ttl", InTuning(|tuning| tuning.record_ttl_ms.is_some())),
    ("durability", InTuning(|tuning| tuning.syncs_every_write)),
    ("on_loss", InTuning(|tuning| tuning.accepts_losses)),
    ("record_bytes_max", File("tests/large_records.rs", "record_bytes_max", "what it refuses has no effect")),
    ("record_cells_max", File("tests/large_records.rs", "record_cells_max", "what it refuses has no effect")),
    ("on_other_redis", File("tests/under_the_feet/another_redis.rs", "on_other_redis", "a run has one Redis")),
    ("pending_bytes_max", InTuning(|tuning| tuning.pending_bytes_max.is_some())),
    ("copies_bytes_max", InTuning(|tuning| tuning.copies_bytes_max.is_some())),
    (
        "republish_window",
        File("sim/contact/src/subject/contact_cache/mod.rs", "config.republish_window", "follows tombstone_ttl"),
    ),
    (
        "compact_bytes",
        File("sim/contact/src/subject/contact_cache/mod.rs", "config.compact_bytes", "small in every run"),
    ),
];

#[test]
fn every_public_call_is_asked_by_a_workload_or_named_here() {
    let source = read("src/cache/mod.rs");
    let body = between(&source, "impl<E: Env> ContactCache<E> {", "\n}\n");
    let is_public = |line: &&str| line.starts_with("    pub fn ") || line.starts_with("    pub async fn ");
    let name = |line: &str| line.split("fn ").nth(1)?.split(['(', '<']).next().map(str::to_owned);
    assert_each_is_asked("call", &body.lines().filter(is_public).filter_map(name).collect(), &CALLS);
}

#[test]
fn every_part_of_a_patch_is_asked_by_a_workload() {
    assert_each_is_asked("part of a patch", &fields(&read("src/contact.rs"), "pub struct Patch {"), &PARTS);
}

#[test]
fn every_setting_is_drawn_by_a_workload_or_named_here() {
    assert_each_is_asked("setting", &fields(&read("src/config/mod.rs"), "pub struct Config {"), &SETTINGS);
}

/// Whether the table has what the source has, and each of it is asked.
fn assert_each_is_asked(what: &str, found: &BTreeSet<String>, table: &[(&str, By)]) {
    assert!(!found.is_empty(), "the source has no {what}: this test has lost its place");
    let named: BTreeSet<String> = table.iter().map(|(name, _)| (*name).to_owned()).collect();
    let unknown: Vec<_> = found.difference(&named).collect();
    assert!(unknown.is_empty(), "no workload asks for the {what} {unknown:?}: let one, or say here who does");
    let gone: Vec<_> = named.difference(found).collect();
    assert!(gone.is_empty(), "the client has no {what} {gone:?} any more");
    let plans: Vec<_> =
        ALL.into_iter().flat_map(|workload| (0..SEEDS).map(move |seed| workload.plan(Seed(seed)))).collect();
    for (name, by) in table {
        let is_asked = match by {
            InCall(is_it) => plans.iter().flat_map(|plan| &plan.operations).any(|planned| is_it(&planned.call)),
            InTuning(is_it) => plans.iter().any(|plan| is_it(&plan.tuning)),
            File(path, words, why) => {
                assert!(!why.is_empty(), "{name}: say why no workload does");
                read(path).contains(words)
            }
        };
        assert!(is_asked, "the {what} {name} is not asked as the table says");
    }
}

/// The public fields of a struct.
fn fields(source: &str, head: &str) -> BTreeSet<String> {
    let body = between(source, head, "\n}\n");
    body.lines().filter_map(|line| Some(line.strip_prefix("    pub ")?.split_once(':')?.0.to_owned())).collect()
}

fn between<'a>(source: &'a str, head: &str, end: &str) -> &'a str {
    let body = source.split_once(head).unwrap_or_else(|| panic!("{head:?} is not in the source")).1;
    body.split_once(end).unwrap_or_else(|| panic!("{head:?} does not end")).0
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
