//! Clients that wait for an element: BLPOP and its like, and what ends their wait.
//!
//! A wait ends in one of three ways: a key comes into being that has what the client wants, the time is over, or the client leaves. Keys
//! are looked at after the command that made them, which can be a whole transaction or a script. Of several clients that wait for a
//! key, the first that came is the first served. What a client sends while it waits is kept, and executed after its reply.
//!
//! The engine answers only whom it is fed by, so whoever serves it asks for the rest: [`Engine::due`] tells which clients have replies
//! to be sent, [`Engine::take_due`] gives these, and [`Engine::wakes_at_ms`] says when [`Engine::wake`] is to be called.

use std::mem;

use super::{
    ClientId, Engine, Flow,
    command::{Args, CommandCall},
    data::{Database, KeyData, Server},
    error_reply::{self, Done, ErrorReply},
    float::LongDouble,
    reply,
    waits::{ListEnd, Wait, Want},
};

/// Replies that a client is to be sent although it sent nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueReply {
    /// The replies.
    pub bytes: Vec<u8>,
    /// What becomes of the connection afterwards.
    pub flow: Flow,
}

/// The last moment of a wait of so many seconds, as text; none if it has no end, as a wait of 0 seconds has none.
pub(super) fn deadline(word: &[u8], now_ms: i64) -> Result<Option<i64>, ErrorReply> {
    let seconds = LongDouble::parse(word).ok_or(ErrorReply::Fixed("ERR timeout is not a float or out of range"))?;
    match seconds.thousandfold_rounded_up() {
        0 => Ok(None),
        ..0 => Err(ErrorReply::Fixed("ERR timeout is negative")),
        // A moment beyond all others overflows in Redis, and is not reached either.
        ms => Ok(ms.checked_add(now_ms)),
    }
}

/// The client waits for one of these keys from now on. Answers `false` if it must not, as in a transaction.
pub(super) fn wait(call: &mut CommandCall<'_>, keys: &Args<'_>, until_ms: Option<i64>, want: Want) -> bool {
    let CommandCall { server, session, .. } = call;
    if session.is_in_exec {
        return false;
    }
    let keys: Vec<_> = keys.iter().map(|key| key.to_vec()).collect();
    server.database(session.database).awaited.extend(keys.iter().cloned());
    server.waits.all.push(Wait { client: session.id, database: session.database, keys, until_ms, want });
    true
}

/// Ends the wait of a client, if there is one.
pub(super) fn leave(server: &mut Server, client: i64) {
    if let Some(at) = server.waits.all.iter().position(|wait| wait.client == client) {
        take(server, at);
    }
}

fn take(server: &mut Server, at: usize) -> Wait {
    let ended = server.waits.all.remove(at);
    for key in &ended.keys {
        let is_awaited = |wait: &Wait| wait.database == ended.database && wait.keys.contains(key);
        if !server.waits.all.iter().any(is_awaited) {
            server.database(ended.database).awaited.remove(key);
        }
    }
    ended
}

/// Serves the clients whose keys have come into being.
pub(super) fn serve(server: &mut Server, now_ms: i64) {
    // What one client is served can move an element to a key that another one waits for.
    loop {
        let ready = server.take_ready();
        if ready.is_empty() {
            return;
        }
        for (database, key) in ready {
            serve_key(server, database, &key, now_ms);
        }
    }
}

fn serve_key(server: &mut Server, database: usize, key: &[u8], now_ms: i64) {
    let waiting = server.waits.all.iter().filter(|wait| wait.database == database);
    let waiting = waiting.filter(|wait| wait.keys.iter().any(|awaited| awaited == key));
    for client in waiting.map(|wait| wait.client).collect::<Vec<_>>() {
        let Some(at) = server.waits.all.iter().position(|wait| wait.client == client) else { continue };
        let want = &server.waits.all[at].want;
        // It is gone, or of the type that another client waits for.
        let suits = match server.databases[database].get(key, now_ms).map(|entry| &entry.value) {
            None => return,
            Some(KeyData::List(_)) => !matches!(want, Want::Member { .. }),
            Some(KeyData::SortedSet(_)) => matches!(want, Want::Member { .. }),
            Some(_) => false,
        };
        if suits {
            let (mut out, ended) = (Vec::new(), take(server, at));
            let done = answer(server.database(database), key, &ended.want, now_ms, &mut out);
            error_reply::refuse(&mut out, done);
            server.waits.served.push((client, out));
        }
    }
}

