//! The guarantees against a model of the protocol: whatever it does is legal, and each bug planted in it is found.
//!
//! The model is the design's section 5 without a network: instances with skewed clocks, a Redis that joins, local
//! copies, pending writes, replies that are lost, crashes, and losses of Redis's data. Every call begins, takes effect
//! and returns at three different moments. It shows two things that histories told by hand cannot: that no checker
//! raises a false alarm, and that each one finds what it is there for among everything else that goes on.

use std::collections::BTreeMap;

use rand::{RngExt, seq::IndexedRandom};

use super::{
    Guarantee, Verdict,
    fixture::{DEADLINE_US, Story, record},
    judge,
};
use crate::{
    faults::{Fault, NetTrouble},
    history::{Answer, Call, History, Outcome, Phase, Placement, Source, Stop, What},
    seed::{Seed, Stream},
};

const PREFIXES: [&str; 4] = ["a", "a", "a", "a:b"];
const UIDS: [&str; 3] = ["u", "v", "w"];
const FIELDS: [&str; 5] = ["name", "company", "@x", "@y", "#source"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    /// A read answers its local copy and says `Shared`.
    StaleShared,
    /// An upsert's cells reach Redis one after the other.
    Torn,
    /// A local write is dropped when it is its turn.
    Forgetful,
    /// Stamps come from the wall clock, whatever was seen before.
    WallClock,
    /// A read shows Redis's reply and forgets what the instance holds.
    NoJoin,
    /// A local write is acknowledged before it is synced.
    Unsynced,
    /// A read answers another prefix's record.
    MixedUp,
    /// `clear` removes `prefix*` instead of `prefix:*`.
    GreedyClear,
    /// An old value comes back with another payload.
    Mangled,
    /// One instance never sends what is pending.
    NeverDrains,
    /// A `list` leaves out a uid.
    ShortList,
    /// A call waits for ever.
    Hangs,
    /// An instance stays degraded.
    StaysDown,
}

type Stamp = (u64, usize);

#[derive(Clone, Debug, Default, PartialEq)]
struct Held {
    /// By field; the empty name is existence.
    cells: BTreeMap<&'static str, (Stamp, u64)>,
    tombstone: Stamp,
}

impl Held {
    fn join(&mut self, other: &Self) {
        self.tombstone = self.tombstone.max(other.tombstone);
        for (&field, &cell) in &other.cells {
            let mine = self.cells.entry(field).or_insert(cell);
            *mine = cell.max(*mine);
        }
    }

    fn alive(&self) -> Vec<(&'static str, (Stamp, u64))> {
        let alive = self.cells.iter().filter(|(_, (stamp, _))| *stamp > self.tombstone);
        alive.map(|(&field, &cell)| (field, cell)).collect()
    }

    fn newest(&self) -> Stamp {
        self.cells.values().map(|(stamp, _)| *stamp).fold(self.tombstone, Stamp::max)
    }
}

type Tier = BTreeMap<&'static str, Held>;

#[derive(Default)]
struct Instance {
    connected: bool,
    clock: u64,
    skew: u64,
    held: Tier,
    synced: Tier,
    pending: Tier,
}

struct Flight {
    op: u64,
    instance: usize,
    uid: &'static str,
    verb: Verb,
    answer: Option<Answer>,
}

#[derive(Clone)]
enum Verb {
    Upsert(Vec<&'static str>),
    Get,
    Remove,
    List,
    Clear,
}

struct Model {
    story: Story,
    stream: Stream,
    bug: Bug,
    time: u64,
    /// By prefix.
    redis: BTreeMap<&'static str, Tier>,
    instances: Vec<Instance>,
    flights: Vec<Flight>,
    /// Cells of torn upserts on their way.
    late: Vec<(&'static str, &'static str, Held)>,
}

impl Model {
    fn run(seed: u64, bug: Bug, steps: u32) -> History {
        let mut stream = Seed(seed).stream("model");
        let mut instance = |_| Instance { connected: true, skew: stream.random_range(0..200), ..Instance::default() };
        let instances = (0..PREFIXES.len()).map(&mut instance).collect();
        let mut model = Self {
            story: Story::new(&PREFIXES),
            stream,
            bug,
            time: 0,
            redis: BTreeMap::new(),
            instances,
            flights: Vec::new(),
            late: Vec::new(),
        };
        // A crash takes unsynced copies, a loss takes Redis's: a run has one or the other, or acknowledged writes
        // would be left without any copy.
        let with_losses = model.stream.random_bool(0.5);
        model.story.phase(Phase::Faults);
        // Links are cut and messages lost in any step: until it comes to rest, G13 has nothing to judge in it.
        let trouble = NetTrouble::Loss { per_mille: 100 };
        model.story.fault(Fault::BadNetwork { instances: (0..).take(PREFIXES.len()).collect(), trouble });
        for _ in 0..steps {
            model.step(with_losses);
        }
        model.rest();
        model.story.told()
    }

