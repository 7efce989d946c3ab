//! Plays a fault plan against the world. It does not know the workload; they meet in the runner.
//!
//! Faults that take longer than planned (an orderly restart waits for calls) move everything after them, and the margins
//! between them stay. What a fault did is measured in the world (`effects`) and noted when it ends.

mod effects;
mod foreign;
mod links;
mod moments;
mod network;
mod stores;

use std::collections::{BTreeMap, BTreeSet};

use madsim::task::JoinHandle;
use seedbed_redis::Engine;

use self::links::Links;
use crate::{
    contents,
    faults::{DiskTrouble, Fault, PlannedFault, ServerLimit},
    history::{Raw, RecordName, Stop, What},
    holdings,
    instances::Instances,
    recorder::Recorder,
    redis_host::{HOSTS, RedisHost},
    world::{
        World,
        disk::{Disk, Verb},
    },
};

/// How long after the end of its disk's trouble an instance may take to find out that its store has stopped: what was
/// asked before is answered by then.
const STOPPED_US: u64 = 10_000;

/// How long an instance may take to end in order before it is killed: what Kubernetes grants. A client without deadlines
/// may wait for a Redis that stands still until this very plan goes on.
const GRACE_US: u64 = 30_000_000;

/// How long after an orderly close its tasks may take to find out that they have ended.
const LET_GO_US: u64 = 1_000;

/// What the nemesis may touch.
pub struct Nemesis<'a> {
    /// Network, disks, clocks and processes.
    pub world: &'a World,
    /// The simulated Redis.
    pub redis: &'a RedisHost,
    /// The instances of the subject.
    pub instances: &'a Instances,
    /// Where it notes what it did.
    pub recorder: &'a Recorder,
}

/// A moment of a fault. One of a time: in the order of the plan, and of these.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Edge {
    /// Redis saves its data, for a rollback to come, or a store is copied, to be put back.
    Save,
    Begin,
    End,
}

/// What has begun.
#[derive(Default)]
struct Playing {
    links: Links,
    saves: BTreeMap<u32, Engine>,
    /// Wait for the operation of a disk at which a process dies.
    crashes: BTreeMap<u32, JoinHandle<()>>,
    /// The effects so far of each fault, and what its measure showed when it began.
    effects: BTreeMap<u32, (u64, u64)>,
    /// The disks of instances that have another's.
    disks: BTreeMap<u32, Disk>,
    /// Faults whose moment has come, with the instances that they strike.
    struck: BTreeMap<u32, Fault>,
}

