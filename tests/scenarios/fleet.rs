//! The application of a scenario: instances that write and read, and a ledger that holds every answer against what the
//! client promises in general.
//!
//! Each field of a record has one author, who counts up in it. So whatever happens around them, an instance that shows
//! less than it showed before has gone back, and one that shows less than its author was told is kept has lost a write.
//! Every call ends within `op_deadline`, in simulated time. When a story is over, [`Fleet::recovers`] asks for the rest:
//! everybody connected, nothing pending, and the same everywhere, Redis's own content included.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use contact_cache::{Config, Error, Placement, Read, Source};
use futures_util::future::join_all;
use seedbed_contact::history::Stop;

use crate::stage::{Cache, Stage, config, field, play_seed, uid};

/// What the bed's checkers give a fleet whose Redis is back.
pub(crate) const RECOVERED_WITHIN: Duration = Duration::from_secs(30);

/// The simulated scheduler wakes a sleeper up to a tick late.
const SLACK: Duration = Duration::from_millis(2);

/// Rounds of an instance at work: at most this many, and at most ten a second.
const ROUNDS_MAX: u32 = 100;
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// What a fleet at work writes to and reads, besides what its story names.
const RECORDS: [&str; 3] = ["ada", "bert", "cleo"];

/// Plays a scenario with many seeds of all that is left to chance.
pub(crate) fn play_seeds(scenario: impl AsyncFnOnce(Stage) + Copy + Send + 'static) {
    play_some(0..50, scenario);
}

/// Likewise, for one that takes more time than most.
pub(crate) fn play_some(seeds: Range<u64>, scenario: impl AsyncFnOnce(Stage) + Copy + Send + 'static) {
    for seed in seeds {
        play_seed(seed, scenario);
    }
}

/// Instances of one application, by number.
pub(crate) struct Fleet {
    stage: Stage,
    config: Config,
    caches: BTreeMap<u32, Cache>,
    ledger: Mutex<Ledger>,
}

/// A field, by its record and its author.
type Field = (String, u32);

#[derive(Default)]
struct Ledger {
    /// The last number that an author wrote, acknowledged or not.
    issued: BTreeMap<Field, u64>,
    /// The last one that it was told is kept.
    acknowledged: BTreeMap<Field, u64>,
    /// The last one that it was told is on its disk.
    on_disk: BTreeMap<Field, u64>,
    /// What an instance can show no less of.
    floor: BTreeMap<(u32, Field), u64>,
}

/// What the application on one instance met.
#[derive(Debug, Default)]
pub(crate) struct Met {
    pub(crate) writes: BTreeMap<Placement, u64>,
    pub(crate) reads: BTreeMap<Source, u64>,
    /// How long the longest call took.
    pub(crate) slowest: Duration,
}

impl Met {
    /// Whether Redis served every call.
    pub(crate) fn all_shared(&self) -> bool {
        self.writes.keys().eq(&[Placement::Shared]) && self.reads.keys().eq(&[Source::Shared])
    }

    /// Whether this instance's disk served every call.
    pub(crate) fn all_local(&self) -> bool {
        self.writes.keys().eq(&[Placement::Local]) && self.reads.keys().eq(&[Source::Local])
    }
}

impl Fleet {
    /// Instances `1` to `count`, connected.
    pub(crate) async fn start(stage: &Stage, count: u32) -> Self {
        let mut fleet =
            Self { stage: stage.clone(), config: config(), caches: BTreeMap::new(), ledger: Mutex::default() };
        for instance in 1..=count {
            fleet.open(instance).await;
        }
        for cache in fleet.caches.values() {
            stage.at_rest(cache).await;
        }
        fleet
    }

    pub(crate) async fn open(&mut self, instance: u32) {
        let cache = self.stage.open_with(instance, self.config.clone()).await;
        self.caches.insert(instance, cache);
    }

    /// The process of an instance dies. What it had on disk it shows again.
    pub(crate) fn crash(&mut self, instance: u32, how: Stop) {
        let cache = self.caches.remove(&instance).expect("it runs");
        self.stage.kill(instance, how, cache);
        let mut ledger = self.ledger();
        ledger.floor.retain(|(of, _), _| *of != instance);
        let kept = ledger.on_disk.iter().filter(|((_, author), _)| *author == instance);
        let kept: Vec<_> = kept.map(|(field, number)| ((instance, field.clone()), *number)).collect();
        ledger.floor.extend(kept);
    }

    /// The process of an instance ends in order.
    pub(crate) async fn close(&mut self, instance: u32) {
        let cache = self.caches.remove(&instance).expect("it runs");
        self.stage.close(instance, cache).await;
    }

    pub(crate) fn cache(&self, instance: u32) -> &Cache {
        &self.caches[&instance]
    }

    pub(crate) fn caches(&self) -> impl Iterator<Item = &Cache> {
        self.caches.values()
    }

    /// A call, which has to end in time.
    pub(crate) async fn in_time<T>(&self, call: impl Future<Output = T>) -> T {
        let (answer, _) = self.timed(call).await;
        answer
    }

    async fn timed<T>(&self, call: impl Future<Output = T>) -> (T, Duration) {
        let begun_us = self.stage.world.now_us();
        let answer = call.await;
        let took = Duration::from_micros(self.stage.world.now_us() - begun_us);
        assert!(took <= self.config.op_deadline + SLACK, "a call took {took:?}");
        (answer, took)
    }

