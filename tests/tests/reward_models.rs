//! Trainings whose reward is a sequence classifier: read as text, or differentiated.

use serde_json::Value;
use soft_tests::classifiers::write_classifier;
use soft_tests::runs::{Runs, assert_same_outcome, metrics, mnns};
use soft_train::config::Model;
use soft_train::run::Resume;

/// A classifier over so many tokens, as a setting.
fn written(runs: &Runs, name: &str, vocab: usize, positions: usize) -> String {
    let model = Model { d_model: 24, n_layers: 1, n_heads: 2, ..Model::default() };
    write_classifier(&runs.path(name), &model.new_shape(vocab, positions))
}

/// Over the tokens of the task that all runs here have.
fn classifier(runs: &Runs, positions: usize) -> String {
    written(runs, "classifier", mnns(3, 5).tokens.len(), positions)
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

/// A run that goes on finds another classifier in the same place.
#[test]
fn a_reward_model_that_was_replaced_by_another_is_refused_by_a_run_that_goes_on() {
    let runs = Runs::temporary();
    let model = classifier(&runs, 16);
    let settings = ["rl.algorithm=pathwise", "rl.pathwise=1", &model, "train.steps=2"];
    runs.train("replaced", &settings);
    written(&runs, "classifier", 9, 16);
    let more = [&settings[..], &["train.steps=4"]].concat();
    let error = runs.error("replaced", &more, Resume::Auto);
    assert_eq!(error.exit_code(), 2, "{error}");
    assert!(error.to_string().contains("a vocabulary of 9 ids in place of"), "{error}");
    classifier(&runs, 16);
    runs.resumed("replaced", &more, Resume::Auto);
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
    // Each try under the same name: nothing has taken it.
    let refused = |settings: &[&str], expected: &str| {
        let error = runs.error("refused", settings, Resume::Never);
        assert_eq!(error.exit_code(), 2, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!runs.path("refused").exists(), "{expected}");
    };
    let other = written(&runs, "other", 9, 16);
    refused(&[&pathwise[..], &[&other]].concat(), "a vocabulary of 9 ids in place of");
    let drawn = ["rl.algorithm=grpo", r#"rl.rewards=["model 1"]"#, &other];
    refused(&drawn, "a vocabulary of 9 ids in place of");
    let short = written(&runs, "short", mnns(3, 5).tokens.len(), 4);
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
