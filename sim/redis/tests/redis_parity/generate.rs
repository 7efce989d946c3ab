//! Random commands over few keys, few fields and values of every kind, so that commands meet each other's leavings.

use rand::RngExt;

use super::{Stream, Words, scripts};

/// Commands by shape: a word in capital letters stands for itself, the others for what is drawn.
const SHAPES: &[&str] = &[
    "GET key",
    "GET key",
    "SET key value",
    "SET key value",
    "SET key value option",
    "SET key value option option",
    "SET key value option number",
    "SET key value EX seconds",
    "SET key value EX seconds option",
    "SET key value PX number GET",
    "SETNX key value",
    "GETDEL key",
    "MGET key key key",
    "APPEND key value",
    "STRLEN key",
    "INCR key",
    "DECR key",
    "INCRBY key number",
    "DECRBY key number",
    "HSET key field value",
    "HSET key field value",
    "HSET key field value field value",
    "HSET key field value field",
    "HMSET key field value",
    "HSETNX key field value",
    "HGET key field",
    "HMGET key field field field",
    "HDEL key field",
    "HDEL key field field",
    "HGETALL key",
    "HKEYS key",
    "HVALS key",
    "HLEN key",
    "HEXISTS key field",
    "HSTRLEN key field",
    "HINCRBY key field number",
    "LPUSH key value",
    "RPUSH key value",
    "RPUSH key value value value",
    "LPUSH key value value",
    "LPUSHX key value",
    "RPUSHX key value value",
    "LPOP key",
    "RPOP key",
    "LPOP key index",
    "RPOP key index",
    "LLEN key",
    "LRANGE key index index",
    "LRANGE key 0 -1",
    "LINDEX key index",
    "LSET key index value",
    "LREM key index value",
    "LTRIM key index index",
    "LINSERT key side value value",
    "LPOS key value",
    "LPOS key value search index",
    "LPOS key value search index search index",
    "LMOVE key key end end",
    "RPOPLPUSH key key",
    "SETEX key seconds value",
    "PSETEX key number value",
    "GETSET key value",
    "GETEX key",
    "GETEX key EX seconds",
    "GETEX key option number",
    "GETEX key PERSIST",
    "MSET key value key value",
    "MSETNX key value key value",
    "GETRANGE key index index",
    "SUBSTR key index index",
    "SETRANGE key index value",
    "INCRBYFLOAT key amount",
    "INCRBYFLOAT key wide",
    "SET key amount",
    "SET key wide",
    "HINCRBYFLOAT key field amount",
    "HSET key field amount",
    "HRANDFIELD key",
    "HRANDFIELD key index",
    "HRANDFIELD key index WITHVALUES",
    "HSCAN key 0 COUNT 1000",
    "HSCAN key 0 MATCH pattern",
    "RENAME key key",
    "RENAMENX key key",
    "COPY key key",
    "COPY key key REPLACE",
    "COPY key key DB database",
    "COPY key key DB database REPLACE",
    "RANDOMKEY",
    "SADD key member",
    "SADD key member",
    "SADD key member member member",
    "SADD key member member member member",
    "SREM key member",
    "SREM key member member member",
    "SMEMBERS key",
    "SISMEMBER key member",
    "SMISMEMBER key member member",
    "SCARD key",
    "SMOVE key key member",
    "SINTER key key",
    "SUNION key key key",
    "SDIFF key key",
    "SDIFF key key key",
    "SINTERSTORE key key key",
    "SUNIONSTORE key key key",
    "SDIFFSTORE key key key",
    "SINTERCARD 2 key key",
    "SINTERCARD index key key LIMIT index",
    "SPOP key",
    "SPOP key index",
    "SRANDMEMBER key",
    "SRANDMEMBER key index",
    "SSCAN key 0 COUNT 1000",
    "SSCAN key 0 COUNT 1000 MATCH pattern",
    "ZADD key score member",
    "ZADD key score member score member score member",
    "ZADD key 0 member 0 member 0 member",
    "ZADD key score member score member",
    "ZADD key adding score member",
    "ZADD key adding adding score member score member",
    "ZADD key adding adding adding score member",
    "ZINCRBY key score member",
    "ZREM key member member",
    "ZSCORE key member",
    "ZMSCORE key member member",
    "ZCARD key",
    "ZCOUNT key bound bound",
    "ZLEXCOUNT key lex lex",
    "ZRANK key member",
    "ZREVRANK key member",
    "ZRANGE key index index",
    "ZRANGE key index index ranging",
    "ZRANGE key bound bound BYSCORE ranging",
    "ZRANGE key bound bound BYSCORE LIMIT index index",
    "ZRANGE key bound bound BYSCORE REV ranging LIMIT index index",
    "ZRANGE key lex lex BYLEX",
    "ZRANGE key lex lex BYLEX REV LIMIT index index",
    "ZRANGE key lex lex ranging ranging",
    "ZRANGE key index index ranging LIMIT index index",
    "ZRANGEBYSCORE key bound bound",
    "ZRANGEBYSCORE key bound bound WITHSCORES LIMIT index index",
    "ZREVRANGEBYSCORE key bound bound WITHSCORES",
    "ZREVRANGEBYSCORE key bound bound LIMIT index index",
    "ZREVRANGE key index index WITHSCORES",
    "ZRANGEBYLEX key lex lex",
    "ZREVRANGEBYLEX key lex lex LIMIT index index",
    "ZPOPMIN key",
    "ZPOPMAX key index",
    "ZPOPMIN key index",
    "ZREMRANGEBYRANK key index index",
    "ZREMRANGEBYSCORE key bound bound",
    "ZREMRANGEBYLEX key lex lex",
    "ZRANGESTORE key key index index",
    "ZRANGESTORE key key bound bound BYSCORE LIMIT index index",
    "ZRANGESTORE key key lex lex BYLEX REV",
    "ZRANDMEMBER key",
    "ZRANDMEMBER key index",
    "ZRANDMEMBER key index WITHSCORES",
    "ZSCAN key 0 COUNT 1000",
    "ZSCAN key 0 MATCH pattern",
    "DEL key",
    "DEL key key",
    "UNLINK key",
    "EXISTS key key",
    "TYPE key",
    "EXPIRE key seconds",
    "EXPIRE key number",
    "EXPIRE key seconds condition",
    "EXPIRE key seconds condition condition",
    "PEXPIRE key number",
    "PEXPIREAT key number",
    "EXPIREAT key number condition",
    "PERSIST key",
    "TTL key",
    "PTTL key",
    "EXPIRETIME key",
    "PEXPIRETIME key",
    "SCAN 0 COUNT 1000",
    "SCAN 0 COUNT 1000 TYPE hash",
    "SCAN 0 COUNT 1000 TYPE list",
    "SCAN 0 COUNT 1000 MATCH pattern",
    "SCAN 0 option number",
    "KEYS pattern",
    "DBSIZE",
    "SELECT database",
    "SELECT number",
    "PING",
    "PING value",
    "ECHO value",
    "CLIENT SETNAME value",
    "CLIENT GETNAME",
    "FLUSHDB",
    "value key value",
    "EVAL script 1 key value value",
    "EVAL script 2 key key field value",
    "EVAL script number key",
    "EVAL script 1 key",
    "SCRIPT EXISTS value",
];

