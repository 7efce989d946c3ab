//! Records and patches flattened into cells, and the tag in each value that names its write.
//!
//! The rules are those of the record's documented JSON form and of the workloads' tags. They are written here a second
//! time on purpose: a checker that borrowed the client's own flattening would share its mistakes.

use std::fmt;

use serde_json::Value as Json;

use crate::history::Patch;

/// What is written and read as one value within a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RecordCell<'h> {
    /// Whether there is a record; every upsert writes it, even one that writes nothing else.
    Existence,
    /// A contact point, by its type and value.
    Contact { kind: &'h str, value: &'h str },
    /// A field of the profile.
    Profile(&'h str),
    /// A field of the metadata.
    Metadata(&'h str),
}

impl fmt::Display for RecordCell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Existence => f.write_str("existence"),
            Self::Contact { kind, value } => write!(f, "contact ({kind:?}, {value:?})"),
            Self::Profile(field) => write!(f, "profile field {field:?}"),
            Self::Metadata(field) => write!(f, "metadata field {field:?}"),
        }
    }
}

/// The name of a write, carried in every value that it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag<'h> {
    pub(super) prefix: &'h str,
    pub(super) uid: &'h str,
    /// Unique in the run; chosen by the workload, and not the number of the call in the history.
    pub(super) op: u64,
}

/// A cell with a value, of a patch or of a record that was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Valued<'h> {
    pub(super) cell: RecordCell<'h>,
    pub(super) value: &'h Json,
    pub(super) tag: Option<Tag<'h>>,
}

/// The cells that `patch` writes, contact points first and in their order; existence is left out. An error names what
/// is no cell.
pub(super) fn of_patch(patch: &Patch) -> Result<Vec<Valued<'_>>, String> {
    let mut cells = Vec::with_capacity(patch.contacts.len() + patch.profile.len() + patch.metadata.len());
    for value in &patch.contacts {
        cells.push(contact(value).ok_or_else(|| format!("contact {value} has no type and value"))?);
    }
    let profile = patch.profile.iter().filter(|(_, value)| !value.is_null());
    cells.extend(profile.map(|(field, value)| Valued { cell: RecordCell::Profile(field), value, tag: tag(value) }));
    cells.extend(metadata(&patch.metadata));
    Ok(cells)
}

/// The cells that `patch` removes.
pub(super) fn removed_by(patch: &Patch) -> Vec<RecordCell<'_>> {
    let contacts = patch.without_contacts.iter().map(|(kind, value)| RecordCell::Contact { kind, value });
    let profile = patch.without_profile.iter().map(|field| RecordCell::Profile(field));
    contacts.chain(profile).chain(patch.without_metadata.iter().map(|field| RecordCell::Metadata(field))).collect()
}

/// The cells that `record` shows, contact points first and in their order; existence, and what is no cell, is left out.
pub(super) fn of_record(record: &Json) -> Vec<Valued<'_>> {
    let mut cells = Vec::new();
    if let Some(contacts) = record.get("contacts").and_then(Json::as_array) {
        cells.extend(contacts.iter().filter_map(contact));
    }
    if let Some(fields) = record.get("profile").and_then(Json::as_object) {
        cells.extend(fields.iter().map(|(field, value)| Valued {
            cell: RecordCell::Profile(field),
            value,
            tag: tag(value),
        }));
    }
    if let Some(fields) = record.get("metadata").and_then(Json::as_object) {
        cells.extend(metadata(fields));
    }
    cells
}

fn contact(value: &Json) -> Option<Valued<'_>> {
    let cell = RecordCell::Contact { kind: value.get("type")?.as_str()?, value: value.get("value")?.as_str()? };
    Some(Valued { cell, value, tag: value.get("label").and_then(tag) })
}

fn metadata(fields: &serde_json::Map<String, Json>) -> impl Iterator<Item = Valued<'_>> {
    fields.iter().map(|(field, value)| Valued { cell: RecordCell::Metadata(field), value, tag: tag(value) })
}

/// `[prefix, uid, op]`, bare or as the field `tag` of an object.
fn tag(value: &Json) -> Option<Tag<'_>> {
    let bare = value.get("tag").unwrap_or(value);
    let [prefix, uid, op] = bare.as_array()?.as_slice() else { return None };
    Some(Tag { prefix: prefix.as_str()?, uid: uid.as_str()?, op: op.as_u64()? })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patch(value: Json) -> Patch {
        serde_json::from_value(value).expect("a patch")
    }

    #[test]
    fn a_patch_becomes_cells_in_the_order_of_its_contacts() {
        let patch = patch(json!({
            "contacts": [
                {"type": "tel", "value": "1", "label": ["p", "u", 3]},
                {"type": "email", "value": "a", "label": {"tag": ["p", "u", 3], "payload": [null]}}
            ],
            "profile": {"name": ["p", "u", 3], "company": null},
            "metadata": {"source": {"tag": ["p", "u", 3], "payload": {}}}
        }));
        let cells = of_patch(&patch).expect("cells");
        let expected = [
            RecordCell::Contact { kind: "tel", value: "1" },
            RecordCell::Contact { kind: "email", value: "a" },
            RecordCell::Profile("name"),
            RecordCell::Metadata("source"),
        ];
        assert_eq!(cells.iter().map(|c| c.cell).collect::<Vec<_>>(), expected);
        assert!(cells.iter().all(|c| c.tag == Some(Tag { prefix: "p", uid: "u", op: 3 })));
    }

    #[test]
    fn a_null_is_a_value_in_a_record_and_in_metadata() {
        let record = json!({"uid": "u", "profile": {"name": null}, "metadata": {"x": null}});
        assert_eq!(of_record(&record).len(), 2);
        assert_eq!(of_patch(&patch(json!({"metadata": {"x": null}}))).expect("cells").len(), 1);
    }

    #[test]
    fn a_value_that_only_resembles_a_tag_has_none() {
        for value in [json!(["p", "u", -1]), json!(["p", "u", 1.0]), json!(["p", "u"]), json!({"tag": 1}), json!("p")] {
            assert_eq!(tag(&value), None, "{value}");
        }
    }

    #[test]
    fn a_contact_without_type_is_refused_in_a_patch() {
        assert!(of_patch(&patch(json!({"contacts": [{"value": "a"}]}))).is_err());
    }
}
