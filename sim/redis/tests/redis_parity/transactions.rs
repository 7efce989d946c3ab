//! Transactions of both servers: random ones of two clients that watch each other's keys, every command that writes under a
//! key that is watched, and keys that expire while they are.

use super::{states::until, *};

#[test]
fn random_transactions_of_two_clients_get_equal_replies() {
    let Some(server) = running() else { return };
    let mut pair = Pair::new(&server);
    let mut run = 0;
    for seed in 10_000..10_600 {
        let mut random = Stream::seed_from_u64(seed);
        pair.reset();
        for step in 0..60 {
            let words = generate::command_of_transaction(&mut random);
            let client = usize::from(random.random_bool(0.4));
            let case = format!("seed {seed}, step {step}, client {client}");
            pair.compare_as(client, &words, &case);
            run += u32::from(words[0].eq_ignore_ascii_case(b"EXEC") && pair.last.starts_with(b"*"));
        }
    }
    assert!(run > 800, "{run} transactions were run: too few to say much");
}

/// What another client does while `s` (the string 5), `x` (one that expires), `h`, `l` and `nope`, which is not there, are
/// watched. Half of them change nothing, by Redis's word.
const DONE_BY_ANOTHER: &[&str] = &[
    "GET s",
    "SET s 5",
    "SET s v NX",
    "SET s v XX",
    "SET nope v XX",
    "SET nope v",
    "SET s v GET",
    "SET s v EX 100",
    "SETNX s v",
    "SETNX nope v",
    "GETDEL s",
    "GETDEL nope",
    "MGET s h",
    "APPEND s v",
    "APPEND s ''",
    "APPEND nope v",
    "APPEND h v",
    "STRLEN s",
    "INCR s",
    "DECR s",
    "INCRBY s 0",
    "DECRBY nope 0",
    "INCRBY s x",
    "INCR h",
    "INCR nope",
    "HGETALL h",
    "HSET h a 1",
    "HSET h c 1",
    "HSET nope c 1",
    "HSET s c 1",
    "HMSET h a 1",
    "HSETNX h a 1",
    "HSETNX h c 1",
    "HSETNX nope c 1",
    "HDEL h a",
    "HDEL h c",
    "HDEL h a b",
    "HDEL nope a",
    "HINCRBY h a 0",
    "HINCRBY h b 1",
    "HINCRBY h c 1",
    "HINCRBY nope c 1",
    "LPUSH l x",
    "RPUSH l x",
    "LPUSH nope x",
    "LPUSH s x",
    "LPUSHX l x",
    "RPUSHX nope x",
    "LPOP l",
    "RPOP l 2",
    "LPOP l 0",
    "LPOP l 9",
    "LPOP nope",
    "LPOP nope 2",
    "LPOP s",
    "LLEN l",
    "LRANGE l 0 -1",
    "LINDEX l 0",
    "LSET l 0 a",
    "LSET l 9 a",
    "LREM l 0 a",
    "LREM l 0 x",
    "LTRIM l 0 -1",
    "LTRIM l 1 1",
    "LTRIM l 5 9",
    "LTRIM nope 0 1",
    "LINSERT l BEFORE a x",
    "LINSERT l BEFORE x x",
    "LPOS l a",
    "LMOVE l l LEFT LEFT",
    "LMOVE l m LEFT LEFT",
    "LMOVE m l LEFT LEFT",
    "LMOVE m nope LEFT LEFT",
    "LMOVE l s LEFT LEFT",
    "LMOVE nope l LEFT LEFT",
    "RPOPLPUSH l nope",
    "SETEX s 100 v",
    "PSETEX nope 100000 v",
    "SETEX s 0 v",
    "GETSET s 5",
    "GETSET h 5",
    "GETEX s",
    "GETEX s EX 100",
    "GETEX s PERSIST",
    "GETEX x PERSIST",
    "GETEX s PXAT 1",
    "MSET s 5 t 6",
    "MSETNX s 5 t 6",
    "MSETNX nope 5 t 6",
    "GETRANGE s 0 1",
    "SETRANGE s 0 5",
    "SETRANGE s 0 ''",
    "SETRANGE nope 3 v",
    "SETRANGE nope 0 ''",
    "INCRBYFLOAT s 0",
    "INCRBYFLOAT nope 1.5",
    "INCRBYFLOAT s x",
    "HINCRBYFLOAT h a 0",
    "HINCRBYFLOAT nope a 1",
    "HRANDFIELD h 9",
    "RENAME s t",
    "RENAME s s",
    "RENAME m s",
    "RENAME m nope",
    "RENAMENX m s",
    "RENAMENX m nope",
    "COPY s t",
    "COPY m s",
    "COPY m s REPLACE",
    "COPY m nope",
    "SADD set 1",
    "SADD set 9",
    "SADD nope 9",
    "SREM set 1",
    "SREM set 9",
    "SREM set 1 2 3",
    "SMOVE set other 1",
    "SMOVE set other 9",
    "SMOVE other set 3",
    "SMOVE other set 4",
    "SMOVE set set 1",
    "SINTERSTORE set set other",
    "SINTERSTORE set set nowhere",
    "SUNIONSTORE s set other",
    "SDIFFSTORE nope set set",
    "SPOP set 0",
    "SPOP set 9",
    "SISMEMBER set 1",
    "ZADD zset 1 a",
    "ZADD zset 2 a",
    "ZADD zset XX 2 nope",
    "ZADD zset NX 2 a",
    "ZADD zset INCR 0 a",
    "ZADD nope 1 a",
    "ZINCRBY zset 0 a",
    "ZINCRBY zset 1 a",
    "ZREM zset a",
    "ZREM zset x",
    "ZREM zset a b c",
    "ZPOPMIN zset 0",
    "ZPOPMAX zset",
    "ZPOPMIN zset 9",
    "ZREMRANGEBYRANK zset 5 9",
    "ZREMRANGEBYRANK zset 0 -1",
    "ZREMRANGEBYSCORE zset 1 1",
    "ZREMRANGEBYSCORE zset 8 9",
    "ZREMRANGEBYLEX zset - +",
    "ZRANGESTORE zset zset 0 -1",
    "ZRANGESTORE s zset 0 -1",
    "ZRANGESTORE zset nowhere 0 -1",
    "ZRANGE zset 0 -1",
    "DEL s",
    "DEL nope",
    "DEL m",
    "UNLINK h",
    "EXISTS s",
    "TOUCH s h",
    "TYPE s",
    "EXPIRE s 100",
    "EXPIRE nope 100",
    "EXPIRE s 100 XX",
    "EXPIRE x 100 GT",
    "EXPIRE x 100000 GT",
    "EXPIRE s -1",
    "PEXPIREAT h 1",
    "PERSIST x",
    "PERSIST s",
    "TTL x",
    "FLUSHDB",
    "FLUSHALL",
    "SELECT 1|SET s other",
    "SELECT 1|FLUSHDB",
    "SELECT 1|FLUSHALL",
    "DEL s|SET s 5",
    "SET nope v|DEL nope",
    "FLUSHALL|SET s 5",
    "LPOP l|LPUSH l a",
    "MULTI|SET s 6|DISCARD",
    "MULTI|SET s 6|EXEC",
    "MULTI|DEL s|EXEC",
    "MULTI|GET s|EXEC",
    "EVAL return_redis.call('set','s',5) 0",
    "EVAL return_redis.call('get','s') 0",
    "EVAL redis.call('del','h')_return_redis.call('lpush','l',1) 0",
    "WATCH s",
    "UNWATCH",
    "DISCARD",
];

