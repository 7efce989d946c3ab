//! All planted bugs as one tree: for each file of the client its text with the bugs in it as branches.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use super::{
    MutantTrouble,
    switch::{self, Edit, Why},
};

/// The root of the client, where the module goes that knows which bug is in force.
const ROOT: &str = "src/lib.rs";

/// The directory of the client, and the directory in it that is not part of the library.
const CLIENT: (&str, &str) = ("src", "src/bin");

/// A bug, and the files that it changes, with its patch applied.
pub(super) struct PlantedBug {
    pub(super) name: String,
    pub(super) files: BTreeMap<PathBuf, String>,
}

/// The bugs that can be had in one program.
pub(super) struct Joined<'a> {
    tree: &'a Path,
    bugs: &'a [PlantedBug],
    edits: BTreeMap<PathBuf, BTreeMap<usize, Edit>>,
    /// Texts that the client includes, by the bugs that change them.
    texts: BTreeMap<PathBuf, BTreeSet<usize>>,
    /// The others, each built alone.
    pub(super) alone: BTreeMap<usize, Why>,
}

/// The files that differ from the tree, and the lines in each that belong to one bug.
#[derive(Default)]
pub(super) struct Files {
    pub(super) texts: BTreeMap<PathBuf, String>,
    lines: BTreeMap<PathBuf, Vec<(Range<usize>, usize)>>,
}

impl<'a> Joined<'a> {
    /// Joins the bugs that change only bodies of functions and included texts. The other bugs are built alone.
    pub(super) fn of(tree: &'a Path, bugs: &'a [PlantedBug]) -> Result<Self, MutantTrouble> {
        let mut joined = Self { tree, bugs, edits: BTreeMap::new(), texts: BTreeMap::new(), alone: BTreeMap::new() };
        for (number, bug) in bugs.iter().enumerate() {
            for (path, variant) in &bug.files {
                if let Err(why) = joined.take(number, path, variant)? {
                    joined.leave_out(number, why);
                    break;
                }
            }
            // As a branch it would be no bug at all.
            if !joined.alone.contains_key(&number) && !joined.is_changed_by(number) {
                joined.leave_out(number, "it changes no body of a function".to_owned());
            }
        }
        Ok(joined)
    }

    fn is_changed_by(&self, number: usize) -> bool {
        let mut edits = self.edits.values().filter_map(|edits| edits.get(&number));
        edits.any(|edit| !edit.is_empty()) || self.texts.values().any(|numbers| numbers.contains(&number))
    }

    fn take(&mut self, number: usize, path: &Path, variant: &str) -> Result<Result<(), Why>, MutantTrouble> {
        if !path.starts_with(CLIENT.0) || path.starts_with(CLIENT.1) || !self.tree.join(path).is_file() {
            return Ok(Err(format!("{} is no file of the client's library", path.display())));
        }
        if path.extension().is_none_or(|extension| extension != "rs") {
            self.texts.entry(path.to_owned()).or_default().insert(number);
            return Ok(Ok(()));
        }
        Ok(switch::edit(&read(&self.tree.join(path))?, variant).map(|edit| {
            self.edits.entry(path.to_owned()).or_default().insert(number, edit);
        }))
    }

    /// Has a bug built alone.
    pub(super) fn leave_out(&mut self, number: usize, why: Why) {
        for edits in self.edits.values_mut() {
            edits.remove(&number);
        }
        for numbers in self.texts.values_mut() {
            numbers.remove(&number);
        }
        self.alone.insert(number, why);
    }

    /// The files of the tree with these bugs in it.
    pub(super) fn files(&mut self) -> Result<Files, MutantTrouble> {
        let mut files = Files::default();
        for (path, edits) in self.edits.iter().filter(|(_, edits)| !edits.is_empty()) {
            let (text, lines) = switch::switched(&read(&self.tree.join(path))?, edits);
            files.texts.insert(path.clone(), text);
            files.lines.insert(path.clone(), lines);
        }
        for (path, numbers) in self.texts.clone() {
            if !self.include(&path, &numbers, &mut files)? {
                for number in numbers {
                    self.leave_out(number, format!("{} is not included by a function", path.display()));
                }
            }
        }
        let root = Path::new(ROOT);
        let names: Vec<_> = self.bugs.iter().map(|bug| bug.name.as_str()).collect();
        let text = text_of(&files, self.tree, root)? + &switch::module(&names);
        files.texts.insert(root.to_owned(), text);
        Ok(files)
    }

