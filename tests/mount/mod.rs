//! Small file systems of a test's own, in memory. Only root may mount them: who may not is told why.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    io::{self, Write as _},
    path::Path,
    process::Command,
};

/// A file system at a temporary directory, until this is dropped.
pub(crate) struct Mount(tempfile::TempDir);

impl Mount {
    /// One with room for this many KiB.
    pub(crate) fn of_kib(size: u32) -> Result<Self, String> {
        let dir = tempfile::tempdir().expect("there is room for a directory");
        mount(&["-t", "tmpfs", "-o", &format!("size={size}k"), "test"], dir.path())?;
        Ok(Self(dir))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // It goes when the last file on it is closed.
        if let Err(why) = unmount(self.path()) {
            not_shown(&format!("the end of a mount: unmount it by hand: {why}"));
        }
    }
}

/// Runs `mount` with these options.
pub(crate) fn mount(options: &[&str], dir: &Path) -> Result<(), String> {
    run(Command::new("mount").args(options).arg(dir))
}

/// Takes what is mounted there away; who has a file open goes on with it.
pub(crate) fn unmount(dir: &Path) -> Result<(), String> {
    run(Command::new("umount").arg("--lazy").arg(dir))
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("failed to run {command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// Says why something is not shown here; past the capture of tests' output, so that it is seen.
pub(crate) fn not_shown(why: &str) {
    let _ = writeln!(io::stderr(), "not shown: {why}");
}
