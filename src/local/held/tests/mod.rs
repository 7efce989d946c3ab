//! What is held of a record, rule by rule.

use super::*;
use crate::{
    contact::Timestamp,
    local::{held_text::HeldText, lived::Offsets},
    record::Times,
};

mod news;
mod notes;

const NEVER: Asking = Asking {
    sent_at_ms: 160,
    behind_replay: false,
    now_ms: 160,
    ended_by_ms: 161,
    republish_since_ms: 50,
    stale_ms: 10,
};

fn stamp(number: u64) -> Stamp {
    format!("{number:032x}").parse().unwrap()
}

fn name() -> CellName {
    CellName::profile("name")
}

fn record(number: u64) -> Record {
    let mut record = Record::with_times(Times::at(Timestamp::from_millis(number)));
    record.join_cell(&name(), &Cell { stamp: stamp(number), value: Some("1".into()) });
    record
}

/// An upsert of one metadata field.
fn upsert(number: u64, field: &str, life: Life) -> Record {
    let mut written = record(number);
    written.join_cell(&CellName::existence(), &Cell { stamp: stamp(number), value: None });
    written.join_cell(&CellName::metadata(field), &Cell { stamp: stamp(number), value: Some("1".into()) });
    written.living(Some(life))
}

fn life(begin_ms: u64, ttl_ms: u64) -> Life {
    Life::from_now(begin_ms, Some(ttl_ms))
}

fn estimate(life: Life) -> Estimate {
    Estimate { life, ttl_ms: Some(100), clock: None, offset_ms: None, ahead_ms: 0 }
}

fn write(held: &mut Held, number: u64, field: &str, life: Life) {
    held.join_pending(&upsert(number, field, life), Some(estimate(life)));
}

fn shows(held: &Held, field: &str, now_ms: u64) -> bool {
    let shown = held.shown_at(now_ms);
    shown.is_alive_at(now_ms) && shown.cells().contains_key(&CellName::metadata(field))
}

fn pending(number: u64) -> Held {
    let mut held = Held::default();
    held.join_pending(&record(number), None);
    held
}

fn confirmed(number: u64, at_ms: u64) -> Held {
    let mut held = Held::default();
    held.join_confirmed(&record(number), at_ms, 10);
    held
}

fn only_sent(held: &Held) -> Sent {
    let mut sent = held.to_send(NEVER.now_ms);
    assert_eq!(sent.len(), 1);
    sent.remove(0)
}

fn acknowledge(held: &mut Held, sent: &Sent) {
    held.acknowledge(sent, &Merged::Applied(Record::default()), NEVER);
}

#[test]
fn a_write_is_pending_until_exactly_it_is_acknowledged() {
    let mut held = pending(5);
    let sent = only_sent(&held);
    acknowledge(&mut held, &sent);
    assert!(!held.is_pending());
}

#[test]
fn l2_a_write_after_the_estimated_end_hides_what_was_before_and_forgets_none_of_it() {
    let mut held = Held::default();
    write(&mut held, 5, "old", life(0, 100));
    write(&mut held, 6, "new", life(150, 100));
    assert!(shows(&held, "new", 160) && !shows(&held, "old", 160));
    let [first, second] = held.to_send(NEVER.now_ms).try_into().unwrap();
    assert!(first.record.cells().contains_key(&CellName::metadata("old")));
    assert!(!second.record.cells().contains_key(&CellName::metadata("old")));
    let lives = [first.life, second.life].map(|sent| sent.union().unwrap());
    assert_eq!(lives, [life(0, 100), life(150, 100)], "each in its order, with its interval");
}

#[test]
fn l4_a_life_that_redis_says_went_on_is_one_with_the_next() {
    let mut held = Held::default();
    held.join_confirmed(&upsert(5, "old", life(0, 100)), 50, 10);
    write(&mut held, 6, "new", life(150, 100));
    assert!(!shows(&held, "old", 160));
    // Another instance had written again in time.
    let asked = held.clone();
    held.take_reply(&asked, &upsert(5, "old", life(0, 300)), NEVER);
    assert!(shows(&held, "old", 160) && shows(&held, "new", 160));
    assert_eq!(only_sent(&held).life.union(), Some(life(0, 300)));
}

