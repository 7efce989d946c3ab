//! How a read is answered: Redis's reply joined with what is held here (R1, R2), or what is held here alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::Arc,
};

use crate::{
    answer::{Freshness, Read, Source},
    env::Env,
    error::Error,
    health::HealthEvent,
    key::Uid,
    limits::bytes_of,
    local::Held,
    record::{Merged, Record, SentLife},
    shared::{CallError, connection::Connection, reply::RecordReply, script::Mode},
    tiers::Tiers,
};

/// How exact the estimate of Redis's clock is taken to be: as old as a probe, and a round trip off. A record whose
/// deadline is that near is shown only after Redis has said that it is alive.
const CLOCK_MARGIN_MS: u64 = 2000;

/// Records asked for in one pipeline: some milliseconds of Redis's time.
const READ_MANY_MAX: usize = 256;

impl<E: Env> Tiers<E> {
    pub(crate) async fn get(&self, uid: &Uid, freshness: Freshness) -> Result<Read, Error> {
        if let Some(connection) = self.link.usable() {
            // R7: what is held when the request is sent.
            let asked = self.asked(uid)?;
            if bytes_of(asked.held.record()) > self.apart.large_bytes() {
                // In a box, as it is rare.
                return Box::pin(self.get_large(uid, &connection, &asked, freshness)).await;
            }
            let reply = self.ask(&connection, pin!(self.read_alive(&connection, uid))).await;
            if let Some(read) = self.answer(uid, &connection, &asked, reply).await? {
                return fresh(read, freshness);
            }
        }
        self.get_local(uid, freshness).await
    }

    /// Reads a record that is large, by what is held of it, beside the shared connection: its reply would keep those behind
    /// it waiting, and if it takes too long, that says nothing of Redis.
    async fn get_large(
        &self,
        uid: &Uid,
        shared: &Connection,
        asked: &ReadSent,
        freshness: Freshness,
    ) -> Result<Read, Error> {
        if let Ok(Some(connection)) = self.aside(asked.held.record(), shared, self.config.reply_timeout).await {
            // R7: it may have taken a while to open it.
            let asked = self.asked(uid)?;
            let reply = self.ask(&connection, pin!(self.read_alive(&connection, uid))).await;
            if matches!(reply, Err(CallError::Unusable(_) | CallError::Unknown(_))) {
                self.apart.calls.discard(connection.id).await;
            }
            if let Some(read) = self.answer(uid, &connection, &asked, reply).await? {
                return fresh(read, freshness);
            }
        }
        self.get_local(uid, freshness).await
    }

    pub(super) async fn get_many(
        &self,
        uids: &BTreeSet<Uid>,
        freshness: Freshness,
    ) -> BTreeMap<Uid, Result<Read, Error>> {
        let large_bytes = self.apart.large_bytes();
        let (large, small): (Vec<_>, Vec<_>) = uids.iter().partition(|uid| self.local.bytes(uid) > large_bytes);
        let mut answers = BTreeMap::new();
        // Each by itself, until one takes longer than Redis is waited for: the others would as well.
        let mut in_time = true;
        for uid in large {
            let answer = if in_time { self.get(uid, freshness).await } else { self.get_local(uid, freshness).await };
            in_time &= matches!(&answer, Ok(read) if read.source != Source::Local);
            answers.insert(uid.clone(), answer);
        }
        for page in small.chunks(READ_MANY_MAX) {
            let mut replies = match self.link.usable() {
                Some(connection) => self.read_page(&connection, page).await,
                None => BTreeMap::new(),
            };
            for uid in page {
                let answer = match replies.remove(*uid) {
                    Some(Ok(read)) => fresh(read, freshness),
                    Some(Err(error)) => Err(error),
                    None => self.get_local(uid, freshness).await,
                };
                answers.insert((*uid).clone(), answer);
            }
        }
        answers
    }

