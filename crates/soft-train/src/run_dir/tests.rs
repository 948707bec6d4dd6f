use serde_json::json;

use super::*;

fn temp() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn steps(run: &RunDir) -> Vec<u64> {
    let records = read_jsonl(&run.path().join(METRICS)).expect("readable");
    records.iter().filter_map(|record| record["step"].as_u64()).collect()
}

#[test]
fn an_existing_name_is_refused_and_not_overwritten() {
    let root = temp();
    let run = RunDir::create(root.path(), "a").expect("new");
    run.write_config("seed = 1\n").expect("written");
    drop(run);
    let error = RunDir::create(root.path(), "a").expect_err("exists");
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("--resume auto"), "{error}");
    let run = RunDir::reopen_or_create(root.path(), "a").expect("continues");
    assert_eq!(run.read_config().expect("readable").as_deref(), Some("seed = 1\n"));
    let fresh = RunDir::reopen_or_create(root.path(), "b").expect("new");
    assert_eq!(fresh.read_config().expect("readable"), None);
    assert_eq!(RunDir::reopen(&root.path().join("c")).expect_err("none").exit_code(), 2);
}

#[test]
fn a_name_that_leads_elsewhere_is_refused() {
    let root = temp();
    for name in ["", ".", "..", "a/b", "../a", "a\\b", ".hidden"] {
        let error = RunDir::create(root.path(), name).expect_err("refused");
        assert_eq!(error.exit_code(), 2, "{name}");
    }
}

#[test]
fn t05_a_second_holder_is_refused_until_the_first_lets_go() {
    let root = temp();
    let run = RunDir::create(root.path(), "a").expect("new");
    let error = RunDir::reopen(run.path()).expect_err("held");
    assert!(matches!(error, Error::RunLocked { .. }), "{error}");
    let path = run.path().to_path_buf();
    drop(run);
    RunDir::reopen(&path).expect("free again");
}

#[test]
fn t04_a_place_that_cannot_be_written_is_a_disk_error_with_its_path() {
    let root = temp();
    let file = root.path().join("file");
    std::fs::write(&file, b"").expect("written");
    let error = RunDir::create(&file, "a").expect_err("a file is no directory");
    assert_eq!(error.exit_code(), 7);
    assert!(error.to_string().contains("file"), "{error}");
}

#[test]
fn numbers_keep_every_bit_also_through_truncation() {
    let root = temp();
    let run = RunDir::create(root.path(), "a").expect("new");
    let losses: Vec<f64> = (1..500).map(|n| (1.0 / f64::from(n)).exp() * 0.1).collect();
    let mut metrics = run.metrics().expect("open");
    for (step, loss) in losses.iter().enumerate() {
        metrics.append(&json!({"step": step, "loss": loss})).expect("written");
    }
    run.truncate_after(1000).expect("truncated");
    let text = fs::read_to_string(run.path().join(METRICS)).expect("readable");
    for (line, loss) in text.lines().zip(&losses) {
        let written = line.rsplit(':').next().expect("a number").trim_end_matches('}');
        assert_eq!(written.parse::<f64>().expect("a number").to_bits(), loss.to_bits());
    }
    assert_eq!(text.lines().count(), losses.len());
}

