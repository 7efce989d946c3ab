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

/// Replies that two servers may give in another order or at another moment, which is not seen inside the reply of EXEC.
const INCOMPARABLE: &[&str] = &["KEYS", "SCAN", "TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME"];

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

/// Commands that show what a command on a hash or on lists left behind.
pub(crate) fn looks_after(command: &Words) -> Vec<Words> {
    let [name, keys @ ..] = command.as_slice() else { return Vec::new() };
    let list_of = |key: &Vec<u8>| vec![b"LRANGE".to_vec(), key.clone(), b"0".to_vec(), b"-1".to_vec()];
    match name.first().map(u8::to_ascii_uppercase) {
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