    fn step(&mut self, with_losses: bool) {
        self.time += 1;
        let instance = self.stream.random_range(0..PREFIXES.len());
        match self.stream.random_range(0..100) {
            0..30 => self.begin(instance),
            30..58 => self.effect(),
            58..84 => self.complete(),
            84..90 => self.drain(instance),
            90..93 => self.sync(instance),
            93..97 => self.instances[instance].connected ^= true,
            97 if with_losses => {
                self.story.loss();
                self.redis.clear();
                self.late.clear();
                let connected = self.instances.iter_mut().filter(|instance| instance.connected);
                connected.for_each(|instance| instance.pending = instance.held.clone());
            }
            98 if !with_losses => self.crash(instance),
            _ => {
                if let Some((prefix, uid, held)) = self.late.pop() {
                    self.redis.entry(prefix).or_default().entry(uid).or_default().join(&held);
                }
            }
        }
    }

    fn begin(&mut self, instance: usize) {
        if self.flights.iter().filter(|flight| flight.instance == instance).count() > 1 {
            return;
        }
        let uid = *UIDS.choose(&mut self.stream).expect("uids");
        let number = u32::try_from(instance).expect("a few instances");
        let (op, verb) = match self.stream.random_range(0..20) {
            0..8 => {
                let fields: Vec<_> = FIELDS.into_iter().filter(|_| self.stream.random_bool(0.4)).collect();
                (self.story.upsert_begins(number, uid, &fields), Verb::Upsert(fields))
            }
            8..16 => (self.story.get_begins(number, uid), Verb::Get),
            16..18 => (self.story.remove_begins(number, uid), Verb::Remove),
            18 => (self.story.begin(number, Call::List), Verb::List),
            _ => (self.story.begin(number, Call::Clear), Verb::Clear),
        };
        self.flights.push(Flight { op, instance, uid, verb, answer: None });
    }

    fn effect(&mut self) {
        let waiting: Vec<_> = (0..self.flights.len()).filter(|&at| self.flights[at].answer.is_none()).collect();
        let Some(&at) = waiting.choose(&mut self.stream) else { return };
        let Flight { op, instance, uid, ref verb, .. } = self.flights[at];
        let answer = match verb.clone() {
            Verb::Upsert(fields) => self.upsert(instance, uid, op, &fields),
            Verb::Get => self.get(instance, uid),
            Verb::Remove => {
                let (placement, stamp) = self.remove(instance, uid);
                Answer::Written { placement, stamp }
            }
            Verb::List => {
                let (source, mut uids) = self.uids(instance);
                if self.bug == Bug::ShortList {
                    uids.pop();
                }
                Answer::Listed { source, uids }
            }
            Verb::Clear => self.clear(instance),
        };
        self.flights[at].answer = Some(answer);
    }

    fn complete(&mut self) {
        let done: Vec<_> = (0..self.flights.len()).filter(|&at| self.flights[at].answer.is_some()).collect();
        if let Some(&at) = done.choose(&mut self.stream) {
            let flight = self.flights.remove(at);
            if self.bug == Bug::Hangs && self.stream.random_bool(0.1) {
                return;
            }
            self.story.ok(flight.op, flight.answer.expect("it is done"));
        }
    }

    fn shared(&mut self, instance: usize, uid: &'static str) -> &mut Held {
        self.redis.entry(PREFIXES[instance]).or_default().entry(uid).or_default()
    }

    /// A fresh stamp; above `floor` if Redis is there to be asked.
    fn stamp(&mut self, instance: usize, floor: Stamp) -> Stamp {
        let this = &mut self.instances[instance];
        let wall = self.time + this.skew;
        if self.bug == Bug::WallClock {
            return (wall, instance);
        }
        this.clock = this.clock.max(wall).max(floor.0) + 1;
        (this.clock, instance)
    }

