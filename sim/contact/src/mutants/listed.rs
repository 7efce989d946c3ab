//! The mutants that `cargo mutants --list --json` has printed. They are tried as planted bugs are: all in one bed, one in force at a time. Those
//! that survive the runs are tried by tests of the client, with the same variable.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde::Deserialize;

use super::{
    CopiedTree, MutantArguments, MutantTrouble, asked,
    beds::{Beds, NoBed},
    copy::TestProgram,
    create, hear,
    joined::PlantedBug,
    number_of, see_that_it_blames_no_one,
    switch::VARIABLE,
};

/// The tests that survivors are given to, the quickest first. Left out are the bed's tests of its own parts, which do not run the client, and those
/// with a real server, which take real time.
const TESTS: [&str; 10] = [
    "contact_cache",
    "error_reactions",
    "reasons",
    "cancellation",
    "runtimes",
    "openings",
    "local_store",
    "local_directory",
    "rules",
    "scenarios",
];

/// A program with tests that takes longer hangs: without a mutant each takes less than two minutes.
const TEST_LIMIT: Duration = Duration::from_mins(10);

/// A mutant, as it is listed.
#[derive(Clone, Debug, Deserialize)]
struct Listed {
    /// The place and the change, for people.
    name: String,
    file: PathBuf,
    span: FunctionSpan,
    replacement: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct FunctionSpan {
    start: Position,
    end: Position,
}

/// Both from 1; columns are characters.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Position {
    line: usize,
    column: usize,
}

/// The fate of a mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MutantFate {
    /// A guarantee was broken, in the run of this number.
    Caught(String, u64),
    /// A run panicked, did not end, or the bed did not start.
    Stopped(String),
    /// Only this test failed, or did not end.
    Failed(String),
    /// The compiler refuses it.
    Unviable,
    /// Neither a run nor a test noticed it.
    Survived,
}

/// A mutant and its fate.
#[derive(Clone, Debug)]
pub struct MutantOutcome {
    /// The place and the change.
    pub name: String,
    /// Its fate.
    pub fate: MutantFate,
}

/// Tries every mutant of a list. `tell` is told how far it is.
pub fn survey(
    arguments: &MutantArguments,
    list: &Path,
    mut tell: impl FnMut(&str),
) -> Result<Vec<MutantOutcome>, MutantTrouble> {
    let place = CopiedTree::of(arguments)?;
    let listed = read_list(list)?;
    let bugs = listed.iter().map(|listed| listed.planted(&place.tree)).collect::<Result<Vec<_>, MutantTrouble>>()?;
    let names: Vec<_> = bugs.iter().map(|bug| bug.name.clone()).collect();
    let beds = Beds::of(&place.tree, &place.dir, bugs, &mut tell)?;
    see_that_it_blames_no_one(arguments, &beds)?;
    let mut outcomes = Vec::new();
    for (number, name) in (1..).zip(&names) {
        let fate = in_runs(arguments, &beds, name)?;
        tell(&format!("{number}/{}  {name}: {}", names.len(), text_of(&fate)));
        outcomes.push(MutantOutcome { name: name.clone(), fate });
    }
    let mut left: Vec<_> = outcomes.iter_mut().filter(|outcome| outcome.fate == MutantFate::Survived).collect();
    tell(&format!("{} are left: building the tests", left.len()));
    let tests = beds.tests(&TESTS)?;
    for test in &tests {
        if let Some(said) = fails(test, "", &beds)? {
            return Err(MutantTrouble::Blamed { said });
        }
    }
    for (number, outcome) in (1..).zip(&mut left) {
        if beds.is_alone(&outcome.name) {
            // Only a bed was built with it.
            continue;
        }
        for test in &tests {
            if let Some(said) = fails(test, &outcome.name, &beds)? {
                outcome.fate = MutantFate::Failed(said);
                break;
            }
        }
        tell(&format!("left {number}: {}: {}", outcome.name, text_of(&outcome.fate)));
    }
    Ok(outcomes)
}

