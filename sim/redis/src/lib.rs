//! One redis-server process as a pure value: bytes and time in, bytes out. No clock, no socket, no task: whoever serves it
//! brings these. [`serve_tcp`] does on a real port, with the real clock.
//!
//! ```
//! use seedbed_redis::{ClientId, Engine};
//!
//! let (mut engine, client, mut replies) = (Engine::new(), ClientId(0), Vec::new());
//! engine.connect(client);
//! engine.feed(client, b"SET k v PX 10\r\nGET k\r\n", 1_000, &mut replies);
//! engine.feed(client, b"GET k\r\n", 1_010, &mut replies);
//! assert_eq!(replies, b"+OK\r\n$1\r\nv\r\n$-1\r\n");
//! ```
//!
//! The measure is redis-server 7.0.15 in its default configuration: where the two answer differently, this one is
//! wrong. `tests/redis_parity/main.rs` sends both the same commands.
//!
//! | where | what |
//! | --- | --- |
//! | here | [`Engine`]: clients, their buffers, the loop from bytes to commands |
//! | [`serve_tcp`] | the real edge: one engine on a loopback port with the real clock, for examples and tests |
//! | `operator` | what an operator can do to a server: [`Refusal`], [`ServerLimit`] |
//! | `state` | which commands a server refuses that is out of memory, read-only, loading.. |
//! | `limits` | the limits of a server, and what it does to a connection that passes one |
//! | `request` | the request parser, with Redis's limits and its protocol errors |
//! | `table` | the table of commands, the checks before one runs |
//! | `command`, `error_reply` | what a command is and sees, and what it refuses with |
//! | `reply` | replies as bytes |
//! | `data` | databases, keys, expiry, hashes, lists, sets; the order of SCAN |
//! | `ranking` | the members of a sorted set, by [`Score`] |
//! | `connection`, `string`, `hash`, `list`, `set`, `keyspace`, `scan`, `server`, `scripting`, `transaction` | the commands, by family |
//! | `blocking`, `waits` | clients that wait for an element, and the replies that are due to them ([`DueReply`]) |
//! | `sorted_set`, `sorted_range` | the commands on sorted sets: by member, and by range |
//! | `lua`, `convert`, `prelude.lua` | the Lua 5.1 that scripts run in |
//! | `random` | the random numbers of scripts, and of SPOP and its like |
//! | `missing` | the commands that redis-server has and this one lacks |
//! | `glob`, `number`, `float` | patterns and numbers as Redis reads them |
//!
//! Time is the caller's: `now_ms` is the server's wall clock and stands still during a command and during a script.
//! Keys expire when they are looked at; there is no cycle that removes them in between, and DBSIZE counts live keys
//! only. Persistence is assumed perfect (AOF, always): [`Engine::restart_keeping_data`].
//!
//! Known to differ from redis-server 7.0.15:
//!
//! * Commands that are not in the table answer as an unknown command does, also those that Redis knows:
//!   [`Engine::missing_commands`] tells which of these were asked for.
//! * RESP3 is refused: `HELLO 3` answers `NOPROTO`, `redis.setresp(3)` fails.
//! * `cjson`, `cmsgpack`, `bit` and `struct` are not provided: a script that touches one fails as on any other global
//!   that does not exist.
//! * One that loops forever hangs the engine: [`Engine::run_endless_script`] is a stand-in that can be killed.
//! * Read-only tables are stand-ins: `pairs(_G)` sees nothing, `setmetatable(string, ..)` fails with Lua's own text, and
//!   `table.insert(string, ..)` works.
//! * `NOAUTH` and `NOPERM` meet clients that were connected before as well; in Redis a password that is set later does not.
//! * As arguments of `redis.call`, `-0` and numbers nearer to a whole number than 2.2e-16 lose that difference.
//! * `error({})`, a table without `err`, crashes redis-server 7.0.15; here it is an error like others.
//! * A script's answer may be nested 500 deep, not 7,995.
//! * SCAN cursors are other numbers, with the same guarantee; HGETALL keeps the order of insertion in large hashes too. HSCAN, SSCAN
//!   and ZSCAN answer everything at once, which Redis does for small collections alone.
//! * The members of a set are answered in the order of their bytes. SPOP, SRANDMEMBER, HRANDFIELD, ZRANDMEMBER and RANDOMKEY
//!   choose by a generator of the engine's own: the same commands get the same answers in each run.
//! * A sorted set has one zero. In Redis a large one keeps the sign of -0.

