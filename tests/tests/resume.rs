//! A run goes on from a checkpoint as if it had never stopped, or says why it does not.

use std::fs;
use std::path::PathBuf;

use soft_tests::runs::{
    Runs, assert_same_outcome, checkpoint, metrics, owned, read, state, write_counting_lines,
};
use soft_train::run::Resume;

/// Twenty steps at once against seven and then thirteen.
fn assert_resumes(kind: &[&str]) {
    let runs = Runs::temporary();
    for grad_accum in ["train.grad_accum=1", "train.grad_accum=3"] {
        let noisy = ["model.dropout=0.1", "soft.noise=gumbel", "train.micro_batch=4", grad_accum];
        let settings = [&noisy[..], &["guidance.start=0.5", "train.warmup=3"], kind].concat();
        let straight = runs.train(&format!("straight-{grad_accum}"), &settings).run_dir;
        let name = format!("stopped-{grad_accum}");
        runs.train(&name, &[&settings[..], &["train.steps=7"]].concat());
        let resumed = runs.resumed(&name, &settings, Resume::Auto).run_dir;
        assert_same_outcome(&straight, &resumed, 20, &format!("{kind:?} {grad_accum}"));
        assert_eq!(metrics(&resumed).len(), 20);
        let further = [&settings[..], &["train.steps=23"]].concat();
        runs.resumed(&name, &further, Resume::Auto);
        runs.resumed(&format!("straight-{grad_accum}"), &further, Resume::Auto);
        assert_same_outcome(&straight, &resumed, 23, "the state of the optimizer");
    }
}

#[test]
fn t11_a_resumed_training_is_the_uninterrupted_one_to_the_bit() {
    assert_resumes(&["rollout.kind=parallel"]);
}

#[test]
fn t11_a_resumed_sequential_training_is_the_uninterrupted_one_to_the_bit() {
    assert_resumes(&["rollout.kind=sequential", "rollout.segment=1"]);
}

#[test]
fn t11_a_resumed_low_rank_training_is_the_uninterrupted_one_to_the_bit() {
    assert_resumes(&["rollout.kind=parallel", "low_rank.rank=3", "low_rank.alpha=7.3"]);
}

#[test]
fn t11_a_resumed_prefix_training_is_the_uninterrupted_one_to_the_bit() {
    assert_resumes(&["rollout.kind=parallel", "prefix.tokens=2"]);
}

#[test]
fn t11_a_resumed_training_of_dora_drop_out_and_a_prompt_is_the_uninterrupted_one_to_the_bit() {
    let branches = ["low_rank.rank=2", "low_rank.dora=true", "low_rank.dropout=0.2"];
    let rollout = ["rollout.kind=sequential", "prompt.tokens=2"];
    assert_resumes(&[&branches[..], &rollout].concat());
}

#[test]
fn a_run_goes_on_from_a_checkpoint_that_is_named_and_forgets_what_came_after() {
    let runs = Runs::temporary();
    let settings = ["save.every=7", "save.keep=10", "eval.every=5", "eval.limit=8"];
    let straight = runs.train("straight", &settings).run_dir;
    let again = runs.train("again", &settings).run_dir;
    let seven = checkpoint(&again, 7);
    let until_seven = state(&seven, true)["seconds"].as_f64().expect("seconds");
    let settings = ["save.every=5", "save.keep=10", "eval.every=5", "eval.limit=8"];
    let resumed = runs.resumed("again", &settings, Resume::From(seven));
    assert_same_outcome(&straight, &again, 20, "from step 7");
    let seconds = state(&checkpoint(&again, 20), true)["seconds"].as_f64().expect("seconds");
    assert!(seconds > until_seven, "{seconds} s in all, {until_seven} s before it was stopped");
    let shown = resumed.results.arms[0].seconds;
    assert!((shown - seconds).abs() < 1e-9, "the table has the whole time: {shown}, {seconds}");
    assert!(!checkpoint(&again, 14).exists(), "a checkpoint of the abandoned branch");
}