fn read_list(list: &Path) -> Result<Vec<Listed>, MutantTrouble> {
    let text = fs::read_to_string(list).map_err(MutantTrouble::io("read", list))?;
    serde_json::from_str(&text).map_err(|cause| MutantTrouble::List { list: list.to_owned(), cause })
}

impl Listed {
    fn planted(&self, tree: &Path) -> Result<PlantedBug, MutantTrouble> {
        let path = tree.join(&self.file);
        let text = fs::read_to_string(&path).map_err(MutantTrouble::io("read", &path))?;
        let Position { line, column } = self.span.start;
        let range =
            self.span.start.offset_in(&text).zip(self.span.end.offset_in(&text)).filter(|(from, to)| from <= to);
        let (from, to) = range.ok_or_else(|| MutantTrouble::Stale { file: self.file.clone(), line, column })?;
        let changed = format!("{}{}{}", &text[..from], self.replacement, &text[to..]);
        let name = self.name.clone();
        Ok(PlantedBug { name, files: BTreeMap::from([(self.file.clone(), changed)]) })
    }
}

impl Position {
    fn offset_in(self, text: &str) -> Option<usize> {
        let before: usize = text.split_inclusive('\n').take(self.line.checked_sub(1)?).map(str::len).sum();
        let line = text.get(before..)?.split_inclusive('\n').next()?;
        let column = self.column.checked_sub(1)?;
        let ends = line.char_indices().map(|(at, _)| at).chain([line.len()]);
        ends.skip(column).map(|at| before + at).next()
    }
}

fn in_runs(arguments: &MutantArguments, beds: &Beds, name: &str) -> Result<MutantFate, MutantTrouble> {
    let bed = match beds.with(name) {
        Ok(bed) => bed,
        Err(NoBed::Builds { .. }) => return Ok(MutantFate::Unviable),
        Err(NoBed::Trouble(trouble)) => return Err(trouble),
    };
    let mut command = asked(arguments, &bed, arguments.seeds);
    command.arg("--first");
    let heard = hear(command, &beds.complaints())?;
    Ok(match (heard.catches.first(), heard.trouble) {
        (Some(catch), _) => MutantFate::Caught(number_of(catch), catch.run),
        (None, Some(trouble)) => MutantFate::Stopped(trouble),
        (None, None) => MutantFate::Survived,
    })
}

/// Whether tests fail with a mutant in force: the name of the first that does.
fn fails(test: &TestProgram, bug: &str, beds: &Beds) -> Result<Option<String>, MutantTrouble> {
    let TestProgram { name, program, package } = test;
    let output = beds.complaints();
    let out = create(&output).map_err(MutantTrouble::io("create", &output))?;
    let mut command = Command::new(program);
    command.current_dir(package).env(VARIABLE, bug);
    command.stdin(Stdio::null()).stdout(out).stderr(Stdio::null());
    let started = command.spawn();
    let mut child =
        started.map_err(|cause| MutantTrouble::Start { program: program.to_string_lossy().into_owned(), cause })?;
    let Some(is_good) = ended(&mut child).map_err(MutantTrouble::io("wait for", program))? else {
        return Ok(Some(format!("{name} does not end")));
    };
    if is_good {
        return Ok(None);
    }
    let told = fs::read_to_string(&output).map_err(MutantTrouble::io("read", &output))?;
    let failed = told.lines().find_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
    Ok(Some(format!("{name} {}", failed.unwrap_or("ends before its tests do"))))
}

