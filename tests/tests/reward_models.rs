//! Trainings whose reward is a sequence classifier: read as text, or differentiated.

use std::path::Path;

use burn::tensor::DType;
use serde_json::{Value, json};
use soft_model::{NamedTensor, Transformer, save_safetensors};
use soft_tests::device;
use soft_tests::runs::{Runs, assert_same_outcome, metrics, mnns};
use soft_train::config::Model;
use soft_train::run::Resume;

/// Writes a classifier with one label over so many tokens; its setting.
fn write_classifier(folder: &Path, vocab: usize, positions: usize) -> String {
    let model = Model { d_model: 24, n_layers: 1, n_heads: 2, ..Model::default() };
    let shape = model.new_shape(vocab, positions);
    let model = Transformer::from_seed(&shape, 11, &device(), DType::F32);
    let mut tensors = model.named_tensors();
    tensors.retain(|tensor| tensor.name != "lm_head.weight");
    let values = (0..24_u8).map(|i| (f32::from(i) * 1.3).sin()).collect();
    tensors.push(NamedTensor { name: "score.weight".into(), shape: vec![1, 24], values });
    let mut config = shape.to_hf();
    let class = config["architectures"][0].as_str().expect("a class").to_owned();
    let class = class.replace("ForCausalLM", "").replace("LMHeadModel", "");
    config["architectures"] = json!([format!("{class}ForSequenceClassification")]);
    config["num_labels"] = json!(1);
    std::fs::create_dir_all(folder).expect("made");
    std::fs::write(folder.join("config.json"), config.to_string()).expect("written");
    save_safetensors(&folder.join("model.safetensors"), &tensors).expect("written");
    format!("rl.reward_model={:?}", folder.display().to_string())
}

/// Over the tokens of the task that all runs here have.
fn classifier(runs: &Runs, positions: usize) -> String {
    write_classifier(&runs.path("classifier"), mnns(3, 5).tokens.len(), positions)
}

fn number(line: &Value, key: &str) -> f64 {
    line[key].as_f64().unwrap_or_else(|| panic!("{key} in {line}"))
}

#[test]
fn a_reward_that_is_differentiated_rises_and_nothing_is_drawn() {
    for answers in ["mixture", "token"] {
        let runs = Runs::temporary();
        let model = classifier(&runs, 16);
        let answers = format!("rl.pathwise_answers={answers}");
        let settings =
            ["rl.algorithm=pathwise", "rl.pathwise=2", &model, &answers, "train.steps=60"];
        let run = runs.train("read", &settings).run_dir;
        let lines = metrics(&run);
        let mean = |lines: &[Value]| {
            lines.iter().map(|line| number(line, "reward")).sum::<f64>() / lines.len() as f64
        };
        let (first, last) = (mean(&lines[..10]), mean(&lines[50..]));
        assert!(last > first + 0.2, "{answers}: {first} {last}");
        for line in &lines {
            assert_eq!(line["reward"], line["reward/pathwise"]);
            assert!((number(line, "loss") + 2.0 * number(line, "reward")).abs() < 1e-9);
            assert!(number(line, "num_tokens") > 0.0 && number(line, "entropy") > 0.0);
            for absent in ["ratio/min", "completions/mean_length", "guidance", "kl"] {
                assert!(line.get(absent).is_none(), "{absent} in {line}");
            }
        }
    }
}

#[test]
fn t11_trainings_with_a_reward_model_resume_to_the_bit() {
    for kind in [
        &["rl.algorithm=pathwise", "rl.pathwise=1", "rollout.segment=1"][..],
        &["rl.algorithm=pathwise", "rl.pathwise=1", "rl.supervised=0.5", "rl.discretize=drop"],
        &[
            "rl.algorithm=grpo",
            "rl.group=4",
            r#"rl.rewards=["model 1", "answer 1"]"#,
            "rl.pathwise=0.1",
            "rl.pathwise_answers=token",
        ],
    ] {
        let runs = Runs::temporary();
        let model = classifier(&runs, 16);
        let settings = [&["train.grad_accum=2", &model], kind].concat();
        let straight = runs.train("straight", &settings).run_dir;
        runs.train("stopped", &[&settings[..], &["train.steps=7"]].concat());
        let resumed = runs.resumed("stopped", &settings, Resume::Auto).run_dir;
        assert_same_outcome(&straight, &resumed, 20, &format!("{kind:?}"));
    }
}

/// A model without a tokenizer reads the ids that were written, with the thought or without it.
#[test]
fn a_reward_model_reads_what_was_drawn_and_both_rewards_are_on_record() {
    let runs = Runs::temporary();
    let model = classifier(&runs, 16);
    let settings = [
        "rl.algorithm=grpo",
        "rl.group=4",
        r#"rl.rewards=["model 0.5"]"#,
        "rl.pathwise=1",
        &model,
        "train.steps=3",
        "log.every=1",
    ];
    let first = |name: &str, more: &[&str]| {
        let run = runs.train(name, &[&settings[..], more].concat()).run_dir;
        metrics(&run).remove(0)
    };
    let [all, without] = [first("all", &[]), first("without", &["rl.discretize=drop"])];
    for line in [&all, &without] {
        assert!((number(line, "reward") - 0.5 * number(line, "rewards/model/mean")).abs() < 1e-9);
        assert!(number(line, "reward/pathwise").is_finite());
        assert_eq!((number(line, "ratio/min"), number(line, "ratio/max")), (1.0, 1.0));
    }
    assert_ne!(all["reward"], without["reward"], "the thought was read");
    assert_ne!(all["reward/pathwise"], without["reward/pathwise"]);
}

#[test]
fn a_reward_model_that_cannot_read_what_is_fed_is_refused_before_anything_is_trained() {
    let runs = Runs::temporary();
    let pathwise = ["rl.algorithm=pathwise", "rl.pathwise=1"];
    let count = std::cell::Cell::new(0);
    let refused = |settings: &[&str], expected: &str| {
        count.set(count.get() + 1);
        let name = format!("refused-{}", count.get());
        let error = runs.error(&name, settings, Resume::Never);
        assert_eq!(error.exit_code(), 2, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        let metrics = std::fs::read(runs.path(&name).join("metrics.jsonl"));
        assert!(metrics.unwrap_or_default().is_empty(), "{expected}");
    };
    let other = write_classifier(&runs.path("other"), 9, 16);
    refused(&[&pathwise[..], &[&other]].concat(), "a vocabulary of 9 ids in place of");
    let drawn = ["rl.algorithm=grpo", r#"rl.rewards=["model 1"]"#, &other];
    refused(&drawn, "a vocabulary of 9 ids in place of");
    let short = write_classifier(&runs.path("short"), mnns(3, 5).tokens.len(), 4);
    refused(&[&pathwise[..], &[&short]].concat(), "which has 4 positions, and is to read");
    refused(&pathwise, "`rl.reward_model` is not set and `rl.pathwise` is 1");
    let model = classifier(&runs, 16);
    refused(&["rl.algorithm=pathwise", &model], "`rl.pathwise` is 0");
    for (key, setting) in [
        ("rl.beta", "rl.beta=0.1"),
        ("rl.updates", "rl.updates=2"),
        ("rl.entropy", "rl.entropy=0.1"),
        ("rl.rewards", r#"rl.rewards=["format 1"]"#),
    ] {
        let expected = format!("`{key}` is set and `rl.algorithm` is \"pathwise\"");
        refused(&[&pathwise[..], &[&model, setting]].concat(), &expected);
    }
}
