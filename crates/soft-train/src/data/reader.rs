//! Reads the files of a configuration into examples.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::ids;
use super::lines::{Lines, MAX_LINE_BYTES};
use super::object::{LineProblem, Object};
use super::record::{Record, expected_keys, format_of, keys_of};
use super::scan::{Limits, Scan};
use super::text::TextEncoder;
use crate::config::{BadLines, Data, DataFormat, TaskName, TooLong};
use crate::error::Error;
use crate::example::Example;

/// How data files are read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reader<'a> {
    /// What a line holds; "auto" is found for each file by its first good line.
    pub format: DataFormat,
    /// What examples must fit into.
    pub limits: Limits,
    /// What is done with those that are too long.
    pub long: TooLong,
    /// What is done where a line cannot be used.
    pub bad_lines: BadLines,
    /// Makes examples of text; without it only token ids can be read.
    pub encoder: Option<&'a TextEncoder<'a>>,
}

impl<'a> Reader<'a> {
    /// A reader by the keys `data.*` for a task, whose limits are those of a model.
    pub fn new(
        data: &Data,
        task: TaskName,
        limits: Limits,
        encoder: Option<&'a TextEncoder<'a>>,
    ) -> Self {
        let format = match (task, data.format) {
            (TaskName::Ids, DataFormat::Auto) => DataFormat::Ids,
            (_, format) => format,
        };
        let context = match (data.max_len, limits.context) {
            (0, context) => context,
            (most, context) => Some(context.map_or(most, |context| context.min(most))),
        };
        let limits = Limits { context, ..limits };
        Self { format, limits, long: data.long, bad_lines: data.bad_lines, encoder }
    }

    /// Reads every example of the files at `paths`, in order, with what is to be said about each
    /// file.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] if a file cannot be read, has a bad line (all are counted, the first five
    /// shown with file, line and column) that is not to be skipped, or holds no example;
    /// [`Error::Config`] if no file is named, or if text comes without an encoder;
    /// [`Error::TokenOutsideVocabulary`] if the only bad lines are ids outside the vocabulary.
    pub fn read(&self, paths: &[PathBuf]) -> Result<(Vec<Example>, Vec<String>), Error> {
        let (mut examples, mut remarks) = (Vec::new(), Vec::new());
        for path in paths {
            let scan = self.scan(path)?;
            scan.check(self.limits, self.bad_lines)?;
            if self.format == DataFormat::Auto {
                remarks.push(format!("{}: format \"{}\"", path.display(), scan.format));
            }
            remarks.extend(scan.remarks());
            examples.extend(scan.examples);
        }
        if examples.is_empty() {
            return Err(Error::Config { report: "no data file is named: set `data.train`".into() });
        }
        Ok((examples, remarks))
    }

    /// Reads the file at `path`, keeping the bad lines apart; `soft data check` shows the result.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] if the file cannot be opened or read at all; what its format needs and is
    /// not there.
    pub fn scan(&self, path: &Path) -> Result<Scan, Error> {
        if path.extension().is_some_and(|extension| extension == "parquet") {
            return self.scan_parquet(path);
        }
        let unreadable = |error: std::io::Error| Error::Data {
            report: format!("cannot read data file {}: {error}", path.display()),
        };
        let file = File::open(path).map_err(unreadable)?;
        let mut lines = Lines::new(BufReader::new(file), MAX_LINE_BYTES);
        let mut scan = Scan::new(path, self.format);
        while let Some((line, text)) = lines.next_line().map_err(unreadable)? {
            let (column, read) = match text {
                Ok(text) if text.trim().is_empty() => {
                    scan.blank_count += 1;
                    continue;
                }
                Ok(text) => match Object::parse(&text) {
                    Ok(object) => self.example_of(&object, &mut scan.format)?,
                    Err(problem) => (problem.column, Err(problem)),
                },
                Err((column, problem)) => {
                    (1, Err(LineProblem { column, ..LineProblem::at_start(problem) }))
                }
            };
            scan.add(line, column, read, self.limits, self.long);
        }
        Ok(scan)
    }

    /// The example of an object, and the column of what it is made from. The first good one with
    /// the keys of a format settles `format`.
    pub(super) fn example_of(
        &self,
        object: &Object<'_>,
        format: &mut DataFormat,
    ) -> Result<(usize, Result<Example, LineProblem>), Error> {
        let found = match *format {
            DataFormat::Auto => format_of(|key| object.has(key)),
            named => Some(named),
        };
        let Some(found) = found else {
            let problem = format!(
                "no key of a known format: found {}, expected {}",
                object.found(),
                expected_keys()
            );
            return Ok((1, Err(LineProblem::at_start(problem))));
        };
        let key = keys_of(found)[0];
        let read = if found == DataFormat::Ids {
            ids::example(object)
        } else {
            let encoder = self.encoder_for(found)?;
            Record::from_object(object, found).and_then(|record| {
                encoder.encode(&record).map_err(|problem| object.at(key, problem))
            })
        };
        if read.is_ok() {
            *format = found;
        }
        Ok((object.at(key, String::new()).column, read))
    }

    /// The encoder, where `format` can be encoded.
    pub(super) fn encoder_for(&self, format: DataFormat) -> Result<&'a TextEncoder<'a>, Error> {
        let encoder = self.encoder.ok_or_else(|| Error::Config {
            report: format!(
                "data of the format \"{format}\" is text, which needs a tokenizer: name a model with \
                 `model.path` (`--model`), and train on it with `task.name` \"text\""
            ),
        })?;
        encoder.check_format(format)?;
        Ok(encoder)
    }

    #[cfg(not(feature = "parquet"))]
    #[expect(clippy::unused_self, reason = "it reads the file where the feature is on")]
    fn scan_parquet(&self, path: &Path) -> Result<Scan, Error> {
        Err(Error::Data {
            report: format!(
                "{} is a Parquet file, which this program was built without: build it with \
                 `--features parquet`, or write the file as JSON lines",
                path.display()
            ),
        })
    }
}

/// Reads every example of files of token ids.
///
/// # Errors
/// Those of [`Reader::read`].
pub fn read_ids(paths: &[PathBuf], limits: Limits) -> Result<Vec<Example>, Error> {
    let reader = Reader { format: DataFormat::Ids, limits, ..Reader::default() };
    reader.read(paths).map(|(examples, _)| examples)
}

/// Reads a file of token ids, keeping the bad lines apart.
///
/// # Errors
/// Those of [`Reader::scan`].
pub fn scan_ids(path: &Path, limits: Limits) -> Result<Scan, Error> {
    Reader { format: DataFormat::Ids, limits, ..Reader::default() }.scan(path)
}
