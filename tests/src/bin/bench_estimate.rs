//! The estimate of a training's memory beside the measured peak of the process that trains.
//!
//! Each case is trained in a process of its own, a worker: a few steps as `soft train` takes them, with
//! evaluation and a checkpoint at the end. The estimate is that of `soft train --dry-run`.
//!
//! - `--worker CASE FOLDER`: be a worker
//! - `--cases NAME,NAME`: what the parent measures; `--tables` shows the parts of each estimate

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use soft_tests::bench::{keep_freed_memory, peak_megabytes, print_header, print_result, quick};
use soft_tests::{device, smollm2};
use soft_train::config::{Loader, Resolved};
use soft_train::run::{TrainOptions, check, train};

/// Largest error of an estimate, as a share of the peak.
const GOAL: f64 = 0.15;

/// What the cases begin with.
#[derive(Clone, Copy, PartialEq)]
enum Base {
    /// The quickstart's soft arm.
    Quickstart,
    /// `configs/smollm2-gsm-lora.toml`, with rows like its own.
    Lora,
    /// A 10 M-parameter model trained whole.
    Whole,
    /// The same size on MNNS with rewards, held near its beginning.
    Rewards,
    /// `configs/smollm2-gsm-grpo.toml`, with fewer rows.
    Grpo,
}

/// One training.
struct Case {
    name: &'static str,
    base: Base,
    settings: &'static [&'static str],
    /// Lengths of the training examples, where they are made here.
    lengths: &'static [usize],
}

/// Of text: a few long rows among shorter ones.
const TEXT: &[usize] = &[40, 56, 72, 96, 136, 184, 248, 320];
const EVEN: &[usize] = &[113];
const LONG: &[usize] = &[640];

const fn case(name: &'static str, base: Base, settings: &'static [&'static str]) -> Case {
    Case { name, base, settings, lengths: TEXT }
}

const fn of_lengths(
    name: &'static str,
    lengths: &'static [usize],
    settings: &'static [&'static str],
) -> Case {
    Case { name, base: Base::Whole, settings, lengths }
}

const SEQUENTIAL: &str = "rollout.kind=sequential";
const PARALLEL: &str = "rollout.kind=parallel";

/// The first three are those of the goal.
const CASES: [Case; 23] = [
    case("quickstart", Base::Quickstart, &[]),
    case("lora", Base::Lora, &["rollout.stages=[\"teacher 2\", \"parallel\"]"]),
    of_lengths("parallel", EVEN, &[PARALLEL, "train.micro_batch=4"]),
    of_lengths("sequential", EVEN, &[SEQUENTIAL, "train.micro_batch=4"]),
    of_lengths("sequential-16", EVEN, &[SEQUENTIAL, "train.micro_batch=4", "rollout.segment=16"]),
    of_lengths("long", LONG, &["train.micro_batch=2"]),
    case("teacher", Base::Whole, &[]),
    case("parallel-text", Base::Whole, &[PARALLEL]),
    case("parallel-3-last", Base::Whole, &[PARALLEL, "rollout.passes=3", "rollout.grad_passes=1"]),
    case("unfiltered", Base::Whole, &[PARALLEL, "soft.top_k=0"]),
    case("recompute-1", Base::Whole, &["train.recompute=1"]),
    case("recompute-parallel", Base::Whole, &[PARALLEL, "train.recompute=1"]),
    case("packed", Base::Whole, &["data.pack=1"]),
    case("whole-loss", Base::Whole, &["train.loss_chunk=0"]),
    case("accumulated", Base::Whole, &["train.micro_batch=2", "train.grad_accum=4"]),
    case("bf16", Base::Whole, &["train.precision=bf16"]),
    case("gpt2-dropout", Base::Whole, &["model.family=gpt2", "model.dropout=0.1"]),
    case("branches", Base::Whole, &["low_rank.rank=8"]),
    case("drawn", Base::Rewards, &[]),
    case("drawn-gaussian", Base::Rewards, &["rl.policy=gaussian", "rl.beta=0", "soft.top_k=30"]),
    case("drawn-branches", Base::Rewards, &["low_rank.rank=8"]),
    case("drawn-text", Base::Grpo, &[]),
    case("lora-recompute", Base::Lora, &["rollout.stages=[\"parallel\"]", "train.recompute=1"]),
];

/// Examples of the lengths, the second eighth of each soft, everything scored after the first.
fn write_examples(path: &Path, lengths: &[usize]) {
    let line = |(row, &length): (usize, &usize)| {
        let ids: Vec<usize> =
            (0..length).map(|t| (row * 7919 + t * 104_729 + 4095) % 4096).collect();
        let soft: Vec<u8> =
            (0..length).map(|t| u8::from((length / 8..length / 4).contains(&t))).collect();
        let weight: Vec<u8> = (0..length).map(|t| u8::from(t >= length / 8)).collect();
        json!({ "ids": ids, "soft": soft, "weight": weight }).to_string()
    };
    let lines: Vec<String> = lengths.iter().cycle().take(32).enumerate().map(line).collect();
    std::fs::write(path, lines.join("\n") + "\n").expect("written");
}

/// SmolLM2 and sums in words; `None` where they are not there.
fn sums(root: &Path) -> Option<Vec<String>> {
    let model = smollm2()?;
    let data = root.join("../shared/data/gsm_symbolic");
    if !data.is_dir() {
        eprintln!("SKIPPED: no {}", data.display());
        return None;
    }
    let setting = |key: &str, path: &Path| format!("{key}={:?}", path.display().to_string());
    Some(vec![
        setting("model.path", &model),
        setting("data.train", &data.join("train.jsonl")),
        setting("data.valid", &data.join("valid.jsonl")),
    ])
}