#[test]
fn l5_copies_of_a_life_that_ended_before_the_present_one_are_dropped_and_pending_cells_wait_for_the_word_of_redis() {
    let mut held = Held::default();
    held.join_confirmed(&upsert(5, "old", life(0, 100)), 50, 10);
    write(&mut held, 6, "mine", life(20, 50));
    let asked = held.clone();
    let present = upsert(7, "new", life(150, 100));
    held.take_reply(&asked, &present, NEVER);
    assert!(shows(&held, "new", 160) && !shows(&held, "mine", 160) && !shows(&held, "old", 160));
    let sent = only_sent(&held);
    assert!(sent.record.cells().contains_key(&CellName::metadata("mine")));
    assert!(!sent.record.cells().contains_key(&CellName::metadata("old")));
    held.acknowledge(&sent, &Merged::Outdone(present.clone()), NEVER);
    assert!(!held.is_pending() && held.earlier.is_empty());
    assert_eq!(held.record().cells(), present.cells());
    assert_eq!(held.record().life(), present.life());
}

#[test]
fn l2_a_copy_that_has_expired_by_the_clock_of_redis_is_dropped_and_not_published_again() {
    let mut held = Held::default();
    held.join_confirmed(&upsert(5, "old", life(0, 100)), 60, 10);
    let asked = held.clone();
    let reply = Record::with_times(asked.record().times);
    held.take_reply(&asked, &reply, NEVER);
    assert!(held.record().cells().is_empty() && !held.is_pending());
}

#[test]
fn l2_a_copy_that_ended_in_redis_a_moment_ago_was_not_lost_there() {
    let mut held = Held::default();
    held.join_confirmed(&upsert(5, "old", life(0, NEVER.ended_by_ms)), 60, 10);
    let asked = held.clone();
    held.take_reply(&asked, &Record::with_times(asked.record().times), NEVER);
    assert!(held.record().cells().is_empty() && !held.is_pending());
}

#[test]
fn l5_what_is_pending_carries_no_copies_of_an_ended_life_over_into_the_next() {
    let mut held = Held::default();
    held.join_confirmed(&upsert(9, "copy", life(0, 100)), 60, 10);
    write(&mut held, 5, "mine", life(90, 100));
    // Redis, which never heard of that write, ended the life at 100 and began the next.
    held.join_placed(&upsert(12, "next", life(140, 100)), NEVER);
    assert!(shows(&held, "mine", 160) && shows(&held, "next", 160) && !shows(&held, "copy", 160));
    assert!(held.is_pending());
}

#[test]
fn a_write_whose_life_was_over_when_redis_took_it_is_dropped() {
    let mut held = Held::default();
    write(&mut held, 5, "old", life(0, 100));
    let sent = only_sent(&held);
    held.acknowledge(&sent, &Merged::Outdone(Record::with_times(held.record().times)), NEVER);
    assert!(held.record().cells().is_empty() && !held.is_pending());
}

#[test]
fn l1_the_interval_of_a_write_reaches_redis_though_all_of_its_cells_are_outdone() {
    let mut held = Held::default();
    write(&mut held, 4, "field", life(150, 100));
    let asked = held.clone();
    let newer = upsert(5, "field", life(100, 100));
    held.take_reply(&asked, &newer, NEVER);
    let sent = only_sent(&held);
    assert_eq!(sent.life.union(), Some(life(100, 150)));
    held.acknowledge(&sent, &Merged::Applied(newer.living(sent.life.union())), NEVER);
    assert!(!held.is_pending());
    assert_eq!(held.record().life(), Some(life(100, 150)));
}

#[test]
fn l1_an_interval_that_redis_lacks_brings_the_cells_of_its_life_along() {
    let mut held = Held::default();
    write(&mut held, 60, "a", life(60, 200));
    held.take_reply(&held.clone(), &upsert(70, "a", life(50, 100)), NEVER);
    let sent = only_sent(&held);
    let cell = &sent.record.cells()[&CellName::metadata("a")];
    assert_eq!((cell.stamp, sent.record.cells().len()), (stamp(70), 3), "or they would be gone with the life at 150");
    acknowledge(&mut held, &sent);
    assert!(!held.is_pending() && shows(&held, "a", 255));
}

