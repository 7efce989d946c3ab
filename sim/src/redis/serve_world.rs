//! The engine as a process of the simulated world.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use contact_cache::env::Env as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{ClientId, Engine, Flow};
use crate::{
    faults::Persistence,
    history::Stop,
    world::{Host, SimEnv, SimStream, World},
};

/// The port that it listens on.
pub const PORT: u16 = 6379;
/// The name under which it is found.
pub const NAME: &str = "redis";
/// The hosts that it can run on.
pub const HOSTS: [Host; 2] = [Host::Redis, Host::Replica];

/// The simulated Redis: a process on one of two hosts, and the data that outlives it or not.
#[derive(Clone, Default)]
pub struct RedisHost {
    engine: Arc<Mutex<Engine>>,
    on_replica: Arc<AtomicBool>,
}

impl RedisHost {
    /// Where it runs, or is to run next.
    pub fn host(&self) -> Host {
        HOSTS[usize::from(self.on_replica.load(Ordering::Relaxed))]
    }

    /// Where it could run instead.
    pub fn other_host(&self) -> Host {
        HOSTS[usize::from(!self.on_replica.load(Ordering::Relaxed))]
    }

    /// Starts the process.
    pub fn start(&self, world: &World) {
        let redis = self.clone();
        // The task ends with its process.
        drop(world.start(self.host(), |env| redis.serve(env)));
    }

    /// Starts the process on the other host, to which its name leads from now on.
    ///
    /// # Panics
    /// If it is running.
    pub fn fail_over(&self, world: &World) {
        assert!(!world.is_running(self.host()), "there is one Redis at a time");
        self.on_replica.fetch_xor(true, Ordering::Relaxed);
        world.net().set_addresses(NAME, &[self.host()]);
        self.start(world);
    }

    /// Ends the process, so; what the next one holds is decided now.
    pub fn crash(&self, world: &World, how: Stop, data: Persistence) {
        world.kill(self.host(), how);
        self.with_engine(|engine| {
            *engine = match data {
                Persistence::Kept => engine.restart_keeping_data(),
                Persistence::Lost => engine.restart_losing_data(),
            };
        });
    }

    /// What it holds now, as a save of its data.
    pub fn save(&self) -> Engine {
        self.with_engine(|engine| engine.restart_keeping_data())
    }

    /// Ends the process, so; the next one holds what was saved.
    pub fn roll_back(&self, world: &World, how: Stop, save: &Engine) {
        world.kill(self.host(), how);
        self.with_engine(|engine| *engine = engine.restart_from(save));
    }

    /// How many keys it holds.
    pub fn keys(&self, world: &World) -> u64 {
        let now_ms = world.wall_ms(self.host());
        self.with_engine(|engine| engine.dump(now_ms).len() as u64)
    }

    /// Does something inside the server, as an operator would.
    pub fn with_engine<T>(&self, work: impl FnOnce(&mut Engine) -> T) -> T {
        work(&mut self.engine.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn serve(self, env: SimEnv) {
        let listener = env.network().listen(PORT).expect("nothing else listens on this host");
        for number in 0.. {
            let Ok(mut stream) = listener.accept().await else { return };
            if let Some(words) = self.with_engine(Engine::turns_away) {
                // Whether it arrives is the client's to notice.
                let _ = stream.write_all(words).await;
                continue;
            }
            let client = ClientId(number);
            self.with_engine(|engine| engine.connect(client));
            let redis = self.clone();
            let server = env.clone();
            env.spawn(async move {
                redis.converse(&server, client, stream).await;
                redis.with_engine(|engine| engine.disconnect(client));
            });
        }
    }

    /// However a connection ends, it is the client's to notice.
    async fn converse(&self, env: &SimEnv, client: ClientId, mut stream: SimStream) {
        let (mut input, mut output) = (vec![0; 16 * 1024], Vec::new());
        while let Ok(length @ 1..) = stream.read(&mut input).await {
            output.clear();
            let flow = self.with_engine(|engine| engine.feed(client, &input[..length], env.wall_ms(), &mut output));
            if stream.write_all(&output).await.is_err() || flow == Flow::Close {
                return;
            }
        }
    }
}
