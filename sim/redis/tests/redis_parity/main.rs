//! The simulated Redis answers as the real one does.
//!
//! The same commands go to the engine and to a redis-server, which the test starts in a directory of its own, and the
//! replies have to be equal to the byte. What has no order in Redis is compared as a set, what is drawn by chance as so many members (`draws.rs`), moments and remaining times to within two
//! seconds. Hashes are kept as small as Redis needs to keep the order of their fields, which is then compared too.
//!
//! `redis_launcher::Program` says which redis-server that is. The measure is 7.0: another series differs in texts, and fails
//! here.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rand::{RngExt as _, SeedableRng};
use rand_chacha::ChaCha8Rng as Stream;
use redis_launcher::{Program, Server};
use seedbed_redis::{ClientId, Engine};

type Words = Vec<Vec<u8>>;

#[test]
fn random_sequences_of_commands_get_equal_replies() {
    let Some(server) = running() else { return };
    let mut pair = Pair::new(&server);
    for seed in 0..1_500 {
        let mut random = Stream::seed_from_u64(seed);
        pair.reset();
        for step in 0..60 {
            let (words, case) = (generate::command(&mut random), format!("seed {seed}, step {step}"));
            pair.compare(&words, &case);
            // What a command on a hash or lists leaves behind, which a later one may not show.
            for look in generate::looks_after(&words) {
                pair.compare(&look, &case);
            }
        }
        pair.compare_scans(&format!("seed {seed}"));
    }
}

#[test]
fn scripts_of_every_shape_get_equal_replies() {
    let Some(server) = running() else { return };
    let mut pair = Pair::new(&server);
    for script in scripts::FIXED {
        pair.reset();
        for setup in ["SET k v", "SET n 5", "HSET h a 1 b 2"] {
            pair.compare(&words(setup), setup);
        }
        for _ in 0..2 {
            let mut command = words("EVAL");
            command.push(script.as_bytes().to_vec());
            command.extend(words("2 k h one two"));
            pair.compare(&command, script);
        }
        // What a script leaves behind, in the data and in Lua.
        pair.compare(&words("GET k"), script);
        pair.compare(&words("HGETALL h"), script);
    }
}

#[test]
fn commands_at_the_edges_get_equal_replies() {
    let Some(server) = running() else { return };
    let mut pair = Pair::new(&server);
    pair.reset();
    for line in include_str!("commands.txt").lines().filter(|line| !line.is_empty()) {
        pair.compare(&words(line), line);
    }
}

#[test]
fn patterns_match_the_same_keys() {
    let Some(server) = running() else { return };
    let mut pair = Pair::new(&server);
    let mut random = Stream::seed_from_u64(1);
    pair.reset();
    for _ in 0..120 {
        let key = generate::letters(&mut random, b"ab-]^[\\*\xff", 5);
        pair.compare(&vec![b"SET".to_vec(), key, b"v".to_vec()], "glob keys");
    }
    for _ in 0..4_000 {
        let pattern = generate::letters(&mut random, b"aab-]^[[\\**??\xff", 8);
        let case = format!("pattern {:?}", String::from_utf8_lossy(&pattern));
        pair.compare(&vec![b"KEYS".to_vec(), pattern.clone()], &case);
        let mut scan = words("SCAN 0 COUNT 1000 MATCH");
        scan.push(pattern);
        pair.compare(&scan, &case);
    }
}

#[test]
fn malformed_requests_get_equal_errors() {
    let Some(server) = running() else { return };
    let long = |start: &[u8]| [start, &vec![b'1'; 70_000]].concat();
    let cases: Vec<Vec<u8>> =
        MALFORMED.iter().map(|case| case.to_vec()).chain([long(b"x"), long(b"*"), long(b"*1\r\n$")]).collect();
    for case in cases {
        let shown = String::from_utf8_lossy(&case[..case.len().min(80)]).into_owned();
        assert_eq!(answer_to_all_of(&server, b"FLUSHALL\r\n"), b"+OK\r\n");
        let real = answer_to_all_of(&server, &case);
        let (mut engine, mut simulated) = (Engine::new(), Vec::new());
        engine.connect(ClientId(0));
        engine.feed(ClientId(0), &case, wall_ms(), &mut simulated);
        assert_eq!(text(&simulated), text(&real), "{shown:?}");
    }
}