/// The words of a line in which `_` stands for a space within a word.
fn spaced(line: &str) -> Words {
    words(line)
        .into_iter()
        .map(|word| word.iter().map(|&byte| if byte == b'_' { b' ' } else { byte }).collect())
        .collect()
}

#[test]
fn a_transaction_is_run_only_if_no_watched_key_was_written_to() {
    let Some(server) = running() else { return };
    let mut pair = Pair::new(&server);
    for watch in [
        "WATCH s x h l nope set zset",
        "WATCH nope",
        "WATCH s s h",
        "WATCH l",
        "WATCH set",
        "WATCH zset",
        "WATCH x|UNWATCH",
        "WATCH s|SELECT 1|WATCH s",
    ] {
        for other in DONE_BY_ANOTHER {
            for when in ["before MULTI", "after MULTI"] {
                pair.reset();
                let case = format!("{watch}; {when} {other}");
                let data =
                    ["SET s 5", "SET x v EX 1000", "HSET h a 1 b 2", "RPUSH l a b c", "RPUSH m a", "SADD set 1 2 3"];
                for line in data.into_iter().chain(["SADD other 3 4", "ZADD zset 1 a 2 b 3 c"]) {
                    pair.compare(&words(line), &case);
                }
                let of_another: Vec<_> = other.split('|').map(|line| (1, line)).collect();
                let queues = [(0, "MULTI"), (0, "SET done yes"), (0, "LPOP s")];
                let middle = if when == "before MULTI" {
                    [of_another.as_slice(), &queues].concat()
                } else {
                    [&queues[..2], of_another.as_slice(), &queues[2..]].concat()
                };
                let end = [(0, "EXEC"), (0, "GET done"), (0, "MULTI"), (0, "SET s again"), (0, "EXEC")];
                let all = watch.split('|').map(|line| (0, line)).chain(middle).chain(end);
                for (client, line) in all {
                    pair.compare_as(client, &spaced(line), &case);
                }
            }
        }
    }
}

