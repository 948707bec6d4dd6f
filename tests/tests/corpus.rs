//! What fuzzing found, and what it began with, again: see `soft_tests::fuzz`.

use std::fs;
use std::path::{Path, PathBuf};

use soft_tests::fuzz::{TARGETS, Target};

/// Every input of a target.
fn inputs(name: &str) -> Vec<PathBuf> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let mut inputs: Vec<PathBuf> = ["corpus", "regressions"]
        .iter()
        .flat_map(|folder| fs::read_dir(fuzz.join(folder).join(name)).into_iter().flatten())
        .map(|entry| entry.expect("an entry").path())
        .collect();
    inputs.sort();
    inputs
}

fn replay((name, target): Target) {
    let inputs = inputs(name);
    assert!(!inputs.is_empty(), "{name} has no inputs");
    for path in inputs {
        let bytes = fs::read(&path).expect("readable");
        // The harness shows it where the target panics.
        println!("{}", path.display());
        target(&bytes);
    }
}

fn named(name: &str) -> Target {
    *TARGETS.iter().find(|(known, _)| *known == name).expect("a target")
}

/// One test a target, so that they run beside one another.
macro_rules! replays {
    ($($test:ident: $name:literal,)*) => {
        $(#[test]
        fn $test() {
            replay(named($name));
        })*

        #[test]
        fn no_target_is_left_out() {
            assert_eq!(TARGETS.map(|(name, _)| name), [$($name),*]);
        }
    };
}

replays! {
    t26_safetensors: "safetensors",
    t26_indexes_of_shards: "shard_index",
    t26_configurations_of_models: "model_config",
    t26_configurations: "config_toml",
    t26_overrides: "overrides",
    t26_lines_of_data: "jsonl",
    t26_tokenizers: "tokenizer",
    t26_chat_templates: "chat_template",
    t26_manifests: "manifest",
    t26_gguf: "gguf",
    t26_adapters: "peft",
}