/// The configuration of a case; `None` where the real model is not there.
fn loader(case: &Case, folder: &Path) -> Option<Loader> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let run = [format!("run.dir={:?}", folder.display().to_string()), "run.name=case".to_owned()];
    let mut settings = run.to_vec();
    let loader = match case.base {
        Base::Quickstart => {
            settings.extend(["eval.arms=[\"soft\"]", "train.steps=60"].map(str::to_owned));
            Loader::new().file(root.join("configs/quickstart.toml"))
        }
        Base::Lora => {
            settings.extend(sums(&root)?);
            let text = root.join("docs/plain-text.txt");
            settings.push(format!("eval.text={:?}", text.display().to_string()));
            let own = ["train.steps=4", "eval.every=2", "eval.limit=16", "eval.text_tokens=512"];
            settings.extend(own.map(str::to_owned));
            settings.push("eval.samples=1".to_owned());
            Loader::new().file(root.join("configs/smollm2-gsm-lora.toml"))
        }
        Base::Rewards => {
            let own = [
                "task.name=mnns",
                "task.digits=4",
                "model.family=llama",
                "model.d_model=256",
                "model.n_layers=12",
                "model.n_heads=8",
                "rl.algorithm=grpo",
                "rl.group=16",
                "rl.beta=0.1",
                "train.micro_batch=16",
                "train.steps=4",
                "eval.arms=[\"soft\"]",
            ];
            settings.extend(own.map(str::to_owned));
            Loader::new()
        }
        Base::Grpo => {
            settings.extend(sums(&root)?);
            let own = ["train.steps=2", "eval.every=2", "eval.limit=16", "eval.samples=1"];
            settings.extend(own.map(str::to_owned));
            Loader::new().file(root.join("configs/smollm2-gsm-grpo.toml"))
        }
        Base::Whole => {
            let data = folder.join("data.jsonl");
            write_examples(&data, case.lengths);
            settings.push(format!("data.train={:?}", data.display().to_string()));
            let own = [
                "task.name=ids",
                "model.family=llama",
                "model.d_model=256",
                "model.n_layers=12",
                "model.n_heads=8",
                "soft.temperature=0.6",
                "soft.top_k=30",
                "guidance.start=0.5",
                "train.micro_batch=8",
                "train.steps=4",
            ];
            settings.extend(own.map(str::to_owned));
            Loader::new()
        }
    };
    let own = case.settings.iter().map(|setting| (*setting).to_owned());
    Some(loader.overrides(settings).overrides(own.collect::<Vec<_>>()))
}

fn worker(case: &Case, folder: &Path) {
    let Some(resolved) = resolved(case, folder) else { return };
    train(&resolved, &device(), &TrainOptions::default()).expect("it trains");
    println!("FOUND {}", peak_megabytes().unwrap_or(f64::NAN));
}

/// The configuration of a case as it is trained; `None` where the real model is not there.
fn resolved(case: &Case, folder: &Path) -> Option<Resolved> {
    let loaded = loader(case, folder)?.load();
    Some(loaded.unwrap_or_else(|error| panic!("{}: {error}", case.name)))
}

/// The estimate and the peak of a case in MB.
fn measured(case: &Case, tables: bool) -> Option<[f64; 2]> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let check = check(&resolved(case, folder.path())?, &device()).expect("it can be trained");
    if tables {
        eprintln!("{}: {}", case.name, check.estimate.table());
    }
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(program);
    command.args(["--worker", case.name]).arg(folder.path()).stderr(Stdio::inherit());
    let output = command.output().expect("this program starts again");
    assert!(output.status.success(), "{}: {}", case.name, output.status);
    let text = String::from_utf8(output.stdout).expect("text");
    let found = text.lines().find_map(|line| line.strip_prefix("FOUND ")).expect("a peak");
    Some([check.estimate.bytes() as f64 / 1e6, found.parse().expect("a number")])
}

fn main() {
    keep_freed_memory();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let of_name = |name: &str| {
        let found = CASES.iter().find(|case| case.name == name);
        found.unwrap_or_else(|| panic!("no case {name:?}: see the table"))
    };
    let tables = arguments.iter().any(|argument| argument == "--tables");
    if let [flag, name, folder] = &arguments[..]
        && flag == "--worker"
    {
        return worker(of_name(name), Path::new(folder));
    }
    let place = arguments.iter().position(|argument| argument == "--cases");
    let chosen: Vec<&Case> = match place.and_then(|place| arguments.get(place + 1)) {
        Some(names) => names.split(',').map(of_name).collect(),
        None if quick() => vec![&CASES[0]],
        None => CASES.iter().collect(),
    };
    print_header(&device(), "a few steps, an evaluation and a checkpoint of each case");
    println!("{:<20} {:>12} {:>9} {:>8}", "case", "estimate MB", "peak MB", "error");
    let mut worst: f64 = 0.0;
    for case in chosen {
        let Some([estimate, peak]) = measured(case, tables) else { continue };
        let error = estimate / peak - 1.0;
        worst = worst.max(error.abs());
        println!("{:<20} {estimate:>12.0} {peak:>9.0} {:>7.1} %", case.name, 100.0 * error);
    }
    println!();
    print_result("estimate/peak, largest error", worst, GOAL);
}
