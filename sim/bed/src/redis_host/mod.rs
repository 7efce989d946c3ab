//! The Redis engine as a process of the simulated world.
//!
//! It does one thing at a time, as redis-server does: a script that works on a large record keeps every client waiting
//! for as long as it takes. What takes less than a millisecond takes no time here: it is less than links vary by.

mod garble;
mod waiting;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::{AbortHandle, abortable};
use seedbed_env::{Env as _, Listener as _, Network as _};
use seedbed_redis::{ClientId, DueReply, Engine, Flow, Refusal};
use seedbed_world::{
    Host, SimEnv, SimStream, Stop, World,
    moments::{Moments, Step},
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Notify,
};

use self::{garble::Garbled, waiting::Arrived};

/// The port that it listens on.
pub const PORT: u16 = 6379;
/// The name under which it is found.
pub const NAME: &str = "redis";
/// What a script takes of the server's time for each word that it takes, gives to a command or is answered. Measured on
/// redis-server 7.0.15, see docs/BENCHMARKS.md.
const SCRIPT_WORD_NS: u64 = 1_000;
/// Work that takes less is done at once.
const WORK_US_MIN: u64 = 1_000;
/// Where it runs at first.
pub const REDIS: Host = Host::Server { number: 0, name: NAME };
/// Where it goes when it fails over.
pub const REPLICA: Host = Host::Server { number: 1, name: "replica" };
/// The hosts that it can run on.
pub const HOSTS: [Host; 2] = [REDIS, REPLICA];

/// What Redis holds after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Persistence {
    /// Everything (append-only file, synced at every write).
    Kept,
    /// Nothing (no persistence).
    Lost,
}

/// The simulated Redis: a process on one of two hosts, and the data that outlives it or not.
#[derive(Clone, Default)]
pub struct RedisHost {
    engine: Arc<Mutex<Engine>>,
    on_replica: Arc<AtomicBool>,
    /// When it has done what it is doing now.
    busy_until_us: Arc<AtomicU64>,
    /// What is damaged of the replies to come.
    flip: Arc<Mutex<Option<Flip>>>,
    /// The damage to the framing of requests and replies.
    garbled: Garbled,
    /// Ends the connections that are idle for too long.
    ends: Arc<Mutex<BTreeMap<ClientId, AbortHandle>>>,
    /// The host from which each connection comes.
    peers: Arc<Mutex<BTreeMap<ClientId, Host>>>,
    /// Whose connections are refused, and how.
    refused: Arc<Mutex<Option<(Host, Refusal)>>>,
    /// Wakes the connections whose clients wait for an element: the engine has replies for some of them.
    came: Arc<Notify>,
}

/// A bit of a reply that is flipped on its way, unnoticed by every checksum.
#[derive(Clone, Debug)]
struct Flip {
    /// It is in the first byte of the first reply that has this text.
    text: Vec<u8>,
    bit: u8,
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
        // Both names lead to an address from now on, also where only one machine has run yet.
        for host in HOSTS {
            world.add(host);
        }
        self.busy_until_us.store(0, Ordering::Relaxed);
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let (redis, moments) = (self.clone(), world.moments().clone());
        // The task ends with its process.
        drop(world.start(self.host(), |env| redis.serve(env, moments)));
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

    /// Flips this bit (0 to 7) of the first byte of `text` in the next reply that has it, and in no other.
    pub fn flip_once(&self, text: &str, bit: u8) {
        *self.flip.lock().unwrap_or_else(PoisonError::into_inner) = Some(Flip { text: text.into(), bit });
    }

    /// Whether what [`Self::flip_once`] was to damage has not come yet.
    pub fn is_to_flip(&self) -> bool {
        self.flip.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn damage(&self, reply: &mut [u8]) {
        let mut flip = self.flip.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Flip { text, bit }) = &*flip else { return };
        if let Some(at) = reply.windows(text.len()).position(|part| part == text.as_slice()) {
            reply[at] ^= 1 << bit;
            *flip = None;
        }
    }

