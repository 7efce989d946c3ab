//! The times of a record in its JSON form.

/// Milliseconds since 1970 of `YYYY-MM-DDTHH:MM:SS.mmmZ`; `None` for another form, or a day that does not exist. Two such texts compare
/// as their times.
pub(super) fn millis(text: &str) -> Option<i64> {
    let form = "0000-00-00T00:00:00.000Z";
    let fits = |(byte, form): (u8, u8)| if form == b'0' { byte.is_ascii_digit() } else { byte == form };
    if text.len() != form.len() || !text.bytes().zip(form.bytes()).all(fits) {
        return None;
    }
    // `jiff` takes a leap second for the second before it.
    let is_leap_second = &text[17..19] == "60";
    let time = text.parse::<jiff::Timestamp>().ok().filter(|_| !is_leap_second)?;
    Some(time.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::millis;

    #[test]
    fn a_time_of_a_day_that_exists_is_read_and_nothing_else() {
        for (text, read) in [
            ("1970-01-01T00:00:00.001Z", Some(1)),
            ("2026-01-01T00:00:00.000Z", Some(1_767_225_600_000)),
            ("2024-02-29T23:59:59.999Z", Some(1_709_251_199_999)),
            ("9999-12-30T22:00:00.999Z", Some(253_402_207_200_999)),
            ("2026-02-29T12:00:00.000Z", None),
            ("2026-13-01T00:00:00.000Z", None),
            ("2026-01-31T24:00:00.000Z", None),
            ("2026-01-31T23:59:60.000Z", None),
            ("2026-01-31T12:00:00Z", None),
            ("2026-01-31 12:00:00.000Z", None),
            ("soon", None),
        ] {
            assert_eq!(millis(text), read, "{text}");
        }
    }
}
