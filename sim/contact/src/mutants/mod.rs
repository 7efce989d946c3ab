//! Planted bugs: what proves the checkers. Each patch in `mutants/` plants one bug in the client; the bed is built with it,
//! in a copy of the tree, and has to catch it by the guarantee that the patch names.

mod beds;
pub mod catches;
mod copy;
mod joined;
pub mod listed;
pub mod patch;
pub mod speed;
mod switch;
pub mod table;

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    str::FromStr,
};

use clap::Args;

use self::{
    beds::{Beds, MutantProgram},
    catches::OutputLine,
    patch::{MutantPatch, PatchError, number},
    speed::{BugSearch, Speed},
    table::TriedMutant,
};

/// Where the patches are, below the root of the tree.
const PATCHES: &str = "mutants";

/// Seeds of each workload that are run without a bug: these runs must catch no violation.
const SEEDS_WITHOUT: u64 = 10;

/// Which bugs, and how long each is looked for.
#[derive(Args, Clone, Debug)]
pub struct MutantArguments {
    /// Only these: the names of files in `mutants/`, without `.patch`
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Only a part of them: the K-th of N, as equal as can be
    #[arg(long, value_name = "K/N")]
    pub part: Option<MutantShare>,
    /// How many seeds of each workload, at most
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// How many runs after the guarantee expected has caught the bug, to see which others do
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub further: u64,
    /// How many runs at the same time; all cores if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// Where the tree is copied to and built; kept, and used again. A temporary directory if not given
    #[arg(long, value_name = "DIR")]
    pub work: Option<PathBuf>,
    /// Measure how soon each is found instead: runs and processor time until the first catch, from so many base seeds
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u64).range(1..))]
    pub speed: Option<u64>,
    /// Try the mutants that `cargo mutants --list --json` has printed to this file instead, and give those that survive to the client's tests
    #[arg(long, value_name = "FILE", conflicts_with_all = ["names", "part", "speed", "markdown"])]
    pub listed: Option<PathBuf>,
    /// Print the table as docs/GUARANTEES.md has it
    #[arg(long)]
    pub markdown: bool,
}

/// The k-th part of n.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MutantShare {
    k: usize,
    n: usize,
}

/// A text that is no part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not K/N with K from 1 to N: 2/7 is the second of seven parts")]
pub struct ParsePartError {
    text: String,
}

impl FromStr for MutantShare {
    type Err = ParsePartError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let part = text.split_once('/').and_then(|(k, n)| Some(Self { k: k.parse().ok()?, n: n.parse().ok()? }));
        part.filter(|part| (1..=part.n).contains(&part.k)).ok_or_else(|| ParsePartError { text: text.to_owned() })
    }
}

impl MutantShare {
    /// Every n-th: bugs with names alike, which are slow alike, are in different parts.
    fn of<T>(self, all: Vec<T>) -> Vec<T> {
        all.into_iter().skip(self.k - 1).step_by(self.n).collect()
    }
}

