//! A planted bug as its file says it: a header, then the diff. The header is text before the diff:
//!
//! ```text
//! guarantee: G5
//! What the bug is, in a sentence or two.
//! stands for: the production incident, or the bug of a real client, that it stands for.
//! ```
//!
//! and where a bug cannot be caught yet, `waits for:` and what is missing. A value goes on until the next of these lines,
//! or until a line without anything.

use std::collections::BTreeMap;

use crate::checker::Guarantee;

/// A planted bug.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MutantPatch {
    /// The name of its file, without the extension.
    pub name: String,
    /// The number of the guarantee that it breaks.
    pub guarantee: String,
    /// What it is.
    pub bug: String,
    /// What happened to others.
    pub stands_for: String,
    /// Why it cannot be caught yet, if it cannot.
    pub waits_for: Option<String>,
}

/// Why a file is no planted bug.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// A part of the header is missing.
    #[error("patch {name:?} has no {missing} before its diff: add it, as CONTRIBUTING.md tells under \"Planted bugs\"")]
    Header {
        /// The patch.
        name: String,
        /// What is missing.
        missing: &'static str,
    },
    /// There is no such guarantee.
    #[error("patch {name:?} is to break guarantee {found:?}, and the bed judges {judged}: name one of these")]
    Guarantee {
        /// The patch.
        name: String,
        /// What it names.
        found: String,
        /// What there is.
        judged: String,
    },
    /// There is nothing to apply.
    #[error("patch {name:?} has no diff behind its header: write one with `git diff`")]
    NoDiff {
        /// The patch.
        name: String,
    },
}

const GUARANTEE: &str = "guarantee";
const STANDS_FOR: &str = "stands for";
const WAITS_FOR: &str = "waits for";
/// The key of the text that has none.
const BUG: &str = "";

impl MutantPatch {
    /// Takes the header of a file.
    pub fn parse(name: &str, text: &str) -> Result<Self, PatchError> {
        let name = name.to_owned();
        let Some(diff) = text.lines().position(|line| line.starts_with("diff --git ")) else {
            return Err(PatchError::NoDiff { name });
        };
        let mut fields = fields(text.lines().take(diff));
        let mut field =
            |key: &str, missing| fields.remove(key).ok_or_else(|| PatchError::Header { name: name.clone(), missing });
        let guarantee = field(GUARANTEE, "line `guarantee: G5`")?;
        let bug = field(BUG, "sentence on what the bug is")?;
        let stands_for = field(STANDS_FOR, "line `stands for: ...`")?;
        let waits_for = fields.remove(WAITS_FOR);
        if judged(&guarantee).is_none() && waits_for.is_none() {
            let judged = Guarantee::ALL.map(number).join(", ");
            return Err(PatchError::Guarantee { name, found: guarantee, judged });
        }
        Ok(Self { name, guarantee, bug, stands_for, waits_for })
    }

    /// The guarantee that is to catch it; none if nothing judges that yet.
    pub fn expected(&self) -> Option<Guarantee> {
        judged(&self.guarantee)
    }
}

/// `G5`.
pub fn number(guarantee: Guarantee) -> String {
    guarantee.to_string().split(' ').next().unwrap_or_default().to_owned()
}

fn judged(found: &str) -> Option<Guarantee> {
    Guarantee::ALL.into_iter().find(|&guarantee| number(guarantee) == found)
}

fn fields<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeMap<&'static str, String> {
    let (mut fields, mut key) = (BTreeMap::<_, String>::new(), BUG);
    for line in lines.map(str::trim) {
        let begun = [GUARANTEE, STANDS_FOR, WAITS_FOR].into_iter().find_map(|key| {
            let value = line.strip_prefix(key)?.strip_prefix(':')?;
            Some((key, value.trim()))
        });
        let value = match begun {
            Some((begun, value)) => {
                key = begun;
                value
            }
            None => line,
        };
        if value.is_empty() {
            key = BUG;
            continue;
        }
        let field = fields.entry(key).or_default();
        if !field.is_empty() {
            field.push(' ');
        }
        field.push_str(value);
        if key == GUARANTEE {
            // One word; what follows it is the bug.
            key = BUG;
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIFF: &str = "\ndiff --git a/src/key.rs b/src/key.rs\n--- a/src/key.rs\n+++ b/src/key.rs\n";

    fn parsed(header: &str) -> Result<MutantPatch, String> {
        MutantPatch::parse("late", &format!("{header}{DIFF}")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_header_says_the_guarantee_the_bug_and_what_it_stands_for() {
        let patch = parsed("guarantee: G5\nA write\nis lost.\nstands for: a queue\nthat was cleared.\n").unwrap();
        assert_eq!(patch.expected(), Some(Guarantee::Durability));
        assert_eq!((patch.bug.as_str(), patch.stands_for.as_str()), ("A write is lost.", "a queue that was cleared."));
        assert_eq!(patch.waits_for, None);
    }

    #[test]
    fn what_is_missing_is_named_with_the_patch() {
        for (header, missing) in [
            ("A write is lost.\nstands for: a queue.", "guarantee: G5"),
            ("guarantee: G5\nstands for: a queue.", "sentence"),
            ("guarantee: G5\nA write is lost.", "stands for"),
            ("", "guarantee: G5"),
        ] {
            let error = parsed(header).unwrap_err();
            assert!(error.contains("patch \"late\"") && error.contains(missing), "{error}");
        }
    }

    #[test]
    fn a_guarantee_that_nothing_judges_is_an_error_unless_the_patch_waits_for_it() {
        let error = parsed("guarantee: G99\nA write is lost.\nstands for: a queue.").unwrap_err();
        assert!(error.contains("\"G99\"") && error.contains("G1, G2"), "{error}");
        let waiting = parsed("guarantee: G99\nA bug.\nstands for: a queue.\nwaits for: its checker.").unwrap();
        assert_eq!((waiting.expected(), waiting.waits_for.as_deref()), (None, Some("its checker.")));
    }

    #[test]
    fn a_header_without_a_diff_is_no_bug() {
        let error = MutantPatch::parse("late", "guarantee: G5\nA write is lost.\nstands for: a queue.").unwrap_err();
        assert_eq!(error, PatchError::NoDiff { name: "late".to_owned() });
    }
}
