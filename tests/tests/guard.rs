//! What ends a training before its last step: steps that are not finite, a loss that stays high,
//! time, evaluations that no longer get better. And which checkpoints are kept.

use std::path::Path;

use serde_json::Value;
use soft_tests::runs::{
    Runs, assert_same_outcome, checkpoint, metrics, owned, read, read_json, series, state,
};
use soft_train::checkpoint_dir::verify;
use soft_train::run::{Resume, TrainOptions, Trained};
use soft_train::{Error, Faults};

/// Trains with faults.
fn faulty(
    runs: &Runs,
    name: &str,
    settings: &[&str],
    resume: Resume,
    faults: &Faults,
) -> Result<Trained, Error> {
    let options = TrainOptions { resume, faults: faults.clone(), ..TrainOptions::default() };
    runs.try_with(name, &owned(settings), &options)
}

fn nan_at(steps: &[usize]) -> Faults {
    Faults { nan_losses: steps.to_vec(), ..Faults::default() }
}

fn not_finite(run_dir: &Path) -> Vec<Value> {
    let text = String::from_utf8(read(&run_dir.join("nonfinite.jsonl"))).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Steps of the checkpoints that are there.
fn kept(run_dir: &Path) -> Vec<usize> {
    let entries = std::fs::read_dir(run_dir.join("checkpoints")).expect("checkpoints");
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("readable").file_name();
    let names = entries.map(|entry| name(entry).into_string().expect("UTF-8"));
    let step = |name: String| name.strip_prefix("step-")?.parse().ok();
    let mut steps: Vec<usize> = names.filter_map(step).collect();
    steps.sort_unstable();
    steps
}

/// Settings with everything random on.
const NOISY: [&str; 4] =
    ["model.dropout=0.1", "soft.noise=gumbel", "rollout.kind=parallel", "train.grad_accum=2"];

#[test]
fn t40_a_loss_that_is_no_number_stops_before_the_weights_change() {
    let runs = Runs::temporary();
    let settings = [&NOISY[..], &["save.every=7", "save.keep=9"]].concat();
    let straight = runs.train("straight", &settings).run_dir;
    let broken = [&NOISY[..], &["save.keep=9"]].concat();
    let error = faulty(&runs, "broken", &broken, Resume::Never, &nan_at(&[8]));
    let error = error.expect_err("it is no number");
    assert_eq!(error.exit_code(), 5, "{error}");
    let text = error.to_string();
    for part in ["step 8", "step-000007", "nonfinite.jsonl", "--resume auto", "on_nan=skip"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let run = runs.path("broken");
    verify(&checkpoint(&run, 7)).expect("whole");
    assert_same_weights(&checkpoint(&straight, 7), &checkpoint(&run, 7), "before the step");
    assert_eq!(metrics(&run).len(), 7, "the step is not counted");
    let record = &not_finite(&run)[0];
    assert_eq!(record["step"], 8);
    assert_eq!((&record["first"], &record["action"]), (&"loss".into(), &"stop".into()));
    assert!(record["loss"].is_null() && record["weight"].is_null(), "{record}");
    let rows = record["rows"].as_array().expect("micro-batches");
    assert_eq!(rows.len(), 2);
    let mut all: Vec<u64> = Vec::new();
    for micro_batch in rows {
        let rows = micro_batch.as_array().expect("rows");
        all.extend(rows.iter().map(|row| row.as_u64().expect("a place")));
    }
    assert_eq!(all.len(), 16);
    assert!(all.iter().all(|&row| row < 125), "there are 125 problems: {all:?}");
    all.sort_unstable();
    let mut once = all.clone();
    once.dedup();
    assert!(once.len() > 8, "rows of a batch are not one row: {all:?}");
    // Without the fault it goes on as if nothing had happened.
    runs.resumed("broken", &settings, Resume::Auto);
    assert_same_outcome(&straight, &run, 20, "went on");
    assert!(not_finite(&run).is_empty(), "a record of an abandoned branch");
}

fn assert_same_weights(a: &Path, b: &Path, what: &str) {
    let file = |folder: &Path| read(&folder.join("model.safetensors"));
    assert!(file(a) == file(b), "{what}: {} and {} differ", a.display(), b.display());
}

#[test]
fn t40_an_infinite_gradient_is_caught_with_and_without_clipping_and_named() {
    let runs = Runs::temporary();
    let faults = Faults { infinite_gradients: vec![1], ..Faults::default() };
    for clip in ["train.clip=0", "train.clip=1"] {
        let error = faulty(&runs, clip, &[clip], Resume::Never, &faults).expect_err("infinite");
        assert_eq!(error.exit_code(), 5, "{error}");
        let record = &not_finite(&runs.path(clip))[0];
        let first = record["first"].as_str().expect("a name");
        assert!(first.starts_with("gradient of norm"), "{first}");
        assert!(record["loss"].is_number() && record["grad_norm"].is_null(), "{record}");
        assert_eq!(record["gradients_not_finite"], 1);
        // Nothing was done yet, and the run goes on from there.
        assert_eq!(kept(&runs.path(clip)), [0]);
        let resumed = runs.resumed(clip, &[clip], Resume::Auto).run_dir;
        let straight = runs.train(&format!("straight-{clip}"), &[clip]).run_dir;
        assert_same_outcome(&straight, &resumed, 20, clip);
    }
}

#[test]
fn t40_a_skipped_step_is_counted_recorded_and_changes_nothing() {
    let runs = Runs::temporary();
    let skip = ["guard.on_nan=skip", "save.every=1", "save.keep=99"];
    let settings = [&NOISY[..], &skip].concat();
    let faults = Faults { infinite_gradients: vec![12], ..nan_at(&[8, 9]) };
    let run = faulty(&runs, "run", &settings, Resume::Never, &faults).expect("it goes on");
    let ending = &run.results.endings[0];
    assert_eq!((ending.skipped, ending.steps), (3, 20));
    let run = run.run_dir;
    for (before, after) in [(7, 8), (8, 9), (11, 12)] {
        let (before, after) = (checkpoint(&run, before), checkpoint(&run, after));
        assert_same_weights(&before, &after, "a skipped step");
    }
    assert!(
        read(&checkpoint(&run, 9).join("model.safetensors"))
            != read(&checkpoint(&run, 10).join("model.safetensors"))
    );
    let records = metrics(&run);
    assert_eq!(records.len(), 20);
    for record in &records {
        let step = record["step"].as_u64().expect("a step");
        assert_eq!(record["loss"].is_null(), [8, 9].contains(&step), "{record}");
        assert_eq!(record["grad_norm"].is_null(), step == 12, "{record}");
        let skipped = [8, 9, 12].iter().filter(|&&at| at <= step).count();
        assert_eq!(record["skipped"], skipped, "{record}");
    }
    let actions: Vec<Value> = not_finite(&run).iter().map(|line| line["action"].clone()).collect();
    assert_eq!(actions, ["skip"; 3]);
    let page = soft_train::report::render(&run).expect("a page");
    assert!(page.contains("it was skipped, the last of 3 such steps"), "the verdict");

    // What was skipped is part of the state, so that it is the same run in parts.
    let course = state(&checkpoint(&run, 9), false)["course"].clone();
    assert_eq!((&course["skipped"], &course["skipped_in_row"]), (&2.into(), &2.into()));
    assert_eq!(state(&checkpoint(&run, 10), false)["course"]["skipped_in_row"], 0);
    for stop in [8, 9, 11] {
        let (name, steps) = (format!("parts-{stop}"), format!("train.steps={stop}"));
        let first = [&settings[..], &[steps.as_str()]].concat();
        faulty(&runs, &name, &first, Resume::Never, &faults).expect("the first part");
        let parts = faulty(&runs, &name, &settings, Resume::Auto, &faults).expect("the rest");
        assert_same_outcome(&run, &parts.run_dir, 20, &name);
        assert_eq!(not_finite(&run), not_finite(&parts.run_dir));
    }
}

#[test]
fn t40_five_skipped_steps_in_a_row_stop_also_over_a_resumption() {
    let runs = Runs::temporary();
    let settings = ["guard.on_nan=skip", "save.keep=9"];
    let faults = nan_at(&[2, 6, 7, 8, 9, 10]);
    let stops = |name: &str, resume: Resume| {
        let error = faulty(&runs, name, &settings, resume, &faults).expect_err("five in a row");
        assert_eq!(error.exit_code(), 5, "{error}");
        let text = error.to_string();
        assert!(text.contains("step 10") && text.contains("5th step in a row"), "{text}");
        let course = state(&checkpoint(&runs.path(name), 9), false)["course"].clone();
        assert_eq!((&course["skipped"], &course["skipped_in_row"]), (&5.into(), &4.into()));
        assert_eq!(metrics(&runs.path(name)).len(), 9);
    };
    stops("straight", Resume::Never);
    let first = [&settings[..], &["train.steps=8"]].concat();
    faulty(&runs, "parts", &first, Resume::Never, &faults).expect("three in a row");
    stops("parts", Resume::Auto);
    let four = nan_at(&[6, 7, 8, 9]);
    faulty(&runs, "four", &settings, Resume::Never, &four).expect("four are not five");
}

#[test]
fn t40_a_learning_rate_out_of_all_bounds_diverges_and_says_that_the_weights_are_lost() {
    let runs = Runs::temporary();
    for on_nan in ["guard.on_nan=stop", "guard.on_nan=skip"] {
        let settings = ["train.lr=1e6", "train.steps=200", on_nan];
        let error = runs.error(on_nan, &settings, Resume::Never);
        assert!(matches!(error, Error::Diverged { step: 2..100, .. }), "{error}");
        assert_eq!(error.exit_code(), 5);
    }
}

#[test]
fn t40_a_loss_over_its_limit_ends_the_training_also_over_a_resumption() {
    let runs = Runs::temporary();
    let limits = ["guard.loss_max=0.001", "guard.loss_patience=4"];
    let error = runs.error("run", &limits, Resume::Never);
    assert!(matches!(error, Error::Diverged { step: 4, .. }), "{error}");
    assert!(error.to_string().contains("guard.loss_max"), "{error}");
    assert_eq!(metrics(&runs.path("run")).len(), 4);
    let saved = [&limits[..], &["save.every=3"]].concat();
    let error = runs.error("saved", &saved, Resume::Never).to_string();
    assert!(error.contains("the last checkpoint is") && error.contains("step-000003"), "{error}");
    runs.train("parts", &[&limits[..], &["train.steps=2"]].concat());
    let error = runs.error("parts", &limits, Resume::Auto);
    assert!(matches!(error, Error::Diverged { step: 4, .. }), "{error}");
}

#[test]
fn a_session_ends_when_its_time_is_over_and_the_next_goes_on() {
    let runs = Runs::temporary();
    let settings = ["train.steps=1000000", "guard.max_time=1s"];
    let error = runs.error("run", &settings, Resume::Never);
    assert_eq!(error.exit_code(), 130, "{error}");
    let Error::TimeOver { limit, step, checkpoint } = error else { panic!("{error}") };
    assert_eq!(limit, "1s");
    verify(&checkpoint).expect("whole");
    let step = usize::try_from(step).expect("small");
    assert_eq!(metrics(&runs.path("run")).len(), step);
    let more = format!("train.steps={}", step + 2);
    let resumed = runs.resumed("run", &[more.as_str()], Resume::Auto).run_dir;
    let straight = runs.train("straight", &[more.as_str()]).run_dir;
    assert_same_outcome(&straight, &resumed, step + 2, "went on");
}

#[test]
fn a_training_that_no_longer_gets_better_ends_early_and_as_a_success() {
    let runs = Runs::temporary();
    let judged = ["eval.every=2", "eval.limit=20", "save.keep=9"];
    // No accuracy rises by more than 1: the first evaluation is the last improvement.
    let settings = [&judged[..], &["early_stop.patience=2", "early_stop.min_delta=1"]].concat();
    let trained = runs.train("run", &settings);
    let run = trained.run_dir;
    assert_eq!(metrics(&run).len(), 6, "evaluations at 2, 4 and 6");
    let ending = &trained.results.endings[0];
    assert_eq!(ending.steps, 6);
    let why = ending.early.as_deref().expect("a reason");
    assert!(why.contains("valid/accuracy") && why.contains("2 evaluations"), "{why}");
    assert_eq!(read_json(&run.join("results.json"))["endings"][0]["early"], why);
    assert_eq!(trained.results.arms[0].steps, 6);
    let page = soft_train::report::render(&run).expect("a page");
    assert!(page.contains("ended early, after step 6") && page.contains(why), "the verdict");

    // The patience is part of the state: not a step more, and the same end in two parts.
    runs.resumed("run", &settings, Resume::Auto);
    assert_eq!(metrics(&run).len(), 6);
    for stop in ["train.steps=3", "train.steps=4", "train.steps=5"] {
        runs.train(stop, &[&settings[..], &[stop]].concat());
        let parts = runs.resumed(stop, &settings, Resume::Auto).run_dir;
        assert_same_outcome(&run, &parts, 6, stop);
    }
    // With more patience it goes on, as if it had had it from the beginning.
    let patient = runs.train("patient", &judged).run_dir;
    runs.resumed("run", &judged, Resume::Auto);
    assert_same_outcome(&patient, &run, 20, "without an end");
}

#[test]
fn t10_the_best_checkpoint_is_kept_marked_and_named() {
    let runs = Runs::temporary();
    let judged = ["eval.every=2", "eval.limit=40", "save.keep=1", "train.lr=3e-2"];
    let trained = runs.train("run", &judged);
    let run = trained.run_dir;
    let values = series(&run, "valid/accuracy");
    let best = values.iter().copied().fold(f64::MIN, f64::max);
    let at = 2 * (values.iter().position(|&value| value == best).expect("one") + 1);
    assert!((4..20).contains(&at), "neither the first nor the last: {values:?}");
    assert_eq!(kept(&run), [at, 20]);
    verify(&checkpoint(&run, at)).expect("whole");
    let marked = read_json(&run.join("best.json"));
    assert_eq!(marked["metric"], "valid/accuracy");
    assert_eq!(marked["best"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&marked["best"][0]["step"], &marked["best"][0]["value"]),
        (&at.into(), &best.into())
    );
    let path = marked["best"][0]["checkpoint"].as_str().expect("it is there");
    assert_eq!(run.join(path), checkpoint(&run, at));
    let named = trained.results.endings[0].best.clone().expect("there is one");
    assert_eq!((named.step, named.value), (at as u64, best));
    assert_eq!(named.checkpoint, Some(checkpoint(&run, at).display().to_string()));
    let page = soft_train::report::render(&run).expect("a page");
    assert!(page.contains(&format!("step-{at:06}")) && page.contains("best evaluation"), "named");

    // Its evaluation is part of it, so that it survives a resumption from anywhere.
    for stop in [at - 1, at, at + 1] {
        let (name, steps) = (format!("parts-{stop}"), format!("train.steps={stop}"));
        runs.train(&name, &[&judged[..], &[steps.as_str()]].concat());
        let parts = runs.resumed(&name, &judged, Resume::Auto).run_dir;
        assert_same_outcome(&run, &parts, 20, &name);
        assert_eq!(
            (kept(&parts), read_json(&parts.join("best.json"))),
            (vec![at, 20], marked.clone())
        );
    }
    let none = runs.train("none", &[&judged[..], &["save.keep_best=0"]].concat()).run_dir;
    assert_eq!(kept(&none), [20]);
    assert!(!none.join("best.json").exists());
}

#[test]
fn t02_a_disk_without_room_is_refused_before_the_training_and_before_each_checkpoint() {
    let runs = Runs::temporary();
    let settings = ["save.every=5", "save.keep=9", "model.d_model=64"];
    let straight = runs.train("straight", &settings).run_dir;
    let free = |bytes: &[u64]| Faults { free_bytes: bytes.to_vec(), ..Faults::default() };
    let error = faulty(&runs, "full", &settings, Resume::Never, &free(&[1000]));
    let error = error.expect_err("no room");
    assert_eq!(error.exit_code(), 7, "{error}");
    let Error::NoSpace { path, needed, free: 1000, size } = &error else { panic!("{error}") };
    assert_eq!(path, &runs.path("full"));
    let real: u64 = std::fs::read_dir(checkpoint(&straight, 20))
        .expect("a checkpoint")
        .map(|entry| entry.expect("readable").metadata().expect("a size").len())
        .sum();
    let (size, real) = (*size as f64, real as f64);
    assert!((0.85..1.05).contains(&(size / real)), "estimated {size}, real {real}");
    let needed = *needed;
    assert_eq!(needed, (2.2 * size).ceil() as u64);
    assert!(!runs.path("full").join("metrics.jsonl").exists(), "nothing was trained");

    // Room at the start and for the first checkpoint, and a byte too little for the second.
    let full = free(&[needed, needed, needed - 1]);
    let error = faulty(&runs, "full", &settings, Resume::Auto, &full).expect_err("no room");
    assert!(matches!(error, Error::NoSpace { .. }), "{error}");
    let run = runs.path("full");
    assert_eq!(kept(&run), [5]);
    verify(&checkpoint(&run, 5)).expect("the old one is whole");
    runs.resumed("full", &settings, Resume::Auto);
    assert_same_outcome(&straight, &run, 20, "with room again");
}