/// Why bugs cannot be tried.
#[derive(Debug, thiserror::Error)]
pub enum MutantTrouble {
    /// There are no patches.
    #[error("there is no directory \"mutants\" in {dir:?} or above: run it within a checkout of the repository")]
    NoPatches {
        /// Where they were looked for.
        dir: PathBuf,
    },
    /// There is no such patch.
    #[error("no planted bug is called {name:?}: there are {there}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        there: String,
    },
    /// A file is no planted bug.
    #[error(transparent)]
    Patch(#[from] PatchError),
    /// The tree is no checkout.
    #[error("git cannot list the files of {dir:?}: {said}; run it within a checkout of the repository")]
    Tree {
        /// The tree.
        dir: PathBuf,
        /// What git said.
        said: String,
    },
    /// A patch does not apply.
    #[error(
        "patch {name:?} does not apply any more: make the change again in the code as it is now, and put the output of \
         `git diff` behind its header\n{said}"
    )]
    Applies {
        /// The patch.
        name: String,
        /// What git said.
        said: String,
    },
    /// A patch breaks the build.
    #[error("patch {name:?} does not build: make it a bug that compiles, on the code as it is now\n{said}")]
    Builds {
        /// The patch.
        name: String,
        /// What the compiler said.
        said: String,
    },
    /// A file is no list of mutants.
    #[error("{list:?} is no list of mutants: {cause}; write it with `cargo mutants --list --json`")]
    List {
        /// The file.
        list: PathBuf,
        /// What is wrong with it.
        cause: serde_json::Error,
    },
    /// A listed mutant is not of this tree.
    #[error(
        "there is no line {line} with column {column} in {file:?}: it changed since; list them again with `cargo mutants --list --json`"
    )]
    Stale {
        /// The file to change.
        file: PathBuf,
        /// Where, from 1.
        line: usize,
        /// Likewise, in characters.
        column: usize,
    },
    /// The tree does not build.
    #[error("the tree does not build without any bug planted: see to that first\n{said}")]
    TreeBuilds {
        /// What the compiler said.
        said: String,
    },
    /// The tree is blamed without any bug in force.
    #[error("the bed finds a violation without any bug in force, so that it can catch none: see to that first\n{said}")]
    Blamed {
        /// The violation, or the error of the bed.
        said: String,
    },
    /// A program cannot be started.
    #[error("failed to start {program:?}: {cause}; install it, or put it on the PATH")]
    Start {
        /// The program.
        program: String,
        /// What the operating system said.
        cause: io::Error,
    },
    /// The file system refused something.
    #[error("failed to {verb} {path:?}: {cause}")]
    Io {
        /// What was tried.
        verb: &'static str,
        /// With what.
        path: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
}

impl MutantTrouble {
    fn io(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Io { verb, path: path.to_owned(), cause }
    }
}

/// Plants each bug and looks for it. `tell` is told how far it is.
pub fn try_all(arguments: &MutantArguments, mut tell: impl FnMut(&str)) -> Result<Vec<TriedMutant>, MutantTrouble> {
    let place = CopiedTree::of(arguments)?;
    let (beds, patches) = plant(arguments, &place, &mut tell)?;
    let mut tried = Vec::new();
    for (number, (patch, _)) in (1..).zip(&patches) {
        let one = watch(arguments, &beds, &beds.with(&patch.name)?, patch)?;
        let caught = one.wrong().unwrap_or_else(|| match one.catches.first() {
            Some(first) => {
                let others = one.catches[1..].iter().map(|catch| format!(", {} {}", number_of(catch), catch.run));
                format!("{} after {} runs{}", number_of(first), first.run, others.collect::<String>())
            }
            None => "waits for a checker".to_owned(),
        });
        tell(&format!(
            "{number}/{}  {}: {caught} ({} runs, {:.0} s)",
            patches.len(),
            patch.name,
            one.runs,
            one.seconds
        ));
        tried.push(one);
    }
    Ok(tried)
}

/// Plants each bug and measures how soon it is found, from so many base seeds.
pub fn measure(
    arguments: &MutantArguments,
    bases: u64,
    mut tell: impl FnMut(&str),
) -> Result<Vec<Speed>, MutantTrouble> {
    let place = CopiedTree::of(arguments)?;
    let (beds, patches) = plant(arguments, &place, &mut tell)?;
    let mut speeds = Vec::new();
    for (number, (patch, _)) in (1..).zip(&patches).filter(|(_, (patch, _))| patch.expected().is_some()) {
        let bed = beds.with(&patch.name)?;
        let mut speed = Speed { patch: patch.clone(), searches: Vec::new() };
        for base in (0..bases).map(speed::base) {
            let mut command = asked(arguments, &bed, arguments.seeds);
            command.args(["--first", "--seed", &base.to_string()]);
            let before = speed::cpu_seconds_of_children()?;
            let heard = hear(command, &beds.complaints())?;
            let cpu_seconds = speed::cpu_seconds_of_children()? - before;
            let made = if heard.trouble.is_some() && heard.catches.is_empty() { arguments.seeds } else { heard.runs };
            speed.searches.push(BugSearch::of(heard.catches.first(), made, cpu_seconds));
        }
        let (runs, seconds) = (speed.runs(), speed.cpu_seconds());
        tell(&format!("{number}/{}  {}: {runs} runs, {seconds:.1} s", patches.len(), patch.name));
        speeds.push(speed);
    }
    Ok(speeds)
}

