//! What a data file holds: the examples of its good lines, and its bad lines.

use std::path::{Path, PathBuf};

use super::object::LineProblem;
use crate::config::{BadLines, DataFormat, TooLong};
use crate::error::Error;
use crate::example::Example;

/// Bad lines that are shown; the others are only counted.
const SHOWN: usize = 5;
/// Bytes of the longest description of what is wrong with a line, which may repeat its keys.
const MAX_PROBLEM: usize = 500;

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
    /// The format its lines were read in; "auto" where there was no good line to find it by.
    pub format: DataFormat,
    /// Examples of the good lines, in order.
    pub examples: Vec<Example>,
    /// The line of each example, from 1.
    pub lines: Vec<u64>,
    /// The first few bad lines.
    pub bad: Vec<BadLine>,
    /// How many bad lines there are in all.
    pub bad_count: usize,
    /// How many of them are good but for an id outside the vocabulary.
    pub outside_count: usize,
    /// Empty lines, which are passed over.
    pub blank_count: usize,
    /// Examples that are too long and were left out.
    pub dropped_count: usize,
    /// Examples that are too long and were cut.
    pub truncated_count: usize,
}

impl Scan {
    pub(super) fn new(path: &Path, format: DataFormat) -> Self {
        Self { path: path.to_path_buf(), format, ..Self::default() }
    }

    /// Takes an example, made from what stands in `column`, or what is wrong with its line.
    pub(super) fn add(
        &mut self,
        line: u64,
        column: usize,
        read: Result<Example, LineProblem>,
        limits: Limits,
        long: TooLong,
    ) {
        let fitted = read.and_then(|example| {
            let fitted = self.fitted(example, limits, long);
            fitted.map_err(|problem| LineProblem { column, ..problem })
        });
        match fitted {
            Ok(Some(example)) => {
                self.examples.push(example);
                self.lines.push(line);
            }
            Ok(None) => self.dropped_count += 1,
            Err(problem) => self.add_bad(line, problem),
        }
    }

    /// The example as it fits the limits; none where it is dropped.
    fn fitted(
        &mut self,
        mut example: Example,
        limits: Limits,
        long: TooLong,
    ) -> Result<Option<Example>, LineProblem> {
        let len = example.len();
        if let Some(most) = limits.context.filter(|&most| len > most) {
            match long {
                TooLong::Error => {
                    return Err(LineProblem::at_start(format!(
                        "{len} positions, expected at most {most}; `data.long` \"truncate\" or \
                         \"drop\" shortens it or leaves it out"
                    )));
                }
                TooLong::Drop => return Ok(None),
                TooLong::Truncate => {
                    example.truncate(most);
                    if example.scored_len() == 0 {
                        return Ok(None);
                    }
                    self.truncated_count += 1;
                }
            }
        }
        let Some(vocab_size) = limits.vocab_size else { return Ok(Some(example)) };
        match example.validate(vocab_size, "line") {
            Err(Error::TokenOutsideVocabulary { id, .. }) => Err(LineProblem {
                column: 1,
                problem: format!("token id {id} is outside the vocabulary of {vocab_size} tokens"),
                outside_vocabulary: Some(id),
            }),
            _ => Ok(Some(example)),
        }
    }

    fn add_bad(&mut self, line: u64, found: LineProblem) {
        self.bad_count += 1;
        self.outside_count += usize::from(found.outside_vocabulary.is_some());
        if self.bad.len() < SHOWN {
            let LineProblem { column, problem, outside_vocabulary } = found;
            let problem = soft_model::shortened(problem, MAX_PROBLEM);
            self.bad.push(BadLine { line, column, problem, outside_vocabulary });
        }
    }

    /// Lines that are not blank.
    pub fn line_count(&self) -> usize {
        self.examples.len() + self.dropped_count + self.bad_count
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

    /// What was left out or cut, a sentence each, for people; nothing where all is as it was.
    pub fn remarks(&self) -> Vec<String> {
        let path = self.path.display();
        let mut remarks = Vec::new();
        if self.bad_count > 0 {
            remarks.push(format!(
                "{path}: {} of {} lines cannot be used and are skipped:\n{}",
                self.bad_count,
                self.line_count(),
                self.bad_report()
            ));
        }
        if self.dropped_count > 0 {
            remarks.push(format!("{path}: {} examples are too long: dropped", self.dropped_count));
        }
        if self.truncated_count > 0 {
            remarks.push(format!("{path}: {} examples are too long: cut", self.truncated_count));
        }
        remarks
    }

    /// Whether the file can be trained on.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] where there is a bad line (unless those are skipped) or no example;
    /// [`Error::TokenOutsideVocabulary`] where the only bad lines are ids outside the vocabulary.
    pub fn check(&self, limits: Limits, bad_lines: BadLines) -> Result<(), Error> {
        let is_bad = self.bad_count > 0 && (bad_lines == BadLines::Error || self.is_empty());
        if !is_bad {
            return if self.examples.is_empty() { Err(self.no_examples()) } else { Ok(()) };
        }
        let only_vocabulary = self.outside_count == self.bad_count;
        if let (true, Some(vocab_size), [first, ..]) =
            (only_vocabulary, limits.vocab_size, &self.bad[..])
        {
            let place = format!("{}:{}:{}", self.path.display(), first.line, first.column);
            let id = first.outside_vocabulary.unwrap_or(u32::MAX);
            return Err(Error::TokenOutsideVocabulary { place, id, vocab_size });
        }
        let head = format!("{} of {} lines cannot be used:", self.bad_count, self.line_count());
        Err(Error::Data { report: format!("{head}\n{}", self.bad_report()) })
    }

    fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }

    fn no_examples(&self) -> Error {
        let path = self.path.display();
        let report = match self.dropped_count {
            0 => format!("{path}: no examples, expected at least one line"),
            dropped => format!(
                "{path}: all {dropped} examples are too long and were dropped; raise \
                 `data.max_len` or take a model with a longer context"
            ),
        };
        Error::Data { report }
    }
}
