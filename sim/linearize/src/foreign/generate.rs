//! Foreign histories drawn at random, to try the judge and to compare it with others: clients of objects that are atomic, and
//! what they saw, kept or corrupted.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use rand::{Rng, RngExt};
use serde_json::{Value as Json, json};

use super::ModelName;

/// What a history is like.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Its objects.
    pub model: ModelName,
    /// How many keys.
    pub keys: u64,
    /// How many clients run at a time, each on any key.
    pub clients: u64,
    /// How many operations.
    pub operations: u64,
    /// How many in a thousand writes have an unknown outcome.
    pub unknown_per_mille: u64,
    /// How many values there are to write; none if each write has its own.
    pub values: Option<u64>,
    /// How many reads are given another answer.
    pub corrupted: u64,
}

/// An operation of a client.
struct RunningOperation {
    process: u64,
    key: u64,
    f: &'static str,
    value: Json,
    result: Option<bool>,
    is_unknown: bool,
}

enum GeneratedMoment {
    Invoke {
        client: u64,
    },
    Effect {
        client: u64,
    },
    Return {
        client: u64,
    },
    /// Of an operation whose client has given up.
    Late {
        key: u64,
        f: &'static str,
        value: Json,
    },
}

/// The history as text, in the form that [`super::read`] reads: one event a line. It is as repeatable as what it is
/// drawn from.
pub fn generate(shape: &Shape, draw: &mut impl Rng) -> String {
    let mut world = GeneratedWorld::new(shape, draw);
    for client in 0..shape.clients {
        world.plan(0, GeneratedMoment::Invoke { client });
    }
    while let Some(((now, _), moment)) = world.agenda.pop_first() {
        world.happen(now, moment);
    }
    world.corrupt();
    let mut text = String::new();
    for line in world.lines {
        let _ = writeln!(text, "{line}");
    }
    text
}

struct GeneratedWorld<'a, R> {
    shape: &'a Shape,
    draw: &'a mut R,
    agenda: BTreeMap<(u64, u64), GeneratedMoment>,
    planned: u64,
    begun: u64,
    processes: u64,
    held: Vec<Json>,
    seen: Vec<BTreeSet<String>>,
    running: BTreeMap<u64, RunningOperation>,
    process_of: BTreeMap<u64, u64>,
    lines: Vec<Json>,
}

impl<'a, R: Rng> GeneratedWorld<'a, R> {
    fn new(shape: &'a Shape, draw: &'a mut R) -> Self {
        let keys = usize::try_from(shape.keys).expect("a few keys");
        Self {
            shape,
            draw,
            agenda: BTreeMap::new(),
            planned: 0,
            begun: 0,
            processes: shape.clients,
            held: vec![Json::Null; keys],
            seen: vec![BTreeSet::from(["null".to_owned()]); keys],
            running: BTreeMap::new(),
            process_of: (0..shape.clients).map(|client| (client, client)).collect(),
            lines: Vec::new(),
        }
    }

    fn plan(&mut self, now: u64, moment: GeneratedMoment) {
        let at = now + self.draw.random_range(1..1000);
        self.planned += 1;
        self.agenda.insert((at, self.planned), moment);
    }

    fn happen(&mut self, now: u64, moment: GeneratedMoment) {
        match moment {
            GeneratedMoment::Invoke { client } if self.begun < self.shape.operations => {
                self.begun += 1;
                self.invoke(client);
                self.plan(now, GeneratedMoment::Effect { client });
            }
            GeneratedMoment::Invoke { .. } => {}
            GeneratedMoment::Effect { client } => {
                let Some(mut running) = self.running.remove(&client) else { return };
                if running.is_unknown && self.draw.random_bool(0.7) {
                    let late = GeneratedMoment::Late { key: running.key, f: running.f, value: running.value.clone() };
                    if self.draw.random_bool(0.7) {
                        self.agenda.insert((now + self.draw.random_range(1..20_000), self.planned), late);
                        self.planned += 1;
                    }
                } else {
                    let (answer, result) = self.effect(running.key, running.f, &running.value);
                    (running.value, running.result) = (answer, result);
                }
                self.running.insert(client, running);
                self.plan(now, GeneratedMoment::Return { client });
            }
            GeneratedMoment::Return { client } => {
                if let Some(running) = self.running.remove(&client) {
                    self.end(client, running);
                }
                self.plan(now, GeneratedMoment::Invoke { client });
            }
            GeneratedMoment::Late { key, f, value } => drop(self.effect(key, f, &value)),
        }
    }