#[test]
fn l1_a_cell_that_won_over_a_pending_one_is_sent_with_the_life_that_that_one_asked_for() {
    let asked = life(60, 200);
    let winner = upsert(70, "a", life(50, 100));
    let see = |held: &mut Held| {
        held.take_reply(&held.clone(), &winner, NEVER);
    };
    let mut seen_later = Held::default();
    write(&mut seen_later, 60, "a", asked);
    write(&mut seen_later, 80, "b", asked);
    see(&mut seen_later);
    // A write that was stamped before and given up after.
    let mut seen_before = Held::default();
    see(&mut seen_before);
    write(&mut seen_before, 60, "a", asked);
    write(&mut seen_before, 80, "b", asked);
    for mut held in [seen_later, seen_before] {
        // The life that Redis told is over by now.
        let sent = only_sent(&held);
        let cell = &sent.record.cells()[&CellName::metadata("a")];
        assert_eq!((cell.stamp, sent.life.union()), (stamp(70), Some(asked)), "the next life would begin without it");
        held.take_reply(&held.clone(), &Record::default(), NEVER);
        let sent = only_sent(&held);
        assert!(sent.record.cells().contains_key(&CellName::metadata("a")));
        acknowledge(&mut held, &sent);
        assert!(!held.is_pending() && shows(&held, "a", 255) && shows(&held, "b", 255));
    }
}

#[test]
fn l1_a_cell_that_won_is_not_sent_again_if_redis_has_told_the_life_that_was_asked_for() {
    let mut held = Held::default();
    write(&mut held, 60, "a", life(60, 100));
    write(&mut held, 80, "b", life(60, 100));
    held.take_reply(&held.clone(), &upsert(70, "a", life(50, 200)), NEVER);
    assert!(!only_sent(&held).record.cells().contains_key(&CellName::metadata("a")));
}

#[test]
fn what_redis_tells_after_its_clock_was_set_back_is_shown_and_what_it_tells_late_is_not() {
    let mut told = Held::default();
    told.join_confirmed(&upsert(5, "before", life(130, 20)), 130, 10);
    let stepped_back = upsert(6, "after", life(20, 100));
    let mut overtaken = told.clone();
    overtaken.join_confirmed(&stepped_back, 129, 10);
    assert!(shows(&overtaken, "before", 140) && !shows(&overtaken, "after", 140));
    // A write that Redis acknowledged, and a read of it, in either order.
    let mut written = told.clone();
    written.join_confirmed(&stepped_back, 155, 10);
    for mut held in [told, written] {
        held.take_reply(&held.clone(), &stepped_back, NEVER);
        assert_eq!(held.shown_at(NEVER.now_ms).cells(), stepped_back.cells(), "the life told before is over");
    }
}

#[test]
fn a_pending_cell_keeps_its_life_when_the_copies_beside_it_turn_out_to_be_over() {
    let mut held = Held::default();
    held.join_confirmed(&upsert(4, "copy", life(60, 40)), 60, 10);
    write(&mut held, 5, "mine", life(90, 40));
    // Redis lost its data, and both lives are over by now.
    held.reclaim_all(50);
    let parts = held.to_send(NEVER.now_ms);
    assert_eq!(parts.len(), 2, "each with its own life");
    held.acknowledge(&parts[0], &Merged::Outdone(Record::default()), NEVER);
    assert_eq!(only_sent(&held).life.union(), Some(life(90, 40)));
    held.join_confirmed(&upsert(6, "next", life(160, 40)), 160, 10);
    assert!(shows(&held, "next", 160) && !shows(&held, "mine", 160));
}

#[test]
fn an_acknowledgement_that_a_later_answer_overtook_shortens_no_life() {
    let mut held = Held::default();
    write(&mut held, 5, "field", life(140, 100));
    let sent = only_sent(&held);
    // Sent behind it, and read first.
    held.join_confirmed(&upsert(6, "other", life(140, 120)), NEVER.sent_at_ms, 10);
    acknowledge(&mut held, &sent);
    assert!(held.latest.notes().values().all(|note| !note.pending));
    assert_eq!(held.record().life(), Some(life(140, 120)));
}

