//! A log that was rewritten holds all that the one before it held, and what was written meanwhile.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::PAGE;
use crate::{
    env::{Disk as _, DiskFile as _, Env as _, yield_now},
    key::Uid,
    local::{
        entry::{LogEntry, decode, encode_record, is_record},
        storage::{LOG, beside},
        tests::{Stand, choices, fill, on_a_runtime},
    },
};

/// Rewrites the log whether it is due or not; whether it came to that.
async fn rewrite(stand: &Stand) -> bool {
    stand.state().moved_since = Some(BTreeSet::new());
    let rewritten = stand.store.copy_live().await;
    stand.state().moved_since = None;
    let Ok(rewritten) = rewritten else { return false };
    stand.store.take_over(rewritten).await;
    true
}

/// How long the new log is by now.
fn written(stand: &Stand) -> u64 {
    let (disk, path) = (stand.store.env.disk(), beside(&stand.store.dir.join(LOG)));
    disk.stat(&path).map_or(0, |_| disk.open(&path).unwrap().len().unwrap())
}

#[test]
fn r6_a_log_whose_first_page_was_copied_before_redis_lost_its_data_is_not_taken() {
    on_a_runtime(async {
        let stand = Stand::new().await;
        // One poll of the rewriting may copy several pages, if threads are quick: there are many after the first.
        let copies = PAGE * 12;
        for number in 0..copies {
            stand.confirm_one(&format!("copy {number}"));
        }
        stand.store.flush().await;
        let lose = async {
            while written(&stand) < PAGE as u64 * 100 {
                yield_now().await;
            }
            stand.store.change_generation("another", 1).unwrap();
        };
        let (is_rewritten, ()) = futures_util::future::join(rewrite(&stand), lose).await;
        assert!(!is_rewritten, "another time");
        stand.store.flush().await;
        let left = stand.picture();
        assert_eq!(stand.state().pending.len(), copies + 1);
        assert_eq!(stand.reopen().await.picture(), left);
    });
}

/// The bytes of each record in the log, by its name.
fn entries(stand: &Stand) -> Vec<(Uid, Vec<u8>)> {
    let state = stand.state();
    state.index.iter().map(|(uid, slot)| (uid.clone(), state.log.read(slot.location).unwrap())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Records are copied undecoded. If their bytes differed from a new encoding, logs would differ by the number of rewrites.
    #[test]
    fn records_are_rewritten_as_they_would_be_written_now(choices in choices(0..40)) {
        on_a_runtime(async {
            let stand = Stand::new().await;
            fill(&stand, &choices).await;
            assert!(rewrite(&stand).await);
            for (uid, entry) in entries(&stand) {
                let Some(LogEntry::Record { held, .. }) = decode(&entry) else { panic!("{uid:?} is no record") };
                assert!(is_record(&entry, &uid));
                assert_eq!(encode_record(&uid, &held.try_into().unwrap()), entry);
            }
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_rewritten_log_holds_what_the_one_before_it_held(choices in choices(0..40), times in 1..3) {
        on_a_runtime(async {
            let mut stand = Stand::new().await;
            fill(&stand, &choices).await;
            let left = stand.picture();
            for _ in 0..times {
                assert!(rewrite(&stand).await);
                assert_eq!(stand.picture(), left);
                stand = stand.reopen().await;
                assert_eq!(stand.picture(), left);
            }
        });
    }

    /// Redis may lose its data, copies may be forgotten, clocks met, all while the records are copied.
    #[test]
    fn a_rewritten_log_holds_what_came_while_it_was_rewritten(
        before in choices(10..40),
        meanwhile in proptest::collection::vec((0..1_000_000_u64, 0..60_u32), 1..12),
    ) {
        on_a_runtime(async {
            let stand = Stand::new().await;
            fill(&stand, &before).await;
            let act = async {
                for (step, (choice, pause)) in (100..).zip(&meanwhile) {
                    for _ in 0..*pause {
                        yield_now().await;
                    }
                    stand.act(*choice, step);
                    // Somebody waits for it: it goes to the old log before the new one is in place.
                    let mut state = stand.state();
                    state.wanted = state.version;
                }
            };
            futures_util::future::join(rewrite(&stand), act).await;
            stand.store.flush().await;
            let left = stand.picture();
            assert_eq!(stand.reopen().await.picture(), left);
        });
    }
}