    fn invoke(&mut self, client: u64) {
        let key = self.draw.random_range(0..self.shape.keys);
        let (f, value) = self.function();
        let process = self.process_of[&client];
        let is_unknown = f != "read" && self.draw.random_range(0..1000) < self.shape.unknown_per_mille;
        let mut line = json!({"process": process, "type": "invoke", "f": f, "key": key.to_string()});
        if f != "read" && f != "delete" {
            line["value"] = value.clone();
        }
        self.lines.push(line);
        self.running.insert(client, RunningOperation { process, key, f, value, result: None, is_unknown });
    }

    fn function(&mut self) -> (&'static str, Json) {
        let number = self.shape.values.map_or(self.begun, |values| 1 + self.draw.random_range(0..values));
        match (self.shape.model, self.draw.random_range(0..10)) {
            (_, 0..5) => ("read", Json::Null),
            (ModelName::Register, _) | (ModelName::CasRegister, 5..7) => ("write", json!(number)),
            (ModelName::CasRegister, _) => {
                let values = self.shape.values.unwrap_or(self.begun);
                ("cas", json!([1 + self.draw.random_range(0..values), number]))
            }
            (ModelName::KeyValue, 5) if self.shape.values.is_some() => ("write", json!(format!("{number},"))),
            (ModelName::KeyValue, 6) if self.draw.random_bool(0.2) => ("delete", Json::Null),
            (ModelName::KeyValue, _) => ("append", json!(format!("{number},"))),
        }
    }

    fn effect(&mut self, key: u64, f: &str, value: &Json) -> (Json, Option<bool>) {
        let key = usize::try_from(key).expect("a few keys");
        let held = &mut self.held[key];
        let mut result = None;
        match f {
            "read" => return (held.clone(), None),
            "write" => held.clone_from(value),
            "delete" => *held = Json::Null,
            "append" => {
                *held = Json::from(held.as_str().unwrap_or_default().to_owned() + value.as_str().unwrap_or_default());
            }
            _ => {
                result = Some(*held == value[0]);
                if *held == value[0] {
                    *held = value[1].clone();
                }
            }
        }
        if self.shape.corrupted > 0 {
            let text = self.held[key].to_string();
            self.seen[key].insert(text);
        }
        (value.clone(), result)
    }

    fn end(&mut self, client: u64, running: RunningOperation) {
        let RunningOperation { process, key, f, value, result, is_unknown } = running;
        let key = key.to_string();
        if is_unknown {
            self.lines.push(json!({"process": process, "type": "info", "f": f, "key": key}));
            self.process_of.insert(client, self.processes);
            self.processes += 1;
            return;
        }
        let mut line = json!({"process": process, "type": "ok", "f": f, "key": key});
        if f != "delete" {
            line["value"] = value;
        }
        if let Some(result) = result {
            line["result"] = json!(result);
        }
        self.lines.push(line);
    }

    /// Some reads answer what was there at another time.
    fn corrupt(&mut self) {
        for _ in 0..self.shape.corrupted {
            let is_read = |line: &&mut Json| line["type"] == "ok" && line["f"] == "read";
            let mut reads: Vec<_> = self.lines.iter_mut().filter(is_read).collect();
            if reads.is_empty() {
                return;
            }
            let chosen = self.draw.random_range(0..reads.len());
            let key: usize = reads[chosen]["key"].as_str().and_then(|key| key.parse().ok()).unwrap_or_default();
            let seen = &self.seen[key];
            let other = seen.iter().nth(self.draw.random_range(0..seen.len())).expect("null, at least");
            reads[chosen]["value"] = serde_json::from_str(other).expect("a value");
        }
    }
}
