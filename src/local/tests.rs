//! Stores of random contents, on a real disk: whatever was held when a store was left is held when it is opened again,
//! every kind of entry and every mark, also after its log was rewritten or a batch of it had failed.

use std::sync::MutexGuard;

use proptest::prelude::*;
use tempfile::TempDir;

use super::{entry::LogEntry, held::Held, *};
use crate::{
    contact::Timestamp,
    env::{TokioEnv, yield_now},
    record::{Cell, CellName, Life, Record, Times},
    stamp::Stamp,
};

const UIDS: u64 = 8;
const CEILING: u64 = 1000;

/// Copies are confirmed around this moment of the wall clock: lately, so that none is forgotten for its age.
fn now_ms() -> u64 {
    TokioEnv::new().wall_ms()
}

/// A store in a directory of its own.
pub(super) struct Stand {
    directory: TempDir,
    pub(super) store: Arc<LocalStore<TokioEnv>>,
}

/// All that an opening finds.
#[derive(Debug, PartialEq)]
pub(super) struct Picture {
    ceiling: StampHead,
    generation: Option<String>,
    redis: Option<String>,
    forgot: bool,
    offset_ms: i64,
    shifts: BTreeMap<u64, i64>,
    /// Each as it stands on disk, with its marks.
    records: BTreeMap<Uid, String>,
    pending: BTreeSet<Uid>,
}

impl Stand {
    pub(super) async fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let store = Self::open(&directory).await;
        // R4: above every stamp here.
        store.push_ceiling(StampHead(CEILING)).unwrap();
        store.change_generation("first", u64::MAX).unwrap();
        // A store that holds no record is for whichever Redis it is opened for.
        let anchor = |held: &mut Held| held.join_pending(&Record::tombstone(stamp(1)), None);
        store.keep(&"anchor".parse().unwrap(), anchor).unwrap();
        Self { directory, store }
    }

    async fn open(directory: &TempDir) -> Arc<LocalStore<TokioEnv>> {
        let (redis, prefix) = ("redis://nowhere".parse().unwrap(), "p".parse().unwrap());
        let config = Config::new(redis, prefix, directory.path());
        LocalStore::open(&TokioEnv::new(), &config, TokioEnv::new().random()).await.unwrap().0
    }

    /// Leaves the store as a crash does, and opens it again.
    pub(super) async fn reopen(self) -> Self {
        let Self { directory, store } = self;
        drop(store);
        let store = Self::open(&directory).await;
        Self { directory, store }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, StoreState<TokioEnv>> {
        self.store.lock()
    }

    pub(super) fn picture(&self) -> Picture {
        let mut state = self.state();
        let uids: BTreeSet<_> = state.index.keys().chain(state.overlay.keys()).cloned().collect();
        let records = uids.into_iter().map(|uid| {
            let mut held = (*state.held(&uid).unwrap().unwrap()).clone();
            // Only for acknowledgements that are under way.
            held.marked = 0;
            (uid, serde_json::to_string(&held).unwrap())
        });
        let records = records.collect();
        Picture {
            ceiling: state.ceiling,
            generation: state.generation.clone(),
            redis: state.redis.clone(),
            forgot: state.forgot,
            offset_ms: state.clocks.offset_ms,
            shifts: state.clocks.shifts(),
            // After the records: whether a mark made anything pending shows only when they are read.
            pending: state.pending.clone(),
            records,
        }
    }

    /// Does something to the store, as `choice` says, without a wait.
    pub(super) fn act(&self, choice: u64, step: u64) {
        let (kind, detail) = (choice % 11, choice / 11);
        let uid: Uid = format!("u{}", detail % UIDS).parse().unwrap();
        let (stamp, sent_at_ms) = (stamp(1 + step), now_ms() - detail % 100_000);
        match kind {
            0..3 => {
                drop(self.store.keep(&uid, |held| held.join_pending(&upsert(stamp, detail), Some(estimate(detail)))));
            }
            3 => drop(self.store.keep(&uid, |held| held.join_pending(&Record::tombstone(stamp), None))),
            4 | 5 => self.confirm(&uid, &upsert(stamp, detail), sent_at_ms),
            6 => self.confirm(&uid, &Record::tombstone(stamp), sent_at_ms),
            7 => drop(self.store.change_generation(&format!("{choice:016x}"), sent_at_ms)),
            8 => drop(self.store.note_contact(detail, (detail % 7).cast_signed() - 3, (detail % 5).cast_signed() - 2)),
            9 => drop(self.store.push_ceiling(StampHead(CEILING + detail))),
            _ if detail.is_multiple_of(2) => drop(self.state().take_redis(&format!("redis://{}", detail % 3))),
            _ => self.forget_copies(),
        }
    }

    /// Redis showed a record just now.
    pub(super) fn confirm_one(&self, name: &str) {
        self.confirm(&name.parse().unwrap(), &upsert(stamp(1), 0), now_ms());
    }

    fn confirm(&self, uid: &Uid, seen: &Record, sent_at_ms: u64) {
        let generation = self.store.generation().0.unwrap_or_default();
        let confirm = |held: &mut Held| held.join_confirmed(seen, sent_at_ms, 1000);
        drop(self.store.update_in_generation(uid, &generation, confirm));
    }

    fn forget_copies(&self) {
        let limits = StoreLimits { copies_bytes_max: 0, ..self.store.limits };
        self.state().shrink(limits, now_ms());
    }
}

