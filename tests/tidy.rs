//! House rules that no linter knows: headers, lengths, and which part may know which.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A file has one subject; a longer one has two.
const FILE_LINES_MAX: usize = 600;
/// A function that does not fit a screen does two things.
const FUNCTION_LINES_MAX: usize = 70;

/// The crates, and which others of the workspace each may stand on. Dependencies of tests and examples do not count.
const LAYERS: [(&str, &[&str]); 10] = [
    (".", &["seedbed-env"]),
    ("env", &[]),
    ("sim/bed", &["seedbed-env", "seedbed-linearize", "seedbed-macros", "seedbed-redis", "seedbed-world"]),
    (
        "sim/contact",
        &["contact-cache", "seedbed", "seedbed-env", "seedbed-linearize", "seedbed-redis", "seedbed-world"],
    ),
    ("sim/launcher", &[]),
    ("sim/linearize", &[]),
    ("sim/macros", &[]),
    ("sim/protocol", &[]),
    ("sim/redis", &[]),
    ("sim/world", &["seedbed-env"]),
];
/// The crates that serve other clients as well, and words that none of them has, but for those that are its subject.
// The world has the socket options of a Redis server, and says so.
const GENERAL: [(&str, &[&str]); 7] = [
    ("env/", &[]),
    ("sim/bed/", &["redis"]),
    ("sim/launcher/", &["redis"]),
    ("sim/linearize/", &[]),
    ("sim/macros/", &[]),
    ("sim/redis/", &["redis"]),
    ("sim/world/", &["redis"]),
];
const WORDS_OF_CONTACTS: [&str; 6] = ["contact", "cc1", "uid", "tombstone", "redis", "prefix"];
/// Names that contain such a word, and are allowed everywhere: one of std's, and the variables that tell the tests which redis-server to
/// use. The launcher reads them. Passed to it, they would stand in five files.
const NAMES_WITH_SUCH_WORDS: [&str; 3] = ["strip_prefix", "contact_cache_test_redis", "contact_cache_require_redis"];

struct Source {
    name: String,
    text: String,
}

impl Source {
    /// The text without its unit tests, which may use what the code may not.
    fn code(&self) -> &str {
        self.text.split("\n#[cfg(test)]\n").next().unwrap_or_default()
    }

    fn is_under(&self, folders: &[&str]) -> bool {
        folders.iter().any(|folder| self.name.starts_with(folder))
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "env", "sim", "tests", "examples"] {
        collect(&root.join(folder), &mut files);
    }
    files.sort();
    let read = |path: &PathBuf| Source {
        name: path.strip_prefix(root).expect("below the root").display().to_string(),
        text: fs::read_to_string(path).expect("a source file"),
    };
    files.iter().map(read).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Asserts that nothing is wrong, and lists all that is.
fn assert_none(wrong: &[String], rule: &str) {
    assert!(wrong.is_empty(), "{rule}:\n  {}", wrong.join("\n  "));
}

#[test]
fn every_file_begins_with_a_header_that_says_what_lives_there() {
    let wrong: Vec<_> = sources().into_iter().filter(|s| !s.text.starts_with("//! ")).map(|s| s.name).collect();
    assert_none(&wrong, "begin the file with `//!` and what lives there");
}

#[test]
fn the_applications_recorder_and_subscriber_are_called_under_guard() {
    let told = ["tracing::trace!", "tracing::debug!", "tracing::info!", "tracing::warn!", "tracing::error!"];
    let client =
        sources().into_iter().filter(|s| s.is_under(&["src/"]) && !s.is_under(&["src/bin/", "src/telemetry.rs"]));
    let wrong: Vec<_> =
        client.filter(|s| told.iter().any(|macro_| s.code().contains(macro_))).map(|s| s.name).collect();
    assert_none(&wrong, "log through `telemetry::log`: a subscriber that panics must not end a background task");
}

#[test]
fn a_file_has_one_subject() {
    let long = |s: &Source| (s.text.lines().count() > FILE_LINES_MAX).then(|| s.name.clone());
    let wrong: Vec<_> = sources().iter().filter_map(long).collect();
    assert_none(&wrong, "split what is longer than 600 lines");
}

#[test]
fn a_function_fits_a_screen() {
    let mut wrong = Vec::new();
    for source in sources() {
        let mut begun: Option<(usize, usize, &str)> = None;
        for (number, line) in source.text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let starts = [
                "fn ",
                "pub fn ",
                "pub(crate) fn ",
                "pub(super) fn ",
                "async fn ",
                "pub async fn ",
                "pub(crate) async fn ",
            ];
            if begun.is_none() && starts.iter().any(|start| line.trim_start().starts_with(start)) {
                begun = Some((number, indent, line.trim()));
            }
            let Some((start, column, signature)) = begun else { continue };
            if line.trim_end() == format!("{}}}", " ".repeat(column))
                || line.trim_end().ends_with("{}")
                || line.trim_end().ends_with(';') && indent == column
            {
                if number - start >= FUNCTION_LINES_MAX {
                    wrong.push(format!("{}:{}: {signature}", source.name, start + 1));
                }
                begun = None;
            }
        }
    }
    assert_none(&wrong, "split what is longer than 70 lines");
}

