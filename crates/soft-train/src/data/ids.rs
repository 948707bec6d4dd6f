//! `data.format = "ids"`: one example a line, as token ids.
//!
//! ```text
//! {"ids": [1, 7, 8, 3, 9], "soft": [0, 0, 1, 0, 0], "weight": [0, 0, 1, 1, 1],
//!  "truth": [null, 7, [[8, 0.5], [9, 0.5]], 3, 9]}
//! ```
//! on one line. Only `ids` is needed. Without `soft` every input is hard. Without `truth` the truth
//! of a position is its id. Without `weight` every position that has a truth is scored, except
//! position 0, which nothing predicts (a weight given for it is ignored).

use serde_json::Value;

use super::object::{LineProblem, Object, kind};
use crate::example::{Example, Truth};

const KEYS: [&str; 4] = ["ids", "soft", "weight", "truth"];

/// The example of a line.
pub(super) fn example(object: &Object<'_>) -> Result<Example, LineProblem> {
    check_keys(object)?;
    let input_ids = list(object, "ids", token_id)?.unwrap_or_default();
    let len = input_ids.len();
    let soft = list(object, "soft", zero_or_one)?.unwrap_or_else(|| vec![false; len]);
    let truth = list(object, "truth", truth)?
        .unwrap_or_else(|| input_ids.iter().map(|&id| Truth::Token(id)).collect());
    let mut weight = list(object, "weight", number)?.unwrap_or_else(|| {
        truth.iter().map(|truth| if *truth == Truth::None { 0.0 } else { 1.0 }).collect()
    });
    if let Some(first) = weight.first_mut() {
        *first = 0.0;
    }
    let example = Example { input_ids, soft, weight, truth, answer_from: None };
    example.check_structure().map_err(|problem| problem_in(object, problem))?;
    Ok(example)
}

fn check_keys(object: &Object<'_>) -> Result<(), LineProblem> {
    if !object.has("ids") {
        let mut problem = format!("the key `ids` is missing; found {}", object.found());
        if ["text", "messages", "prompt", "question"].iter().any(|key| object.has(key)) {
            problem.push_str(
                "; this looks like text, `data.format = \"ids\"` reads token ids: `task.name` \
                 \"text\" reads text",
            );
        }
        return Err(LineProblem::at_start(problem));
    }
    match object.keys().find(|key| !KEYS.contains(key)) {
        Some(key) => {
            Err(object.at(key, format!("unknown key `{key}`, expected {}", KEYS.join(", "))))
        }
        None => Ok(()),
    }
}

/// The list under `key`, each element read by `element`, which names what it expects.
fn list<T>(
    object: &Object<'_>,
    key: &str,
    element: impl Fn(&Value) -> Result<T, &'static str>,
) -> Result<Option<Vec<T>>, LineProblem> {
    let Some(value) = object.get(key) else { return Ok(None) };
    let Value::Array(items) = value else {
        return Err(object.at(key, format!("`{key}` is {}, expected a list", kind(value))));
    };
    let read = |(t, item)| {
        element(item).map_err(|expected| {
            let shown: String = item.to_string().chars().take(40).collect();
            object.at(key, format!("{key}[{t}] is {shown}, expected {expected}"))
        })
    };
    items.iter().enumerate().map(read).collect::<Result<_, _>>().map(Some)
}

/// A structural problem, placed at the key it names (`weight[3] is ..`, `` `soft` has .. ``).
fn problem_in(object: &Object<'_>, problem: String) -> LineProblem {
    let named = problem.trim_start_matches('`');
    let key = KEYS.into_iter().find(|key| named.starts_with(key)).unwrap_or("ids");
    object.at(key, problem)
}

fn token_id(value: &Value) -> Result<u32, &'static str> {
    let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
    id.ok_or("a token id: a whole number from 0")
}

fn zero_or_one(value: &Value) -> Result<bool, &'static str> {
    match (value, value.as_u64()) {
        (Value::Bool(soft), _) => Ok(*soft),
        (_, Some(number @ 0..=1)) => Ok(number == 1),
        _ => Err("0 or 1"),
    }
}

fn number(value: &Value) -> Result<f32, &'static str> {
    value.as_f64().map(|number| number as f32).ok_or("a number")
}

fn truth(value: &Value) -> Result<Truth, &'static str> {
    const EXPECTED: &str = "null, a token id, or a list of [id, probability]";
    match value {
        Value::Null => Ok(Truth::None),
        Value::Number(_) => token_id(value).map(Truth::Token),
        Value::Array(pairs) => pairs
            .iter()
            .map(|pair| match pair.as_array().map(Vec::as_slice) {
                Some([id, p]) => Ok((token_id(id)?, number(p)?)),
                _ => Err(EXPECTED),
            })
            .collect::<Result<_, _>>()
            .map(Truth::Soft),
        _ => Err(EXPECTED),
    }
}

#[cfg(test)]
mod tests;