fn stamp(number: u64) -> Stamp {
    format!("{number:016x}{:016x}", 7).parse().unwrap()
}

fn upsert(stamp: Stamp, detail: u64) -> Record {
    let mut record = Record::with_times(Times::at(Timestamp::from_millis(detail % 1000)));
    record.join_cell(&CellName::existence(), &Cell { stamp, value: None });
    let value = (!detail.is_multiple_of(3)).then(|| detail.to_string().into());
    record.join_cell(&CellName::profile(&(detail % 5).to_string()), &Cell { stamp, value });
    record.living(Some(estimate(detail).life))
}

fn estimate(detail: u64) -> Estimate {
    let ttl_ms = (!detail.is_multiple_of(4)).then_some(1_000_000 * (detail % 4));
    let clock = detail.is_multiple_of(2).then_some(detail % 3);
    let offset_ms = clock.filter(|_| detail.is_multiple_of(3)).map(u64::cast_signed);
    Estimate {
        life: Life::from_now(now_ms() + detail % 5_000_000, ttl_ms),
        ttl_ms,
        clock,
        offset_ms,
        ahead_ms: detail % 2 * 1500,
    }
}

pub(super) fn choices(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u64>> {
    proptest::collection::vec(0..1_000_000_u64, count)
}

pub(super) fn on_a_runtime(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
}

/// Acts on the store; what is on disk then is all of it.
pub(super) async fn fill(stand: &Stand, choices: &[u64]) {
    for (step, choice) in (0..).zip(choices) {
        stand.act(*choice, step);
        if choice % 5 == 0 {
            stand.store.flush().await;
        }
        yield_now().await;
    }
    stand.store.flush().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_was_held_is_held_after_the_next_opening(choices in choices(0..40)) {
        on_a_runtime(async {
            let stand = Stand::new().await;
            fill(&stand, &choices).await;
            let left = stand.picture();
            assert_eq!(stand.reopen().await.picture(), left);
        });
    }

    /// No disk failed here: the batch is handed back as if it had.
    #[test]
    fn a_batch_that_failed_is_written_with_the_next(before in choices(0..20), failed in choices(1..20), after in choices(0..20)) {
        on_a_runtime(async {
            let stand = Stand::new().await;
            fill(&stand, &before).await;
            for (step, choice) in (100..).zip(&failed) {
                stand.act(*choice, step);
            }
            let batch = stand.state().batch();
            for (step, choice) in (200..).zip(&after) {
                stand.act(*choice, step);
            }
            let error = StoreError::DiskFull { verb: "append to", path: stand.store.dir.join(storage::LOG) };
            stand.state().unsettle(batch.entries, batch.version, error);
            stand.store.flush().await;
            let left = stand.picture();
            assert_eq!(stand.reopen().await.picture(), left);
        });
    }
}

#[test]
fn entries_of_a_failed_batch_stand_before_those_that_came_since() {
    on_a_runtime(async {
        let stand = Stand::new().await;
        let mut state = stand.state();
        let heads = |state: &StoreState<TokioEnv>| -> Vec<_> {
            let head = |entry: &LogEntry| if let LogEntry::Ceiling { head } = entry { *head } else { 0 };
            state.unflushed.iter().map(head).filter(|head| (1..CEILING).contains(head)).collect()
        };
        let _ = (state.push(LogEntry::Ceiling { head: 1 }), state.push(LogEntry::Ceiling { head: 2 }));
        let batch = state.batch();
        assert_eq!(heads(&state), [0; 0]);
        let _ = state.push(LogEntry::Ceiling { head: 3 });
        state.unsettle(batch.entries, batch.version, StoreError::DiskFull { verb: "append to", path: PathBuf::new() });
        assert_eq!(heads(&state), [1, 2, 3]);
    });
}
