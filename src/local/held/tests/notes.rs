//! What the notes of each cell decide: what is sent, what an acknowledgement clears, how old a copy counts as, and which
//! limit it counts against.

use super::*;

/// An answer to a request of that moment, which makes every copy stale that is older than 10 ms.
fn asked_at(sent_at_ms: u64) -> Asking {
    Asking { sent_at_ms, now_ms: sent_at_ms, ended_by_ms: sent_at_ms, republish_since_ms: 0, ..NEVER }
}

fn names(record: &Record) -> Vec<&str> {
    record.cells().keys().map(CellName::field).collect()
}

/// Cells without a life of their own, which are all that these tests are about.
fn cells(number: u64, fields: &[&str]) -> Record {
    let mut record = Record::default();
    for field in fields {
        let cell = Cell { stamp: stamp(number), value: Some(number.to_string().into()) };
        record.join_cell(&CellName::metadata(field), &cell);
    }
    record
}

fn endless(number: u64, fields: &[&str]) -> Record {
    let mut written = cells(number, fields);
    written.join_cell(&CellName::existence(), &Cell { stamp: stamp(number), value: None });
    written.living(Some(Life::from_now(0, None)))
}

#[test]
fn r8_an_acknowledgement_clears_each_cell_up_to_the_stamp_that_was_sent_and_no_other() {
    let mut held = Held::default();
    held.join_pending(&cells(5, &["kept", "again"]), None);
    let sent = only_sent(&held);
    // While it is under way one of them is written again, and one that was not sent.
    held.join_pending(&cells(6, &["again", "new"]), None);
    acknowledge(&mut held, &sent);
    assert_eq!(names(&only_sent(&held).record), ["magain", "mnew"]);
    let sent = only_sent(&held);
    acknowledge(&mut held, &sent);
    assert!(!held.is_pending());
}

#[test]
fn r8_an_acknowledgement_of_a_removal_clears_no_later_removal() {
    let mut held = Held::default();
    held.join_pending(&Record::tombstone(stamp(5)), None);
    let sent = only_sent(&held);
    held.join_pending(&Record::tombstone(stamp(6)), None);
    acknowledge(&mut held, &sent);
    assert_eq!(only_sent(&held).record, Record::tombstone(stamp(6)));
}

#[test]
fn r8_an_acknowledgement_of_older_times_clears_no_later_times() {
    let at = |ms| Record::with_times(Times::at(Timestamp::from_millis(ms)));
    let mut held = Held::default();
    held.join_pending(&at(5), None);
    let sent = only_sent(&held);
    held.join_pending(&at(6), None);
    acknowledge(&mut held, &sent);
    assert_eq!((held.is_pending(), only_sent(&held).record.times.last), (true, at(6).times.last));
    let sent = only_sent(&held);
    acknowledge(&mut held, &sent);
    assert!(!held.is_pending());
}

#[test]
fn r9_a_reply_confirms_every_cell_anew_but_a_removal() {
    let mut seen = endless(6, &["a", "b"]);
    seen.join_cell(&CellName::tombstone(), &Cell { stamp: stamp(5), value: None });
    let mut held = Held::default();
    held.join_confirmed(&seen, 100, 10);
    let (mut placed, mut read) = (held.clone(), held.clone());
    placed.join_placed(&seen, asked_at(200));
    read.take_reply(&held, &seen, asked_at(200));
    held.join_confirmed(&seen, 200, 10);
    for held in [held, placed, read] {
        let confirmed: Vec<_> = held.notes().map(|(name, note)| (name.field(), note.confirmed_at_ms)).collect();
        assert_eq!(confirmed, [("d", 100), ("e", 200), ("ma", 200), ("mb", 200)]);
    }
}

/// Two readers that have seen a removal show it to each other for as long as they live.
#[test]
fn r9_a_removal_that_redis_has_forgotten_is_published_for_a_while_and_then_no_more() {
    let removal = Record::tombstone(stamp(5));
    let mut held = Held::default();
    held.join_confirmed(&removal, 100, 10);
    for now_ms in (200..2000).step_by(100) {
        let asked = held.clone();
        held.take_reply(&asked, &removal, asked_at(now_ms));
    }
    let mut lost = held.clone();
    lost.reclaim_all(101);
    assert!(!lost.is_pending(), "seen again is not removed again");
    let asked = held.clone();
    held.take_reply(&asked, &Record::default(), Asking { republish_since_ms: 101, ..asked_at(2000) });
    assert!(held.is_blank(), "it yields to a redis that knows of none: {held:?}");
}

#[test]
fn r9_each_cell_is_as_old_as_its_own_confirmation() {
    let mut held = Held::default();
    held.join_confirmed(&endless(5, &["old"]), 100, 10);
    held.join_confirmed(&cells(6, &["young"]), 200, 10);
    assert_eq!((held.oldest_confirmed_ms(), held.newest_confirmed_ms()), (Some(100), 200));
    held.reclaim_all(150);
    let sent = only_sent(&held);
    assert_eq!(names(&sent.record), ["e", "myoung"], "what is sent carries its life: {sent:?}");
    // A write that is pending was never older than now, and says nothing of the copies beside it.
    held.join_pending(&cells(7, &["old", "young"]), None);
    assert_eq!((held.oldest_confirmed_ms(), held.newest_confirmed_ms()), (Some(100), 100));
}

