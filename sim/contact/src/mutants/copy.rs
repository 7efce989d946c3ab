//! A copy of the tree in which bugs are planted, with a target directory of its own: each build reuses the artifacts of earlier ones.
//! It takes the dependencies from the tree's own release, if there is one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde::Deserialize;

use super::MutantTrouble;

/// Where Cargo puts a release, below a target directory.
const RELEASE: &str = "target/release";

/// What it keeps of the crates that others have written.
const DEPENDENCIES: [&str; 3] = ["deps", "build", ".fingerprint"];

/// The packages that are built again with the bugs.
const OURS: [&str; 2] = ["seedbed-contact", "contact-cache"];

/// The name of the program with the unit tests of the client.
const CLIENT: &str = "contact_cache";

/// A program with tests.
pub(super) struct TestProgram {
    pub(super) name: String,
    pub(super) program: PathBuf,
    /// The directory of its package, where Cargo starts it.
    pub(super) package: PathBuf,
}

/// Cargo's message about a program that it built.
#[derive(Deserialize)]
struct Artifact {
    target: CopyTarget,
    manifest_path: PathBuf,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct CopyTarget {
    name: String,
}

/// How the client and the bed are built. All else is optimised in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Build {
    /// As a release: in a minute and a half of one core, and quick to run.
    Optimised,
    /// In a quarter of a minute, and run at a quarter of the speed: for one bug, which is caught within a hundred runs.
    Quick,
}

/// The files of a tree that git tracks, elsewhere.
pub(super) struct TreeCopy {
    tree: PathBuf,
    dir: PathBuf,
    target: PathBuf,
    files: BTreeSet<PathBuf>,
}

impl TreeCopy {
    /// A place for the tree's files, which [`Self::hold`] copies. Built dependencies are copied at once.
    pub(super) fn of(tree: &Path, dir: PathBuf, target: PathBuf) -> Result<Self, MutantTrouble> {
        let mut git = git(tree);
        let listed = output(git.args(["ls-files", "-z"]))?;
        if !listed.status.success() {
            return Err(MutantTrouble::Tree { dir: tree.to_owned(), said: said(&listed) });
        }
        let names = String::from_utf8_lossy(&listed.stdout).into_owned();
        let files = names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
        // Deleted and not committed yet.
        let files = files.filter(|file| tree.join(file).is_file()).collect();
        let copy = Self { tree: tree.to_owned(), dir, target, files };
        copy.take_dependencies()?;
        Ok(copy)
    }

    /// Dependencies that the tree has built already, with their times, by which Cargo knows that they are good.
    fn take_dependencies(&self) -> Result<(), MutantTrouble> {
        let (from, to) = (self.tree.join(RELEASE), self.target.join("release"));
        if to.exists() || DEPENDENCIES.iter().any(|name| !from.join(name).is_dir()) {
            return Ok(());
        }
        fs::create_dir_all(&to).map_err(MutantTrouble::io("create", &to))?;
        let mut cp = Command::new("cp");
        let copied = output(cp.arg("-a").args(DEPENDENCIES.map(|name| from.join(name))).arg(&to))?;
        if !copied.status.success() {
            // Half of them would be worse than none: then they are built.
            fs::remove_dir_all(&to).map_err(MutantTrouble::io("remove", &to))?;
        }
        Ok(())
    }

    /// Gives every file its text in the tree, or in `changed`. A file that has this text already is not touched: Cargo would build it
    /// again.
    pub(super) fn hold(&self, changed: &BTreeMap<PathBuf, String>) -> Result<(), MutantTrouble> {
        for file in self.files.iter().filter(|file| !changed.contains_key(*file)) {
            let (from, to) = (self.tree.join(file), self.dir.join(file));
            let bytes = read(&from).map_err(MutantTrouble::io("read", &from))?;
            if read(&to).is_ok_and(|there| there == bytes) {
                continue;
            }
            create_parent(&to)?;
            // With its permissions, and with the time of now: Cargo looks at it.
            fs::copy(&from, &to).map_err(MutantTrouble::io("write", &to))?;
        }
        for (file, text) in changed {
            let to = self.dir.join(file);
            if read(&to).is_ok_and(|there| there == text.as_bytes()) {
                continue;
            }
            create_parent(&to)?;
            write(&to, text).map_err(MutantTrouble::io("write", &to))?;
        }
        Ok(())
    }