    /// Flips one bit in the framing of each of the next so many segments of requests from these hosts, or of replies to them. The draw
    /// selects the bits.
    pub fn garble(&self, hosts: impl Iterator<Item = Host>, of_requests: bool, segments: u32, draw: u64) {
        self.garbled.begin(hosts, of_requests, segments, draw);
    }

    /// Bits that have flipped by [`Self::garble`], ever.
    pub fn garbled(&self) -> u64 {
        self.garbled.flipped()
    }

    /// Refuses the user of this host on all of its connections from now on, or only its oldest connection.
    pub fn refuse_some(&self, host: Host, with: Refusal, is_user: bool) {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let its = peers.iter().filter(|(_, peer)| **peer == host).map(|(client, _)| *client);
        let its: Vec<_> = its.take(if is_user { usize::MAX } else { 1 }).collect();
        self.with_engine(|engine| its.iter().for_each(|client| engine.refuse_client(*client, Some(with))));
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = is_user.then_some((host, with));
    }

    /// Ends the refusal of a user or a connection.
    pub fn refuse_none(&self) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.with_engine(Engine::refuse_no_client);
    }

    /// A script runs from now on. Redis answers nothing for so many microseconds (`busy-reply-threshold`), and that it is busy
    /// from then on, until the script is killed.
    pub fn run_endless_script(&self, world: &World, silent_us: u64) {
        self.busy_until_us.store(world.now_us() + silent_us, Ordering::Relaxed);
        self.with_engine(Engine::run_endless_script);
    }

    /// What an operator is answered who asks this, on a connection of their own.
    pub fn operate(&self, world: &World, line: &str) -> String {
        let (operator, mut out) = (ClientId(u64::MAX), Vec::new());
        let now_ms = world.wall_ms(self.host());
        self.with_engine(|engine| {
            engine.connect_at(operator, now_ms);
            engine.feed(operator, format!("{line}\r\n").as_bytes(), now_ms, &mut out);
            engine.disconnect(operator);
        });
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Closes idle connections while a limit is set, as the process that runs now does; it looks ten times a second.
    pub fn watch_idle(&self, world: &World) {
        let (redis, env) = (self.clone(), world.env(self.host()));
        let clock = env.clone();
        env.spawn(async move {
            while let Some(idle) = redis.with_engine(|engine| engine.close_idle(clock.wall_ms())) {
                for client in idle {
                    if let Some(end) = redis.ends().get(&client) {
                        end.abort();
                    }
                }
                clock.sleep(Duration::from_millis(100)).await;
            }
        });
    }

    fn ends(&self) -> MutexGuard<'_, BTreeMap<ClientId, AbortHandle>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many keys it holds.
    pub fn keys(&self, world: &World) -> u64 {
        let now_ms = world.wall_ms(self.host());
        self.with_engine(|engine| engine.dump(now_ms).len() as u64)
    }

    /// Does something inside the server, as an operator would.
    pub fn with_engine<T>(&self, work: impl FnOnce(&mut Engine) -> T) -> T {
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        let result = work(&mut engine);
        if engine.due().next().is_some() {
            self.came.notify_waiters();
        }
        result
    }

    async fn serve(self, env: SimEnv, moments: Moments) {
        let listener = env.network().listen(PORT).expect("nothing else listens on this host");
        for number in 0.. {
            let Ok(mut stream) = listener.accept().await else { return };
            if let Some(words) = self.with_engine(Engine::turns_away) {
                // Whether it arrives is the client's to notice.
                let _ = stream.write_all(words).await;
                continue;
            }
            let client = ClientId(number);
            self.connected(client, stream.peer(), env.wall_ms());
            let redis = self.clone();
            let server = env.clone();
            let moments = moments.clone();
            env.spawn(async move {
                // The operator's limit of idle time ends a connection whatever it waits for.
                let (conversation, end) = abortable(redis.converse(&server, &moments, client, stream));
                redis.ends().insert(client, end);
                // Ended by the limit or not, it is over.
                let _ = conversation.await;
                redis.ends().remove(&client);
                redis.peers.lock().unwrap_or_else(PoisonError::into_inner).remove(&client);
                redis.with_engine(|engine| engine.disconnect(client));
            });
        }
    }

    fn connected(&self, client: ClientId, host: Host, now_ms: u64) {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).insert(client, host);
        let refused = *self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = refused.filter(|(of, _)| *of == host).map(|(_, with)| with);
        self.with_engine(|engine| {
            engine.connect_at(client, now_ms);
            engine.refuse_client(client, refused);
        });
    }

    /// However a connection ends, it is the client's to notice.
    async fn converse(&self, env: &SimEnv, moments: &Moments, client: ClientId, mut stream: SimStream) {
        let (mut input, mut output) = (vec![0; 16 * 1024], Vec::new());
        loop {
            let arrived = if self.with_engine(|engine| engine.is_waiting(client)) {
                self.read_or_due(env, client, &mut stream, &mut input).await
            } else {
                stream.read(&mut input).await.ok().map(Arrived::Bytes)
            };
            let flow = match arrived {
                None | Some(Arrived::Bytes(0)) => return,
                Some(Arrived::Bytes(length)) => {
                    output.clear();
                    self.answer(env, moments, (client, stream.peer()), &mut input[..length], &mut output).await
                }
                Some(Arrived::Due(DueReply { bytes, flow })) => {
                    output = bytes;
                    self.idle(env).await;
                    flow
                }
            };
            self.damage(&mut output);
            self.garbled.reply(stream.peer(), &mut output);
            if stream.write_all(&output).await.is_err() || flow == Flow::Close {
                return;
            }
        }
    }

    /// Executes what comes from a client, when the server has the time.
    async fn answer(
        &self,
        env: &SimEnv,
        moments: &Moments,
        (client, peer): (ClientId, Host),
        input: &mut [u8],
        output: &mut Vec<u8>,
    ) -> Flow {
        if self.with_engine(|engine| !engine.is_within_a_request(client)) {
            self.garbled.request(peer, input);
        }
        self.idle(env).await;
        let completes = |engine: &mut Engine| engine.completes(client, input);
        let requests = if moments.is_awaited() { self.with_engine(completes) } else { Vec::new() };
        for words in &requests {
            strike(env, moments, &Step::Asked(words), peer).await;
        }
        let flow = self.feed(env, client, input, output);
        // The replies leave when the work is done.
        self.idle(env).await;
        for words in &requests {
            strike(env, moments, &Step::Done(words), peer).await;
        }
        flow
    }

    /// Has the engine take bytes, and is busy for as long as it takes a server to run what scripts came with them.
    fn feed(&self, env: &SimEnv, client: ClientId, bytes: &[u8], output: &mut Vec<u8>) -> Flow {
        let (flow, words) = self.with_engine(|engine| {
            let before = engine.script_words();
            let flow = engine.feed(client, bytes, env.wall_ms(), output);
            (flow, engine.script_words() - before)
        });
        let work_us = words * SCRIPT_WORD_NS / 1_000;
        if work_us >= WORK_US_MIN {
            self.busy_until_us.store(now_us(env) + work_us, Ordering::Relaxed);
        }
        flow
    }

    /// Waits until the server has nothing else to do.
    async fn idle(&self, env: &SimEnv) {
        loop {
            let left_us = self.busy_until_us.load(Ordering::Relaxed).saturating_sub(now_us(env));
            if left_us == 0 {
                return;
            }
            env.sleep(Duration::from_micros(left_us)).await;
        }
    }
}

/// Tells of a step for a host. If a fault strikes, waits until it has begun.
async fn strike(env: &SimEnv, moments: &Moments, step: &Step<'_>, host: Host) {
    if moments.come(step, host) {
        env.sleep(Duration::from_micros(1)).await;
    }
}

fn now_us(env: &SimEnv) -> u64 {
    u64::try_from(env.now().as_micros()).unwrap_or(u64::MAX)
}