    /// The instance counts up in its field of the record.
    pub(crate) async fn write(&self, instance: u32, record: &str) -> Placement {
        self.try_write(instance, record).await.unwrap_or_else(|error| panic!("instance {instance}: {error}"))
    }

    /// Likewise, where it may be refused.
    pub(crate) async fn try_write(&self, instance: u32, record: &str) -> Result<Placement, Error> {
        let field_of = (record.to_owned(), instance);
        let number = {
            let mut ledger = self.ledger();
            let last = ledger.issued.entry(field_of.clone()).or_default();
            *last += 1;
            *last
        };
        let (name, patch) = (uid(record), field(&author(instance), &number.to_string()));
        let placement = self.in_time(self.cache(instance).upsert(&name, &patch)).await?.placement;
        let mut ledger = self.ledger();
        ledger.acknowledged.insert(field_of.clone(), number);
        if placement == Placement::Local {
            ledger.on_disk.insert(field_of.clone(), number);
        }
        raise(&mut ledger.floor, (instance, field_of), number);
        Ok(placement)
    }

    /// The instance reads the record.
    pub(crate) async fn read(&self, instance: u32, record: &str) -> Source {
        let floor = self.ledger().floor.clone();
        let read = self.in_time(self.cache(instance).get(&uid(record))).await;
        let read = read.unwrap_or_else(|error| panic!("instance {instance}: {error}"));
        let shown = numbers(&read);
        let mut ledger = self.ledger();
        for ((_, (_, writer)), least) in floor.iter().filter(|((of, (at, _)), _)| *of == instance && at == record) {
            let number = shown.get(writer).copied().unwrap_or_default();
            assert!(number >= *least, "instance {instance} went back: {record} of {writer} {least}, now {number}");
        }
        for (writer, number) in shown {
            let field_of = (record.to_owned(), writer);
            assert!(number <= ledger.issued[&field_of], "nobody wrote {number} to {field_of:?}");
            raise(&mut ledger.floor, (instance, field_of), number);
        }
        read.source
    }

    /// An instance writes and reads for so long.
    pub(crate) async fn work(&self, instance: u32, lasting: Duration) -> Met {
        let mut met = Met::default();
        let end_us = self.stage.world.now_us() + u64::try_from(lasting.as_micros()).expect("no ages");
        for round in 0.. {
            if self.stage.world.now_us() >= end_us {
                break;
            }
            let (placement, wrote) = self.timed(self.write(instance, RECORDS[round % RECORDS.len()])).await;
            let (source, read) = self.timed(self.read(instance, RECORDS[(round + 1) % RECORDS.len()])).await;
            *met.writes.entry(placement).or_default() += 1;
            *met.reads.entry(source).or_default() += 1;
            met.slowest = met.slowest.max(wrote).max(read);
            self.stage.sleep(PAUSE_MIN.max(lasting / ROUNDS_MAX)).await;
        }
        met
    }

    /// Every instance does; what each met.
    pub(crate) async fn all_work(&self, lasting: Duration) -> BTreeMap<u32, Met> {
        let each = self.caches.keys().map(|instance| async { (*instance, self.work(*instance, lasting).await) });
        join_all(each).await.into_iter().collect()
    }

    /// Redis is back, or never left: within the bound every instance is connected and has nothing pending, and then
    /// nothing that was acknowledged is missing, on any instance or in Redis.
    pub(crate) async fn recovers(&self) {
        let begun_us = self.stage.world.now_us();
        for cache in self.caches() {
            self.stage.at_rest(cache).await;
        }
        let took = Duration::from_micros(self.stage.world.now_us() - begun_us);
        assert!(took <= RECOVERED_WITHIN, "not connected and drained before {took:?}");
        let acknowledged = self.ledger().acknowledged.clone();
        for ((record, writer), least) in &acknowledged {
            let stored = self.stage.stored_profile(record);
            let number = stored.get(&author(*writer)).map_or(0, |number| number.parse().expect("a number"));
            assert!(number >= *least, "lost: {record} of {writer} is {number} in redis, {least} was acknowledged");
            for instance in self.caches.keys() {
                assert_eq!(self.read(*instance, record).await, Source::Shared, "instance {instance}, {record}");
                let seen = self.ledger().floor[&(*instance, (record.clone(), *writer))];
                assert_eq!(seen, number, "instance {instance} does not show what redis holds of {record}");
            }
        }
        for cache in self.caches() {
            assert_eq!((cache.health().away_because, cache.health().store_error), (None, None));
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn author(instance: u32) -> String {
    format!("by {instance}")
}

/// What a read shows of each author.
fn numbers(read: &Read) -> BTreeMap<u32, u64> {
    let profile = read.record.iter().flat_map(|record| &record.profile);
    let number = |(name, value): (&String, &serde_json::Value)| {
        Some((name.strip_prefix("by ")?.parse().ok()?, value.as_str()?.parse().ok()?))
    };
    profile.filter_map(number).collect()
}

fn raise<K: Ord>(numbers: &mut BTreeMap<K, u64>, key: K, to: u64) {
    let number = numbers.entry(key).or_default();
    *number = to.max(*number);
}
