//! What a history tells of clocks: Redis's, which ends lives, and what each instance knew of it.
//!
//! An instance that has met Redis in this process goes by what it heard last and its monotonic clock, which the bed stops
//! while the machine sleeps, and else never falsifies: it is wrong by a round trip, and by the steps of Redis's clock since. Where the
//! wall clock went further, it may have slept, and reckons ends by that. One that has not met Redis goes by its wall
//! clock, and by how far that was from Redis's when they last met, which it keeps on disk: it is wrong by the steps and
//! the drift since. That an instance had met Redis shows where it said that it was connected, and where a call was answered
//! from there.

use super::{
    cuts::{Cuts, ON_ITS_WAY_US},
    operation::Operation,
};
use crate::{
    faults::Fault,
    history::{Answer, History, Placement, Source, What},
};

/// How wrong an estimate of Redis's clock is when it is made: a round trip, at most the time a client waits for a reply.
pub(super) const ESTIMATE_US: i64 = 300_000;

/// How long before an answer of Redis an instance may have asked for its clock: it probes each second, and waits for the reply.
const PROBED_US: u64 = 3_000_000;

const STANDS_STILL_PPM: i64 = -1_000_000;

/// Sums of it stay within their type.
const END_OF_TIME: i64 = i64::MAX / 8;

/// The clocks of a run. Times are microseconds since its start, by a right clock; so are readings.
#[derive(Default)]
pub(super) struct Clocks {
    redis: Course,
    instances: Vec<InstanceClocks>,
    cuts: Cuts,
    /// How wrong wall clocks may be beyond what the history tells.
    unknown_us: i64,
    /// When the history ends.
    ends_us: u64,
}

/// The least and the most that something may be, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) least: i64,
    pub(super) most: i64,
}

/// What an instance took Redis's clock to show.
/// Clocks show whole milliseconds: two readings together may be off by so much.
pub(super) const ROUNDING_MS: i64 = 2;

#[derive(Clone, Copy, Debug)]
pub(super) struct EstimatedRange {
    /// By its monotonic clock: from there on lives what it wrote.
    pub(super) begins: Range,
    /// By the one of its clocks that had gone further since it heard of Redis: so much and the time to live is the end.
    pub(super) ends: Range,
    /// It may have gone by a wall clock that was wrong: it need not have met Redis before.
    pub(super) is_by_wrong_wall: bool,
    /// Redis's clock may have stepped since it was heard of.
    pub(super) is_by_stepped_redis: bool,
}

#[derive(Default)]
struct InstanceClocks {
    wall: Course,
    /// It stands still while the machine sleeps.
    monotonic: Course,
    /// Each process, in order: it lives from the end of the one before.
    processes: Vec<Process>,
}

struct Process {
    from_us: u64,
    until_us: u64,
    /// The ordinal of its end: another may begin in the same microsecond.
    stopped: u64,
    /// Between which times it was certainly in contact with Redis: calls that Redis answered, from call to return, and moments
    /// at which it said that it was connected. By their ends.
    met: Vec<(u64, u64)>,
}

/// When an instance can have heard of Redis's clock last.
struct Heard {
    since_us: u64,
    until_us: u64,
    /// Whether it had by then, in this process.
    is_certain: bool,
}

/// How wrong a clock is, over time.
struct Course {
    /// By time, the first at the start.
    legs: Vec<Leg>,
}

#[derive(Clone, Copy)]
struct Leg {
    from_us: u64,
    offset_us: i64,
    drift_ppm: i64,
}

