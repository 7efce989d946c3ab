//! The values of a foreign history, and when two of them are equal.
//!
//! Values are equal as JSON values: `"\u0061"` is `"a"`, the fields of an object have no order, and numbers are equal
//! as numbers: 1, 1.0 and 10e-1 are one value, and so are 0 and -0. The comparison is exact, by sign, digits and
//! exponent; no number is ever rounded or written out.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::lines::Wrong;

/// A value, by its place among [`Values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ValueId(pub(super) u32);

/// The values of a history, each once, in the spelling that came first.
#[derive(Debug, Default)]
pub(super) struct Values {
    by_text: BTreeMap<String, ValueId>,
    all: Vec<Json>,
}

/// The longest exponent that is read, in digits: what fits an `i128` with room for the digits of a line.
const EXPONENT_DIGITS_MAX: usize = 36;
/// A longer value is cut when it is shown.
const SHOWN_CHARS_MAX: usize = 60;

impl Values {
    /// The place of a value, a new one if no equal value was taken before.
    pub(super) fn take(&mut self, json: Json) -> Result<ValueId, Wrong> {
        let next = ValueId(u32::try_from(self.all.len()).expect("fewer values than lines"));
        let value = *self.by_text.entry(canonical(&json)?).or_insert(next);
        if value == next {
            self.all.push(json);
        }
        Ok(value)
    }

    /// Each as a text, none for null.
    pub(super) fn texts(&self) -> impl Iterator<Item = Option<&str>> {
        self.all.iter().map(Json::as_str)
    }

    pub(super) fn shown(&self, value: ValueId) -> String {
        shown(&self.all[value.0 as usize])
    }
}

/// A value in messages.
pub(super) fn shown(json: &Json) -> String {
    let text = json.to_string();
    if text.chars().count() <= SHOWN_CHARS_MAX {
        text
    } else {
        text.chars().take(SHOWN_CHARS_MAX).chain("..".chars()).collect()
    }
}

/// A text that equal values have in common, and no others. Fails at an exponent that is too long.
pub(super) fn canonical(json: &Json) -> Result<String, Wrong> {
    let mut text = String::new();
    write(json, &mut text)?;
    Ok(text)
}

fn write(json: &Json, to: &mut String) -> Result<(), Wrong> {
    match json {
        Json::Null | Json::Bool(_) | Json::String(_) => to.push_str(&json.to_string()),
        Json::Number(number) => write_number(&number.to_string(), to)?,
        Json::Array(items) => {
            to.push('[');
            for item in items {
                write(item, to)?;
                to.push(',');
            }
            to.push(']');
        }
        Json::Object(fields) => {
            to.push('{');
            for (name, value) in fields.iter().collect::<BTreeMap<_, _>>() {
                to.push_str(&Json::from(name.as_str()).to_string());
                to.push(':');
                write(value, to)?;
                to.push(',');
            }
            to.push('}');
        }
    }
    Ok(())
}

/// A number as `-123e45`: the digits without zeros at either end, times ten to the power of the exponent.
fn write_number(text: &str, to: &mut String) -> Result<(), Wrong> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    let digits = digits.trim_start_matches('0');
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        to.push('0');
        return Ok(());
    }
    let shift = i128::try_from(digits.len() - significant.len()).expect("shorter than a line")
        - i128::try_from(fraction.len()).expect("shorter than a line");
    let exponent = read_exponent(exponent).ok_or_else(|| {
        let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
        let wrong = format!("the exponent of {shown} has more than {EXPONENT_DIGITS_MAX} digits");
        (wrong, "write the value as a text".to_owned())
    })?;
    to.push_str(sign);
    to.push_str(significant);
    to.push('e');
    to.push_str(&(exponent + shift).to_string());
    Ok(())
}

fn read_exponent(text: &str) -> Option<i128> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Some(0);
    }
    let magnitude: Option<i128> = digits.parse().ok().filter(|_| digits.len() <= EXPONENT_DIGITS_MAX);
    magnitude.map(|magnitude| sign * magnitude)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Result<String, Wrong> {
        canonical(&serde_json::from_str(json).expect("JSON"))
    }

    #[test]
    fn equal_numbers_are_equal_however_they_are_written() {
        for equal in [
            &["1", "1.0", "10e-1", "0.1E1", "1e0", "0.01e+2", "100e-002"][..],
            &["1000", "1e3", "1000.00", "1E+3"],
            &["0", "-0", "0.0", "0e99999999999999999999999999999999999999999999", "-0.00e5"],
            &["-12.50", "-125e-1"],
            &["1e999999999999999999999999", "10e999999999999999999999998", "0.1e1000000000000000000000000"],
            &["18446744073709551617", "18446744073709551617.0"],
            &["[1,{\"a\":2.0,\"b\":1e1}]", "[1.0,{\"b\":10,\"a\":2}]"],
            &["\"a\"", "\"\\u0061\""],
        ] {
            let first = of(equal[0]).unwrap();
            for other in equal {
                assert_eq!(of(other).as_ref(), Ok(&first), "{other} and {}", equal[0]);
            }
        }
    }

    #[test]
    fn values_that_differ_differ_in_their_text() {
        let texts = [
            "1",
            "-1",
            "\"1\"",
            "10",
            "1e999999999",
            "1e-999999999",
            "0",
            "0.1",
            "null",
            "[]",
            "{}",
            "[1]",
            "[[1]]",
            "\"\"",
            "9007199254740993",
            "9007199254740992",
            "{\"a\":1}",
            "[1,2]",
            "[12]",
            "true",
            "\"true\"",
            "18446744073709551616",
            "18446744073709551617",
        ];
        let all: std::collections::BTreeSet<_> = texts.iter().map(|text| of(text).unwrap()).collect();
        assert_eq!(all.len(), texts.len(), "{all:?}");
    }

    #[test]
    fn an_exponent_that_no_number_holds_is_refused() {
        let (wrong, cure) = of("1e1000000000000000000000000000000000000").unwrap_err();
        assert_eq!(wrong, "the exponent of 1e+1000000000000000000000000000000000000 has more than 36 digits");
        assert_eq!(cure, "write the value as a text");
    }
}
