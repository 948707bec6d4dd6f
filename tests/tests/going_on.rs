//! Under which settings a run goes on, over what, and what more steps mean.

use std::path::Path;

use serde_json::Value;
use soft_tests::runs::{
    Runs, assert_same_outcome, checkpoint, metrics, owned, read, read_json, series, state,
    write_counting_lines,
};
use soft_train::Error;
use soft_train::checkpoint_dir::{hash_text, verify};
use soft_train::run::{Resume, TrainOptions, Trained};

fn anyway(runs: &Runs, name: &str, settings: &[&str]) -> Result<Trained, Error> {
    let options =
        TrainOptions { resume: Resume::Auto, resume_anyway: true, ..TrainOptions::default() };
    runs.try_with(name, &owned(settings), &options)
}

#[test]
fn t14_a_run_goes_on_anyway_under_another_learning_rate_seed_and_data() {
    let runs = Runs::temporary();
    runs.train("run", &["train.steps=7"]);
    let other = ["train.lr=1e-4", "run.seed=7"];
    let error = runs.error("run", &other, Resume::Auto);
    assert_eq!(error.exit_code(), 2);
    let text = error.to_string();
    for part in ["`train.lr` was 0.01, is 0.0001", "`run.seed` was 42, is 7", "--resume-anyway"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let run = anyway(&runs, "run", &other).expect("it goes on").run_dir;
    let rates = series(&run, "learning_rate");
    assert_eq!(rates.len(), 20);
    assert!(rates[..7].iter().all(|&rate| rate == 1e-2) && rates[7..].iter().all(|&r| r == 1e-4));
    assert_eq!(state(&checkpoint(&run, 20), false)["seed"], 7);
    // It is now a run of these settings.
    runs.resumed("run", &[&other[..], &["train.steps=21"]].concat(), Resume::Auto);

    let data = write_counting_lines(&runs, true);
    let ids = ["task.name=ids", data[0].as_str()];
    runs.train("ids", &[&ids[..], &["train.steps=3"]].concat());
    let file = runs.path("train.jsonl");
    let text = String::from_utf8(read(&file)).expect("UTF-8");
    std::fs::write(&file, text + "{\"ids\": [1, 2, 3]}\n").expect("written");
    let more = [&ids[..], &["train.steps=5"]].concat();
    let error = runs.error("ids", &more, Resume::Auto);
    assert!(error.to_string().contains("--resume-anyway"), "{error}");
    let run = anyway(&runs, "ids", &more).expect("it goes on").run_dir;
    assert_eq!(metrics(&run).len(), 5);
}

#[test]
fn t15_another_adapter_or_choice_of_what_is_trained_is_refused_with_both_values() {
    let runs = Runs::temporary();
    let adapter = ["low_rank.rank=2", "train.steps=3"];
    let run = runs.train("run", &adapter).run_dir;
    for (setting, expected) in [
        ("low_rank.rank=4", "`low_rank.rank` was 2, is 4"),
        ("low_rank.targets=[\"v_proj\"]", "`low_rank.targets` was"),
        ("prefix.tokens=2", "`prefix.tokens` was 0, is 2"),
        ("train.only=[\"layers.0\"]", "`train.only` was [], is"),
    ] {
        let settings = ["low_rank.rank=2", "train.steps=5", setting];
        for error in [
            runs.error("run", &settings, Resume::Auto),
            anyway(&runs, "run", &settings).expect_err("not even anyway"),
        ] {
            assert_eq!(error.exit_code(), 2, "{error}");
            let text = error.to_string();
            assert!(text.contains(expected) && text.contains("not even with"), "{text}");
        }
    }
    assert_eq!(metrics(&run).len(), 3, "nothing was touched");
}

/// Changes a key of a checkpoint's state, and its manifest with it: nobody would find the damage.
fn rewrite(checkpoint: &Path, key: &str, value: Value) {
    let path = checkpoint.join("state.json");
    let mut state = read_json(&path);
    assert_ne!(state[key], value);
    state[key] = value;
    let text = state.to_string();
    std::fs::write(&path, &text).expect("written");
    let path = checkpoint.join("manifest.json");
    let mut manifest = read_json(&path);
    let entry = &mut manifest["files"]["state.json"];
    entry["size"] = text.len().into();
    entry["crc32"] = u32::from_str_radix(&hash_text(&text), 16).expect("hexadecimal").into();
    std::fs::write(&path, manifest.to_string()).expect("written");
    verify(checkpoint).expect("whole");
}

#[test]
fn t15_a_run_goes_on_with_as_many_trained_parameters_over_the_same_base_or_not_at_all() {
    let runs = Runs::temporary();
    for (name, kind) in [("branches", "low_rank.rank=2"), ("part", "train.only=[\"mlp\"]")] {
        let kept = [kind, "save.every=2", "train.steps=4"];
        let run = runs.train(name, &kept).run_dir;
        let states = [2, 4].map(|step| state(&checkpoint(&run, step), false));
        let [trained, frozen] = ["trainable_parameters", "frozen_crc32"].map(|key| &states[0][key]);
        assert!(trained.as_u64() > Some(0) && frozen.is_u64(), "{}", states[0]);
        assert_eq!(frozen, &states[1]["frozen_crc32"], "it stays");
        let more = [kind, "train.steps=6"];
        for (key, said) in [
            ("trainable_parameters", "trained parameters: were 5, are "),
            ("frozen_crc32", "checksum of the frozen parameters: was 00000005, is "),
        ] {
            rewrite(&checkpoint(&run, 4), key, 5.into());
            for error in [
                runs.error(name, &more, Resume::Auto),
                anyway(&runs, name, &more).expect_err("not even anyway"),
            ] {
                assert_eq!(error.exit_code(), 4, "{error}");
                let text = error.to_string();
                assert!(text.contains(said) && text.contains("step-000004"), "{text}");
            }
            rewrite(&checkpoint(&run, 4), key, states[1][key].clone());
        }
        runs.resumed(name, &more, Resume::Auto);
    }
    let whole = runs.train("whole", &["train.steps=2"]).run_dir;
    assert!(state(&checkpoint(&whole, 2), false)["frozen_crc32"].is_null(), "nothing is frozen");
}

/// Schedules are functions of the step and of the length of the training.
#[test]
fn t16_more_steps_give_the_rates_of_a_longer_training_from_there_on() {
    let runs = Runs::temporary();
    for schedule in ["cosine", "linear"] {
        let schedule = format!("train.schedule={schedule}");
        let settings = [schedule.as_str(), "train.warmup=3", "train.min_lr=1e-4"];
        let short = [&settings[..], &["train.steps=8"]].concat();
        let long = [&settings[..], &["train.steps=20"]].concat();
        let extended = runs.train(&format!("extended-{schedule}"), &short).run_dir;
        let of_short = series(&extended, "learning_rate");
        runs.resumed(&format!("extended-{schedule}"), &long, Resume::Auto);
        let straight = runs.train(&format!("straight-{schedule}"), &long).run_dir;
        let (found, of_long) =
            (series(&extended, "learning_rate"), series(&straight, "learning_rate"));
        assert_eq!(found[..8], of_short[..], "what is done stays");
        assert_eq!(found[8..], of_long[8..], "from there on it is the longer one");
        assert!(found[8] > found[7], "the rate rises again: {found:?}");
        assert_eq!(found[19], 1e-4);
        assert_eq!(found.len(), 20);
    }
    // A constant rate knows no length: more steps are the longer training itself.
    let extended = runs.train("constant", &["train.steps=8"]).run_dir;
    runs.resumed("constant", &[], Resume::Auto);
    let straight = runs.train("constant-straight", &[]).run_dir;
    assert_same_outcome(&straight, &extended, 20, "constant");
}
