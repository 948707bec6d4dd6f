//! Whole runs of the trainer: what they compute, and what they write.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::DType;
use serde_json::json;
use soft_core::SoftPipeline;
use soft_model::{GenerateOptions, ModelFiles, Transformer, generate, score};
use soft_tests::device;
use soft_tests::runs::{
    Runs, assert_same_outcome, checkpoint, metrics, mnns, read, read_json, series, state, tensors,
    write_counting_lines,
};
use soft_train::Error;
use soft_train::batch::Batch;
use soft_train::checkpoint_dir::verify;
use soft_train::config::{Arm, Loader, SpanKind};
use soft_train::data::{Limits, read_ids};
use soft_train::decoding::Decoding;
use soft_train::objective::{BatchLoss, Objective, StepTotals};
use soft_train::rollout::{Rollout, Sequential, StepContext};
use soft_train::run::Resume;
use soft_train::task::Task;

fn assert_falls(run_dir: &Path, what: &str) {
    let losses = series(run_dir, "loss");
    let (first, last) = (mean(&losses[..5]), mean(&losses[losses.len() - 5..]));
    assert!(last < 0.95 * first, "{what}: the loss went from {first} to {last}");
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn open(folder: &Path) -> (ModelFiles, Transformer) {
    let files = ModelFiles::open(folder).expect("a checkpoint is a model");
    let model = Transformer::open(&files, &device(), DType::F32).expect("its tensors fit");
    (files, model)
}

fn values(path: &Path) -> Vec<f32> {
    let bytes = tensors(path).into_iter().flat_map(|(_, _, bytes)| bytes).collect::<Vec<u8>>();
    bytes.chunks_exact(4).map(|w| f32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect()
}

#[test]
fn t12_the_same_seed_gives_the_same_run_to_the_bit_and_another_seed_does_not() {
    let runs = Runs::temporary();
    let settings = ["model.dropout=0.1", "soft.noise=gumbel", "rollout.kind=parallel"];
    for rollout in ["rollout.kind=teacher", "rollout.kind=sequential"] {
        let settings =
            [&settings[..2], &[rollout, "guidance.start=0.5", "rollout.segment=1"]].concat();
        let [a, b] = ["a", "b"].map(|n| runs.train(&format!("{n}-{rollout}"), &settings).run_dir);
        assert_same_outcome(&a, &b, 20, rollout);
    }
    let a = runs.train("a", &settings).run_dir;
    let b = runs.train("b", &settings).run_dir;
    assert_same_outcome(&a, &b, 20, "same seed");
    let c = runs.train("c", &[&settings[..], &["run.seed=43"]].concat()).run_dir;
    let weights = |run: &Path| tensors(&checkpoint(run, 20).join("model.safetensors"));
    assert_ne!(weights(&a), weights(&c));
    assert_ne!(series(&a, "loss"), series(&c, "loss"));
}

#[test]
fn t18_a_batch_cut_into_micro_batches_gives_the_same_steps() {
    let runs = Runs::temporary();
    let run = |micro_batch: usize, grad_accum: usize| {
        let cut =
            [format!("train.micro_batch={micro_batch}"), format!("train.grad_accum={grad_accum}")];
        let settings = ["model.dropout=0.1", "soft.noise=gumbel", "rollout.kind=parallel"];
        let more = ["train.steps=5", "guidance.start=0.3", "objective.entropy_beta=0.1"];
        let settings = [&settings[..], &more, &[cut[0].as_str(), cut[1].as_str()]].concat();
        runs.train(&format!("cut-{micro_batch}"), &settings).run_dir
    };
    let whole = run(8, 1);
    for (micro_batch, grad_accum) in [(4, 2), (1, 8)] {
        let cut = run(micro_batch, grad_accum);
        for key in ["loss", "cross_entropy", "entropy", "grad_norm", "num_tokens"] {
            for (a, b) in series(&whole, key).iter().zip(series(&cut, key)) {
                assert!((a - b).abs() < 1e-5 * a.abs().max(1.0), "{micro_batch} {key}: {a} {b}");
            }
        }
        let weights = |run: &Path| values(&checkpoint(run, 5).join("model.safetensors"));
        let pairs = weights(&whole).into_iter().zip(weights(&cut));
        let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-4, "{micro_batch}: weights differ by {worst}");
    }
}

/// Trains additions to a frozen base; the base must not move, and the checkpoint must hold what
/// was evaluated.
fn assert_trains_beside_a_frozen_base(addition: &[&str]) {
    let runs = Runs::temporary();
    let data = write_counting_lines(&runs, false);
    let ids = ["task.name=ids", data[0].as_str(), data[1].as_str()];
    let base = roomy_base(&runs);
    let path = format!("model.path={:?}", base.display().to_string());
    let kept = ["save.every=10", "save.keep=3", "eval.every=10", path.as_str()];
    let run = runs.train("added", &[&ids[..], &kept, addition].concat()).run_dir;
    let (ten, twenty) = (checkpoint(&run, 10), checkpoint(&run, 20));
    let weights = |folder: &Path| tensors(&folder.join("model.safetensors"));
    assert_eq!(weights(&base), weights(&twenty), "the base moved");
    let added = |folder: &Path| tensors(&folder.join("soft_adapter.safetensors"));
    for (a, b) in added(&ten).iter().zip(added(&twenty)) {
        assert_eq!((&a.0, &a.1), (&b.0, &b.1));
        assert_ne!(a.2, b.2, "{} did not change", a.0);
    }
    assert!(!added(&twenty).is_empty());
    let losses = series(&run, "loss");
    let (first, last) = (mean(&losses[..5]), mean(&losses[15..]));
    assert!(last < first - 1e-3, "the loss went from {first} to {last}");
    let evaluated = series(&run, "valid/cross_entropy")[0];
    let found = mean_nll(&ten, 3..6);
    assert!((evaluated - found).abs() < 1e-5, "evaluated {evaluated}, reopened {found}");
    assert!((mean_nll(&base, 3..6) - found).abs() > 1e-4, "the addition does nothing");
}

/// A model for the counting lines with positions to spare, which a prefix takes.
fn roomy_base(runs: &Runs) -> PathBuf {
    let path = runs.path("long.jsonl");
    fs::write(&path, json!({ "ids": (0..12).collect::<Vec<u32>>() }).to_string()).expect("written");
    let data = format!("data.train={:?}", path.display().to_string());
    let run = runs.train("base", &["task.name=ids", &data, "train.steps=3"]).run_dir;
    checkpoint(&run, 3)
}

fn mean_nll(folder: &Path, starts: std::ops::Range<u32>) -> f64 {
    let (_, model) = open(folder);
    let of = |start: u32| {
        let ids: Vec<u32> = (0..8).map(|t| (start + t) % 12).collect();
        score(&model, &ids).expect("it fits").nll_mean.expect("8 tokens")
    };
    mean(&starts.map(of).collect::<Vec<_>>())
}

#[test]
fn low_rank_branches_train_beside_a_base_that_stays_to_the_bit() {
    let targets = r#"low_rank.targets=["q_proj", "v_proj", "down_proj"]"#;
    assert_trains_beside_a_frozen_base(&["low_rank.rank=4", targets]);
}

#[test]
fn a_prefix_trains_beside_a_base_that_stays_to_the_bit() {
    assert_trains_beside_a_frozen_base(&["prefix.tokens=2", "train.lr=0.1"]);
}

#[test]
fn a_checkpoint_keeps_its_additions_and_new_ones_are_refused() {
    let runs = Runs::temporary();
    let data = write_counting_lines(&runs, false);
    let ids = ["task.name=ids", data[0].as_str(), data[1].as_str(), "train.steps=3"];
    let named = |folder: &Path| format!("model.path={:?}", folder.display().to_string());
    let base = named(&roomy_base(&runs));
    let kinds = [("low_rank.rank=2", "prefix.tokens=2"), ("prefix.tokens=2", "low_rank.rank=2")];
    for (number, (first, second)) in kinds.into_iter().enumerate() {
        let name = |what: &str| format!("{what}-{number}");
        let one = runs.train(&name("one"), &[&ids[..], &[base.as_str(), first]].concat()).run_dir;
        let one = checkpoint(&one, 3);
        let path = named(&one);
        let error =
            runs.error(&name("again"), &[&ids[..], &[&path, first]].concat(), Resume::Never);
        assert_eq!(error.exit_code(), 2, "{error}");
        assert!(error.to_string().contains("of its own"), "{error}");
        assert!(!runs.path(&name("again")).exists(), "its name stays free");
        let gate = [&ids[..], &[&base, "low_rank.rank=2", r#"low_rank.targets=["gate_proj"]"#]];
        let error = runs.error(&name("again"), &gate.concat(), Resume::Never);
        assert_eq!(error.exit_code(), 2, "{error}");
        assert!(!runs.path(&name("again")).exists(), "its name stays free");
        // The other kind joins it, and both are trained, after a restart too.
        let both = [&ids[..], &[&path, second, "save.every=2"]].concat();
        let both = runs.train(&name("both"), &both).run_dir;
        let added = |at: &Path| tensors(&at.join("soft_adapter.safetensors"));
        let (two, three) = (added(&checkpoint(&both, 2)), added(&checkpoint(&both, 3)));
        assert!(two.iter().zip(&three).all(|(a, b)| a.0 == b.0 && a.2 != b.2), "one is frozen");
        assert!(added(&one).len() < three.len());
        let further = ["train.steps=4", path.as_str(), second, "save.every=2"];
        runs.resumed(&name("both"), &[&ids[..3], &further].concat(), Resume::Auto);
    }
}

#[test]
fn a_prefix_of_the_checkpoint_takes_positions_from_the_data() {
    let runs = Runs::temporary();
    let data = write_counting_lines(&runs, false);
    let base = format!("model.path={:?}", roomy_base(&runs).display().to_string());
    // Twelve positions: the eight of a line leave room for four.
    let ids = ["task.name=ids", data[0].as_str(), data[1].as_str(), "train.steps=2"];
    let four = runs.train("four", &[&ids[..], &[&base, "prefix.tokens=4"]].concat()).run_dir;
    let path = format!("model.path={:?}", checkpoint(&four, 2).display().to_string());
    runs.train("fits", &[&ids[..], &[path.as_str()]].concat());
    let long = runs.path("nine.jsonl");
    fs::write(&long, json!({ "ids": (0..9).collect::<Vec<u32>>() }).to_string()).expect("written");
    let nine = format!("data.train={:?}", long.display().to_string());
    let error = runs.error("long", &["task.name=ids", &nine, path.as_str()], Resume::Never);
    assert_eq!(error.exit_code(), 3, "{error}");
}

#[test]
fn a_checkpoint_names_every_token_that_ended_the_models_generations() {
    let runs = Runs::temporary();
    let data = write_counting_lines(&runs, false);
    let base = roomy_base(&runs);
    fs::write(base.join("generation_config.json"), r#"{"eos_token_id": [7, 3]}"#).expect("written");
    let path = format!("model.path={:?}", base.display().to_string());
    let ids = ["task.name=ids", data[0].as_str(), path.as_str(), "train.steps=1"];
    let run = runs.train("run", &ids).run_dir;
    assert_eq!(open(&checkpoint(&run, 1)).0.generation.eos_ids, [7, 3]);
}

#[test]
fn every_rollout_learns() {
    let rollouts: [&[&str]; 4] = [
        &["rollout.kind=teacher"],
        &["rollout.kind=sequential", "rollout.segment=1", "guidance.start=0"],
        &["rollout.kind=sequential", "rollout.segment=2", "guidance.start=0.5"],
        &["rollout.kind=parallel", "rollout.passes=2", "guidance.start=0.5"],
    ];
    let runs = Runs::temporary();
    for (number, rollout) in rollouts.iter().enumerate() {
        let run = runs.train(&format!("rollout-{number}"), rollout).run_dir;
        assert_falls(&run, &rollout.join(" "));
    }
}

#[test]
fn the_share_of_truth_follows_its_schedule() {
    let runs = Runs::temporary();
    let settings = [
        "rollout.kind=parallel",
        "guidance.schedule=linear",
        "guidance.start=1",
        "guidance.end=0.2",
        "guidance.hold=4",
        "guidance.steps=8",
    ];
    let run = runs.train("run", &settings).run_dir;
    let expected = (0..20).map(|step: i32| 1.0 - 0.1 * f64::from((step - 4).clamp(0, 8)));
    for (step, (found, expected)) in series(&run, "guidance").iter().zip(expected).enumerate() {
        assert!((found - expected).abs() < 1e-12, "step {step}: {found}, expected {expected}");
    }
}

#[test]
fn the_learning_rate_follows_its_schedule() {
    let runs = Runs::temporary();
    let settings = ["train.schedule=linear", "train.warmup=4", "train.min_lr=1e-3"];
    let rates = series(&runs.train("run", &settings).run_dir, "learning_rate");
    let expected = |step: usize| match step {
        0..4 => 1e-2 * (step + 1) as f64 / 4.0,
        _ => 1e-2 - 9e-3 * (step - 4) as f64 / 15.0,
    };
    for (step, rate) in rates.iter().enumerate() {
        assert!((rate - expected(step)).abs() < 1e-12, "step {step}: {rate} {}", expected(step));
    }
}

#[test]
fn weight_decay_shrinks_each_weight_beside_its_update() {
    let runs = Runs::temporary();
    let after = |name: &str, lr: &str, decay: &str| {
        let settings = ["train.steps=1", "train.warmup=0", lr, decay];
        values(&checkpoint(&runs.train(name, &settings).run_dir, 1).join("model.safetensors"))
    };
    let start = after("start", "train.lr=0", "train.weight_decay=0");
    let plain = after("plain", "train.lr=1e-2", "train.weight_decay=0");
    let decayed = after("decayed", "train.lr=1e-2", "train.weight_decay=0.5");
    for ((start, plain), decayed) in start.iter().zip(&plain).zip(&decayed) {
        let expected = plain - 1e-2 * 0.5 * start;
        assert!((decayed - expected).abs() < 1e-6, "{start}: {plain}, {decayed}");
    }
}

#[test]
fn the_entropy_term_sharpens_the_soft_positions() {
    let runs = Runs::temporary();
    let entropy = |beta: &str| {
        let settings = [format!("objective.entropy_beta={beta}")];
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let run = runs.train(&format!("beta{beta}"), &settings).run_dir;
        mean(&series(&run, "entropy")[15..])
    };
    let (spread, plain, sharp) = (entropy("-1"), entropy("0"), entropy("1"));
    assert!(sharp < 0.97 * plain && plain < spread, "{sharp} {plain} {spread}");
}

#[test]
fn a_run_directory_holds_the_files_and_keys_of_the_contract() {
    let runs = Runs::temporary();
    let arms = r#"eval.arms=["soft", "hard", "no_thought", "soft_fed_hard"]"#;
    let settings = [arms, "save.every=8", "save.keep=2", "train.grad_accum=2"];
    let trained = runs.train("run", &settings);
    let run = trained.run_dir;
    let config = String::from_utf8(read(&run.join("config.toml"))).expect("UTF-8");
    let again = Loader::new().text("config.toml", config).load().expect("it is complete");
    assert_eq!(again.config.train.grad_accum, 2);
    let environment = read_json(&run.join("environment.json"));
    for key in ["device", "versions", "revision", "seed"] {
        assert!(environment.get(key).is_some(), "{key}");
    }
    let names = ["soft", "hard", "no_thought", "soft_fed_hard"];
    let results = read_json(&run.join("results.json"));
    let arms = results["arms"].as_array().expect("arms");
    let mut found: Vec<&str> = arms.iter().map(|arm| arm["arm"].as_str().expect("arm")).collect();
    let mut expected = names.to_vec();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    for arm in arms {
        for key in ["accuracy", "interval", "steps", "seconds", "published", "checkpoint"] {
            assert!(arm.get(key).is_some(), "{key}");
        }
        assert!(Path::new(arm["checkpoint"].as_str().expect("a path")).is_dir());
        assert!(trained.table.contains(arm["arm"].as_str().expect("arm")));
    }
    for dir in [run.clone(), run.join("arms/hard"), run.join("arms/no_thought")] {
        assert_arm_dir(&dir);
    }
    let before = metrics(&run);
    let error = runs.error("run", &settings, Resume::Never);
    assert!(matches!(error, Error::RunExists { .. }), "{error}");
    assert_eq!(error.exit_code(), 2);
    assert_eq!(before, metrics(&run));
}

/// Metrics of every step, and the two newest checkpoints of 8, 16 and 20.
fn assert_arm_dir(dir: &Path) {
    let keys = [
        "step",
        "loss",
        "cross_entropy",
        "entropy",
        "guidance",
        "grad_norm",
        "learning_rate",
        "num_tokens",
    ];
    let records = metrics(dir);
    assert_eq!(records.len(), 20);
    for (number, record) in records.iter().enumerate() {
        assert_eq!(record["step"], number + 1);
        assert!(keys.iter().all(|key| record[key].is_number()), "{record}");
    }
    assert!(!checkpoint(dir, 8).exists() && checkpoint(dir, 16).exists());
    let folder = checkpoint(dir, 20);
    let files =
        ["config.json", "tokenizer.json", "model.safetensors", "state.json", "manifest.json"];
    for file in files {
        assert!(folder.join(file).is_file(), "{file}");
    }
    verify(&folder).expect("a whole checkpoint");
    let state = state(&folder, true);
    assert_eq!(state["step"], 20);
    assert_eq!(state["examples_seen"], 20 * 16);
    let tokens = series(dir, "num_tokens");
    let width = tokens[0] / 16.0;
    assert!(
        tokens.iter().zip(1..).all(|(n, step)| *n == width * 16.0 * f64::from(step)),
        "a total"
    );
    assert_eq!(state["num_tokens"].as_f64(), tokens.last().copied());
    let manifest = read_json(&folder.join("manifest.json"));
    assert!(
        manifest["files"]["model.safetensors"]["crc32"].is_string()
            || manifest["files"]["model.safetensors"]["crc32"].is_number()
    );
}

#[test]
fn a_run_that_diverges_ends_with_its_own_error() {
    let runs = Runs::temporary();
    let error = runs.error("run", &["train.lr=1e30", "train.clip=0"], Resume::Never);
    assert!(matches!(error, Error::Diverged { .. }), "{error}");
    assert_eq!(error.exit_code(), 5);
    assert!(!checkpoint(&runs.path("run"), 20).exists());
    assert!(metrics(&runs.path("run")).iter().all(|record| record["loss"].is_number()));
}

/// Problems answered right when a checkpoint is run as `soft generate --model` runs it: with the
/// settings that lie in it, one prompt at a time.
fn correct_by_generate(folder: &Path, task: &Task, arm: Arm) -> usize {
    let (files, model) = open(folder);
    let text = files.soft.as_ref().expect("soft_config.toml");
    let config = Loader::new().model(text).load().expect("valid settings").config;
    let decoding = Decoding::new(&config, &files).expect("valid settings");
    let right = task.validation.iter().filter(|problem| {
        let prompt = std::slice::from_ref(&problem.prompt);
        let made = decoding.run(&model, prompt, 0, &mut |_, _, _| {}).expect("it fits");
        task.is_right(arm, problem, None, &made[0].rows[0].token_ids)
    });
    right.count()
}

#[test]
fn a_checkpoint_generates_the_answers_that_were_counted() {
    let runs = Runs::temporary();
    let arms = r#"eval.arms=["soft", "hard", "no_thought"]"#;
    let settings = [arms, "train.steps=150", "rollout.kind=parallel", "guidance.start=0.5"];
    let trained = runs.train("run", &settings);
    let task = mnns(3, 5);
    for result in &trained.results.arms {
        assert_eq!(result.total, task.validation.len() as u64);
        let correct = correct_by_generate(Path::new(&result.checkpoint), &task, result.arm);
        assert_eq!(result.correct, correct as u64, "{}", result.arm);
        assert!(correct > 0, "{} answers nothing right: this test compares nothing", result.arm);
    }
}

#[test]
fn filters_and_branches_of_a_run_are_those_its_checkpoint_generates_with() {
    let runs = Runs::temporary();
    let settings = ["soft.top_k=3", "soft.temperature=0.7", "train.steps=60", "prefix.tokens=2"];
    let more = ["low_rank.rank=4", "train.lr=3e-2"];
    let trained = runs.train("run", &[&settings[..], &more].concat());
    let result = &trained.results.arms[0];
    let task = mnns(3, 5);
    let correct = correct_by_generate(Path::new(&result.checkpoint), &task, Arm::Soft);
    assert_eq!(result.correct, correct as u64);
}

#[test]
fn a_checkpoint_keeps_what_was_changed_of_a_preset() {
    let runs = Runs::temporary();
    let settings = ["soft.preset=stochastic-soft-thinking", "soft.top_k=3", "train.steps=1"];
    let run = runs.train("run", &settings).run_dir;
    let text = open(&checkpoint(&run, 1)).0.soft.expect("soft_config.toml");
    let config = Loader::new().model(text).load().expect("valid settings").config;
    assert_eq!((config.soft.top_k, config.soft.max_top_k), (3, 5));
    assert_eq!(
        (config.think.span, config.think.first),
        (SpanKind::First, 2),
        "two sums, an answer"
    );
}

/// Mean cross-entropy of the scored positions of a file, by the exact recurrence without guidance.
fn free_running_cross_entropy(folder: &Path, file: &Path) -> f64 {
    let files = ModelFiles::open(folder).expect("a checkpoint is a model");
    let model = Transformer::open(&files, &device().autodiff(), DType::F32).expect("it fits");
    let examples = read_ids(&[file.to_owned()], Limits::default()).expect("the data");
    let batch = Batch::new(examples);
    let totals = StepTotals::of([&batch]);
    let loss = BatchLoss {
        batch: &batch,
        objective: Objective::default(),
        totals,
        temperature: 1.0,
        other: None,
    };
    let context = StepContext {
        pipeline: SoftPipeline::new(soft_core::PipelineConfig::default()).expect("defaults"),
        form: soft_core::GuidanceForm::Mix,
        guidance: 0.0,
        seed: 0,
        step: 0,
        dropout: 0.0,
        ..StepContext::default()
    };
    Sequential::UNROLLED.differentiate(&model, &loss, &context).cross_entropy / totals.weight
}

#[test]
fn soft_spans_from_a_file_train_validate_and_generate() {
    for rollout in ["teacher", "sequential", "parallel"] {
        let runs = Runs::temporary();
        let data = write_counting_lines(&runs, true);
        let rollout = format!("rollout.kind={rollout}");
        let settings = ["task.name=ids", &data[0], &data[1], &rollout, "guidance.start=0.5"];
        let more = ["eval.every=5", "model.family=llama"];
        let trained = runs.train("run", &[&settings[..], &more].concat());
        let run = trained.run_dir;
        assert!(trained.results.arms.is_empty());
        assert_falls(&run, &rollout);
        let valid = series(&run, "valid/cross_entropy");
        assert_eq!(valid.len(), 4, "at 5, 10, 15 and 20");
        assert!(valid[3] < valid[0], "{valid:?}");
        assert_eq!(metrics(&run).len(), 20, "one object a step");
        let exact = free_running_cross_entropy(&checkpoint(&run, 20), &runs.path("valid.jsonl"));
        assert!((valid[3] - exact).abs() < 1e-5, "{} evaluated, {exact} running freely", valid[3]);
        let (_, model) = open(&checkpoint(&run, 20));
        let options =
            GenerateOptions { max_new: 6, seed: 1, record: true, ..GenerateOptions::default() };
        let mode = soft_model::Mode::Soft;
        let made = generate(&model, &[vec![0, 1]], &|_, _| mode, &options, &mut |_, _, _| {});
        assert_eq!(made.expect("it fits")[0].token_ids.len(), 6);
    }
}

#[test]
fn a_model_that_is_too_small_for_the_task_is_refused_before_anything_is_trained() {
    let runs = Runs::temporary();
    let data = write_counting_lines(&runs, false);
    let ids = ["task.name=ids", data[0].as_str(), data[1].as_str()];
    let base = runs.train("base", &[&ids[..], &["train.steps=1"]].concat()).run_dir;
    let path = format!("model.path={:?}", checkpoint(&base, 1).display().to_string());
    let error = runs.error("mnns", &[path.as_str()], Resume::Never);
    assert_eq!(error.exit_code(), 4, "{error}");
    // Eight positions and eight ids: no position is left for a prefix.
    let error =
        runs.error("long", &[&ids[..], &[&path, "prefix.tokens=2"]].concat(), Resume::Never);
    assert_eq!(error.exit_code(), 3, "{error}");
}
