//! Keys of another service. Part of G7: the subject must leave the data alone that another service keeps in the same Redis.
//!
//! In the end Redis holds the subject's records and markers, and the keys of the other service, byte for byte and with the time to
//! live that the service gave them. A key of the service may be missing if Redis evicted it, lost its data, or may have expired the
//! key by its clock. After a loss of data an older state of the key may be back.

use std::collections::BTreeMap;

use super::{Account, Excuse, Verdict, operations::Operations};
use crate::history::{Raw, StoredKey, What};

/// A key of another service.
#[derive(Default)]
struct Other<'h> {
    /// The writes of the key in order: the time, and the key as written.
    written: Vec<(u64, &'h StoredKey)>,
    /// Redis lost data since: it may hold the key as any of these writes left it, or no key.
    may_be_older: bool,
    is_evicted: bool,
}

pub(super) fn check(run: &Operations<'_>, account: &mut Account) -> Verdict {
    let mut others: BTreeMap<&Raw, Other<'_>> = BTreeMap::new();
    for event in &run.history.events {
        match &event.what {
            What::OthersWrote { keys } => {
                for key in keys {
                    let other = others.entry(&key.key).or_default();
                    other.written.push((event.at_us, key));
                    (other.may_be_older, other.is_evicted) = (false, false);
                }
            }
            What::RedisLostData => others.values_mut().for_each(|other| other.may_be_older = true),
            What::RedisLostKeys { keys } => {
                for key in keys {
                    if let Some(other) = others.get_mut(key) {
                        other.is_evicted = true;
                    }
                }
            }
            What::RedisHolds { keys } => return in_the_end(run, &others, (event.at_us, keys), account),
            _ => {}
        }
    }
    Verdict::Pass
}

fn in_the_end(
    run: &Operations<'_>,
    others: &BTreeMap<&Raw, Other<'_>>,
    (noted_us, keys): (u64, &[StoredKey]),
    account: &mut Account,
) -> Verdict {
    let violation = |key: &Raw, wrong: &str| {
        let message = format!("in the end Redis {wrong}: the key {:?}", String::from_utf8_lossy(&key.0));
        Verdict::Violation { message, ops: Vec::new() }
    };
    let by_key: BTreeMap<_, _> = keys.iter().map(|key| (&key.key, key)).collect();
    for key in keys.iter().filter(|key| key.records.is_empty()) {
        match &key.marker {
            Some(marker) if run.history.header.prefixes.contains(&marker.prefix) => {}
            _ if others.contains_key(&key.key) => {}
            _ => return violation(&key.key, "holds what is no record, no marker, and no key of another service"),
        }
    }
    let starts_at_us = run.starts_at_ms().map_or(i64::MAX, |ms| ms.saturating_mul(1_000));
    for (key, other) in others {
        let may_be_over = |&(written_us, as_what): &(u64, &StoredKey)| {
            let reads_us = run.clocks.redis(written_us, noted_us).most.saturating_add(starts_at_us);
            as_what.expires_at_ms.is_some_and(|at_ms| i64::try_from(at_ms * 1_000).is_ok_and(|at_us| at_us <= reads_us))
        };
        let is_as_written = |held: &StoredKey, (_, as_what): &(u64, &StoredKey)| {
            held.value == as_what.value && held.expires_at_ms == as_what.expires_at_ms
        };
        let last = other.written.last();
        let excuse = match (by_key.get(key), last) {
            (Some(held), Some(last)) if is_as_written(held, last) => None,
            (Some(held), _) if other.may_be_older && other.written.iter().any(|state| is_as_written(held, state)) => {
                None
            }
            (Some(_), _) => return violation(key, "holds what another service wrote, and changed"),
            (None, _) if other.may_be_older || other.is_evicted => Some(Excuse::LostData),
            (None, Some(last)) if may_be_over(last) => Some(Excuse::Expiry),
            (None, _) => return violation(key, "lacks what another service wrote"),
        };
        account.count(excuse);
    }
    Verdict::Pass
}

#[cfg(test)]
mod tests {
    use crate::{
        checker::{
            Guarantee::{Fidelity, Isolation},
            fixture::{Story, stored},
        },
        history::{Placement::Shared, Raw, StoredKey, StoredMarker, What, contents::StoredValue},
    };

