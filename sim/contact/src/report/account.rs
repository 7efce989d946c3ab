//! What verdicts rest on, for people: how much was judged, and why the rest was not.

use std::fmt::Write as _;

use crate::checker::{Account, Guarantee};

/// `66,659 of 71,002 acknowledged writes, 93.9 %; 3,100 expiry, 812 damage`.
pub fn account_text(guarantee: Guarantee, account: &Account) -> String {
    let (judged, total) = (grouped(account.judged), grouped(account.total()));
    let mut text = format!("{judged} of {total} {}, {} %", guarantee.unit(), rounded_down(account.share()));
    let mut excused: Vec<_> = account.excused.iter().collect();
    excused.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    for (index, (excuse, count)) in excused.into_iter().enumerate() {
        let _ = write!(text, "{} {} {excuse}", if index == 0 { ";" } else { "," }, grouped(*count));
    }
    text
}

/// To a tenth, so that only all is 100.
pub fn rounded_down(percent: f64) -> String {
    format!("{:.1}", (percent * 10.0).floor() / 10.0)
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
