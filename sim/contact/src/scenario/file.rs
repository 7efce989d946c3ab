//! A scenario as a file. It is read strictly: a field that is misspelt would otherwise be left out of the run in silence.

use std::{fs, path::Path};

use seedbed_linearize::lines::{surplus, trap};
use serde::{Deserialize, Serialize};

use super::Scenario;

/// Version of the replay file's format.
pub const FORMAT: u32 = 1;

/// A scenario as a file: what `replay` reads and `--save` writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayFile {
    /// [`FORMAT`] of the writer.
    pub format: u32,
    /// The commit that the writer was built from.
    pub commit: String,
    /// A hash of its `Cargo.lock`.
    pub lock_hash: String,
    /// The run.
    pub scenario: Scenario,
}

/// A replay file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReplayFileError {
    /// The file could not be read or written.
    #[error("failed to {verb} replay file {path:?}: {cause}")]
    Io {
        /// What was tried.
        verb: &'static str,
        /// The file.
        path: String,
        /// What the operating system said.
        cause: std::io::Error,
    },
    /// The file is no replay file.
    #[error(
        "{path:?} is no replay file: {cause}; `replay SEED --workload NAME --save FILE` writes one to compare with"
    )]
    Syntax {
        /// The file.
        path: String,
        /// Where it stops making sense.
        cause: serde_json::Error,
    },
    /// The file is of another format version.
    #[error("replay file {path:?} has format version {found}, this seedbed reads {FORMAT}: build commit {commit}")]
    Format {
        /// The file.
        path: String,
        /// Its version.
        found: u64,
        /// The commit that wrote it.
        commit: String,
    },
    /// The scenario in it cannot be played.
    #[error("replay file {path:?}: {what}")]
    Inconsistent {
        /// The file.
        path: String,
        /// What is wrong.
        what: String,
    },
}

impl ReplayFile {
    /// The scenario, with what this binary was built from.
    pub fn of(scenario: Scenario) -> Self {
        Self { format: FORMAT, commit: BUILD_COMMIT.to_owned(), lock_hash: lock_hash(), scenario }
    }

    /// Reads and checks a replay file.
    #[expect(clippy::disallowed_methods, reason = "outside of any run")]
    pub fn read(path: &Path) -> Result<Self, ReplayFileError> {
        let name = path.display().to_string();
        let bytes = fs::read(path).map_err(|cause| ReplayFileError::Io { verb: "read", path: name.clone(), cause })?;
        let syntax = |cause| ReplayFileError::Syntax { path: name.clone(), cause };
        let json: serde_json::Value = serde_json::from_slice(&bytes).map_err(syntax)?;
        // The version first: a file of another one need not parse as this one.
        if let Some(found) = json["format"].as_u64().filter(|found| *found != u64::from(FORMAT)) {
            let commit = json["commit"].as_str().unwrap_or("that wrote it").to_owned();
            return Err(ReplayFileError::Format { path: name, found, commit });
        }
        if let Some((wrong, cure)) = serde_json::from_slice(&bytes).ok().and_then(trap) {
            let what = format!("{wrong}: {cure}");
            return Err(ReplayFileError::Inconsistent { path: name, what });
        }
        // From the text again, so that an error names its line.
        let file: Self = serde_json::from_slice(&bytes).map_err(syntax)?;
        // Of a call or fault without fields of its own, serde takes any.
        let unread = surplus(&json, &serde_json::to_value(&file).expect("plain data becomes JSON"));
        let unread = unread.map(|field| format!("unknown field `{field}`: take it out"));
        match unread.or_else(|| file.scenario.check().err()) {
            Some(what) => Err(ReplayFileError::Inconsistent { path: name, what }),
            None => Ok(file),
        }
    }

    /// Writes the file.
    #[expect(clippy::disallowed_methods, reason = "outside of any run")]
    pub fn write(&self, path: &Path) -> Result<(), ReplayFileError> {
        let text = serde_json::to_string_pretty(self).expect("plain data becomes JSON");
        let io = |cause| ReplayFileError::Io { verb: "write", path: path.display().to_string(), cause };
        fs::write(path, text + "\n").map_err(io)
    }

    /// What this binary was built from that the writer was not; a replay may differ then.
    pub fn differences(&self) -> Vec<String> {
        let mut differences = Vec::new();
        if self.commit != BUILD_COMMIT {
            differences.push(format!("commit {} wrote it, this is {BUILD_COMMIT}", self.commit));
        }
        if self.lock_hash != lock_hash() {
            differences.push("its Cargo.lock was another".to_owned());
        }
        differences
    }
}

/// The commit that this binary was built from, with a mark if the tree was not clean.
pub const BUILD_COMMIT: &str = env!("SEEDBED_COMMIT");