/// What makes, breaks and ends transactions.
const SHAPES_OF_TRANSACTIONS: &[&str] = &[
    "MULTI",
    "MULTI",
    "MULTI",
    "EXEC",
    "EXEC",
    "EXEC",
    "DISCARD",
    "WATCH key",
    "WATCH key",
    "WATCH key key",
    "UNWATCH",
];

/// What makes clients wait, and what ends that.
const SHAPES_OF_WAITS: &[&str] = &[
    "BLPOP list 0",
    "BLPOP list list list 0",
    "BRPOP list list 0",
    "BLMOVE list list end end 0",
    "BZPOPMIN list list list 0",
    "BZPOPMIN list list 0",
    "DEL list list list",
    "FLUSHDB",
    "BLPOP list 0",
    "BLPOP list list 0",
    "BRPOP list list list 0",
    "BRPOP list timeout",
    "BLMOVE list list end end 0",
    "BRPOPLPUSH list list 0",
    "BZPOPMIN list 0",
    "BZPOPMAX list list timeout",
    "LPUSH list value",
    "LPUSH list member member",
    "RPUSH list member member member",
    "RPUSH list value",
    "LPUSH list value value",
    "RPUSH list value",
    "ZADD list score member",
    "LPUSHX list value",
    "LPOP list",
    "LMOVE list list end end",
    "RPOPLPUSH list list",
    "LINSERT list BEFORE a b",
    "LREM list 0 a",
    "LRANGE list 0 -1",
    "ZADD list score member",
    "ZADD list score member score member score member",
    "ZPOPMIN list",
    "ZREM list member",
    "ZINCRBY list 1 member",
    "ZRANGESTORE list list 0 -1",
    "SUNIONSTORE list list",
    "SET list value",
    "SADD list member",
    "GETSET list value",
    "DEL list",
    "DEL list list",
    "RENAME list list",
    "RENAMENX list list",
    "COPY list list REPLACE",
    "COPY list list DB 1",
    "SELECT place",
    "FLUSHDB",
    "EVAL push 1 list a b",
    "MULTI",
    "MULTI",
    "EXEC",
    "EXEC",
    "EXEC",
    "EXEC",
    "EXEC",
    "EXEC",
    "DISCARD",
    "WATCH list",
];