/// Takes what a client wants from a key that has it, and writes the reply.
pub(super) fn answer(database: &mut Database, key: &[u8], want: &Want, now_ms: i64, out: &mut Vec<u8>) -> Done {
    match want {
        Want::Element(end) => {
            let element = database.list(key, now_ms)?.and_then(|list| end.pop(list)).unwrap_or_default();
            reply::array(out, 2);
            reply::bulk(out, key);
            reply::bulk(out, &element);
            database.written(key, now_ms);
        }
        Want::Move { target, from, to } => {
            let element = moved(database, (key, *from), (target, *to), now_ms)?;
            reply::bulk_or_null(out, element.as_deref());
        }
        Want::Member { is_highest } => {
            if let Some((score, member)) = database.sorted_set(key, now_ms)?.and_then(|set| set.pop(*is_highest)) {
                reply::array(out, 3);
                reply::bulk(out, key);
                reply::bulk(out, &member);
                reply::score(out, score.value());
            }
            database.written(key, now_ms);
        }
    }
    Ok(())
}

/// The element that goes from an end of one list to an end of another, or of the same; none if there is no list to take it from.
pub(super) fn moved(
    database: &mut Database,
    (source, from): (&[u8], ListEnd),
    (target, to): (&[u8], ListEnd),
    now_ms: i64,
) -> Result<Option<Vec<u8>>, ErrorReply> {
    if database.list(source, now_ms)?.is_none() {
        return Ok(None);
    }
    // Of the wrong type it is refused before the source changes.
    database.list(target, now_ms)?;
    let element = database.list(source, now_ms)?.and_then(|list| from.pop(list)).unwrap_or_default();
    to.push(database.list_or_new(target, now_ms)?, element.clone());
    database.written(target, now_ms);
    database.written(source, now_ms);
    Ok(Some(element))
}

impl Engine {
    /// Whether a client waits for an element (BLPOP and its like), or has replies that were not taken yet.
    pub fn is_waiting(&self, client: ClientId) -> bool {
        let waits = |client| self.clients.get(client).is_some_and(|client| self.server.waits.has(client.session.id));
        self.due.contains_key(&client) || !self.server.waits.is_empty() && waits(&client)
    }

    /// The clients that have replies although they sent nothing: an element came, or the time of their wait is over.
    pub fn due(&self) -> impl Iterator<Item = ClientId> {
        self.due.keys().copied()
    }

    /// The replies that a client is to be sent although it sent nothing, once.
    pub fn take_due(&mut self, client: ClientId) -> Option<DueReply> {
        self.due.remove(&client)
    }

    /// When the next wait is over, by the server's clock: [`Self::wake`] ends it from then on.
    pub fn wakes_at_ms(&self) -> Option<u64> {
        let next = self.server.waits.all.iter().filter_map(|wait| wait.until_ms).min()?;
        // Redis still waits in the last millisecond.
        u64::try_from(next.saturating_add(1)).ok()
    }

    /// Ends the waits that are over at `now_ms`.
    pub fn wake(&mut self, now_ms: u64) {
        let now = i64::try_from(now_ms).unwrap_or(i64::MAX);
        serve(&mut self.server, now);
        let over =
            |wait: &Wait| wait.until_ms.filter(|until_ms| *until_ms < now).map(|until_ms| (until_ms, wait.client));
        let mut over: Vec<_> = self.server.waits.all.iter().filter_map(over).collect();
        over.sort_unstable();
        for (_, client) in over {
            leave(&mut self.server, client);
            let mut out = Vec::new();
            // Also where an element was to be moved, and the reply were a string.
            reply::null_array(&mut out);
            self.server.waits.served.push((client, out));
        }
        self.resume(now_ms);
    }

    /// As [`Self::feed`], while clients wait or have replies that were not taken.
    pub(super) fn feed_among_waiting(
        &mut self,
        client: ClientId,
        bytes: &[u8],
        now_ms: u64,
        out: &mut Vec<u8>,
    ) -> Flow {
        self.wake(now_ms);
        // What is due came before what comes now.
        let take = |engine: &mut Self, out: &mut Vec<u8>| {
            let due = engine.take_due(client)?;
            out.extend(due.bytes);
            Some(due.flow)
        };
        if take(self, out) == Some(Flow::Close) {
            return Flow::Close;
        }
        let flow = self.process(client, bytes, now_ms, out);
        self.resume(now_ms);
        take(self, out).unwrap_or(flow)
    }