#[test]
fn the_client_reaches_the_world_through_env_alone() {
    let mut wrong = Vec::new();
    // The real world; what is read before there is one; and a test by itself. The tool in `src/bin` is an application.
    let exempt = ["src/config/load.rs", "src/shared/agreement.rs"];
    for source in sources()
        .iter()
        .filter(|s| s.is_under(&["src/"]) && !s.is_under(&["src/bin/"]) && !exempt.contains(&s.name.as_str()))
    {
        let forbidden = [
            "std::net",
            "std::fs",
            "std::thread",
            "std::time::Instant",
            "SystemTime",
            "rand::",
            "tokio::time",
            "tokio::net",
            "tokio::task",
            "tokio::fs",
        ];
        for (number, line) in source.code().lines().enumerate() {
            if forbidden.iter().any(|name| line.contains(name)) {
                wrong.push(format!("{}:{}: {}", source.name, number + 1, line.trim()));
            }
        }
    }
    assert_none(&wrong, "use Env; the real world stands in env/src/tokio.rs");
}

/// The names of other packages of the workspace that a manifest has among its dependencies.
fn stands_on(manifest: &str, packages: &[String]) -> Vec<String> {
    let dependencies = manifest.split("\n[").find(|table| table.starts_with("dependencies]")).unwrap_or_default();
    let name = |line: &str| line.split(['.', ' ', '=']).next().unwrap_or_default().to_owned();
    dependencies.lines().map(name).filter(|name| packages.contains(name)).collect()
}

#[test]
fn every_crate_stands_on_the_layers_below_it_alone() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = |folder: &str| fs::read_to_string(root.join(folder).join("Cargo.toml")).expect("a manifest");
    let workspace = manifest(".");
    let members = workspace.split("members = [").nth(1).and_then(|rest| rest.split(']').next()).unwrap_or_default();
    let members: Vec<_> = members.split(',').map(|member| member.trim().trim_matches('"').to_owned()).collect();
    assert_eq!(members, LAYERS.map(|(folder, _)| folder), "each member of the workspace has its place in the table");
    let name = |folder: &String| {
        let manifest = manifest(folder);
        let name = manifest.lines().find_map(|line| line.strip_prefix("name = ")).expect("a name");
        name.trim_matches('"').to_owned()
    };
    let packages: Vec<_> = members.iter().map(name).collect();
    for (folder, below) in LAYERS {
        assert_eq!(stands_on(&manifest(folder), &packages), below, "{folder}/Cargo.toml");
    }
    assert_eq!(
        stands_on(
            "[package]\n[dependencies]\na.workspace = true\nb = \"1\"\n[dev-dependencies]\nc = \"1\"",
            &["a", "b", "c"].map(str::to_owned)
        ),
        ["a", "b"]
    );
}

#[test]
fn what_serves_any_client_knows_nothing_of_contacts() {
    let sources = sources();
    let mut wrong = Vec::new();
    for (folder, subjects) in GENERAL {
        let foreign = WORDS_OF_CONTACTS.iter().filter(|word| !subjects.contains(word));
        let foreign: Vec<_> = foreign.copied().collect();
        let its: Vec<_> = sources.iter().filter(|s| s.is_under(&[folder])).collect();
        assert!(!its.is_empty(), "{folder} has moved");
        for source in its {
            for (number, line) in source.text.lines().enumerate() {
                let mut text = line.to_lowercase();
                for name in NAMES_WITH_SUCH_WORDS {
                    text = text.replace(name, "");
                }
                if foreign.iter().any(|word| text.contains(word)) {
                    wrong.push(format!("{}:{}: {}", source.name, number + 1, line.trim()));
                }
            }
        }
    }
    assert_none(&wrong, "a general crate serves other clients as well");
}

