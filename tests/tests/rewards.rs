//! Trainings on rewards: they go on to the bit, record what they did, and end well where a reward
//! fails or the policy runs away.

use soft_tests::runs::{Runs, assert_same_outcome, checkpoint, json_lines, metrics, owned};
use soft_train::Error;
use soft_train::run::Resume;

/// Rows of a step: 2 micro-batches of 3 prompts with 4 rows each.
const ROWS: [&str; 4] = ["rl.group=4", "rl.updates=2", "train.micro_batch=3", "train.grad_accum=2"];

/// Twenty steps at once against seven and then thirteen.
fn assert_resumes(kind: &[&str]) {
    let runs = Runs::temporary();
    let settings = [&["train.warmup=3", "log.every=3"], &ROWS[..], kind].concat();
    let straight = runs.train("straight", &settings).run_dir;
    runs.train("stopped", &[&settings[..], &["train.steps=7"]].concat());
    let resumed = runs.resumed("stopped", &settings, Resume::Auto).run_dir;
    assert_same_outcome(&straight, &resumed, 20, &format!("{kind:?}"));
    assert_eq!(metrics(&resumed).len(), 20);
    let completions = [&straight, &resumed].map(|run| json_lines(&run.join("completions.jsonl")));
    assert_eq!(completions[0].len(), 4 * 6, "a group every third step");
    assert!(completions[0] == completions[1], "{kind:?}: what rows wrote");
    // The state of the optimizer and of the value head too.
    let further = [&settings[..], &["train.steps=23"]].concat();
    runs.resumed("stopped", &further, Resume::Auto);
    runs.resumed("straight", &further, Resume::Auto);
    assert_same_outcome(&straight, &resumed, 23, &format!("{kind:?}"));
}

/// What is drawn is a function of the step, so that nothing of it has to be saved.
#[test]
fn t11_every_policy_resumes_to_the_bit() {
    for policy in ["token", "samples", "gumbel", "gaussian", "hybrid", "dirichlet"] {
        assert_resumes(&["rl.algorithm=grpo", "rl.entropy=0.01", &format!("rl.policy={policy}")]);
    }
}

#[test]
fn t11_a_value_head_and_a_reference_resume_to_the_bit() {
    assert_resumes(&["rl.algorithm=ppo", "rl.beta=0.1", "train.lr=1e-2"]);
    let branches = ["low_rank.rank=2", "low_rank.alpha=4", "rl.algorithm=grpo", "rl.beta=0.1"];
    assert_resumes(&branches);
    assert_resumes(&["rl.algorithm=rloo", "rl.supervised=0.5", "rollout.kind=sequential"]);
}

