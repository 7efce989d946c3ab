//! A redis-server that is full, read-only, loading..: the engine in the same state refuses the same commands and scripts,
//! with the same words.
//!
//! Every command of the engine is sent, and scripts that read, write and say in their first line that they may not.
//! Errors are compared to the byte; of other replies it counts that they are no errors. All go in one write if possible, since a
//! server that loads its data looks at its clients between two keys alone.

use seedbed_redis::Refusal;

use super::*;

#[test]
fn commands_carry_the_flags_that_redis_gives_them() {
    let Some(server) = running() else { return };
    let mut real = BufReader::new(server.connect());
    for (name, flags) in Engine::command_flags() {
        let info = ask(&mut real, &["COMMAND", "INFO", name]);
        // The first list in the reply that has statuses.
        let lines = info.lines().map(|line| line.strip_prefix('+'));
        let other = ["movablekeys", "no_mandatory_keys", "skip_monitor"];
        let real: BTreeSet<_> =
            lines.skip_while(Option::is_none).map_while(|flag| flag).filter(|flag| !other.contains(flag)).collect();
        assert_eq!(flags.into_iter().collect::<BTreeSet<_>>(), real, "{name}");
    }
}

#[test]
fn every_command_of_redis_is_here_or_is_told_to_be_missing() {
    let Some(server) = running() else { return };
    let reply = ask(&mut BufReader::new(server.connect()), &["COMMAND", "LIST"]);
    let real: BTreeSet<_> = reply.lines().filter(|line| !line.starts_with(['$', '*'])).collect();
    // QUIT is no command of the table, and containers have no flags of their own.
    let here = Engine::command_flags().into_iter().map(|(name, _)| name).chain(["client", "quit", "script"]);
    let told: BTreeSet<_> = here.chain(Engine::unsupported()).collect();
    assert_eq!(told.symmetric_difference(&real).collect::<Vec<_>>(), Vec::<&&str>::new());
    let mut engine = Engine::new();
    engine.connect(ClientId(0));
    engine.feed(ClientId(0), b"PFADD k 1 v\r\nset k v\r\nclient LIST\r\nnonsense\r\nclient id\r\n", 0, &mut Vec::new());
    let script = "EVAL \"redis.pcall('geoadd', 'k')\" 0\r\n";
    engine.feed(ClientId(0), script.as_bytes(), 0, &mut Vec::new());
    let missing: Vec<_> = engine.restart_keeping_data().missing_commands().collect();
    assert_eq!(missing, ["client|list", "geoadd", "pfadd"]);
}

#[test]
fn a_server_in_order_refuses_what_a_script_promised_not_to_do() {
    let Some(server) = running() else { return };
    compare(&server, None, |_| {});
}

#[test]
fn a_read_only_replica_refuses_writes_where_they_happen() {
    let Some(server) = running() else { return };
    compare(&server, Some(Refusal::ReadOnly), |real| ok(real, &["REPLICAOF", "127.0.0.1", "1"]));
}

#[test]
fn a_replica_without_its_master_refuses_all_but_what_may_be_stale() {
    let Some(server) = running() else { return };
    compare(&server, Some(Refusal::MasterDown), |real| {
        ok(real, &["CONFIG", "SET", "replica-serve-stale-data", "no"]);
        ok(real, &["REPLICAOF", "127.0.0.1", "1"]);
    });
}

#[test]
fn a_full_server_refuses_what_may_need_memory() {
    let Some(server) = running() else { return };
    compare(&server, Some(Refusal::OutOfMemory), |real| ok(real, &["CONFIG", "SET", "maxmemory", "1"]));
}

