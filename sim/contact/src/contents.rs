//! What is stored at the end of a run, or in a store that was damaged, for its history: noted byte for byte, past every client.

use crate::{history::What, instances::Instances, recorder::Recorder, redis_host::RedisHost, world::World};

/// Notes all that Redis holds.
pub(crate) fn note_redis(world: &World, redis: &RedisHost, instances: &Instances, recorder: &Recorder) {
    let now_ms = world.wall_ms(redis.host());
    let dump = redis.with_engine(|engine| engine.dump(now_ms));
    let keys = dump.into_iter().map(|(key, dumped)| instances.stored_key(key, dumped, now_ms)).collect();
    recorder.note(What::RedisHolds { keys });
}

/// Notes what the store of an instance holds whose process does not run, or whose cache is closed; if there is one.
pub(crate) fn note_store(world: &World, redis: &RedisHost, instances: &Instances, recorder: &Recorder, instance: u32) {
    let Some(file) = world.disk(instance).content(&instances.store(instance)) else { return };
    // Records expire by Redis's clock.
    let entries = instances.stored_entries(instance, &file, world.wall_ms(redis.host()));
    recorder.note(What::StoreHolds { instance, entries });
}