impl Nemesis<'_> {
    /// Plays the plan to its end. Every fault has ended then.
    pub async fn play(&self, plan: &[PlannedFault], start_us: u64) {
        let mut base_us = start_us;
        let mut playing = Playing::default();
        let mut edges = edges(plan);
        while let Some(&(at_us, number, edge)) = edges.first() {
            let due_us = base_us + at_us;
            if let Some(struck) = self.until(due_us).await {
                let struck_us = self.world.now_us();
                let planned = &plan[struck.fault as usize];
                let ends_us = self.strike(struck, planned, base_us, &mut playing).await;
                edges.remove(&(planned.end_us, struck.fault, Edge::End));
                edges.insert((ends_us, struck.fault, Edge::End));
                base_us += self.world.now_us() - struck_us;
                continue;
            }
            edges.pop_first();
            base_us += self.world.now_us() - due_us;
            let planned = &plan[number as usize];
            match (edge, &planned.at) {
                (Edge::Save, _) => match planned.fault.copy_age_us() {
                    Some(_) => self.copy_store(number, &planned.fault),
                    None => drop(playing.saves.insert(number, self.redis.save())),
                },
                (Edge::Begin, None) => {
                    self.note_and_begin(number, planned, &planned.fault, base_us + planned.end_us, &mut playing).await;
                }
                (Edge::Begin, Some(trigger)) => self.wait_for(number, trigger, &planned.fault),
                (Edge::End, None) => self.end_and_note(number, &planned.fault, &mut playing).await,
                (Edge::End, Some(_)) => match playing.struck.remove(&number) {
                    Some(fault) => self.end_and_note(number, &fault, &mut playing).await,
                    None => self.world.moments().forget(number),
                },
            }
        }
    }

    async fn note_and_begin(
        &self,
        number: u32,
        planned: &PlannedFault,
        fault: &Fault,
        ends_us: u64,
        playing: &mut Playing,
    ) {
        let at = planned.at.as_ref().map(|trigger| trigger.moment.clone());
        self.recorder.note(What::FaultBegin { fault: number, what: fault.clone(), at });
        let measured = self.measure(fault);
        let effects = self.begin(number, fault, ends_us, playing).await;
        playing.effects.insert(number, (effects, measured));
    }

    async fn end_and_note(&self, number: u32, fault: &Fault, playing: &mut Playing) {
        let at_end = self.end(number, fault, playing).await;
        let (at_begin, measured) = playing.effects.remove(&number).unwrap_or_default();
        let effects = at_begin + at_end + (self.measure(fault) - measured);
        self.recorder.note(What::FaultEnd { fault: number, effects });
    }

    /// Begins a fault. Answers the effects that are seen at once.
    async fn begin(&self, number: u32, fault: &Fault, ends_us: u64, playing: &mut Playing) -> u64 {
        match fault {
            Fault::Partition { .. } | Fault::SlowLink { .. } => playing.links.change(self.world, fault, Edge::Begin),
            Fault::ResetConnections { instances } => {
                let reset = |instance: &u32| self.world.net().reset_between(*instance, self.redis.host()) as u64;
                return instances.iter().map(reset).sum();
            }
            Fault::BadNetwork { instances, trouble } => {
                self.change_network(instances, *trouble, Edge::Begin);
            }
            Fault::BadNames { instances, delay_us, answer } => self.begin_bad_names(instances, *delay_us, *answer),
            Fault::RedisCrash { .. }
            | Fault::RedisPowerLoss { .. }
            | Fault::RedisFailover { .. }
            | Fault::RedisPause
            | Fault::RedisRefuses { .. }
            | Fault::RedisRefusesOne { .. }
            | Fault::RedisDenies { .. }
            | Fault::RedisLimits { .. }
            | Fault::RedisBusyScript { .. }
            | Fault::ForeignKeys { .. }
            | Fault::ScriptFlush
            | Fault::FlushAll
            | Fault::Eviction { .. }
            | Fault::RedisRollback { .. } => return self.begin_on_redis(fault, playing.saves.remove(&number).as_ref()),
            Fault::RedisSwap { holds } => {
                playing.saves.insert(number, self.redis.save());
                return self.swap_redis(*holds);
            }
            Fault::RedisClockStep { by_ms } => HOSTS.iter().for_each(|host| self.world.step_clock_ms(*host, *by_ms)),
            Fault::RollingRestart { down_us } => {
                let mut restarted = 0;
                for instance in 0..self.instances.count() {
                    restarted += u64::from(self.stop_in_order(instance).await == Stop::Closed);
                    self.world.sleep_us(*down_us).await;
                    start_instance(self.world, self.instances, instance);
                    self.world.sleep_us(*down_us).await;
                }
                return restarted;
            }
            Fault::StoreShared { instances, .. } => match self.share_store(instances).await {
                Some(disk) => {
                    playing.disks.insert(number, disk);
                    return 1;
                }
                None => return 0,
            },
            Fault::InstanceRestart { .. }
            | Fault::InstanceCrash { .. }
            | Fault::CrashAtDisk { .. }
            | Fault::InstancePause { .. }
            | Fault::InstanceSuspend { .. }
            | Fault::LockHeld { .. }
            | Fault::CancelledCalls { .. }
            | Fault::BadDisk { .. }
            | Fault::BitRot { .. }
            | Fault::BadWrites { .. }
            | Fault::StoreChange { .. }
            | Fault::ClockStep { .. }
            | Fault::ClockDrift { .. } => {
                return self.begin_on_instance(number, fault.instances()[0], fault, ends_us, playing).await;
            }
        }
        0
    }

    fn begin_on_redis(&self, fault: &Fault, save: Option<&Engine>) -> u64 {
        match fault {
            Fault::RedisCrash { .. }
            | Fault::RedisPowerLoss { .. }
            | Fault::RedisFailover { .. }
            | Fault::RedisRollback { .. } => {
                assert_eq!(save.is_some(), fault.save_age_us().is_some(), "what goes on from a save has one");
                self.stop_redis(fault, save)
            }
            Fault::RedisPause => {
                self.world.pause(self.redis.host());
                0
            }
            Fault::RedisRefuses { with } => {
                self.redis.with_engine(|engine| engine.refuse(Some(*with)));
                0
            }
            Fault::RedisRefusesOne { instance, with, user } => {
                self.redis.refuse_some((*instance).into(), *with, *user);
                0
            }
            Fault::RedisDenies { denied } => {
                self.redis.with_engine(|engine| engine.deny(denied.commands()));
                0
            }
            Fault::RedisLimits { to } => {
                self.redis.with_engine(|engine| engine.limit(*to));
                if matches!(to, ServerLimit::Idle { .. }) {
                    self.redis.watch_idle(self.world);
                }
                0
            }
            Fault::RedisBusyScript { silent_us } => {
                self.redis.run_endless_script(self.world, *silent_us);
                0
            }
            Fault::ForeignKeys { spellings, strings, crowd } => self.write_foreign(*spellings, *strings, *crowd),
            Fault::ScriptFlush => self.redis.with_engine(Engine::script_flush) as u64,
            Fault::FlushAll => {
                let keys = self.redis.keys(self.world);
                self.redis.with_engine(Engine::flush_all);
                self.recorder.note(What::RedisLostData);
                keys
            }
            Fault::Eviction { keys, draw } => {
                let now_ms = self.world.wall_ms(self.redis.host());
                let evicted = self.redis.with_engine(|engine| engine.evict(*keys, *draw, now_ms));
                let records: Vec<RecordName> =
                    evicted.iter().flat_map(|key| self.instances.records_of_key(key)).collect();
                if !records.is_empty() {
                    self.recorder.note(What::RedisLostRecords { records });
                }
                let others: Vec<Raw> =
                    evicted.iter().filter(|key| self.instances.is_of_others(key)).cloned().map(Raw).collect();
                if !others.is_empty() {
                    self.recorder.note(What::RedisLostKeys { keys: others });
                }
                evicted.len() as u64
            }
            _ => unreachable!("only faults of Redis come here"),
        }
    }

    async fn begin_on_instance(
        &self,
        number: u32,
        instance: u32,
        fault: &Fault,
        ends_us: u64,
        playing: &mut Playing,
    ) -> u64 {
        let (world, disk) = (self.world, self.world.disk(instance));
        match fault {
            Fault::InstanceCrash { power_loss, .. } => {
                let seen = self.instances.calls(instance) + world.net().open_connections(instance) as u64;
                let (how, before) = (ending(*power_loss), disk.effects());
                self.instances.stopped(instance, how);
                world.kill(instance, how);
                return seen + (disk.effects() - before);
            }
            Fault::CrashAtDisk { ops, power_loss, .. } => {
                let reached = world.crash_after_disk_ops(instance, *ops);
                let (world, instances, how) = (world.clone(), self.instances.clone(), ending(*power_loss));
                let crash = madsim::task::spawn(async move {
                    reached.await;
                    instances.stopped(instance, how);
                    world.kill(instance, how);
                });
                playing.crashes.insert(number, crash);
            }
            Fault::InstanceRestart { .. } => return u64::from(self.stop_in_order(instance).await == Stop::Closed),
            Fault::InstancePause { .. } => world.pause(instance),
            Fault::InstanceSuspend { .. } => world.suspend(instance),
            Fault::LockHeld { .. } => {
                self.stop_in_order(instance).await;
                disk.hold_locks();
                start_instance(world, self.instances, instance);
            }
            Fault::CancelledCalls { polls_max, .. } => self.instances.set_patience(instance, Some(*polls_max)),
            Fault::BadDisk { trouble, .. } => begin_trouble(&disk, *trouble, ends_us),
            Fault::BitRot { running, .. } => {
                if !running {
                    self.stop_in_order(instance).await;
                }
                disk.rot(&self.instances.store(instance));
            }
            Fault::BadWrites { how, writes, .. } => disk.spoil_writes(*how, *writes),
            Fault::StoreChange { change, running, .. } => {
                return self.change_store(number, instance, *change, *running).await;
            }
            Fault::ClockStep { by_ms, .. } => world.step_clock_ms(instance, *by_ms),
            Fault::ClockDrift { ppm, .. } => world.set_drift_ppm(instance, *ppm),
            _ => unreachable!("only faults of one instance come here"),
        }
        0
    }

    /// Ends a fault. Answers the effects that only show then.
    async fn end(&self, number: u32, fault: &Fault, playing: &mut Playing) -> u64 {
        let world = self.world;
        match fault {
            Fault::Partition { .. } | Fault::SlowLink { .. } => playing.links.change(world, fault, Edge::End),
            Fault::ResetConnections { .. }
            | Fault::ScriptFlush
            | Fault::FlushAll
            | Fault::Eviction { .. }
            | Fault::ForeignKeys { .. }
            | Fault::RollingRestart { .. } => {}
            Fault::BadNetwork { instances, trouble } => {
                self.change_network(instances, *trouble, Edge::End);
            }
            Fault::BadNames { instances, .. } => self.end_bad_names(instances),
            Fault::RedisCrash { .. } | Fault::RedisPowerLoss { .. } | Fault::RedisRollback { .. } => {
                self.redis.start(world);
            }
            Fault::RedisFailover { .. } => {
                self.clear_other_host();
                self.redis.fail_over(world);
            }
            Fault::RedisSwap { .. } => self.swap_redis_back(&playing.saves.remove(&number).expect("it was kept")),
            Fault::RedisPause => world.resume(self.redis.host()),
            Fault::RedisRefuses { .. } => self.redis.with_engine(|engine| engine.refuse(None)),
            Fault::RedisRefusesOne { .. } => self.redis.refuse_none(),
            Fault::RedisDenies { .. } => self.redis.with_engine(|engine| engine.deny(&[])),
            Fault::RedisLimits { .. } => self.redis.with_engine(Engine::lift_limits),
            Fault::RedisBusyScript { .. } => {
                let answer = self.redis.operate(self.world, "SCRIPT KILL");
                assert_eq!(answer, "+OK\r\n", "it has written nothing");
            }
            Fault::RedisClockStep { by_ms } => HOSTS.iter().for_each(|host| world.step_clock_ms(*host, -by_ms)),
            Fault::InstanceCrash { instance, .. } | Fault::InstanceRestart { instance } => self.start(*instance),
            Fault::CrashAtDisk { instance, .. } => {
                return self.end_crash(*instance, playing.crashes.remove(&number)).await;
            }
            Fault::InstancePause { instance } => {
                let waited = self.instances.due(*instance);
                world.resume(*instance);
                return waited;
            }
            Fault::InstanceSuspend { instance } => {
                let waited = self.instances.due(*instance);
                world.wake(*instance);
                return waited;
            }
            Fault::LockHeld { instance } => world.disk(*instance).heal(),
            Fault::CancelledCalls { instance, .. } => self.instances.set_patience(*instance, None),
            Fault::BadDisk { instance, .. } => self.end_trouble(*instance).await,
            Fault::BitRot { instance, running } => {
                if *running {
                    self.stop_in_order(*instance).await;
                }
                self.start(*instance);
            }
            Fault::BadWrites { instance, .. } => {
                world.disk(*instance).heal();
                self.stop_in_order(*instance).await;
                self.start(*instance);
            }
            Fault::StoreChange { instance, change, running } => {
                if *running {
                    self.stop_in_order(*instance).await;
                }
                self.change_store_back(*instance, *change);
                self.start(*instance);
            }
            Fault::StoreShared { instances, taken_back } => {
                if let Some(disk) = playing.disks.remove(&number) {
                    self.share_store_no_more(instances, *taken_back, disk).await;
                }
            }
            Fault::ClockStep { instance, by_ms } => world.step_clock_ms(*instance, -by_ms),
            Fault::ClockDrift { instance, .. } => world.set_drift_ppm(*instance, 0),
        }
        0
    }

    /// A process that has not died at its disk by now does not.
    async fn end_crash(&self, instance: u32, crash: Option<JoinHandle<()>>) -> u64 {
        self.world.cancel_crash(instance);
        // One that has reached the operation is killed in the same moment.
        self.world.sleep_us(1).await;
        if let Some(crash) = crash {
            crash.abort();
        }
        let died = !self.world.is_running(instance);
        if died {
            self.start(instance);
        }
        u64::from(died)
    }

    /// The disk works again. Whoever runs the instance restarts it if its store has stopped.
    async fn end_trouble(&self, instance: u32) {
        self.world.disk(instance).heal();
        self.world.sleep_us(STOPPED_US).await;
        if self.instances.needs_restart(instance) {
            self.instances.stopped(instance, Stop::Killed);
            self.world.kill(instance, Stop::Killed);
            self.start(instance);
        }
    }

    /// An instance is closed, given some time for it, and its process ends.
    pub(crate) async fn stop_in_order(&self, instance: u32) -> Stop {
        if !self.world.is_running(instance) {
            return Stop::Killed;
        }
        let closed = self.world.within_us(GRACE_US, self.instances.close(instance)).await;
        if closed.is_none() {
            self.instances.stopped(instance, Stop::Killed);
        }
        if closed == Some(Stop::Closed) {
            self.world.sleep_us(LET_GO_US).await;
            holdings::note(self.world, self.instances, self.recorder, instance, true);
        }
        self.world.kill(instance, Stop::Killed);
        closed.unwrap_or(Stop::Killed)
    }

    /// The process of an instance starts.
    pub(crate) fn start(&self, instance: u32) {
        if self.world.disk(instance).is_damaged(&self.instances.store(instance)) {
            self.recorder.note(What::StoreDamaged { instance });
            contents::note_store(self.world, self.redis, self.instances, self.recorder, instance);
        }
        start_instance(self.world, self.instances, instance);
    }
}

