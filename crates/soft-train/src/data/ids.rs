//! `data.format = "ids"`: one example a line, as token ids.
//!
//! ```text
//! {"ids": [1, 7, 8, 3, 9], "soft": [0, 0, 1, 0, 0], "weight": [0, 0, 1, 1, 1],
//!  "truth": [null, 7, [[8, 0.5], [9, 0.5]], 3, 9]}
//! ```
//! on one line. Only `ids` is needed. Without `soft` every input is hard. Without `truth` the truth
//! of a position is its id. Without `weight` every position that has a truth is scored, except
//! position 0, which nothing predicts (a weight given for it is ignored).

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::lines::{Lines, MAX_LINE_BYTES};
use crate::error::Error;
use crate::example::{Example, Truth};

const KEYS: [&str; 4] = ["ids", "soft", "weight", "truth"];
/// Bad lines shown in full; the others are only counted.
const SHOWN: usize = 5;

/// What an example must fit into; `None` is no limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// Rows of the model's embedding; ids must be below.
    pub vocab_size: Option<usize>,
    /// Positions the model has; examples may not be longer.
    pub context: Option<usize>,
}

/// A line that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// The line number, from 1.
    pub line: u64,
    /// The column in bytes, from 1.
    pub column: usize,
    /// What was found and what was expected.
    pub problem: String,
    /// Set where the only problem is an id the model has no row for.
    pub outside_vocabulary: Option<u32>,
}

/// Everything a file holds: the good examples and the bad lines.
#[derive(Debug, Clone, Default)]
pub struct Scan {
    /// The file.
    pub path: PathBuf,
    /// Examples of the good lines, in order.
    pub examples: Vec<Example>,
    /// The first few bad lines.
    pub bad: Vec<BadLine>,
    /// How many bad lines there are in all.
    pub bad_count: usize,
    /// How many of them are good but for an id outside the vocabulary.
    pub outside_count: usize,
    /// Empty lines, which are passed over.
    pub blank_count: usize,
}

/// Reads every example of the files at `paths`, in order.
///
/// # Errors
///
/// [`Error::Data`] if a file cannot be read, has a bad line (all are counted, the first five
/// shown with file, line and column) or holds no example; [`Error::Config`] if no file is named;
/// [`Error::TokenOutsideVocabulary`] if the only bad lines are ids outside the vocabulary.
pub fn read_ids(paths: &[PathBuf], limits: Limits) -> Result<Vec<Example>, Error> {
    let mut examples = Vec::new();
    for path in paths {
        let scan = scan_ids(path, limits)?;
        scan.check(limits)?;
        examples.extend(scan.examples);
    }
    if examples.is_empty() {
        return Err(Error::Config { report: "no data file is named: set `data.train`".into() });
    }
    Ok(examples)
}

/// Reads the file at `path`, keeping the bad lines apart; `soft data check` shows the result.
///
/// # Errors
///
/// [`Error::Data`] if the file cannot be opened or read at all.
pub fn scan_ids(path: &Path, limits: Limits) -> Result<Scan, Error> {
    let unreadable = |error: std::io::Error| Error::Data {
        report: format!("cannot read data file {}: {error}", path.display()),
    };
    let file = File::open(path).map_err(unreadable)?;
    let mut lines = Lines::new(BufReader::new(file), MAX_LINE_BYTES);
    let mut scan = Scan { path: path.to_path_buf(), ..Scan::default() };
    while let Some((line, text)) = lines.next_line().map_err(unreadable)? {
        let parsed = match text {
            Ok(text) if text.trim().is_empty() => {
                scan.blank_count += 1;
                continue;
            }
            Ok(text) => parse_line(&text, limits),
            Err((column, problem)) => Err(Problem { column, problem, outside_vocabulary: None }),
        };
        match parsed {
            Ok(example) => scan.examples.push(example),
            Err(problem) => scan.add_bad(line, problem),
        }
    }
    Ok(scan)
}

impl Scan {
    fn add_bad(&mut self, line: u64, found: Problem) {
        self.bad_count += 1;
        self.outside_count += usize::from(found.outside_vocabulary.is_some());
        if self.bad.len() < SHOWN {
            let Problem { column, problem, outside_vocabulary } = found;
            self.bad.push(BadLine { line, column, problem, outside_vocabulary });
        }
    }

    /// The bad lines as text, `file:line:column: problem` each, then how many more there are.
    pub fn bad_report(&self) -> String {
        let mut report: Vec<String> = self
            .bad
            .iter()
            .map(|bad| {
                format!("{}:{}:{}: {}", self.path.display(), bad.line, bad.column, bad.problem)
            })
            .collect();
        if self.bad_count > self.bad.len() {
            report.push(format!("and {} more bad lines", self.bad_count - self.bad.len()));
        }
        report.join("\n")
    }

