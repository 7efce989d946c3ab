//! What the instances of a run hold, for its history: noted when a cache has been closed, and at the end.
//!
//! Sockets, tasks and files are the world's own count, less the bed's workers, which run in the process of the instance.
//! Bytes are the instance's word.

use crate::{
    history::{Holding, Resource, What},
    instances::Instances,
    recorder::Recorder,
    world::{World, held::Count},
};

/// Notes what an instance holds whose process is running.
pub(crate) fn note(world: &World, instances: &Instances, recorder: &Recorder, instance: u32, closed: bool) {
    let Some(held) = world.held(instance) else { return };
    let workers = instances.workers(instance);
    let tasks =
        Count { now: held.tasks.now.saturating_sub(workers.now), most: held.tasks.most.saturating_sub(workers.most) };
    let limits = instances.limits();
    let counted = [
        (Resource::Sockets, held.sockets, limits.sockets),
        (Resource::Tasks, tasks, limits.tasks),
        (Resource::Files, held.files, limits.files),
    ];
    let mut what: Vec<_> = counted
        .into_iter()
        .map(|(resource, Count { now, most }, limit)| Holding { resource, now, most, limit })
        .collect();
    what.extend(instances.bytes(instance));
    recorder.note(What::Holds { instance, closed, what });
}

/// Notes when each instance asked for a connection.
pub(crate) fn note_attempts(world: &World, instances: &Instances, recorder: &Recorder) {
    for instance in 0..instances.count() {
        let at_us = world.net().attempts(instance);
        if !at_us.is_empty() {
            recorder.note(What::Attempts { instance, times_us: at_us });
        }
    }
}
