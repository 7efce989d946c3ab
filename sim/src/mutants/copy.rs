//! A copy of the tree in which bugs are planted one after the other, with a target directory of its own: what one build
//! left behind makes the next one quick.
//!
//! The client and the bed are built without optimisation, everything else as in a release, and taken from there if there
//! is one: a bug is built in half a minute of one core instead of two, and caught at a quarter of the speed. Most are
//! caught in a hundred runs, which take some seconds either way.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use super::Trouble;

/// Where Cargo puts a release, below a target directory.
const RELEASE: &str = "target/release";

/// What it keeps of the crates that others have written.
const DEPENDENCIES: [&str; 3] = ["deps", "build", ".fingerprint"];

/// What is built once for every bug.
const OURS: [&str; 2] = ["seedbed", "contact-cache"];

/// The files of a tree that git tracks, elsewhere.
pub(super) struct TreeCopy {
    tree: PathBuf,
    dir: PathBuf,
    files: BTreeSet<PathBuf>,
}

impl TreeCopy {
    /// Copies the tree, or what has changed in it since.
    pub(super) fn of(tree: &Path, dir: &Path) -> Result<Self, Trouble> {
        let mut git = git(tree);
        let listed = output(git.args(["ls-files", "-z"]))?;
        if !listed.status.success() {
            return Err(Trouble::Tree { dir: tree.to_owned(), said: said(&listed) });
        }
        let names = String::from_utf8_lossy(&listed.stdout).into_owned();
        let files = names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
        // Deleted and not committed yet.
        let files = files.filter(|file| tree.join(file).is_file()).collect();
        let copy = Self { tree: tree.to_owned(), dir: dir.to_owned(), files };
        copy.restore()?;
        copy.take_dependencies()?;
        Ok(copy)
    }

    /// Dependencies that the tree has built already, with their times, by which Cargo knows that they are good.
    fn take_dependencies(&self) -> Result<(), Trouble> {
        let (from, to) = (self.tree.join(RELEASE), self.dir.join(RELEASE));
        if to.exists() || DEPENDENCIES.iter().any(|name| !from.join(name).is_dir()) {
            return Ok(());
        }
        fs::create_dir_all(&to).map_err(Trouble::io("create", &to))?;
        let mut cp = Command::new("cp");
        let copied = output(cp.arg("-a").args(DEPENDENCIES.map(|name| from.join(name))).arg(&to))?;
        if !copied.status.success() {
            // Half of them would be worse than none: then they are built.
            fs::remove_dir_all(&to).map_err(Trouble::io("remove", &to))?;
        }
        Ok(())
    }

    /// Makes every file what it is in the tree. One that is that already is not touched: it would be built again.
    pub(super) fn restore(&self) -> Result<(), Trouble> {
        for file in &self.files {
            let (from, to) = (self.tree.join(file), self.dir.join(file));
            let bytes = read(&from).map_err(Trouble::io("read", &from))?;
            if read(&to).is_ok_and(|there| there == bytes) {
                continue;
            }
            let parent = to.parent().expect("a file of the copy is in its directory");
            fs::create_dir_all(parent).map_err(Trouble::io("create", parent))?;
            // With its permissions, and with the time of now: Cargo looks at it.
            fs::copy(&from, &to).map_err(Trouble::io("write", &to))?;
        }
        Ok(())
    }

    /// Applies a patch.
    pub(super) fn apply(&self, name: &str, patch: &Path) -> Result<(), Trouble> {
        let patch = fs::canonicalize(patch).map_err(Trouble::io("find", patch))?;
        let mut git = git(&self.dir);
        // A repository around the copy is none of its business.
        git.env("GIT_CEILING_DIRECTORIES", self.dir.parent().unwrap_or(&self.dir));
        let applied = output(git.args(["apply", "--whitespace=nowarn"]).arg(patch))?;
        if applied.status.success() {
            return Ok(());
        }
        Err(Trouble::Applies { name: name.to_owned(), said: said(&applied) })
    }

    /// Builds the bed, and gives its program; or what the compiler said.
    pub(super) fn build(&self) -> Result<Result<PathBuf, String>, Trouble> {
        let offline = output(self.cargo().arg("--offline"))?;
        let built = if !offline.status.success() && String::from_utf8_lossy(&offline.stderr).contains("offline") {
            output(&mut self.cargo())?
        } else {
            offline
        };
        if !built.status.success() {
            return Ok(Err(said(&built)));
        }
        Ok(Ok(self.dir.join(RELEASE).join("seedbed")))
    }

    /// The file for what the bed complains about, and its name.
    #[expect(clippy::disallowed_methods, reason = "outside of any run")]
    pub(super) fn said(&self) -> Result<(File, PathBuf), Trouble> {
        let path = self.dir.join("target").join("bed.stderr");
        Ok((File::create(&path).map_err(Trouble::io("create", &path))?, path))
    }

    fn cargo(&self) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.current_dir(&self.dir).env("CARGO_TARGET_DIR", self.dir.join("target")).env("CARGO_INCREMENTAL", "1");
        // Not `--package`: with it the features of dependencies would be others than the tree's own build has.
        cargo.args(["build", "--release", "--locked", "--quiet", "--bin", "seedbed"]);
        for ours in OURS {
            for setting in ["opt-level=0", "debug=false", "codegen-units=256"] {
                cargo.arg("--config").arg(format!("profile.release.package.{ours}.{setting}"));
            }
        }
        cargo
    }
}

fn git(dir: &Path) -> Command {
    let mut git = Command::new("git");
    // A checkout that belongs to somebody else is read all the same.
    git.current_dir(dir).args(["-c", "safe.directory=*"]);
    git
}

fn output(command: &mut Command) -> Result<Output, Trouble> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).output().map_err(|cause| Trouble::Start { program, cause })
}

/// The end of what a program complained about.
fn said(output: &Output) -> String {
    const LINES: usize = 30;
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = said.trim_end().lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

#[expect(clippy::disallowed_methods, reason = "outside of any run")]
fn read(path: &Path) -> io::Result<Vec<u8>> {
    fs::read(path)
}