/// Replies that two servers may give in another order or at another moment, which is not seen inside the reply of EXEC.
const INCOMPARABLE: &[&str] = &[
    "KEYS",
    "SCAN",
    "HSCAN",
    "SSCAN",
    "TTL",
    "PTTL",
    "EXPIRETIME",
    "PEXPIRETIME",
    "SMEMBERS",
    "SINTER",
    "SUNION",
    "SDIFF",
    "SPOP",
    "SRANDMEMBER",
    "HRANDFIELD",
    "ZRANDMEMBER",
    "RANDOMKEY",
];

/// A command, which sometimes lacks a word or has one too many.
pub(crate) fn command(random: &mut Stream) -> Words {
    let shape = pick(random, SHAPES);
    of_shape(random, shape)
}

/// A command of a client that uses transactions, or one that is queued in them.
pub(crate) fn command_of_transaction(random: &mut Stream) -> Words {
    if random.random_range(0..3) == 0 {
        let shape = pick(random, SHAPES_OF_TRANSACTIONS);
        return of_shape(random, shape);
    }
    loop {
        let shape = pick(random, SHAPES);
        // What fails when it is queued ends most transactions: less of it lets more of them through.
        let fails = shape.starts_with("value") || (shape.contains("option") && random.random_range(0..4) > 0);
        if !fails && !INCOMPARABLE.iter().any(|name| shape.split(' ').next() == Some(name)) {
            return of_shape(random, shape);
        }
    }
}

/// A command after which a client may wait, or one that serves others.
pub(crate) fn command_that_may_wait(random: &mut Stream) -> Words {
    let shape = pick(random, SHAPES_OF_WAITS);
    of_shape(random, shape)
}

fn of_shape(random: &mut Stream, shape: &str) -> Words {
    let mut command: Words = shape.split(' ').map(|part| word(random, part)).collect();
    match random.random_range(0..40) {
        0 if command.len() > 1 => drop(command.pop()),
        1 => command.push(word(random, "value")),
        2 => command[0].make_ascii_lowercase(),
        _ => {}
    }
    command
}

/// Commands that show what a command on a collection left behind.
pub(crate) fn looks_after(command: &Words) -> Vec<Words> {
    let [name, keys @ ..] = command.as_slice() else { return Vec::new() };
    let list_of = |key: &Vec<u8>| vec![b"LRANGE".to_vec(), key.clone(), b"0".to_vec(), b"-1".to_vec()];
    let of = |line: &str, key: &Vec<u8>| {
        let mut look = super::words(line);
        look[1].clone_from(key);
        look
    };
    match name.first().map(u8::to_ascii_uppercase) {
        Some(b'S') if name.len() > 4 => keys.iter().take(2).map(|key| of("SMEMBERS key", key)).collect(),
        Some(b'Z') => keys.iter().take(2).map(|key| of("ZRANGE key 0 -1 WITHSCORES", key)).collect(),
        Some(b'I' | b'M' | b'G') => keys.iter().take(1).map(|key| of("GET key", key)).collect(),
        Some(b'H') => keys.iter().take(1).map(|key| vec![b"HGETALL".to_vec(), key.clone()]).collect(),
        // The second word is a key if the command moves an element.
        Some(b'L' | b'R') => keys.iter().take(2).map(list_of).collect(),
        _ => Vec::new(),
    }
}

/// Up to `length` bytes of an alphabet.
pub(crate) fn letters(random: &mut Stream, alphabet: &[u8], length: usize) -> Vec<u8> {
    (0..random.random_range(0..=length)).map(|_| pick(random, alphabet)).collect()
}

