//! The programs with bugs in them: one bed with all bugs that can be switched on, and one bed for each other bug.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    Trouble,
    copy::{Build, TreeCopy},
    joined::{Joined, Planted},
    patch::Patch,
    switch::{VARIABLE, Why},
};

/// The programs.
pub(super) struct Beds {
    joined: PathBuf,
    /// For the bugs that are built alone.
    copy: TreeCopy,
    bugs: Vec<Planted>,
    alone: BTreeMap<usize, Why>,
}

/// A program that has a bug, or can have one.
pub(super) struct Bed {
    program: PathBuf,
    /// The name of the bug to switch on; empty to switch on no bug.
    bug: String,
}

impl Beds {
    /// Plants all bugs that can be planted in one program. `tell` receives the progress.
    pub(super) fn build(
        tree: &Path,
        dir: &Path,
        patches: &[(Patch, PathBuf)],
        tell: &mut dyn FnMut(&str),
    ) -> Result<Self, Trouble> {
        let target = dir.join("target");
        let joined_copy = TreeCopy::of(tree, dir.join("joined"), target.clone())?;
        let planted = |(patch, path): &(Patch, PathBuf)| {
            Ok(Planted { name: patch.name.clone(), files: joined_copy.patched(&patch.name, path)? })
        };
        // Applies all patches, also those that were not chosen: a patch that no longer applies is noticed now, and not some commits later.
        let bugs = patches.iter().map(planted).collect::<Result<Vec<_>, Trouble>>()?;
        let mut joined = Joined::of(tree, &bugs)?;
        let mut told = BTreeSet::new();
        let program = loop {
            let files = joined.files()?;
            for (number, why) in joined.alone.iter().filter(|(number, _)| told.insert(**number)) {
                tell(&format!("{} is built alone: {why}", bugs[*number].name));
            }
            tell(&format!("Building the bed with {} bugs in it", bugs.len() - joined.alone.len()));
            joined_copy.hold(&files.texts)?;
            let said = match joined_copy.build(Build::Optimised)? {
                Ok(program) => break program,
                Err(said) => said,
            };
            let blamed = files.blamed(&said);
            if blamed.is_empty() {
                return Err(Trouble::TreeBuilds { said });
            }
            for (number, why) in blamed {
                joined.leave_out(number, format!("it does not compile as a branch: {why}"));
            }
        };
        let alone = joined.alone;
        Ok(Self { joined: program, copy: TreeCopy::of(tree, dir.join("alone"), target)?, bugs, alone })
    }

    /// The program without any bug in force.
    pub(super) fn without(&self) -> Bed {
        Bed { program: self.joined.clone(), bug: String::new() }
    }

    /// A program with this bug. It may have to be built.
    pub(super) fn with(&self, name: &str) -> Result<Bed, Trouble> {
        let number = self.bugs.iter().position(|bug| bug.name == name).expect("all bugs are planted");
        if !self.alone.contains_key(&number) {
            return Ok(Bed { program: self.joined.clone(), bug: name.to_owned() });
        }
        self.copy.hold(&self.bugs[number].files)?;
        let built = self.copy.build(Build::Quick)?;
        let program = built.map_err(|said| Trouble::Builds { name: name.to_owned(), said })?;
        Ok(Bed { program, bug: String::new() })
    }

    /// Where a bed's complaints go.
    pub(super) fn complaints(&self) -> PathBuf {
        self.copy.target().join("bed.stderr")
    }
}

impl Bed {
    /// The program, with its bug in force.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env(VARIABLE, &self.bug);
        command
    }
}
