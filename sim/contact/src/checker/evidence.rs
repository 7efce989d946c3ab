//! What shows that a history has no order: up to where it has one, and as few operations as can be that have none.
//!
//! A part is made smaller only by what can never make it worse: leaving out a cell, a read, or a write of which no read
//! that is left shows anything. An order of the whole is an order of what is left, so what is left has none only if the
//! whole has none, and whoever looks at it need not look at the rest.

use super::{
    Verdict,
    operation::{Operation, Seen, numbers},
    part::RecordPart,
    span::SearchOutcome,
};
use crate::history::Placement;

/// Names the first read, by its return, that cannot be explained together with all that had happened before it. Once a
/// history is unexplained it stays so as it grows, and a write that returns makes none so: hence a read, found by
/// halves.
pub(super) fn explain(mut part: RecordPart<'_, '_>) -> Verdict {
    let mut by_return: Vec<_> = part.reads().collect();
    by_return.sort_by_key(|read| read.returned());
    let explained = |read: &&Operation<'_>| {
        let until = RecordPart { until: read.returned(), ..part.clone() };
        until.judge() != SearchOutcome::Unexplained
    };
    let first = by_return.partition_point(|read| explained(read)).min(by_return.len() - 1);
    let read = by_return[first];
    part.until = read.returned();
    shrink(&mut part, read);
    let mut ops: Vec<_> = part.reads().collect();
    ops.extend(part.writes().into_iter().map(|(op, _)| op));
    let mut said = match part.cells[..] {
        [cell] => of_cell(&part, read, cell),
        _ => of_record(&part, read),
    };
    said.push(format!("every event before {} is explained", read.returned()));
    Verdict::Violation { message: said.join("; "), ops: numbers(&ops) }
}

/// Leaves out what is not needed, the latest first.
fn shrink(part: &mut RecordPart<'_, '_>, read: &Operation<'_>) {
    let is_still = |smaller: &RecordPart<'_, '_>| smaller.judge() == SearchOutcome::Unexplained;
    for cell in part.cells.clone() {
        let smaller =
            RecordPart { cells: part.cells.iter().copied().filter(|&it| it != cell).collect(), ..part.clone() };
        if !smaller.cells.is_empty() && is_still(&smaller) {
            *part = smaller;
        }
    }
    let mut reads: Vec<_> = part.reads().filter(|other| other.number != read.number).collect();
    reads.sort_by_key(|other| std::cmp::Reverse(other.called));
    for other in reads {
        leave_out(part, other, is_still);
    }
    let mut writes = part.writes();
    writes.sort_by_key(|(op, _)| std::cmp::Reverse(op.called));
    for (op, written) in writes {
        let shows = |read: &Operation<'_>| written.iter().any(|&(place, value)| read.shown[part.cells[place]] == value);
        if !part.reads().any(shows) {
            leave_out(part, op, is_still);
        }
    }
}

fn leave_out(part: &mut RecordPart<'_, '_>, op: &Operation<'_>, is_still: impl Fn(&RecordPart<'_, '_>) -> bool) {
    part.without.insert(op.number);
    if !is_still(part) {
        part.without.remove(&op.number);
    }
}

fn of_cell(part: &RecordPart<'_, '_>, read: &Operation<'_>, cell: usize) -> Vec<String> {
    let value = read.shown[cell];
    let mut said = vec![format!("{}: {read} answered {}", part.name(), named(value))];
    let writes: Vec<_> = part.writes().into_iter().map(|(op, cells)| (cells[0].1, op)).collect();
    let authors: Vec<_> = writes.iter().filter(|(written, _)| *written == value).collect();
    said.extend(authors.is_empty().then(|| "nobody wrote that".to_owned()));
    said.extend(authors.iter().take(3).map(|(_, author)| format!("that was written by {author}")));
    let before = |op: &Operation<'_>| op.precedes(read);
    let other = writes.iter().filter(|(written, op)| *written != value && before(op)).map(|(_, op)| op);
    let other = other.filter(|op| op.acknowledged() == Some(Placement::Shared));
    if let Some(write) = other.max_by_key(|op| op.returned()) {
        said.push(format!("before the get, {write} had written something else"));
    }
    let shown = part.reads().filter(|op| op.shown[cell] != value && before(op));
    if let Some(other) = shown.max_by_key(|op| op.returned()) {
        said.push(format!("before the get, {other} had answered {}", named(other.shown[cell])));
    }
    said.push("no order of all operations gives the get this answer".to_owned());
    said
}

fn of_record(part: &RecordPart<'_, '_>, read: &Operation<'_>) -> Vec<String> {
    let shows = |read: &Operation<'_>| {
        let cell = |&cell: &usize| format!("{} with {}", part.record.cells[cell], named(read.shown[cell]));
        format!("{read} shows {}", part.cells.iter().map(cell).collect::<Vec<_>>().join(" beside "))
    };
    let mut said = vec![format!("{}: {}", part.name(), shows(read))];
    said.extend(part.reads().filter(|other| other.number != read.number).take(3).map(shows));
    said.push("each cell has an order of its own; no order of all operations gives the get this answer".to_owned());
    said
}

fn named(value: Seen) -> String {
    match value {
        Seen::Absent => "that there is none".to_owned(),
        Seen::Present => "that there is one".to_owned(),
        Seen::Tagged(tag) => format!("the value with tag {tag}"),
        Seen::Stray => "a value of another record".to_owned(),
    }
}
