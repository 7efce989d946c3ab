//! What the contact cache stores, read by its documented form: the hash of a record in Redis, and the log of a store.
//!
//! The forms stand in the headers of `src/record/mod.rs`, `src/local/format.rs` and `src/local/entry.rs`. They are read here
//! with code of the bed's own.

use std::collections::BTreeMap;

use contact_cache::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use super::prefix_of_marker;
use crate::history::{
    RecordName, Shown, Stamps, StoredEntry, StoredLife, StoredMarker, StoredRecord,
    contents::{Raw, StampedContact, StoredValue},
};

/// Of a stamp, in hexadecimal digits.
const STAMP_LEN: usize = 32;

/// Of a time, likewise.
const MILLIS_LEN: usize = 12;

/// The end of a life that has none.
const NO_END: &str = "ffffffffffff";

const HEADER_LEN: usize = 16;
const ENTRY_MAGIC: &[u8] = b"CCLE";
/// Magic, checksum, length and number.
const ENTRY_HEADER_LEN: usize = 4 + 4 + 4 + 8;
/// Of the number of an entry, those that tell its place in the log.
const NUMBER_BITS: u32 = 40;

/// A memo of the records that cells make, by uid. At the end of a run Redis and most stores hold the same cells.
#[derive(Default)]
pub(in crate::subject) struct KnownRecords(BTreeMap<String, Vec<(StoredCells, Living)>>);

/// A record that cells make, and until when it lives, in milliseconds of Redis's clock.
#[derive(Clone)]
struct Living {
    shown: Shown,
    until_ms: u64,
}

impl KnownRecords {
    /// The record that the cells of `uid` make, in its JSON form; `None` if it was removed or has expired.
    fn shown(&mut self, uid: &str, cells: &BTreeMap<&str, &str>, now_ms: u64) -> Result<Option<Shown>, String> {
        let known = self.0.get(uid).into_iter().flatten().find(|(known, _)| texts_of(known) == *cells);
        if let Some((_, Living { shown, until_ms })) = known {
            return Ok((*until_ms > now_ms).then(|| shown.clone()));
        }
        let Some(living) = living(uid, cells, now_ms)? else { return Ok(None) };
        let cells = cells.iter().map(|(&field, &cell)| (field.to_owned(), cell.to_owned())).collect();
        self.0.entry(uid.to_owned()).or_default().push((cells, living.clone()));
        Ok(Some(living.shown))
    }
}

/// A record in Redis.
pub(in crate::subject) fn in_redis(
    name: RecordName,
    value: &StoredValue,
    now_ms: u64,
    known: &mut KnownRecords,
) -> StoredRecord {
    let cells = match value {
        StoredValue::String(_) => Err("it is a string, and a record is a hash".to_owned()),
        StoredValue::List(_) => Err("it is a list, and a record is a hash".to_owned()),
        StoredValue::Set(_) | StoredValue::SortedSet(_) => Err("it is a set, and a record is a hash".to_owned()),
        StoredValue::Hash(fields) => texts(fields),
    };
    let shows = cells.as_ref().map_err(Clone::clone).and_then(|cells| known.shown(&name.uid, cells, now_ms));
    let cells = cells.ok().filter(|_| shows.is_ok());
    let stamps = cells.as_ref().and_then(stamps);
    StoredRecord { stamps, life: cells.as_ref().and_then(life), ..record(name, shows, false) }
}

/// The life in these cells, if there is one of the documented form.
fn life(cells: &BTreeMap<&str, &str>) -> Option<StoredLife> {
    let lifetime = stamped(cells.get("e")?)?.1;
    let ends_ms = until_ms(lifetime)?;
    let begins_ms = lifetime.strip_prefix('3').and_then(|life| millis(life.get(..MILLIS_LEN)?)).unwrap_or(0);
    Some(StoredLife { begins_ms, ends_ms: (ends_ms != u64::MAX).then_some(ends_ms) })
}

