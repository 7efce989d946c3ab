//! Clients that wait for an element, on both servers: who is served, with what, and when. Three clients make each other wait and serve each
//! other; after each step as many clients wait on both servers.

use super::{states::until, *};

/// Both servers, with three clients each.
struct Trio<'a> {
    server: &'a Server,
    real: [BufReader<UnixStream>; 3],
    control: BufReader<UnixStream>,
    engine: Engine,
    /// Replies that came to clients that had waited.
    served: u32,
}

impl<'a> Trio<'a> {
    fn new(server: &'a Server) -> Self {
        let connect = || BufReader::new(server.connect());
        let (real, control) = ([(); 3].map(|()| connect()), connect());
        Self { server, real, control, engine: Engine::new(), served: 0 }
    }

    /// New clients on empty data.
    fn reset(&mut self) {
        (0..3).for_each(|client| self.reconnect(client, "reset"));
        self.step(0, &words("FLUSHALL"), "reset");
    }

    fn reconnect(&mut self, client: usize, case: &str) {
        self.real[client] = BufReader::new(self.server.connect());
        self.engine.connect(ClientId(client as u64));
        self.compare_waiting(case);
    }

    fn is_waiting(&self, client: usize) -> bool {
        self.engine.is_waiting(ClientId(client as u64))
    }

    /// Sends a command, and compares what comes of it to whom.
    fn step(&mut self, client: usize, command: &Words, case: &str) {
        let (mut simulated, bytes) = (Vec::new(), encode(command));
        self.real[client].get_mut().write_all(&bytes).expect("the server reads");
        self.engine.feed(ClientId(client as u64), &bytes, wall_ms(), &mut simulated);
        self.compare(client, &simulated, command, case);
        self.compare_due(command, case);
        self.compare_waiting(case);
    }

    fn compare_due(&mut self, command: &Words, case: &str) {
        let due: Vec<_> = self.engine.due().collect();
        for client in due {
            let due = self.engine.take_due(client).expect("it is due");
            self.served += 1;
            self.compare(usize::try_from(client.0).expect("there are three"), &due.bytes, command, case);
        }
    }

    /// Compares these replies with as many from the real server.
    fn compare(&mut self, client: usize, simulated: &[u8], command: &Words, case: &str) {
        let mut left = simulated;
        while !left.is_empty() {
            let (mut one, mut other) = (Vec::new(), Vec::new());
            read_reply(&mut left, &mut one);
            read_reply(&mut self.real[client], &mut other);
            let shown: Vec<_> = command.iter().map(|word| text(word)).collect();
            assert_eq!(text(&one), text(&other), "{case}: client {client} after {shown:?} (left: simulated)");
        }
    }

    /// As many clients wait on both servers.
    fn compare_waiting(&mut self, case: &str) {
        let simulated = (0..3).filter(|client| self.is_waiting(*client)).count();
        let (mut real, mut looks) = (String::new(), 0);
        until(|| {
            let info = states::ask(&mut self.control, &["INFO", "clients"]);
            real =
                info.split("blocked_clients:").nth(1).and_then(|rest| rest.lines().next()).unwrap_or_default().into();
            looks += 1;
            real == simulated.to_string() || looks > 20_000
        });
        assert_eq!(real, simulated.to_string(), "{case}: clients that wait (left: real)");
    }
}

#[test]
fn random_commands_of_clients_that_wait_get_equal_replies() {
    let Some(server) = running() else { return };
    let mut trio = Trio::new(&server);
    for seed in 20_000..21_500 {
        let mut random = Stream::seed_from_u64(seed);
        trio.reset();
        for step in 0..50 {
            let case = format!("seed {seed}, step {step}");
            let (waiting, others): (Vec<_>, Vec<_>) = (0..3).partition(|client| trio.is_waiting(*client));
            let any = |random: &mut Stream, of: &[usize]| of[random.random_range(0..of.len())];
            match random.random_range(0..40) {
                // Nobody is left to serve them.
                _ if others.is_empty() => trio.reconnect(any(&mut random, &waiting), &case),
                0 => trio.reconnect(any(&mut random, &[0, 1, 2]), &case),
                // What a client sends while it waits is answered when it no longer does.
                1..4 if !waiting.is_empty() => trio.step(any(&mut random, &waiting), &words("ECHO later"), &case),
                _ => trio.step(any(&mut random, &others), &generate::command_that_may_wait(&mut random), &case),
            }
        }
    }
    assert!(trio.served > 1_000, "{} waits were ended: too few to say much", trio.served);
}

