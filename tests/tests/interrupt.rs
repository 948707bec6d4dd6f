//! A run that is asked to stop. In a program of its own: the request reaches every run in it.

use std::sync::atomic::Ordering;

use soft_tests::device;
use soft_train::checkpoint_dir::{newest_valid, verify};
use soft_train::config::Loader;
use soft_train::run::{Resume, TrainOptions, train};
use soft_train::{Error, STOP_REQUESTED};

#[test]
fn t41_an_interrupted_run_leaves_a_checkpoint_that_it_goes_on_from_to_the_same_end() {
    let runs = tempfile::TempDir::new().expect("a temporary folder");
    let run = |name: &str, resume: Resume| {
        let settings = [
            format!("run.dir={:?}", runs.path()),
            format!("run.name={name:?}"),
            r#"eval.arms=["soft", "hard"]"#.to_owned(),
        ];
        let tiny = "task = {name = \"mnns\", digits = 3, digit_max = 4}\n\
                    model = {d_model = 16, dropout = 0.1}\ntrain = {steps = 6, micro_batch = 4}";
        let resolved = Loader::new().text("tiny", tiny).overrides(settings).load()?;
        train(&resolved, &device(), &TrainOptions { resume, ..TrainOptions::default() })
    };
    STOP_REQUESTED.store(true, Ordering::Relaxed);
    let error = run("stopped", Resume::Never).expect_err("it was asked to stop");
    STOP_REQUESTED.store(false, Ordering::Relaxed);
    assert_eq!(error.exit_code(), 130, "{error}");
    let Error::Interrupted { step, checkpoint } = error else { panic!("{error}") };
    assert_eq!(step, 1);
    verify(&checkpoint).expect("whole");
    let newest = newest_valid(&runs.path().join("stopped")).expect("readable").checkpoint;
    assert_eq!(newest.map(|newest| newest.path), Some(checkpoint));

    let resumed = run("stopped", Resume::Auto).expect("it goes on");
    let straight = run("straight", Resume::Never).expect("it runs");
    for arm in [".", "arms/hard"] {
        for file in ["metrics.jsonl", "checkpoints/step-000006/model.safetensors"] {
            let of = |run: &std::path::Path| std::fs::read(run.join(arm).join(file)).expect(file);
            assert!(of(&resumed.run_dir) == of(&straight.run_dir), "{arm}/{file}");
        }
    }
}
