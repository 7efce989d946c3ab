//! What went wrong with Redis, in words for people: the reason that logs, `health()` and errors give.
//!
//! An error of a server may repeat what it was sent: `ERR unknown command 'EVALSHA', with args beginning with: ..` shows a
//! contact's data, and the same for `AUTH` a password. So only texts that are known to repeat no argument are passed on.

use redis::{ErrorKind, RedisError, ServerErrorKind, Value};

use crate::shown::Line;

/// The reason that says least: the peer, or the way to it, closed the connection. Any other wins over it.
pub(crate) const CLOSED: &str = "redis closed the connection";

/// Codes of errors whose text is Redis's own whatever was sent.
const CODES: [&str; 22] = [
    "ASK",
    "BUSY",
    "CLUSTERDOWN",
    "CROSSSLOT",
    "DENIED",
    "EXECABORT",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "MOVED",
    "NOAUTH",
    "NOPERM",
    "NOPROTO",
    "NOREPLICAS",
    "NOSCRIPT",
    "OOM",
    "READONLY",
    "TRYAGAIN",
    "UNBLOCKED",
    "UNKILLABLE",
    "WRONGPASS",
    "WRONGTYPE",
];

/// How texts of plain `ERR` begin that are Redis's own whatever was sent.
const TEXTS: [&str; 12] = [
    "AUTH <password> called without any password configured",
    "Client sent AUTH, but no password is set",
    "DB index is out of range",
    "invalid DB index",
    "max number of clients",
    "operation not permitted",
    "Protocol error: invalid bulk length",
    "Protocol error: invalid multibulk length",
    "SELECT is not allowed in cluster mode",
    "The user executing the script can't run this command",
    "string exceeds maximum allowed size",
    "wrong number of arguments for",
];

/// The commands of this client: an unknown one is named if it is one of these.
const COMMANDS: [&str; 12] =
    ["auth", "client", "eval", "evalsha", "get", "hello", "hgetall", "hmget", "scan", "select", "set", "time"];

/// Characters of a server's text that are shown.
const CHARS_MAX: usize = 300;

/// The reason in an error of the `redis` crate, and the code if a server answered it.
pub(crate) fn reason_of(error: &RedisError) -> String {
    if let Some(said) = error.clone().into_server_errors().as_deref().and_then(|errors| errors.first()) {
        return server_error(said.1.code(), said.1.details().unwrap_or_default());
    }
    match error.kind() {
        ErrorKind::Server(_) => server_error(error.code().unwrap_or("ERR"), error.detail().unwrap_or_default()),
        ErrorKind::AuthenticationFailed => "redis refused the user or the password".to_owned(),
        _ if error.is_timeout() => "redis is silent: the system gave the connection up".to_owned(),
        _ if error.is_connection_dropped() => CLOSED.to_owned(),
        ErrorKind::Io => format!("the connection failed: {}", Line(error)),
        // The texts of others repeat the reply.
        _ => format!("redis answered with something else than was asked for ({})", error.category()),
    }
}

/// The code of the error that a server answered, if it is one.
pub(crate) fn code_of(error: &RedisError) -> Option<String> {
    let said = error.clone().into_server_errors();
    let first = said.as_deref().and_then(|errors| errors.first());
    first.map(|said| said.1.code().to_owned()).or_else(|| Some(error.code()?.to_owned()))
}

/// What a server answered as an error.
pub(crate) fn server_error(code: &str, text: &str) -> String {
    let text = if CODES.contains(&code) || TEXTS.iter().any(|known| text.starts_with(known)) {
        text.chars().take(CHARS_MAX).collect()
    } else if let Some(command) = unknown_command(text) {
        format!("unknown command '{command}'")
    } else if text.starts_with("Protocol error") {
        "Protocol error".to_owned()
    } else if text.contains("user_script") {
        "the merge script failed".to_owned()
    } else {
        format!("(a text of {} bytes, not shown: it may repeat what was sent)", text.len())
    };
    let known = code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_') && code.len() <= 20;
    Line(format!("{} {text}", if known { code } else { "error" })).to_string().trim_end().to_owned()
}