#[test]
fn what_redis_tells_after_its_clock_was_set_back_is_shown_beside_what_is_pending() {
    let mut held = Held::default();
    write(&mut held, 5, "mine", life(155, 100));
    held.take_reply(&held.clone(), &upsert(4, "theirs", life(20, 100)), NEVER);
    assert!(shows(&held, "mine", 110) && shows(&held, "theirs", 110));
    assert!(held.is_pending());
}

#[test]
fn r5_the_part_of_a_life_that_redis_lost_is_published_again() {
    let mut held = Held::default();
    held.join_confirmed(&upsert(5, "field", life(100, 300)), 100, 10);
    let asked = held.clone();
    held.take_reply(&asked, &upsert(5, "field", life(100, 100)), NEVER);
    assert_eq!(only_sent(&held).life.told, Some(life(100, 300)));
    assert_eq!(held.record().life(), Some(life(100, 300)));
}

#[test]
fn a_removal_in_redis_is_not_the_end_of_the_life_of_the_copies_beside_what_it_covers() {
    let mut held = Held::default();
    held.join_confirmed(&upsert(9, "copy", life(100, 300)), 100, 10);
    let sent_cells = upsert(5, "mine", life(120, 100));
    held.join_pending(&sent_cells, Some(estimate(life(120, 100))));
    let sent = only_sent(&held);
    // The removal covers the cell, not the existence of the later write, which Redis had lost.
    let mut whole = sent.record.clone();
    whole.join(&Record::tombstone(stamp(7)));
    held.acknowledge(&sent, &Merged::Outdone(whole), NEVER);
    assert!(shows(&held, "copy", 160) && !shows(&held, "mine", 160));
}

#[test]
fn a_write_given_up_late_does_not_join_the_life_that_began_after_its_own() {
    let mut held = Held::default();
    write(&mut held, 6, "new", life(150, 100));
    write(&mut held, 5, "late", life(20, 100));
    assert!(shows(&held, "new", 160) && !shows(&held, "late", 160));
    let lives: Vec<_> = held.to_send(NEVER.now_ms).iter().map(|sent| sent.life.union().unwrap()).collect();
    assert_eq!(lives, [life(20, 100), life(150, 100)]);
}

#[test]
fn l3_what_was_estimated_before_the_first_contact_is_corrected_at_it() {
    let mut held = Held::default();
    held.join_confirmed(&upsert(5, "told", life(0, 100)), 50, 10);
    let wrong = life(20, 100).shifted(5000);
    let offsets = |before_ms, told_ms| Some(Offsets { before_ms, told_ms });
    let provisional = |offset_ms| Estimate { life: wrong, ttl_ms: Some(100), clock: Some(7), offset_ms, ahead_ms: 0 };
    let met = [(7, -5000)].into();
    let another_met = || [(8, 1)].into();
    for (offset_ms, by_clock, last) in [
        (Some(9), met, offsets(1, 2)),
        // It never met Redis itself: by the offset that it assumed, and not by that of the openings in between.
        (Some(2000), another_met(), offsets(2000, -3000)),
        (Some(2000), another_met(), offsets(77, -3000)),
        (None, another_met(), offsets(77, -4923)),
    ] {
        let mut held = held.clone();
        held.join_pending(&upsert(6, "new", wrong), Some(provisional(offset_ms)));
        assert!(held.is_provisional());
        held.correct(&Shifts { by_clock, last });
        assert!(!held.is_provisional());
        assert_eq!(only_sent(&held).life.union(), Some(life(20, 100)));
        assert!(shows(&held, "told", 60) && shows(&held, "new", 60), "one life after all");
    }
    held.join_pending(&upsert(6, "new", wrong), Some(provisional(Some(0))));
    held.correct(&Shifts::default());
    assert!(held.is_provisional(), "its author has not met redis yet");
}