#[test]
fn a_server_that_cannot_save_refuses_writes_and_ping() {
    let Some(program) = Program::redis_server() else { return };
    let mut server = Server::at_socket(&program).with(["--dir", "gone"]);
    let gone = server.directory().join("gone");
    std::fs::create_dir(&gone).expect("it is new");
    server.start();
    compare(&server, Some(Refusal::Misconfigured), |real| {
        std::fs::remove_dir(&gone).expect("it is empty");
        ok(real, &["CONFIG", "SET", "save", "3600 1000"]);
        ask(real, &["BGSAVE"]);
        until(|| ask(real, &["INFO", "persistence"]).contains("rdb_last_bgsave_status:err"));
    });
}

#[test]
fn a_client_that_has_not_authenticated_may_do_so_and_leave() {
    let Some(server) = running() else { return };
    compare(&server, Some(Refusal::NoAuth), |real| {
        ok(real, &["CONFIG", "SET", "requirepass", "secret"]);
        // Who was there before stays authenticated.
        *real = BufReader::new(server.connect());
    });
}

#[test]
fn a_user_without_permissions_is_told_the_command() {
    let Some(server) = running() else { return };
    compare(&server, Some(Refusal::NoPermission), |real| ok(real, &["ACL", "SETUSER", "default", "-@all"]));
}

#[test]
fn a_server_busy_with_a_script_refuses_all_but_its_end() {
    let Some(server) = running() else { return };
    compare(&server, Some(Refusal::Busy), |real| {
        ok(real, &["CONFIG", "SET", "busy-reply-threshold", "1"]);
        let mut other = server.connect();
        let words = ["EVAL", "redis.call('set', 'k', 'v') while true do end", "0"];
        other.write_all(&encode(&of(&words))).expect("the server reads");
        until(|| ask(real, &["PING"]).starts_with("-BUSY"));
    });
}

#[test]
fn a_server_that_loads_its_data_refuses_what_needs_them() {
    let Some(mut server) = running() else { return };
    let mut real = BufReader::new(server.connect());
    for number in 0..300 {
        ok(&mut real, &["SET", &number.to_string(), &"v".repeat(1_000)]);
    }
    ok(&mut real, &["SAVE"]);
    server.kill();
    // Thirty seconds of loading.
    let slowly = ["--key-load-delay", "100000", "--loading-process-events-interval-bytes", "1024"];
    let mut server = server.with(slowly);
    server.start_without_waiting();
    until(|| server.takes_connections());
    let mut engine = Engine::new();
    engine.refuse(Some(Refusal::Loading));
    compare_all(&mut BufReader::new(server.connect()), &mut engine, usize::MAX);
}

/// Compares both servers in a state, which the real one is brought into. Scripts are loaded before.
fn compare(server: &Server, state: Option<Refusal>, bring: impl FnOnce(&mut BufReader<UnixStream>)) {
    let (mut real, mut engine) = (BufReader::new(server.connect()), Engine::new());
    engine.connect(ClientId(0));
    for script in SCRIPTS {
        ask(&mut real, &["SCRIPT", "LOAD", script]);
        engine.feed(ClientId(0), &encode(&of(&["SCRIPT", "LOAD", script])), wall_ms(), &mut Vec::new());
    }
    let mut queued: Vec<_> = QUEUED.iter().map(|lines| queue(server, &mut engine, lines)).collect();
    bring(&mut real);
    engine.refuse(state);
    // Who was there before a password was set stays authenticated.
    if state != Some(Refusal::NoAuth) {
        for ((real, client), lines) in queued.iter_mut().zip(QUEUED) {
            let mut simulated = Vec::new();
            engine.feed(*client, &encode(&of(&["EXEC"])), wall_ms(), &mut simulated);
            assert_eq!(errors(&simulated), errors(ask(real, &["EXEC"]).as_bytes()), "{lines:?}, then {state:?}");
        }
    }
    // Redis closes the connection of a client that has not authenticated and whose replies pile up.
    let at_once = if state == Some(Refusal::NoAuth) { 100 } else { usize::MAX };
    compare_all(&mut real, &mut engine, at_once);
}