#[test]
fn words_beyond_proto_max_bulk_len_get_equal_errors() {
    // The least that a server can be told.
    const MAX: usize = 1 << 20;
    let Some(server) = running_with(&["--proto-max-bulk-len", &MAX.to_string()]) else { return };
    let set = |length: usize| encode(&vec![b"SET".to_vec(), b"k".to_vec(), vec![b'v'; length]]);
    let append = encode(&words("APPEND k v"));
    let beyond = format!("*1\r\n$4\r\nPING\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", MAX + 1).into_bytes();
    for (case, bytes) in [("set", set(MAX)), ("append", append), ("beyond", beyond)] {
        let mut whole = if case == "append" { set(MAX - 1) } else { b"FLUSHALL\r\n".to_vec() };
        whole.extend(bytes.iter().chain(b"STRLEN k\r\n"));
        if case == "append" {
            whole.extend(encode(&words("APPEND k w")));
        }
        let real = answer_to_all_of(&server, &whole);
        let (mut engine, mut simulated) = (Engine::new(), Vec::new());
        engine.set_bulk_bytes_max(MAX as u64);
        let mut engine = engine.restart_keeping_data();
        engine.connect(ClientId(0));
        engine.feed(ClientId(0), &whole, wall_ms(), &mut simulated);
        assert_eq!(text(&simulated), text(&real), "{case}");
    }
}

const MALFORMED: &[&[u8]] = &[
    b"*-1\r\nPING\r\n",
    b"*0\r\nPING\r\n",
    b"*-2147483649\r\nPING\r\n",
    b"*abc\r\nPING\r\n",
    b"*1048577\r\n",
    b"*2147483648\r\n",
    b"*1\r\nPING\r\n",
    b"*1\r\n$abc\r\n",
    b"*1\r\n$-1\r\n",
    b"*1\r\n$536870913\r\n",
    b"*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n",
    b"*1\n$4\r\nPING\r\n",
    b"PING\nPING\r\n",
    b"PING\r\n\r\n\r\nPING\r\n",
    b"SET a \"b c\"\r\nGET a\r\n",
    b"SET a \"b c\r\nPING\r\n",
    b"SET a 'b\\'c'\r\nGET a\r\n",
    b"SET a \"\\x41\\n\\xzz\\q\\t\\a\\b\"\r\nGET a\r\n",
    b"SET a \"b\"c\r\nPING\r\n",
    b"SET a b\"c\"\r\nGET a\r\n",
    b"*1\r\n:3\r\nPING\r\n",
    b"*01\r\n$4\r\nPING\r\n",
    b"*+1\r\n$4\r\nPING\r\n",
    b"* 1\r\n$4\r\nPING\r\n",
    b"*1\r\n$04\r\nPING\r\n",
    b"*\r\nPING\r\n",
    b"*1\r\n$\r\nPING\r\n",
    b"PING\r\n*1\r\n$x\r\nPING\r\n",
    b"*1\r\n\r\nPING\r\n",
    b"*1\r\n\x00\r\nPING\r\n",
    b"*1\r\n\xff\r\nPING\r\n",
    b"QUIT\r\nPING\r\n",
    b"*2\r\n$4\r\nQUIT\r\n$1\r\nx\r\nPING\r\n",
    b"   \r\nPING\r\n",
    b"GET\ta\r\n",
    b"GET a\x00b c\r\nPING\r\n",
    b"*10\r\n$4\r\nPI",
    b"\x00\r\nPING\r\n",
    b"POST / HTTP/1.1\r\nPING\r\n",
    b"Host: x\r\nPING\r\n",
    b"*1\r\n$4\rXPING\r\n",
    b"*1\rX$4\r\nPING\r\nPING\r\n",
    b"*1\r\n$0\r\n\r\nPING\r\n",
    b"''\r\nPING\r\n",
    b"PI\rNG\r\n",
    b"PING \r\r\n",
    b"\"PING\r\nX\"\r\nPING\r\n",
    b"*2\r\n$3\r\nfoo\r\n$6\r\na\r\nb\0c\r\nPING\r\n",
];

