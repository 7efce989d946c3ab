//! Which reasons the log has been given, so that each is told once.

use std::{collections::BTreeMap, time::Duration};

/// A trouble that was not met for this long is over: when it comes back it is told again.
const QUIET: Duration = Duration::from_mins(5);

/// Reasons that are told before it is said that there are more: one for each of a million keys would fill the log.
const REASONS_MAX: usize = 64;

/// The reasons told, and when each was last met.
#[derive(Debug, Default)]
pub(super) struct ToldReasons(BTreeMap<String, Duration>);

impl ToldReasons {
    /// Whether this reason is to be told now, and with what behind it.
    pub(super) fn news(&mut self, reason: &str, now: Duration) -> Option<&'static str> {
        self.0.retain(|_, met| now.saturating_sub(*met) < QUIET);
        if let Some(met) = self.0.get_mut(reason) {
            *met = now;
            return None;
        }
        if self.0.len() == REASONS_MAX {
            return None;
        }
        self.0.insert(reason.to_owned(), now);
        Some(if self.0.len() == REASONS_MAX { "; there are more reasons, which are not logged" } else { "" })
    }

    /// The trouble is over.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_once_until_it_was_not_met_for_a_while() {
        let (mut told, at) = (ToldReasons::default(), Duration::from_secs);
        assert_eq!(told.news("OOM", at(0)), Some(""));
        assert_eq!(told.news("NOPERM", at(1)), Some(""));
        for second in 1..1000 {
            assert_eq!(told.news("OOM", at(second)), None, "it never ended");
        }
        assert_eq!(told.news("NOPERM", at(1000)), Some(""), "it came back");
        told.forget();
        assert_eq!(told.news("OOM", at(1000)), Some(""));
        let told: Vec<_> = (0..100).filter_map(|number| told.news(&number.to_string(), at(1001))).collect();
        assert_eq!(told.len(), REASONS_MAX - 1, "a reason that is another every time does not fill the log");
        assert!(told.last().unwrap().contains("there are more"));
    }
}