/// What clients do, each line with its client first.
const STORIES: &[&str] = &[
    "0 BLPOP a 0|1 BLPOP a 0|2 RPUSH a x y z|2 LRANGE a 0 -1",
    "0 BLPOP a 0|1 BRPOP a 0|2 RPUSH a x y z",
    "0 BLPOP a 0|2 RPUSH a x|2 EXISTS a",
    "0 BLPOP a b 0|2 RPUSH b x|2 RPUSH a y|2 LLEN a",
    "0 BLPOP a b 0|2 MULTI|2 RPUSH b x|2 RPUSH a y|2 EXEC|2 LLEN a|2 LLEN b",
    "0 BLPOP a a 0|2 RPUSH a x y|2 LLEN a",
    "0 BLPOP a 0|2 MULTI|2 RPUSH a x|2 DEL a|2 EXEC|2 RPUSH a y",
    "0 BLPOP a 0|2 MULTI|2 RPUSH a x|2 RPUSH a y|2 LPUSH a z|2 EXEC",
    "0 BLPOP a 0|2 MULTI|2 RPUSH a x|2 LPOP a|2 EXEC|2 RPUSH a y z",
    "0 BLPOP a 0|2 SET a x|2 DEL a|2 RPUSH a y",
    "0 BLPOP a 0|2 ZADD a 1 x|0 PING|2 DEL a|2 RPUSH a y",
    "0 BZPOPMIN a 0|2 RPUSH a x|2 DEL a|2 ZADD a 1 y 2 z",
    "0 BZPOPMAX a 0|1 BLPOP a 0|2 ZADD a 1 y 2 z|2 DEL a|2 RPUSH a x",
    "0 BZPOPMIN a b 0|1 BZPOPMAX b 0|2 ZADD b 1 y 2.5 z 3 w",
    "0 BLMOVE a b LEFT RIGHT 0|1 BLPOP b 0|2 RPUSH a x",
    "0 BLMOVE a b LEFT RIGHT 0|1 BLMOVE b a LEFT LEFT 0|2 RPUSH a x|2 LRANGE a 0 -1|2 LRANGE b 0 -1",
    "0 BRPOPLPUSH a a 0|2 RPUSH a x y|2 LRANGE a 0 -1",
    "2 SET b x|0 BLMOVE a b LEFT RIGHT 0|1 BLPOP a 0|2 RPUSH a x y",
    "2 SET b x|0 BRPOPLPUSH a b 0|2 RPUSH a x|2 LRANGE a 0 -1",
    "2 SET b x|2 RPUSH a x|0 BRPOPLPUSH a b 0|0 BRPOPLPUSH b a 0|0 BRPOPLPUSH nope b 0|1 DEL b|1 RPUSH nope z|1 GET b",
    "2 SET b x|0 BLPOP b a 0|0 BLPOP a b 0|0 BZPOPMIN b 0",
    "2 RPUSH b x|2 SET c x|0 BLPOP a b c 0",
    "2 RPUSH b x|0 RENAME b a|0 BLPOP b 0|2 RENAME a b",
    "2 RPUSH a x y|2 SET b x|0 BLPOP c 0|1 RENAME b c|1 RENAME a c|1 LRANGE c 0 -1",
    "2 RPUSH a x y|0 BLPOP c 0|1 COPY a c|1 LRANGE c 0 -1",
    "2 ZADD a 1 x 2 y|0 BZPOPMIN c 0|1 ZRANGESTORE c a 0 -1",
    "2 ZADD a 1 x|0 BZPOPMIN c 0|1 MULTI|1 SET c x|1 ZRANGESTORE c a 0 -1|1 EXEC|1 TYPE c|1 DEL c|1 ZADD c 1 z",
    "0 SELECT 1|0 BLPOP a 0|2 RPUSH a x|2 SELECT 1|2 RPUSH a y",
    "0 SELECT 1|0 BLPOP a 0|2 RPUSH a x|2 COPY a a DB 1|2 LLEN a",
    "0 MULTI|0 BLPOP a 0|0 BLMOVE a b LEFT LEFT 0|0 BRPOPLPUSH a b 0|0 BZPOPMIN a 0|0 EXEC|0 BLPOP a 0|2 RPUSH a x",
    "0 MULTI|0 RPUSH a x|0 BLPOP a 0|0 BLPOP a x|0 EXEC",
    "0 EVAL return(redis.call('blpop','a',0)) 0|0 EVAL return(redis.pcall('bzpopmin','a',0)) 0",
    "0 BLPOP a 0|1 BLPOP a 0|2 EVAL redis.call('rpush','a','x','y','z')redis.call('lpop','a')return(redis.call('llen','a')) 0",
    "0 BLPOP a 0|2 EVAL redis.call('rpush','a','x')return(redis.call('del','a')) 0|2 RPUSH a x",
    "0 BLPOP a 0|0 ECHO one|0 ECHO two|2 RPUSH a x",
    "0 BLPOP a 0|0 BLPOP a 0|0 ECHO two|2 RPUSH a x|2 RPUSH a y",
    "1 WATCH a|0 BLPOP a 0|2 RPUSH a x|1 MULTI|1 PING|1 EXEC",
    "1 WATCH b|0 BLMOVE a b LEFT LEFT 0|2 RPUSH a x|1 MULTI|1 PING|1 EXEC",
    "0 WATCH a|0 BLPOP a 0|2 RPUSH a x|0 MULTI|0 PING|0 EXEC",
    "0 BLPOP a 0|2 FLUSHALL|2 RPUSH a x",
    "0 BLPOP a x|0 BLPOP a -1|0 BLPOP a ''|0 BLPOP a inf|0 BLPOP a -inf|0 BLPOP a nan|0 BLPOP a 1e400|0 BLPOP a 1e30",
    "0 BLPOP a 9223372036854775.807|0 BLPOP a 9223372036854775.808|0 BLPOP a 9223372036854|0 BLPOP a 99999999999999999",
    "0 BLPOP a 0x|0 BLPOP a -1e-1|0 BLPOP a -0.0011|0 BLPOP a -1e30|0 BLPOP a -0.0001|2 RPUSH a x",
    "0 BLPOP a 0e5|2 RPUSH a x|0 BLPOP a 1e3|2 RPUSH a x|0 BLPOP a 0x10|2 RPUSH a x|0 BLPOP a 9000000|2 RPUSH a x",
    "0 BLMOVE a b LEFT FOO 0|0 BLMOVE a b FOO LEFT x|0 BLMOVE a b LEFT LEFT x|0 BRPOPLPUSH a b x|0 BZPOPMIN a x|0 BLPOP a|0 BLMOVE a b 0",
    "2 RPUSH a x y|0 BLPOP a 0|0 BRPOPLPUSH a b 0|0 BLMOVE b c LEFT LEFT 5|2 ZADD z 1 m 2 n|0 BZPOPMAX z 0|0 BZPOPMIN y z 0|2 EXISTS z",
];