/// Starts the process of an instance.
pub(crate) fn start_instance(world: &World, instances: &Instances, instance: u32) {
    let instances = instances.clone();
    // The task ends with its process.
    drop(world.start(instance, move |env| {
        let process = env.clone();
        instances.live(env, instance, move || process.is_alive())
    }));
}

/// The moments of a plan, in their order.
fn edges(plan: &[PlannedFault]) -> BTreeSet<(u64, u32, Edge)> {
    let mut edges = BTreeSet::new();
    for (number, planned) in (0..).zip(plan) {
        if let Some(age_us) = planned.fault.save_age_us().or(planned.fault.copy_age_us()) {
            edges.insert((planned.start_us.saturating_sub(age_us), number, Edge::Save));
        }
        edges.insert((planned.start_us, number, Edge::Begin));
        edges.insert((planned.end_us, number, Edge::End));
    }
    edges
}

fn ending(power_loss: bool) -> Stop {
    if power_loss { Stop::PowerLost } else { Stop::Killed }
}

fn begin_trouble(disk: &Disk, trouble: DiskTrouble, ends_us: u64) {
    use std::io::ErrorKind::{Other, ReadOnlyFilesystem, StorageFull};
    match trouble {
        DiskTrouble::Full => disk.inject(Verb::Write, StorageFull, u32::MAX),
        DiskTrouble::ReadErrors { times } => disk.inject(Verb::Read, Other, times),
        DiskTrouble::WriteErrors { times } => disk.inject(Verb::Write, Other, times),
        DiskTrouble::SyncErrors { times } => disk.inject(Verb::Sync, Other, times),
        DiskTrouble::ReadOnly => {
            for verb in [Verb::Write, Verb::Sync, Verb::Name] {
                disk.inject(verb, ReadOnlyFilesystem, u32::MAX);
            }
        }
        DiskTrouble::SlowSync { extra_us } => disk.set_sync_extra_us(extra_us),
        DiskTrouble::Stalled => disk.stall_until_us(ends_us),
    }
}
