//! Faults of processes and their machines.

use rand::{RngExt, seq::IndexedRandom};
use seedbed_world::{Stop, seed::Stream};
use serde::{Deserialize, Serialize};

use super::{FaultKind, Frame, Part, Stage};

/// The parameters of a fault of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OneInstance {
    /// Which.
    pub instance: u32,
}

impl OneInstance {
    pub(super) fn draw(draw: &mut Stream, frame: &Frame) -> Option<Self> {
        (frame.instances > 0).then(|| Self { instance: draw.random_range(0..frame.instances) })
    }

    pub(super) fn victims(&self) -> Vec<String> {
        vec![self.instance.to_string()]
    }
}

/// Declares a fault of the process of one instance.
macro_rules! of_one_instance {
    ($(#[$doc:meta])* $kind:ident, $name:literal, stops: $stops:literal, begin: $begin:expr, end: $end:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $kind;

        impl FaultKind for $kind {
            type Parameters = OneInstance;

            fn name(&self) -> &'static str {
                $name
            }

            fn part(&self) -> Part {
                Part::Process
            }

            fn stops_processes(&self) -> bool {
                $stops
            }

            fn draw(&self, draw: &mut Stream, frame: &Frame) -> Option<OneInstance> {
                OneInstance::draw(draw, frame)
            }

            fn victims(&self, of: &OneInstance) -> Vec<String> {
                of.victims()
            }

            fn begin(&self, of: &OneInstance, stage: &Stage<'_>) {
                let begin: fn(u32, &Stage<'_>) = $begin;
                begin(of.instance, stage);
            }

            fn end(&self, of: &OneInstance, stage: &Stage<'_>) {
                let end: fn(u32, &Stage<'_>) = $end;
                end(of.instance, stage);
            }

            fn effects(&self, _: &OneInstance, _: &Stage<'_>, has_begun: bool) -> u64 {
                u64::from(has_begun)
            }
        }
    };
}

of_one_instance!(
    /// The process of an instance is killed, and starts again at the end. What it wrote to its disk stays.
    Crash, "crash", stops: false,
    begin: |instance, stage| stage.stop(instance.into(), Stop::Killed),
    end: |instance, stage| stage.start(instance.into())
);

of_one_instance!(
    /// The machine of an instance loses power until the end. What was not synced to its disk may be gone.
    PowerLoss, "power loss", stops: false,
    begin: |instance, stage| stage.stop(instance.into(), Stop::PowerLost),
    end: |instance, stage| stage.start(instance.into())
);

of_one_instance!(
    /// The process of an instance is stopped (SIGSTOP), and goes on at the end. Its kernel and its clocks go on.
    Pause, "pause", stops: true,
    begin: |instance, stage| stage.world.pause(instance),
    end: |instance, stage| stage.world.resume(instance)
);

of_one_instance!(
    /// The machine of an instance sleeps: its monotonic clock stands still, its wall clock goes on.
    Suspend, "suspend", stops: true,
    begin: |instance, stage| stage.world.suspend(instance),
    end: |instance, stage| stage.world.wake(instance)
);

/// The machines of several instances lose power at once until the end, as those of a rack do. What was not synced to any of their
/// disks may be gone.
#[derive(Clone, Copy, Debug)]
pub struct Blackout;

/// The parameters of a blackout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SomeInstances {
    /// Which.
    pub instances: Vec<u32>,
}

impl FaultKind for Blackout {
    type Parameters = SomeInstances;

    fn name(&self) -> &'static str {
        "blackout"
    }

    fn part(&self) -> Part {
        Part::Process
    }

    fn draw(&self, draw: &mut Stream, frame: &Frame) -> Option<SomeInstances> {
        let all: Vec<u32> = (0..frame.instances).collect();
        (all.len() > 1).then(|| {
            let count = draw.random_range(2..=all.len());
            let mut instances: Vec<_> = all.sample(draw, count).copied().collect();
            instances.sort_unstable();
            SomeInstances { instances }
        })
    }

    fn victims(&self, of: &SomeInstances) -> Vec<String> {
        of.instances.iter().map(ToString::to_string).collect()
    }

    fn begin(&self, of: &SomeInstances, stage: &Stage<'_>) {
        for instance in &of.instances {
            stage.stop((*instance).into(), Stop::PowerLost);
        }
    }

    fn end(&self, of: &SomeInstances, stage: &Stage<'_>) {
        for instance in &of.instances {
            stage.start((*instance).into());
        }
    }

    fn effects(&self, _: &SomeInstances, _: &Stage<'_>, has_begun: bool) -> u64 {
        u64::from(has_begun)
    }
}

/// The process of an instance ends between two operations on its disk, and starts again at the end. The steps of a write are apart
/// nowhere else.
#[derive(Clone, Copy, Debug)]
pub struct CrashAtDisk;

/// The parameters of a crash at the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AtDisk {
    /// Which.
    pub instance: u32,
    /// So many operations that change something are still done.
    pub ops: u64,
    /// Whether the machine loses power too.
    pub loses_power: bool,
}

impl AtDisk {
    fn how(&self) -> Stop {
        if self.loses_power { Stop::PowerLost } else { Stop::Killed }
    }
}

impl FaultKind for CrashAtDisk {
    type Parameters = AtDisk;

    fn name(&self) -> &'static str {
        "crash at disk"
    }

    fn part(&self) -> Part {
        Part::Process
    }

    fn draw(&self, draw: &mut Stream, frame: &Frame) -> Option<AtDisk> {
        let OneInstance { instance } = OneInstance::draw(draw, frame)?;
        // Few, so that it comes while the fault lasts.
        Some(AtDisk { instance, ops: draw.random_range(0..8), loses_power: draw.random() })
    }

    fn victims(&self, at: &AtDisk) -> Vec<String> {
        vec![at.instance.to_string()]
    }

    fn begin(&self, at: &AtDisk, stage: &Stage<'_>) {
        stage.stop_at_disk_op(at.instance.into(), at.ops, at.how());
    }

    fn end(&self, at: &AtDisk, stage: &Stage<'_>) {
        stage.end_ambush(at.instance.into(), at.how());
        stage.start(at.instance.into());
    }

    fn effects(&self, at: &AtDisk, stage: &Stage<'_>, has_begun: bool) -> u64 {
        u64::from(has_begun && !stage.world.is_running(at.instance))
    }
}

/// The process of a server is killed, and starts again at the end. What it wrote to its disk stays.
#[derive(Clone, Copy, Debug)]
pub struct ServerCrash;

/// The parameters of a server's crash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OneServer {
    /// Its name.
    pub server: String,
}

impl FaultKind for ServerCrash {
    type Parameters = OneServer;

    fn name(&self) -> &'static str {
        "server crash"
    }

    fn part(&self) -> Part {
        Part::Process
    }

    fn draw(&self, draw: &mut Stream, frame: &Frame) -> Option<OneServer> {
        frame.servers.choose(draw).map(|server| OneServer { server: (*server).to_owned() })
    }

    fn victims(&self, of: &OneServer) -> Vec<String> {
        vec![of.server.clone()]
    }

    fn begin(&self, of: &OneServer, stage: &Stage<'_>) {
        stage.stop(stage.host(&of.server), Stop::Killed);
    }

    fn end(&self, of: &OneServer, stage: &Stage<'_>) {
        stage.start(stage.host(&of.server));
    }

    fn effects(&self, _: &OneServer, _: &Stage<'_>, has_begun: bool) -> u64 {
        u64::from(has_begun)
    }
}
