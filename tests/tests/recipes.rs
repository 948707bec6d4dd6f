//! Every configuration that trains has the losses of its first steps on record.
//!
//! The record is made anew by `SOFT_RECORD_LOSSES=1 cargo test -p soft-tests --test recipes`, in a
//! tree without changes and with the real model in place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use soft_tests::runs::{Runs, read_json, series};
use soft_tests::{device, smollm2};
use soft_train::config::{Loader, Resolved, TaskName};
use soft_train::run::{TrainOptions, train};

/// Losses of these steps.
const STEPS: usize = 4;
/// Largest relative difference of a loss in f32.
const TOLERANCE: f64 = 1e-5;
/// Asks for a new record.
const RECORD: &str = "SOFT_RECORD_LOSSES";

/// The losses of each arm, by its name.
type Losses = BTreeMap<String, Vec<f64>>;

fn root(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn record_path() -> PathBuf {
    root("tests/recorded/recipe_losses.json")
}

/// Every configuration, by its name.
fn configurations() -> Vec<(String, PathBuf)> {
    let files = std::fs::read_dir(root("configs")).expect("the folder of configurations");
    let paths = files.map(|file| file.expect("readable").path());
    let toml = paths.filter(|path| path.extension().is_some_and(|ending| ending == "toml"));
    let name = |path: &Path| path.file_stem().and_then(|name| name.to_str()).map(str::to_owned);
    let mut all: Vec<_> = toml.map(|path| (name(&path).expect("UTF-8"), path)).collect();
    all.sort();
    all
}

fn load(path: &Path, settings: &[String]) -> Resolved {
    let loaded = Loader::new().file(path).overrides(settings).load();
    loaded.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What makes the first steps of a configuration few and small, and still its own: every rollout
/// and every stage of a curriculum has its turn.
fn shortened(name: &str, config: &Resolved) -> Option<Vec<String>> {
    let mut settings = vec![
        format!("train.steps={STEPS}"),
        "train.warmup=2".to_owned(),
        "eval.every=0".to_owned(),
        "eval.limit=4".to_owned(),
        "eval.samples=0".to_owned(),
        "save.every=0".to_owned(),
    ];
    if let [first, second] = &config.config.rollout.stages[..] {
        let kind = |stage: &str| stage.split(' ').next().expect("a kind").to_owned();
        settings.push(format!("rollout.stages=[\"{} 2\", {:?}]", kind(first), kind(second)));
    }
    if config.config.curriculum.stages > 0 {
        settings.extend(["curriculum.first=1".to_owned(), "curriculum.steps=1".to_owned()]);
    }
    if config.config.task.name.is_generated() {
        settings.push("train.micro_batch=8".to_owned());
        return Some(settings);
    }
    let (model, data) = (smollm2()?, root("../shared/data/gsm_symbolic"));
    if !data.is_dir() {
        eprintln!("SKIPPED: {name}: no {}", data.display());
        return None;
    }
    let file = |path: PathBuf| format!("{:?}", path.display().to_string());
    settings.extend([
        format!("model.path={}", file(model)),
        format!("data.train={}", file(data.join("train.jsonl"))),
        "data.valid=[]".to_owned(),
        "eval.text=[]".to_owned(),
        "data.max_len=127".to_owned(),
        "train.micro_batch=1".to_owned(),
        "guidance.hold=1".to_owned(),
    ]);
    if config.config.rl.is_on() {
        // So few tokens have no reward, and a loss of nothing would be on record.
        settings.extend(["rl.group=2", "generate.max_new=6", "rl.entropy=0.1"].map(str::to_owned));
    }
    Some(settings)
}

/// Trains the first steps of a configuration.
fn losses(runs: &Runs, name: &str, path: &Path) -> Option<Losses> {
    let mut settings = shortened(name, &load(path, &[]))?;
    settings.extend([format!("run.dir={:?}", runs.path("")), format!("run.name={name:?}")]);
    let resolved = load(path, &settings);
    let trained = train(&resolved, &device(), &TrainOptions::default());
    let run_dir = trained.unwrap_or_else(|error| panic!("{name}: {error}")).run_dir;
    let mut losses = Losses::new();
    let first = resolved.config.eval.arms[0].to_string();
    losses.insert(first, series(&run_dir, "loss"));
    for arm in std::fs::read_dir(run_dir.join("arms")).into_iter().flatten() {
        let arm = arm.expect("readable");
        let name = arm.file_name().into_string().expect("UTF-8");
        losses.insert(name, series(&arm.path(), "loss"));
    }
    Some(losses)
}

/// Refuses to record where the tree has changes: nobody could make the record again.
fn assert_clean_tree() {
    let status = Command::new("git")
        .args(["status", "--porcelain", "--untracked-files=no"])
        .current_dir(root("."))
        .output()
        .expect("git is needed to record");
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    let changes = String::from_utf8_lossy(&status.stdout);
    let changes: Vec<&str> =
        changes.lines().filter(|line| !line.ends_with("recipe_losses.json")).collect();
    assert!(
        changes.is_empty(),
        "commit these first, a record is made of a clean tree: {changes:?}"
    );
}

#[test]
fn t17_each_recipe_has_the_losses_on_record() {
    let records = std::env::var_os(RECORD).is_some_and(|value| !value.is_empty());
    if records {
        assert_clean_tree();
    }
    let runs = Runs::temporary();
    let mut found = BTreeMap::new();
    let mut skipped = Vec::new();
    for (name, path) in configurations() {
        if load(&path, &[]).config.task.name == TaskName::None {
            assert_eq!(name, "smollm2-thinking", "an evaluation; all others train");
            continue;
        }
        match losses(&runs, &name, &path) {
            Some(losses) => drop(found.insert(name, losses)),
            None => skipped.push(name),
        }
    }
    for (name, arms) in &found {
        for (arm, losses) in arms {
            assert_eq!(losses.len(), STEPS, "{name} {arm}");
            assert!(losses.iter().all(|loss| loss.is_finite()), "{name} {arm}: {losses:?}");
        }
    }
    if records {
        assert!(skipped.is_empty(), "a record is of all: {skipped:?} have nothing to train on");
        let environment = read_json(&runs.path("quickstart").join("environment.json"));
        let record = json!({ "environment": environment, "losses": found });
        std::fs::create_dir_all(root("tests/recorded")).expect("a folder");
        std::fs::write(record_path(), format!("{record:#}\n")).expect("written");
        return;
    }
    let record = read_json(&record_path());
    let recorded: BTreeMap<String, Losses> =
        serde_json::from_value(record["losses"].clone()).expect("losses by arm");
    let names: Vec<&String> = found.keys().chain(&skipped).collect();
    for name in recorded.keys() {
        assert!(names.contains(&name), "{name} is on record and no longer a configuration");
    }
    for (name, arms) in &found {
        let recorded = recorded.get(name);
        let recorded = recorded.unwrap_or_else(|| panic!("{name} is not on record; {RECORD}=1"));
        assert!(arms.keys().eq(recorded.keys()), "{name}: {:?} {:?}", arms.keys(), recorded.keys());
        for (arm, losses) in arms {
            for (step, (found, expected)) in losses.iter().zip(&recorded[arm]).enumerate() {
                let apart = (found - expected).abs() / expected.abs();
                assert!(
                    apart <= TOLERANCE,
                    "{name} {arm}, step {}: {found}, on record {expected} ({apart:.1e} apart); \
                     recorded under {}",
                    step + 1,
                    record["environment"]
                );
            }
        }
    }
}
