//! Limits of a training: those that are read, and those that nothing would reach.

use super::super::{Config, HeldOutMetric, OnNan};
use super::{config, load, message};

#[test]
fn limits_and_measures_that_nothing_would_use_are_refused_with_what_was_expected() {
    let cases = [
        (
            "guard.max_time = \"soon\"",
            "my.toml:1:18: `guard.max_time` is \"soon\"; expected a time",
        ),
        ("guard.loss_patience = 4", "`guard.loss_max` is 0, which watches nothing"),
        ("early_stop.min_delta = 0.1", "`early_stop.patience` is 0, which never stops"),
        ("early_stop.patience = 2", "`eval.every` is 0, which evaluates at the end only"),
        ("eval.metric = \"accuracy\"", "`eval.every` is 0, which evaluates at the end only"),
        ("save.keep_best = 2", "`eval.every` is 0, which evaluates at the end only"),
        (
            "task.name = \"mnns\"\neval = {every = 1, metric = \"cross_entropy\"}",
            "the task \"mnns\" is measured by its \"accuracy\"; expected that",
        ),
        (
            "task.name = \"ids\"\neval = {every = 1, metric = \"accuracy\"}",
            "only tasks with answers in words are measured by that",
        ),
        (
            "task.name = \"text\"\neval = {every = 1, metric = \"accuracy\"}",
            "`data.valid` is not set; expected a file of held-out examples",
        ),
        (
            "task.name = \"ids\"\neval = {every = 1, metric = \"answer_cross_entropy\"}",
            "`data.valid` is not set; expected a file of held-out examples",
        ),
        (
            "task.name = \"text\"\neval = {every = 1, metric = \"text_perplexity\"}",
            "`eval.text` is not set; expected a file of plain text",
        ),
        (
            "task.name = \"ids\"\neval.every = 1\nearly_stop.patience = 1",
            "there is nothing to judge by; expected held-out examples",
        ),
        ("eval.metric = \"accurracy\"", "did you mean \"accuracy\"?"),
        ("guard.on_nan = \"ignore\"", "expected one of \"stop\", \"skip\""),
    ];
    for (text, expected) in cases {
        let found = message(text);
        assert!(found.contains(expected), "{text}\n{found}");
    }
}

#[test]
fn limits_that_are_reached_are_read() {
    let config = config(
        "task.name = \"ids\"\nguard = {on_nan = \"skip\", loss_max = 9, loss_patience = 2, max_time = \
         \"1h\"}\neval = {every = 5, metric = \"cross_entropy\"}\ndata.valid = \"v.jsonl\"\n\
         early_stop = {patience = 3, min_delta = 0.01}\nsave.keep_best = 2",
    );
    assert_eq!((config.guard.on_nan, config.guard.loss_max), (OnNan::Skip, 9.0));
    assert_eq!(
        config.guard.time_limit().map(|limit| limit.map(|time| time.as_secs())),
        Ok(Some(3600))
    );
    assert_eq!(config.eval.metric, HeldOutMetric::CrossEntropy);
    assert_eq!(Config::default().guard.time_limit(), Ok(None));
}

#[test]
fn the_mode_of_generation_is_refused_where_a_training_is_asked_for() {
    let cases = [
        ("task.name = \"mnns\"", "`eval.arms` [\"hard\"]"),
        ("task.name = \"ids\"\ndata.train = \"x\"", "lines whose `soft` is 0 at every position"),
        (
            "task.name = \"text\"\ndata.train = \"x\"\nmodel.path = \"m\"",
            "`data.soft` \"none\", which feeds every input as a token",
        ),
    ];
    for (text, expected) in cases {
        let hard =
            load(&format!("soft.mode = \"hard\"\n{text}")).expect("a configuration of generation");
        let error = hard.require_training().expect_err("of training").to_string();
        assert!(error.contains("my.toml:1:13: `soft.mode` is \"hard\""), "{error}");
        assert!(error.contains(expected), "{error}");
        assert_eq!(load(text).expect("valid").require_training(), Ok(()));
    }
}