/// Whether it ended well. `None`: it took too long, and was killed.
#[expect(clippy::disallowed_methods, reason = "outside of any run: how long tests take")]
fn ended(child: &mut Child) -> io::Result<Option<bool>> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.success()));
        }
        if begun.elapsed() > TEST_LIMIT {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn text_of(fate: &MutantFate) -> String {
    match fate {
        MutantFate::Caught(guarantee, run) => format!("{guarantee} after {run} runs"),
        MutantFate::Stopped(said) => format!("the bed stops: {}", said.lines().next().unwrap_or_default()),
        MutantFate::Failed(test) => format!("test {test}"),
        MutantFate::Unviable => "does not compile".to_owned(),
        MutantFate::Survived => "not noticed".to_owned(),
    }
}

/// For a terminal: how many met which fate, and those that survived.
pub fn text(outcomes: &[MutantOutcome]) -> String {
    let count = |of: fn(&MutantFate) -> bool| outcomes.iter().filter(|outcome| of(&outcome.fate)).count();
    let unviable = count(|fate| *fate == MutantFate::Unviable);
    let survived = count(|fate| *fate == MutantFate::Survived);
    let viable = outcomes.len() - unviable;
    let by_runs = count(|fate| matches!(fate, MutantFate::Caught(..) | MutantFate::Stopped(_)));
    let by_tests = count(|fate| matches!(fate, MutantFate::Failed(_)));
    #[expect(clippy::cast_precision_loss, reason = "hundreds of mutants")]
    let share = 100.0 * (viable - survived) as f64 / viable.max(1) as f64;
    let mut text = format!(
        "{} mutants, of which {unviable} do not compile; of the other {viable} the bed caught {by_runs}, tests {by_tests} more: \
         {share:.1} %\n",
        outcomes.len()
    );
    for outcome in outcomes.iter().filter(|outcome| outcome.fate == MutantFate::Survived) {
        let _ = writeln!(text, "  survived: {}", outcome.name);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(start: (usize, usize), end: (usize, usize), replacement: &str) -> Listed {
        let at = |(line, column)| Position { line, column };
        Listed {
            name: "replace".to_owned(),
            file: "src/key.rs".into(),
            span: FunctionSpan { start: at(start), end: at(end) },
            replacement: replacement.to_owned(),
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "files of tests")]
    fn a_mutant_stands_where_the_list_says() {
        let tree = tempfile::tempdir().expect("room for a directory");
        fs::create_dir(tree.path().join("src")).expect("a new directory");
        fs::write(tree.path().join("src/key.rs"), "fn é(a: u8) -> bool {\n    a > 7\n}\n").expect("a new file");
        let text = |listed: Listed| listed.planted(tree.path()).map(|bug| bug.files[Path::new("src/key.rs")].clone());
        let changed = text(listed((2, 7), (2, 8), "<")).expect("it is there");
        assert_eq!(changed, "fn é(a: u8) -> bool {\n    a < 7\n}\n");
        let body = text(listed((2, 5), (2, 10), "true")).expect("it is there");
        assert_eq!(body, "fn é(a: u8) -> bool {\n    true\n}\n");
        for stale in [listed((9, 1), (9, 2), ""), listed((2, 70), (2, 71), ""), listed((2, 8), (2, 7), "")] {
            let said = text(stale).expect_err("the file is shorter").to_string();
            assert!(said.contains("src/key.rs") && said.contains("list them again"), "{said}");
        }
    }

    #[test]
    fn the_share_is_of_those_that_compile() {
        let fates = [
            MutantFate::Caught("G5".to_owned(), 3),
            MutantFate::Stopped("it panicked".to_owned()),
            MutantFate::Failed("contact_cache a::b".to_owned()),
            MutantFate::Unviable,
            MutantFate::Survived,
        ];
        let outcomes: Vec<_> = fates.into_iter().map(|fate| MutantOutcome { name: text_of(&fate), fate }).collect();
        let text = text(&outcomes);
        assert!(
            text.contains(
                "5 mutants, of which 1 do not compile; of the other 4 the bed caught 2, tests 1 more: 75.0 %"
            ),
            "{text}"
        );
        assert!(text.ends_with("survived: not noticed\n"), "{text}");
    }
}