/// The marker of the data of a prefix, if this key is one.
pub(in crate::subject) fn marker(key: &[u8], value: &StoredValue, expires_at_ms: Option<u64>) -> Option<StoredMarker> {
    let prefix = prefix_of_marker(key)?;
    let is_generation =
        |text: &[u8]| text.len() == 16 && text.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    let wrong = match (value, expires_at_ms) {
        (StoredValue::Hash(_), _) => Some("it is a hash, and a marker is a string".to_owned()),
        (StoredValue::List(_), _) => Some("it is a list, and a marker is a string".to_owned()),
        (StoredValue::Set(_) | StoredValue::SortedSet(_), _) => {
            Some("it is a set, and a marker is a string".to_owned())
        }
        (StoredValue::String(text), _) if !is_generation(&text.0) => {
            Some(format!("{:?} is no 16 hexadecimal digits", String::from_utf8_lossy(&text.0)))
        }
        (StoredValue::String(_), Some(at_ms)) => Some(format!("it expires, at {at_ms}, and a marker does not")),
        (StoredValue::String(_), None) => None,
    };
    Some(StoredMarker { prefix, wrong })
}

/// The stamps of a hash of the documented form.
fn stamps(cells: &BTreeMap<&str, &str>) -> Option<Stamps> {
    let mut stamps = Stamps::default();
    for (field, cell) in cells.iter().filter(|(field, _)| !["f", "l"].contains(field)) {
        let stamp = stamped(cell)?.0.to_owned();
        match field.split_at_checked(1)? {
            ("d", "") => stamps.removed = Some(stamp),
            ("e", "") => stamps.existence = Some(stamp),
            ("c", point) => {
                let (kind, value) = serde_json::from_str(point).ok()?;
                stamps.contacts.push(StampedContact { kind, value, stamp });
            }
            ("p", name) => drop(stamps.profile.insert(name.to_owned(), stamp)),
            ("m", name) => drop(stamps.metadata.insert(name.to_owned(), stamp)),
            _ => return None,
        }
    }
    Some(stamps)
}

/// What the log of a prefix holds: of each record the last entry that verifies, by its number, unless the copy was
/// forgotten since.
pub(in crate::subject) fn in_file(
    file: &[u8],
    prefix: &str,
    now_ms: u64,
    known: &mut KnownRecords,
) -> Vec<StoredEntry> {
    let mut verified = Vec::new();
    let mut rest = file.get(HEADER_LEN..).unwrap_or_default();
    while let Some(at) = rest.windows(ENTRY_MAGIC.len()).position(|bytes| bytes == ENTRY_MAGIC) {
        rest = &rest[at..];
        let Some((number, payload)) = entry(rest, prefix) else {
            rest = &rest[1..];
            continue;
        };
        verified.push((number, file.len() - rest.len(), payload));
        rest = &rest[ENTRY_HEADER_LEN + payload.len()..];
    }
    verified.sort_by_key(|(number, ..)| *number);
    // The entries of a record are decoded in full from the last one back, until one is of the documented form.
    let mut held: BTreeMap<String, Vec<(usize, &[u8])>> = BTreeMap::new();
    for (_, place, payload) in verified {
        let Some(EntryHead { entry, uid: Some(uid) }) = head(payload) else { continue };
        match entry.as_str() {
            "record" => held.entry(uid).or_default().push((place, payload)),
            "forget" => drop(held.remove(&uid)),
            _ => {}
        }
    }
    let last = held.into_iter().filter_map(|(uid, all)| Some((uid, last_of(all)?)));
    let mut entries: Vec<_> = last.collect();
    entries.sort_unstable_by_key(|(_, (place, ..))| *place);
    let mut entry = |(uid, (_, bytes, held)): (String, (usize, &[u8], StoredLives))| {
        let shows = known.shown(&uid, &held.joined(now_ms), now_ms);
        let name = RecordName { prefix: prefix.to_owned(), uid };
        let life = life(&texts_of(&held.cells));
        let record = StoredRecord { life, ..record(name, shows, held.is_pending()) };
        StoredEntry { bytes: Raw(bytes.to_vec()), record }
    };
    entries.into_iter().map(&mut entry).collect()
}

