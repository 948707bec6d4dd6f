//! `cargo xtask matrix`: one test program, run on every backend there is.
//!
//! The program is `tests/matrix.rs`; `SOFT_DEVICE` tells it the device. Each cell of the table is
//! its own process, so that a crash inside a driver fails one cell and not the run.

mod cell;
mod lane;
mod machine;
mod vulkan_driver;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::process::{Failure, Outcome, cargo, metadata};
use cell::{Cell, GROUPS};
use lane::{LANES, Lane, Plan};

/// Everything but `vulkan`, whose compiler (SPIR-V) crashes inside the software driver and would
/// replace the one that the lane `wgpu` is about.
const FEATURES: &str = "flex,ndarray,wgpu,cuda";

/// What to run, from the command line.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    lanes: Vec<&'static Lane>,
    required: Vec<&'static Lane>,
}

/// Runs the lanes named (all, if none is) and prints the table.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    let request = parse(arguments)?;
    let folder = table_dir()?;
    let plans: Vec<(&Lane, Plan)> = request.lanes.iter().map(|lane| (*lane, lane.plan())).collect();
    let mut table = Table::new();
    let built = build(FEATURES)?;
    for (lane, plan) in plans {
        match plan {
            Plan::Skip(reason) => table.skip(lane, &reason),
            Plan::Run { device, variables } => {
                let program = match lane.own_features {
                    None => built.clone(),
                    Some(features) => build(features)?,
                };
                for (column, group) in GROUPS.iter().enumerate() {
                    println!("--- {} on {device}: {}", lane.name, group.title);
                    let log = folder.join(format!("{}-{}.log", lane.name, group.module));
                    let cell = cell::run(&program, group, &device, &variables, &log);
                    println!("    {cell}");
                    table.set(lane, column, cell);
                }
            }
        }
    }
    table.cuda_build = Some(cell::check_cuda_build(&built, &folder.join("cuda-build.log")));
    finish(&table, &request.required, &folder)
}

fn finish(table: &Table, required: &[&Lane], folder: &Path) -> Outcome {
    let text = table.render();
    println!("\n{text}");
    let kept = folder.join("matrix.txt");
    std::fs::write(&kept, &text)
        .map_err(|error| Failure::new(format!("cannot write {}: {error}", kept.display())))?;
    println!("kept in {}", kept.display());
    match table.problem(required) {
        None => Ok(()),
        Some(problem) => Err(Failure::new(problem)),
    }
}

fn parse(arguments: &[String]) -> Result<Request, Failure> {
    let find = |name: &str| {
        LANES.iter().find(|lane| lane.name == name).ok_or_else(|| {
            let known: Vec<&str> = LANES.iter().map(|lane| lane.name).collect();
            let message = format!("unknown lane \"{name}\": there are {}", known.join(", "));
            Failure { message, code: 2 }
        })
    };
    let mut request = Request { lanes: Vec::new(), required: Vec::new() };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--require" {
            let Some(name) = rest.next() else {
                return Err(Failure {
                    message: "--require needs the name of a lane".into(),
                    code: 2,
                });
            };
            request.required.push(find(name)?);
        } else {
            request.lanes.push(find(argument)?);
        }
    }
    if request.lanes.is_empty() {
        request.lanes = LANES.iter().collect();
    }
    if let Some(missing) = request.required.iter().find(|lane| !request.lanes.contains(lane)) {
        let message = format!("--require {}, but the lane is not among those to run", missing.name);
        return Err(Failure { message, code: 2 });
    }
    Ok(request)
}

/// Builds the test program and returns its path; cargo's progress goes to our terminal.
fn build(features: &str) -> Result<PathBuf, Failure> {
    println!("--- building the tests with {features} (the first time: 5 to 10 minutes on 2 cores)");
    let mut command = cargo();
    command.args(["test", "--package", "soft-tests", "--test", "matrix", "--no-run"]);
    command.args(["--profile", "matrix", "--no-default-features", "--features", features]);
    command.args(["--message-format", "json-render-diagnostics"]).stderr(Stdio::inherit());
    let messages = crate::process::stdout_of(&mut command, "cargo test --no-run")?;
    let mut executables = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        if message["target"]["name"] != "matrix" {
            return None;
        }
        message["executable"].as_str().map(PathBuf::from)
    });
    executables.next_back().ok_or_else(|| Failure::new("cargo built no test program \"matrix\""))
}

/// Where logs and the table are kept.
fn table_dir() -> Result<PathBuf, Failure> {
    let metadata = metadata()?;
    let Some(target) = metadata["target_directory"].as_str() else {
        return Err(Failure::new("cargo metadata names no target directory"));
    };
    let folder = Path::new(target).join("matrix-results");
    std::fs::create_dir_all(&folder)
        .map_err(|error| Failure::new(format!("cannot create {}: {error}", folder.display())))?;
    Ok(folder)
}

