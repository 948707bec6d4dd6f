//! A line of a data file as a JSON object, and where in it something is wrong.

use serde_json::{Map, Value};

/// What is wrong with a line, and where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LineProblem {
    /// The column in bytes, from 1.
    pub(crate) column: usize,
    pub(crate) problem: String,
    /// Set where the only problem is an id the model has no row for.
    pub(crate) outside_vocabulary: Option<u32>,
}

impl LineProblem {
    pub(crate) fn at_start(problem: String) -> Self {
        Self { column: 1, problem, outside_vocabulary: None }
    }
}

/// One line being read: the text serves to find the column of a key.
pub(super) struct Object<'a> {
    text: &'a str,
    values: Map<String, Value>,
}

impl<'a> Object<'a> {
    /// Parses a line.
    pub(super) fn parse(text: &'a str) -> Result<Self, LineProblem> {
        let value: Value = serde_json::from_str(text).map_err(|error| LineProblem {
            column: error.column().max(1),
            problem: format!("not valid JSON: {}", without_place(&error)),
            outside_vocabulary: None,
        })?;
        match value {
            Value::Object(values) => Ok(Self { text, values }),
            other => {
                let problem = format!("found {}, expected an object, {{..}}", kind(&other));
                Err(LineProblem::at_start(problem))
            }
        }
    }

    /// The row of a table, which has no text.
    #[cfg(feature = "parquet")]
    pub(super) fn from_row(values: Map<String, Value>) -> Self {
        Self { text: "", values }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// The keys as a list for people.
    pub(super) fn found(&self) -> String {
        if self.values.is_empty() {
            return "no key".into();
        }
        self.keys().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
    }

    /// A problem at the place of `key`.
    pub(super) fn at(&self, key: &str, problem: String) -> LineProblem {
        let column = self.text.find(&format!("\"{key}\"")).map_or(1, |at| at + 1);
        LineProblem { column, problem, outside_vocabulary: None }
    }
}

/// What a value is, for people.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// `serde_json` ends its messages with a place inside the line, which we give ourselves.
fn without_place(error: &serde_json::Error) -> String {
    let message = error.to_string();
    message.split(" at line ").next().unwrap_or(&message).to_string()
}