/// The kind of an entry of the log, and its record.
#[derive(Deserialize)]
struct EntryHead {
    entry: String,
    uid: Option<String>,
}

/// The head of an entry. The member `held`, which the client writes last, is cut off before parsing. The search for it cannot match
/// within a string, where its quotes would be escaped.
fn head(payload: &[u8]) -> Option<EntryHead> {
    const HELD: &[u8] = br#","held":"#;
    let end = payload.windows(HELD.len()).position(|bytes| bytes == HELD);
    let head = end.and_then(|end| serde_json::from_slice(&[&payload[..end], b"}"].concat()).ok());
    head.or_else(|| serde_json::from_slice(payload).ok())
}

/// The last entry that is of the documented form.
fn last_of(all: Vec<(usize, &[u8])>) -> Option<(usize, &[u8], StoredLives)> {
    #[derive(Deserialize)]
    struct DecodedRecord {
        held: StoredLives,
    }
    let read = |(place, bytes)| Some((place, bytes, serde_json::from_slice::<DecodedRecord>(bytes).ok()?.held));
    all.into_iter().rev().find_map(read)
}

/// The latest life of a record, and those before it that may be one with it (from format 4 on).
#[derive(Deserialize)]
struct StoredLives {
    cells: StoredCells,
    #[serde(default)]
    pending: Vec<String>,
    #[serde(default)]
    earlier: Vec<LifeInStore>,
    #[serde(default)]
    times_pending: bool,
}

#[derive(Deserialize)]
struct LifeInStore {
    cells: StoredCells,
    #[serde(default)]
    pending: Vec<String>,
}

type StoredCells = BTreeMap<String, String>;

impl StoredLives {
    fn is_pending(&self) -> bool {
        self.times_pending || !self.pending.is_empty() || self.earlier.iter().any(|life| !life.pending.is_empty())
    }

    /// The cells of all lives that are not over, of each the one with the larger stamp, and the life that ends last.
    fn joined(&self, now_ms: u64) -> BTreeMap<&str, &str> {
        let mut joined = texts_of(&self.cells);
        for life in &self.earlier {
            let cells = texts_of(&life.cells);
            let Some(existence) = cells.get("e").filter(|existence| ends_ms(existence) > Some(now_ms)) else {
                continue;
            };
            let ends_later = joined.get("e").is_none_or(|latest| ends_ms(latest) < ends_ms(existence));
            for (field, cell) in &cells {
                let is_above = joined.get(field).is_none_or(|latest| latest < cell);
                if if *field == "e" { ends_later } else { is_above } {
                    joined.insert(field, cell);
                }
            }
        }
        joined
    }
}

fn texts_of(cells: &StoredCells) -> BTreeMap<&str, &str> {
    cells.iter().map(|(field, cell)| (field.as_str(), cell.as_str())).collect()
}

/// When the life in an existence cell ends.
fn ends_ms(existence: &str) -> Option<u64> {
    until_ms(stamped(existence)?.1)
}

/// The place in the log and the payload of the entry that begins with the first of `bytes`, if it verifies.
fn entry<'a>(bytes: &'a [u8], prefix: &str) -> Option<(u64, &'a [u8])> {
    let number = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let (checksum, len) = (number(4)?, usize::try_from(number(8)?).ok()?);
    let covered = bytes.get(8..ENTRY_HEADER_LEN.checked_add(len)?)?;
    let is_first = covered[4..12] == [0; 8];
    let seed = if is_first { 0 } else { crc32fast::hash(prefix.as_bytes()) };
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(covered);
    let number = u64::from_le_bytes(*covered[4..].first_chunk()?) & ((1 << NUMBER_BITS) - 1);
    (hasher.finalize() == checksum).then(|| (number, &covered[12..]))
}

fn record(name: RecordName, shows: Result<Option<Shown>, String>, pending: bool) -> StoredRecord {
    let RecordName { prefix, uid } = name;
    let (shows, wrong) = shows.map_or_else(|wrong| (None, Some(wrong)), |shows| (shows, None));
    StoredRecord { prefix, uid, shows, wrong, pending, life: None, stamps: None }
}

