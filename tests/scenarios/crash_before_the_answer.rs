//! The process dies between the moment at which a write is on its disk and the moment at which its caller hears so. The
//! caller does not know, and writes again after the restart. In journals this instant makes duplicates, entries that the
//! recovery drops because "nobody was told", and torn ends that cannot be opened any more (laurus, issue 814; VelesDB,
//! 1011).
//!
//! Here the write is there, whole, or not there at all. If its caller heard of it, it is there. Writing it again changes
//! nothing but its stamp, and both come to one record in Redis.

use std::{cell::Cell, time::Duration};

use contact_cache::{ContactPoint, Patch, Placement, Source};
use futures_util::future::{Either, select};
use seedbed_contact::history::Stop;
use serde_json::{Map, Value as Json, json};

use crate::{
    fleet::{Fleet, play_seeds},
    stage::{Stage, uid},
};

/// A local write takes a millisecond at most: a write to the log and a sync.
const INSTANTS_US: std::ops::Range<u64> = 0..1_200;

fn contact(number: usize) -> Patch {
    let points = [("email", "d@example.org"), ("phone", "1")];
    let points = points.map(|(kind, value)| ContactPoint { kind: kind.into(), value: value.into(), rest: Map::new() });
    let mut patch = Patch { contacts: points.into(), ..Patch::default() };
    patch.profile.insert("number".into(), json!(number));
    patch
}

#[test]
fn a_write_is_there_whole_or_not_at_all_whenever_the_process_dies() {
    play_seeds(story);
}

async fn story(stage: Stage) {
    let mut fleet = Fleet::start(&stage, 2).await;
    stage.cut(1, true);
    stage.away(fleet.cache(1)).await;
    let (untold, told, absent) = (Cell::new(0), Cell::new(0), Cell::new(0));
    for (number, instant_us) in INSTANTS_US.step_by(40).enumerate() {
        let name = format!("dora {number}");
        let patch = contact(number);
        // Between the operations of the disk, and after them: the time that a sync takes passes once it has happened.
        let at_disk = number % 3 == 0;
        if at_disk {
            drop(stage.world.crash_after_disk_ops(1, instant_us / 400));
        }
        let heard = {
            let record = uid(&name);
            let write = std::pin::pin!(fleet.cache(1).upsert(&record, &patch));
            match select(write, std::pin::pin!(stage.world.sleep_us(instant_us.max(1)))).await {
                Either::Left((Ok(written), _)) => written.placement == Placement::Local,
                Either::Left((Err(error), _)) => {
                    assert!(at_disk, "{name}: {error}");
                    false
                }
                Either::Right(_) => false,
            }
        };
        fleet.crash(1, if number % 2 == 0 { Stop::PowerLost } else { Stop::Killed });
        fleet.open(1).await;
        let kept = fleet.in_time(fleet.cache(1).get(&uid(&name))).await.expect("the disk works");
        assert_eq!(kept.source, Source::Local);
        let count = match &kept.record {
            Some(_) if heard => &told,
            Some(_) => &untold,
            None if heard => panic!("{name} was acknowledged and is gone"),
            None => &absent,
        };
        count.set(count.get() + 1);
        if let Some(record) = &kept.record {
            assert_eq!((record.contacts.len(), Json::from(record.profile.clone())), (2, json!({"number": number})));
        }
        // Its caller, who does not know, writes it again.
        let again = fleet.in_time(fleet.cache(1).upsert(&uid(&name), &patch)).await.expect("the disk works");
        assert_eq!(again.placement, Placement::Local);
    }
    let counts = [untold.get(), told.get(), absent.get()];
    assert!(counts.iter().all(|count| *count > 0), "every instant was met: {counts:?}");

    stage.cut(1, false);
    fleet.recovers().await;
    for number in 0..INSTANTS_US.step_by(40).count() {
        let record = uid(&format!("dora {number}"));
        let [here, there] = [fleet.cache(1).get(&record).await, fleet.cache(2).get(&record).await];
        let (here, there) = (here.expect("redis"), there.expect("redis"));
        assert_eq!((here.source, &here), (Source::Shared, &there));
        let record = here.record.expect("it was acknowledged");
        assert_eq!((record.contacts.len(), Json::from(record.profile.clone())), (2, json!({"number": number})));
    }
    stage.sleep(Duration::from_secs(2)).await;
    fleet.recovers().await;
}
