//! What a model writes while it is trained, and what a page makes of several trainings.

use std::path::Path;

use burn::tensor::DType;
use serde_json::Value;
use soft_model::{ModelFiles, Transformer};
use soft_tests::device;
use soft_tests::runs::Runs;
use soft_train::config::Loader;
use soft_train::decoding::Decoding;
use soft_train::report::{Time, render, render_side_by_side};
use soft_train::run::Resume;
use soft_train::run_dir::{SAMPLES, TIMES, TRACES, read_jsonl};

fn records(run: &Path, name: &str) -> Vec<Value> {
    read_jsonl(&run.join(name)).expect("readable")
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().expect("ids").iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

const SAMPLED: [&str; 3] = ["eval.samples=2", "eval.every=10", "eval.limit=20"];

#[test]
fn samples_are_what_a_checkpoint_of_the_step_generates() {
    let runs = Runs::temporary();
    let run = runs.train("sampled", &[&SAMPLED[..], &["train.steps=15"]].concat()).run_dir;
    let steps: Vec<u64> =
        records(&run, SAMPLES).iter().map(|line| line["step"].as_u64().expect("a step")).collect();
    assert_eq!(steps, [0, 0, 10, 10, 15, 15], "before, at each evaluation, and after");
    let checkpoint = run.join("checkpoints/step-000015");
    let files = ModelFiles::open(&checkpoint).expect("a checkpoint is a model");
    let loaded = Loader::new().model(files.soft.clone().expect("its settings")).load();
    let decoding = Decoding::new(&loaded.expect("valid").config, &files).expect("it decodes");
    let model = Transformer::open(&files, &device(), DType::F32).expect("it opens");
    let traces = records(&run, TRACES);
    assert_eq!(traces.len(), 2, "those of the last step");
    for (trace, sample) in traces.iter().zip(&records(&run, SAMPLES)[4..]) {
        let made = decoding.run(&model, &[ids(&trace["prompt_ids"])], 0, &mut |_, _, _| {});
        let made = &made.expect("it generates")[0].rows[0];
        assert_eq!(ids(&trace["token_ids"]), made.token_ids);
        assert_eq!(trace["text"], sample["text"]);
        assert_eq!(trace["steps"].as_array().map(Vec::len), Some(made.token_ids.len()));
    }
    let page = render(&run).expect("a page");
    for part in ["<h2>Samples</h2>", "Sample 2 after step 15", "class=\"heat\""] {
        assert!(page.contains(part), "{part} is missing");
    }
}

#[test]
fn a_resumed_training_has_the_samples_of_an_unbroken_one() {
    let runs = Runs::temporary();
    let settings = |steps: &'static str| [&SAMPLED[..], &[steps, "save.every=10"]].concat();
    let whole = runs.train("whole", &settings("train.steps=20")).run_dir;
    let broken = runs.train("broken", &settings("train.steps=15")).run_dir;
    // As if it had been killed after step 15 was sampled and before its checkpoint was whole.
    std::fs::remove_dir_all(broken.join("checkpoints/step-000015")).expect("it was there");
    let broken = runs.resumed("broken", &settings("train.steps=20"), Resume::Auto).run_dir;
    assert_eq!(records(&whole, SAMPLES), records(&broken, SAMPLES));
    assert_eq!(records(&broken, TIMES).len(), 20);
}

#[test]
fn samples_without_held_out_examples_are_refused() {
    let loader = Loader::new().text("my.toml", "task.name = \"ids\"\neval.samples = 1\n");
    let error = loader.load().expect_err("nothing to continue").to_string();
    assert!(error.contains("`eval.samples` is set and `data.valid` is not"), "{error}");
}

#[test]
fn trainings_side_by_side_show_both_kinds_of_time() {
    let runs = Runs::temporary();
    let train = |name| runs.train(name, &["eval.every=5", "eval.limit=20"]).run_dir;
    let trained = [train("one-seed-1"), train("two-seed-1")];
    for time in [Time::Wall, Time::Processor] {
        let page = render_side_by_side(&trained, time).expect("a page");
        assert!(page.contains("has the best valid/accuracy"), "{page}");
        let plots = page.matches("<svg class=\"plot\"").count();
        assert_eq!(plots, 6, "three figures, by time and by step");
    }
}

#[test]
fn a_pattern_that_names_nothing_leaves_the_run_s_name_free() {
    let runs = Runs::temporary();
    for settings in ["train.only=[\"nothing\"]", "train.rates=[\"nothing 2\"]"] {
        let error = runs.error("run", &[settings], Resume::Never);
        assert_eq!(error.exit_code(), 2, "{error}");
        assert!(!runs.path("run").exists(), "{settings}");
    }
}

#[test]
fn metrics_are_written_for_tensorboard_where_it_is_asked_for() {
    let runs = Runs::temporary();
    let files = |run: &Path| std::fs::read_dir(run.join("tensorboard")).map_or(0, Iterator::count);
    let settings = ["log.tensorboard=true", "train.steps=3", "save.every=2"];
    let run = runs.train("events", &settings).run_dir;
    assert_eq!(files(&run), 1);
    let more = [&settings[..], &["train.steps=4"]].concat();
    assert_eq!(files(&runs.resumed("events", &more, Resume::Auto).run_dir), 2);
    assert_eq!(files(&runs.train("none", &["train.steps=1"]).run_dir), 0);
}
