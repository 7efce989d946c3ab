//! The records that everything is measured with: 2 contact points, 2 profile fields and one of metadata.

use std::sync::atomic::{AtomicU64, Ordering};

use contact_cache::{ContactPoint, Patch, Uid};
use serde_json::{Map, json};

pub(crate) const PREFIX: &str = "bench";

/// So many of them.
pub(crate) const RECORDS: usize = 1000;

pub(crate) fn uid(number: usize) -> Uid {
    format!("contact-{number}").parse().expect("a uid")
}

/// Where the client keeps it.
pub(crate) fn key(number: usize) -> String {
    format!("cc1:{PREFIX}:contact-{number}")
}

/// Where bare writes put it.
pub(crate) fn bare_key(number: usize) -> String {
    format!("bare:contact-{number}")
}

/// A write of the record; `version` tells it from others.
pub(crate) fn patch(number: usize, version: usize) -> Patch {
    let contact = |kind: &str, value: String| ContactPoint {
        kind: kind.to_owned(),
        value,
        rest: Map::from_iter([("label".to_owned(), json!("work"))]),
    };
    Patch {
        contacts: vec![
            contact("email", format!("{number}@example.org")),
            contact("phone", format!("+49 30 {number:07}")),
        ],
        profile: Map::from_iter([
            ("name".to_owned(), json!(format!("Contact number {number}"))),
            ("title".to_owned(), json!("Head of Procurement")),
        ]),
        metadata: Map::from_iter([("version".to_owned(), json!(version))]),
        ..Patch::default()
    }
}

/// The cells of such a write, under a stamp above all before.
pub(crate) fn cells(number: usize) -> [(String, String); 6] {
    static STAMPS: AtomicU64 = AtomicU64::new(1);
    let stamp = STAMPS.fetch_add(1, Ordering::Relaxed);
    let cell = |field: String, value: &str| (field, format!("{stamp:016x}{:016x}{value}", 7));
    let rest = format!(r#"[[{stamp},0],{{"label":"work"}}]"#);
    [
        cell("e".to_owned(), "1"),
        cell(format!(r#"c["email","{number}@example.org"]"#), &rest),
        cell(format!(r#"c["phone","+49 30 {number:07}"]"#), &rest),
        cell("pname".to_owned(), &format!(r#""Contact number {number}""#)),
        cell("ptitle".to_owned(), r#""Head of Procurement""#),
        cell("mversion".to_owned(), &stamp.to_string()),
    ]
}
