//! The record of generated rows: JSON lines, one object a row, read and checked one by one.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::error::Error;

/// The version of a trace that this program writes and reads.
pub(super) const VERSION: u64 = 1;

/// A generated row.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct Trace {
    /// The preset or arm that made it.
    pub(super) name: Option<String>,
    pub(super) prompt: Option<String>,
    #[serde(default)]
    pub(super) prompt_ids: Vec<u32>,
    pub(super) text: Option<String>,
    pub(super) token_ids: Vec<u32>,
    pub(super) stop: Option<String>,
    pub(super) expected: Option<String>,
    pub(super) answer: Option<String>,
    pub(super) correct: Option<bool>,
    pub(super) thresholds: Option<Thresholds>,
    pub(super) embedding_norm: Option<NormBand>,
    pub(super) steps: Vec<Step>,
}

/// The entropies at which rules act.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct Thresholds {
    pub(super) cold_stop_nats: Option<f64>,
    pub(super) gate: Option<f64>,
    pub(super) gate_unit: Option<String>,
}

/// The 5th, 50th and 95th percentile of the norms of the model's token embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(super) struct NormBand {
    pub(super) low: f64,
    pub(super) median: f64,
    pub(super) high: f64,
}

/// A token, its text where there is a tokenizer, and a weight or a distance.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Entry(pub(super) u32, pub(super) Option<String>, Option<f64>);

impl Entry {
    /// The weight; a number that was not finite is written as null, and counts as 0.
    pub(super) fn value(&self) -> f64 {
        self.2.unwrap_or(0.0)
    }
}

/// One generated position.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(super) struct Step {
    pub(super) phase: Option<String>,
    pub(super) mode: Option<String>,
    pub(super) token_id: u32,
    pub(super) token: Option<String>,
    pub(super) entropy_nats: Option<f64>,
    pub(super) effective_tokens: Option<f64>,
    top: Option<Vec<Entry>>,
    pub(super) kept_mass: Option<f64>,
    fed: Option<Vec<Entry>>,
    pub(super) nearest: Option<Entry>,
    pub(super) cosine: Option<f64>,
    pub(super) hull_distance: Option<f64>,
    pub(super) norm: Option<f64>,
    pub(super) token_norm: Option<f64>,
    pub(super) event: Option<String>,
}

impl Step {
    /// Whether a mixture was fed back.
    pub(super) fn is_soft(&self) -> bool {
        self.mode.as_deref() == Some("soft")
    }

    /// The weights to show: what was fed where that was recorded, else what was believed.
    pub(super) fn weights(&self) -> &[Entry] {
        self.fed.as_deref().or(self.top.as_deref()).unwrap_or_default()
    }

    /// Whether one token was fed almost alone: it has more than `least` of the weight, and no other
    /// has as much as the rest of 1, which a contrast can give it.
    pub(super) fn is_one_token(&self, least: f64) -> bool {
        let heavy = |entry: &&Entry| entry.value().abs() > 1.0 - least;
        let mut heavy = self.weights().iter().filter(heavy);
        heavy.next().is_some_and(|entry| entry.value() > least) && heavy.next().is_none()
    }

    /// The greatest of them.
    pub(super) fn top_weight(&self) -> Option<f64> {
        self.weights().iter().map(Entry::value).reduce(f64::max)
    }
}

/// The key that is looked at before all others.
#[derive(Deserialize)]
struct Head {
    trace_version: Option<Value>,
}

/// Reads the rows of `path` for which `keep` says so, and counts all.
///
/// # Errors
///
/// [`Error::Data`] with file, line and column if a line is no row of this version, or if there is
/// none.
pub(super) fn read(
    path: &Path,
    mut keep: impl FnMut(&Trace) -> bool,
) -> Result<(Vec<Trace>, usize), Error> {
    let cannot_read = |error: std::io::Error| Error::Data {
        report: format!("cannot read {}: {error}", path.display()),
    };
    let file = BufReader::new(File::open(path).map_err(cannot_read)?);
    let (mut kept, mut count) = (Vec::new(), 0);
    for (number, line) in file.split(b'\n').enumerate() {
        let line = line.map_err(cannot_read)?;
        let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line);
        if line.trim_ascii().is_empty() {
            continue;
        }
        let row = parse(line).map_err(|(column, problem)| Error::Data {
            report: format!("{}:{}:{column}: {problem}", path.display(), number + 1),
        })?;
        count += 1;
        if keep(&row) {
            kept.push(row);
        }
    }
    if count == 0 {
        let report = format!(
            "{}: no rows; expected one JSON object a line, as `soft generate --trace` writes them",
            path.display()
        );
        return Err(Error::Data { report });
    }
    Ok((kept, count))
}

