//! One page about a trace or a run: a single file that needs no network and no script.
//!
//! ```text
//! trace.rs   rows of JSON lines, checked        verdict.rs   a row in a few figures
//! run.rs     the files of a run directory       row.rs       a row: text, belief.rs, plots, values
//! markup.rs  escaping, labels, numbers          beside.rs    rows of one prompt side by side
//! svg.rs     lines, heat maps, intervals        evaluation.rs, training.rs   a run directory
//!                                               side_by_side.rs   several trainings
//!                                               background.rs   data, settings, machine
//!                                               samples.rs   what a model wrote while it learned
//! ```
//! The same input gives the same bytes.

mod background;
mod belief;
mod beside;
mod evaluation;
mod markup;
mod page;
mod reproduction;
mod rewards;
mod row;
mod run;
mod samples;
mod side_by_side;
mod svg;
mod trace;
mod training;
mod verdict;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use crate::error::Error;
use markup::{counted, escape, figure_or_dash, percent, table};
use row::Room;
use run::{Results, Run};
use trace::Trace;
use verdict::Verdict;

pub use side_by_side::Time;

/// Rows of a trace that are open at once.
const OPEN: usize = 2;
/// Rows in the table of verdicts.
const VERDICTS: usize = 200;

/// Where a report goes if nobody says: into the run directory, or beside the trace.
pub fn default_output(input: &Path) -> PathBuf {
    if input.is_dir() { input.join("report.html") } else { input.with_extension("html") }
}

/// The page about a run directory or a trace.
///
/// # Errors
///
/// [`Error::Data`] with file, line and column if a file is broken, of another version, or holds
/// nothing to report on.
pub fn render(input: &Path) -> Result<String, Error> {
    if input.is_dir() { of_run(&Run::read(input)?) } else { of_trace(input) }
}

/// The page about several trainings beside each other: what each had reached by when.
///
/// # Errors
///
/// [`Error::Data`] if a file is broken, or if one of them is not the directory of a training.
pub fn render_side_by_side(inputs: &[PathBuf], time: Time) -> Result<String, Error> {
    let runs = inputs.iter().map(|input| Run::read(input)).collect::<Result<Vec<_>, _>>()?;
    let body = side_by_side::sections(&runs, time)?;
    Ok(page::page(&counted(runs.len(), "training"), &body, false))
}

/// The page about a reproduced table.
#[must_use]
pub fn render_reproduction(
    of: &crate::reproduce::Table,
    results: &crate::reproduce::Results,
) -> String {
    page::page(of.title, &reproduction::sections(of, results), false)
}

/// Where the page about several trainings goes if nobody says: beside the first of them.
pub fn default_output_side_by_side(first: &Path) -> PathBuf {
    first.with_file_name("side-by-side.html")
}

fn of_run(run: &Run) -> Result<String, Error> {
    let shown = run.path.display();
    let files = background::section(run);
    match &run.results {
        Some(Results::Evaluation(results)) => {
            let body = evaluation::sections(results, run.traces.as_deref())? + &files;
            Ok(page::page(&format!("Evaluation {shown}"), &body, true))
        }
        None if run.metrics.is_empty() => {
            let body = match &run.traces {
                Some(path) => trace_sections(path)?,
                None => String::new(),
            };
            Ok(page::page(&format!("Run {shown}"), &(body + &files), true))
        }
        results => {
            let results = match results {
                Some(Results::Training(results)) => Some(results),
                _ => None,
            };
            let mut body = training::sections(run, results);
            body.push_str(&samples::section(&run.samples));
            if let Some(path) = &run.traces {
                body.push_str(&trace_sections(path)?);
            }
            body.push_str(&files);
            Ok(page::page(&format!("Training {shown}"), &body, run.traces.is_some()))
        }
    }
}

fn of_trace(path: &Path) -> Result<String, Error> {
    Ok(page::page(&format!("Trace {}", path.display()), &trace_sections(path)?, true))
}

/// All rows of a trace, as far as a page has room.
fn trace_sections(path: &Path) -> Result<String, Error> {
    let (rows, _) = trace::read(path, |_| true)?;
    let rows: Vec<&Trace> = rows.iter().collect();
    let titles = evaluation::titles(&rows);
    let steps: usize = rows.iter().map(|row| row.steps.len()).sum();
    let mut html = format!(
        "<p class=\"about\">{} of a generation, {} in all.</p>\n",
        counted(rows.len(), "row"),
        counted(steps, "step")
    );
    if rows.len() > 1 {
        html.push_str(&verdicts(&rows, &titles));
    }
    let beside = beside::section(&rows, &titles);
    if !beside.is_empty() {
        html.push_str(&format!("<section><h2>Side by side</h2>\n{beside}</section>\n"));
    }
    let mut room = Room::default();
    let mut left_out = 0;
    html.push_str("<section><h2>Step by step</h2>\n");
    for (number, (row, title)) in rows.iter().zip(&titles).enumerate() {
        if !room.take(row) {
            left_out += 1;
            continue;
        }
        html.push_str(&row::section(row, title, &anchor(number), number < OPEN, &room));
    }
    if left_out > 0 {
        let rows = counted(left_out, "row");
        html.push_str(&format!("<p class=\"note\">{rows} left out to keep this page small.</p>\n"));
    }
    Ok(html + "</section>\n")
}

fn anchor(number: usize) -> String {
    format!("row-{}", number + 1)
}

/// A line a row.
fn verdicts(rows: &[&Trace], titles: &[String]) -> String {
    let judged = rows.iter().any(|row| row.correct.is_some());
    let mut head = vec![
        "row",
        "steps",
        "soft",
        "hard share",
        "mean entropy",
        "effective",
        "off distribution",
        "stopped by",
    ];
    if judged {
        head.extend(["answer", "right"]);
    }
    let line = |(number, (row, title)): (usize, (&&Trace, &String))| {
        let verdict = Verdict::of(row);
        let off = match verdict.off.measured {
            0 => "–".into(),
            measured => format!("{} / {measured}", verdict.off.any),
        };
        let mut cells = vec![
            format!("<a href=\"#{}\">{}</a>", anchor(number), escape(title)),
            verdict.steps.to_string(),
            verdict.soft.to_string(),
            verdict.hard_share.map_or_else(|| "–".into(), percent),
            figure_or_dash(verdict.mean_entropy),
            figure_or_dash(verdict.mean_effective),
            off,
            escape(&row.stop.as_deref().unwrap_or("–").replace('_', " ")),
        ];
        if judged {
            cells.push(row.answer.as_deref().map_or_else(|| "–".into(), escape));
            cells.push(match row.correct {
                Some(true) => "<span class=\"right\">✓ yes</span>".into(),
                Some(false) => "<span class=\"wrong\">✗ no</span>".into(),
                None => "–".into(),
            });
        }
        cells
    };
    let lines: Vec<Vec<String>> =
        rows.iter().zip(titles).enumerate().take(VERDICTS).map(line).collect();
    let more = match rows.len().saturating_sub(VERDICTS) {
        0 => String::new(),
        more => format!("<p class=\"note\">{more} further rows not listed.</p>\n"),
    };
    format!("<section><h2>Verdict</h2>\n{}{more}</section>\n", table(&head, &lines, "verdicts"))
}
