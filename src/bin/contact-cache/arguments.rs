//! What the tool is asked.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use contact_cache::{NameError, Uid};

use crate::exit::EXIT_CODES;

const SETTINGS: &str = "\
Settings come from --config FILE (TOML), then variables CONTACT_CACHE_<SETTING>, then the options above. Give a password \
by the settings `password` or `password_file`, or the variable CONTACT_CACHE_PASSWORD: what stands on a command line is \
there for everybody to see.

Where no directory is set, or with --fresh, get, put, remove, list and health use a local store that is thrown away at \
the end: they work on redis or not at all.";

/// The operator's tool of the contact cache.
#[derive(Parser)]
#[command(name = "contact-cache", version, after_help = format!("{SETTINGS}\n\n{EXIT_CODES}"))]
pub(crate) struct Tool {
    /// Settings of the cache, in TOML
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where redis is
    #[arg(
        long,
        global = true,
        value_name = "URL",
        help = "Where redis is: redis://host:port/database, rediss://... or unix:///path"
    )]
    pub(crate) redis: Option<String>,
    /// The prefix of the records
    #[arg(long, global = true)]
    pub(crate) prefix: Option<String>,
    /// The local store; one that an application has open is refused
    #[arg(long, global = true, value_name = "DIR", conflicts_with = "fresh")]
    pub(crate) directory: Option<PathBuf>,
    /// Use a local store that is thrown away at the end, whatever the settings say
    #[arg(long, global = true)]
    pub(crate) fresh: bool,
    /// Answer in JSON, on one line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: ToolCommand,
}

#[derive(Subcommand)]
pub(crate) enum ToolCommand {
    /// Print a record, as JSON
    Get {
        /// Its name
        #[arg(value_parser = uid)]
        uid: Uid,
    },
    /// Merge a record into the cache, as `get` prints it; its times are set anew
    Put {
        /// The record, as JSON; the standard input if not given, or `-`
        file: Option<PathBuf>,
    },
    /// Remove records
    Remove {
        /// Their names
        #[arg(required = true, value_name = "UID", value_parser = uid)]
        uids: Vec<Uid>,
    },
    /// Print the names of all records, one a line
    List,
    /// Print how an instance with these settings is
    Health,
    /// Look into a local store without changing it, also while an application uses it
    Inspect {
        /// The directory of the store, or a damaged-<n>.log in it
        path: PathBuf,
    },
    /// Merge what a local store has for redis, and say what is left and why
    Drain {
        /// How long to try, such as 30s or 5min
        #[arg(long, value_name = "TIME", default_value = "1min", value_parser = humantime::parse_duration)]
        within: Duration,
    },
    /// Take over the records of the cache that came before; nothing written through this cache is changed
    Import(Import),
}

#[derive(Args)]
pub(crate) struct Import {
    /// Write nothing, and say what would be done
    #[arg(long, global = true)]
    pub(crate) dry_run: bool,
    #[command(subcommand)]
    pub(crate) from: ImportFrom,
}

#[derive(Subcommand)]
pub(crate) enum ImportFrom {
    /// From its file, one object from uid to record
    Json {
        /// The file
        file: PathBuf,
    },
    /// From its keys in redis, <prefix>:<uid>, each a record as JSON
    Redis {
        /// Where they are; the redis of the settings if not given
        #[arg(long, value_name = "URL")]
        from_url: Option<String>,
        /// A file with the password for --from-url
        #[arg(long, value_name = "FILE", requires = "from_url")]
        from_password_file: Option<PathBuf>,
        /// Their prefix
        #[arg(long, value_name = "PREFIX")]
        legacy_prefix: String,
    },
}

fn uid(text: &str) -> Result<Uid, NameError> {
    text.parse()
}