    /// Ends every wait with an error and its connection, as a server does that becomes a replica.
    pub(super) fn end_waits(&mut self) {
        let waiting: Vec<_> = self.server.waits.all.iter().map(|wait| wait.client).collect();
        for client in waiting {
            leave(&mut self.server, client);
            let Some((id, client)) = self.clients.iter_mut().find(|(_, other)| other.session.id == client) else {
                continue;
            };
            client.open = false;
            let mut bytes = Vec::new();
            reply::error(
                &mut bytes,
                "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
            );
            self.due.insert(*id, DueReply { bytes, flow: Flow::Close });
        }
    }

    /// Notes the replies to clients that wait no more, and executes what they sent in the meantime.
    fn resume(&mut self, now_ms: u64) {
        loop {
            let served = mem::take(&mut self.server.waits.served);
            if served.is_empty() {
                return;
            }
            for (number, reply) in served {
                let client = self.clients.iter().find(|(_, client)| client.session.id == number).map(|(id, _)| *id);
                let Some(client) = client else { continue };
                let mut due = self.due.remove(&client).unwrap_or(DueReply { bytes: Vec::new(), flow: Flow::Open });
                due.bytes.extend(reply);
                due.flow = self.process(client, &[], now_ms, &mut due.bytes);
                self.due.insert(client, due);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_clients() -> Engine {
        let mut engine = Engine::new();
        (0..3).for_each(|number| engine.connect(ClientId(number)));
        engine
    }

    fn ask(engine: &mut Engine, client: u64, lines: &str, now_ms: u64) -> String {
        let mut out = Vec::new();
        engine.feed(ClientId(client), format!("{lines}\r\n").as_bytes(), now_ms, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn due(engine: &mut Engine, client: u64) -> Option<String> {
        engine.take_due(ClientId(client)).map(|due| String::from_utf8(due.bytes).unwrap())
    }

    #[test]
    fn a_client_that_waits_is_served_by_the_push_of_another() {
        let mut engine = with_clients();
        assert_eq!(ask(&mut engine, 0, "BLPOP a b 0\r\nPING", 1), "");
        assert!(engine.is_waiting(ClientId(0)));
        assert_eq!((engine.wakes_at_ms(), engine.due().count()), (None, 0));
        assert_eq!(ask(&mut engine, 1, "RPUSH b x", 2), ":1\r\n");
        assert_eq!(engine.due().collect::<Vec<_>>(), [ClientId(0)]);
        assert_eq!(due(&mut engine, 0).unwrap(), "*2\r\n$1\r\nb\r\n$1\r\nx\r\n+PONG\r\n");
        assert!(!engine.is_waiting(ClientId(0)));
        assert!(engine.dump(2).is_empty());
    }

    #[test]
    fn a_wait_is_over_after_its_time_and_not_before() {
        let mut engine = with_clients();
        assert_eq!(ask(&mut engine, 0, "BLPOP a 0.01", 1_000), "");
        assert_eq!(engine.wakes_at_ms(), Some(1_011));
        engine.wake(1_010);
        assert_eq!(due(&mut engine, 0), None);
        engine.wake(1_011);
        assert_eq!(due(&mut engine, 0).unwrap(), "*-1\r\n");
        assert_eq!(ask(&mut engine, 1, "RPUSH a x", 1_012), ":1\r\n");
        assert_eq!(due(&mut engine, 0), None);
    }

    #[test]
    fn a_client_that_waits_is_not_idle() {
        let mut engine = with_clients();
        engine.limit(crate::ServerLimit::Idle { seconds: 1 });
        ask(&mut engine, 0, "BLPOP a 0", 1_000);
        ask(&mut engine, 1, "PING", 8_000);
        assert_eq!(engine.close_idle(9_000), Some(vec![ClientId(2)]));
        ask(&mut engine, 1, "RPUSH a x", 9_000);
        assert_eq!(engine.close_idle(10_000), Some(Vec::new()));
        assert_eq!(engine.close_idle(11_000), Some(vec![ClientId(0), ClientId(1)]));
    }

    #[test]
    fn a_client_that_leaves_takes_no_element() {
        let mut engine = with_clients();
        ask(&mut engine, 0, "BLPOP a 0", 1);
        ask(&mut engine, 1, "BLPOP a 0", 1);
        engine.disconnect(ClientId(0));
        ask(&mut engine, 2, "RPUSH a x y", 1);
        assert_eq!(due(&mut engine, 1).unwrap(), "*2\r\n$1\r\na\r\n$1\r\nx\r\n");
        assert_eq!(engine.due().count(), 0);
        assert_eq!(ask(&mut engine, 2, "LLEN a", 1), ":1\r\n");
    }
}