/// A client each that has queued these commands, which it executes in the state.
fn queue(server: &Server, engine: &mut Engine, lines: &[&[&str]]) -> (BufReader<UnixStream>, ClientId) {
    let (mut real, client) = (BufReader::new(server.connect()), ClientId(engine.commands()));
    engine.connect(client);
    for words in [&["WATCH", "w"][..], &["MULTI"]].iter().chain(lines) {
        let mut simulated = Vec::new();
        engine.feed(client, &encode(&of(words)), wall_ms(), &mut simulated);
        assert_eq!(text(&simulated), ask(&mut real, words), "{words:?}");
    }
    (real, client)
}

/// Transactions that are begun before the state. A script that the server does not know yet says nothing of itself.
const QUEUED: &[&[&[&str]]] = &[
    &[],
    &[&["GET", "s"]],
    &[&["SET", "s", "v"]],
    &[&["DEL", "s"]],
    &[&["PING"]],
    &[&["TIME"], &["ECHO", "e"]],
    &[&["TIME"], &["LRANGE", "l", "0", "-1"]],
    &[&["RPUSH", "l", "e"], &["LPOP", "s"]],
    &[&["NOPE"]],
    &[&["EVAL", "return redis.call('set', 's', 'v')", "0"]],
    &[&["EVAL", "return redis.pcall('set', 's', 'v')", "0"], &["EVAL", "return redis.call('time')", "0"]],
    &[&["EVAL", "#!lua\nreturn redis.call('get', 's')", "0"]],
    &[&["EVAL", "#!lua flags=no-writes\nreturn redis.call('get', 's')", "0"]],
    &[&["EVAL", "#!lua flags=allow-oom\nreturn redis.call('set', 's', 'v')", "0"]],
    &[&["EVAL", "#!lua flags=no-writes,allow-stale\nreturn redis.call('time')", "0"]],
    &[&["SCRIPT", "LOAD", "#!lua\nreturn 7"], &["EVALSHA", "ed8d22a2dd0538847dce0f01a660f76b512ed2b6", "0"]],
];

fn compare_all(real: &mut BufReader<UnixStream>, engine: &mut Engine, at_once: usize) {
    let (commands, mut different) = (commands(), Vec::new());
    engine.connect(ClientId(0));
    for batch in commands.chunks(at_once) {
        let bytes: Vec<u8> = batch.iter().flat_map(encode).collect();
        let mut simulated = Vec::new();
        real.get_mut().write_all(&bytes).expect("the server reads");
        engine.feed(ClientId(0), &bytes, wall_ms(), &mut simulated);
        let mut simulated = simulated.as_slice();
        for command in batch {
            let (mut one, mut other) = (Vec::new(), Vec::new());
            read_reply(real, &mut one);
            read_reply(&mut simulated, &mut other);
            if errors(&one) != errors(&other) {
                let command: Vec<_> = command.iter().map(|word| text(word)).collect();
                different.push(format!("{command:?}\n  real:      {}\n  simulated: {}", text(&one), text(&other)));
            }
        }
    }
    assert!(different.is_empty(), "{} of {}:\n{}", different.len(), commands.len(), different.join("\n"));
}

/// The errors in a reply, and whether it is that of a transaction that was not run.
fn errors(reply: &[u8]) -> (bool, Vec<String>) {
    let errors = text(reply).lines().filter(|line| line.starts_with('-')).map(str::to_owned).collect();
    (reply.starts_with(b"*-1"), errors)
}

