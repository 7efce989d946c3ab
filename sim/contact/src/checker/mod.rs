//! The judges: pure functions from a history to verdicts, one file a guarantee.
//!
//! They share `operations`, which pairs calls with returns, and `cells`, which takes records apart. None of them
//! calls the code that it judges. A write is known by the unique tag in its values; stamps are only a cross-check.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use serde::{Deserialize, Serialize};

use crate::history::History;
use operations::Operations;

pub use account::{Account, Excuse};

mod account;
mod atomic;
mod availability;
mod bounded;
mod cells;
mod changed;
mod clocks;
mod convergence;
mod cuts;
mod deadlines;
mod demands;
mod durability;
mod evidence;
mod excuses;
mod expiry;
mod fidelity;
mod integrity;
mod isolation;
mod kept;
mod latency;
mod life;
mod linearizable;
mod listing;
mod lives;
mod object;
mod operation;
mod operations;
mod order;
mod others;
mod overdue;
mod part;
mod record;
mod recovery;
mod register;
mod returned;
mod session;
mod sources;
mod span;
mod staying;
mod stored;
mod times;
mod timestamp;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod model;

/// What a checker found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Everything that was judged held.
    Pass,
    /// It cannot be said.
    Unknown {
        /// Why not.
        why: String,
    },
    /// The guarantee was broken.
    Violation {
        /// What happened, for a reader who has not seen the history.
        message: String,
        /// The numbers of the operations that show it, ascending by call.
        ops: Vec<u64>,
    },
}

impl Verdict {
    /// The worse of the two, violation before unknown before pass; of two equally bad ones the first.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        if other.badness() > self.badness() { other } else { self }
    }

    fn badness(&self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Unknown { .. } => 1,
            Self::Violation { .. } => 2,
        }
    }
}

/// What is guaranteed, by its number in the design.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guarantee {
    /// G1: what is written comes back equal from every tier.
    Fidelity,
    /// G2: operations answered `Shared` behave as one copy of each record.
    Linearizable,
    /// G3: no one sees half of an upsert.
    Atomic,
    /// G4: in the end all instances hold the same.
    Convergence,
    /// G5: no acknowledged write is lost.
    Durability,
    /// G6: an instance reads its own writes and never goes back.
    Session,
    /// G7: a prefix never sees or clears another's data.
    Isolation,
    /// G8: every call returns within its deadline.
    Latency,
    /// G9: when Redis is back, every instance is connected and drained.
    Recovery,
    /// G10: damage to a local store is noticed, set aside and reported.
    Integrity,
    /// G11: what an instance holds has limits, and nothing is left when it is closed.
    Resources,
    /// G12: a record that is there throughout a `list` is listed, once.
    Listing,
    /// G13: an instance that can reach a working Redis uses it.
    Availability,
}

impl Guarantee {
    /// All that are judged, in the order of their numbers.
    pub const ALL: [Self; 13] = [
        Self::Fidelity,
        Self::Linearizable,
        Self::Atomic,
        Self::Convergence,
        Self::Durability,
        Self::Session,
        Self::Isolation,
        Self::Latency,
        Self::Recovery,
        Self::Integrity,
        Self::Resources,
        Self::Listing,
        Self::Availability,
    ];

    /// Whether it holds whatever happens. G5 does not: nobody has a copy of a write where Redis loses its data after the
    /// instance that wrote it has crashed, or while its disk fails. Nor does G6, for the same reads.
    fn holds_beyond_budget(self) -> bool {
        !matches!(self, Self::Durability | Self::Session)
    }

    /// Whether its checker must know writes by their tags.
    fn needs_tags(self) -> bool {
        match self {
            Self::Fidelity
            | Self::Linearizable
            | Self::Atomic
            | Self::Durability
            | Self::Session
            | Self::Isolation
            | Self::Integrity => true,
            Self::Convergence
            | Self::Latency
            | Self::Recovery
            | Self::Resources
            | Self::Listing
            | Self::Availability => false,
        }
    }

