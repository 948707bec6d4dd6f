//! How a training ends before its last step and goes on, from outside.

use std::path::Path;
use std::process::{Command, Output};

const TINY: [&str; 9] = [
    "model.d_model=16",
    "task.digits=3",
    "task.digit_max=5",
    "train.micro_batch=4",
    "train.warmup=0",
    "train.min_lr=0",
    "eval.limit=10",
    "eval.arms=[\"soft\"]",
    "run.name=tiny",
];

fn train(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_soft"));
    command.env_remove("SOFT_DEVICE").env_remove("RAYON_NUM_THREADS").current_dir(folder);
    command.arg("train").args(TINY).args(arguments).output().expect("the program starts")
}

/// Exit code, standard output and standard error.
fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn t40_a_training_that_diverges_is_5_and_says_how_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let diverging = ["train.steps=200", "train.lr=1e6"];
    let (code, _, err) = told(&train(folder.path(), &diverging));
    assert_eq!(code, Some(5), "{err}");
    assert!(err.contains("diverged at step") && err.contains("--resume"), "{err}");
    assert!(folder.path().join("runs/tiny/nonfinite.jsonl").is_file());
    let report = Command::new(env!("CARGO_BIN_EXE_soft"))
        .args(["report", "runs/tiny"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(report.status.success(), "{}", String::from_utf8_lossy(&report.stderr));
    let page = std::fs::read_to_string(folder.path().join("runs/tiny/report.html")).unwrap();
    assert!(page.contains("was not finite; it ended the training"), "the verdict says so");
}

#[test]
fn a_training_whose_time_is_over_is_130_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let long =
        ["train.steps=1000000", "log.every=1000000", "guard.max_time=1s", "--resume", "auto"];
    for round in 0..2 {
        let (code, out, err) = told(&train(folder.path(), &long));
        assert_eq!(code, Some(130), "round {round}: {err}");
        assert!(err.contains("guard.max_time") && err.contains("--resume auto"), "{err}");
        assert_eq!(out.contains("going on from"), round == 1, "{out}");
    }
}

#[test]
fn t16_the_learning_rate_is_told_where_a_run_goes_on_with_more_steps() {
    let folder = tempfile::tempdir().unwrap();
    let (code, ..) = told(&train(folder.path(), &["train.steps=4", "train.lr=1e-2"]));
    assert_eq!(code, Some(0));
    let more = ["train.steps=9", "train.lr=1e-2", "--resume", "auto"];
    let (code, out, err) = told(&train(folder.path(), &more));
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("train.steps was 4, is 9"), "{out}");
    // Half of the cosine over steps 1 to 9: that of the fifth is the mean of its ends.
    assert!(out.contains("step 4 of 9, learning rate 5.000e-3"), "{out}");
}

#[test]
fn t14_a_changed_setting_is_refused_and_shown_anyway() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(told(&train(folder.path(), &["train.steps=2"])).0, Some(0));
    let changed = ["train.steps=4", "train.lr=1e-4", "--resume", "auto"];
    let (code, _, err) = told(&train(folder.path(), &changed));
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("`train.lr` was 0.005, is 0.0001"), "{err}");
    let (code, _, err) =
        told(&train(folder.path(), &[&changed[..], &["--resume-anyway"]].concat()));
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("`train.lr` was 0.005, is 0.0001"), "it says what changed: {err}");
    let (code, _, err) = told(&train(folder.path(), &["run.name=other", "--resume-anyway"]));
    assert_eq!(code, Some(2), "there is nothing to resume: {err}");
}

#[test]
fn an_early_end_is_a_success_with_its_reason_and_the_best_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["train.steps=20", "eval.every=2", "early_stop.patience=2"];
    let never = ["early_stop.min_delta=1", "log.every=1000"];
    let (code, out, err) = told(&train(folder.path(), &[&settings[..], &never].concat()));
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("soft: ended early, after step 6 of 20: valid/accuracy"), "{out}");
    assert!(
        out.contains("soft: best valid/accuracy 0.") && out.contains("checkpoints/step-"),
        "{out}"
    );
}

#[test]
fn the_mode_of_generation_is_refused_in_training_with_what_is_meant() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, err) = told(&train(folder.path(), &["soft.mode=hard"]));
    assert_eq!(code, Some(2), "{err}");
    assert!(
        err.contains("`soft.mode` is \"hard\"") && err.contains("`eval.arms` [\"hard\"]"),
        "{err}"
    );
    assert!(!folder.path().join("runs").exists());
}