#![expect(clippy::unnecessary_wraps, reason = "all commands have one signature, whether they can refuse or not")]

mod blocking;
mod command;
mod connection;
mod convert;
mod data;
mod error_reply;
mod float;
mod glob;
mod hash;
mod keyspace;
mod limits;
mod list;
mod lua;
mod missing;
mod number;
mod operator;
mod random;
mod ranking;
mod reply;
mod request;
mod scan;
mod scripting;
pub mod serve_tcp;
mod server;
mod set;
mod sorted_range;
mod sorted_set;
mod state;
mod string;
mod table;
mod transaction;
mod waits;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt, mem,
};

use xxhash_rust::xxh3::xxh3_64_with_seed;

pub use self::{
    blocking::DueReply,
    operator::{REFUSALS, Refusal, ServerLimit},
    ranking::Score,
};
use self::{
    command::{CommandCall, Session},
    data::Server,
    request::Request,
    scripting::Scripts,
};

/// The data, script cache and clients of one redis-server process.
#[derive(Debug)]
pub struct Engine {
    server: Server,
    scripts: Scripts,
    clients: BTreeMap<ClientId, Client>,
    /// The replies that clients are to be sent although they sent nothing.
    due: BTreeMap<ClientId, DueReply>,
}

/// A connection, as the caller numbers it. What CLIENT ID answers is the server's own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// What becomes of a connection after bytes were fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It stays open.
    Open,
    /// It is to be closed once the replies are sent: after QUIT, a protocol error, or an HTTP request.
    Close,
}

/// A live key as it is at the end of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dumped {
    /// What it holds.
    pub content: Content,
    /// When it expires, in milliseconds since the epoch of the server's clock; none if never.
    pub expires_at_ms: Option<u64>,
}

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A string.
    String(Vec<u8>),
    /// A hash, by field.
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
    /// A list, from left to right.
    List(Vec<Vec<u8>>),
    /// The members of a set.
    Set(BTreeSet<Vec<u8>>),
    /// A sorted set: the score of each member.
    SortedSet(BTreeMap<Vec<u8>, Score>),
}

struct Client {
    session: Session,
    unread: Vec<u8>,
    open: bool,
    /// When it last sent something, by the server's clock.
    last_ms: u64,
    /// The refusal that applies to this client alone.
    refused: Option<Refusal>,
}

impl Default for Engine {
    fn default() -> Self {
        Self::new()
    }
}

impl Engine {
    /// An empty server that has just started.
    pub fn new() -> Self {
        let scripts = Scripts::new(table::execute_from_script);
        Self { server: Server::new(0), scripts, clients: BTreeMap::new(), due: BTreeMap::new() }
    }

    /// The next process on the same data: scripts and clients are forgotten, the run id is another.
    #[must_use]
    pub fn restart_keeping_data(&self) -> Self {
        Self { server: self.server.restarted(), ..Self::new() }
    }

    /// The next process without the data, as after the loss of its disk; the run id is another.
    #[must_use]
    pub fn restart_losing_data(&self) -> Self {
        let mut next = self.restart_keeping_data();
        next.flush_all();
        next
    }

    /// The next process, on the data of an older save.
    #[must_use]
    pub fn restart_from(&self, save: &Self) -> Self {
        let mut next = self.restart_keeping_data();
        next.server.take_data(&save.server);
        next
    }

