//! Adapters from outside: read, merged, exported, refused.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_soft"));
    command.env_remove("SOFT_DEVICE").args(arguments).output().expect("the program starts")
}

/// Runs, expects success, returns stdout.
fn stdout(arguments: &[&str]) -> String {
    let output = run(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).expect("the output is UTF-8")
}

/// Runs, expects a failure, returns the code and stderr.
fn failure(arguments: &[&str]) -> (i32, String) {
    let output = run(arguments);
    assert!(output.stdout.is_empty(), "{arguments:?}");
    let stderr = String::from_utf8(output.stderr).expect("the output is UTF-8");
    (output.status.code().expect("no signal"), stderr)
}

/// A file that Python PEFT or transformers wrote.
fn fixture(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/peft");
    folder.join(name).display().to_string()
}

const IDS: [&str; 2] = ["--ids", "3,17,101,5,64,2,90"];

fn nll(model: &[&str]) -> f64 {
    let text = stdout(&[&["score", "--json"][..], &IDS, model].concat());
    let score: Value = serde_json::from_str(&text).expect("JSON");
    score["nll_mean"].as_f64().expect("a number")
}

#[test]
fn an_adapter_is_read_over_its_base_and_merged_into_it() {
    let out = tempfile::tempdir().unwrap();
    let base = fixture("base");
    for name in ["lora", "dora"] {
        let adapter = fixture(name);
        let adapted = nll(&["--model", &base, "--adapter", &adapter]);
        assert!((adapted - nll(&["--model", &base])).abs() > 1e-3);
        let merged = out.path().join(name).display().to_string();
        let told = stdout(&["merge", "--model", &base, "--adapter", &adapter, &merged]);
        assert!(told.contains("differ by at most"), "{told}");
        assert!((adapted - nll(&["--model", &merged])).abs() < 1e-5);
    }
    let prompt = ["generate", "--model", &base, "--prompt-ids", "3,17", "--json"];
    let settings = ["generate.max_new=3", "soft.mode=hard", "soft.temperature=0"];
    let plain = stdout(&[&prompt[..], &settings].concat());
    let adapted = stdout(&[&prompt[..], &["--adapter", &fixture("prefix")], &settings].concat());
    assert_ne!(plain, adapted);
    // A prefix takes positions of its own, and so does a prompt.
    for (name, first) in [("prefix", 3), ("prompt", 3)] {
        let long = vec!["1"; 64 - first + 1].join(",");
        let adapter = fixture(name);
        let over = ["score", "--model", &base, "--adapter", &adapter, "--ids", &long];
        assert_eq!(failure(&over).0, 3, "{name}");
    }
}

#[test]
fn what_cannot_be_merged_or_read_is_refused() {
    let out = tempfile::tempdir().unwrap();
    let (base, new) = (fixture("base"), out.path().join("new").display().to_string());
    let there = out.path().display().to_string();
    let cases: [(&[&str], i32, &str); 6] = [
        (&["merge", "--model", &base, "--adapter", &fixture("prompt"), &new], 4, "learned prompt"),
        (&["merge", "--model", &base, &new], 4, "no low-rank branch to merge"),
        (&["merge", "--model", &base, "--adapter", &fixture("lora"), &there], 2, "exists already"),
        (&["score", "--model", &base, "--adapter", &there, "--ids", "1"], 4, "no adapter"),
        (&["score", "--model", &fixture("lora"), "--ids", "1"], 4, "with --adapter"),
        (&["export", "peft", &base, &new], 4, "nothing added"),
    ];
    for (arguments, code, expected) in cases {
        let (found, stderr) = failure(arguments);
        assert!(found == code && stderr.contains(expected), "{arguments:?}: {found} {stderr}");
    }
    assert!(!Path::new(&new).exists());
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0, "nothing is left behind");
}

/// Settings of a run that takes a second, on a model with separate input projections.
const TINY: [&str; 10] = [
    "model.family=llama",
    "model.d_model=8",
    "task.digits=2",
    "task.digit_max=5",
    "train.steps=4",
    "train.warmup=0",
    "train.micro_batch=4",
    "eval.arms=[\"soft\"]",
    "low_rank.dropout=0.1",
    "run.name=tiny",
];

fn checkpoint(folder: &Path, settings: &[&str]) -> PathBuf {
    let output = Command::new(env!("CARGO_BIN_EXE_soft"))
        .env_remove("SOFT_DEVICE")
        .args([&["train"], settings, &TINY].concat())
        .current_dir(folder)
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let all = std::fs::read_dir(folder.join("runs/tiny/checkpoints")).expect("checkpoints");
    all.filter_map(|entry| Some(entry.ok()?.path())).max().expect("a checkpoint")
}

