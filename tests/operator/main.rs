//! The operator's tool as an operator meets it: what it prints, what it changes, and how it ends. Each verb is tried on
//! the embedded server and on a redis-server.

mod imports;
mod lines;
mod server;
mod stores;
mod verbs;

use std::{
    ffi::OsStr,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use redis_launcher::Program;
use server::Kind;

/// Declares tests on both servers.
macro_rules! on_servers {
    ($($module:ident::$test:ident,)*) => {
        mod embedded {
            $(#[test] fn $test() { super::$module::$test(super::Kind::Embedded) })*
        }
        mod real {
            $(#[test] fn $test() {
                if super::Program::redis_server().is_some() {
                    super::$module::$test(super::Kind::Real);
                }
            })*
        }
    };
}

on_servers! {
    verbs::a_record_is_put_read_listed_and_removed,
    verbs::health_says_how_an_instance_is,
    stores::what_is_pending_is_shown_and_drained_after_an_outage,
    stores::what_redis_refuses_stays_and_is_said,
    lines::what_would_change_a_terminal_is_escaped_everywhere,
    lines::a_map_that_means_a_number_to_the_parser_is_refused,
    imports::a_file_is_imported_and_its_bad_records_are_named,
    imports::keys_are_imported_and_the_bad_ones_are_named,
    imports::an_import_changes_nothing_that_was_written_since,
}

/// A command line: settings, then a verb.
pub(crate) fn words(settings: &[&str], verb: &[&str]) -> Vec<String> {
    settings.iter().chain(verb).map(ToString::to_string).collect()
}

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs the tool with these arguments, and none of the settings of this process.
pub(crate) fn tool(arguments: &[impl AsRef<OsStr>]) -> Run {
    tool_reading("", arguments)
}

/// Likewise, with this on its standard input.
pub(crate) fn tool_reading(input: &str, arguments: &[impl AsRef<OsStr>]) -> Run {
    run(input, Command::new(env!("CARGO_BIN_EXE_contact-cache")).env_clear().args(arguments))
}

pub(crate) fn run(input: &str, command: &mut Command) -> Run {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it was built");
    // One that does not read ends all the same.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("a process of our own");
    let text = |bytes| String::from_utf8(bytes).expect("output in UTF-8");
    Run { code: output.status.code().expect("no signal ended it"), out: text(output.stdout), err: text(output.stderr) }
}

impl Run {
    /// It ended like this, and said these things.
    #[track_caller]
    pub(crate) fn ended(&self, code: i32, said: &[&str]) -> &Self {
        assert_eq!(self.code, code, "{self:?}");
        for part in said {
            assert!(self.out.contains(part) || self.err.contains(part), "no {part:?} in {self:?}");
        }
        self
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

pub(crate) fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("room for a directory")
}