/// A command is started anew and asked the same.
#[cfg(unix)]
#[test]
fn t11_a_training_on_a_command_resumes_to_the_bit() {
    let command = r#"rl.command=["sh", "-c", "while read -r line; do echo ${#line}; done"]"#;
    assert_resumes(&["rl.algorithm=grpo", r#"rl.rewards=["command 0.01", "answer 1"]"#, command]);
}

#[test]
fn a_training_records_what_its_draws_were_worth() {
    let runs = Runs::temporary();
    let settings = [
        "rl.algorithm=grpo",
        "rl.group=4",
        "rl.beta=0.1",
        r#"rl.rewards=["answer 1", "format 0.5"]"#,
        "train.steps=3",
        "log.every=2",
    ];
    let run = runs.train("rewarded", &settings).run_dir;
    let lines = metrics(&run);
    assert_eq!(lines.len(), 3);
    for line in &lines {
        let number = |key: &str| line[key].as_f64().unwrap_or_else(|| panic!("{key} in {line}"));
        let (answer, format) = (number("rewards/answer/mean"), number("rewards/format/mean"));
        assert!((number("reward") - answer - 0.5 * format).abs() < 1e-9);
        assert!((0.0..=1.0).contains(&number("frac_reward_zero_std")));
        assert_eq!((number("ratio/min"), number("ratio/max")), (1.0, 1.0), "to the bit");
        assert!(number("kl") > -1e-6 && number("buffer_bytes") > 0.0);
        assert!(number("completions/mean_length") >= number("thoughts/mean_length"));
        assert!(line.get("guidance").is_none(), "no truth is fed");
    }
    let kl = |line: usize| lines[line]["kl"].as_f64().expect("a number");
    assert!(kl(0).abs() < 1e-6 && kl(2) > 1e-5, "nothing has moved at first: {} {}", kl(0), kl(2));
    let completions = json_lines(&run.join("completions.jsonl"));
    assert_eq!(completions.len(), 4, "a group, at step 2");
    for line in &completions {
        assert_eq!(line["step"], 2);
        let right = if line["correct"] == true { 1.0 } else { 0.0 };
        assert_eq!(line["rewards"]["answer"], right);
        assert!(line["prompt"].as_str().is_some_and(|text| text.starts_with("<BOS>")), "{line}");
        assert_eq!(line["thoughts"].as_array().map(Vec::len), Some(1));
    }
    let advantages = completions.iter().filter_map(|line| line["advantage"].as_f64());
    assert!(advantages.sum::<f64>().abs() < 1e-6, "the rows of a group are compared");
    for line in json_lines(&run.join("times.jsonl")) {
        let part = |key: &str| line[key].as_f64().expect("a time");
        let parts = part("rollout_seconds") + part("reward_seconds") + part("update_seconds");
        assert!(parts <= part("seconds") && part("rollout_seconds") > 0.0, "{line}");
    }
}

/// A reward that cannot say ends the run with a message, and loses nothing: the steps before are
/// saved, and the run goes on with another reward.
#[cfg(unix)]
#[test]
fn a_reward_that_fails_loses_nothing() {
    // Answers the 24 rows of a step twice, then misbehaves, and does so again when it is started anew.
    let command = |runs: &Runs, bad: &str| {
        let count = runs.path("count").display().to_string();
        format!(
            r#"rl.command=["sh", "-c", "f={count}; [ -e $f ] || echo 0 > $f; while read -r line; do n=$(($(tail -n 1 $f) + 1)); echo $n > $f; if [ $n -gt 48 ]; then {bad}; else echo 0.$n; fi; done"]"#
        )
    };
    for (bad, expected) in [
        ("echo NaN", "NaN"),
        ("echo text", "text"),
        ("echo '{}'", "reward"),
        ("exit 3", "exit status: 3"),
        ("sleep 100", "within"),
    ] {
        let runs = Runs::temporary();
        let command = command(&runs, bad);
        let settings = [
            &["rl.algorithm=grpo", r#"rl.rewards=["command 1"]"#, "rl.command_seconds=1"],
            &ROWS[..],
            &[&command[..]],
        ]
        .concat();
        let error = runs.error("fails", &settings, Resume::Never);
        assert_eq!(error.exit_code(), 3, "{error}");
        let text = error.to_string();
        assert!(text.contains("step 3") && text.contains(expected), "{bad}: {text}");
        assert!(checkpoint(&runs.path("fails"), 2).is_dir(), "{bad}");
        assert_eq!(metrics(&runs.path("fails")).len(), 2);
    }
}

/// What goes on after a reward failed ends as a run whose reward never did.
#[cfg(unix)]
#[test]
fn t11_a_training_goes_on_to_the_bit_after_a_reward_that_failed() {
    let runs = Runs::temporary();
    let broken = runs.path("broken").display().to_string();
    // Says nothing of the third step's rows while there is a file.
    let command = format!(
        r#"rl.command=["sh", "-c", "n=0; while read -r line; do n=$((n + 1)); if [ $n -gt 48 ] && [ -e {broken} ]; then echo NaN; else echo ${{#line}}; fi; done"]"#
    );
    let rewards = r#"rl.rewards=["command 0.01"]"#;
    let settings =
        [&["rl.algorithm=grpo", rewards, "log.every=1"], &ROWS[..], &[&command]].concat();
    let straight = runs.train("straight", &settings).run_dir;
    std::fs::write(runs.path("broken"), "").expect("written");
    let error = runs.error("failed", &settings, Resume::Never);
    assert_eq!(error.exit_code(), 3, "{error}");
    assert_eq!(metrics(&runs.path("failed")).len(), 2);
    std::fs::remove_file(runs.path("broken")).expect("removed");
    let resumed = runs.resumed("failed", &settings, Resume::Auto).run_dir;
    assert_same_outcome(&straight, &resumed, 20, "after a reward that failed");
}

#[test]
fn a_policy_that_runs_away_is_stopped_with_its_checkpoint() {
    let runs = Runs::temporary();
    let settings =
        ["rl.algorithm=grpo", "rl.beta=1e-6", "rl.kl_stop=0.01", "train.lr=0.5", "save.every=0"];
    let error = runs.error("away", &settings, Resume::Never);
    assert_eq!(error.exit_code(), 5, "{error}");
    let Error::Diverged { step, what } = &error else { panic!("{error}") };
    assert!(what.contains("rl.kl_stop"), "{what}");
    assert!(checkpoint(&runs.path("away"), *step as usize).is_dir(), "what it came to is saved");
}

#[test]
fn a_reward_model_that_is_none_is_refused_before_anything_is_trained() {
    let runs = Runs::temporary();
    let settings = ["rl.algorithm=grpo", r#"rl.rewards=["model 1"]"#, "rl.reward_model=nowhere"];
    let error = runs.try_train("none", &owned(&settings), Resume::Never).expect_err("refused");
    assert!(error.to_string().contains("nowhere"), "{error}");
    assert!(!runs.path("none").exists(), "its name is free");
}

/// A reference of its own is that model, and one of another vocabulary is refused.
#[test]
fn a_reference_is_the_model_that_is_named() {
    let runs = Runs::temporary();
    let start = checkpoint(&runs.train("start", &["train.steps=2"]).run_dir, 2);
    let settings = ["rl.algorithm=grpo", "rl.group=4", "rl.beta=0.1", "train.steps=1"];
    let with = |path: &std::path::Path| format!("rl.reference={:?}", path.display().to_string());
    let own = with(&start);
    let from = format!("model.path={:?}", start.display().to_string());
    let same = runs.train("same", &[&settings[..], &[&own, &from]].concat()).run_dir;
    let kl = |run: &std::path::Path| metrics(run)[0]["kl"].as_f64().expect("a number");
    assert!(kl(&same).abs() < 1e-6, "{}", kl(&same));
    let other = runs.train("other", &[&settings[..], &[&own, "run.seed=9"]].concat()).run_dir;
    assert!(kl(&other) > 1e-4, "{}", kl(&other));
    let another = ["task.name=multiplication", "task.digits=1", "train.steps=1"];
    let another = checkpoint(&runs.train("another", &another).run_dir, 1);
    let error = runs.error("refused", &[&settings[..], &[&with(&another)]].concat(), Resume::Never);
    let text = error.to_string();
    assert_eq!(error.exit_code(), 2, "{text}");
    assert!(text.contains("vocabulary") && text.contains("rl.reference"), "{text}");
}

/// With low-rank branches alone the reference is the model without them: nothing apart at first, as
/// they begin at 0, and something once they have moved.
#[test]
fn branches_move_away_from_the_model_without_them() {
    let runs = Runs::temporary();
    let settings = ["rl.algorithm=grpo", "rl.group=8", "rl.beta=0.01", "train.steps=6"];
    let branches = ["low_rank.rank=2", "low_rank.alpha=4"];
    let run = runs.train("branches", &[&settings[..], &branches].concat()).run_dir;
    let kl: Vec<f64> = metrics(&run).iter().filter_map(|line| line["kl"].as_f64()).collect();
    assert!(kl[0].abs() < 1e-6 && kl[5] > 1e-6, "{kl:?}");
}
