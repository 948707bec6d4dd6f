//! The estimate of memory and memory that runs out, from the outside.
#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

fn soft(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_soft"));
    command.args(arguments).current_dir(folder);
    command
}

fn text(output: &Output) -> (String, String) {
    let of = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    (of(&output.stdout), of(&output.stderr))
}

/// Rows of 40 to 320 ids, an eighth of each soft.
fn write_rows(path: &Path) {
    let row = |length: usize| {
        let ids: Vec<String> =
            (0..length).map(|t| ((t * 104_729 + 511) % 512).to_string()).collect();
        let soft: Vec<&str> =
            (0..length).map(|t| if t / (length / 8) == 1 { "1" } else { "0" }).collect();
        format!("{{\"ids\": [{}], \"soft\": [{}]}}\n", ids.join(", "), soft.join(", "))
    };
    let rows: String = [40, 80, 160, 320].map(row).concat();
    std::fs::write(path, rows).expect("written");
}

/// MB after "about" in the plan of a dry run.
fn estimated(shown: &str) -> f64 {
    let number = shown.split("about ").nth(1).and_then(|rest| rest.split(" MB").next());
    number.expect("an estimate").replace(',', "").parse().expect("a number")
}

/// Most resident memory of a process in MB, until it ends with success.
fn peak(command: &mut Command) -> f64 {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    let status = format!("/proc/{}/status", child.id());
    let mut most: f64 = 0.0;
    loop {
        let known = std::fs::read_to_string(&status).unwrap_or_default();
        let line = known.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok());
        most = most.max(kib.unwrap_or(0.0) * 1024.0 / 1e6);
        if let Some(ended) = child.try_wait().expect("it can be waited for") {
            assert!(ended.success(), "{ended}");
            return most;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn t44_the_estimate_of_a_dry_run_is_within_15_per_cent_of_the_peak() {
    let folder = tempfile::tempdir().unwrap();
    write_rows(&folder.path().join("rows.jsonl"));
    let settings = [
        "task.name=ids",
        "data.train=rows.jsonl",
        "model.family=llama",
        "model.d_model=128",
        "model.n_layers=4",
        "model.n_heads=4",
        "model.dropout=0",
        "train.micro_batch=16",
        "train.steps=2",
    ];
    for (name, own) in [
        ("teacher", &[][..]),
        ("recomputed", &["train.recompute=1"]),
        ("parallel", &["rollout.kind=parallel", "guidance.start=0.5", "soft.top_k=10"]),
    ] {
        let name = format!("run.name={name}");
        let words = [&["train", name.as_str()], &settings[..], own].concat();
        let dry = soft(folder.path(), &[&words[..], &["--dry-run"]].concat()).output().unwrap();
        let (shown, said) = text(&dry);
        assert_eq!(dry.status.code(), Some(0), "{said}");
        let (estimate, peak) = (estimated(&shown), peak(&mut soft(folder.path(), &words)));
        let error = estimate / peak - 1.0;
        assert!(error.abs() <= 0.15, "{name}: {estimate} MB estimated, {peak} MB at the peak");
    }
}

#[test]
fn t44_a_training_that_cannot_fit_is_refused_with_three_ways_out_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    write_rows(&folder.path().join("rows.jsonl"));
    let words = [
        "train",
        "task.name=ids",
        "data.train=rows.jsonl",
        "model.n_layers=1024",
        "model.d_model=16384",
        "train.micro_batch=64",
    ];
    for dry in [&[][..], &["--dry-run"]] {
        let output = soft(folder.path(), &[&words[..], dry].concat()).output().unwrap();
        let (_, said) = text(&output);
        assert_eq!(output.status.code(), Some(6), "{said}");
        assert!(said.contains(" MB are available; what would save most:"), "{said}");
        assert!(said.matches("   saves ").count() >= 2, "{said}");
        assert!(!folder.path().join("runs").exists());
    }
    let off = [&words[..], &["--dry-run", "run.memory_check=off"]].concat();
    assert_eq!(soft(folder.path(), &off).output().unwrap().status.code(), Some(0));
}

/// The limit is on addresses, which the estimate does not look at: the allocator is refused.
#[test]
fn t45_memory_that_the_system_refuses_ends_with_6_and_advice() {
    let folder = tempfile::tempdir().unwrap();
    write_rows(&folder.path().join("rows.jsonl"));
    let limited = "ulimit -v 1000000 && exec \"$0\" \"$@\"";
    let output = Command::new("sh")
        .args(["-c", limited, env!("CARGO_BIN_EXE_soft"), "train", "task.name=ids"])
        .args(["data.train=rows.jsonl", "model.d_model=1024", "model.n_layers=16"])
        .args(["model.n_heads=16", "train.steps=1", "run.memory_check=off"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let (_, said) = text(&output);
    assert_eq!(output.status.code(), Some(6), "{said}");
    for part in ["error: out of memory: ", " bytes were refused", "--dry-run", "train.recompute=1"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn the_doctor_knows_the_memory_and_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let output = soft(folder.path(), &["doctor", "--json"]).output().unwrap();
    let report: serde_json::Value = serde_json::from_str(&text(&output).0).expect("JSON");
    for key in ["memory_gib", "memory_available_gib", "disk_gib", "disk_free_gib"] {
        assert!(report[key].as_f64().is_some_and(|gib| gib > 0.0), "{key}: {report}");
    }
    assert!(report.get("memory_limit_gib").is_some(), "{report}");
    assert_eq!(report["runs_folder"], "runs");
    let shown = text(&soft(folder.path(), &["doctor"]).output().unwrap()).0;
    assert!(shown.contains("\ndisk     ") && shown.contains(" GiB free for runs"), "{shown}");
}