#[test]
fn pure_files_have_no_env_and_no_async() {
    let pure = ["contact", "stamp", "record/mod", "record/cell", "key", "error", "health"]
        .map(|name| format!("src/{name}.rs"));
    let wrong: Vec<_> = sources()
        .iter()
        .filter(|s| pure.contains(&s.name))
        .filter(|s| ["async ", ".await", "crate::env", "Env>"].iter().any(|word| s.code().contains(word)))
        .map(|s| s.name.clone())
        .collect();
    assert_none(&wrong, "time and randomness are arguments here");
    assert_eq!(sources().iter().filter(|s| pure.contains(&s.name)).count(), pure.len(), "a pure file is gone");
}

#[test]
fn judges_know_histories_and_nothing_of_the_client() {
    let judges: Vec<_> =
        sources().into_iter().filter(|s| s.is_under(&["sim/contact/src/checker/", "sim/linearize/"])).collect();
    assert!(judges.len() > 10, "the checkers have moved");
    let foreign =
        ["contact_cache", "crate::world", "crate::runner", "crate::subject", "crate::redis_host", "crate::workload"];
    let knows = |s: &Source| foreign.iter().any(|name| s.text.contains(name)).then(|| s.name.clone());
    assert_none(&judges.iter().filter_map(knows).collect::<Vec<_>>(), "a checker sees only the history");
}

#[test]
fn the_client_is_touched_by_the_subject_and_nothing_else_of_the_bed() {
    // The runner names the Redis for the client's Config.
    let allowed = ["sim/contact/src/subject/", "sim/contact/src/runner/mod.rs"];
    let bed = |s: &&Source| s.is_under(&["sim/contact/src/"]) && !s.is_under(&allowed);
    let knows = |s: &Source| {
        s.code().lines().any(|line| line.contains("contact_cache::") && !line.trim_start().starts_with("//"))
    };
    let wrong: Vec<_> = sources().iter().filter(bed).filter(|s| knows(s)).map(|s| s.name.clone()).collect();
    assert_none(&wrong, "go through the Subject trait");
}

#[test]
fn the_nemesis_and_the_workloads_do_not_know_each_other() {
    let wrong: Vec<_> = sources()
        .iter()
        .filter(|s| {
            (s.is_under(&["sim/contact/src/nemesis"]) && s.text.contains("workload::"))
                || (s.is_under(&["sim/contact/src/workload/"])
                    && (s.text.contains("faults::") || s.text.contains("nemesis::")))
        })
        .map(|s| s.name.clone())
        .collect();
    assert_none(&wrong, "they meet in the runner");
}

#[test]
fn a_run_reads_no_clock_and_no_chance_of_the_machine() {
    // Each line carries its own `expect` with a reason; those files are outside of any run.
    let outside = [
        "sim/contact/src/explore/mod.rs",
        "sim/redis/src/serve_tcp.rs",
        "sim/contact/src/main.rs",
        "sim/contact/src/determinism.rs",
        "sim/contact/src/mutants/",
    ];
    let mut wrong = Vec::new();
    let of_runs = ["sim/bed/src/", "sim/contact/src/", "sim/linearize/src/", "sim/redis/src/", "sim/world/src/"];
    for source in sources().iter().filter(|s| s.is_under(&of_runs) && !s.is_under(&outside)) {
        let forbidden = [
            "std::time::Instant",
            "SystemTime",
            "rand::rng()",
            "rand::random",
            "thread_rng",
            "HashMap",
            "HashSet",
            "select!",
        ];
        for (number, line) in source.code().lines().enumerate() {
            if forbidden.iter().any(|name| line.contains(name)) && !line.trim_start().starts_with("//") {
                wrong.push(format!("{}:{}: {}", source.name, number + 1, line.trim()));
            }
        }
    }
    assert_none(&wrong, "take it from the world or from a stream of the seed");
}

