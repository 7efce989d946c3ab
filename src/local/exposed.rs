//! What of a store others than its owner may use.

use std::path::{Path, PathBuf};

use super::{
    note::LOCK,
    storage::{LOG, found},
};
use crate::{
    env::{Disk, FileKind},
    error::StoreError,
};

/// A file or directory of a store with wider permissions than it is made with: 0700 for the directory, 0600 for files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposed {
    /// The file or directory.
    pub path: PathBuf,
    /// Its permission bits.
    pub mode: u32,
}

impl std::fmt::Display for Exposed {
    #[expect(clippy::unnecessary_debug_formatting, reason = "a path may hold what a terminal obeys: it is escaped")]
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} has mode {:04o}: others than its owner may use it", self.path, self.mode)
    }
}

/// Looks at the directory and every file that the store makes in it.
pub(super) fn exposed<D: Disk>(disk: &D, dir: &Path) -> Result<Vec<Exposed>, StoreError> {
    // The directory behind a link, if the name is one.
    let own = [dir.join("."), dir.join(LOG), dir.join(LOCK)];
    let names = disk.list(dir).map_err(StoreError::io("list", dir))?;
    let aside = names.iter().filter(|name| name.starts_with("damaged-")).map(|name| dir.join(name));
    let mut exposed = Vec::new();
    for path in own.into_iter().chain(aside) {
        if let Some(found) = found(disk, &path)?.filter(|found| found.mode & 0o077 != 0 && found.kind != FileKind::Link)
        {
            let path = if found.kind == FileKind::Directory { dir.to_owned() } else { path };
            exposed.push(Exposed { path, mode: found.mode });
        }
    }
    Ok(exposed)
}