/// What a run trained is a PEFT adapter over its own base, and one merged model.
#[test]
fn a_trained_checkpoint_is_exported_both_ways() {
    let kinds: [(&[&str], bool); 3] = [
        (&["low_rank.rank=2", "low_rank.dora=true", "low_rank.targets=[\"all-linear\"]"], true),
        (
            &["low_rank.rank=2", "low_rank.rslora=true", "low_rank.targets=['.*\\.1\\..*q_proj']"],
            true,
        ),
        (&["prompt.tokens=2"], false),
    ];
    for (settings, merges) in kinds {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = checkpoint(folder.path(), settings).display().to_string();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let (peft, hf, base) = (path("peft"), path("hf"), path("base"));
        stdout(&["export", "peft", &checkpoint, &peft]);
        let text = std::fs::read_to_string(folder.path().join("peft/adapter_config.json")).unwrap();
        let config: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(config["base_model_name_or_path"], checkpoint);
        // The checkpoint's weights without its adapter are the base.
        std::fs::create_dir(&base).unwrap();
        for file in ["config.json", "model.safetensors"] {
            std::fs::copy(format!("{checkpoint}/{file}"), format!("{base}/{file}")).unwrap();
        }
        let score = |model: &[&str]| {
            let all = [&["score", "--json", "--ids", "1,6,7,8"], model].concat();
            serde_json::from_str::<Value>(&stdout(&all)).unwrap()["nll_mean"].as_f64().unwrap()
        };
        let own = score(&["--model", &checkpoint]);
        assert_eq!(score(&["--model", &base, "--adapter", &peft]), own, "{settings:?}");
        assert_eq!(score(&["--model", &base, "--adapter", &checkpoint]), own, "{settings:?}");
        assert_ne!(score(&["--model", &base]), own, "{settings:?}");
        let exported = run(&["export", "hf", &checkpoint, &hf]);
        assert_eq!(exported.status.success(), merges, "{settings:?}");
        if merges {
            assert!((score(&["--model", &hf]) - own).abs() < 1e-5, "{settings:?}");
        }
    }
}

/// An adapter that acts where the input is soft thinks as it was trained, and is its bare base
/// for tokens.
#[test]
fn an_adapter_of_soft_inputs_is_the_base_until_it_thinks() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["adapter.active=soft", "low_rank.rank=2", "train.lr=0.1"];
    let checkpoint = checkpoint(folder.path(), &settings).display().to_string();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let base = path("base");
    std::fs::create_dir(&base).unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(format!("{checkpoint}/{file}"), format!("{base}/{file}")).unwrap();
    }
    let soft = std::fs::read_to_string(format!("{checkpoint}/soft_config.toml")).unwrap();
    assert!(soft.contains("[adapter]\nactive = \"soft\""), "{soft}");
    let over = ["--model", &base, "--adapter", &checkpoint];
    let score =
        |model: &[&str]| stdout(&[&["score", "--json", "--ids", "1,6,7,8"], model].concat());
    assert_eq!(score(&over), score(&["--model", &base]), "tokens alone");
    let generate = |model: &[&str], settings: &[&str]| {
        let prompt = ["generate", "--prompt-ids", "1,6,7", "--json", "generate.max_new=4"];
        stdout(&[&prompt[..], model, settings].concat())
    };
    let hard = [
        "soft.mode=hard",
        "soft.temperature=0",
        "think.span=first",
        "think.first=1",
        "answer.mode=hard",
        "answer.temperature=0",
    ];
    assert_eq!(generate(&over, &hard), generate(&["--model", &base], &hard));
    let thought = generate(&over, &[]);
    assert_ne!(thought, generate(&["--model", &base], &[]));
    assert_eq!(thought, generate(&["--model", &checkpoint], &[]));
    let new = path("new");
    for refused in [["export", "peft", &checkpoint, &new], ["export", "hf", &checkpoint, &new]] {
        let (code, stderr) = failure(&refused);
        assert!(code == 4 && stderr.contains("soft alone"), "{refused:?}: {stderr}");
    }
    let lora = ["--model", &fixture("base"), "--adapter", &fixture("lora")];
    let words = ["generate", "--prompt-ids", "3", "adapter.active=soft"];
    let (code, stderr) = failure(&[&words[..], &lora].concat());
    assert!(code == 2 && stderr.contains("was trained to act everywhere"), "{stderr}");
}
