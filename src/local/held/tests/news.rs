//! Lives that a reply changes: a part that Redis lost, a removal that is news, a first word of Redis's clock.

use super::*;

#[test]
fn r5_the_part_of_a_life_that_redis_lost_is_published_again_though_all_of_its_cells_are_outdone() {
    let mut held = Held::default();
    held.join_confirmed(&upsert(5, "field", life(100, 300)), 100, 10);
    // Redis went back to an older save, and another instance wrote.
    held.take_reply(&held.clone(), &upsert(9, "field", life(120, 100)), NEVER);
    let sent = only_sent(&held);
    assert_eq!(sent.life.told, Some(life(100, 300)));
    assert_eq!(
        sent.record.cells(),
        upsert(9, "field", life(100, 300)).cells(),
        "all cells of the later write, and no earlier one"
    );
}

#[test]
fn l3_what_was_estimated_after_a_sleep_is_corrected_as_what_was_estimated_before_it_is_not() {
    let slept_ms = 13_000;
    let by = |begin_ms, ahead_ms| Estimate {
        life: life(begin_ms, 100),
        ttl_ms: Some(100),
        clock: Some(7),
        offset_ms: Some(0),
        ahead_ms,
    };
    let mut held = Held::default();
    for (number, field, estimate) in [
        (5, "before", by(5020, 0)),
        (6, "after", by(5030 + slept_ms, slept_ms)),
        (7, "too", by(5040 + slept_ms, slept_ms)),
    ] {
        held.join_pending(&upsert(number, field, estimate.life), Some(estimate));
    }
    // By the monotonic clock, which stood still.
    held.correct(&Shifts { by_clock: [(7, -5000)].into(), last: None });
    let lives: Vec<_> = held.to_send(NEVER.now_ms).iter().map(|sent| sent.life.union().unwrap()).collect();
    assert_eq!(lives, [life(20, 100), life(30, 110)]);
}

#[test]
fn l1_a_life_begins_anew_with_a_removal_that_was_not_heard_of() {
    let mut reply = upsert(9, "field", life(140, 100));
    reply.join(&Record::tombstone(stamp(7)));
    // A later write of the instance, whose answer did not tell of the removal. The second one was sent after the read: the read's answer was
    // overtaken, and does not bound the life of that write.
    for (number, own, told) in [(9, life(140, 100), life(140, 100)), (11, life(140, 400), life(100, 440))] {
        let mut held = Held::default();
        held.join_confirmed(&upsert(5, "field", life(100, 300)), 100, 10);
        held.join_confirmed(&upsert(number, "field", own), if number == 9 { 155 } else { 165 }, 10);
        // Told twice: the second time the removal is no news. Redis forgot with it when the record was first revealed.
        for _ in 0..2 {
            let asked = if number == 9 { held.clone() } else { Held::default() };
            held.take_reply(&asked, &reply, NEVER);
            assert_eq!(held.record().life(), Some(told), "{number}");
            assert!(held.to_send(NEVER.now_ms).iter().all(|sent| sent.record.cells().is_empty()), "{number}");
        }
    }
}

/// A cache that takes Redis's word for a loss publishes no copy again, also beside a write of its own.
#[test]
fn r9_a_lost_part_of_a_life_is_not_told_again_by_cells_that_are_too_old() {
    for (since_ms, again) in [(u64::MAX, false), (50, true)] {
        let mut held = Held::default();
        held.join_confirmed(&upsert(5, "copy", life(100, 300)), 100, 10);
        write(&mut held, 9, "own", life(120, 100));
        let asking = Asking { republish_since_ms: since_ms, ..NEVER };
        held.take_reply(&held.clone(), &upsert(5, "copy", life(100, 100)), asking);
        let sent = only_sent(&held).record;
        assert_eq!(sent.cells().contains_key(&CellName::metadata("copy")), again, "{since_ms}");
    }
}
