use std::io;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::writer::DiskOp;
use super::*;

fn write(run_dir: &Path, step: u64) -> PathBuf {
    let writer = Writer::begin(run_dir, step).expect("a writable directory");
    writer.write("model.safetensors", &step.to_le_bytes().repeat(4096)).expect("written");
    writer.write_json(STATE, &state(step)).expect("written");
    writer.commit("cafe0001").expect("committed")
}

fn state(step: u64) -> TrainState {
    TrainState {
        version: STATE_VERSION,
        step,
        examples_seen: step * 64,
        data_crc32: 7,
        num_tokens: step * 640,
        seconds: step as f64 * 0.25,
        seed: 9,
        guidance_position: step as f64,
        accumulation_window: AccumulationWindow {
            micro_batch: 32,
            grad_accum: 2,
            micro_steps_done: 0,
        },
        trainable_parameters: 28672,
        frozen_crc32: Some(11),
        course: Course::default(),
    }
}

fn temp() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn newest(run_dir: &Path) -> (Option<u64>, Vec<String>) {
    let found = newest_valid(run_dir).expect("listable");
    (found.checkpoint.map(|checkpoint| checkpoint.step), found.warnings)
}

fn names(run_dir: &Path) -> Vec<String> {
    let mut names = entries(&run_dir.join(CHECKPOINTS)).expect("listable");
    names.sort();
    names
}

#[test]
fn what_was_written_is_found_verified_and_read_back() {
    let dir = temp();
    assert_eq!(newest(dir.path()), (None, Vec::new()), "a run without checkpoints");
    let path = write(dir.path(), 100);
    assert!(path.ends_with("checkpoints/step-000100"));
    write(dir.path(), 99);
    assert_eq!(newest(dir.path()), (Some(100), Vec::new()));
    let manifest = verify(&path).expect("whole");
    assert_eq!((manifest.step, manifest.config_hash.as_str()), (100, "cafe0001"));
    assert_eq!(manifest.files["model.safetensors"].size, 32768);
    assert_eq!(TrainState::read(&path).expect("readable"), state(100));
}

#[test]
fn t07_one_flipped_bit_in_any_file_is_named_and_walked_back_over() {
    for name in ["model.safetensors", STATE, MANIFEST] {
        let dir = temp();
        write(dir.path(), 1);
        let damaged = write(dir.path(), 2).join(name);
        let mut bytes = fs::read(&damaged).expect("readable");
        bytes[0] ^= 1;
        fs::write(&damaged, bytes).expect("writable");
        let (step, warnings) = newest(dir.path());
        assert_eq!(step, Some(1), "{name}");
        assert!(warnings.len() == 1 && warnings[0].contains(name), "{warnings:?}");
        let error = verify(damaged.parent().expect("a checkpoint")).expect_err("damaged");
        assert_eq!(error.exit_code(), 4);
    }
}

#[test]
fn t06_missing_and_cut_files_are_named() {
    let dir = temp();
    let path = write(dir.path(), 1);
    fs::write(path.join("model.safetensors"), b"short").expect("writable");
    let message = verify(&path).expect_err("cut").to_string();
    assert!(message.contains("model.safetensors has 5 bytes, expected 32768"), "{message}");
    fs::remove_file(path.join("model.safetensors")).expect("removable");
    assert!(verify(&path).expect_err("missing").to_string().contains("is missing"));
    fs::remove_file(path.join(MANIFEST)).expect("removable");
    assert!(verify(&path).expect_err("unfinished").to_string().contains("never finished"));
    let gone = verify(&dir.path().join("nowhere")).expect_err("gone").to_string();
    assert!(gone.contains("no such directory"), "{gone}");
}

