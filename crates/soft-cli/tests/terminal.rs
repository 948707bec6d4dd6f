//! `soft train` on a terminal and without one: keys, signals, and what they leave.
#![cfg(unix)]
#![expect(unsafe_code, reason = "signals have no safe interface in the standard library")]

#[path = "../../soft-train/src/dashboard/tests/pty.rs"]
mod pty;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pty::Pty;
use soft_train::checkpoint_dir::newest_valid;
use tempfile::TempDir;

const TINY: &str = "task = {name = \"mnns\", digits = 3, digit_max = 4}\n\
                    model = {d_model = 16}\neval = {arms = [\"soft\"]}\n\
                    log = {every = 1}\n[train]\nmicro_batch = 4\n";

struct Runs(TempDir);

impl Runs {
    fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        fs::write(folder.path().join("tiny.toml"), TINY).expect("written");
        Self(folder)
    }

    /// `soft train` of so many steps into the run `r`.
    fn train(&self, steps: usize) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_soft"));
        let config = self.0.path().join("tiny.toml");
        command.args(["train", "--threads", "1", "-c"]).arg(config);
        command.arg(format!("run.dir={:?}", self.0.path())).arg("run.name=r");
        command.arg(format!("train.steps={steps}"));
        command.env_remove("NO_COLOR").env_remove("RUST_BACKTRACE");
        command
    }

    fn run(&self) -> PathBuf {
        self.0.path().join("r")
    }

    /// Waits for a finished step.
    fn has_begun(&self) {
        wait(|| lines(&self.run().join("metrics.jsonl")) > 2, "a step");
    }

    fn assert_saved(&self) {
        let newest = newest_valid(&self.run()).expect("readable");
        let step = newest.checkpoint.expect("a checkpoint").step as usize;
        assert_eq!(step, lines(&self.run().join("metrics.jsonl")), "that of the last step");
    }
}

/// More steps than a test has time for.
const MANY: usize = 1_000_000;

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

fn wait(done: impl Fn() -> bool, what: &str) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what} does not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn send(child: &Child, signal: i32) {
    // SAFETY: the child was not waited for yet, so that the number is still its own.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
}

/// The exit code of a program that was asked to end, which must come within 5 seconds.
fn code(child: Child) -> Option<i32> {
    code_within(child, Duration::from_secs(5))
}

/// The exit code of a program that ends by itself.
fn code_at_end(child: Child) -> Option<i32> {
    code_within(child, Duration::from_secs(60))
}

fn code_within(mut child: Child, time: Duration) -> Option<i32> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status.code();
        }
        if begun.elapsed() > time {
            child.kill().expect("killed");
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A run with the dashboard, after its first steps.
fn shown(runs: &Runs, columns: u16, rows: u16) -> (Pty, Child) {
    let pty = Pty::open(columns, rows);
    let child = pty.start(&mut runs.train(MANY));
    runs.has_begun();
    assert!(
        pty.shows("\u{1b}[?1049h") && pty.shows("2 Throughput"),
        "no dashboard: {}",
        pty.text()
    );
    (pty, child)
}

#[test]
fn t41_ctrl_c_as_a_key_stops_with_a_checkpoint_and_gives_the_terminal_back() {
    let runs = Runs::new();
    let (pty, child) = shown(&runs, 80, 24);
    pty.press("\u{3}");
    assert_eq!(code(child), Some(130), "{}", pty.text());
    assert!(pty.shows("--resume auto"), "what to do next is said: {}", pty.text());
    pty.assert_restored();
    runs.assert_saved();
}

#[test]
fn t41_ctrl_c_twice_leaves_at_once_and_gives_the_terminal_back() {
    let runs = Runs::new();
    let (pty, child) = shown(&runs, 80, 24);
    pty.press("\u{3}\u{3}");
    assert_eq!(code(child), Some(130), "{}", pty.text());
    pty.assert_restored();
}

#[test]
fn t41_the_key_q_stops_with_a_checkpoint_once_it_is_confirmed() {
    let runs = Runs::new();
    let (pty, mut child) = shown(&runs, 80, 24);
    pty.press("qn");
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().expect("a child").is_none(), "it was not confirmed");
    pty.press("sqy");
    assert_eq!(code(child), Some(130), "{}", pty.text());
    pty.assert_restored();
    runs.assert_saved();
}

#[test]
fn t41_a_termination_under_the_dashboard_is_as_the_key() {
    let runs = Runs::new();
    let (pty, child) = shown(&runs, 160, 50);
    send(&child, libc::SIGTERM);
    assert_eq!(code(child), Some(130), "{}", pty.text());
    pty.assert_restored();
    runs.assert_saved();
}

#[test]
fn t41_a_run_that_ends_by_itself_or_fails_gives_the_terminal_back() {
    let runs = Runs::new();
    let pty = Pty::open(80, 24);
    assert_eq!(code_at_end(pty.start(&mut runs.train(3))), Some(0), "{}", pty.text());
    assert!(pty.shows("exact match on"), "the table: {}", pty.text());
    pty.assert_restored();

    let runs = Runs::new();
    let pty = Pty::open(80, 24);
    let child = pty.start(runs.train(MANY).args(["train.lr=1e30", "train.warmup=0"]));
    assert_eq!(code_at_end(child), Some(5), "{}", pty.text());
    pty.assert_restored();
}

