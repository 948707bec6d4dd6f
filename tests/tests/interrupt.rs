//! A run that is asked to stop or to save: what it leaves, and that it goes on to the same end.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use soft_tests::device;
use soft_tests::runs::{Runs, assert_same_outcome, metrics};
use soft_train::checkpoint_dir::{CHECKPOINTS, newest_valid, verify};
use soft_train::config::Loader;
use soft_train::run::{Resume, TrainOptions, Trained, train};
use soft_train::{Control, Error};

const TINY: &str = "task = {name = \"mnns\", digits = 3, digit_max = 4}\n\
                    model = {d_model = 16, dropout = 0.1}\neval = {arms = [\"soft\", \"hard\"]}\n\
                    train = {steps = 6, micro_batch = 4}";

fn run(
    runs: &Runs,
    name: &str,
    settings: &[&str],
    resume: Resume,
    control: &Control,
) -> Result<Trained, Error> {
    let own = [format!("run.dir={:?}", runs.path("")), format!("run.name={name:?}")];
    let loader = Loader::new().text("tiny", TINY).overrides(own);
    let resolved = loader.overrides(settings.iter().map(ToString::to_string)).load()?;
    let options = TrainOptions { resume, control: control.clone(), ..TrainOptions::default() };
    train(&resolved, &device(), &options)
}

/// Its step and its checkpoint, which is whole and the newest.
fn interrupted(outcome: Result<Trained, Error>) -> (u64, PathBuf) {
    let error = outcome.expect_err("it was asked to stop");
    assert_eq!(error.exit_code(), 130, "{error}");
    let Error::Interrupted { step, checkpoint } = error else { panic!("{error}") };
    verify(&checkpoint).expect("whole");
    let arm = checkpoint.ancestors().nth(2).expect("a run");
    let newest = newest_valid(arm).expect("readable").checkpoint.expect("one");
    assert_eq!((newest.path, newest.step), (checkpoint.clone(), step));
    (step, checkpoint)
}

/// Asks from another thread, as soon as something is there.
fn once(is_there: impl Fn() -> bool + Send + 'static, ask: impl FnOnce() + Send + 'static) {
    thread::spawn(move || {
        let begun = Instant::now();
        while !is_there() && begun.elapsed() < Duration::from_secs(20) {
            thread::yield_now();
        }
        ask();
    });
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

#[test]
fn t41_a_run_that_is_stopped_before_its_first_step_goes_on_to_the_same_end() {
    let runs = Runs::temporary();
    let samples = ["eval.samples=1", "eval.every=3"];
    let control = Control::default();
    control.request_stop();
    let (step, _) = interrupted(run(&runs, "stopped", &samples, Resume::Never, &control));
    assert_eq!(step, 0, "nothing was finished");
    let free = Control::default();
    let resumed = run(&runs, "stopped", &samples, Resume::Auto, &free).expect("it goes on");
    let straight = run(&runs, "straight", &samples, Resume::Never, &free).expect("it runs");
    for arm in [".", "arms/hard"] {
        let [resumed, straight] = [&resumed, &straight].map(|run| run.run_dir.join(arm));
        assert_same_outcome(&resumed, &straight, 6, arm);
        let written = |run: &Path| std::fs::read(run.join("samples.jsonl")).expect("samples");
        assert!(written(&resumed) == written(&straight), "{arm}: the samples differ");
    }
}

#[test]
fn t41_an_interrupted_window_of_micro_batches_is_dropped_and_taken_again_whole() {
    let runs = Runs::temporary();
    // A step is far longer than a micro-batch, so that the request falls into a window.
    let one_arm = "eval.arms=[\"soft\"]";
    let settings = ["train.grad_accum=100", "train.micro_batch=1", "train.steps=3", one_arm];
    let control = Control::default();
    let (record, ask) = (runs.path("stopped/metrics.jsonl"), control.clone());
    once(
        move || lines(&record) > 0,
        move || {
            thread::sleep(Duration::from_millis(5));
            ask.request_stop();
        },
    );
    let (step, checkpoint) = interrupted(run(&runs, "stopped", &settings, Resume::Never, &control));
    assert_eq!(step, 1, "the second step was not finished, and is not counted");
    assert_eq!(lines(&runs.path("stopped/metrics.jsonl")), 1);
    let state = std::fs::read_to_string(checkpoint.join("state.json")).expect("a state");
    assert!(state.contains("\"examples_seen\": 100"), "{state}");
    let free = Control::default();
    let resumed = run(&runs, "stopped", &settings, Resume::Auto, &free).expect("it goes on");
    let straight = run(&runs, "straight", &settings, Resume::Never, &free).expect("it runs");
    assert_same_outcome(&resumed.run_dir, &straight.run_dir, 3, "the same end");
}

#[test]
fn t41_a_request_while_a_checkpoint_is_written_lets_it_finish() {
    let runs = Runs::temporary();
    let control = Control::default();
    let (folder, ask) = (runs.path("stopped").join(CHECKPOINTS), control.clone());
    once(
        move || folder.exists(),
        move || {
            ask.request_stop();
        },
    );
    // The folder appears when the first checkpoint is begun.
    let settings = ["save.every=2", "train.steps=1000"];
    let (step, _) = interrupted(run(&runs, "stopped", &settings, Resume::Never, &control));
    assert!(step < 1000, "it was heard");
    let unfinished = std::fs::read_dir(runs.path("stopped").join(CHECKPOINTS)).expect("a folder");
    let names: Vec<_> = unfinished.map(|entry| entry.expect("an entry").file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{names:?}");
    let before = newest_valid(&runs.path("stopped")).expect("readable");
    assert!(before.warnings.is_empty(), "{:?}", before.warnings);
}

#[test]
fn t41_a_request_to_save_writes_a_checkpoint_and_the_run_goes_on() {
    let runs = Runs::temporary();
    let control = Control::default();
    control.request_save();
    let asked = run(&runs, "asked", &["save.keep=9"], Resume::Never, &control).expect("it runs");
    let free = Control::default();
    let free = run(&runs, "free", &["save.keep=9"], Resume::Never, &free).expect("it runs");
    let steps = |run: &Trained| {
        let mut names: Vec<_> = std::fs::read_dir(run.run_dir.join(CHECKPOINTS))
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        names.sort();
        names
    };
    assert_eq!(steps(&asked), ["step-000001", "step-000006"], "once, after the step in progress");
    assert_eq!(steps(&free), ["step-000006"]);
    verify(&asked.run_dir.join(CHECKPOINTS).join("step-000001")).expect("whole");
    assert_eq!(metrics(&asked.run_dir), metrics(&free.run_dir), "saving changes nothing");
}