    /// Writes to Redis, or has the write pending; a reply may be lost on its way back, or the request on its way there.
    fn write(
        &mut self,
        instance: usize,
        uid: &'static str,
        change: impl FnOnce(&mut Held, Stamp),
    ) -> (Placement, Option<String>) {
        let connected = self.instances[instance].connected;
        let floor = if connected { self.shared(instance, uid).newest() } else { Stamp::default() };
        let stamp = self.stamp(instance, floor);
        let mut held = Held::default();
        change(&mut held, stamp);
        let (arrives, answered) = (self.stream.random_bool(0.9), self.stream.random_bool(0.9));
        if connected && arrives {
            if self.bug == Bug::Torn && self.stream.random_bool(0.5) {
                let torn = held.cells.split_off("a");
                self.late.push((PREFIXES[instance], uid, Held { cells: torn, ..Held::default() }));
            }
            self.shared(instance, uid).join(&held);
        }
        let this = &mut self.instances[instance];
        this.held.entry(uid).or_default().join(&held);
        let text = Some(format!("{:08}{:02}", stamp.0, stamp.1)).filter(|_| self.stream.random_bool(0.5));
        if connected && arrives && answered {
            return (Placement::Shared, text);
        }
        this.pending.entry(uid).or_default().join(&held);
        if self.bug != Bug::Unsynced {
            this.synced.entry(uid).or_default().join(&held);
        }
        (Placement::Local, text)
    }

    fn upsert(&mut self, instance: usize, uid: &'static str, op: u64, fields: &[&'static str]) -> Answer {
        let (placement, stamp) = self.write(instance, uid, |held, stamp| {
            held.cells = fields.iter().chain(&[""]).map(|&field| (field, (stamp, op))).collect();
        });
        Answer::Written { placement, stamp }
    }

    fn remove(&mut self, instance: usize, uid: &'static str) -> (Placement, Option<String>) {
        self.write(instance, uid, |held, stamp| held.tombstone = stamp)
    }

    /// What is listed: Redis's records, with what the instance knows Redis to lack.
    fn uids(&self, instance: usize) -> (Source, Vec<String>) {
        let alive = |tier: &Tier| -> Vec<String> {
            tier.iter().filter(|(_, held)| !held.alive().is_empty()).map(|(&uid, _)| uid.to_owned()).collect()
        };
        let this = &self.instances[instance];
        if !this.connected {
            return (Source::Local, alive(&this.held));
        }
        let shared = self.redis.get(PREFIXES[instance]).cloned().unwrap_or_default();
        let mut joined = shared.clone();
        for (&uid, held) in &this.pending {
            joined.entry(uid).or_default().join(held);
        }
        let (plain, merged) = (alive(&shared), alive(&joined));
        (if plain == merged { Source::Shared } else { Source::Merged }, merged)
    }

    fn clear(&mut self, instance: usize) -> Answer {
        let (_, uids) = self.uids(instance);
        let named: Vec<_> = UIDS.into_iter().filter(|&uid| uids.iter().any(|named| named == uid)).collect();
        let mut placement = Placement::Shared;
        for uid in named {
            placement = placement.max(self.remove(instance, uid).0);
        }
        if self.bug == Bug::GreedyClear {
            self.redis.remove("a:b");
            self.instances[3].held.clear();
            self.instances[3].pending.clear();
        }
        Answer::Cleared { placement, uids, complete: self.instances[instance].connected }
    }

    fn get(&mut self, instance: usize, uid: &'static str) -> Answer {
        let mut shown = self.instances[instance].held.get(uid).cloned().unwrap_or_default();
        let mut source = Source::Local;
        if self.instances[instance].connected {
            let reply = self.shared(instance, uid).clone();
            let this = &mut self.instances[instance];
            match self.bug {
                Bug::StaleShared if !shown.cells.is_empty() => source = Source::Shared,
                Bug::NoJoin => (source, shown) = (Source::Shared, reply.clone()),
                _ => {
                    shown.join(&reply);
                    source = if shown.alive() == reply.alive() { Source::Shared } else { Source::Merged };
                    if source == Source::Merged {
                        this.pending.entry(uid).or_default().join(&shown);
                    }
                }
            }
            this.clock = this.clock.max(shown.newest().0);
            this.held.insert(uid, shown.clone());
        }
        self.answer(instance, uid, source, &shown)
    }