#[test]
fn a_client_that_writes_to_what_it_watches_itself_has_changed_it() {
    let Some(server) = running() else { return };
    let mut pair = Pair::new(&server);
    for own in DONE_BY_ANOTHER {
        pair.reset();
        let lines = ["SET s 5", "HSET h a 1 b 2", "RPUSH l a b c", "SADD set 1 2 3", "WATCH s h l nope set zset"]
            .into_iter()
            .chain(own.split('|'));
        for line in lines.chain(["SELECT 0", "MULTI", "GET s", "EXEC", "EXEC"]) {
            pair.compare(&spaced(line), own);
        }
    }
}

#[test]
fn a_watched_key_that_expires_is_changed_and_one_that_had_expired_is_not() {
    let Some(server) = running() else { return };
    let mut pair = Pair::new(&server);
    let before = [
        // Live, and expired by the time of EXEC.
        "SET k v PX 30|WATCH k",
        "SET k v PX 30|WATCH k|MULTI|SET done yes",
        "RPUSH k a|PEXPIRE k 30|WATCH k",
        // Expired, or never there, when it is watched.
        "SET k v PXAT 1|WATCH k",
        "DEL k|WATCH k|SET k v PX 30",
        "SET k v PX 30|WATCH k|UNWATCH",
        "SET k v PX 30|WATCH k|PERSIST k",
    ];
    for before in before {
        // Who looks at the key in between, and what for.
        for between in ["PING", "GET k", "SET k w", "DEL k", "EXISTS k", "KEYS k", "FLUSHALL", "SETNX k w"] {
            pair.reset();
            let case = format!("{before}, {between}");
            for line in before.split('|') {
                pair.compare(&words(line), &case);
            }
            let expired_ms = wall_ms() + 30;
            until(|| wall_ms() > expired_ms);
            pair.compare_as(1, &words(between), &case);
            let multi = if before.contains("MULTI") { "ECHO again" } else { "MULTI" };
            for line in [multi, "EXISTS k", "EXEC", "GET done"] {
                pair.compare(&words(line), &case);
            }
        }
    }
}

#[test]
fn a_command_that_is_denied_after_it_was_queued_is_refused_alone() {
    let Some(server) = running() else { return };
    let mut pair = Pair::new(&server);
    for (denied, name) in
        [(&["get"][..], "-get"), (&["exec"], "-exec"), (&["multi"], "-multi"), (&["discard"], "-discard")]
    {
        pair.reset();
        for line in ["MULTI", "GET s", "SET s v", "INCR s"] {
            pair.compare(&words(line), name);
        }
        let acl = ["ACL", "SETUSER", "default"].map(|word| word.as_bytes().to_vec());
        pair.ask_real(1, &[&acl[..], &[name.into()]].concat());
        pair.engine.deny(denied);
        for line in ["TIME x", "EXEC", "MULTI", "GET s", "DISCARD", "EXEC", "MULTI", "EXEC", "EXEC x"] {
            pair.compare(&words(line), name);
        }
        pair.ask_real(1, &[&acl[..], &[b"+@all".to_vec()]].concat());
        pair.engine.deny(&[]);
    }
}

#[test]
fn a_transaction_ends_with_its_connection() {
    let Some(server) = running() else { return };
    let mut pair = Pair::new(&server);
    pair.reset();
    for line in ["WATCH s", "MULTI", "SET s v"] {
        pair.compare(&words(line), "before");
    }
    pair.real[0] = BufReader::new(server.connect());
    pair.engine.connect(ClientId(0));
    for line in ["EXEC", "GET s", "MULTI", "QUIT"] {
        pair.compare(&words(line), "after");
    }
}