    /// The files that a patch changes, with the patch applied. The copy is not touched.
    pub(super) fn patched(&self, name: &str, patch: &Path) -> Result<BTreeMap<PathBuf, String>, MutantTrouble> {
        let patch = fs::canonicalize(patch).map_err(MutantTrouble::io("find", patch))?;
        let text = fs::read_to_string(&patch).map_err(MutantTrouble::io("read", &patch))?;
        let files: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("+++ b/")).map(PathBuf::from).collect();
        let aside = self.dir.with_extension("patched");
        for file in files.iter().filter(|file| self.tree.join(file).is_file()) {
            let to = aside.join(file);
            create_parent(&to)?;
            fs::copy(self.tree.join(file), &to).map_err(MutantTrouble::io("write", &to))?;
        }
        fs::create_dir_all(&aside).map_err(MutantTrouble::io("create", &aside))?;
        let mut git = git(&aside);
        // A repository around the copy is none of its business.
        git.env("GIT_CEILING_DIRECTORIES", aside.parent().unwrap_or(&aside));
        let applied = output(git.args(["apply", "--whitespace=nowarn"]).arg(patch))?;
        if !applied.status.success() {
            return Err(MutantTrouble::Applies { name: name.to_owned(), said: said(&applied) });
        }
        let read = |file: PathBuf| {
            let text = fs::read_to_string(aside.join(&file)).map_err(MutantTrouble::io("read", &file))?;
            Ok((file, text))
        };
        let patched = files.into_iter().map(read).collect::<Result<_, MutantTrouble>>()?;
        fs::remove_dir_all(&aside).map_err(MutantTrouble::io("remove", &aside))?;
        Ok(patched)
    }

    /// Builds the bed. Returns its program, under a name of its own, or the errors of the compiler, one a line.
    pub(super) fn build(&self, how: Build) -> Result<Result<PathBuf, String>, MutantTrouble> {
        let offline = output(self.cargo(how).arg("--offline"))?;
        let built = if !offline.status.success() && String::from_utf8_lossy(&offline.stderr).contains("offline") {
            output(&mut self.cargo(how))?
        } else {
            offline
        };
        if !built.status.success() {
            return Ok(Err(said(&built)));
        }
        // Another copy's build has the same name in the target directory.
        let (from, to) = (self.target.join("release").join("seedbed"), self.dir.join("seedbed"));
        let _ = fs::remove_file(&to);
        fs::copy(&from, &to).map_err(MutantTrouble::io("write", &to))?;
        Ok(Ok(to))
    }

    /// Builds programs with tests, optimised. Those of the client's library are called `contact_cache`.
    pub(super) fn build_tests(&self, names: &[&str]) -> Result<Vec<TestProgram>, MutantTrouble> {
        let mut cargo = self.command(Build::Optimised);
        cargo.args(["test", "--no-run", "--release", "--locked", "--quiet", "--message-format=json", "--lib"]);
        for name in names.iter().filter(|name| **name != CLIENT) {
            cargo.args(["--test", name]);
        }
        Self::configure(&mut cargo, Build::Optimised);
        let built = output(&mut cargo)?;
        if !built.status.success() {
            return Err(MutantTrouble::TreeBuilds { said: said(&built) });
        }
        let mut programs = BTreeMap::new();
        for line in String::from_utf8_lossy(&built.stdout).lines() {
            let Ok(Artifact { target, manifest_path, executable: Some(program) }) = serde_json::from_str(line) else {
                continue;
            };
            let package = manifest_path.parent().unwrap_or(&self.dir).to_owned();
            programs.insert(target.name.clone(), TestProgram { name: target.name, program, package });
        }
        Ok(names.iter().filter_map(|name| programs.remove(*name)).collect())
    }

    /// The target directory.
    pub(super) fn target(&self) -> &Path {
        &self.target
    }

    fn cargo(&self, how: Build) -> Command {
        let mut cargo = self.command(how);
        // Not `--package`: with it the features of dependencies would be others than the tree's own build has.
        cargo.args(["build", "--release", "--locked", "--quiet", "--message-format=short", "--bin", "seedbed"]);
        Self::configure(&mut cargo, how);
        cargo
    }

    fn command(&self, how: Build) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.current_dir(&self.dir).env("CARGO_TARGET_DIR", &self.target);
        if how == Build::Quick {
            cargo.env("CARGO_INCREMENTAL", "1");
        }
        cargo
    }

    fn configure(cargo: &mut Command, how: Build) {
        let settings: &[&str] = match how {
            Build::Optimised => &["debug=false"],
            Build::Quick => &["opt-level=0", "debug=false", "codegen-units=256"],
        };
        for ours in OURS {
            for setting in settings {
                cargo.arg("--config").arg(format!("profile.release.package.{ours}.{setting}"));
            }
        }
    }
}

fn create_parent(path: &Path) -> Result<(), MutantTrouble> {
    let parent = path.parent().expect("a file is in a directory");
    fs::create_dir_all(parent).map_err(MutantTrouble::io("create", parent))
}

fn git(dir: &Path) -> Command {
    let mut git = Command::new("git");
    // A checkout that belongs to somebody else is read all the same.
    git.current_dir(dir).args(["-c", "safe.directory=*"]);
    git
}

fn output(command: &mut Command) -> Result<Output, MutantTrouble> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).output().map_err(|cause| MutantTrouble::Start { program, cause })
}

/// The last lines of a program's standard error, without the warnings of a compiler.
fn said(output: &Output) -> String {
    const LINES: usize = 100;
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = said.trim_end().lines().filter(|line| !line.contains(": warning: ")).collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

#[expect(clippy::disallowed_methods, reason = "outside of any run")]
fn read(path: &Path) -> io::Result<Vec<u8>> {
    fs::read(path)
}

#[expect(clippy::disallowed_methods, reason = "outside of any run")]
fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)
}