    fn answer(&mut self, instance: usize, uid: &str, source: Source, shown: &Held) -> Answer {
        let alive = shown.alive();
        let fields: Vec<_> =
            alive.iter().filter(|(field, _)| !field.is_empty()).map(|&(field, (_, op))| (field, op)).collect();
        let mut json = record(PREFIXES[instance], uid, &fields);
        if self.bug == Bug::MixedUp && self.stream.random_bool(0.1) {
            json = record("a:b", uid, &fields);
        }
        if self.bug == Bug::Mangled && json["metadata"].get("source").is_some() {
            json["metadata"]["source"]["payload"] = serde_json::json!([null, []]);
        }
        Answer::Read { source, record: Some(json.into()).filter(|_| !alive.is_empty()) }
    }

    fn drain(&mut self, instance: usize) {
        if !self.instances[instance].connected || (self.bug == Bug::NeverDrains && instance == 1) {
            return;
        }
        for (uid, held) in std::mem::take(&mut self.instances[instance].pending) {
            if self.bug == Bug::Forgetful && self.stream.random_bool(0.3) {
                self.instances[instance].held.remove(uid);
                self.instances[instance].synced.remove(uid);
            } else {
                self.shared(instance, uid).join(&held);
            }
        }
    }

    fn sync(&mut self, instance: usize) {
        if self.bug != Bug::Unsynced {
            self.instances[instance].synced = self.instances[instance].held.clone();
        }
    }

    fn crash(&mut self, instance: usize) {
        let this = &mut self.instances[instance];
        this.held = this.synced.clone();
        if self.bug == Bug::Unsynced {
            this.pending.clear();
        }
        self.flights.retain(|flight| flight.instance != instance);
        self.story.stop(u32::try_from(instance).expect("a few instances"), Stop::Killed);
    }

    /// Heals everything, lets all calls return and all pending writes drain, and reads every record everywhere.
    fn rest(&mut self) {
        self.story.phase(Phase::Heal);
        self.instances.iter_mut().for_each(|instance| instance.connected = true);
        while !self.flights.is_empty() {
            self.effect();
            self.complete();
        }
        self.story.event(What::FaultEnd { fault: 1, effects: 1 });
        self.story.phase(Phase::Quiesce);
        for instance in 0..PREFIXES.len() {
            // A loss may have gone unnoticed behind a partition: everything held is sent once more.
            self.instances[instance].pending = match self.bug {
                Bug::Forgetful | Bug::Unsynced => self.instances[instance].pending.clone(),
                _ => self.instances[instance].held.clone(),
            };
            self.drain(instance);
            let state = if self.bug == Bug::StaysDown { "degraded" } else { "connected" };
            let instance = u32::try_from(instance).expect("a few instances");
            self.story.event(What::State { instance, state: state.to_owned() });
        }
        self.story.now_us += DEADLINE_US * 2;
        self.story.phase(Phase::FinalReads);
        for (number, instance) in (0_u32..).zip(0..PREFIXES.len()) {
            for uid in UIDS {
                let op = self.story.get_begins(number, uid);
                let answer = self.get(instance, uid);
                self.story.end(op, Outcome::Ok { answer });
            }
        }
    }
}

#[test]
fn no_guarantee_is_violated_by_the_protocol() {
    for seed in 0..600 {
        let history = Model::run(seed, Bug::None, 100 + u32::try_from(seed % 5).expect("small") * 150);
        for judgement in judge(&history) {
            assert_eq!(judgement.verdict, Verdict::Pass, "{} in seed {seed}", judgement.guarantee);
        }
    }
}

#[test]
fn each_bug_is_found_by_the_guarantee_that_it_breaks() {
    let cases = [
        (Bug::Mangled, Guarantee::Fidelity),
        (Bug::StaleShared, Guarantee::Linearizable),
        (Bug::Torn, Guarantee::Atomic),
        (Bug::NeverDrains, Guarantee::Convergence),
        (Bug::Forgetful, Guarantee::Durability),
        (Bug::WallClock, Guarantee::Durability),
        (Bug::NoJoin, Guarantee::Session),
        (Bug::Unsynced, Guarantee::Session),
        (Bug::MixedUp, Guarantee::Isolation),
        (Bug::GreedyClear, Guarantee::Isolation),
        (Bug::Hangs, Guarantee::Latency),
        (Bug::StaysDown, Guarantee::Recovery),
        (Bug::ShortList, Guarantee::Listing),
    ];
    for (bug, guarantee) in cases {
        let found = (0..50).any(|seed| {
            let history = Model::run(seed, bug, 300);
            matches!(super::check(guarantee, &history), Verdict::Violation { .. })
        });
        assert!(found, "{bug:?} is not found by {guarantee}");
    }
}
