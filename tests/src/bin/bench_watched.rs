//! What it costs a training to be watched: checkpoints, evaluation, lines and TensorBoard, against
//! none of them, in interleaved pairs.
//!
//! Each training is a process of its own, a worker, whose output goes into a pipe. Its time is that of
//! the whole training, with what both ways have at the end: one checkpoint and one evaluation. The
//! parent takes the ways in turns, so that whatever else the machine does falls on all of them.
//!
//! - `--worker SETTING WAY FOLDER`: be a worker
//! - `--setting SETTING`, `--ways all,none`, `--rounds N`: what the parent measures

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};
use soft_tests::bench::{
    Spread, keep_freed_memory, median, print_header, processor_milliseconds, quick,
};
use soft_tests::device;
use soft_train::config::Loader;
use soft_train::run::{TrainOptions, train};

/// Least throughput when watched, as a share of that without.
const GOAL: f64 = 0.97;

/// A training, and what watching it means.
struct Setting {
    name: &'static str,
    base: &'static str,
    steps: usize,
    /// Steps between two checkpoints.
    save: usize,
    /// Steps between two evaluations.
    evaluate: usize,
}

/// A step of the first takes milliseconds, so that whatever is done at every step shows; one of the
/// second takes a sixth of a second or more, and its state is 130 MB, so that checkpoints show. They
/// are saved and evaluated once in 10 and in 30 seconds, far oftener than a long training needs: an
/// evaluation of the second costs as much as three of its steps.
const SETTINGS: [Setting; 2] = [
    Setting {
        name: "small",
        base: "model.d_model = 32\nmodel.dropout = 0.1\ntrain.micro_batch = 64\ntrain.lr = 5e-3\n\
               task.name = \"mnns\"\neval.limit = 256\n",
        steps: 3000,
        save: 1500,
        evaluate: 1500,
    },
    Setting {
        name: "whole",
        base: "model.family = \"llama\"\nmodel.d_model = 256\nmodel.n_layers = 12\n\
               model.n_heads = 8\ntrain.micro_batch = 4\ntask.name = \"ids\"\neval.limit = 8\n",
        steps: 360,
        save: 180,
        evaluate: 180,
    },
];

/// Ways to be watched: the first is all, the last is none.
const WAYS: [&str; 6] = ["all", "lines", "tensorboard", "checkpoints", "evaluation", "none"];

/// The settings of a way.
fn watched(setting: &Setting, way: &str, steps: usize) -> Vec<String> {
    let is = |name: &str| way == "all" || way == name;
    let scaled = |every: usize| (every * steps / setting.steps).max(1);
    let (save, evaluate) = (scaled(setting.save), scaled(setting.evaluate));
    vec![
        format!("log.every={}", if is("lines") { 1 } else { 1_000_000 }),
        format!("log.tensorboard={}", is("tensorboard")),
        format!("save.every={}", if is("checkpoints") { save } else { 0 }),
        format!("eval.every={}", if is("evaluation") { evaluate } else { 0 }),
        format!("train.steps={steps}"),
    ]
}

/// Rows of 113 ids, the middle of each soft.
fn write_rows(path: &Path) {
    let row = |row: usize| {
        let ids: Vec<usize> = (0..113).map(|t| (row * 7919 + t * 104_729 + 4095) % 4096).collect();
        let soft: Vec<u8> = (0..113).map(|t| u8::from((32..96).contains(&t))).collect();
        json!({ "ids": ids, "soft": soft }).to_string()
    };
    let rows: Vec<String> = (0..64).map(row).collect();
    std::fs::write(path, rows.join("\n") + "\n").expect("written");
}

fn steps(setting: &Setting) -> usize {
    if quick() { setting.steps / 10 } else { setting.steps }
}

fn worker(setting: &Setting, way: &str, folder: &Path) {
    let rows = folder.join("rows.jsonl");
    write_rows(&rows);
    let rows = rows.display().to_string();
    let mut settings = watched(setting, way, steps(setting));
    settings.push(format!("run.dir={:?}", folder.display().to_string()));
    if setting.name == "whole" {
        settings.extend([format!("data.train={rows:?}"), format!("data.valid={rows:?}")]);
    }
    let loader = Loader::new().text("setting", setting.base).overrides(settings);
    let resolved = loader.load().unwrap_or_else(|error| panic!("{error}"));
    let before = processor_milliseconds();
    let start = Instant::now();
    let trained = train(&resolved, &device(), &TrainOptions::default()).expect("it trains");
    let seconds = start.elapsed().as_secs_f64();
    let processor = processor_milliseconds().zip(before).map_or(f64::NAN, |(a, b)| (a - b) / 1e3);
    let times = std::fs::read_to_string(trained.run_dir.join("times.jsonl")).expect("times");
    let of_step = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("JSON");
        line["seconds"].as_f64().expect("seconds")
    };
    let in_steps: f64 = times.lines().map(of_step).sum();
    println!("FOUND {seconds} {in_steps} {processor}");
}