#[test]
fn t08_a_newer_version_says_so_and_a_hostile_name_stays_inside() {
    let dir = temp();
    let path = write(dir.path(), 1);
    fs::write(path.join(MANIFEST), br#"{"version": 2, "all": "new"}"#).expect("writable");
    let message = verify(&path).expect_err("newer").to_string();
    assert!(message.contains("version 2") && message.contains("update"), "{message}");
    let hostile =
        br#"{"version":1,"step":1,"config_hash":"","files":{"../../x":{"size":0,"crc32":0}}}"#;
    fs::write(path.join(MANIFEST), hostile).expect("writable");
    assert!(verify(&path).expect_err("outside").to_string().contains("inside the checkpoint"));
}

#[test]
fn t09_files_are_flushed_before_the_directory_and_the_rename_before_its_parent() {
    let dir = temp();
    let writer = Writer::begin(dir.path(), 5).expect("a writable directory");
    writer.write("a", b"1").expect("written");
    let mut seen = Vec::new();
    let mut watch = |op| {
        seen.push(op);
        Ok(())
    };
    writer.commit_watched("", &mut watch).expect("committed");
    let expected = [
        DiskOp::SyncFile("a".into()),
        DiskOp::SyncFile(MANIFEST.into()),
        DiskOp::SyncDirectory,
        DiskOp::Rename,
        DiskOp::SyncParent,
    ];
    assert_eq!(seen, expected);
}

#[test]
fn t02_a_full_disk_at_any_point_leaves_the_old_checkpoint_and_no_litter() {
    for fail_at in 0..6 {
        let dir = temp();
        write(dir.path(), 1);
        write(dir.path(), 2);
        let writer = Writer::begin(dir.path(), 2).expect("a writable directory");
        writer.write("a", b"1").expect("written");
        let mut point = 0;
        let mut watch = |_| {
            point += 1;
            if point > fail_at { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { Ok(()) }
        };
        let error = writer.commit_watched("", &mut watch).expect_err("full");
        assert_eq!(error.exit_code(), 7);
        let message = error.to_string();
        assert!(
            message.contains("step-000002") && message.contains("free some space"),
            "{message}"
        );
        assert_eq!(newest(dir.path()).0, Some(2), "failed at {fail_at}");
        assert!(names(dir.path()).iter().all(|name| !name.starts_with(TEMP_PREFIX)));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn t02_a_write_the_system_refuses_for_lack_of_space_is_a_disk_error() {
    let dir = temp();
    let writer = Writer::begin(dir.path(), 1).expect("a writable directory");
    let full = writer.path().join("model.safetensors");
    std::os::unix::fs::symlink("/dev/full", &full).expect("a link");
    let error = writer.write("model.safetensors", &[0; 64]).expect_err("no space");
    assert_eq!(error.exit_code(), 7);
    assert!(error.to_string().contains("model.safetensors"), "{error}");
}

#[test]
fn t03_what_a_killed_process_left_is_cleaned_and_never_mistaken_for_a_checkpoint() {
    let dir = temp();
    write(dir.path(), 1);
    let writer = Writer::begin(dir.path(), 2).expect("a writable directory");
    writer.write("a", b"1").expect("written");
    std::mem::forget(writer);
    assert_eq!(newest(dir.path()), (Some(1), Vec::new()));
    clean_unfinished(dir.path()).expect("cleaned");
    assert_eq!(names(dir.path()), ["step-000001"]);
}

#[test]
fn t01_the_same_step_again_replaces_and_a_kill_between_the_renames_loses_nothing() {
    let dir = temp();
    let path = write(dir.path(), 1);
    let writer = Writer::begin(dir.path(), 1).expect("a writable directory");
    writer.write("new", b"1").expect("written");
    writer.commit("").expect("committed");
    assert!(verify(&path).expect("whole").files.contains_key("new"));
    assert_eq!(names(dir.path()), ["step-000001"]);
    fs::rename(&path, path.with_file_name("step-000001.replaced")).expect("renamed");
    assert_eq!(newest(dir.path()).0, Some(1));
}

#[test]
fn t10_retention_keeps_the_newest_and_never_deletes_the_newest_whole_one() {
    let dir = temp();
    for step in 1..=5 {
        write(dir.path(), step);
    }
    assert!(prune(dir.path(), 0, &[]).expect("kept").is_empty());
    assert_eq!(prune(dir.path(), 3, &[]).expect("pruned"), [1, 2]);
    for step in [4, 5] {
        fs::write(dir.path().join(CHECKPOINTS).join(step_name(step)).join(STATE), b"")
            .expect("cut");
    }
    assert_eq!(prune(dir.path(), 1, &[]).expect("pruned"), [4]);
    assert_eq!(newest(dir.path()).0, Some(3));
}

#[test]
fn t10_retention_keeps_the_best_beside_the_newest() {
    let dir = temp();
    for step in 1..=6 {
        write(dir.path(), step);
    }
    assert_eq!(prune(dir.path(), 2, &[2]).expect("pruned"), [1, 3, 4]);
    assert_eq!(names(dir.path()), [2, 5, 6].map(step_name));
    // The best among the newest takes no place of theirs.
    assert_eq!(prune(dir.path(), 2, &[6]).expect("pruned"), [2]);
    // The newest whole one, the best one and the newest are three.
    write(dir.path(), 7);
    for step in [6, 7] {
        fs::write(dir.path().join(CHECKPOINTS).join(step_name(step)).join(STATE), b"")
            .expect("cut");
    }
    write(dir.path(), 2);
    assert_eq!(prune(dir.path(), 1, &[2]).expect("pruned"), [6]);
    assert_eq!(names(dir.path()), [2, 5, 7].map(step_name));
}

#[test]
fn a_state_of_the_version_before_is_read_with_nothing_remembered() {
    let dir = temp();
    let path = write(dir.path(), 3);
    let text = fs::read_to_string(path.join(STATE)).expect("readable");
    let mut value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    value["version"] = 2.into();
    let entries = value.as_object_mut().expect("an object");
    entries.remove("course");
    entries.remove("frozen_crc32");
    fs::write(path.join(STATE), value.to_string()).expect("written");
    let read = TrainState::read(&path).expect("readable");
    assert_eq!((read.step, read.course, read.frozen_crc32), (3, Course::default(), None));
    for version in [1, STATE_VERSION + 1] {
        value["version"] = version.into();
        fs::write(path.join(STATE), value.to_string()).expect("written");
        let error = TrainState::read(&path).expect_err("of another version").to_string();
        assert!(error.contains(&format!("has version {version}, expected 2 to 3")), "{error}");
    }
}

const KILLED_CHILD: &str = "SOFT_TEST_KILLED_CHILD";

/// The child of the test below: goes on from the newest checkpoint, as a resumed run does. Does
/// nothing in an ordinary run.
#[test]
fn child_that_writes_checkpoints_until_killed() {
    let Some(run_dir) = std::env::var_os(KILLED_CHILD) else { return };
    let run_dir = Path::new(&run_dir);
    clean_unfinished(run_dir).expect("cleaned");
    for step in newest(run_dir).0.unwrap_or(0) + 1.. {
        write(run_dir, step);
        write(run_dir, step);
        prune(run_dir, 2, &[]).expect("pruned");
    }
}

#[test]
fn t01_a_process_killed_at_any_moment_leaves_a_whole_newest_checkpoint() {
    let dir = temp();
    let mut before = 0;
    for round in 0..15_u64 {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "checkpoint_dir::tests::child_that_writes_checkpoints_until_killed"])
            .env(KILLED_CHILD, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("a child");
        let started = Instant::now();
        while !dir.path().join(CHECKPOINTS).join(step_name(before + 1)).exists()
            && started.elapsed() < Duration::from_secs(30)
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros(round * 1301 % 9000));
        child.kill().expect("killed");
        child.wait().expect("reaped");
        let (step, warnings) = newest(dir.path());
        assert_eq!(warnings, Vec::<String>::new(), "a half checkpoint came into sight");
        assert!(step > Some(before), "round {round}: {step:?} after {before}");
        before = step.unwrap_or(0);
    }
}