#[test]
fn t42_a_narrow_terminal_without_colours_bears_every_key() {
    let runs = Runs::new();
    let pty = Pty::open(40, 10);
    let child = pty.start(runs.train(MANY).env("NO_COLOR", "1"));
    runs.has_begun();
    assert!(pty.shows("Cross-entropy"), "no dashboard: {}", pty.text());
    pty.press("1234\t\u{1b}[Z?xqn\u{1b}[A\u{1b}[B\u{1b}[C\u{1b}[D\u{1b}[5~\u{1b}[6~gs");
    std::thread::sleep(Duration::from_millis(300));
    pty.press("qy");
    assert_eq!(code(child), Some(130), "{}", pty.text());
    pty.assert_restored();
    let text = pty.text();
    assert!(!text.contains("38;5;") && !text.contains("\u{1b}[31m"), "a colour: {text}");
    assert!(text.contains("error: "), "without colour too: {text}");
}

#[test]
fn t42_a_dumb_terminal_has_plain_lines() {
    let runs = Runs::new();
    let pty = Pty::open(80, 24);
    let child = pty.start_as("dumb", &mut runs.train(3));
    assert_eq!(code_at_end(child), Some(0));
    assert!(pty.shows("step     3/3 (100.0 %) | loss "), "{}", pty.text());
    assert!(!pty.text().contains('\u{1b}'), "{}", pty.text());
}

#[test]
fn t42_a_reader_that_goes_away_does_not_end_the_training() {
    let runs = Runs::new();
    let mut child =
        runs.train(200).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut first = String::new();
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    while !first.contains("| loss ") {
        first.clear();
        assert!(out.read_line(&mut first).expect("a line") > 0, "no line of a step");
    }
    drop(out);
    // The reader is gone from here on.
    drop(child.stderr.take());
    assert!(first.contains("step     1/200 (0.5 %) | loss "), "{first}");
    assert!(first.contains(" tok/s | ") && first.trim_end().ends_with(" left"), "{first}");
    assert_eq!(code_at_end(child), Some(0));
    assert_eq!(lines(&runs.run().join("metrics.jsonl")), 200);
    assert!(runs.run().join("report.html").exists());
}

#[test]
fn t41_signals_without_a_terminal() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let runs = Runs::new();
        let mut command = runs.train(MANY);
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
        runs.has_begun();
        send(&child, libc::SIGUSR1);
        let saved = || newest_valid(&runs.run()).expect("readable").checkpoint;
        wait(|| saved().is_some(), "the checkpoint that SIGUSR1 asks for");
        let (saved, done) = (saved().expect("one").step, lines(&runs.run().join("metrics.jsonl")));
        wait(|| lines(&runs.run().join("metrics.jsonl")) > done + 2, "it goes on");
        send(&child, signal);
        assert_eq!(code(child), Some(130));
        runs.assert_saved();
        let newest = newest_valid(&runs.run()).expect("readable").checkpoint.expect("one");
        assert!(newest.step > saved);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn t41_a_hang_up_stops_a_run_unless_it_is_ignored() {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).expect("a mask");
    let mask = u64::from_str_radix(mask, 16).expect("hexadecimal");
    for ignored in [false, true] {
        if !ignored && mask & 1 == 1 {
            // Whoever started the tests ignores hang-ups, which no shell can undo.
            continue;
        }
        let runs = Runs::new();
        let train = runs.train(MANY);
        let mut command = Command::new("sh");
        let trap = if ignored { "trap '' HUP; exec \"$@\"" } else { "exec \"$@\"" };
        command.args(["-c", trap, "sh"]).arg(train.get_program()).args(train.get_args());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        runs.has_begun();
        send(&child, libc::SIGHUP);
        if ignored {
            let done = lines(&runs.run().join("metrics.jsonl"));
            wait(|| lines(&runs.run().join("metrics.jsonl")) > done + 20, "it goes on");
            send(&child, libc::SIGTERM);
        }
        assert_eq!(code(child), Some(130));
        runs.assert_saved();
    }
}

#[test]
fn t41_a_second_signal_ends_at_once_and_the_old_checkpoint_stays_whole() {
    let runs = Runs::new();
    let mut command = runs.train(MANY);
    // Steps of many micro-batches, a checkpoint at each.
    command.args(["save.every=1", "train.grad_accum=20"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
    runs.has_begun();
    send(&child, libc::SIGINT);
    send(&child, libc::SIGTERM);
    let begun = Instant::now();
    assert_eq!(code(child), Some(130));
    assert!(begun.elapsed() < Duration::from_secs(2), "at once");
    let newest = newest_valid(&runs.run()).expect("readable");
    assert!(newest.checkpoint.is_some() && newest.warnings.is_empty(), "{newest:?}");
}