#[test]
fn who_waits_is_served_in_turn() {
    let Some(server) = running() else { return };
    let mut trio = Trio::new(&server);
    for story in STORIES {
        trio.reset();
        for line in story.split('|') {
            let (client, line) = line.split_once(' ').expect("a client");
            trio.step(client.parse().expect("a number"), &words(line), story);
        }
    }
}

#[test]
fn a_client_that_waited_for_too_long_is_told_so() {
    let Some(server) = running() else { return };
    let mut trio = Trio::new(&server);
    for line in [
        "BLPOP a 0.03",
        "BRPOP a b 0.0201",
        "BLMOVE a b LEFT LEFT 0.02",
        "BRPOPLPUSH a b 0.02",
        "BZPOPMIN a 0.001",
        "BZPOPMAX a 0.0000001",
    ] {
        trio.reset();
        trio.step(1, &words(line), line);
        trio.step(1, &words("ECHO later"), line);
        let wakes_at_ms = trio.engine.wakes_at_ms().expect("it has an end");
        trio.engine.wake(wakes_at_ms - 1);
        assert_eq!(trio.engine.due().count(), 0, "{line}");
        trio.engine.wake(wakes_at_ms);
        trio.compare_due(&words(line), line);
        trio.compare_waiting(line);
        trio.step(2, &words("RPUSH a x"), line);
    }
    assert_eq!(trio.served, 6);
}

#[test]
fn a_server_that_becomes_a_replica_sends_away_who_waits() {
    let Some(server) = running() else { return };
    let mut trio = Trio::new(&server);
    trio.reset();
    trio.step(0, &words("BLPOP a 0"), "before");
    states::ok(&mut trio.control, &["REPLICAOF", "127.0.0.1", "1"]);
    trio.engine.refuse(Some(seedbed_redis::Refusal::ReadOnly));
    let due = trio.engine.take_due(ClientId(0)).expect("it is sent away");
    assert_eq!(due.flow, seedbed_redis::Flow::Close);
    trio.compare(0, &due.bytes, &words("REPLICAOF"), "after");
    assert_eq!(trio.real[0].read(&mut [0]).expect("it is closed in order"), 0);
}