#[test]
fn r9_what_is_published_again_is_marked_from_the_moment_on_and_not_after_it() {
    for (since_ms, is_published) in [(99, true), (100, true), (101, false)] {
        let mut generation = Held::default();
        generation.join_confirmed(&cells(5, &["a"]), 100, 10);
        let mut read = generation.clone();
        generation.reclaim_all(since_ms);
        let asked = read.clone();
        read.take_reply(&asked, &Record::default(), Asking { republish_since_ms: since_ms, ..NEVER });
        assert_eq!((generation.is_pending(), read.is_pending()), (is_published, is_published), "{since_ms}");
    }
}

#[test]
fn a_record_removed_and_written_again_is_sent_with_its_removal() {
    let mut held = Held::default();
    held.join_confirmed(&endless(4, &["old"]), 100, 10);
    held.join_pending(&Record::tombstone(stamp(5)), None);
    held.join_pending(&endless(6, &["new"]), Some(Estimate { ttl_ms: None, ..estimate(Life::from_now(0, None)) }));
    assert_eq!(names(&only_sent(&held).record), ["d", "e", "mnew"]);
    // Lives that have an end: before and after the removal, and the second over by what redis told.
    let mut held = Held::default();
    write(&mut held, 4, "old", life(0, 100));
    held.join_pending(&Record::tombstone(stamp(5)), None);
    write(&mut held, 6, "new", life(50, 60));
    held.latest.extend_told(life(40, 70));
    write(&mut held, 7, "newer", life(105, 200));
    held.reclaim_all(0);
    let sent = held.to_send(NEVER.now_ms);
    assert!(!sent.is_empty());
    assert!(names(&sent[0].record).contains(&"d"), "it goes with the first: {sent:?}");
    assert!(sent.iter().all(|sent| !names(&sent.record).contains(&"mold")), "{sent:?}");
    let told: Vec<_> = sent.iter().flat_map(|sent| names(&sent.record)).collect();
    assert!(told.contains(&"mnew") && told.contains(&"mnewer"), "{sent:?}");
}

#[test]
fn a_removal_beside_two_lives_of_which_one_is_over_is_sent_with_the_first() {
    let mut held = Held::default();
    let mut seen = upsert(6, "told", life(0, 100));
    seen.join_cell(&CellName::tombstone(), &Cell { stamp: stamp(5), value: None });
    held.join_confirmed(&seen, 100, 10);
    write(&mut held, 7, "own", life(50, 200));
    // Redis lost all of it, and what it had told is over.
    held.reclaim_all(0);
    let [first, second] = held.to_send(NEVER.now_ms).try_into().unwrap();
    assert_eq!(names(&first.record), ["d", "e", "mtold"]);
    assert!(names(&second.record).contains(&"mown"));
}

#[test]
fn what_was_forgotten_is_whole_again_by_a_reply_or_a_removal_alone() {
    let mut read = Held::forgotten();
    read.join_pending(&cells(5, &["mine"]), None);
    assert!(read.is_partial());
    let sent = only_sent(&read);
    acknowledge(&mut read, &sent);
    read.join_confirmed(&cells(6, &["another"]), 100, 10);
    assert!(read.is_partial(), "what a write is told need not be all");
    assert_eq!(read.settled_until_ms(10), None);
    let mut removed = read.clone();
    removed.join_pending(&Record::tombstone(stamp(7)), None);
    let asked = read.clone();
    read.take_reply(&asked, &cells(6, &["another"]), NEVER);
    assert!(!read.is_partial() && !removed.is_partial());
    // Also if redis has it no more.
    let mut absent = Held::forgotten();
    absent.take_reply(&Held::forgotten(), &Record::default(), NEVER);
    assert!(!absent.is_partial());
}

#[test]
fn only_what_redis_never_acknowledged_counts_against_the_limit_of_what_is_pending() {
    let weight = |held: &Held| (held.weight().owed > 0, held.weight().copied > 0);
    let mut held = Held::default();
    held.join_pending(&cells(5, &["a"]), None);
    assert_eq!(weight(&held), (true, false));
    let alone = held.weight().owed;
    let sent = only_sent(&held);
    acknowledge(&mut held, &sent);
    assert_eq!((weight(&held), held.weight().copied), ((false, true), alone), "the same bytes, as a copy");
    held.reclaim_all(0);
    assert!(held.is_pending() && !held.is_owed());
    assert_eq!(weight(&held), (false, true), "published again, it is a copy still");
    held.join_pending(&cells(6, &["b"]), None);
    assert_eq!((weight(&held), held.is_owed()), ((true, true), true));
    assert!(held.weight().owed < 2 * alone, "the copy beside it counts as one");
}
