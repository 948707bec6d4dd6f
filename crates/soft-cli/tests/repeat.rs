//! What a fixed seed promises: the same output twice, and the same tokens on another number of
//! threads wherever the choice was clear.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A real model; the test is left out, aloud, where there is none.
fn model() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folders = match std::env::var_os("SOFT_MODELS") {
        Some(folder) => vec![PathBuf::from(folder)],
        None => vec![root.join("models"), root.join("../shared/models")],
    };
    let file = |folder: &PathBuf| folder.join("SmolLM2-135M-Instruct.Q4_1.gguf");
    let found = folders.iter().map(file).find(|path| path.is_file());
    if found.is_none() {
        eprintln!("SKIPPED: no real model in {folders:?}; run `cargo xtask fetch`");
    }
    found
}

fn generate(model: &Path, threads: &str, settings: &[&str]) -> Vec<u8> {
    let output = Command::new(env!("CARGO_BIN_EXE_soft"))
        .env_remove("SOFT_DEVICE")
        .args(["generate", "--json", "--threads", threads, "--prompt", "Name three colours."])
        .arg("--model")
        .arg(model)
        .args(["generate.max_new=16"])
        .args(settings)
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn a_fixed_seed_gives_the_same_output_and_threads_the_same_clear_choices() {
    let Some(model) = model() else { return };
    for settings in [
        &["soft.temperature=0.3", "soft.top_k=5"][..],
        &["soft.preset=selar"],
        &["soft.mode=hard", "soft.temperature=0"],
    ] {
        let one = generate(&model, "1", settings);
        assert_eq!(one, generate(&model, "1", settings), "the same bytes twice");
        let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).expect("one object");
        let (one, two) = (read(&one), read(&generate(&model, "2", settings)));
        let steps = |object: &Value| object["steps"].as_array().expect("a list").clone();
        for (a, b) in steps(&one).iter().zip(&steps(&two)) {
            let weight = |place: usize| a["top"][place][2].as_f64().unwrap_or(0.0);
            if weight(0) - weight(1) < 1e-4 {
                break;
            }
            assert_eq!(a["token_id"], b["token_id"], "{settings:?} at {}", a["decode_step"]);
        }
    }
}