/// Lanes downwards, groups across.
struct Table {
    rows: Vec<(&'static str, Row)>,
    cuda_build: Option<Cell>,
}

enum Row {
    Cells(Vec<Cell>),
    Skipped(String),
}

impl Table {
    fn new() -> Self {
        Self { rows: Vec::new(), cuda_build: None }
    }

    fn skip(&mut self, lane: &Lane, reason: &str) {
        println!("--- {}: skipped: {reason}", lane.name);
        self.rows.push((lane.name, Row::Skipped(reason.to_owned())));
    }

    fn set(&mut self, lane: &Lane, column: usize, cell: Cell) {
        if column == 0 {
            self.rows.push((lane.name, Row::Cells(Vec::new())));
        }
        if let Some((_, Row::Cells(cells))) = self.rows.last_mut() {
            cells.push(cell);
        }
    }

    fn render(&self) -> String {
        let mut text = format!("{:<9}", "lane");
        for group in &GROUPS {
            let _ = write!(text, " {:<21}", group.title);
        }
        text = format!("{}\n", text.trim_end());
        for (lane, row) in &self.rows {
            let mut line = format!("{lane:<9}");
            match row {
                Row::Skipped(reason) => {
                    let _ = write!(line, " skipped: {reason}");
                }
                Row::Cells(cells) => {
                    for cell in cells {
                        let _ = write!(line, " {:<21}", cell.to_string());
                    }
                }
            }
            let _ = writeln!(text, "{}", line.trim_end());
        }
        if let Some(cell) = &self.cuda_build {
            let _ = writeln!(text, "cuda is compiled in, kernels through NVRTC: {cell}");
        }
        text
    }

    /// Why the run as a whole is no success.
    fn problem(&self, required: &[&Lane]) -> Option<String> {
        let mut problems = Vec::new();
        for (lane, row) in &self.rows {
            match row {
                Row::Skipped(reason) if required.iter().any(|wanted| wanted.name == *lane) => {
                    problems.push(format!("lane {lane} is required and was skipped: {reason}"));
                }
                Row::Skipped(_) => {}
                Row::Cells(cells) if cells.iter().all(Cell::is_pass) => {}
                Row::Cells(_) => problems.push(format!("lane {lane} failed")),
            }
        }
        if self.cuda_build.as_ref().is_some_and(|cell| !cell.is_pass()) {
            problems.push("the CUDA build does not compile through NVRTC".to_owned());
        }
        (!problems.is_empty()).then(|| problems.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn lane(name: &str) -> &'static Lane {
        LANES.iter().find(|lane| lane.name == name).expect("a lane")
    }

    #[test]
    fn no_lane_named_means_all() {
        let request = parse(&words("--require wgpu")).expect("valid");
        assert_eq!(request.lanes.len(), LANES.len());
        assert_eq!(request.required, [lane("wgpu")]);
    }

    #[test]
    fn an_unknown_lane_and_a_required_lane_that_does_not_run_are_usage_errors() {
        let failure = parse(&words("tpu")).expect_err("unknown");
        assert_eq!(
            failure.message,
            "unknown lane \"tpu\": there are flex, ndarray, wgpu, cuda, vulkan"
        );
        assert_eq!(parse(&words("flex --require wgpu")).expect_err("not run").code, 2);
        assert_eq!(parse(&words("--require")).expect_err("no name").code, 2);
    }

    #[test]
    fn a_skip_is_printed_with_its_reason_and_fails_only_where_it_is_required() {
        let mut table = Table::new();
        for column in 0..GROUPS.len() {
            table.set(lane("flex"), column, Cell::Pass { tests: 3, seconds: 1.5 });
        }
        table.skip(lane("wgpu"), "no driver");
        let text = table.render();
        assert!(text.contains("flex      pass (3 tests, 2 s)"), "{text}");
        assert!(text.contains("wgpu      skipped: no driver"), "{text}");
        assert_eq!(table.problem(&[]), None);
        assert_eq!(
            table.problem(&[lane("wgpu")]).expect("required"),
            "lane wgpu is required and was skipped: no driver"
        );
    }

    #[test]
    fn one_failed_cell_fails_the_run() {
        let mut table = Table::new();
        table.set(lane("flex"), 0, Cell::Pass { tests: 1, seconds: 0.1 });
        table.set(lane("flex"), 1, Cell::Fail("2 of 3 tests".into()));
        assert_eq!(table.problem(&[]).expect("failed"), "lane flex failed");
        assert!(table.render().contains("FAIL: 2 of 3 tests"));
    }
}