    /// Has a text included with its variants, by the Rust files beside it.
    fn include(&self, path: &Path, numbers: &BTreeSet<usize>, files: &mut Files) -> Result<bool, MutantTrouble> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let dir = path.parent().unwrap_or(Path::new(""));
        let numbers: Vec<_> = numbers.iter().copied().collect();
        let mut is_included = false;
        for entry in fs::read_dir(self.tree.join(dir)).map_err(MutantTrouble::io("list", dir))? {
            let beside = dir.join(entry.map_err(MutantTrouble::io("list", dir))?.file_name());
            if beside.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let text = text_of(files, self.tree, &beside)?;
            if let Some(text) = switch::with_text(&text, &name, &numbers) {
                files.texts.insert(beside, text);
                is_included = true;
            }
        }
        for number in numbers.into_iter().filter(|_| is_included) {
            let variant = dir.join(switch::name_of_text(&name, number));
            files.texts.insert(variant, self.bugs[number].files[path].clone());
        }
        Ok(is_included)
    }
}

impl Files {
    /// The bugs of which the compiler complains, with its first word on each. It says `src/key.rs:7:1: error: ...`.
    pub(super) fn blamed(&self, said: &str) -> BTreeMap<usize, Why> {
        let mut blamed = BTreeMap::new();
        for line in said.lines() {
            let mut parts = line.splitn(4, ':');
            let (Some(path), Some(number), Some(_), Some(error)) =
                (parts.next(), parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            let (Some(lines), Ok(number)) = (self.lines.get(Path::new(path)), number.parse::<usize>()) else {
                continue;
            };
            if !error.trim_start().starts_with("error") {
                continue;
            }
            for (_, bug) in lines.iter().filter(|(lines, _)| lines.contains(&number)) {
                blamed.entry(*bug).or_insert_with(|| error.trim().to_owned());
            }
        }
        blamed
    }
}

fn text_of(files: &Files, tree: &Path, path: &Path) -> Result<String, MutantTrouble> {
    files.texts.get(path).map_or_else(|| read(&tree.join(path)), |text| Ok(text.clone()))
}

fn read(path: &Path) -> Result<String, MutantTrouble> {
    fs::read_to_string(path).map_err(MutantTrouble::io("read", path))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "files of tests")]
mod tests {
    use super::*;

    #[test]
    fn a_bug_that_changes_no_body_is_built_alone() {
        let tree = tempfile::tempdir().expect("room for a directory");
        fs::create_dir(tree.path().join("src")).expect("a new directory");
        fs::write(tree.path().join("src/key.rs"), "fn len() -> usize {\n    7\n}\n").expect("a new file");
        let bug = |text: &str| PlantedBug {
            name: "bug".to_owned(),
            files: BTreeMap::from([(PathBuf::from("src/key.rs"), text.to_owned())]),
        };
        let bugs = [bug("/// A comment.\nfn len() -> usize {\n    7\n}\n"), bug("fn len() -> usize {\n    8\n}\n")];
        let joined = Joined::of(tree.path(), &bugs).expect("the files can be read");
        assert_eq!(joined.alone, BTreeMap::from([(0, "it changes no body of a function".to_owned())]));
    }

    #[test]
    fn a_bug_is_blamed_for_an_error_in_its_lines_only() {
        let lines = BTreeMap::from([(PathBuf::from("src/key.rs"), vec![(5..8, 3), (8..9, 4)])]);
        let files = Files { lines, ..Files::default() };
        let said = "src/key.rs:7:1: error[E0308]: mismatched types\nsrc/key.rs:8:1: warning: unused\n\
                    src/key.rs:1:1: error: other\nerror: could not compile";
        assert_eq!(files.blamed(said), BTreeMap::from([(3, "error[E0308]: mismatched types".to_owned())]));
    }
}
