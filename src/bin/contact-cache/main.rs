//! The operator's tool: looks into a cache and its local stores, and takes over what another cache kept.
//!
//! `arguments` is what it is asked, `settings` which cache is meant, `exit` how it ends; `records`, `inspection`,
//! `draining` and `importing` do the work. It is an application like any other: it knows the public API alone.

mod arguments;
mod draining;
mod exit;
mod importing;
mod inspection;
mod records;
mod settings;

use clap::Parser;
use contact_cache::env::TokioEnv;

use crate::{
    arguments::{Tool, ToolCommand},
    exit::{Failure, ToolExitCode},
};

/// Prints a line. A reader that has seen enough (`| head`) ends the program, quietly.
macro_rules! say {
    ($($argument:tt)*) => {
        crate::exit::say(format_args!($($argument)*))
    };
}
pub(crate) use say;

/// Prints a line about what is wrong, or worth a note.
macro_rules! complain {
    ($($argument:tt)*) => {
        crate::exit::complain(format_args!($($argument)*))
    };
}
pub(crate) use complain;

fn main() -> std::process::ExitCode {
    let tool = match Tool::try_parse() {
        Ok(tool) => tool,
        Err(error) => return refused(&error),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(run(&tool)),
        Err(error) => Err(Failure::unavailable(format!("no runtime: {error}"))),
    };
    match ended {
        Ok(code) => code.into(),
        Err(failure) => {
            complain!("error: {}", failure.message);
            failure.code.into()
        }
    }
}

/// Help and version as they are; what is wrong with the arguments line by line, since it repeats them.
fn refused(error: &clap::Error) -> std::process::ExitCode {
    if !error.use_stderr() {
        error.exit();
    }
    error.to_string().lines().for_each(|line| complain!("{line}"));
    ToolExitCode::BadInput.into()
}

async fn run(tool: &Tool) -> Result<ToolExitCode, Failure> {
    let env = TokioEnv::new();
    match &tool.command {
        ToolCommand::Get { uid } => Box::pin(records::get(env, tool, uid)).await,
        ToolCommand::Put { file } => Box::pin(records::put(env, tool, file.as_deref())).await,
        ToolCommand::Remove { uids } => Box::pin(records::remove(env, tool, uids)).await,
        ToolCommand::List => Box::pin(records::list(env, tool)).await,
        ToolCommand::Health => Box::pin(records::health(env, tool)).await,
        ToolCommand::Inspect { path } => inspection::inspect(tool, path),
        ToolCommand::Drain { within } => Box::pin(draining::drain(env, tool, *within)).await,
        ToolCommand::Import(import) => Box::pin(importing::import(env, tool, import)).await,
    }
}