/// Every command of the engine, each script by its text and by its digest, what is wrong in any state, and QUIT.
fn commands() -> Vec<Words> {
    let mut all = vec![words("NOPE"), words("SET k"), words("SCRIPT NOPE")];
    for (name, _) in Engine::command_flags() {
        let arguments = arguments(name);
        if !matches!(name, "quit" | "script|flush") {
            all.push(words(format!("{} {arguments}", name.replace('|', " ")).trim_end()));
        }
    }
    all.extend([words("AUTH default p"), words("HELLO 2 AUTH default p"), words("HELLO 2 AUTH other p")]);
    for script in SCRIPTS.iter().chain(BROKEN) {
        all.push(of(&["EVAL", script, "0"]));
        let sha = sha1_smol::Sha1::from(script).digest().to_string();
        all.push(of(&["EVALSHA", &sha, "0"]));
    }
    // Each once more, in a transaction of its own.
    let is_alone = |command: &Words| matches!(command[0].as_slice(), b"exec" | b"discard" | b"multi" | b"watch");
    let (alone, queued): (Vec<_>, Vec<_>) = all.iter().cloned().partition(is_alone);
    all.extend(queued.into_iter().flat_map(|command| [words("MULTI"), command, words("EXEC")]));
    all.extend(alone.into_iter().flat_map(|command| [words("MULTI"), words("ECHO e"), command, words("DISCARD")]));
    all.extend([words("MULTI"), words("EXEC x"), words("DISCARD")]);
    all.extend([words("SCRIPT FLUSH"), words("QUIT")]);
    all
}

/// Arguments with which a command works, on data of any kind.
fn arguments(name: &str) -> &'static str {
    match name {
        "append" | "set" | "setnx" | "getset" | "mset" => "s v",
        "get" | "getdel" | "getex" | "strlen" | "mget" => "s",
        "msetnx" => "t v",
        "getrange" | "substr" => "s 0 1",
        "setrange" => "s 0 v",
        "setex" | "psetex" => "s 100000 v",
        "incrbyfloat" => "i 0",
        "hrandfield" => "h 1",
        "hscan" => "h 0",
        "copy" => "k w REPLACE",
        "rename" => "i i",
        "renamenx" => "i s",
        "sadd" | "sismember" | "smismember" | "srem" => "m1 e",
        "scard" | "smembers" | "sinter" | "sdiff" | "sunion" | "spop" | "srandmember" => "m1",
        "sinterstore" | "sdiffstore" | "sunionstore" => "m2 m1",
        "sintercard" => "1 m1",
        "smove" => "m1 m2 e",
        "sscan" => "m1 0",
        // They are to fail at once: a client that waits would answer none of the commands after it.
        "blpop" | "brpop" => "l -1",
        "blmove" => "l m LEFT RIGHT -1",
        "brpoplpush" => "l l -1",
        "bzpopmin" | "bzpopmax" => "z -1",
        "zadd" | "zincrby" => "z 1 e",
        "zcard" | "zpopmin" | "zpopmax" | "zrandmember" => "z",
        "zrank" | "zrevrank" | "zscore" | "zmscore" | "zrem" => "z e",
        "zcount" | "zremrangebyscore" | "zremrangebyrank" | "zrangebyscore" | "zrange" | "zrevrange"
        | "zrevrangebyscore" => "z 0 1",
        "zlexcount" | "zrangebylex" | "zrevrangebylex" | "zremrangebylex" => "z - +",
        "zrangestore" => "z2 z 0 1",
        "zscan" => "z 0",
        "incr" | "decr" => "i",
        "incrby" | "decrby" => "i 2",
        "hdel" | "hexists" | "hget" | "hmget" | "hstrlen" => "h f",
        "hgetall" | "hkeys" | "hlen" | "hvals" => "h",
        "hincrby" | "hincrbyfloat" => "h n 1",
        "hmset" | "hset" | "hsetnx" => "h f v",
        "del" | "exists" | "expiretime" | "persist" | "pexpiretime" | "pttl" | "touch" | "ttl" | "type" | "unlink" => {
            "k"
        }
        "expire" | "pexpire" => "k 100000",
        "expireat" | "pexpireat" => "k 99999999999",
        "llen" | "lpop" | "rpop" => "l",
        "lpush" | "lpushx" | "rpush" | "rpushx" | "lpos" => "l e",
        "lindex" => "l 0",
        "linsert" => "l BEFORE e f",
        "lmove" => "l m LEFT RIGHT",
        "lrange" | "ltrim" => "l 0 -1",
        "lrem" => "l 0 nope",
        "lset" => "l 0 e",
        "rpoplpush" => "l l",
        "keys" => "*",
        "scan" | "select" => "0",
        "auth" => "p",
        "echo" => "e",
        "eval" => "return 0",
        "evalsha" => "e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0",
        "client|setname" => "n",
        "script|exists" => "e0e1f9fabfc9d4800c877a703b823ac0578ff8db",
        "script|load" => "return",
        "client|getname" | "client|id" | "client|help" | "dbsize" | "flushall" | "flushdb" | "hello" | "info"
        | "ping" | "quit" | "script|flush" | "script|kill" | "time" | "client" | "script" | "multi" | "exec"
        | "discard" | "unwatch" | "randomkey" => "",
        "watch" => "w",
        _ => panic!("give the command {name} arguments here with which it works"),
    }
}