fn lock_hash() -> String {
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(include_bytes!("../../../../Cargo.lock")))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "files of tests")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{seed::Seed, workload::Workload};

    fn saved(change: impl FnOnce(&mut serde_json::Value)) -> Result<ReplayFile, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("replay.json");
        let file = ReplayFile::of(Scenario::generate(Workload::Consistency, Seed(7)));
        let mut json = serde_json::to_value(&file).unwrap();
        change(&mut json);
        fs::write(&path, json.to_string()).unwrap();
        ReplayFile::read(&path).map_err(|error| error.to_string().replace(&path.display().to_string(), "FILE"))
    }

    #[test]
    fn a_scenario_comes_back_from_its_file() {
        let file = saved(|_| {}).unwrap();
        assert_eq!(file.scenario, Scenario::generate(Workload::Consistency, Seed(7)));
        assert_eq!(file.differences(), Vec::<String>::new());
    }

    #[test]
    fn every_value_that_a_workload_writes_comes_back_from_a_file() {
        // Also integers of any length, which serde's buffers lose.
        for workload in crate::workload::ALL {
            for seed in 0..8 {
                let scenario = Scenario::generate(workload, Seed(seed));
                let text = serde_json::to_string(&scenario).unwrap();
                assert_eq!(serde_json::from_str::<Scenario>(&text).unwrap(), scenario, "seed {seed} of {workload}");
            }
        }
    }

    #[test]
    fn a_file_of_another_format_version_names_the_commit_to_build() {
        let error = saved(|json| (json["format"], json["commit"]) = (99.into(), "abc".into())).unwrap_err();
        assert_eq!(error, r#"replay file "FILE" has format version 99, this seedbed reads 1: build commit abc"#);
    }

    /// A file with one of each kind of thing that has fields.
    fn full() -> serde_json::Value {
        let operation = |call| json!({"at_us": 1, "instance": 0, "call": call});
        let fault = |fault| json!({"start_us": 1, "end_us": 1, "fault": fault});
        let mut file =
            serde_json::to_value(ReplayFile::of(Scenario::generate(Workload::Consistency, Seed(7)))).unwrap();
        file["scenario"]["tuning"] = json!({"record_ttl_ms": 5_000});
        file["scenario"]["operations"] = json!([
            operation(json!({"call": "upsert", "uid": "u", "patch": {"profile": {"call": 1, "any name": {"any": 2}}}})),
            operation(json!({"call": "get", "uid": "u"})),
            operation(json!({"call": "list"})),
        ]);
        file["scenario"]["faults"] = json!([
            fault(json!({"fault": "script_flush"})),
            fault(json!({"fault": "slow_link", "instances": [0], "extra_us": 1})),
            fault(json!({"fault": "bad_network", "instances": [0], "trouble": {"network": "loss", "per_mille": 1}})),
            fault(json!({"fault": "bad_disk", "instance": 0, "trouble": {"disk": "full"}})),
        ]);
        file
    }

    #[test]
    fn an_unknown_field_is_an_error_at_every_level() {
        assert!(saved(|json| *json = full()).is_ok());
        for place in [
            "",
            "/scenario",
            "/scenario/tuning",
            "/scenario/operations/0",
            "/scenario/operations/0/call",
            "/scenario/operations/0/call/patch",
            "/scenario/operations/1/call",
            "/scenario/operations/2/call",
            "/scenario/faults/0",
            "/scenario/faults/0/fault",
            "/scenario/faults/1/fault",
            "/scenario/faults/2/fault",
            "/scenario/faults/2/fault/trouble",
            "/scenario/faults/3/fault/trouble",
        ] {
            let mut file = full();
            file.pointer_mut(place).unwrap()["tunings"] = 1.into();
            let error = saved(|json| *json = file).expect_err(place);
            let path = format!("unknown field `{}.tunings`", place.trim_start_matches('/').replace('/', "."));
            let with_line = error.contains("unknown field `tunings`") && error.contains("line 1 column");
            assert!(with_line || error.contains(&path), "{place}: {error}");
        }
    }

    #[test]
    fn a_field_that_comes_twice_is_an_error_that_names_it() {
        let text = serde_json::to_string_pretty(&full()).unwrap();
        for field in ["\"workers\": ", "\"faults\": ", "\"at_us\": ", "\"uid\": ", "\"start_us\": "] {
            let start = text.find(field).unwrap();
            let twice = format!("{}{field}0, {}", &text[..start], &text[start..]);
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("twice.json");
            fs::write(&path, twice).unwrap();
            let error = ReplayFile::read(&path).unwrap_err().to_string();
            assert!(error.contains("has the field") && error.contains(field.trim_end_matches(": ")), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_played_is_an_error_that_names_its_place() {
        let crash = json!({"fault": "instance_crash", "instance": 99, "power_loss": true});
        let error = saved(|json| json["scenario"]["faults"][0]["fault"] = crash).unwrap_err();
        assert!(error.contains("replay file \"FILE\": an instance of faults[0] is 99: there are"), "{error}");
    }

    #[test]
    fn a_file_that_is_something_else_says_how_to_write_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, "not json").unwrap();
        let error = ReplayFile::read(&path).unwrap_err().to_string();
        assert!(error.contains("is no replay file") && error.contains("--save FILE"), "{error}");
    }
}
