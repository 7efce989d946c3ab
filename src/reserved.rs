//! The names under which `serde_json` keeps the text of a number or of a raw value.
//!
//! A map with one of them as its key is read as something else: `{"$serde_json::private::Number":"1"}` becomes the number
//! 1. Once a text is parsed that cannot be seen any more, so texts are searched before.

use serde_json::{Map, Value as Json};

const RESERVED: [&str; 2] = ["$serde_json::private::Number", "$serde_json::private::RawValue"];

/// Whether the map has a reserved key.
pub(crate) fn is_key_of(map: &Map<String, Json>) -> bool {
    RESERVED.iter().any(|name| map.contains_key(*name))
}

/// The byte at which the first reserved key in a text of JSON begins. The text may be broken anywhere: what is behind
/// the break is not looked at.
pub(crate) fn first_key_in(json: &str) -> Option<usize> {
    // Nearly every text ends here: a key has the name as it is, or an escape in it.
    if !json.contains("private") && !json.contains("\\u") {
        return None;
    }
    let mut at = 0;
    while let Some(begin) = json[at..].find('"').map(|quote| at + quote) {
        let end = end_of_string(json.as_bytes(), begin)?;
        at = end;
        let is_key = json[end..].trim_start_matches([' ', '\t', '\n', '\r']).starts_with(':');
        if is_key && is_reserved(&json[begin..end]) {
            return Some(begin);
        }
    }
    None
}

/// The byte behind the string that begins at `begin`.
fn end_of_string(json: &[u8], begin: usize) -> Option<usize> {
    let mut at = begin + 1;
    loop {
        match json.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn is_reserved(quoted: &str) -> bool {
    serde_json::from_str::<String>(quoted).is_ok_and(|name| RESERVED.contains(&name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_key_is_found_however_it_is_written_and_a_value_is_none() {
        for (json, found) in [
            (r#"{"a": {"$serde_json::private::Number":"1"}}"#, Some(7)),
            (r#"{"a": [{"\u0024serde_json::private::RawValue" : "1"}]}"#, Some(8)),
            (r#"{"$serde_json::priv\u0061te::Number"	:"1"}"#, Some(1)),
            (r#"{"a": "$serde_json::private::Number"}"#, None),
            (r#"{"a": "\"$serde_json::private::Number\":\"1\""}"#, None),
            (r#"{"$serde_json::private::Numbers": 1, "private": "\u0041"}"#, None),
            (r#"{"private": "broken"#, None),
            (r#"{"private": "broken\"#, None),
        ] {
            assert_eq!(first_key_in(json), found, "{json}");
        }
    }

    #[test]
    fn serde_json_reads_such_a_map_as_a_number() {
        let read: Json = serde_json::from_str(r#"{"$serde_json::private::Number":"1"}"#).unwrap();
        assert_eq!(read, 1, "if this fails the search is not needed any more");
    }
}
