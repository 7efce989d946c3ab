//! Which write does each read of a register see, where the history leaves no choice? Then the zone test decides, also
//! where values are written twice and writes may never have happened.
//!
//! A read may see the initial value and every write of what it read, but for writes that were called after it had
//! returned, and for what another definite write certainly hid: one that was called after it had returned (the initial
//! value: any), and that had returned before the read was called. If one is left for each read, each is a value of its
//! own. An optional write that nobody sees is left out; one that somebody sees happened, at any time since it was
//! possible.

use std::collections::{BTreeMap, BTreeSet};

use seedbed_linearize::zones::{self, Zoned};

use super::{
    operation::Seen,
    span::{RegisterAct, RegisterHistory, RegisterSpan, SearchOutcome},
};

/// A write as a read may see it.
struct SourceOfRead {
    /// Its value in the zone test.
    name: usize,
    called: u64,
    /// None for the initial value: before everything.
    returned: Option<u64>,
}

/// The initial value's name.
const INITIAL: usize = 0;

/// What the zone test says; none where some read may see one of several writes.
pub(super) fn zone_test(register: &RegisterHistory) -> Option<SearchOutcome> {
    let (sources, mut writes) = sources(register);
    let hidden = Hidden::by(&register.definite);
    let mut spans: Vec<RegisterSpan<usize>> = Vec::with_capacity(register.definite.len());
    let mut seen = BTreeSet::new();
    for read in &register.definite {
        let RegisterAct::Read(value) = read.act else { continue };
        let sources = sources.get(&value).map_or(&[][..], Vec::as_slice);
        let hidden = hidden.before(read.called * 2);
        let visible = &sources[sources.partition_point(|source| source.returned < hidden)..];
        let mut visible = visible.iter().filter(|source| source.called <= read.returned * 2);
        let Some(source) = visible.next() else { return Some(SearchOutcome::Unexplained) };
        if visible.next().is_some() {
            return None;
        }
        seen.insert(source.name);
        spans.push(RegisterSpan {
            called: read.called * 2,
            returned: read.returned * 2,
            act: RegisterAct::Read(source.name),
        });
    }
    writes.retain(|write| {
        write.returned < u64::MAX || matches!(write.act, RegisterAct::Write(name) if seen.contains(&name))
    });
    spans.append(&mut writes);
    match zones::test(&INITIAL, &spans) {
        Zoned::Linearizable => Some(SearchOutcome::Explained),
        Zoned::Violated(_) => Some(SearchOutcome::Unexplained),
        Zoned::Ambiguous { .. } => None,
    }
}

/// All sources of each value by their return, and all writes. Moments are doubled: an optional write comes after the event
/// at whose end it became possible.
fn sources(register: &RegisterHistory) -> (BTreeMap<Seen, Vec<SourceOfRead>>, Vec<RegisterSpan<usize>>) {
    let initial = SourceOfRead { name: INITIAL, called: 0, returned: None };
    let mut sources = BTreeMap::from([(Seen::Absent, vec![initial])]);
    let mut writes: Vec<RegisterSpan<usize>> = Vec::new();
    let mut add = |value, called, returned| {
        let name = writes.len() + 1;
        writes.push(RegisterSpan { called, returned, act: RegisterAct::Write(name) });
        sources.entry(value).or_insert_with(Vec::new).push(SourceOfRead { name, called, returned: Some(returned) });
    };
    for span in &register.definite {
        if let RegisterAct::Write(value) = span.act {
            add(value, span.called * 2, span.returned * 2);
        }
    }
    for (&value, possible) in &register.optional {
        for possible in possible {
            add(value, possible * 2 + 1, u64::MAX);
        }
    }
    for sources in sources.values_mut() {
        sources.sort_by_key(|source| source.returned);
    }
    (sources, writes)
}

/// What definite writes certainly hide: by the return of each, the last call among those that had returned by then.
struct Hidden(Vec<(u64, u64)>);

impl Hidden {
    fn by(definite: &[RegisterSpan]) -> Self {
        let writes = definite.iter().filter(|span| matches!(span.act, RegisterAct::Write(_)));
        let mut ends: Vec<_> = writes.map(|span| (span.returned * 2, span.called * 2)).collect();
        ends.sort_unstable();
        let mut last = 0;
        for (_, called) in &mut ends {
            last = last.max(*called);
            *called = last;
        }
        Self(ends)
    }

    /// What had returned before this is hidden from a read that is called then; none if nothing is.
    fn before(&self, called: u64) -> Option<u64> {
        let ended = self.0.partition_point(|&(returned, _)| returned < called);
        Some(self.0[ended.checked_sub(1)?].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: Seen = Seen::Tagged(1);

    fn write(called: u64, returned: u64, value: Seen) -> RegisterSpan {
        RegisterSpan { called, returned, act: RegisterAct::Write(value) }
    }

    fn read(called: u64, returned: u64, value: Seen) -> RegisterSpan {
        RegisterSpan { called, returned, act: RegisterAct::Read(value) }
    }

    fn tested(definite: &[RegisterSpan], optional: &[(Seen, u64)]) -> Option<SearchOutcome> {
        let optional = optional.iter().map(|&(value, possible)| (value, vec![possible])).collect();
        zone_test(&RegisterHistory::new(definite.to_vec(), optional))
    }

    #[test]
    fn a_removal_is_known_where_a_write_hides_all_others() {
        let removed = [write(0, 1, NAME), write(2, 3, Seen::Absent), read(4, 5, Seen::Absent)];
        assert_eq!(tested(&removed, &[]), Some(SearchOutcome::Explained));
        let back = [removed[0], removed[1], removed[2], read(6, 7, NAME)];
        assert_eq!(tested(&back, &[]), Some(SearchOutcome::Unexplained));
    }

    #[test]
    fn a_removal_is_not_known_where_nothing_hides_another() {
        let before_any_write = [write(0, 1, Seen::Absent), write(2, 9, NAME), read(4, 5, Seen::Absent)];
        assert_eq!(
            tested(&before_any_write, &[]),
            Some(SearchOutcome::Explained),
            "the first removal hides the beginning"
        );
        let two = [write(0, 5, Seen::Absent), write(1, 4, Seen::Absent), read(6, 7, Seen::Absent)];
        assert_eq!(tested(&two, &[]), None);
    }

    #[test]
    fn an_optional_write_counts_where_it_is_seen() {
        let early = [read(0, 1, NAME), write(2, 3, Seen::Absent), read(4, 5, NAME)];
        assert_eq!(tested(&early[1..], &[(NAME, 0)]), Some(SearchOutcome::Explained));
        assert_eq!(tested(&early, &[(NAME, 2)]), Some(SearchOutcome::Unexplained));
        assert_eq!(tested(&[read(0, 1, Seen::Absent)], &[(NAME, 0)]), Some(SearchOutcome::Explained));
    }

    #[test]
    fn what_comes_back_after_a_loss_is_one_of_two_writes() {
        let lost = [write(0, 1, NAME), write(2, 2, Seen::Absent), read(4, 5, NAME)];
        assert_eq!(tested(&lost, &[(NAME, 2)]), Some(SearchOutcome::Explained));
        let at_the_loss = [write(0, 1, NAME), write(3, 3, Seen::Absent), read(2, 5, NAME)];
        assert_eq!(tested(&at_the_loss, &[(NAME, 3)]), None);
    }
}