#[test]
fn a_removal_covers_the_lives_before_and_is_sent_with_the_first() {
    let mut held = Held::default();
    write(&mut held, 5, "old", life(0, 100));
    held.join_pending(&Record::tombstone(stamp(6)), None);
    assert!(only_sent(&held).life.union().is_none());
    write(&mut held, 7, "mid", life(50, 100));
    write(&mut held, 8, "new", life(250, 100));
    let [first, second] = held.to_send(NEVER.now_ms).try_into().unwrap();
    let fields = |sent: &Sent| sent.record.cells().keys().map(|name| name.field().to_owned()).collect::<Vec<_>>();
    assert_eq!(fields(&first), ["d", "e", "mmid", "pname"]);
    assert_eq!(fields(&second), ["d", "e", "mnew", "pname"]);
    for sent in [first, second] {
        acknowledge(&mut held, &sent);
    }
    assert!(!held.is_pending());
    held.join_pending(&Record::tombstone(stamp(9)), None);
    assert!(held.earlier.is_empty() && held.record().existence().is_none());
}

#[test]
fn acknowledged_lives_become_copies_of_the_one_that_redis_holds() {
    let mut held = Held::default();
    write(&mut held, 5, "old", life(0, 100));
    write(&mut held, 6, "new", life(150, 100));
    let [first, second] = held.to_send(NEVER.now_ms).try_into().unwrap();
    let told = |number, life| Merged::Applied(upsert(number, "other", life));
    held.acknowledge(&first, &told(5, life(0, 400)), NEVER);
    assert!(held.earlier.is_empty() && held.is_pending() && shows(&held, "old", 180));
    held.acknowledge(&second, &told(6, life(0, 400)), NEVER);
    assert!(!held.is_pending() && shows(&held, "new", 390));
    assert_eq!(held.record().life(), Some(life(0, 400)));
}

#[test]
fn r8_an_acknowledgement_of_an_older_stamp_clears_nothing() {
    let mut held = pending(5);
    let sent = only_sent(&held);
    held.join_pending(&record(6), None);
    acknowledge(&mut held, &sent);
    // The cell, and not the times alone.
    assert_eq!(only_sent(&held).record.cells(), record(6).cells());
}

#[test]
fn r8_an_acknowledgement_sent_before_the_last_marking_clears_nothing() {
    let mut held = pending(5);
    let sent = only_sent(&held);
    held.reclaim_all(0);
    acknowledge(&mut held, &sent);
    assert!(held.is_pending());
}

#[test]
fn r8_what_redis_lacks_although_it_was_sent_before_is_not_cleared_by_that_acknowledgement() {
    for behind_replay in [true, false] {
        let mut held = pending(5);
        let (sent, asked) = (only_sent(&held), held.clone());
        held.take_reply(&asked, &Record::default(), Asking { behind_replay, ..NEVER });
        acknowledge(&mut held, &sent);
        assert_eq!(held.is_pending(), behind_replay);
    }
}

#[test]
fn r5_what_redis_lacks_of_what_was_held_when_it_was_asked_is_pending_again() {
    let mut held = confirmed(5, 100);
    let asked = held.clone();
    held.take_reply(&asked, &Record::default(), NEVER);
    assert!(held.is_pending());
    assert_eq!(only_sent(&held).record, record(5));
}

#[test]
fn r5_what_is_published_again_carries_its_life() {
    let mut held = Held::default();
    held.join_confirmed(&upsert(5, "field", life(0, 500)), 100, 10);
    let asked = held.clone();
    held.take_reply(&asked, &Record::default(), NEVER);
    let sent = only_sent(&held);
    assert_eq!((sent.life.told, sent.life.estimated), (Some(life(0, 500)), None));
    assert_eq!(sent.record, *asked.record());
}

#[test]
fn r5_the_times_of_a_removed_record_are_told_to_a_redis_that_forgot_them() {
    let mut held = confirmed(5, 100);
    held.join_confirmed(&Record::tombstone(stamp(6)), 100, 10);
    let asked = held.clone();
    held.take_reply(&asked, &Record::tombstone(stamp(6)), NEVER);
    assert_eq!(only_sent(&held).record.times, record(5).times);
    assert!(held.is_pending());
}

#[test]
fn r7_what_came_after_the_question_is_no_excess() {
    let mut held = confirmed(5, 100);
    held.take_reply(&Held::default(), &Record::default(), NEVER);
    assert!(!held.is_pending());
}

