//! A stage for directed scenarios: real instances of the client in a simulated world, a simulated Redis, and a test that
//! decides what happens when. Time is simulated; a scenario of hours takes milliseconds.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod log;

use std::{collections::BTreeMap, time::Duration};

use contact_cache::{Config, ContactCache, OpenError, Patch, Source, State, Uid, env::Env as _};
use seedbed_contact::{
    history::Stop,
    redis_host::{PORT, REDIS, RedisHost},
    seed::Seed,
    world::{SimEnv, World, simulate},
};
use seedbed_redis::Engine;
use serde_json::{Value as Json, json};

pub(crate) type Cache = ContactCache<SimEnv>;

/// Where an instance keeps its store.
pub(crate) const DIRECTORY: &str = "/data/store";

/// How long a scenario waits for what has no deadline of its own, in simulated time.
const PATIENCE: Duration = Duration::from_mins(2);

/// The world of one scenario.
#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) seed: Seed,
    pub(crate) world: World,
    pub(crate) redis: RedisHost,
}

/// Plays a scenario in a simulation of its own, on a thread of its own. Redis runs.
pub(crate) fn play(scenario: impl AsyncFnOnce(Stage) + Send + 'static) {
    play_seed(1, scenario);
}

/// Likewise, with the warnings of all instances.
pub(crate) fn play_logged(scenario: impl AsyncFnOnce(Stage, log::Log) + Send + 'static) {
    play(async move |stage| {
        let (log, guard) = log::Log::of_this_thread(log::LevelFilter::WARN);
        // It is the log of the thread to its end: spans of madsim's last as long as the runtime, and a span has to end under the
        // subscriber under which it began.
        std::mem::forget(guard);
        scenario(stage, log).await;
    });
}

/// Likewise, with another seed of all that is left to chance. A panic names the seed: its thread has that name.
pub(crate) fn play_seed(seed: u64, scenario: impl AsyncFnOnce(Stage) + Send + 'static) {
    log::ask_each_time();
    simulate(seed, async move |world| {
        let stage = Stage { seed: Seed(seed), world, redis: RedisHost::default() };
        stage.redis.start(&stage.world);
        scenario(stage).await;
    });
}

pub(crate) fn config() -> Config {
    Config::new(format!("redis://redis:{PORT}").parse().expect("a url"), "p".parse().expect("a prefix"), DIRECTORY)
}

impl Stage {
    /// Starts the process of an instance and opens its cache.
    pub(crate) async fn open(&self, instance: u32) -> Cache {
        self.open_with(instance, config()).await
    }

    pub(crate) async fn open_with(&self, instance: u32, config: Config) -> Cache {
        self.try_open(instance, config).await.unwrap_or_else(|error| panic!("instance {instance}: {error}"))
    }

    pub(crate) async fn try_open(&self, instance: u32, config: Config) -> Result<Cache, OpenError> {
        ContactCache::open(self.world.boot(instance), config).await
    }

    /// Ends the process of an instance as a crash does, and its cache with it.
    pub(crate) fn kill(&self, instance: u32, how: Stop, cache: Cache) {
        self.world.kill(instance, how);
        drop(cache);
    }

    /// Closes the cache in order, and ends the process.
    pub(crate) async fn close(&self, instance: u32, cache: Cache) {
        cache.close().await.expect("the disk works");
        self.world.kill(instance, Stop::Killed);
    }

    /// Cuts an instance off from Redis, or joins it again, both ways.
    pub(crate) fn cut(&self, instance: u32, cut: bool) {
        self.cut_to_redis(instance, cut);
        self.cut_from_redis(instance, cut);
    }

    /// Requests do not arrive.
    pub(crate) fn cut_to_redis(&self, instance: u32, cut: bool) {
        self.world.net().cut(instance, REDIS, cut);
    }

    /// Requests arrive; replies do not.
    pub(crate) fn cut_from_redis(&self, instance: u32, cut: bool) {
        self.world.net().cut(REDIS, instance, cut);
    }

    pub(crate) async fn sleep(&self, duration: Duration) {
        self.world.sleep_us(u64::try_from(duration.as_micros()).expect("no ages")).await;
    }

    /// Waits until `over`.
    pub(crate) async fn until(&self, what: &str, mut over: impl FnMut() -> bool) {
        let end_us = self.world.now_us() + u64::try_from(PATIENCE.as_micros()).expect("minutes");
        while !over() {
            assert!(self.world.now_us() < end_us, "{what}: not within {PATIENCE:?}");
            self.sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until the instance is connected and nothing is pending.
    pub(crate) async fn at_rest(&self, cache: &Cache) {
        self.until("connected, with nothing pending", || {
            let health = cache.health();
            (health.state, health.pending_records) == (State::Connected, 0)
        })
        .await;
    }

    /// Waits until the instance knows that Redis is away.
    pub(crate) async fn away(&self, cache: &Cache) {
        self.until("away", || matches!(cache.health().state, State::Degraded | State::Probing)).await;
    }

    /// Runs `work` as a task of the instance's process; gives what it ends with.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        instance: u32,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::sync::oneshot::Receiver<T> {
        let (done, result) = tokio::sync::oneshot::channel();
        self.world.env(instance).spawn(async move {
            // A test that has ended does not ask.
            let _ = done.send(work.await);
        });
        result
    }

    /// What Redis holds of a record, field by field.
    pub(crate) fn stored(&self, name: &str) -> BTreeMap<String, String> {
        let key = format!("cc1:p:{name}");
        let reply = self.command(&["HGETALL", &key]);
        let parts: Vec<_> = reply.split("\r\n").filter(|part| !part.starts_with(['*', '$'])).collect();
        parts.chunks_exact(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect()
    }

    /// The profile of a record as Redis holds it, of fields that are texts.
    pub(crate) fn stored_profile(&self, name: &str) -> BTreeMap<String, String> {
        let fields = self.stored(name).into_iter();
        // Behind the digits of its stamp, a text begins with a quote.
        fields
            .filter_map(|(field, cell)| Some((field.strip_prefix('p')?.into(), cell.split('"').nth(1)?.into())))
            .collect()
    }

    /// Runs a command inside the server, as an operator would; gives the reply as it goes over the wire.
    pub(crate) fn command(&self, words: &[&str]) -> String {
        self.command_in(0, words)
    }

    /// Likewise, in a database.
    pub(crate) fn command_in(&self, database: u32, words: &[&str]) -> String {
        let now_ms = self.world.wall_ms(REDIS);
        self.redis.with_engine(|engine: &mut Engine| {
            let client = seedbed_redis::ClientId(u64::MAX);
            engine.connect(client);
            let mut reply = Vec::new();
            for words in [&["SELECT", &database.to_string()][..], words] {
                let parts = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
                let request = [format!("*{}\r\n", words.len())].into_iter().chain(parts).collect::<String>();
                reply.clear();
                engine.feed(client, request.as_bytes(), now_ms, &mut reply);
            }
            engine.disconnect(client);
            String::from_utf8_lossy(&reply).into_owned()
        })
    }
}

pub(crate) fn uid(name: &str) -> Uid {
    name.parse().expect("a uid")
}

/// A patch of one profile field.
pub(crate) fn field(name: &str, value: &str) -> Patch {
    let mut patch = Patch::default();
    patch.profile.insert(name.to_owned(), json!(value));
    patch
}

/// Source and profile of a record.
pub(crate) async fn profile(cache: &Cache, name: &str) -> (Source, Option<Json>) {
    let read = cache.get(&uid(name)).await.expect("the disk works");
    (read.source, read.record.map(|record| Json::from(record.profile.clone())))
}
