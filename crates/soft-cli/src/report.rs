//! `soft report`: a page about a run or a trace.

use std::fs;
use std::path::{Path, PathBuf};

use soft_train::report;

use crate::arguments::{Report, ReportTime};
use crate::failure::Failure;
use crate::output::Output;

/// Runs the verb.
pub(crate) fn run(arguments: &Report) -> Result<(), Failure> {
    let path = output_path(arguments)?;
    let page = match &arguments.inputs[..] {
        [input] => report::render(input)?,
        runs => report::render_side_by_side(runs, time(arguments.time))?,
    };
    fs::write(&path, page)
        .map_err(|error| Failure::disk(format!("cannot write {}: {error}", path.display())))?;
    let mut out = Output::new();
    out.line(path.display())?;
    out.flush()
}

fn time(time: ReportTime) -> report::Time {
    match time {
        ReportTime::Wall => report::Time::Wall,
        ReportTime::Processor => report::Time::Processor,
    }
}

/// Where the page goes: never over what it is about.
fn output_path(arguments: &Report) -> Result<PathBuf, Failure> {
    let default = || match &arguments.inputs[..] {
        [input] => report::default_output(input),
        runs => report::default_output_side_by_side(&runs[0]),
    };
    let path = arguments.output.clone().unwrap_or_else(default);
    if arguments.inputs.iter().any(|input| same_file(&path, input)) {
        return Err(Failure::usage(format!(
            "the report would overwrite {}, which it is about; name another file with `-o`",
            path.display()
        )));
    }
    Ok(path)
}

fn same_file(one: &Path, other: &Path) -> bool {
    match (fs::canonicalize(one), fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other && one.is_file(),
        _ => false,
    }
}