    fn judge(self, run: &Operations<'_>, account: &mut Account) -> Verdict {
        match self {
            Self::Fidelity => {
                // The times of a record can be read only if it has the documented form.
                match fidelity::check(run, account) {
                    Verdict::Pass => times::check(run, account).merge(deadlines::check(run, account)),
                    wrong => wrong,
                }
            }
            Self::Linearizable => demands::check(run, account).merge(linearizable::check(run, account)),
            Self::Atomic => atomic::check(run, account),
            Self::Convergence => convergence::check(run, account),
            Self::Durability => durability::check(run, account),
            Self::Session => returned::check(run, account).merge(session::check(run, account)),
            Self::Isolation => others::check(run, account).merge(isolation::check(run, account)),
            Self::Latency => latency::check(run, account),
            Self::Recovery => recovery::check(run, account),
            Self::Integrity => integrity::check(run, account),
            Self::Resources => bounded::check(run, account),
            Self::Listing => listing::check(run, account),
            Self::Availability => availability::check(run, account),
        }
    }

    /// What its account counts.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Fidelity => "records shown",
            Self::Linearizable => "reads answered Shared",
            Self::Atomic => "reads",
            Self::Convergence => "final reads and copies",
            Self::Durability => "acknowledged writes",
            Self::Session => "answers about a record",
            Self::Isolation => "answers and records",
            Self::Latency | Self::Availability => "calls",
            Self::Recovery => "instances",
            Self::Integrity => "store reports",
            Self::Resources => "holdings",
            Self::Listing => "records at a list",
        }
    }
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fidelity => "G1 fidelity",
            Self::Linearizable => "G2 linearizable",
            Self::Atomic => "G3 atomic upsert",
            Self::Convergence => "G4 convergence",
            Self::Durability => "G5 durability",
            Self::Session => "G6 session",
            Self::Isolation => "G7 isolation",
            Self::Latency => "G8 bounded latency",
            Self::Recovery => "G9 recovery",
            Self::Integrity => "G10 integrity",
            Self::Resources => "G11 bounded resources",
            Self::Listing => "G12 listing",
            Self::Availability => "G13 availability",
        })
    }
}

/// The verdict on one guarantee.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// Which.
    pub guarantee: Guarantee,
    /// What was found.
    pub verdict: Verdict,
    /// What was looked at, by what became of it: where the verdict rests on fewer than it seems, it shows here.
    #[serde(default, skip_serializing_if = "Account::is_empty")]
    pub account: Account,
}

/// Judges every guarantee that holds under the faults of the history, in the order of [`Guarantee::ALL`]. The verdict of a checker that
/// panics is unknown.
pub fn judge(history: &History) -> Vec<Judgement> {
    let held = |guarantee: &Guarantee| !history.header.beyond_budget || guarantee.holds_beyond_budget();
    judge_each(&Guarantee::ALL.into_iter().filter(held).collect::<Vec<_>>(), history)
}

/// Judges one guarantee, as [`judge`] does.
pub fn check(guarantee: Guarantee, history: &History) -> Verdict {
    judge_each(&[guarantee], history).remove(0).verdict
}

fn judge_each(guarantees: &[Guarantee], history: &History) -> Vec<Judgement> {
    let run = caught(|| Operations::of(history));
    let judgement = |&guarantee: &Guarantee| {
        let judged = run.as_ref().map_err(Clone::clone).and_then(|run| caught(|| judge_indexed(guarantee, run)));
        let (verdict, account) = judged.unwrap_or_else(|why| (Verdict::Unknown { why }, Account::default()));
        Judgement { guarantee, verdict, account }
    };
    guarantees.iter().map(judgement).collect()
}

fn judge_indexed(guarantee: Guarantee, run: &Operations<'_>) -> (Verdict, Account) {
    let mut account = Account::default();
    let untagged = run.untagged.as_ref().filter(|_| guarantee.needs_tags());
    let verdict = match run.malformed.as_ref().or(untagged) {
        Some(why) => Verdict::Unknown { why: format!("the history cannot be judged: {why}") },
        None => guarantee.judge(run, &mut account),
    };
    (verdict, account)
}