#[test]
fn a_checkpoint_to_go_on_from_that_is_not_of_the_run_is_refused() {
    let runs = Runs::temporary();
    let run = runs.train("run", &["train.steps=3"]).run_dir;
    let other = runs.train("other", &["train.steps=3"]).run_dir;
    for path in [checkpoint(&run, 2), checkpoint(&other, 3), PathBuf::from("nowhere")] {
        let error = runs.error("run", &["train.steps=5"], Resume::From(path.clone()));
        assert_eq!(error.exit_code(), 4, "{error}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
    for (changed, key) in [("train.lr=1e-4", "train.lr"), (r#"eval.arms=["hard"]"#, "eval.arms")] {
        let error = runs.error("run", &["train.steps=5", changed], Resume::Auto);
        assert_eq!(error.exit_code(), 2, "{error}");
        assert!(error.to_string().contains(key), "{error}");
    }
}

#[test]
fn a_run_that_began_before_a_key_existed_goes_on_with_its_default() {
    let runs = Runs::temporary();
    let run = runs.train("run", &["train.steps=3"]).run_dir;
    let path = run.join("config.toml");
    let text = String::from_utf8(read(&path)).expect("UTF-8");
    let older: Vec<&str> = text.lines().filter(|line| !line.starts_with("norm_match")).collect();
    assert!(older.len() < text.lines().count());
    fs::write(&path, older.join("\n")).expect("written");
    let error = runs.error("run", &["train.steps=5", "soft.norm_match=l2"], Resume::Auto);
    assert!(error.to_string().contains("soft.norm_match"), "{error}");
    runs.resumed("run", &["train.steps=5"], Resume::Auto);
}

#[test]
fn t14_a_run_goes_on_with_the_data_it_began_with_and_no_other() {
    let runs = Runs::temporary();
    let data = write_counting_lines(&runs, true);
    let ids = ["task.name=ids", data[0].as_str()];
    let run =
        |steps: &str, resume| runs.try_train("run", &owned(&[&ids[..], &[steps]].concat()), resume);
    run("train.steps=3", Resume::Never).expect("it trains");
    run("train.steps=5", Resume::Auto).expect("the same data");
    let file = runs.path("train.jsonl");
    let text = String::from_utf8(read(&file)).expect("UTF-8");
    fs::write(&file, text + "{\"ids\": [1, 2, 3]}\n").expect("written");
    let error = run("train.steps=7", Resume::Auto).expect_err("a line more");
    assert_eq!(error.exit_code(), 3, "{error}");
    assert!(error.to_string().contains("step-000005"), "{error}");
}

#[test]
fn t01_a_run_that_was_killed_before_its_first_checkpoint_starts_over() {
    let runs = Runs::temporary();
    let straight = runs.train("straight", &[]).run_dir;
    let killed = runs.train("killed", &[]).run_dir;
    fs::remove_dir_all(killed.join("checkpoints")).expect("there is one");
    runs.resumed("killed", &[], Resume::Auto);
    assert_same_outcome(&straight, &killed, 20, "started over");
}

#[test]
fn t06_a_run_whose_checkpoints_are_all_damaged_loses_nothing() {
    let runs = Runs::temporary();
    let run = runs.train("run", &[]).run_dir;
    let optimizer = checkpoint(&run, 20).join("optimizer.bpk");
    fs::write(&optimizer, b"damaged").expect("written");
    let before = metrics(&run);
    let error = runs.error("run", &["train.steps=25"], Resume::Auto);
    assert_eq!(error.exit_code(), 4, "{error}");
    assert!(error.to_string().contains("none in it is whole"), "{error}");
    assert!(checkpoint(&run, 20).join("model.safetensors").is_file());
    assert_eq!(metrics(&run), before);
}

#[test]
fn a_finished_run_is_reported_with_the_steps_it_took() {
    let runs = Runs::temporary();
    runs.train("run", &[]);
    let again = runs.resumed("run", &["train.steps=10"], Resume::Auto);
    assert_eq!(again.results.arms[0].steps, 20);
}