#[test]
fn r9_a_copy_confirmed_too_long_ago_yields_to_redis() {
    let mut held = confirmed(5, 100);
    let asked = held.clone();
    let mut reply = Record::with_times(asked.record().times);
    reply.join_cell(&CellName::tombstone(), &Cell { stamp: stamp(4), value: None });
    held.take_reply(&asked, &reply, Asking { republish_since_ms: 101, ..NEVER });
    assert!(!held.is_pending() && !held.record().cells().contains_key(&name()));
}

#[test]
fn r9_the_times_of_copies_that_yield_do_so_too() {
    for (republish_since_ms, is_told_again) in [(100, true), (101, false), (u64::MAX, false)] {
        let mut held = confirmed(5, 100);
        let asked = held.clone();
        // Redis lost the record; all that it has since is a removal.
        let mut reply = Record::default();
        reply.join_cell(&CellName::tombstone(), &Cell { stamp: stamp(7), value: None });
        held.take_reply(&asked, &reply, Asking { republish_since_ms, ..NEVER });
        assert_eq!(held.is_pending(), is_told_again, "{republish_since_ms}");
        assert_eq!(reply.covers(held.record()), !is_told_again, "{republish_since_ms}");
    }
}

#[test]
fn r9_a_pending_cell_is_published_however_old() {
    let mut held = pending(5);
    held.reclaim_all(u64::MAX);
    assert_eq!(only_sent(&held).record, record(5));
}

#[test]
fn r6_a_new_generation_marks_young_copies_and_leaves_old_ones() {
    let mut young = confirmed(5, 100);
    young.reclaim_all(100);
    assert_eq!(only_sent(&young).record, record(5));
    let mut old = confirmed(5, 99);
    old.reclaim_all(100);
    assert!(only_sent(&old).record.cells().is_empty());
}

#[test]
fn r6_copies_of_a_life_that_is_over_by_the_own_estimate_are_marked_as_well() {
    let mut held = Held::default();
    held.join_confirmed(&upsert(5, "old", life(0, 100)), 100, 10);
    write(&mut held, 6, "new", life(150, 100));
    held.reclaim_all(100);
    assert_eq!(held.to_send(NEVER.now_ms).len(), 2);
}

#[test]
fn a_read_that_tells_nothing_new_changes_nothing_until_the_copy_is_stale() {
    let mut held = confirmed(5, 100);
    let before = held.clone();
    assert_eq!(held.settled_until_ms(10), Some(110));
    held.join_confirmed(&record(5), 110, 10);
    assert_eq!(held, before);
    held.join_confirmed(&record(5), 111, 10);
    assert_ne!(held, before);
}

#[test]
fn what_is_pending_or_partial_is_never_settled() {
    let mut pending = confirmed(5, 100);
    pending.join_pending(&record(6), None);
    assert_eq!(pending.settled_until_ms(10), None);
    assert_eq!(Held::forgotten().settled_until_ms(10), None);
    assert_eq!(Held::default().settled_until_ms(10), Some(u64::MAX));
}

#[test]
fn it_comes_back_from_its_form_on_disk() {
    let mut held = confirmed(5, 100);
    held.join_confirmed(&upsert(6, "told", life(0, 100)), 100, 10);
    write(&mut held, 7, "old", life(20, 100));
    write(&mut held, 8, "new", life(150, 100));
    held.reclaim_all(0);
    let text = serde_json::to_string(&held).unwrap();
    let back: Held = serde_json::from_str::<HeldText>(&text).unwrap().try_into().unwrap();
    assert_eq!(back, held);
}

#[test]
fn the_form_of_before_had_a_deadline_alone() {
    let stamp = stamp(5);
    let text = format!(r#"{{"cells":{{"e":"{stamp}0000000000064","mx":"{stamp}1"}},"pending":["e","mx"]}}"#);
    let held: Held = serde_json::from_str::<HeldText>(&text).unwrap().try_into().unwrap();
    assert!(shows(&held, "x", 99) && !shows(&held, "x", 100));
    assert_eq!(only_sent(&held).life.union(), Some(life(0, 100)));
}
