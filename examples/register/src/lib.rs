//! A register on three hosts, on the bed: each is a replica and takes calls. A call asks all replicas and is content with two
//! answers (Attiya, Bar-Noy and Dolev, "Sharing memory robustly in message-passing systems", JACM 42(1), 1995, with many writers).

use std::{
    future::ready,
    io,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use seedbed::{
    Bed, Instance, Outcome, Plan, Planned, SimEnv, Stream, System, Workload, connect, deadline,
    env::{Disk, DiskFile, Env, Listener, Network, timeout},
    eventually_after_heal, linearizable,
    linearize::{Register, RegisterOp, RegisterRet},
    rand::RngExt,
    world::{SimDisk, SimListener, SimStream},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const HOSTS: u32 = 3;
const PORT: u16 = 7_000;
const PHASE: Duration = Duration::from_millis(500);
const FOLDER: &str = "/register";
const VERSION: &str = "/register/version";
const NEXT: &str = "/register/next";

/// A mistake, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// One answer is enough.
    WithoutQuorum,
    /// What was read may be on one replica alone.
    NoWriteBack,
    /// A replica answers before its disk has it.
    NoSync,
}

/// A write's number, what tells it from others of the same number, and its value. The largest is the last.
type Version = [u64; 3];
const INITIAL: Version = [0; 3];

/// What a host keeps: one version, in a file that is replaced as a whole.
struct Replica {
    disk: SimDisk,
    last: Mutex<Version>,
    bug: Option<Bug>,
}

impl Replica {
    fn open(disk: SimDisk, bug: Option<Bug>) -> io::Result<Self> {
        disk.create_dir_all(Path::new(FOLDER))?;
        let file = disk.open(Path::new(VERSION))?;
        // The process before may have ended between the rename and its sync: to show a version and to lose it later would be wrong.
        disk.sync_dir(Path::new(FOLDER))?;
        let mut bytes = [[0; 8]; 3];
        if file.len()? > 0 {
            file.read_at(0, bytes.as_flattened_mut())?;
        }
        Ok(Self { disk, last: Mutex::new(bytes.map(u64::from_be_bytes)), bug })
    }

    /// Keeps this version if it is later than the last. Answers the last.
    fn merge(&self, version: Version) -> io::Result<Version> {
        let mut last = self.last.lock().unwrap();
        if version > *last {
            let file = self.disk.open(Path::new(NEXT))?;
            file.write_at(0, version.map(u64::to_be_bytes).as_flattened())?;
            if self.bug != Some(Bug::NoSync) {
                file.sync()?;
            }
            self.disk.rename(Path::new(NEXT), Path::new(VERSION))?;
            self.disk.sync_dir(Path::new(FOLDER))?;
            *last = version;
        }
        Ok(*last)
    }
}

async fn send(stream: &mut SimStream, version: Version) -> io::Result<()> {
    stream.write_all(version.map(u64::to_be_bytes).as_flattened()).await
}

async fn receive(stream: &mut SimStream) -> io::Result<Version> {
    let mut bytes = [[0; 8]; 3];
    stream.read_exact(bytes.as_flattened_mut()).await?;
    Ok(bytes.map(u64::from_be_bytes))
}

async fn serve(env: SimEnv, listener: SimListener, replica: Arc<Replica>) {
    while let Ok(stream) = listener.accept().await {
        let (its_env, replica) = (env.clone(), replica.clone());
        env.spawn(async move {
            // An error ends the connection: the other side sees no answer.
            let _ = timeout(&its_env, PHASE, answer(&its_env, stream, replica)).await;
        });
    }
}

async fn answer(env: &SimEnv, mut stream: SimStream, replica: Arc<Replica>) -> io::Result<()> {
    let version = receive(&mut stream).await?;
    let last = env.blocking(move || replica.merge(version)).await?;
    send(&mut stream, last).await
}

/// The register as one host offers it.
pub struct Client {
    env: SimEnv,
    bug: Option<Bug>,
}

impl Client {
    /// Gives a replica this version, and asks for its last.
    async fn ask(&self, host: u32, version: Version) -> io::Result<Version> {
        let mut stream = connect(&self.env, &host.to_string(), PORT).await?;
        send(&mut stream, version).await?;
        receive(&mut stream).await
    }

    /// Gives a majority this version, and answers the last that it has.
    async fn ask_majority(&self, version: Version) -> Result<Version, &'static str> {
        let needed = if self.bug == Some(Bug::WithoutQuorum) { 1 } else { HOSTS as usize / 2 + 1 };
        let asked: FuturesUnordered<_> = (0..HOSTS).map(|host| self.ask(host, version)).collect();
        let answers = asked.filter_map(|answer| ready(answer.ok())).take(needed).collect::<Vec<_>>();
        let answers = timeout(&self.env, PHASE, answers).await.ok_or("no majority in time")?;
        if answers.len() < needed {
            return Err("no majority");
        }
        Ok(answers.into_iter().max().unwrap_or(INITIAL))
    }
}

impl System for Client {
    type Op = RegisterOp<u64>;
    type Ret = RegisterRet<u64>;

    async fn call(&self, op: &RegisterOp<u64>) -> Outcome<RegisterRet<u64>> {
        let done = async {
            // So far only a question is sent.
            let last = self.ask_majority(INITIAL).await.map_err(Outcome::fail)?;
            let (version, ret) = match op {
                RegisterOp::Read => (last, RegisterRet::Read(last[2])),
                // Two writes of one host may find the same number, also one before a crash and one after it.
                RegisterOp::Write(value) => ([last[0] + 1, self.env.random(), *value], RegisterRet::Written),
            };
            if *op != RegisterOp::Read || self.bug != Some(Bug::NoWriteBack) {
                self.ask_majority(version).await.map_err(Outcome::unknown)?;
            }
            Ok(ret)
        };
        done.await.into()
    }
}

pub struct Registers {
    pub bug: Option<Bug>,
}

impl Workload for Registers {
    type System = Client;
    type Tuning = ();

    fn plan(&self, draw: &mut Stream) -> Plan<RegisterOp<u64>> {
        // Each write has a value of its own, so that a read tells which one it saw.
        let call = |value| {
            let op = if draw.random() { RegisterOp::Write(value) } else { RegisterOp::Read };
            Planned::at_ms(draw.random_range(0..2_000), draw.random_range(0..HOSTS), op)
        };
        let calls = (1..=40).map(call).collect();
        let last = (0..HOSTS).map(|host| Planned::at_ms(0, host, RegisterOp::Read)).collect();
        Plan { instances: HOSTS, calls, last, tuning: () }
    }

    async fn open(&self, env: SimEnv, _: &Instance) -> Result<Client, String> {
        let (disk, bug) = (env.disk().clone(), self.bug);
        let replica = env.blocking(move || Replica::open(disk, bug)).await.map_err(|error| error.to_string())?;
        let listener = env.network().listen(PORT).map_err(|error| error.to_string())?;
        env.spawn(serve(env.clone(), listener, Arc::new(replica)));
        Ok(Client { env, bug })
    }
}

/// The register on the bed, with every kind of fault.
pub fn bed(bug: Option<Bug>) -> Bed<Registers> {
    let reads_again = eventually_after_heal("reads again", 5_000, |_, _| true);
    Bed::new(Registers { bug }).check(linearizable(Register { initial: 0 })).check(deadline(1_100)).check(reads_again)
}