fn texts(fields: &[(Raw, Raw)]) -> Result<BTreeMap<&str, &str>, String> {
    fields
        .iter()
        .map(|(field, value)| match (std::str::from_utf8(&field.0), std::str::from_utf8(&value.0)) {
            (Ok(field), Ok(value)) => Ok((field, value)),
            _ => Err(format!("the field {:?} or its value is no text", String::from_utf8_lossy(&field.0))),
        })
        .collect()
}

/// The record that cells make; `None` if it was removed or has expired.
fn living(uid: &str, cells: &BTreeMap<&str, &str>, now_ms: u64) -> Result<Option<Living>, String> {
    let stamped = |field: &str| match cells.get(field) {
        None => Ok(None),
        Some(cell) => stamped(cell).map(Some).ok_or_else(|| format!("the field {field:?} does not begin with a stamp")),
    };
    let buried = stamped("d")?.map(|(stamp, _)| stamp);
    let is_dead = |stamp: &str| buried.is_some_and(|buried| stamp <= buried);
    let (mut contacts, mut profile, mut metadata) = (Vec::new(), Map::new(), Map::new());
    for &field in cells.keys().filter(|field| !["d", "e", "f", "l"].contains(field)) {
        let Some((stamp, value)) = stamped(field)? else { continue };
        if value.is_empty() || is_dead(stamp) {
            continue;
        }
        let wrong =
            |cause: serde_json::Error| format!("the value of the field {field:?} is not as documented: {cause}");
        match field.split_at_checked(1) {
            Some(("c", point)) => {
                let (kind, point): (String, String) = serde_json::from_str(point).map_err(wrong)?;
                let (place, mut contact): ((u64, u64), Map<String, Json>) =
                    serde_json::from_str(value).map_err(wrong)?;
                contact.insert("type".to_owned(), kind.into());
                contact.insert("value".to_owned(), point.into());
                contacts.push((place, Json::from(contact)));
            }
            Some(("p", name)) => drop(profile.insert(name.to_owned(), serde_json::from_str(value).map_err(wrong)?)),
            Some(("m", name)) => drop(metadata.insert(name.to_owned(), serde_json::from_str(value).map_err(wrong)?)),
            _ => return Err(format!("a record has no field {field:?}")),
        }
    }
    let Some((stamp, lifetime)) = stamped("e")? else { return Ok(None) };
    let until_ms = until_ms(lifetime).ok_or_else(|| format!("it is said to live until {lifetime:?}"))?;
    if is_dead(stamp) || until_ms <= now_ms {
        return Ok(None);
    }
    contacts.sort_by_key(|(place, _)| *place);
    let time = |field: &str| {
        let millis = cells.get(field).and_then(|digits| millis(digits));
        let millis = millis.ok_or_else(|| format!("the time {field:?} is missing or no 12 hexadecimal digits"))?;
        Ok::<_, String>(Timestamp::from_millis(millis).to_string())
    };
    let json = json!({
        "uid": uid,
        "contacts": contacts.into_iter().map(|(_, contact)| contact).collect::<Vec<_>>(),
        "profile": profile,
        "metadata": metadata,
        "first_revealed_at": time("f")?,
        "last_updated_at": time("l")?,
    });
    Ok(Some(Living { shown: json.into(), until_ms }))
}

fn stamped(cell: &str) -> Option<(&str, &str)> {
    let parts = cell.split_at_checked(STAMP_LEN)?;
    parts.0.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit)).then_some(parts)
}

/// Until when a record lives, in milliseconds of Redis's clock: the end of its life `3<begin><end>`, or the older forms
/// `1` (without an end) and `2<deadline>`, in a store also `0<deadline>` by an estimate.
fn until_ms(lifetime: &str) -> Option<u64> {
    match lifetime.split_at_checked(1)? {
        ("1", "") => Some(u64::MAX),
        ("0" | "2", deadline) => millis(deadline),
        ("3", life) => {
            let (begin, end) = life.split_at_checked(MILLIS_LEN)?;
            let (begin_ms, end_ms) = (millis(begin)?, millis(end)?);
            let has_end = end != NO_END;
            (begin_ms <= end_ms).then_some(if has_end { end_ms } else { u64::MAX })
        }
        _ => None,
    }
}