impl Clocks {
    /// The operations are all of the history, in the order of their calls.
    pub(super) fn of(history: &History, operations: &[Operation<'_>]) -> Self {
        let header = &history.header;
        let offset_us = |instance: usize| header.clock_offsets_ms.get(instance).copied().unwrap_or(0) * 1_000;
        let instances = (0..header.prefixes.len()).map(|instance| InstanceClocks {
            wall: Course::from(offset_us(instance)),
            monotonic: Course::default(),
            processes: vec![Process::from(0)],
        });
        let unknown_us = i64::try_from(header.clock_error_ms).unwrap_or(i64::MAX).saturating_mul(1_000);
        let ends_us = history.events.last().map_or(0, |last| last.at_us);
        let (redis, instances) = (Course::default(), instances.collect());
        let mut clocks = Self { redis, instances, cuts: Cuts::of(&history.events), unknown_us, ends_us };
        let mut begun: Vec<(u32, &Fault)> = Vec::new();
        for event in &history.events {
            match &event.what {
                What::FaultBegin { fault, what, .. } => {
                    begun.push((*fault, what));
                    clocks.change(what, event.at_us, 1);
                }
                What::FaultEnd { fault, .. } => {
                    if let Some((_, what)) = begun.iter().find(|(number, _)| number == fault) {
                        clocks.change(what, event.at_us, -1);
                    }
                }
                What::Stopped { instance, .. } => {
                    let Some(of) = clocks.instances.get_mut(*instance as usize) else { continue };
                    if let Some(last) = of.processes.last_mut() {
                        (last.until_us, last.stopped) = (event.at_us, event.ordinal);
                    }
                    of.processes.push(Process::from(event.at_us));
                }
                What::State { instance, state } if state == "connected" => {
                    let process = clocks.instances.get_mut(*instance as usize).and_then(|of| of.processes.last_mut());
                    if let Some(process) = process {
                        process.met.push((event.at_us, event.at_us));
                    }
                }
                _ => {}
            }
        }
        clocks.meet(operations);
        clocks
    }

    /// What Redis's clock shows at some time between these.
    pub(super) fn redis(&self, from_us: u64, until_us: u64) -> Range {
        self.redis.range(from_us, until_us.max(from_us), Leg::reading_at)
    }

    /// The possible readings of an instance's wall clock between these times.
    pub(super) fn wall(&self, instance: u32, from_us: u64, until_us: u64) -> Range {
        let known = self.instances.get(instance as usize);
        let shown = known.map(|known| known.wall.range(from_us, until_us.max(from_us), Leg::reading_at));
        let shown = shown.unwrap_or(Range { least: -END_OF_TIME, most: END_OF_TIME });
        Range { least: shown.least - self.unknown_us, most: shown.most + self.unknown_us }
    }

    /// How far the wall clock of an instance went at least, from some time at or before `since_us` to some time between `at_us`.
    pub(super) fn wall_goes_at_least(&self, instance: u32, since_us: u64, at_us: (u64, u64)) -> i64 {
        let Some(of) = self.instances.get(instance as usize) else { return -END_OF_TIME };
        let now = of.wall.range(at_us.0, at_us.1, Leg::reading_at);
        // A clock that stepped back later showed more at earlier times.
        let then = of.wall.range(0, since_us, Leg::reading_at);
        now.least - then.most - self.unknown_us
    }

    /// When Redis's clock first shows `reading` or more, from this time on.
    pub(super) fn redis_reaches(&self, reading: i64, from_us: u64) -> u64 {
        self.redis.reaches(reading, from_us)
    }

    /// Whether Redis's clock shows less after this time than at it. At a step it shows both readings.
    pub(super) fn redis_goes_back(&self, from_us: u64) -> bool {
        self.redis(from_us.saturating_add(1), u64::MAX).least < self.redis(from_us, from_us).most
    }

    /// Whether Redis's clock is set back at any time of the run.
    pub(super) fn redis_is_set_back(&self) -> bool {
        self.redis.legs.windows(2).any(|legs| legs[1].offset_us < legs[0].offset_us)
    }

    /// What the instance of a write took Redis's clock to show, at some time from its call to this one. Where it met Redis only
    /// later in that process, it has corrected it since.
    pub(super) fn estimated_for_a_write(&self, write: &Operation<'_>, until_us: u64) -> EstimatedRange {
        let Some((known, process)) = self.process_of(write) else { return EstimatedRange::UNKNOWN };
        let from_us = write.called_at_us;
        let until_us = until_us.clamp(from_us, process.until_us.max(from_us));
        let heard = self.heard(write.instance, process, (from_us, until_us));
        let met_later = process.met.iter().find(|(_, returned_us)| *returned_us > from_us);
        let met_later = met_later.filter(|_| !heard.is_certain);
        let exact =
            self.redis_offset(heard.since_us, met_later.map_or(heard.until_us, |(_, returned_us)| *returned_us));
        let (monotonic, latest) = known.gone((from_us, until_us), &heard);
        let is_by_stepped_redis = exact.least < exact.most;
        let estimate = |begins: Range, ends: Range, is_by_wrong_wall| EstimatedRange {
            begins: reading(from_us, until_us, begins),
            ends: reading(from_us, until_us, ends),
            is_by_wrong_wall,
            is_by_stepped_redis,
        };
        if heard.is_certain {
            return estimate(exact.plus(monotonic), exact.plus(latest), false);
        }
        // When it meets Redis, it is known by the monotonic clock how long ago it was, but for what the machine slept
        // meanwhile; what the wall clock had gone further than that by then is counted once more.
        let met_us = met_later.map_or(process.until_us.min(self.ends_us), |(_, returned_us)| *returned_us);
        let slept_us = known.slept_us(from_us, met_us.max(from_us));
        let more = Range { least: 0, most: slept_us };
        let ahead = Range { least: 0, most: slept_us + (latest.most - monotonic.least).max(0) };
        if met_later.is_some() {
            return estimate(exact.plus(more), exact.plus(ahead), false);
        }
        let by_wall = self.offset_by_wall(known, process, until_us);
        let is_wrong = by_wall.least < exact.least - ESTIMATE_US || exact.most + ESTIMATE_US < by_wall.most;
        let offset = exact.or(by_wall);
        let begins = offset.plus(monotonic).or(offset.plus(more));
        estimate(begins, offset.plus(latest).or(offset.plus(ahead)), is_wrong)
    }

    /// What the instance of a read takes Redis's clock to show when it answers, between the call and this time.
    pub(super) fn estimated_for_a_read(&self, read: &Operation<'_>, until_us: u64) -> Range {
        let known = self.process_of(read);
        known.map_or(EstimatedRange::UNKNOWN.ends, |known| {
            self.reckoned(read.instance, known, read.called_at_us, until_us)
        })
    }

    /// What a process takes Redis's clock to show between these times. Where its wall clock has gone further than its
    /// monotonic clock since it heard from Redis, it goes by that.
    fn reckoned(
        &self,
        instance: u32,
        (known, process): (&InstanceClocks, &Process),
        from_us: u64,
        until_us: u64,
    ) -> Range {
        let until_us = until_us.clamp(from_us, process.until_us.max(from_us));
        let heard = self.heard(instance, process, (from_us, until_us));
        let mut offset = self.redis_offset(heard.since_us, heard.until_us);
        if !heard.is_certain {
            offset = offset.or(self.offset_by_wall(known, process, until_us));
        }
        let (_, latest) = known.gone((from_us, until_us), &heard);
        let unknown = Range { least: 0, most: self.unknown_us };
        reading(from_us, until_us, offset.plus(latest).plus(unknown))
    }

    /// The most that an instance took Redis's clock to show for a read between these times, in any of its processes.
    pub(super) fn most_estimated(&self, instance: u32, from_us: u64, until_us: u64) -> i64 {
        let Some(known) = self.instances.get(instance as usize) else { return EstimatedRange::UNKNOWN.ends.most };
        let lives = |process: &&Process| process.from_us <= until_us && from_us < process.until_us;
        let most = known.processes.iter().filter(lives).map(|process| {
            let (from_us, until_us) = (process.from_us.max(from_us), process.until_us.min(until_us));
            self.reckoned(instance, (known, process), from_us, until_us).most
        });
        most.max().unwrap_or(EstimatedRange::UNKNOWN.ends.most)
    }

    /// How far its wall clock and what it remembers of the difference lead an instance away from the right time before it
    /// meets Redis. The difference may be of any earlier time, or of a later one if it met Redis in another process.
    fn offset_by_wall(&self, known: &InstanceClocks, process: &Process, until_us: u64) -> Range {
        let (redis, wall) =
            (self.redis_offset(0, self.ends_us), known.wall.range(0, self.ends_us.max(until_us), Leg::offset_at));
        // None before it ever met Redis.
        let remembered = Range { least: (redis.least - wall.most).min(0), most: (redis.most - wall.least).max(0) };
        let shown = known.wall.range(process.from_us, until_us, Leg::offset_at);
        let unknown_us = self.unknown_us;
        Range { least: shown.least + remembered.least - unknown_us, most: shown.most + remembered.most + unknown_us }
    }

    /// When the process of an instance can have heard of Redis's clock last, for what it does between these times.
    fn heard(&self, instance: u32, process: &Process, (from_us, until_us): (u64, u64)) -> Heard {
        let met = process.met.iter().take_while(|(_, returned_us)| *returned_us <= from_us).last();
        let since_us = met.map_or(0, |(called_us, _)| called_us.saturating_sub(PROBED_US)).max(process.from_us);
        let cut = self.cuts.around(instance, from_us, until_us);
        let heard_us = cut.map_or(until_us, |cut_us| cut_us.saturating_add(ON_ITS_WAY_US).min(until_us));
        Heard { since_us, until_us: heard_us.max(since_us), is_certain: met.is_some() }
    }

    fn redis_offset(&self, from_us: u64, until_us: u64) -> Range {
        self.redis.range(from_us, until_us.max(from_us), Leg::offset_at)
    }

    /// The process that was called, and the clocks of its host.
    fn process_of(&self, op: &Operation<'_>) -> Option<(&InstanceClocks, &Process)> {
        let known = self.instances.get(op.instance as usize)?;
        Some((known, known.processes.iter().find(|process| op.called < process.stopped)?))
    }

    /// When the process that was called ends.
    pub(super) fn process_ends_us(&self, op: &Operation<'_>) -> u64 {
        self.process_of(op).map_or(u64::MAX, |(_, process)| process.until_us)
    }

    fn change(&mut self, fault: &Fault, at_us: u64, sign: i64) {
        match fault {
            Fault::ClockStep { instance, by_ms } => {
                if let Some(known) = self.instances.get_mut(*instance as usize) {
                    known.wall.step(at_us, by_ms * 1_000 * sign);
                }
            }
            Fault::ClockDrift { instance, ppm } => {
                if let Some(known) = self.instances.get_mut(*instance as usize) {
                    // It ends by drifting no more.
                    known.wall.drift(at_us, if sign > 0 { *ppm } else { 0 });
                }
            }
            Fault::InstanceSuspend { instance } => {
                if let Some(known) = self.instances.get_mut(*instance as usize) {
                    known.monotonic.drift(at_us, if sign > 0 { STANDS_STILL_PPM } else { 0 });
                }
            }
            Fault::RedisClockStep { by_ms } => self.redis.step(at_us, by_ms * 1_000 * sign),
            _ => {}
        }
    }

    fn meet(&mut self, operations: &[Operation<'_>]) {
        for op in operations.iter().filter(|op| is_from_redis(op)) {
            let (Some(end), Some(known)) = (op.end, self.instances.get_mut(op.instance as usize)) else { continue };
            let process = known.processes.iter_mut().find(|process| op.called < process.stopped);
            if let Some(process) = process {
                process.met.push((op.called_at_us, end.at_us));
            }
        }
        let processes = self.instances.iter_mut().flat_map(|known| &mut known.processes);
        processes.for_each(|process| process.met.sort_by_key(|(_, returned_us)| *returned_us));
    }
}

/// Whether an answer shows that its instance had met Redis.
fn is_from_redis(op: &Operation<'_>) -> bool {
    match op.answer() {
        Some(Answer::Written { placement, .. }) => *placement == Placement::Shared,
        // One that removed nothing need not have asked.
        Some(Answer::Cleared { placement, uids, .. }) => *placement == Placement::Shared && !uids.is_empty(),
        Some(Answer::Read { source, .. } | Answer::Listed { source, .. }) => *source != Source::Local,
        Some(Answer::Imported { .. }) => true,
        // Of a read of many each part is an operation of its own.
        Some(Answer::Synced { .. } | Answer::ReadMany { .. }) | None => false,
    }
}

impl Process {
    fn from(from_us: u64) -> Self {
        Self { from_us, until_us: u64::MAX, stopped: u64::MAX, met: Vec::new() }
    }
}

impl InstanceClocks {
    /// How much further than the right time its monotonic clock went since it heard of Redis's, and how much the one of its two
    /// clocks that went further.
    fn gone(&self, (from_us, until_us): (u64, u64), heard: &Heard) -> (Range, Range) {
        let gone = |course: &Course| {
            let now = course.range(from_us, until_us, Leg::offset_at);
            let then = course.range(heard.since_us, heard.until_us, Leg::offset_at);
            Range { least: now.least - then.most, most: now.most - then.least }
        };
        let (monotonic, wall) = (gone(&self.monotonic), gone(&self.wall));
        let latest = Range { least: monotonic.least.max(wall.least), most: monotonic.most.max(wall.most) };
        // One that stood still never went further.
        (Range { most: monotonic.most.min(0), ..monotonic }, latest)
    }

    /// How long its machine slept between two times.
    fn slept_us(&self, from_us: u64, until_us: u64) -> i64 {
        self.monotonic.range(from_us, from_us, Leg::offset_at).most
            - self.monotonic.range(until_us, until_us, Leg::offset_at).least
    }
}

impl EstimatedRange {
    const UNKNOWN: Self = Self {
        begins: Range { least: -END_OF_TIME, most: END_OF_TIME },
        ends: Range { least: -END_OF_TIME, most: END_OF_TIME },
        is_by_wrong_wall: true,
        is_by_stepped_redis: false,
    };
}

impl Range {
    fn plus(self, other: Self) -> Self {
        Self { least: self.least + other.least, most: self.most + other.most }
    }

    fn or(self, other: Self) -> Self {
        Self { least: self.least.min(other.least), most: self.most.max(other.most) }
    }
}

impl Default for Course {
    fn default() -> Self {
        Self::from(0)
    }
}

impl Course {
    fn from(offset_us: i64) -> Self {
        Self { legs: vec![Leg { from_us: 0, offset_us, drift_ppm: 0 }] }
    }

    fn step(&mut self, at_us: u64, by_us: i64) {
        let last = self.last();
        self.legs.push(Leg { from_us: at_us, offset_us: last.offset_at(at_us) + by_us, ..last });
    }

    fn drift(&mut self, at_us: u64, drift_ppm: i64) {
        let last = self.last();
        self.legs.push(Leg { from_us: at_us, offset_us: last.offset_at(at_us), drift_ppm });
    }

    fn last(&self) -> Leg {
        *self.legs.last().expect("it has a start")
    }

    /// What a leg says at some time between these, both included. It grows or falls throughout a leg.
    fn range(&self, from_us: u64, until_us: u64, says: fn(&Leg, u64) -> i64) -> Range {
        let mut range: Option<Range> = None;
        for (index, leg) in self.legs.iter().enumerate() {
            let ends_us = self.legs.get(index + 1).map_or(u64::MAX, |next| next.from_us);
            if until_us < leg.from_us || ends_us < from_us {
                continue;
            }
            for at_us in [leg.from_us.max(from_us), ends_us.min(until_us)] {
                let said = says(leg, at_us);
                let so_far = range.get_or_insert(Range { least: said, most: said });
                (so_far.least, so_far.most) = (so_far.least.min(said), so_far.most.max(said));
            }
        }
        range.expect("some leg is met by every time")
    }

    fn reaches(&self, reading: i64, from_us: u64) -> u64 {
        for (index, leg) in self.legs.iter().enumerate() {
            let ends_us = self.legs.get(index + 1).map_or(u64::MAX, |next| next.from_us);
            let begins_us = leg.from_us.max(from_us);
            if ends_us < begins_us {
                continue;
            }
            // Redis's clock steps and does not drift.
            let at_us = reading.saturating_sub(leg.offset_us).max(signed(begins_us)).unsigned_abs();
            if at_us < ends_us {
                return at_us;
            }
        }
        u64::MAX
    }
}

impl Leg {
    fn offset_at(&self, at_us: u64) -> i64 {
        self.offset_us
            .saturating_add(signed(at_us.saturating_sub(self.from_us)).saturating_mul(self.drift_ppm) / 1_000_000)
    }

    fn reading_at(&self, at_us: u64) -> i64 {
        signed(at_us).saturating_add(self.offset_at(at_us))
    }
}

/// An estimate that is off by this offset, between these times.
fn reading(from_us: u64, until_us: u64, offset: Range) -> Range {
    Range { least: signed(from_us) + offset.least - ESTIMATE_US, most: signed(until_us) + offset.most + ESTIMATE_US }
}

fn signed(at_us: u64) -> i64 {
    i64::try_from(at_us).unwrap_or(END_OF_TIME).min(END_OF_TIME)
}