/// A redis-server that runs; none if there is no program.
fn running() -> Option<Server> {
    running_with(&[])
}

/// Likewise, with more arguments.
fn running_with(arguments: &[&str]) -> Option<Server> {
    let mut server = Server::at_socket(&Program::redis_server()?).with(arguments.iter().copied());
    server.start();
    Some(server)
}

/// What it answers to bytes after which nothing more comes.
fn answer_to_all_of(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut stream = server.connect();
    // It may close before it has read all of a malformed request.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("failed to read an answer: {error}"),
        _ => answer,
    }
}

/// Both servers, with two clients each.
struct Pair<'a> {
    server: &'a Server,
    real: [BufReader<UnixStream>; 2],
    engine: Engine,
    /// What the engine answered last.
    last: Vec<u8>,
}

impl<'a> Pair<'a> {
    fn new(server: &'a Server) -> Self {
        Self { server, real: Self::connect(server), engine: Engine::new(), last: Vec::new() }
    }

    fn connect(server: &Server) -> [BufReader<UnixStream>; 2] {
        [(); 2].map(|()| BufReader::new(server.connect()))
    }

    /// New clients on empty data.
    fn reset(&mut self) {
        self.real = Self::connect(self.server);
        self.engine.connect(ClientId(0));
        self.engine.connect(ClientId(1));
        self.compare(&words("FLUSHALL"), "reset");
    }

    /// Compares what the first client is answered.
    fn compare(&mut self, command: &Words, case: &str) {
        self.compare_as(0, command, case);
    }

    fn compare_as(&mut self, client: usize, command: &Words, case: &str) {
        let (real, simulated) = (self.ask_real(client, command), self.ask_engine(client, command));
        let name = command[0].to_ascii_lowercase();
        let equal = match name.as_slice() {
            b"keys" | b"scan" | b"hscan" | b"sscan" | b"smembers" | b"sinter" | b"sunion" | b"sdiff" => {
                real.sorted() == simulated.sorted()
            }
            b"spop" | b"srandmember" | b"hrandfield" | b"zrandmember" | b"randomkey" => {
                self.is_drawn_alike(client, command, &real, &simulated)
            }
            b"ttl" | b"pttl" | b"expiretime" | b"pexpiretime" => real.is_near(&simulated),
            b"hello" => real.without_id() == simulated.without_id(),
            _ => real == simulated,
        };
        assert!(
            equal,
            "{case}\ncommand:   {:?}\nreal:      {:?}\nsimulated: {:?}",
            command.iter().map(|word| text(word)).collect::<Vec<_>>(),
            text(&real.0),
            text(&simulated.0)
        );
        self.last = simulated.0;
    }

    /// Every SCAN, each server with its own cursors, finds the same keys.
    fn compare_scans(&mut self, case: &str) {
        let (mut cursors, mut found) = ([b"0".to_vec(), b"0".to_vec()], [BTreeSet::new(), BTreeSet::new()]);
        let mut done = [false; 2];
        while done != [true; 2] {
            for side in 0..2 {
                if done[side] {
                    continue;
                }
                let command: Words = vec![b"SCAN".to_vec(), cursors[side].clone(), b"COUNT".to_vec(), b"2".to_vec()];
                let reply = if side == 0 { self.ask_real(0, &command) } else { self.ask_engine(0, &command) };
                let mut bulks = reply.bulks().into_iter();
                cursors[side] = bulks.next().expect("a cursor");
                found[side].extend(bulks);
                done[side] = cursors[side] == b"0";
            }
        }
        assert_eq!(found[0], found[1], "{case}: what SCAN found");
    }