fn millis(digits: &str) -> Option<u64> {
    let is_digit = |digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    let well_formed = digits.len() == MILLIS_LEN && digits.bytes().all(is_digit);
    well_formed.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMPS: [&str; 3] =
        ["019b76db1d3000042e75bacf456b42f8", "019b76db6b500003296a4cc00673083c", "019b76db6b510002e75d73c133a59954"];

    fn hash(fields: &[(&str, String)]) -> StoredValue {
        let raw = |text: &str| Raw(text.as_bytes().to_vec());
        StoredValue::Hash(fields.iter().map(|(field, value)| (raw(field), raw(value))).collect())
    }

    fn read(fields: &[(&str, String)]) -> Result<Option<Json>, String> {
        let stored = in_redis(
            RecordName { prefix: "p".to_owned(), uid: "u".to_owned() },
            &hash(fields),
            1000,
            &mut KnownRecords::default(),
        );
        match stored.wrong {
            None => Ok(stored.shows.map(|shows| (*shows).clone())),
            Some(wrong) => Err(wrong),
        }
    }

    #[test]
    fn a_marker_is_a_generation_that_never_expires() {
        let text = |text: &str| StoredValue::String(Raw(text.as_bytes().to_vec()));
        let read = |value: &StoredValue, expires| marker(b"cc1g:p%3A", value, expires).expect("it is a marker");
        let right = text("0123456789abcdef");
        assert_eq!(read(&right, None), StoredMarker { prefix: "p:".to_owned(), wrong: None });
        assert!(read(&right, Some(1)).wrong.unwrap().contains("it expires, at 1"));
        assert!(read(&text("0123456789ABCDEF"), None).wrong.unwrap().contains("no 16 hexadecimal digits"));
        assert!(read(&StoredValue::Hash(Vec::new()), None).wrong.unwrap().contains("it is a hash"));
        assert_eq!(marker(b"cc1:p:u", &right, None), None);
    }

    /// Fields as the client writes them, the stamp of each by its number.
    fn fields(cells: &[(&'static str, usize, &str)]) -> Vec<(&'static str, String)> {
        let cells = cells.iter().map(|&(field, stamp, value)| (field, format!("{}{value}", STAMPS[stamp])));
        cells.chain([("f", "019b76dac0c9".to_owned()), ("l", "019b76dae8dd".to_owned())]).collect()
    }

    #[test]
    fn a_hash_is_the_record_that_its_cells_make() {
        let cells = [
            ("c[\"email\",\"b\"]", 1, "[[1,0],{\"label\":12345678901234567890}]"),
            ("c[\"email\",\"a\"]", 1, "[[2,0],{}]"),
            ("e", 2, "1"),
            ("mgone", 2, ""),
            ("msource", 1, "null"),
            ("pname", 2, "1.10"),
            ("pbelow", 0, "1"),
            ("d", 0, ""),
        ];
        let expected = r#"{"uid":"u","contacts":[{"type":"email","value":"b","label":12345678901234567890},
            {"type":"email","value":"a"}],"profile":{"name":1.10},"metadata":{"source":null},
            "first_revealed_at":"2026-01-01T00:00:06.345Z","last_updated_at":"2026-01-01T00:00:16.605Z"}"#;
        assert_eq!(read(&fields(&cells)).unwrap(), Some(serde_json::from_str(expected).unwrap()));
    }

    #[test]
    fn each_cell_of_a_hash_has_its_stamp_those_without_a_value_too() {
        let cells =
            [("c[\"email\",\"b\"]", 1, "[[1,0],{}]"), ("e", 2, "1"), ("mgone", 2, ""), ("pname", 1, "1"), ("d", 0, "")];
        let name = RecordName { prefix: "p".to_owned(), uid: "u".to_owned() };
        let stored = in_redis(name, &hash(&fields(&cells)), 1000, &mut KnownRecords::default());
        let stamp = |number: usize| STAMPS[number].to_owned();
        let contact = StampedContact { kind: "email".to_owned(), value: "b".to_owned(), stamp: stamp(1) };
        let expected = Stamps {
            removed: Some(stamp(0)),
            existence: Some(stamp(2)),
            contacts: vec![contact],
            profile: [("name".to_owned(), stamp(1))].into(),
            metadata: [("gone".to_owned(), stamp(2))].into(),
        };
        assert_eq!(stored.stamps, Some(expected));
    }

    #[test]
    fn a_record_that_was_removed_or_has_expired_is_none() {
        let lives = |until: &str| read(&fields(&[("e", 1, until), ("pname", 1, "1")])).unwrap().is_some();
        assert!(lives("1") && lives("20000000003e9") && !lives("20000000003e8") && !lives("00000000003e8"));
        let life = |begin: &str, end: &str| lives(&format!("3{begin}{end}"));
        assert!(life("000000000001", "0000000003e9") && !life("000000000001", "0000000003e8"));
        assert!(life("000000000000", "ffffffffffff"), "without an end");
        assert!(life("0000000003e9", "0000000003ea"), "one that a clock which stepped back has not reached");
        assert_eq!(read(&fields(&[("d", 2, "")])), Ok(None));
        assert_eq!(read(&fields(&[("d", 2, ""), ("e", 2, "1")])), Ok(None));
        assert_eq!(read(&fields(&[])), Ok(None));
    }

    #[test]
    fn cells_that_are_known_are_the_record_of_their_uid_and_expire_all_the_same() {
        let mut known = KnownRecords::default();
        let cells = hash(&fields(&[("e", 1, "20000000003e9"), ("pname", 1, "1")]));
        let mut shows = |uid: &str, now_ms| {
            let name = RecordName { prefix: "p".to_owned(), uid: uid.to_owned() };
            in_redis(name, &cells, now_ms, &mut known).shows.map(|shows| shows["uid"].clone())
        };
        assert_eq!([shows("u", 1000), shows("v", 1000)], [Some(json!("u")), Some(json!("v"))]);
        assert_eq!([shows("u", 1000), shows("u", 1001)], [Some(json!("u")), None]);
        assert_eq!(known.0["u"].len(), 1);
    }

    #[test]
    fn what_the_documented_form_does_not_have_is_named() {
        let says = |cells: &[(&'static str, usize, &str)], said: &str| {
            let wrong = read(&fields(cells)).unwrap_err();
            assert!(wrong.contains(said), "{wrong}");
        };
        says(&[("zip", 1, "1")], "no field \"zip\"");
        for life in ["3", "3000000000001", "30000000003e80000000003e7", "30000000000010000000003E8", "4", "11"] {
            says(&[("e", 1, life)], &format!("live until {life:?}"));
        }
        says(&[("e", 1, "1"), ("pname", 1, "\"1")], "\"pname\" is not as documented");
        says(&[("e", 1, "1"), ("cemail", 1, "[[1,0],{}]")], "\"cemail\" is not as documented");
        assert!(read(&[("e", "1".to_owned())]).unwrap_err().contains("does not begin with a stamp"));
        assert!(read(&[("e", format!("{}1", STAMPS[0]))]).unwrap_err().contains("time \"f\" is missing"));
        let string = in_redis(
            RecordName { prefix: "p".to_owned(), uid: "u".to_owned() },
            &StoredValue::String(Raw(Vec::new())),
            0,
            &mut KnownRecords::default(),
        );
        assert!(string.wrong.unwrap().contains("a string"));
    }

    /// A log with these payloads, entries numbered from 0, of prefix `p`.
    fn log(payloads: &[&str]) -> Vec<u8> {
        let mut log = b"contactc\x03\0\0\0\0\0\0\0".to_vec();
        for (number, payload) in (0_u64..).zip(payloads) {
            let mut covered = u32::try_from(payload.len()).unwrap().to_le_bytes().to_vec();
            covered.extend(number.to_le_bytes());
            covered.extend(payload.as_bytes());
            let seed = if number == 0 { 0 } else { crc32fast::hash(b"p") };
            let mut hasher = crc32fast::Hasher::new_with_initial(seed);
            hasher.update(&covered);
            log.extend(ENTRY_MAGIC);
            log.extend(hasher.finalize().to_le_bytes());
            log.extend(covered);
        }
        log
    }

    #[test]
    fn of_a_log_counts_the_last_entry_of_each_record_that_verifies() {
        let record = |uid: &str, name: u64, more: &str| {
            let stamp = STAMPS[1];
            format!(
                r#"{{"entry":"record","uid":"{uid}","held":{{"cells":{{"e":"{stamp}1","pname":"{stamp}{name}",
                "f":"019b76dac0c9","l":"019b76dae8dd"}}{more}}}}}"#
            )
        };
        let [old, new, gone] = [record("u", 1, ""), record("u", 2, r#","pending":["pname"]"#), record("v", 3, "")];
        let payloads =
            [r#"{"entry":"prefix","prefix":"p"}"#, &old, &gone, &new, r#"{"entry":"forget","uid":"v"}"#, "{}"];
        let read = |log: &[u8]| {
            let held = in_file(log, "p", 0, &mut KnownRecords::default()).into_iter();
            held.map(|entry| {
                let name = entry.record.shows.expect("a record")["profile"]["name"].to_string();
                (entry.record.uid, name, entry.record.pending)
            })
            .collect::<Vec<_>>()
        };
        let entry = |uid: &str, name: &str, pending| (uid.to_owned(), name.to_owned(), pending);
        let mut log = log(&payloads);
        assert_eq!(read(&log), [entry("u", "2", true)]);
        assert_eq!(in_file(&log, "q", 0, &mut KnownRecords::default()), [], "another prefix's entries do not verify");
        let mut begins: Vec<_> = (0..log.len()).filter(|&at| log[at..].starts_with(ENTRY_MAGIC)).collect();
        begins.push(log.len());
        let placed = [0, 3, 4, 1, 2, 5].map(|place: usize| &log[begins[place]..begins[place + 1]]);
        let misdirected = [&log[..HEADER_LEN], &placed.concat()].concat();
        assert_eq!(read(&misdirected), [entry("u", "2", true)], "the last one is that of the highest number");
        let at = log.windows(4).position(|bytes| bytes == b"pend").unwrap();
        log[at] ^= 1;
        assert_eq!(read(&log), [entry("u", "1", false)], "what is damaged does not count");
        assert_eq!(read(&log[..log.len() / 2]).len(), 1, "nor what is cut off");
        assert_eq!(in_file(b"", "p", 0, &mut KnownRecords::default()), []);
    }

    #[test]
    fn the_lives_of_a_record_in_a_store_are_joined_but_for_those_that_are_over() {
        let life = |stamp: usize, field: &str, end: &str| {
            let stamp = STAMPS[stamp];
            format!(r#""cells":{{"e":"{stamp}3000000000001{end}","{field}":"{stamp}1"}}"#)
        };
        let (latest, goes_on, over) =
            (life(2, "pnew", "0000000003ea"), life(1, "pold", "0000000003e9"), life(0, "pgone", "0000000003e8"));
        let times = r#""f":"019b76dac0c9","l":"019b76dae8dd""#;
        let latest = latest.replace("\"e\"", &format!("{times},\"e\""));
        let record = format!(
            r#"{{"entry":"record","uid":"u","held":{{{latest},"earlier":[{{{over}}},{{{goes_on},"pending":["pold"]}}]}}}}"#
        );
        let log = log(&[r#"{"entry":"prefix","prefix":"p"}"#, &record]);
        let [held] = in_file(&log, "p", 1000, &mut KnownRecords::default()).try_into().expect("one record");
        assert!(held.record.pending);
        assert_eq!(held.record.shows.expect("a record")["profile"], json!({"new": 1, "old": 1}));
    }
}