/// The tree, and where it is copied to.
struct CopiedTree {
    tree: PathBuf,
    dir: PathBuf,
    /// Deletes the directory when it is dropped.
    _temporary: Option<Temporary>,
}

impl CopiedTree {
    fn of(arguments: &MutantArguments) -> Result<Self, MutantTrouble> {
        let tree = tree()?;
        if let Some(work) = &arguments.work {
            fs::create_dir_all(work).map_err(MutantTrouble::io("create", work))?;
            let dir = fs::canonicalize(work).map_err(MutantTrouble::io("find", work))?;
            return Ok(Self { tree, dir, _temporary: None });
        }
        let temporary = Temporary::new()?;
        Ok(Self { tree, dir: temporary.0.clone(), _temporary: Some(temporary) })
    }
}

/// The programs with all bugs, and the patches that were asked for.
fn plant(
    arguments: &MutantArguments,
    place: &CopiedTree,
    tell: &mut dyn FnMut(&str),
) -> Result<(Beds, Vec<(MutantPatch, PathBuf)>), MutantTrouble> {
    let all = read_patches(&place.tree.join(PATCHES))?;
    let patches = chosen(arguments, all.clone())?;
    let beds = Beds::build(&place.tree, &place.dir, &all, tell)?;
    see_that_it_blames_no_one(arguments, &beds)?;
    Ok((beds, patches))
}

fn number_of(catch: &catches::Catch) -> String {
    patch::number(catch.guarantee)
}

/// Runs the bed without a bug, and fails if it finds a violation: a catch would then be no evidence of a bug.
fn see_that_it_blames_no_one(arguments: &MutantArguments, beds: &Beds) -> Result<(), MutantTrouble> {
    let command = asked(arguments, &beds.without(), SEEDS_WITHOUT);
    let heard = hear(command, &beds.complaints())?;
    let caught = heard.catches.first().map(|catch| format!("{}: {}", number_of(catch), catch.message));
    caught.or(heard.trouble).map_or(Ok(()), |said| Err(MutantTrouble::Blamed { said }))
}

/// Runs the bed with a bug.
fn watch(
    arguments: &MutantArguments,
    beds: &Beds,
    bed: &MutantProgram,
    patch: &MutantPatch,
) -> Result<TriedMutant, MutantTrouble> {
    let mut tried = TriedMutant { patch: patch.clone(), catches: Vec::new(), runs: 0, seconds: 0.0, trouble: None };
    let Some(expected) = patch.expected() else { return Ok(tried) };
    let mut command = asked(arguments, bed, arguments.seeds);
    command.args(["--expected", &number(expected), "--further", &arguments.further.to_string()]);
    let heard = hear(command, &beds.complaints())?;
    (tried.catches, tried.runs, tried.seconds, tried.trouble) =
        (heard.catches, heard.runs, heard.seconds, heard.trouble);
    Ok(tried)
}

/// The command that runs so many seeds of each workload and prints each first catch.
fn asked(arguments: &MutantArguments, bed: &MutantProgram, seeds: u64) -> Command {
    let mut command = bed.command();
    command.args(["catches", "--seeds", &seeds.to_string()]);
    command.args(arguments.jobs.iter().flat_map(|jobs| ["--jobs".to_owned(), jobs.to_string()]));
    command
}

/// The output of a bed.
#[derive(Default)]
struct OutputHeard {
    catches: Vec<catches::Catch>,
    runs: u64,
    seconds: f64,
    trouble: Option<String>,
}

/// Starts a bed, and listens until it ends.
fn hear(mut command: Command, complaints: &Path) -> Result<OutputHeard, MutantTrouble> {
    let mut heard = OutputHeard::default();
    // To a file: a run that panics writes a message, and an unread pipe would be full after some hundreds of messages.
    let said = create(complaints).map_err(MutantTrouble::io("create", complaints))?;
    let program = command.get_program().to_string_lossy().into_owned();
    let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(said).spawn();
    let mut child = started.map_err(|cause| MutantTrouble::Start { program, cause })?;
    let out = BufReader::new(child.stdout.take().expect("a pipe was asked for"));
    let mut ended = false;
    for line in out.lines().map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(OutputLine::Catch(catch)) => heard.catches.push(catch),
            Ok(OutputLine::Panic { message }) => heard.trouble = Some(message),
            Ok(OutputLine::End { runs, seconds }) => (heard.runs, heard.seconds, ended) = (runs, seconds, true),
            Err(error) => heard.trouble = Some(format!("the bed said what cannot be read: {error}: {line}")),
        }
    }
    let _ = child.wait();
    if !ended {
        let said = fs::read_to_string(complaints).map_err(MutantTrouble::io("read", complaints))?;
        let said = said.lines().find(|line| line.starts_with("error: ")).unwrap_or("no word");
        heard.trouble = Some(format!("the bed did not come to its end: {said}"));
        if let Some(last) = heard.catches.last() {
            (heard.runs, heard.seconds) = (last.run, last.seconds);
        }
    }
    Ok(heard)
}

