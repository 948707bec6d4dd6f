//! Quality at equal time: the rollouts alone, and teacher, parallel and sequential in turn, on MNNS.
//!
//! Each setting trains for the same processor time, which what else the machine does hardly
//! changes: a step of each kind is timed first, and the steps follow. The learning rate goes
//! through its whole schedule in each. Every seed trains all settings before the next begins.
//!
//! - `--seconds N`: processor time of a training (45)
//! - `--seeds N`: trainings of each setting (3)
//! - `--dir FOLDER`: where the runs and `side-by-side.html` go (`runs/quality`)

use std::path::{Path, PathBuf};

use soft_tests::bench::{median, print_header, quick};
use soft_tests::device;
use soft_train::config::{Loader, QUICKSTART, QUICKSTART_NAME};
use soft_train::report::{Time, render_side_by_side};
use soft_train::results::ArmResult;
use soft_train::run::{TrainOptions, train};
use soft_train::run_dir::{TIMES, read_jsonl};

/// Steps that are timed of each rollout, after the first few.
const TIMED: usize = 150;
const FIRST: usize = 30;
/// Evaluations in a training.
const EVALUATIONS: usize = 15;

/// A kind of rollout: its name and its settings.
struct Kind {
    name: &'static str,
    rollout: &'static str,
    passes: usize,
}

const KINDS: [Kind; 4] = [
    Kind { name: "teacher", rollout: "teacher", passes: 2 },
    Kind { name: "parallel-2", rollout: "parallel", passes: 2 },
    Kind { name: "parallel-3", rollout: "parallel", passes: 3 },
    Kind { name: "sequential", rollout: "sequential", passes: 2 },
];
/// The kinds that take turns, a third of the time each, by their places in [`KINDS`].
const TURNS: [usize; 3] = [0, 1, 3];

struct Setting {
    name: &'static str,
    steps: usize,
    overrides: Vec<String>,
}

fn main() {
    let (seconds, seeds) = if quick() { (2.0, 1) } else { (45.0, 3) };
    let seconds: f64 = argument("--seconds").map_or(seconds, |n| n.parse().expect("a number"));
    let seeds: u64 = argument("--seeds").map_or(seeds, |n| n.parse().expect("a number"));
    let dir = argument("--dir").map_or_else(|| PathBuf::from("runs/quality"), PathBuf::from);
    assert!(!dir.exists(), "{} is there already: name another with --dir", dir.display());
    print_header(
        &device(),
        &format!(
            "MNNS of the quickstart, soft thoughts; {seconds} processor seconds a training, seeds \
             1 to {seeds}; teacher forced, or running free from the first step"
        ),
    );
    let took = step_times();
    let settings = settings(seconds, &took);
    let mut runs = Vec::new();
    let mut accuracies = vec![Vec::new(); settings.len()];
    for seed in 1..=seeds {
        for (setting, found) in settings.iter().zip(&mut accuracies) {
            let name = format!("{}-seed-{seed}", setting.name);
            let result = run(&dir, &name, seed, setting.steps, &setting.overrides);
            println!("{name}: {:.2} %", 100.0 * result.accuracy);
            found.push(result.accuracy);
            runs.push(dir.join(name));
        }
    }
    println!("\n{:<28} {:>7}   accuracy after {seconds} processor seconds", "setting", "steps");
    for (setting, found) in settings.iter().zip(&accuracies) {
        let mean = found.iter().sum::<f64>() / found.len() as f64;
        let least = found.iter().copied().fold(1.0, f64::min);
        let greatest = found.iter().copied().fold(0.0, f64::max);
        let [mean, least, greatest] = [mean, least, greatest].map(|share| 100.0 * share);
        println!(
            "{:<28} {:>7}   {mean:.2} % ({least:.2} to {greatest:.2})",
            setting.name, setting.steps
        );
    }
    let page = dir.join("side-by-side.html");
    let html = render_side_by_side(&runs, Time::Processor).expect("the runs are readable");
    std::fs::write(&page, html).expect("a page can be written beside the runs");
    println!("\nreport: {}", page.display());
}

fn argument(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.next()?;
    Some(arguments.next().unwrap_or_else(|| panic!("{name} needs a value")))
}

/// Median processor seconds of a step of each kind.
fn step_times() -> Vec<f64> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let time = |kind: &Kind| {
        let steps = FIRST + if quick() { 10 } else { TIMED };
        run(folder.path(), kind.name, 1, steps, &kind.overrides());
        let times = read_jsonl(&folder.path().join(kind.name).join(TIMES)).expect("readable");
        let of = |record: &serde_json::Value| {
            let found = record["processor_seconds"].as_f64().or(record["seconds"].as_f64());
            found.expect("a step has its time")
        };
        let times: Vec<f64> = times.iter().skip(FIRST).map(of).collect();
        let took = median(&times);
        println!("{:<12} {:>7.2} processor ms a step", kind.name, 1e3 * took);
        took
    };
    let took = KINDS.iter().map(time).collect();
    println!();
    took
}

impl Kind {
    fn overrides(&self) -> Vec<String> {
        let rollout = format!("rollout.kind={:?}", self.rollout);
        if self.rollout == "teacher" {
            return vec![rollout];
        }
        let mut overrides = free_running();
        overrides.push(rollout);
        if self.rollout == "parallel" {
            overrides.push(format!("rollout.passes={}", self.passes));
        }
        overrides
    }
}

fn free_running() -> Vec<String> {
    ["guidance.start=0.0", "guidance.end=0.0"].map(str::to_owned).to_vec()
}

fn settings(seconds: f64, took: &[f64]) -> Vec<Setting> {
    let steps = |share: f64, kind: usize| ((seconds * share / took[kind]) as usize).max(1);
    let alone = KINDS.iter().enumerate().map(|(kind, of)| Setting {
        name: of.name,
        steps: steps(1.0, kind),
        overrides: of.overrides(),
    });
    let turns = TURNS.map(|kind| (KINDS[kind].rollout, steps(1.0 / 3.0, kind)));
    let stages: Vec<String> =
        turns.iter().map(|(rollout, steps)| format!("\"{rollout} {steps}\"")).collect();
    let mut overrides = free_running();
    overrides.push(format!("rollout.stages=[{}]", stages.join(", ")));
    let in_turn = Setting {
        name: "teacher-parallel-sequential",
        steps: turns.iter().map(|turn| turn.1).sum(),
        overrides,
    };
    alone.chain([in_turn]).collect()
}

/// Trains one setting.
fn run(dir: &Path, name: &str, seed: u64, steps: usize, settings: &[String]) -> ArmResult {
    let own = [
        format!("run.dir={:?}", dir.display().to_string()),
        format!("run.name={name:?}"),
        format!("run.seed={seed}"),
        format!("train.steps={steps}"),
        format!("train.warmup={}", (steps / 20).clamp(1, 100)),
        format!("eval.every={}", (steps / EVALUATIONS).max(1)),
        "eval.arms=[\"soft\"]".to_owned(),
        "log.every=1000000".to_owned(),
    ];
    let loader = Loader::new().text(QUICKSTART_NAME, QUICKSTART).overrides(own).overrides(settings);
    let resolved = loader.load().expect("the settings are valid");
    let trained = train(&resolved, &device(), &TrainOptions::default());
    let trained = trained.expect("the training ends");
    trained.results.arms.into_iter().next().expect("one arm")
}
