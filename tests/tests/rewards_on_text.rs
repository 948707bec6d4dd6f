//! Trainings on text that are rewarded, and judged by held-out answers.

use std::fs;

use serde_json::{Value, json};
use soft_model::ModelConfig;
use soft_tests::classifiers::write_classifier;
use soft_tests::runs::{Runs, assert_same_outcome, metrics};
use soft_tests::text::{SPECIAL, tokenizer_json, write_model};
use soft_tests::tiny_config;
use soft_train::run::Resume;

/// Settings of a text task with small sums, which are held out too.
fn sums(runs: &Runs) -> Vec<String> {
    write_model(&runs.path("model"), &SPECIAL);
    let line = |n: u32| {
        let (question, answer) = (format!("{n}+1?"), (n + 1).to_string());
        json!({"question": question, "reasoning": "one more", "answer": answer}).to_string()
    };
    let lines: Vec<String> = (1..9).map(line).collect();
    fs::write(runs.path("data.jsonl"), lines.join("\n")).expect("written");
    let path = |key: &str, name: &str| format!("{key}={:?}", runs.path(name).display().to_string());
    vec![
        "task.name=text".to_owned(),
        path("model.path", "model"),
        path("data.train", "data.jsonl"),
        path("data.valid", "data.jsonl"),
        "train.micro_batch=4".to_owned(),
    ]
}

/// A classifier with the words of these special tokens.
fn classifier(runs: &Runs, special: &[&str]) -> String {
    let vocab_size = 280;
    let shape =
        ModelConfig { vocab_size, max_positions: 128, ..tiny_config(soft_model::Family::Llama) };
    let setting = write_classifier(&runs.path("classifier"), &shape);
    let tokenizer = tokenizer_json(special).to_string();
    fs::write(runs.path("classifier").join("tokenizer.json"), tokenizer).expect("written");
    setting
}

const REWARDED: [&str; 7] = [
    "rl.algorithm=grpo",
    "rl.group=4",
    "rl.policy=gaussian",
    "generate.max_new=12",
    "answer.temperature=1",
    "eval.every=2",
    "save.every=2",
];

fn all<'a>(own: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    own.iter().map(String::as_str).chain(more.iter().copied()).collect()
}

fn number(line: &Value, key: &str) -> f64 {
    line[key].as_f64().unwrap_or_else(|| panic!("{key} in {line}"))
}

/// Words are read by a reward model with a tokenizer, mixtures by its embedding; the run is judged by
/// held-out answers, and goes on to the bit.
#[test]
fn t11_a_reward_model_over_words_and_mixtures_resumes_to_the_bit() {
    let runs = Runs::temporary();
    let (own, model) = (sums(&runs), classifier(&runs, &SPECIAL));
    let more = [
        &REWARDED[..],
        &[
            r#"rl.rewards=["model 1", "format 0.1"]"#,
            "rl.pathwise=0.5",
            "eval.metric=accuracy",
            "save.keep_best=1",
            &model,
        ],
    ]
    .concat();
    let settings = all(&own, &[&more[..], &["train.steps=6"]].concat());
    let straight = runs.train("straight", &settings).run_dir;
    runs.train("stopped", &all(&own, &[&more[..], &["train.steps=4"]].concat()));
    let resumed = runs.resumed("stopped", &settings, Resume::Auto).run_dir;
    assert_same_outcome(&straight, &resumed, 6, "rewards on text");
    for (number_of, line) in metrics(&straight).iter().enumerate() {
        assert!(number(line, "rewards/model/mean").is_finite());
        assert!(number(line, "reward/pathwise").is_finite());
        let evaluated = number_of % 2 == 1;
        assert_eq!(line.get("valid/accuracy").is_some(), evaluated, "{line}");
    }
    let best = fs::read_to_string(straight.join("best.json")).expect("the best is marked");
    assert!(best.contains("valid/accuracy"), "{best}");
}

/// What is measured is right answers: a model that has learned the sums gives them all, and one that
/// has not gives none.
#[test]
fn held_out_answers_are_counted() {
    let runs = Runs::temporary();
    let own = sums(&runs);
    let settings = [
        "eval.metric=accuracy",
        "eval.every=100",
        "train.steps=300",
        "train.lr=2e-2",
        "guidance.start=0",
        "rollout.kind=sequential",
        "generate.max_new=24",
    ];
    // Thoughts in mixtures, and in tokens, where nothing tells them from the answer but the text.
    for soft in ["data.soft=reasoning", "data.soft=none"] {
        let settings = [&settings[..], &[soft]].concat();
        let lines = metrics(&runs.train(&soft[10..], &all(&own, &settings)).run_dir);
        let found: Vec<f64> =
            lines.iter().filter_map(|line| line["valid/accuracy"].as_f64()).collect();
        assert_eq!(found.len(), 3);
        assert!(found[2] > 0.9, "{soft}: {found:?}");
    }
    // Nobody pays for it who does not ask.
    let settings = ["eval.every=1", "train.steps=1"];
    let lines = metrics(&runs.train("unasked", &all(&own, &settings)).run_dir);
    assert!(
        lines[0].get("valid/accuracy").is_none() && lines[0].get("valid/cross_entropy").is_some()
    );
}

/// A reward that is differentiated knows no right answers, and needs none.
#[test]
fn text_without_answers_is_rewarded_through_mixtures() {
    let runs = Runs::temporary();
    let (own, model) = (sums(&runs), classifier(&runs, &SPECIAL));
    let line = |n: u32| json!({"prompt": format!("{n}?"), "completion": "some words"}).to_string();
    let lines: Vec<String> = (1..9).map(line).collect();
    fs::write(runs.path("data.jsonl"), lines.join("\n")).expect("written");
    let own: Vec<String> = own.into_iter().filter(|own| !own.starts_with("data.valid")).collect();
    let pathwise = ["rl.algorithm=pathwise", "rl.pathwise=1", &model, "train.steps=20"];
    let lines = metrics(&runs.train("free", &all(&own, &pathwise)).run_dir);
    assert!(number(&lines[19], "reward") > number(&lines[0], "reward"));
}

/// Mixtures are over the model's own tokens.
#[test]
fn a_reward_model_with_other_words_reads_text_and_no_mixtures() {
    let runs = Runs::temporary();
    let mut other = SPECIAL;
    other.swap(9, 10);
    let (own, model) = (sums(&runs), classifier(&runs, &other));
    let mixtures = ["rl.algorithm=pathwise", "rl.pathwise=1", &model];
    let error = runs.error("mixtures", &all(&own, &mixtures), Resume::Never);
    assert_eq!(error.exit_code(), 2, "{error}");
    let text = error.to_string();
    assert!(text.contains("has another id for the token \"<end_of_turn>\""), "{text}");
    let words = [&REWARDED[..], &[r#"rl.rewards=["model 1"]"#, &model, "train.steps=1"]].concat();
    let lines = metrics(&runs.train("words", &all(&own, &words)).run_dir);
    assert!(number(&lines[0], "rewards/model/mean").is_finite());
}
