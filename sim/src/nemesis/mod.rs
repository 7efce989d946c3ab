//! Plays a fault plan against the world. It does not know the workload; they meet in the runner.

mod links;

use self::links::Links;
use crate::{
    faults::{Fault, Persistence, PlannedFault},
    history::{Stop, What},
    instances::Instances,
    recorder::Recorder,
    redis::serve_world::RedisHost,
    runner::start_instance,
    world::{Host, World},
};

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

#[derive(Clone, Copy, PartialEq)]
enum Edge {
    Begin,
    End,
}

impl Nemesis<'_> {
    /// Plays the plan to its end. Every fault has ended then.
    pub async fn play(&self, plan: &[PlannedFault], start_us: u64) {
        let mut edges: Vec<_> = (0..plan.len())
            .flat_map(|index| [(plan[index].start_us, index, Edge::Begin), (plan[index].end_us, index, Edge::End)])
            .collect();
        // Of one moment: in the order of the plan, each beginning before its end.
        edges.sort_by_key(|(at_us, index, _)| (*at_us, *index));
        let mut links = Links::default();
        for (at_us, index, edge) in edges {
            let now_us = self.world.now_us();
            self.world.sleep_us((start_us + at_us).saturating_sub(now_us)).await;
            let fault = &plan[index].fault;
            let number = u32::try_from(index).expect("a handful of faults");
            match edge {
                Edge::Begin => {
                    self.recorder.note(What::FaultBegin { fault: number, what: fault.clone() });
                    self.begin(fault, &mut links).await;
                }
                Edge::End => {
                    self.end(fault, &mut links);
                    self.recorder.note(What::FaultEnd { fault: number });
                }
            }
        }
    }

    async fn begin(&self, fault: &Fault, links: &mut Links) {
        match fault {
            Fault::Partition { .. } | Fault::SlowLink { .. } => links.change(self.world, fault, Edge::Begin),
            Fault::ResetConnections { instances } => {
                for instance in instances {
                    self.world.net().reset_between(*instance, Host::Redis);
                }
            }
            Fault::RedisCrash { data } => {
                self.redis.crash(self.world, *data);
                if *data == Persistence::Lost {
                    self.recorder.note(What::RedisLostData);
                }
            }
            Fault::RedisPause => self.world.pause(Host::Redis),
            Fault::RedisRefuses { with } => self.redis.with_engine(|engine| engine.refuse(Some(*with))),
            Fault::ScriptFlush => self.redis.with_engine(crate::redis::Engine::script_flush),
            Fault::FlushAll => {
                self.redis.with_engine(crate::redis::Engine::flush_all);
                self.recorder.note(What::RedisLostData);
            }
            Fault::InstanceCrash { instance, power_loss } => {
                let how = if *power_loss { Stop::PowerLost } else { Stop::Killed };
                self.instances.stopped(*instance, how);
                self.world.kill(*instance, how);
            }
            Fault::InstanceRestart { instance } => {
                self.instances.close(*instance).await;
                self.world.kill(*instance, Stop::Killed);
            }
        }
    }

    fn end(&self, fault: &Fault, links: &mut Links) {
        match fault {
            Fault::Partition { .. } | Fault::SlowLink { .. } => links.change(self.world, fault, Edge::End),
            Fault::ResetConnections { .. } | Fault::ScriptFlush | Fault::FlushAll => {}
            Fault::RedisCrash { .. } => self.redis.start(self.world),
            Fault::RedisPause => self.world.resume(Host::Redis),
            Fault::RedisRefuses { .. } => self.redis.with_engine(|engine| engine.refuse(None)),
            Fault::InstanceCrash { instance, .. } | Fault::InstanceRestart { instance } => {
                start_instance(self.world, self.instances, *instance);
            }
        }
    }
}