/// A row, or the column at which it is none and why.
fn parse(line: &[u8]) -> Result<Trace, (usize, String)> {
    let head: Head = serde_json::from_slice(line).map_err(|error| broken(&error))?;
    let again = "make the trace again with this program";
    match head.trace_version {
        Some(version) if version.as_u64() == Some(VERSION) => {}
        Some(version) => {
            return Err((1, format!("trace version {version}, expected {VERSION}; {again}")));
        }
        None => {
            return Err((1, format!("no `trace_version`, expected {VERSION}; {again}")));
        }
    }
    serde_json::from_slice(line).map_err(|error| broken(&error))
}

/// The column of an error and its text, without the place, which is that within the line.
pub(super) fn broken(error: &serde_json::Error) -> (usize, String) {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(problem, _)| problem);
    let kind = if error.is_data() { "not as expected" } else { "broken JSON" };
    (error.column().max(1), format!("{kind}: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<(Vec<Trace>, usize), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.jsonl");
        std::fs::write(&path, text).unwrap();
        let shown = path.display().to_string();
        read(&path, |_| true).map_err(|error| error.to_string().replace(&shown, "t.jsonl"))
    }

    #[test]
    fn a_row_needs_few_keys_and_may_have_unknown_ones() {
        let least = r#"{"trace_version": 1, "token_ids": [3], "steps": [{"token_id": 3}], "x": 1}"#;
        let nulls = r#"{"trace_version": 1, "name": null, "prompt": null, "text": null,
            "token_ids": [], "thresholds": null, "embedding_norm": null, "steps": [
            {"token_id": 3, "token": null, "fed": null, "nearest": null, "event": null}]}"#;
        let text = format!("\u{feff}{least}\n\n{}\r\n", nulls.replace('\n', " "));
        let (rows, count) = read_text(&text).unwrap();
        assert_eq!(count, 2);
        assert_eq!(rows[0].steps[0].weights(), []);
        assert_eq!(rows[1].steps[0].top_weight(), None);
    }

    #[test]
    fn what_is_fed_goes_before_what_is_believed() {
        let step =
            r#"{"token_id": 3, "top": [[3, "a", 0.9]], "fed": [[4, null, -0.5], [3, "a", 1.5]]}"#;
        let step: Step = serde_json::from_str(step).unwrap();
        assert_eq!(step.top_weight(), Some(1.5));
        assert_eq!(step.weights()[0], Entry(4, None, Some(-0.5)));
        assert!(!step.is_one_token(0.99), "a contrast is no single token");
    }

    #[test]
    fn another_version_is_named_before_anything_else_is_looked_at() {
        let again = "make the trace again with this program";
        assert_eq!(
            read_text("{\"steps\": 5}\n"),
            Err(format!("t.jsonl:1:1: no `trace_version`, expected 1; {again}"))
        );
        assert_eq!(
            read_text("{\"trace_version\": 2}\n"),
            Err(format!("t.jsonl:1:1: trace version 2, expected 1; {again}"))
        );
    }

    #[test]
    fn broken_lines_are_placed_by_line_and_column() {
        let good = r#"{"trace_version": 1, "token_ids": [], "steps": []}"#;
        let problem = |line: &str| read_text(&format!("{good}\n{line}\n")).unwrap_err();
        assert_eq!(
            problem(r#"{"trace_version": 1, }"#),
            "t.jsonl:2:22: broken JSON: trailing comma"
        );
        assert_eq!(
            problem(r#"{"trace_version": 1, "token_ids": "x"}"#),
            "t.jsonl:2:37: not as expected: invalid type: string \"x\", expected a sequence"
        );
        assert_eq!(
            problem(r#"{"trace_version": 1, "token_ids": []}"#),
            "t.jsonl:2:37: not as expected: missing field `steps`"
        );
        assert!(problem("[1]").starts_with("t.jsonl:2:"), "{}", problem("[1]"));
    }

    #[test]
    fn a_file_without_rows_is_refused() {
        for text in ["", "\n \n"] {
            let error = read_text(text).unwrap_err();
            assert!(error.starts_with("t.jsonl: no rows; expected one JSON object"), "{error}");
        }
    }
}