#[expect(clippy::disallowed_methods, reason = "outside of any run")]
fn create(path: &Path) -> io::Result<File> {
    File::create(path)
}

/// The directory with the patches is at its root.
fn tree() -> Result<PathBuf, MutantTrouble> {
    let dir = std::env::current_dir().map_err(MutantTrouble::io("find", Path::new(".")))?;
    let found = dir.ancestors().find(|dir| dir.join(PATCHES).is_dir() && dir.join("Cargo.lock").is_file());
    found.map(Path::to_owned).ok_or(MutantTrouble::NoPatches { dir })
}

/// The patches of a directory, by name.
fn read_patches(dir: &Path) -> Result<Vec<(MutantPatch, PathBuf)>, MutantTrouble> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(MutantTrouble::io("list", dir))? {
        let path = entry.map_err(MutantTrouble::io("list", dir))?.path();
        if path.extension().is_some_and(|extension| extension == "patch") {
            paths.push(path);
        }
    }
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).map_err(MutantTrouble::io("read", &path))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Ok((MutantPatch::parse(&name, &text)?, path))
    };
    paths.into_iter().map(read).collect()
}

fn chosen(
    arguments: &MutantArguments,
    all: Vec<(MutantPatch, PathBuf)>,
) -> Result<Vec<(MutantPatch, PathBuf)>, MutantTrouble> {
    if let Some(name) = arguments.names.iter().find(|&name| all.iter().all(|(patch, _)| patch.name != *name)) {
        let there: Vec<_> = all.iter().map(|(patch, _)| patch.name.as_str()).collect();
        return Err(MutantTrouble::Unknown { name: name.clone(), there: there.join(", ") });
    }
    let asked = |patch: &MutantPatch| arguments.names.is_empty() || arguments.names.contains(&patch.name);
    let chosen: Vec<_> = all.into_iter().filter(|(patch, _)| asked(patch)).collect();
    Ok(match arguments.part {
        Some(part) => part.of(chosen),
        None => chosen,
    })
}

/// A directory that is gone when it is done with.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Result<Self, MutantTrouble> {
        let dir = std::env::temp_dir().join(format!("seedbed-mutants-{}", std::process::id()));
        fs::create_dir_all(&dir).map_err(MutantTrouble::io("create", &dir))?;
        Ok(Self(dir))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Guarantee;

    #[test]
    fn the_parts_are_all_of_it_and_each_once() {
        let all: Vec<_> = (0..10).collect();
        let parts = |n| (1..=n).map(move |k| MutantShare { k, n });
        for n in [1, 3, 10, 12] {
            let mut together: Vec<_> = parts(n).flat_map(|part| part.of(all.clone())).collect();
            together.sort_unstable();
            assert_eq!(together, all);
        }
        assert_eq!("2/7".parse(), Ok(MutantShare { k: 2, n: 7 }));
        for wrong in ["", "2", "0/7", "8/7", "1/0", "x/7", "-1/7"] {
            let error = wrong.parse::<MutantShare>().unwrap_err().to_string();
            assert!(error.contains(&format!("{wrong:?}")) && error.contains("2/7 is"), "{error}");
        }
    }

    #[test]
    fn every_planted_bug_of_this_tree_has_a_header() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let patches = read_patches(&root.join(PATCHES)).unwrap();
        for guarantee in Guarantee::ALL {
            assert!(patches.iter().any(|(patch, _)| patch.expected() == Some(guarantee)), "no bug breaks {guarantee}");
        }
    }
}