const SCRIPTS: &[&str] = &[
    "return 1",
    "return redis.call('get', 's')",
    "return redis.call('set', 's', 'v')",
    "return redis.pcall('set', 's', 'v')",
    "return redis.call('hset', 'h', 'f', 'v')",
    "return redis.call('del', 's')",
    // What has written once may go on.
    "redis.call('del', 's') return redis.call('set', 's', 'v')",
    "redis.pcall('set', 's', 'v') return redis.call('set', 's', 'v')",
    "redis.call('get', 's') return redis.call('set', 's', 'v')",
    "return redis.call('time')",
    "return redis.call('ping')",
    "return redis.call('client', 'id')",
    "#!lua\nreturn 1",
    "#!lua\nreturn redis.call('set', 's', 'v')",
    "#!lua flags=\nreturn redis.call('get', 's')",
    "#!lua flags=no-writes\nreturn redis.call('get', 's')",
    "#!lua flags=no-writes\nreturn redis.call('set', 's', 'v')",
    "#!lua flags=no-writes\nreturn redis.call('time')",
    "#!lua flags=allow-oom\nreturn redis.call('set', 's', 'v')",
    "#!lua flags=allow-stale\nreturn redis.call('time')",
    "#!lua flags=allow-stale,no-writes\nreturn redis.call('time')",
    "#!lua flags=allow-stale,no-writes\nreturn redis.call('get', 's')",
    "#!lua flags=allow-stale,no-writes\nreturn redis.call('set', 's', 'v')",
    "#!lua flags=no-writes flags=allow-oom\nreturn redis.call('set', 's', 'v')",
    "#!lua flags=no-cluster,allow-cross-slot-keys\nreturn redis.call('set', 's', 'v')",
];

/// Those that cannot be loaded.
const BROKEN: &[&str] = &[
    "#!lua flags=no-reads\nreturn 1",
    "#!lua flags=no-writes,,allow-oom\nreturn 1",
    "#!lua flags=no-writes, allow-oom\nreturn 1",
    "#!lua mode=x\nreturn 1",
    "#!js\nreturn 1",
    "#!lua",
];

pub(crate) fn of(words: &[&str]) -> Words {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

pub(crate) fn ask(real: &mut BufReader<UnixStream>, words: &[&str]) -> String {
    real.get_mut().write_all(&encode(&of(words))).expect("the server reads");
    let mut reply = Vec::new();
    read_reply(real, &mut reply);
    text(&reply)
}

pub(crate) fn ok(real: &mut BufReader<UnixStream>, words: &[&str]) {
    assert_eq!(ask(real, words), "+OK\r\n", "{words:?}");
}

/// Asks again until it is so, for as long as a server may take.
#[expect(clippy::disallowed_methods, reason = "the real server has the real clock")]
pub(crate) fn until(mut is_so: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(std::time::Instant::now() < end, "the server does not come into its state");
        std::thread::yield_now();
    }
}