    /// What a new client is told before its connection is closed; none if it is taken.
    pub fn turns_away(&mut self) -> Option<&'static [u8]> {
        let is_full = self.server.limits.are_reached_by(self.clients.len());
        let turned_away = is_full || self.server.state == Some(Refusal::MaxClients);
        self.server.refusals += u64::from(turned_away);
        turned_away.then_some(b"-ERR max number of clients reached\r\n")
    }

    /// A client has connected, at `now_ms`. One that was connected under this number before is forgotten.
    pub fn connect_at(&mut self, client: ClientId, now_ms: u64) {
        let id = self.server.number_client();
        let session = Session { id, ..Session::default() };
        self.disconnect(client);
        self.clients.insert(client, Client { session, unread: Vec::new(), open: true, last_ms: now_ms, refused: None });
    }

    /// As [`Self::connect_at`], for a server whose idle clients nobody closes.
    pub fn connect(&mut self, client: ClientId) {
        self.connect_at(client, 0);
    }

    /// A client is gone, with whatever it had sent in part.
    pub fn disconnect(&mut self, client: ClientId) {
        self.due.remove(&client);
        if let Some(mut client) = self.clients.remove(&client) {
            transaction::unwatch_all(&mut self.server, &mut client.session);
            blocking::leave(&mut self.server, client.session.id);
        }
    }

    /// Takes bytes that arrived from a client at `now_ms` (the server's own wall clock, in milliseconds since the
    /// epoch), executes what is complete, and appends the replies to `out`. Bytes of a client that is not connected, or
    /// whose connection was closed by an earlier answer, are ignored and answer [`Flow::Close`].
    ///
    /// A client that waits for an element is answered later, and so can others be: [`Self::due`].
    pub fn feed(&mut self, client: ClientId, bytes: &[u8], now_ms: u64, out: &mut Vec<u8>) -> Flow {
        if self.server.waits.is_empty() && self.due.is_empty() {
            self.process(client, bytes, now_ms, out)
        } else {
            self.feed_among_waiting(client, bytes, now_ms, out)
        }
    }

    fn process(&mut self, client: ClientId, bytes: &[u8], now_ms: u64, out: &mut Vec<u8>) -> Flow {
        let Some(Client { session, unread, open, last_ms, refused }) = self.clients.get_mut(&client) else {
            return Flow::Close;
        };
        if !*open {
            return Flow::Close;
        }
        *last_ms = now_ms;
        let limits = self.server.limits;
        if (bytes.len() + request::unparsed(unread, limits.bulk_bytes)) as u64 > limits.query_bytes {
            self.server.refusals += 1;
            *open = false;
            return Flow::Close;
        }
        // INFO counts clients, and runs below where the map is borrowed.
        unread.extend_from_slice(bytes);
        let mut input = mem::take(unread);
        // For this client alone the server is in another state.
        let of_all = refused.map(|refused| self.server.state.replace(refused));
        let mut used = 0;
        let mut call = CommandCall::new(&mut self.server, session, now_ms, out);
        let mut is_waiting = call.server.waits.has(call.session.id);
        let flow = loop {
            if is_waiting {
                break Flow::Open;
            }
            match request::parse(&input[used..], call.server.limits.bulk_bytes) {
                Request::Incomplete => break Flow::Open,
                Request::Nothing { length } => used += length,
                Request::Command { args, length } => {
                    used += length;
                    if execute(&mut call, &mut self.scripts, &args) == Flow::Close {
                        break Flow::Close;
                    }
                    if !call.server.waits.is_empty() {
                        blocking::serve(call.server, call.now_ms);
                        is_waiting = call.server.waits.has(call.session.id);
                    }
                }
                Request::Invalid(error) => {
                    call.server.refusals += u64::from(error == request::TOO_LONG);
                    reply::error_format(call.out, &[b"ERR Protocol error: ", &error]);
                    break Flow::Close;
                }
            }
        };
        if let Some(of_all) = of_all {
            self.server.state = of_all;
        }
        match flow {
            // In place: a large command comes in hundreds of pieces.
            Flow::Open => {
                input.drain(..used);
                *unread = input;
            }
            Flow::Close => *open = false,
        }
        flow
    }

    /// The commands that these bytes complete for a client, by their words. None is executed.
    pub fn completes(&self, client: ClientId, bytes: &[u8]) -> Vec<Vec<Vec<u8>>> {
        let Some(Client { unread, open: true, .. }) = self.clients.get(&client) else { return Vec::new() };
        if self.is_waiting(client) {
            return Vec::new();
        }
        let input = [unread, bytes].concat();
        let (mut used, mut commands) = (0, Vec::new());
        loop {
            match request::parse(&input[used..], self.server.limits.bulk_bytes) {
                Request::Nothing { length } => used += length,
                Request::Command { args, length } => {
                    used += length;
                    commands.push(args.into_iter().map(Cow::into_owned).collect());
                }
                Request::Incomplete | Request::Invalid(_) => return commands,
            }
        }
    }

    /// Whether a client has sent a part of a request.
    pub fn is_within_a_request(&self, client: ClientId) -> bool {
        self.clients.get(&client).is_some_and(|client| !client.unread.is_empty())
    }

    /// Commands executed so far, those that scripts called included: what service time is charged for.
    pub fn commands(&self) -> u64 {
        self.server.commands
    }

    /// Words that scripts took so far, as keys and arguments and in what commands answered them, and that they gave to
    /// commands: what the time that a script takes grows with.
    pub fn script_words(&self) -> u64 {
        self.server.script_words
    }

    /// Sets `proto-max-bulk-len`, in bytes: the connection of a request with a longer word is closed. A restart keeps it.
    pub fn set_bulk_bytes_max(&mut self, bytes: u64) {
        self.limit(ServerLimit::BulkBytes { bytes });
    }

    /// Empties every database, as an operator's FLUSHALL does.
    pub fn flush_all(&mut self) {
        self.server.flush_all();
    }

    /// Is in the state in which Redis answers this error from now on, or in none any more. Which commands that refuses is
    /// said by their flags, as in Redis.
    pub fn refuse(&mut self, with: Option<Refusal>) {
        self.server.state = with;
        self.server.is_killable = false;
        if self.server.is_replica() {
            self.end_waits();
        }
    }

    /// Commands and clients refused so far.
    pub fn refusals(&self) -> u64 {
        self.server.refusals
    }

    /// The commands that were asked for, that redis-server 7.0.15 has, and that this one lacks. They were answered as unknown, so
    /// what a client did then says nothing of what it would do on a real server.
    pub fn missing_commands(&self) -> impl Iterator<Item = &'static str> {
        self.server.missing.iter().copied()
    }

    /// Every command that redis-server 7.0.15 has and this one lacks, as COMMAND LIST names them.
    pub fn unsupported() -> impl Iterator<Item = &'static str> {
        missing::MISSING.split_ascii_whitespace()
    }

    /// Empties the script cache, as an operator's SCRIPT FLUSH does. Says how many scripts it held.
    pub fn script_flush(&mut self) -> usize {
        self.scripts.flush()
    }

    /// Evicts at most so many keys of database 0: the first in an order that grows from `draw`. Answers which.
    pub fn evict(&mut self, count: u32, draw: u64, now_ms: u64) -> Vec<Vec<u8>> {
        let mut keys: Vec<_> = self.dump(now_ms).into_keys().collect();
        keys.sort_by_key(|key| xxh3_64_with_seed(key, draw));
        keys.truncate(usize::try_from(count).unwrap_or(usize::MAX));
        let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        keys.retain(|key| self.server.database(0).remove(key, now_ms));
        keys
    }

    /// Holds this under a key of database 0 from now on.
    pub fn store(&mut self, key: &[u8], dumped: &Dumped) {
        self.server.database(0).put(key, data::KeyEntry::of(dumped));
    }

    /// Every live key of database 0 at `now_ms`, which is the one that clients of the bed use.
    pub fn dump(&self, now_ms: u64) -> BTreeMap<Vec<u8>, Dumped> {
        self.server.dump(0, now_ms)
    }

    /// The name of every command, `container|name` for those in one, and its flags by Redis's names.
    pub fn command_flags() -> Vec<(&'static str, Vec<&'static str>)> {
        table::flags()
    }

    /// The id of this process, as INFO shows it.
    pub fn run_id(&self) -> String {
        self.server.run_id()
    }
}

fn execute(call: &mut CommandCall<'_>, scripts: &mut Scripts, args: &[Cow<'_, [u8]>]) -> Flow {
    let Some(name) = args.first() else { return Flow::Open };
    // What a browser sends to a port that it was tricked into: Redis drops it without a word.
    if name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:") {
        return Flow::Close;
    }
    if name.eq_ignore_ascii_case(b"quit") {
        reply::status(call.out, b"OK");
        return Flow::Close;
    }
    table::execute(call, scripts, args);
    Flow::Open
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("session", &self.session)
            .field("unread", &self.unread.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