#[test]
fn a_module_with_parts_is_the_mod_rs_of_its_folder() {
    let sources = sources();
    let has_folder = |name: &str| sources.iter().any(|s| s.is_under(&[&format!("{}/", name.trim_end_matches(".rs"))]));
    let wrong: Vec<_> = sources.iter().map(|s| &s.name).filter(|name| has_folder(name)).cloned().collect();
    assert_none(&wrong, "move the file into its folder, as mod.rs (a test program: main.rs)");
}

#[test]
fn cargo_finds_every_test_by_itself() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    for (folder, _) in LAYERS {
        let manifest = fs::read_to_string(root.join(folder).join("Cargo.toml")).expect("a manifest");
        let hides = |line: &&str| line.starts_with("autotests") || line.starts_with("path") && line.contains("\"../");
        wrong.extend(manifest.lines().filter(hides).map(|line| format!("{folder}/Cargo.toml: {line}")));
        let Ok(tests) = fs::read_dir(root.join(folder).join("tests")) else { continue };
        for path in tests.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir()) {
            let has_code = fs::read_dir(&path)
                .expect("a folder of tests")
                .any(|file| file.expect("an entry").path().extension().is_some_and(|extension| extension == "rs"));
            if has_code && !["main.rs", "mod.rs"].iter().any(|file| path.join(file).exists()) {
                wrong.push(format!("{} has no main.rs", path.display()));
            }
        }
    }
    assert_none(&wrong, "a test that has to be named in a manifest is one that may never run");
}

/// Only a file that starts a redis-server has one of these: its name, the variable that names it, and arguments that every test needs.
const STARTS_REDIS: [&str; 4] =
    ["\"redis-server\"", "CONTACT_CACHE_TEST_REDIS", "\"--save\", \"\"", "\"--unixsocket\""];

fn starts_redis(source: &Source) -> bool {
    let mut code = source.text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.any(|line| STARTS_REDIS.iter().any(|sign| line.contains(sign)))
}

#[test]
fn only_the_launcher_starts_a_redis_server() {
    // `seedbed redis-server` serves the simulated Redis: `real_redis` gives it to the launcher, `cli` tries wrong arguments. This file
    // has the rule.
    let exempt = ["sim/contact/tests/real_redis/main.rs", "sim/contact/tests/cli.rs", "tests/tidy.rs"];
    let others =
        sources().into_iter().filter(|s| !s.is_under(&["sim/launcher/"]) && !exempt.contains(&s.name.as_str()));
    assert_none(&others.filter(starts_redis).map(|s| s.name).collect::<Vec<_>>(), "start it with redis-launcher");
    let own = |text: &str| Source { name: String::new(), text: text.to_owned() };
    assert!(starts_redis(&own("Command::new(\"redis-server\").arg(\"--port\")")), "the rule finds nothing");
    assert!(
        starts_redis(&own("command.args([\"--save\", \"\"])")),
        "the rule overlooks a program that was found elsewhere"
    );
}

#[test]
fn only_the_world_makes_a_runtime_of_madsim() {
    const OWNER: &str = "sim/world/src/isolated.rs";
    let ways = ["Runtime::with_seed", "madsim::runtime::Runtime::new", "#[madsim::test", "#[madsim::main"];
    let makes_one = |s: &Source| s.name != "tests/tidy.rs" && ways.iter().any(|way| s.text.contains(way));
    let (owner, others): (Vec<_>, Vec<_>) =
        sources().into_iter().filter(makes_one).map(|s| s.name).partition(|name| name == OWNER);
    assert_none(&others, "use `isolated` or `simulate` of seedbed-world");
    assert_eq!(owner, [OWNER], "the rule does not see the one that there is");
}

#[test]
fn the_guide_shows_the_code_that_is_tested() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let code = ["examples/lock/src/lib.rs", "examples/lock/tests/lock.rs"].map(read).concat();
    let guide = read("docs/TESTING-YOUR-CLIENT.md");
    let blocks: Vec<_> = guide.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 7, "the guide has {} blocks of code", blocks.len());
    let wrong: Vec<_> = blocks.into_iter().filter(|block| !code.contains(*block)).map(str::to_owned).collect();
    assert_none(&wrong, "copy the block from examples/lock as it is there");
}