    fn ask_real(&mut self, client: usize, command: &Words) -> Reply {
        let real = &mut self.real[client];
        real.get_mut().write_all(&encode(command)).expect("the server reads");
        let mut reply = Vec::new();
        read_reply(real, &mut reply);
        Reply(reply)
    }

    fn ask_engine(&mut self, client: usize, command: &Words) -> Reply {
        let mut reply = Vec::new();
        self.engine.feed(ClientId(client as u64), &encode(command), wall_ms(), &mut reply);
        Reply(reply)
    }
}

/// A reply as it came.
#[derive(PartialEq, Eq)]
struct Reply(Vec<u8>);

impl Reply {
    /// The bulk strings in it.
    fn bulks(&self) -> Vec<Vec<u8>> {
        let (mut bulks, mut rest) = (Vec::new(), self.0.as_slice());
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let (line, after) = (&rest[..end - 1], &rest[end + 1..]);
            rest = after;
            if line[0] == b'$' && line != b"$-1" {
                let length: usize = text(&line[1..]).parse().expect("a length");
                bulks.push(rest[..length].to_vec());
                rest = &rest[length + 2..];
            }
        }
        bulks
    }

    /// Its kind, and the bulk strings in order: what is left when order means nothing. A cursor that goes on is any.
    fn sorted(&self) -> (u8, Vec<Vec<u8>>, Option<Vec<u8>>) {
        let error = (self.0[0] == b'-').then(|| self.0.clone());
        let mut bulks = self.bulks();
        bulks.sort();
        (self.0[0], bulks, error)
    }

    /// What HELLO answers, but for the number of the connection.
    fn without_id(&self) -> String {
        let text = text(&self.0);
        let Some((before, after)) = text.split_once("id\r\n:") else { return text };
        before.to_owned() + after.trim_start_matches(|digit: char| digit.is_ascii_digit())
    }

    /// Whether both are equal, or moments that are less than two seconds apart.
    fn is_near(&self, other: &Self) -> bool {
        let number =
            |reply: &Self| text(&reply.0).strip_prefix(':').and_then(|rest| rest.trim_end().parse::<i64>().ok());
        self == other
            || matches!((number(self), number(other)), (Some(a), Some(b)) if a > 0 && b > 0 && a.abs_diff(b) < 2_000)
    }
}

/// Reads one whole reply.
fn read_reply(from: &mut impl BufRead, reply: &mut Vec<u8>) {
    let start = reply.len();
    from.read_until(b'\n', reply).expect("the server answers");
    assert!(reply.ends_with(b"\r\n"), "the server closed the connection after {:?}", text(reply));
    let count: i64 = text(&reply[start + 1..reply.len() - 2]).parse().unwrap_or(-1);
    match reply[start] {
        b'$' if count >= 0 => {
            let mut bulk = vec![0; usize::try_from(count).expect("not negative") + 2];
            from.read_exact(&mut bulk).expect("the server answers");
            reply.extend_from_slice(&bulk);
        }
        b'*' => (0..count).for_each(|_| read_reply(from, reply)),
        _ => {}
    }
}

fn encode(command: &Words) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
    for word in command {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// The words of a line; `''` is the empty one, and `\n` and `\0` are bytes.
fn words(line: &str) -> Words {
    line.split(' ')
        .map(
            |word| {
                if word == "''" { Vec::new() } else { word.replace("\\n", "\r\n").replace("\\0", "\0").into_bytes() }
            },
        )
        .collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[expect(clippy::disallowed_methods, reason = "the real server has the real clock, and the engine gets the same")]
fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    u64::try_from(since.as_millis()).expect("a clock before the year 500000000")
}

mod blocking;
mod draws;
mod generate;
mod limits;
mod scripts;
mod states;
mod transactions;