    /// Of each record that Redis answered for, the read.
    async fn read_page(&self, connection: &Connection, page: &[&Uid]) -> BTreeMap<Uid, Result<Read, Error>> {
        let asked: Vec<_> = page.iter().map(|uid| self.asked(uid)).collect();
        let keys: Vec<_> = page.iter().map(|uid| self.keys.record(uid)).collect();
        let Ok(replies) = self.ask(connection, pin!(connection.read_many(&keys))).await else { return BTreeMap::new() };
        let mut reads = BTreeMap::new();
        for (((uid, key), asked), reply) in page.iter().zip(&keys).zip(asked).zip(replies) {
            let asked = match asked {
                Ok(asked) => asked,
                Err(error) => {
                    reads.insert((*uid).clone(), Err(error));
                    continue;
                }
            };
            let reply = match reply.and_then(|flat| self.decoder.decode(uid, key, &flat)) {
                Ok(reply) if self.may_have_expired(&reply) => {
                    self.ask(connection, pin!(self.read_alive(connection, uid))).await
                }
                reply => reply,
            };
            if let Err(error) = &reply {
                self.note_refusal(error);
            }
            match self.answer(uid, connection, &asked, reply).await {
                Ok(Some(read)) => reads.insert((*uid).clone(), Ok(read)),
                Ok(None) => None,
                Err(error) => reads.insert((*uid).clone(), Err(error)),
            };
        }
        reads
    }

    fn asked(&self, uid: &Uid) -> Result<ReadSent, Error> {
        let behind_replay = self.replaying.contains(uid);
        Ok(ReadSent { held: self.held(uid)?, sent_at_ms: self.env.wall_ms(), behind_replay })
    }

    /// Reads a record from Redis. One past its deadline, or so near to it that only Redis can tell, is settled by the
    /// merge script first: from then on it is removed, for every reader.
    async fn read_alive(&self, connection: &Connection, uid: &Uid) -> Result<Arc<RecordReply>, CallError> {
        let key = self.keys.record(uid);
        let reply = self.decoder.decode(uid, &key, &connection.read(&key).await?)?;
        if !self.may_have_expired(&reply) {
            return Ok(reply);
        }
        self.metrics.expired.increment(1);
        // Rare, and large: in a box, so that every other read is not moved about with it.
        match Box::pin(connection.merge(&key, Mode::Each, &Record::default(), self.terms(SentLife::default()))).await? {
            Merged::Applied(_) | Merged::Outdone(_) => self.decoder.decode(uid, &key, &connection.read(&key).await?),
            Merged::Conflict(_) | Merged::Over => {
                Err(CallError::Unknown("the merge script answered a conflict in mode each".to_owned()))
            }
        }
    }

    fn may_have_expired(&self, reply: &RecordReply) -> bool {
        reply.deadline_ms.is_some_and(|deadline_ms| deadline_ms <= self.shared_ms().saturating_add(CLOCK_MARGIN_MS))
    }

    /// What Redis's reply makes of the read; none if it says nothing and the local tier has to answer.
    async fn answer(
        &self,
        uid: &Uid,
        connection: &Connection,
        asked: &ReadSent,
        reply: Result<Arc<RecordReply>, CallError>,
    ) -> Result<Option<Read>, Error> {
        match reply {
            Ok(reply) => self.take_reply(uid, connection, asked, &reply).await,
            Err(CallError::NotARecord { key, reason }) => Err(Error::NotARecord { key, reason }),
            Err(CallError::Refused(_) | CallError::Unusable(_) | CallError::Unknown(_)) => Ok(None),
        }
    }