/// The words of a server that turns a client away, from the line that they stand in.
pub(crate) fn parting_words(line: &str) -> Option<String> {
    let (code, text) = line.strip_prefix('-')?.trim_end().split_once(' ')?;
    (code == "DENIED" || text.starts_with("max number of clients")).then(|| server_error(code, text))
}

/// What kind of reply it is, without what is in it.
pub(crate) fn kind_of(reply: &Value) -> String {
    match reply {
        Value::Nil => "nothing".to_owned(),
        Value::Int(_) => "a number".to_owned(),
        Value::BulkString(bytes) => format!("a text of {} bytes", bytes.len()),
        Value::SimpleString(_) | Value::Okay => "a status".to_owned(),
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::ServerError(error) => server_error(error.code(), error.details().unwrap_or_default()),
        _ => "a value of another protocol".to_owned(),
    }
}

/// Whether the text of a server's error names an unknown command that this client does not send.
pub(super) fn names_another_command(text: &str) -> bool {
    text.starts_with("unknown command ") && unknown_command(text).is_none()
}

fn unknown_command(text: &str) -> Option<&'static str> {
    let name = text.strip_prefix("unknown command ")?.trim_start_matches(['\'', '`']);
    let name = name.split(['\'', '`', ',']).next()?;
    COMMANDS.into_iter().find(|command| name.eq_ignore_ascii_case(command))
}

/// Whether no request will be answered otherwise while this lasts.
pub(crate) fn is_of_the_server(kind: ServerErrorKind) -> bool {
    matches!(
        kind,
        ServerErrorKind::BusyLoading
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ReadOnly
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::Moved
            | ServerErrorKind::Ask
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_may_repeat_what_was_sent_is_not_shown() {
        for (code, text, shown) in [
            ("NOAUTH", "Authentication required.", "NOAUTH Authentication required."),
            ("ERR", "max number of clients reached", "ERR max number of clients reached"),
            (
                "ERR",
                "unknown command 'EVALSHA', with args beginning with: 'sha' '1' 'cc1:p:u' 'all' 'Ada' ",
                "ERR unknown command 'evalsha'",
            ),
            ("ERR", "unknown command `AUTH`, with args beginning with: `hunter2`, ", "ERR unknown command 'auth'"),
            ("ERR", "Ada", "ERR (a text of 3 bytes, not shown: it may repeat what was sent)"),
            ("Ada", "x", "error (a text of 1 bytes, not shown: it may repeat what was sent)"),
            ("ERR", "user_script:7: 'Ada' is no number script: f, on @user_script:7.", "ERR the merge script failed"),
            ("NOPERM", "no\u{1b}[2J", r"NOPERM no\u{1b}[2J"),
        ] {
            assert_eq!(server_error(code, text), shown);
        }
    }

    #[test]
    fn a_reply_of_another_kind_is_named_without_its_content() {
        assert_eq!(kind_of(&Value::BulkString(b"Ada".to_vec())), "a text of 3 bytes");
        assert_eq!(kind_of(&Value::Array(vec![Value::BulkString(b"Ada".to_vec())])), "a list of 1");
        let wrong = redis::from_redis_value::<Vec<u64>>(Value::BulkString(b"Ada".to_vec())).unwrap_err();
        let reason = reason_of(&RedisError::from(wrong));
        assert!(reason.contains("something else") && !reason.contains("Ada"), "{reason}");
    }

    #[test]
    fn only_the_words_of_a_server_that_turns_a_client_away_count_as_parting_words() {
        assert!(parting_words("-ERR max number of clients reached\r\n").is_some());
        assert!(parting_words("-DENIED Redis is running in protected mode because ...").is_some());
        for line in ["-ERR unknown subcommand 'SETINFO'. Try CLIENT HELP.\r\n", "+OK\r\n", "-", ""] {
            assert_eq!(parting_words(line), None, "{line}");
        }
    }
}
