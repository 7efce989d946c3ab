//! The programs with bugs in them: one bed with all bugs that can be switched on, and one bed for each other bug.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    MutantTrouble,
    copy::{Build, TestProgram, TreeCopy},
    joined::{Joined, PlantedBug},
    patch::MutantPatch,
    switch::{VARIABLE, Why},
};

/// The programs.
pub(super) struct Beds {
    joined: PathBuf,
    joined_copy: TreeCopy,
    /// For the bugs that are built alone.
    copy: TreeCopy,
    bugs: Vec<PlantedBug>,
    alone: BTreeMap<usize, Why>,
}

/// A program that has a bug, or can have one.
pub(super) struct MutantProgram {
    program: PathBuf,
    /// The name of the bug to switch on; empty to switch on no bug.
    bug: String,
}

/// Why there is no program with a bug.
pub(super) enum NoBed {
    /// The bug does not compile.
    Builds { name: String, said: String },
    /// Something else failed.
    Trouble(MutantTrouble),
}

impl Beds {
    /// Plants all bugs of these patches that can be planted in one program. `tell` receives the progress.
    pub(super) fn build(
        tree: &Path,
        dir: &Path,
        patches: &[(MutantPatch, PathBuf)],
        tell: &mut dyn FnMut(&str),
    ) -> Result<Self, MutantTrouble> {
        let copy = TreeCopy::of(tree, dir.join("joined"), dir.join("target"))?;
        let planted = |(patch, path): &(MutantPatch, PathBuf)| {
            Ok(PlantedBug { name: patch.name.clone(), files: copy.patched(&patch.name, path)? })
        };
        // Applies all patches, also those that were not chosen: a patch that no longer applies is noticed now, and not some commits later.
        let bugs = patches.iter().map(planted).collect::<Result<Vec<_>, MutantTrouble>>()?;
        Self::of(tree, dir, bugs, tell)
    }

    /// Plants all bugs that can be planted in one program.
    pub(super) fn of(
        tree: &Path,
        dir: &Path,
        bugs: Vec<PlantedBug>,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Self, MutantTrouble> {
        let target = dir.join("target");
        let joined_copy = TreeCopy::of(tree, dir.join("joined"), target.clone())?;
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
                return Err(MutantTrouble::TreeBuilds { said });
            }
            for (number, why) in blamed {
                joined.leave_out(number, format!("it does not compile as a branch: {why}"));
            }
        };
        let alone = joined.alone;
        let copy = TreeCopy::of(tree, dir.join("alone"), target)?;
        Ok(Self { joined: program, joined_copy, copy, bugs, alone })
    }

    /// The program without any bug in force.
    pub(super) fn without(&self) -> MutantProgram {
        MutantProgram { program: self.joined.clone(), bug: String::new() }
    }

    /// A program with this bug. It may have to be built.
    pub(super) fn with(&self, name: &str) -> Result<MutantProgram, NoBed> {
        if !self.is_alone(name) {
            return Ok(MutantProgram { program: self.joined.clone(), bug: name.to_owned() });
        }
        self.copy.hold(&self.bugs[self.number(name)].files)?;
        let built = self.copy.build(Build::Quick)?;
        let program = built.map_err(|said| NoBed::Builds { name: name.to_owned(), said })?;
        Ok(MutantProgram { program, bug: String::new() })
    }

    /// Whether a bug is not in the program that has most of them.
    pub(super) fn is_alone(&self, name: &str) -> bool {
        self.alone.contains_key(&self.number(name))
    }

    fn number(&self, name: &str) -> usize {
        self.bugs.iter().position(|bug| bug.name == name).expect("all bugs are planted")
    }

    /// Programs with tests of these names, with the bugs in them that can be switched on; in the order of the names.
    pub(super) fn tests(&self, names: &[&str]) -> Result<Vec<TestProgram>, MutantTrouble> {
        self.joined_copy.build_tests(names)
    }

    /// Where a bed's complaints go.
    pub(super) fn complaints(&self) -> PathBuf {
        self.copy.target().join("bed.stderr")
    }
}

impl MutantProgram {
    /// The program, with its bug in force.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env(VARIABLE, &self.bug);
        command
    }
}

impl From<MutantTrouble> for NoBed {
    fn from(trouble: MutantTrouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl From<NoBed> for MutantTrouble {
    fn from(no_bed: NoBed) -> Self {
        match no_bed {
            NoBed::Builds { name, said } => Self::Builds { name, said },
            NoBed::Trouble(trouble) => trouble,
        }
    }
}
