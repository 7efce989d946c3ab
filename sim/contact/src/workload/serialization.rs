//! Hostile values in every part of a record, few conflicts: does what is written come back equal, from Redis, from the
//! disk, and from both together?

use rand::{RngExt, seq::IndexedRandom};
use serde_json::{Value as Json, json};

use super::{Mix, Planner, WorkloadPlan, numbered};
use crate::{history::Patch, seed::Stream};

pub(super) fn plan(draw: &mut Stream) -> WorkloadPlan {
    let instances = draw.random_range(1..=3);
    let uids = numbered("u", draw.random_range(2..=6));
    let workers = draw.random_range(1..=2);
    let length_us = draw.random_range(2_000_000..20_000_000);
    let count = draw.random_range(30..100);
    let mix = Mix { upsert: 5, get: 5, remove: draw.random_range(0..2), list: 0, clear: 0 };
    let mut planner = Planner::new(draw, vec!["ser".to_owned(); instances]);
    planner.mixed(count, length_us, &mix, &uids, hostile);
    planner.finish(workers, length_us)
}

/// Contact points in an order of their own, and fields with names and values that codecs get wrong.
pub(super) fn hostile(draw: &mut Stream, tag: &Json) -> Patch {
    let mut patch = Patch::default();
    let labelled = |draw: &mut Stream| json!({"tag": tag, "payload": value(draw, 0)});
    let mut contacts: Vec<_> = (0..draw.random_range(0..4)).map(|_| (text(draw), text(draw))).collect();
    contacts.sort();
    contacts.dedup();
    // Neither sorted nor as written before: the order itself must be kept.
    while let Some(contact) = (!contacts.is_empty()).then(|| contacts.remove(draw.random_range(0..contacts.len()))) {
        let mut point = json!({"type": contact.0, "value": contact.1, "label": labelled(draw)});
        if draw.random_bool(0.3) {
            point["verified"] = Json::Null;
        }
        patch.contacts.push(point);
    }
    for _ in 0..draw.random_range(0..3) {
        patch.profile.insert(text(draw), labelled(draw));
    }
    patch.metadata.insert(text(draw), labelled(draw));
    patch
}

fn text(draw: &mut Stream) -> String {
    const HOSTILE: [&str; 16] = [
        "",
        "name",
        "e",
        "d",
        "f",
        "a:b",
        "\"\\/",
        "\n\r\t\0",
        "\u{202e}rtl",
        "e\u{301}",
        "é",
        "🦀👩‍👩‍👧",
        "null",
        "p",
        "%2F",
        "\u{7f}\u{80}\u{ffff}",
    ];
    let mut text = (*HOSTILE.choose(draw).expect("sixteen")).to_owned();
    if draw.random_bool(0.1) {
        text.push(draw.random());
    }
    text
}

fn value(draw: &mut Stream, depth: u32) -> Json {
    const NUMBERS: [&str; 10] = [
        "0",
        "-0.0",
        "9007199254740993",
        "-9223372036854775808",
        "18446744073709551616",
        "12345678901234567890123",
        "1.10",
        "1e-7",
        "0.1",
        "1e400",
    ];
    match draw.random_range(0..if depth < 4 { 9 } else { 6 }) {
        0 => Json::Null,
        1 => draw.random::<bool>().into(),
        2 | 3 => serde_json::from_str(NUMBERS.choose(draw).expect("ten")).expect("numbers"),
        4 | 5 => text(draw).into(),
        6 => (0..draw.random_range(0..3)).map(|_| value(draw, depth + 1)).collect(),
        7 => (0..draw.random_range(0..3)).map(|_| (text(draw), value(draw, depth + 1))).collect(),
        // As deep as is promised, less what the label around it takes.
        _ => (0..draw.random_range(1..90)).fold(json!([]), |inner, _| json!([inner])),
    }
}
