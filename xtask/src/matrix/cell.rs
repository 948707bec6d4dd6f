//! One cell of the table: one group of tests on one device, in a process of its own.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A group of tests: a module of `tests/matrix.rs`, and the column's title.
pub(super) struct Group {
    pub(super) module: &'static str,
    pub(super) title: &'static str,
}

/// The columns of the table.
pub(super) const GROUPS: [Group; 4] = [
    Group { module: "laws", title: "laws" },
    Group { module: "training_step", title: "training step" },
    Group { module: "generation", title: "soft generation" },
    Group { module: "parity", title: "equal to flex (1e-4)" },
];

/// A driver that hangs must not hang the run.
const LIMIT: Duration = Duration::from_secs(600);

/// How a group ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Pass { tests: u32, seconds: f64 },
    Fail(String),
}

impl Cell {
    pub(super) fn is_pass(&self) -> bool {
        matches!(self, Self::Pass { .. })
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass { tests: 1, seconds } => write!(f, "pass (1 test, {seconds:.0} s)"),
            Self::Pass { tests, seconds } => write!(f, "pass ({tests} tests, {seconds:.0} s)"),
            Self::Fail(reason) => write!(f, "FAIL: {reason}"),
        }
    }
}

/// Runs one group on one device; its output goes to `log`, and to the terminal if it fails.
pub(super) fn run(
    program: &Path,
    group: &Group,
    device: &str,
    variables: &[(String, String)],
    log: &Path,
) -> Cell {
    let mut command = Command::new(program);
    // One test at a time: a software driver is many threads already.
    command.args([&format!("{}::", group.module), "--test-threads=1", "--nocapture"]);
    command.env("SOFT_DEVICE", device).envs(variables.iter().cloned());
    finish(command, log)
}

/// Checks that the CUDA backend of `program` compiles kernels through NVRTC; needs no card.
pub(super) fn check_cuda_build(program: &Path, log: &Path) -> Cell {
    let mut command = Command::new(program);
    command.arg("cuda_compiles_through_nvrtc_not_llvm");
    finish(command, log)
}

fn finish(mut command: Command, log: &Path) -> Cell {
    let started = Instant::now();
    let status = match run_logged(&mut command, log) {
        Ok(status) => status,
        Err(reason) => return Cell::Fail(reason),
    };
    let output = std::fs::read_to_string(log).unwrap_or_default();
    let cell = judge(&output, status, started.elapsed().as_secs_f64());
    if !cell.is_pass() {
        eprintln!("{output}\n(log: {})", log.display());
    }
    cell
}

/// Runs to the end or to the limit; `None` when the limit came first.
fn run_logged(command: &mut Command, log: &Path) -> Result<Option<ExitStatus>, String> {
    let cannot = |error: std::io::Error| format!("cannot run the tests: {error}");
    let file = File::create(log).map_err(cannot)?;
    command.stdin(Stdio::null());
    command.stdout(file.try_clone().map_err(cannot)?).stderr(file);
    let mut child = command.spawn().map_err(cannot)?;
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(cannot)? {
            return Ok(Some(status));
        }
        if started.elapsed() > LIMIT {
            let _ = child.kill();
            let _ = child.wait();
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Reads libtest's summary. A group with no test is a failure: a cell must not pass by being
/// empty.
fn judge(output: &str, status: Option<ExitStatus>, seconds: f64) -> Cell {
    let Some(status) = status else {
        return Cell::Fail(format!("no end after {} s", LIMIT.as_secs()));
    };
    match (summary(output), status.success()) {
        (Some((0, 0)), _) => Cell::Fail("no test".to_owned()),
        (Some((tests, 0)), true) => Cell::Pass { tests, seconds },
        (Some((passed, failed)), _) => Cell::Fail(format!("{failed} of {} tests", passed + failed)),
        (None, _) => Cell::Fail(format!("crashed ({status})")),
    }
}

/// Passed and failed tests, from `test result: ok. 3 passed; 0 failed; ...`.
fn summary(output: &str) -> Option<(u32, u32)> {
    let line = output.lines().rev().find_map(|line| line.split_once("test result: "))?.1;
    let count = |word: &str| -> Option<u32> {
        let (before, _) = line.split_once(word)?;
        before.trim_end().rsplit([' ', ';']).next()?.parse().ok()
    };
    Some((count("passed")?, count("failed")?))
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn judged(output: &str, raw: i32) -> String {
        judge(output, Some(ExitStatus::from_raw(raw)), 12.3).to_string()
    }

    #[test]
    fn the_summary_line_decides() {
        let ok = "test laws::a ... ok\n\ntest result: ok. 3 passed; 0 failed; 0 ignored; x\n";
        assert_eq!(judged(ok, 0), "pass (3 tests, 12 s)");
        let bad = "\ntest result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured\n";
        assert_eq!(judged(bad, 101 << 8), "FAIL: 2 of 3 tests");
    }

    #[test]
    fn an_empty_group_a_crash_and_a_hang_are_failures() {
        let none = "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured\n";
        assert_eq!(judged(none, 0), "FAIL: no test");
        assert_eq!(judged("running 1 test\n", 11), "FAIL: crashed (signal: 11 (SIGSEGV))");
        assert_eq!(judge("", None, 1.0).to_string(), "FAIL: no end after 600 s");
    }
}