    /// R1, R2, R5: joins Redis's reply with what was held when it was asked. None if Redis's data was lost meanwhile
    /// (R6): then the reply says nothing.
    async fn take_reply(
        &self,
        uid: &Uid,
        connection: &Connection,
        asked: &ReadSent,
        whole: &RecordReply,
    ) -> Result<Option<Read>, Error> {
        if self.tells_nothing_new(whole, asked).await? {
            if !self.local.saw_whole(uid, &connection.generation, asked.sent_at_ms) {
                return Ok(None);
            }
            let record = whole.view(uid).map_err(|error| self.not_a_record(uid, &error))?;
            return Ok(Some(Read { source: Source::Shared, record }));
        }
        if self.is_clock_in_doubt() {
            // Rare: in a box, so that every other read is not moved about with it.
            Box::pin(self.hear_in_doubt(connection)).await;
        }
        let reply = &whole.record;
        let ReadSent { held: asked, sent_at_ms, behind_replay } = asked;
        let (asking, shifts) = (self.asking(*sent_at_ms, *behind_replay), self.shifts());
        let now_ms = asking.now_ms;
        let take = |held: &mut Held| {
            held.correct(&shifts);
            held.take_reply(asked, reply, asking)
        };
        // An error is a store that takes no writes: the answer stands, only no copy of it is kept.
        let update = |held: &mut Held| _ = take(held);
        if matches!(self.local.update_in_generation(uid, &connection.generation, update), Ok(None)) {
            return Ok(None);
        }
        let mut shown = (**asked).clone();
        let reclaimed = take(&mut shown);
        self.metrics.republished.increment(u64::from(reclaimed.published_again));
        self.metrics.yielded.increment(u64::from(reclaimed.yielded));
        if shown.is_pending() {
            self.link.pending(HealthEvent::Pending, self.env.now());
        }
        let shown = shown.shown_at(now_ms);
        let source = if reply.covers(&shown) {
            self.local.saw_whole(uid, &connection.generation, *sent_at_ms);
            Source::Shared
        } else {
            Source::Merged
        };
        // What Redis showed was alive there; only a life that it does not know yet is judged here.
        let now_ms = if shown.life() == reply.life() { 0 } else { now_ms };
        Ok(Some(Read { source, record: self.view(uid, &shown, now_ms)? }))
    }

    /// Whether the reply is what was held, and confirms nothing that was not confirmed lately: the usual case. When this
    /// returns, the stamps of both are observed (R4).
    async fn tells_nothing_new(&self, whole: &RecordReply, asked: &ReadSent) -> Result<bool, Error> {
        let (held, sent_at_ms) = (&asked.held, asked.sent_at_ms);
        if whole.is_settled(held, sent_at_ms) {
            // Found so before: the copy has the same stamps.
            self.observe(whole.newest).await?;
            return Ok(true);
        }
        self.observe(whole.newest.max(held.newest())).await?;
        let settled_until_ms = held.settled_until_ms(self.stale_ms()).filter(|until_ms| sent_at_ms <= *until_ms);
        let Some(until_ms) = settled_until_ms.filter(|_| whole.record == *held.record()) else { return Ok(false) };
        whole.settle(held, until_ms);
        Ok(true)
    }

    async fn get_local(&self, uid: &Uid, freshness: Freshness) -> Result<Read, Error> {
        if freshness == Freshness::Shared {
            return Err(Error::NotShared { reason: self.link.why_away(self.env.now()), sent: false });
        }
        self.local.check()?;
        if self.local.read(uid)?.map_or(self.local.forgot(), |held| held.is_partial()) {
            return Err(Error::Forgotten);
        }
        let held = self.held(uid)?;
        if let Freshness::Within(max) = freshness {
            let age_ms =
                self.local.confirmed_ms(uid, &held).map(|confirmed| self.env.wall_ms().saturating_sub(confirmed));
            let max_ms = u64::try_from(max.as_millis()).unwrap_or(u64::MAX);
            if age_ms.is_none_or(|age| age > max_ms) {
                return Err(Error::TooOld { age_ms, max_ms });
            }
        }
        self.observe(held.newest()).await?;
        let now_ms = self.shared_ms();
        Ok(Read { source: Source::Local, record: self.view(uid, &held.shown_at(now_ms), now_ms)? })
    }
}

/// What was held when a request was sent (R7), and when that was.
struct ReadSent {
    held: Arc<Held>,
    sent_at_ms: u64,
    /// See [`Held::reclaim`].
    behind_replay: bool,
}

fn fresh(read: Read, freshness: Freshness) -> Result<Read, Error> {
    match (freshness, read.source) {
        (Freshness::Shared, Source::Merged) => {
            let reason = "this instance holds writes to the record that redis does not have yet".to_owned();
            Err(Error::NotShared { reason, sent: false })
        }
        (Freshness::Any | Freshness::Within(_) | Freshness::Shared, _) => Ok(read),
    }
}
