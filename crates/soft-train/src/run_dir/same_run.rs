//! Whether a run may go on under a configuration that differs from the one it began with.

use std::collections::BTreeMap;

use toml::{Table, Value};

use crate::error::Error;

/// Keys (or whole sections) that may differ: they change how long a run goes on and what is kept
/// of it, not what it computes.
const FREE: [&str; 33] = [
    "run.name",
    "run.dir",
    "run.device",
    "run.memory_check",
    "save",
    "log",
    "eval.every",
    "eval.limit",
    "eval.text",
    "eval.text_tokens",
    "eval.data",
    "eval.compare",
    "eval.baseline",
    "eval.budget",
    "eval.seeds",
    "eval.extract",
    "eval.pattern",
    "eval.suffix",
    "eval.controls",
    "eval.controlled",
    "eval.pause",
    "eval.batch",
    "eval.traces",
    "generate",
    "soft.cold_stop",
    "soft.cold_stop_entropy",
    "soft.cold_stop_length",
    "soft.repetition_penalty",
    "think",
    "answer",
    "gate",
    "search",
    "train.steps",
];

/// The same of an evaluation: where it lies and runs, and how many rows it runs at once.
const FREE_IN_EVALUATION: [&str; 7] =
    ["run.name", "run.dir", "run.device", "run.memory_check", "eval.batch", "log", "save"];

/// Compares the configuration a run began with to the one it is to go on under, both as resolved
/// TOML. The free keys are `run.{name,dir,device,memory_check}`, `train.steps`, `eval.{every,limit}`,
/// `soft.cold_stop` with its two numbers, the keys of `soft eval`, and the sections `save`, `log`,
/// `generate`, `think`, `gate`, `search` and `answer`. The arms are not: the first lies in the run
/// directory itself, and another first one would go on from its checkpoints.
///
/// # Errors
///
/// [`Error::Config`] listing every other key that differs, with both values, or if either text is
/// not TOML.
pub fn check_same_run(began: &str, now: &str) -> Result<(), Error> {
    check(began, now, &FREE)
}

/// [`check_same_run`] of an evaluation, whose free keys are `run.{name,dir,device}`, `eval.batch`
/// and the sections `log` and `save`.
///
/// # Errors
///
/// Those of [`check_same_run`].
pub fn check_same_evaluation(began: &str, now: &str) -> Result<(), Error> {
    check(began, now, &FREE_IN_EVALUATION)
}

fn check(began: &str, now: &str, free: &[&str]) -> Result<(), Error> {
    let (began, now) = (flat(began)?, flat(now)?);
    let mut keys: Vec<&String> = began.keys().chain(now.keys()).collect();
    keys.sort();
    keys.dedup();
    let differences: Vec<String> = keys
        .into_iter()
        .filter(|key| began.get(*key) != now.get(*key) && !is_free(key, free))
        .map(|key| format!("  `{key}` was {}, is {}", shown(began.get(key)), shown(now.get(key))))
        .collect();
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::Config {
        report: format!(
            "the run cannot continue under a changed configuration; set these back, or start a new \
             run under another `run.name`:\n{}",
            differences.join("\n")
        ),
    })
}

fn is_free(key: &str, free: &[&str]) -> bool {
    free.iter().any(|free| {
        key.strip_prefix(free).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// Dotted key to value, for every value that is not itself a table.
fn flat(text: &str) -> Result<BTreeMap<String, Value>, Error> {
    let table: Table = text.parse().map_err(|error| Error::Config {
        report: format!("the configuration of the run is not valid TOML: {error}"),
    })?;
    let mut values = BTreeMap::new();
    collect(String::new(), Value::Table(table), &mut values);
    Ok(values)
}

fn collect(key: String, value: Value, into: &mut BTreeMap<String, Value>) {
    let Value::Table(table) = value else {
        into.insert(key, value);
        return;
    };
    for (name, value) in table {
        let key = if key.is_empty() { name } else { format!("{key}.{name}") };
        collect(key, value, into);
    }
}

fn shown(value: Option<&Value>) -> String {
    value.map_or("not set".into(), Value::to_string)
}
