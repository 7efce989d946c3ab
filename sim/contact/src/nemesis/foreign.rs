//! Keys of another service beside those of the client.

use seedbed_redis::{Content, Dumped};

use super::Nemesis;
use crate::history::What;

/// A letter that the client never escapes (docs/FORMATS.md), escaped: such a name is in another spelling than its own.
const OTHER_SPELLING: &str = "%66oreign";

/// The crowd together has no more bytes than this: the record may be one of hundreds of kilobytes, and a history holds each key.
const CROWD_BYTES_MAX: usize = 8 << 20;

impl Nemesis<'_> {
    /// Writes keys beside the key of the first record in Redis, with that record's content or a string. Beside a large record the
    /// crowd is smaller. Returns the number of keys: 0 if Redis holds no record.
    pub(super) fn write_foreign(&self, spellings: u32, strings: u32, crowd: u32) -> u64 {
        let now_ms = self.world.wall_ms(self.redis.host());
        let dump = self.redis.with_engine(|engine| engine.dump(now_ms));
        let is_record = |key: &[u8], dumped: &Dumped| {
            matches!(dumped.content, Content::Hash(_)) && !self.instances.records_of_key(key).is_empty()
        };
        let Some((key, record)) = dump.into_iter().find(|(key, dumped)| is_record(key, dumped)) else { return 0 };
        let Some(end) = key.iter().rposition(|byte| *byte == b':') else { return 0 };
        let (beside, ours) = (&key[..end], &key[..=end]);
        let crowd = crowd.min(u32::try_from(CROWD_BYTES_MAX / bytes_of(&record).max(1)).unwrap_or(u32::MAX));
        let string = Dumped { content: Content::String(b"of another service".to_vec()), expires_at_ms: None };
        let named = |start: &[u8], name: String| [start, name.as_bytes()].concat();
        let spelled = (0..spellings).map(|number| (named(ours, format!("{OTHER_SPELLING}{number}")), &record));
        let texts = (0..strings).map(|number| (named(ours, format!("{OTHER_SPELLING}-string{number}")), &string));
        let beside = (0..crowd).map(|number| (named(beside, format!("-{number}")), &record));
        let written: Vec<_> = spelled.chain(texts).chain(beside).collect();
        self.redis.with_engine(|engine| written.iter().for_each(|(key, held)| engine.store(key, held)));
        let count = written.len() as u64;
        let keys = written.into_iter().map(|(key, held)| self.instances.stored_key(key, held.clone(), now_ms));
        self.recorder.note(What::OthersWrote { keys: keys.collect() });
        count
    }
}

fn bytes_of(dumped: &Dumped) -> usize {
    match &dumped.content {
        Content::String(text) => text.len(),
        Content::Hash(fields) => fields.iter().map(|(field, value)| field.len() + value.len()).sum(),
        Content::List(elements) => elements.iter().map(Vec::len).sum(),
        Content::Set(members) => members.iter().map(Vec::len).sum(),
        // A score takes eight bytes.
        Content::SortedSet(scores) => scores.keys().map(|member| member.len() + 8).sum(),
    }
}