    const START_MS: u64 = 1_000_000_000;

    fn key(name: &str, value: &str) -> StoredKey {
        let raw = |text: &str| Raw(text.as_bytes().to_vec());
        let value = StoredValue::String(raw(value));
        StoredKey { key: raw(name), value, expires_at_ms: None, records: Vec::new(), marker: None }
    }

    fn told(written: &[StoredKey]) -> Story {
        let mut story = Story::new(&["p"]);
        story.starts_at_ms(START_MS);
        story.event(What::OthersWrote { keys: written.to_vec() });
        story
    }

    fn in_the_end(mut story: Story, keys: &[StoredKey]) -> Story {
        story.event(What::RedisHolds { keys: keys.to_vec() });
        story
    }

    #[test]
    fn what_another_service_wrote_is_there_in_the_end_and_unchanged() {
        let theirs = [key("x", "1"), StoredKey { expires_at_ms: Some(START_MS + 60_000), ..key("y", "2") }];
        in_the_end(told(&theirs), &theirs).passes(Isolation);
        let lacks = in_the_end(told(&theirs), &theirs[1..]);
        lacks.violates(Isolation, "lacks what another service wrote: the key \"x\"", &[]);
        let wrong = "holds what another service wrote, and changed: the key";
        in_the_end(told(&theirs), &[key("x", "other"), theirs[1].clone()]).violates(Isolation, wrong, &[]);
        in_the_end(told(&theirs), &[theirs[0].clone(), key("y", "2")]).violates(Isolation, wrong, &[]);
    }

    #[test]
    fn a_key_of_another_service_may_go_where_redis_evicts_it_loses_its_data_or_ends_it() {
        let theirs = [StoredKey { expires_at_ms: Some(START_MS + 60_000), ..key("x", "1") }];
        let later = [key("x", "2")];
        let lost = |what: Option<What>| {
            let mut story = told(&theirs);
            if let Some(what) = what {
                story.event(what);
            }
            story
        };
        in_the_end(lost(Some(What::RedisLostKeys { keys: vec![theirs[0].key.clone()] })), &[]).passes(Isolation);
        in_the_end(lost(Some(What::RedisLostData)), &[]).passes(Isolation);
        for (after_us, may_be_over) in [(30_000_000, false), (60_000_000, true)] {
            let mut story = lost(None);
            story.now_us += after_us;
            let story = in_the_end(story, &[]);
            if may_be_over {
                story.passes(Isolation);
            } else {
                story.violates(Isolation, "lacks what another service wrote", &[]);
            }
        }
        for is_lost in [false, true] {
            let mut story = lost(Some(What::OthersWrote { keys: later.to_vec() }));
            if is_lost {
                story.loss();
            }
            let story = in_the_end(story, &theirs);
            if is_lost {
                story.passes(Isolation);
            } else {
                story.violates(Isolation, "and changed", &[]);
            }
        }
    }

    #[test]
    fn a_key_that_nobody_can_have_written_is_a_violation() {
        in_the_end(told(&[]), &[key("cc1:p", "1")]).violates(Isolation, "holds what is no record, no marker", &[]);
        let marker = |prefix: &str, wrong: Option<&str>| {
            let marker = StoredMarker { prefix: prefix.to_owned(), wrong: wrong.map(str::to_owned) };
            StoredKey { marker: Some(marker), ..key("cc1g:p", "1") }
        };
        in_the_end(told(&[]), &[marker("q", None)]).violates(Isolation, "holds what is no record, no marker", &[]);
        in_the_end(told(&[]), &[marker("p", None)]).passes(Isolation);
        let wrong = in_the_end(told(&[]), &[marker("p", Some("it expires"))]);
        wrong.violates(Fidelity, "the marker of prefix \"p\" is not of the documented form: it expires", &[]);
    }

    #[test]
    fn the_keys_of_records_are_judged_elsewhere() {
        let mut story = told(&[]);
        let write = story.upsert(0, "u", &["name"], Shared);
        story.redis_holds(&[stored("p", "u", &[("name", write)])]);
        story.passes(Isolation);
    }
}