/// What `judge` returns, or what it said when it panicked.
fn caught<T>(judge: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(judge)).map_err(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        format!("the checker panicked: {said}")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        faults::Fault,
        history::{
            Call, Phase,
            Placement::{Local, Shared},
            Source, Stop, What,
        },
    };
    use fixture::Story;

    /// A run with a bit of everything that is legal.
    fn eventful() -> Story {
        let mut story = Story::new(&["a", "a", "a:b"]);
        story.phase(Phase::Faults);
        story.fault(Fault::ResetConnections { instances: vec![0, 1, 2] });
        let first = story.upsert(0, "u", &["name", "@x", "#source"], Shared);
        let foreign = story.upsert(2, "u", &["name"], Shared);
        story.get(1, "u", Source::Shared, &[("name", first), ("@x", first), ("#source", first)]);
        let second = story.upsert(1, "u", &["name"], Local);
        story.get(1, "u", Source::Merged, &[("name", second), ("@x", first), ("#source", first)]);
        story.upsert_begins(0, "v", &["name"]);
        story.stop(0, Stop::Killed);
        story.loss();
        story.list(2, Source::Shared, &["u"]);
        story.phase(Phase::Quiesce);
        for instance in 0..3 {
            story.event(What::State { instance, state: "connected".to_owned() });
        }
        story.phase(Phase::FinalReads);
        for instance in 0..2 {
            story.get(instance, "u", Source::Shared, &[("name", second), ("@x", first), ("#source", first)]);
            story.get_none(instance, "v", Source::Shared);
        }
        story.get(2, "u", Source::Shared, &[("name", foreign)]);
        story
    }

    #[test]
    fn a_legal_run_passes_every_guarantee() {
        for judgement in judge(&eventful().told()) {
            assert_eq!(judgement.verdict, Verdict::Pass, "{}", judgement.guarantee);
        }
    }

    #[test]
    fn each_guarantee_is_judged_once_in_order() {
        let judged: Vec<_> = judge(&eventful().told()).iter().map(|judgement| judgement.guarantee).collect();
        assert_eq!(judged, Guarantee::ALL);
        assert!(judged.is_sorted());
        assert_eq!(Guarantee::Listing.to_string(), "G12 listing");
        assert_eq!(Guarantee::Availability.to_string(), "G13 availability");
    }

    #[test]
    fn beyond_the_budget_only_what_still_holds_is_judged() {
        let mut history = eventful().told();
        history.header.beyond_budget = true;
        let judged: Vec<_> = judge(&history).iter().map(|judgement| judgement.guarantee).collect();
        assert!(!judged.contains(&Guarantee::Durability) && judged.contains(&Guarantee::Convergence), "{judged:?}");
    }

    #[test]
    fn a_checker_that_panics_leaves_its_guarantee_unknown() {
        let why = caught(|| -> (Verdict, Account) { panic!("no such cell: {}", 7) }).expect_err("it panicked");
        assert_eq!(why, "the checker panicked: no such cell: 7");
    }

    #[test]
    fn verdicts_merge_worst_first() {
        let unknown = Verdict::Unknown { why: "too hard".to_owned() };
        let violation = |op| Verdict::Violation { message: "stale".to_owned(), ops: vec![op] };
        assert_eq!(Verdict::Pass.merge(unknown.clone()), unknown);
        assert_eq!(unknown.clone().merge(violation(1)), violation(1));
        assert_eq!(violation(1).merge(unknown), violation(1));
        assert_eq!(violation(1).merge(violation(2)), violation(1));
    }

    #[test]
    fn a_history_that_contradicts_itself_is_unknown_to_all() {
        let mut twice = eventful();
        twice.got_none(3, Source::Shared);
        let mut stranger = eventful();
        stranger.event(What::Invoke { instance: 3, op: 99, call: Call::List.into() });
        let mut unasked = eventful();
        let list = unasked.begin(0, Call::List);
        unasked.got_none(list, Source::Shared);
        for (story, said) in [(twice, "is not running"), (stranger, "header"), (unasked, "did not ask for")] {
            for guarantee in Guarantee::ALL {
                story.leaves_unknown(guarantee, said);
            }
        }
        let mut shuffled = eventful().told();
        shuffled.events.swap(1, 2);
        let mut newer = eventful().told();
        newer.header.format += 1;
        for history in [shuffled, newer] {
            assert!(matches!(check(Guarantee::Latency, &history), Verdict::Unknown { .. }));
        }
    }

    #[test]
    fn writes_that_cannot_be_told_apart_leave_unknown_what_needs_it() {
        let mut story = eventful();
        let patch = serde_json::from_value(json!({"profile": {"name": "A"}})).expect("a patch");
        let refused = story.begin(0, Call::upsert("u", patch));
        let mut acknowledged = eventful();
        let patch = serde_json::from_value(json!({"profile": {"name": ["a", "u", 1]}})).expect("a patch");
        let again = acknowledged.begin(0, Call::upsert("u", patch));
        acknowledged.written(again, Shared);
        acknowledged.leaves_unknown(Guarantee::Linearizable, "two upserts write the tag 1");
        acknowledged.passes(Guarantee::Convergence);
        story.leaves_unknown(Guarantee::Fidelity, "without a tag");
        story.fail(refused, "refused: no tag");
        story.passes(Guarantee::Fidelity);
    }
}
