//! Whether a run may go on under a configuration that differs from the one it began with.

use std::collections::BTreeMap;

use toml::{Table, Value};

use crate::error::Error;

/// Keys (or whole sections) that may differ: they change how long a run goes on and what is kept
/// of it, not what it computes.
const FREE: [&str; 36] = [
    "run.name",
    "run.dir",
    "run.device",
    "run.memory_check",
    "save",
    "log",
    "guard",
    "early_stop",
    "eval.every",
    "eval.limit",
    "eval.metric",
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

/// Keys (or whole sections) that say what a checkpoint holds, and where it lies: no run can go on
/// under others.
const FIXED: [&str; 15] = [
    "model.path",
    "model.adapter",
    "model.family",
    "model.n_layers",
    "model.n_heads",
    "model.d_model",
    "model.new_tokens",
    "low_rank",
    "prefix",
    "prompt",
    "adapter",
    "task",
    "learnable.settings",
    "train.only",
    "eval.arms",
];

/// The same of an evaluation: where it lies and runs, and how many rows it runs at once.
const FREE_IN_EVALUATION: [&str; 7] =
    ["run.name", "run.dir", "run.device", "run.memory_check", "eval.batch", "log", "save"];

/// Compares the configuration a run began with to the one it is to go on under, both as resolved
/// TOML. The free keys are `run.{name,dir,device,memory_check}`, `train.steps`, `eval.{every,limit,metric}`,
/// `soft.cold_stop` with its two numbers, the keys of `soft eval`, and the sections `save`, `log`,
/// `guard`, `early_stop`, `generate`, `think`, `gate`, `search` and `answer`. The arms are not: the
/// first lies in the run directory itself, and another first one would go on from its checkpoints.
///
/// With `anyway` others may differ too, and are returned, one a line; but for those that a
/// checkpoint decides: the model and what is added to it, the task, the arms, and what is trained.
///
/// # Errors
///
/// [`Error::Config`] listing every other key that differs, with both values, or if either text is
/// not TOML.
pub fn check_same_run(began: &str, now: &str, anyway: bool) -> Result<Vec<String>, Error> {
    let (began, now) = (flat(began)?, flat(now)?);
    let (fixed, others) = differences(&began, &now, &FREE)
        .into_iter()
        .partition::<Vec<_>, _>(|key| is_in(key, &FIXED));
    let shown = |keys: &[String]| -> Vec<String> {
        keys.iter().map(|key| difference(key, &began, &now)).collect()
    };
    if anyway && fixed.is_empty() {
        return Ok(shown(&others));
    }
    let mut parts = Vec::new();
    if !others.is_empty() && !anyway {
        parts.push(format!(
            "the run cannot continue under a changed configuration; set these back, go on all the \
             same with `--resume-anyway`, or start a new run under another `run.name`:\n{}",
            shown(&others).join("\n")
        ));
    }
    if !fixed.is_empty() {
        parts.push(format!(
            "the run cannot continue with another model, task or choice of what is trained, not even \
             with `--resume-anyway`, for its checkpoints hold them; set these back, or start a new \
             run under another `run.name`:\n{}",
            shown(&fixed).join("\n")
        ));
    }
    if parts.is_empty() { Ok(Vec::new()) } else { Err(Error::Config { report: parts.join("\n") }) }
}

/// The same of an evaluation, whose free keys are `run.{name,dir,device}`, `eval.batch` and the
/// sections `log` and `save`.
///
/// # Errors
///
/// Those of [`check_same_run`].
pub fn check_same_evaluation(began: &str, now: &str) -> Result<(), Error> {
    let (began, now) = (flat(began)?, flat(now)?);
    let keys = differences(&began, &now, &FREE_IN_EVALUATION);
    if keys.is_empty() {
        return Ok(());
    }
    let shown: Vec<String> = keys.iter().map(|key| difference(key, &began, &now)).collect();
    Err(Error::Config {
        report: format!(
            "the run cannot continue under a changed configuration; set these back, or start a new \
             run under another `run.name`:\n{}",
            shown.join("\n")
        ),
    })
}

type Values = BTreeMap<String, Value>;

/// The keys outside `free` that differ.
fn differences(began: &Values, now: &Values, free: &[&str]) -> Vec<String> {
    let mut keys: Vec<&String> = began.keys().chain(now.keys()).collect();
    keys.sort();
    keys.dedup();
    keys.retain(|key| began.get(*key) != now.get(*key) && !is_in(key, free));
    keys.into_iter().cloned().collect()
}

fn difference(key: &str, began: &Values, now: &Values) -> String {
    format!("  `{key}` was {}, is {}", shown(began.get(key)), shown(now.get(key)))
}

fn is_in(key: &str, keys: &[&str]) -> bool {
    keys.iter().any(|known| {
        key.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// Dotted key to value, for every value that is not itself a table.
fn flat(text: &str) -> Result<Values, Error> {
    let table: Table = text.parse().map_err(|error| Error::Config {
        report: format!("the configuration of the run is not valid TOML: {error}"),
    })?;
    let mut values = BTreeMap::new();
    collect(String::new(), Value::Table(table), &mut values);
    Ok(values)
}

fn collect(key: String, value: Value, into: &mut Values) {
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