#[test]
fn t43_continuing_drops_the_records_after_the_checkpoint_and_a_cut_last_line() {
    let root = temp();
    let run = RunDir::create(root.path(), "a").expect("new");
    let mut metrics = run.metrics().expect("open");
    for step in 1..=7 {
        metrics.append(&json!({"step": step, "loss": 1.0 / f64::from(step)})).expect("written");
    }
    let path = run.path().join(METRICS);
    let before = fs::read_to_string(&path).expect("readable");
    fs::write(&path, format!("{before}{{\"step\": 8, \"lo")).expect("written");
    assert_eq!(steps(&run), [1, 2, 3, 4, 5, 6, 7], "the reader passes over the cut line");
    run.truncate_after(5).expect("truncated");
    assert_eq!(steps(&run), [1, 2, 3, 4, 5]);
    let kept: String = before.lines().take(5).map(|line| format!("{line}\n")).collect();
    assert_eq!(fs::read_to_string(&path).expect("readable"), kept, "kept lines are untouched");
    run.metrics().expect("open").append(&json!({"step": 6})).expect("written");
    assert_eq!(steps(&run), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn t43_appending_after_a_kill_does_not_run_on_from_the_cut_line() {
    let root = temp();
    let run = RunDir::create(root.path(), "a").expect("new");
    fs::write(run.path().join(METRICS), b"{\"step\":1}\n{\"step\":2,\"l\0\0").expect("written");
    run.metrics().expect("open").append(&json!({"step": 2})).expect("written");
    assert_eq!(steps(&run), [1, 2]);
}

#[test]
fn a_damaged_line_in_the_middle_is_placed() {
    let root = temp();
    let path = root.path().join("m.jsonl");
    fs::write(&path, b"{\"step\":1}\nxx\n{\"step\":3}\n").expect("written");
    let error = read_jsonl(&path).expect_err("damaged");
    assert!(error.to_string().contains("m.jsonl:2:1"), "{error}");
    assert_eq!(error.exit_code(), 3);
    assert_eq!(
        read_jsonl(&root.path().join("none")).expect("none"),
        Vec::<serde_json::Value>::new()
    );
}

#[test]
fn the_environment_is_written_and_read_back() {
    let root = temp();
    let run = RunDir::create(root.path(), "a").expect("new");
    let environment = Environment::capture("flex", 42);
    run.write_environment(&environment).expect("written");
    let text = fs::read(run.path().join(ENVIRONMENT)).expect("readable");
    let read: Environment = serde_json::from_slice(&text).expect("as written");
    assert_eq!(read, environment);
    assert_eq!(
        (read.device.as_str(), read.seed, read.versions.burn.as_str()),
        ("flex", 42, "0.22.1")
    );
}

#[test]
fn t14_a_run_continues_with_more_steps_but_not_with_another_learning_rate_or_seed() {
    let began =
        "[run]\nseed = 1\nname = \"a\"\n[train]\nlr = 0.001\nsteps = 10\n[save]\nevery = 5\n";
    let longer =
        "[run]\nseed = 1\nname = \"b\"\n[train]\nlr = 0.001\nsteps = 99\n[save]\nevery = 1\n";
    let changed = check_same_run(began, longer, false).expect("only free keys differ");
    assert!(changed.is_empty());
    let other =
        longer.replace("0.001", "0.01").replace("seed = 1", "seed = 2") + "[soft]\ntop_k = 3\n";
    let error = check_same_run(began, &other, false).expect_err("changed");
    assert_eq!(error.exit_code(), 2);
    let message = error.to_string();
    for line in [
        "`run.seed` was 1, is 2",
        "`train.lr` was 0.001, is 0.01",
        "`soft.top_k` was not set, is 3",
    ] {
        assert!(message.contains(line), "{message}");
    }
    assert!(!message.contains("steps") && !message.contains("`save"), "{message}");
    check_same_run("[", began, false).expect_err("not TOML");
    let changed = check_same_run(began, &other, true).expect("anyway");
    assert_eq!(changed.len(), 3);
    assert!(changed.iter().all(|line| message.contains(line)), "{changed:?}");
}

#[test]
fn t14_what_a_checkpoint_holds_cannot_change_even_anyway() {
    let began = "[train]\nlr = 0.001\nonly = []\n[model]\nd_model = 8\ndropout = 0.0\n[low_rank]\nrank = 2\n";
    let dropped = began.replace("dropout = 0.0", "dropout = 0.5");
    let changed = check_same_run(began, &dropped, true).expect("a rate of the training alone");
    assert_eq!(changed, ["  `model.dropout` was 0.0, is 0.5"]);
    for (key, value, other) in [
        ("model.d_model", "d_model = 8", "d_model = 16"),
        ("low_rank.rank", "rank = 2", "rank = 4"),
        ("train.only", "only = []", "only = [\"mlp\"]"),
    ] {
        let other = began.replace(value, other).replace("0.001", "0.01");
        let message = check_same_run(began, &other, true).expect_err(key).to_string();
        assert!(message.contains(&format!("`{key}` was")), "{message}");
        assert!(!message.contains("train.lr"), "that may change: {message}");
        let message = check_same_run(began, &other, false).expect_err(key).to_string();
        assert!(message.contains("`train.lr` was") && message.contains(key), "{message}");
    }
}