    fn check(&self, limits: Limits) -> Result<(), Error> {
        if self.bad_count == 0 {
            if self.examples.is_empty() {
                let report =
                    format!("{}: no examples, expected at least one line", self.path.display());
                return Err(Error::Data { report });
            }
            return Ok(());
        }
        let only_vocabulary = self.outside_count == self.bad_count;
        if let (true, Some(vocab_size), [first, ..]) =
            (only_vocabulary, limits.vocab_size, &self.bad[..])
        {
            let place = format!("{}:{}:{}", self.path.display(), first.line, first.column);
            let id = first.outside_vocabulary.unwrap_or(u32::MAX);
            return Err(Error::TokenOutsideVocabulary { place, id, vocab_size });
        }
        let total = self.examples.len() + self.bad_count;
        let head = format!("{} of {total} lines cannot be used:", self.bad_count);
        Err(Error::Data { report: format!("{head}\n{}", self.bad_report()) })
    }
}

/// What is wrong with a line, and where in it.
struct Problem {
    column: usize,
    problem: String,
    outside_vocabulary: Option<u32>,
}

/// One line being read: the text serves to find the column of a key.
struct Fields<'a> {
    text: &'a str,
    values: &'a Map<String, Value>,
}

fn parse_line(text: &str, limits: Limits) -> Result<Example, Problem> {
    let value: Value = serde_json::from_str(text).map_err(|error| Problem {
        column: error.column().max(1),
        problem: format!("not valid JSON: {}", without_place(&error)),
        outside_vocabulary: None,
    })?;
    let Value::Object(values) = &value else {
        return Err(Problem {
            column: 1,
            problem: format!("found {}, expected an object with the key `ids`", kind(&value)),
            outside_vocabulary: None,
        });
    };
    let fields = Fields { text, values };
    let example = fields.example()?;
    example.check_structure().map_err(|problem| fields.problem_in(problem))?;
    fields.check_limits(&example, limits)?;
    Ok(example)
}

impl Fields<'_> {
    fn example(&self) -> Result<Example, Problem> {
        self.check_keys()?;
        let input_ids = self.list("ids", token_id)?.unwrap_or_default();
        let len = input_ids.len();
        let soft = self.list("soft", zero_or_one)?.unwrap_or_else(|| vec![false; len]);
        let truth = self
            .list("truth", truth)?
            .unwrap_or_else(|| input_ids.iter().map(|&id| Truth::Token(id)).collect());
        let mut weight = self.list("weight", number)?.unwrap_or_else(|| {
            truth.iter().map(|truth| if *truth == Truth::None { 0.0 } else { 1.0 }).collect()
        });
        if let Some(first) = weight.first_mut() {
            *first = 0.0;
        }
        Ok(Example { input_ids, soft, weight, truth })
    }

    fn check_keys(&self) -> Result<(), Problem> {
        let found =
            || self.values.keys().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        if !self.values.contains_key("ids") {
            let mut problem = format!("the key `ids` is missing; found {}", found());
            if ["text", "messages", "prompt", "question"]
                .iter()
                .any(|key| self.values.contains_key(*key))
            {
                problem.push_str("; this looks like text, `data.format = \"ids\"` reads token ids");
            }
            return Err(Problem { column: 1, problem, outside_vocabulary: None });
        }
        match self.values.keys().find(|key| !KEYS.contains(&key.as_str())) {
            Some(key) => {
                Err(self.at(key, format!("unknown key `{key}`, expected {}", KEYS.join(", "))))
            }
            None => Ok(()),
        }
    }

    /// The list under `key`, each element read by `element`, which names what it expects.
    fn list<T>(
        &self,
        key: &str,
        element: impl Fn(&Value) -> Result<T, &'static str>,
    ) -> Result<Option<Vec<T>>, Problem> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        let Value::Array(items) = value else {
            return Err(self.at(key, format!("`{key}` is {}, expected a list", kind(value))));
        };
        let read = |(t, item)| {
            element(item).map_err(|expected| {
                let shown: String = item.to_string().chars().take(40).collect();
                self.at(key, format!("{key}[{t}] is {shown}, expected {expected}"))
            })
        };
        items.iter().enumerate().map(read).collect::<Result<_, _>>().map(Some)
    }

    fn check_limits(&self, example: &Example, limits: Limits) -> Result<(), Problem> {
        if let Some(context) = limits.context.filter(|&context| example.len() > context) {
            let len = example.len();
            return Err(self
                .at("ids", format!("{len} positions, expected at most the context of {context}")));
        }
        let Some(vocab_size) = limits.vocab_size else { return Ok(()) };
        match example.validate(vocab_size, "line") {
            Err(Error::TokenOutsideVocabulary { id, .. }) => {
                let problem =
                    format!("token id {id} is outside the vocabulary of {vocab_size} tokens");
                Err(Problem { outside_vocabulary: Some(id), ..self.at("ids", problem) })
            }
            _ => Ok(()),
        }
    }

    /// A structural problem, placed at the key it names (`weight[3] is ..`, `` `soft` has .. ``).
    fn problem_in(&self, problem: String) -> Problem {
        let named = problem.trim_start_matches('`');
        let key = KEYS.into_iter().find(|key| named.starts_with(key)).unwrap_or("ids");
        self.at(key, problem)
    }

    fn at(&self, key: &str, problem: String) -> Problem {
        let column = self.text.find(&format!("\"{key}\"")).map_or(1, |at| at + 1);
        Problem { column, problem, outside_vocabulary: None }
    }
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

fn kind(value: &Value) -> &'static str {
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

#[cfg(test)]
mod tests;
