//! How the tool ends, and what it says.

use std::{
    fmt,
    io::{self, Write as _},
};

use contact_cache::{
    Error, OpenError,
    config::LoadError,
    error::StoreError,
    shown::{Json, Line},
};

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ToolExitCode {
    /// Done, all of it.
    Done = 0,
    /// There is no such record; or only a part could be done, and what was not is named.
    Partly = 1,
    /// Arguments, settings or a file cannot be used. Nothing was done.
    BadInput = 2,
    /// Redis or the local store cannot be used now. It may be tried again.
    Unavailable = 3,
}

pub(crate) const EXIT_CODES: &str = "Exit codes: 0 done, 1 no such record, or only partly done, 2 bad input, \
                                     3 redis or the local store cannot be used now";

impl From<ToolExitCode> for std::process::ExitCode {
    fn from(code: ToolExitCode) -> Self {
        Self::from(code as u8)
    }
}

/// Why the tool ends without having done what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: ToolExitCode,
    pub(crate) message: String,
}

impl Failure {
    #[expect(clippy::needless_pass_by_value, reason = "for map_err")]
    pub(crate) fn bad_input(message: impl ToString) -> Self {
        Self { code: ToolExitCode::BadInput, message: message.to_string() }
    }

    #[expect(clippy::needless_pass_by_value, reason = "for map_err")]
    pub(crate) fn unavailable(message: impl ToString) -> Self {
        Self { code: ToolExitCode::Unavailable, message: message.to_string() }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        Self::bad_input(error)
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match &error {
            OpenError::Config(_) | OpenError::Store(StoreError::ForeignPrefix { .. } | StoreError::Format { .. }) => {
                Self::bad_input(error)
            }
            OpenError::Store(StoreError::Locked { dir }) => Self::unavailable(format!(
                "the local store in {} is in use, by the application it belongs to: add --fresh to work on redis \
                 alone, or end the application first; `inspect` looks into it all the same",
                dir.display()
            )),
            OpenError::Store(_) | OpenError::BackgroundEnded => Self::unavailable(error),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        OpenError::from(error).into()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Refused(_) | Error::TooLarge(_) | Error::Name(_) => ToolExitCode::BadInput,
            Error::NotARecord { .. } => ToolExitCode::Partly,
            _ => ToolExitCode::Unavailable,
        };
        Self { code, message: error.to_string() }
    }
}

/// Prints a line to the standard output, with what does not print escaped.
pub(crate) fn say(line: fmt::Arguments<'_>) {
    print(Line(line));
}

/// Prints a text in JSON, of one line or several: the same value, in characters that print.
pub(crate) fn say_json(json: &str) {
    print(Json(json));
}

/// Prints a line to the standard error, likewise.
pub(crate) fn complain(line: fmt::Arguments<'_>) {
    // There is no other place to say that this one is closed.
    let _ = writeln!(io::stderr(), "{}", Line(line));
}

fn print(text: impl fmt::Display) {
    if let Err(error) = writeln!(io::stdout(), "{text}") {
        if error.kind() != io::ErrorKind::BrokenPipe {
            complain(format_args!("error: failed to write to the standard output: {error}"));
        }
        std::process::exit(ToolExitCode::Unavailable as i32);
    }
}