/// Seconds of a whole training, of its steps alone, and of the processors.
fn measured(setting: &Setting, way: &str) -> [f64; 3] {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(program);
    command.args(["--worker", setting.name, way]).arg(folder.path()).stderr(Stdio::null());
    if quick() {
        command.arg("--quick");
    }
    let output = command.output().expect("this program starts again");
    assert!(output.status.success(), "{} {way}: {}", setting.name, output.status);
    let text = String::from_utf8(output.stdout).expect("text");
    let found = text.lines().find_map(|line| line.strip_prefix("FOUND ")).expect("figures");
    let numbers: Vec<f64> = found.split(' ').map(|word| word.parse().expect("a number")).collect();
    numbers.try_into().unwrap_or_else(|found| panic!("the worker said {found:?}"))
}

fn compare(setting: &Setting, ways: &[&str], rounds: usize) {
    let mut whole = vec![Vec::new(); ways.len()];
    let mut outside = vec![Vec::new(); ways.len()];
    let mut processor = vec![Vec::new(); ways.len()];
    for round in 0..rounds {
        for turn in 0..ways.len() {
            let way = (round + turn) % ways.len();
            let [seconds, in_steps, spent] = measured(setting, ways[way]);
            processor[way].push(spent);
            whole[way].push(seconds);
            outside[way].push(seconds - in_steps);
        }
    }
    let none = ways.len() - 1;
    println!("{}: {} steps", setting.name, steps(setting));
    println!(
        "{:<12} {:>9} {:>14}   {:<22}  by processor time",
        "watched", "seconds", "outside steps", "throughput / none"
    );
    for (way, name) in ways.iter().enumerate() {
        println!(
            "{name:<12} {:>9.2} {:>14.3}   {:<22}  {}",
            median(&whole[way]),
            median(&outside[way]),
            Spread::of_ratios(&whole[none], &whole[way]).to_string(),
            Spread::of_ratios(&processor[none], &processor[way]),
        );
    }
    // What is done outside the steps alone: other programs disturb it as they disturb the steps, but
    // it is a small part of them.
    let more = median(&outside[0]) - median(&outside[none]);
    let share = 1.0 / (1.0 + more / median(&whole[none]));
    println!("by the time outside the steps: {share:.4}");
    let ratio = Spread::of_ratios(&whole[none], &whole[0]).median;
    let verdict = if ratio >= GOAL { "ok" } else { "MISSED" };
    println!("RESULT {}/watched/none {ratio:.3} {GOAL:.2} {verdict}\n", setting.name);
}

/// The word after `name`.
fn value_of<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let place = arguments.iter().position(|argument| argument == name)?;
    arguments.get(place + 1).map(String::as_str)
}

fn main() {
    keep_freed_memory();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name, way, folder, ..] = &arguments[..]
        && flag == "--worker"
    {
        let setting = SETTINGS.iter().find(|setting| setting.name == name);
        return worker(setting.expect("a setting of the table"), way, Path::new(folder));
    }
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{text:?} is no number"));
    let rounds = value_of(&arguments, "--rounds").map_or(if quick() { 1 } else { 3 }, number);
    let chosen = value_of(&arguments, "--setting");
    let wanted: Option<Vec<&str>> = value_of(&arguments, "--ways").map(|w| w.split(',').collect());
    // All and none are what is judged, so they are always measured.
    let edge = |way: &str| way == WAYS[0] || way == WAYS[WAYS.len() - 1];
    let is_wanted = |way: &str| wanted.as_ref().is_none_or(|wanted| wanted.contains(&way));
    let ways: Vec<&str> = WAYS.into_iter().filter(|way| edge(way) || is_wanted(way)).collect();
    print_header(
        &device(),
        &format!(
            "a line and a TensorBoard record a step, two checkpoints and two evaluations a \
             training; {rounds} rounds"
        ),
    );
    for setting in SETTINGS.iter().filter(|own| chosen.is_none_or(|chosen| chosen == own.name)) {
        compare(setting, &ways, rounds);
    }
}