fn word(random: &mut Stream, part: &str) -> Vec<u8> {
    match part {
        "key" => pick(random, &["a", "b", "c", "", "key:1"]).into(),
        "field" => pick(random, &["f", "g", "", "\r\n", "x"]).into(),
        "value" => value(random),
        "number" => number(random),
        // Far enough away that no key expires while the test runs, and rarely twice the same.
        "seconds" => random.random_range(100..1_000_000_i64).to_string().into(),
        "option" => {
            pick(random, &["NX", "XX", "GET", "KEEPTTL", "nx", "EX", "PX", "COUNT", "MATCH", "TYPE", "FOO"]).into()
        }
        // Few enough that clients meet.
        "list" => pick(random, &["a", "b", "c"]).into(),
        "place" => pick(random, &["0", "0", "1"]).into(),
        "timeout" => pick(random, &["0", "1000", "5e3", "x", "-1", "0x"]).into(),
        "push" => pick(random, PUSHES).into(),
        "member" => pick(random, &["a", "b", "c", "12", "-7", "", "\r\n", "\0", "abc"]).into(),
        "amount" => amount(random),
        "wide" => {
            pick(random, &["1e308", "1e4000", "-1e4931", "2e-4900", "1e-4960", "1e5000", "1e-5000", "inf"]).into()
        }
        "score" if random.random_range(0..6) == 0 => amount(random),
        "score" => random.random_range(-3..4_i64).to_string().into(),
        "adding" => pick(random, &["NX", "XX", "GT", "LT", "CH", "INCR", "ch"]).into(),
        "ranging" => pick(random, &["REV", "WITHSCORES", "BYSCORE", "BYLEX", "rev", "FOO"]).into(),
        "bound" => pick(random, BOUNDS).into(),
        "lex" => pick(random, &["-", "+", "-", "+", "[a", "[b", "(a", "(b", "[", "(", "[abc", "+x", "a", ""]).into(),
        "index" if random.random_range(0..8) == 0 => number(random),
        "index" => random.random_range(-5..5_i64).to_string().into(),
        "side" => pick(random, &["BEFORE", "AFTER", "after", "FOO"]).into(),
        "end" => pick(random, &["LEFT", "RIGHT", "left", "right", "FOO"]).into(),
        "search" => pick(random, &["RANK", "COUNT", "MAXLEN", "rank", "FOO"]).into(),
        "condition" => pick(random, &["NX", "XX", "GT", "LT", "gt", "FOO"]).into(),
        "pattern" => letters(random, b"ab*?[]-^\\key:1", 5),
        "database" => pick(random, &["0", "1", "15"]).into(),
        "script" => pick(random, scripts::RANDOM).into(),
        other => other.into(),
    }
}

/// Scripts that serve who waits, or do not.
const PUSHES: &[&str] = &[
    "return redis.call('rpush', KEYS[1], ARGV[1], ARGV[2])",
    "redis.call('rpush', KEYS[1], ARGV[1]) return redis.call('del', KEYS[1])",
    "redis.call('del', KEYS[1]) return redis.call('rpush', KEYS[1], ARGV[1])",
    "redis.call('del', KEYS[1]) return redis.call('zadd', KEYS[1], 1, ARGV[1])",
    "return redis.pcall('blpop', KEYS[1], 0)",
];

/// Bounds of ranges of scores, few of which are none.
const BOUNDS: &[&str] = &[
    "-inf", "+inf", "inf", "(0", "0", "1", "(1", "-2", "(-2", "3", "-inf", "+inf", "2", "(2", " 1", "", "(", "1e400",
    "x", "nan", "1 ", "0x2", "1.5", "(-inf", "(+inf",
];

/// A number with a fraction, or what is none.
fn amount(random: &mut Stream) -> Vec<u8> {
    match random.random_range(0..4) {
        0 => format!("{}", f64::from(random.random_range(-1_000_000..1_000_000)) / 1_000.0).into(),
        1 => format!("{:e}", random.random_range(-1.0..1.0_f64) * 10_f64.powi(random.random_range(-20..20))).into(),
        _ => pick(
            random,
            &[
                "0.1",
                "0.2",
                "-0.3",
                "1.5",
                "3e2",
                "-0",
                "0",
                "5",
                "-1e-18",
                "1e17",
                "123456789012345678",
                "0x1p-3",
                "0x1.fp4",
                "-0xA",
                ".5",
                "5.",
                "+1",
                "1e22",
                "18446744073709551615",
                "0.30000000000000004",
                "inf",
                "-inf",
                "nan",
                "1e",
                "e1",
                "",
                "x",
                " 1",
                "1 ",
                ".",
                "1e-400",
                "0e999999999999",
            ],
        )
        .into(),
    }
}

fn value(random: &mut Stream) -> Vec<u8> {
    match random.random_range(0..6) {
        0 => number(random),
        1 => letters(random, b"\0\r\n \xff'\"", 6),
        // Up to 64 bytes: the fields of a hash with a longer value would have no order to compare.
        2 => vec![b'v'; random.random_range(0..=64)],
        _ => pick(random, &["", "v", "12", "hello", "-7", "9223372036854775807"]).into(),
    }
}

fn number(random: &mut Stream) -> Vec<u8> {
    match random.random_range(0..3) {
        0 => random.random_range(-50..0_i64).to_string().into(),
        1 => random.random_range(1_000_000..2_000_000_i64).to_string().into(),
        _ => pick(random, &["", "x", "1.5", "+1", "01", "-0", " 2", "9223372036854775807", "-9223372036854775808"])
            .into(),
    }
}

fn pick<T: Copy>(random: &mut Stream, from: &[T]) -> T {
    from[random.random_range(0..from.len())]
}
