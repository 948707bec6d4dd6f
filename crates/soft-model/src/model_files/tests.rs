//! Whole models from disk: the real one against its oracle, small ones against their faults.

use std::path::PathBuf;

use serde_json::json;

use super::*;
use crate::chat_template::Message;
use crate::config::Family;
use crate::config::tests::config;
use crate::{NamedTensor, expected_tensors, save_safetensors};

const GGUF: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";

/// A file of the folder with real models, or a loud note that it is not there.
fn real(file: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("SOFT_MODELS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models"),
        PathBuf::from,
    );
    let path = folder.join(file);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: no {}; set SOFT_MODELS to the folder that has it", path.display());
    None
}

fn golden(file: &str) -> Option<Value> {
    let text = fs::read(real(file)?).unwrap();
    Some(serde_json::from_slice(&text).unwrap())
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn the_real_model_opens_with_the_shape_of_its_paper() {
    let Some(path) = real(GGUF) else { return };
    let files = ModelFiles::open(&path).unwrap();
    let config = &files.config;
    assert_eq!((config.n_layers, config.d_model, config.d_ff), (30, 576, 1536));
    assert_eq!((config.n_heads, config.n_kv_heads, config.head_dim), (9, 3, 64));
    assert_eq!((config.vocab_size, config.max_positions), (49152, 8192));
    assert_eq!(config.norm_eps, 1e-5);
    let positions = crate::Positions::Rotary { theta: 100_000.0, scaling: None };
    assert_eq!(config.positions, positions);
    assert!(config.tied_embeddings && !config.qkv_bias);
    assert_eq!((config.bos_id, &config.eos_ids[..], config.pad_id), (Some(1), &[2][..], Some(2)));
    assert_eq!(files.weights.names().count(), 272);
    assert_eq!(files.tokenizer.unwrap().vocab_len(), 49152);
    assert_eq!(ModelConfig::from_hf(&config.to_hf(), &path).unwrap(), *config);
}

#[test]
fn tokenizer_and_chat_text_equal_the_oracle() {
    let (Some(path), Some(strings), Some(oracle)) =
        (real(GGUF), golden("smollm2-golden-tokenizer.json"), golden("smollm2-golden.json"))
    else {
        return;
    };
    let files = ModelFiles::open(&path).unwrap();
    let from_gguf = files.tokenizer.unwrap();
    let folder = tempfile::tempdir().unwrap();
    from_gguf.save(folder.path()).unwrap();
    let saved = Tokenizer::open_folder(folder.path()).unwrap().unwrap();
    for tokenizer in [&from_gguf, &saved] {
        let template = template_of(tokenizer).unwrap().unwrap();
        for case in strings.as_array().unwrap() {
            let found = tokenizer.encode(case["text"].as_str().unwrap(), true).unwrap();
            assert_eq!(found, ids(&case["ids"]), "{case}");
            assert_eq!(tokenizer.decode(&found), case["decoded"].as_str().unwrap());
        }
        let mut chats = 0;
        for case in oracle["cases"].as_array().unwrap() {
            let text = if case["kind"] == "chat" {
                chats += 1;
                let prompt = Message::new("user", case["prompt"].as_str().unwrap());
                let text = template.render(&[prompt], true).unwrap();
                assert_eq!(text, case["text"].as_str().unwrap());
                text
            } else {
                case["text"].as_str().or(case["prompt"].as_str()).unwrap().to_owned()
            };
            assert_eq!(tokenizer.encode(&text, true).unwrap(), ids(&case["input_ids"]), "{text}");
            for top in case["top5"].as_array().unwrap() {
                let token = tokenizer.decode_token(top["id"].as_u64().unwrap() as u32);
                assert_eq!(token.as_deref(), top["token"].as_str());
            }
            if let Some(text) = case["greedy_text"].as_str() {
                assert_eq!(tokenizer.decode(&ids(&case["greedy_ids"])), text);
            }
        }
        assert!(chats > 0, "the oracle has chat cases");
    }
}

/// A folder with a small model of zeros.
fn folder(family: Family) -> tempfile::TempDir {
    let config = config(family);
    let folder = tempfile::tempdir().unwrap();
    let tensors: Vec<_> = expected_tensors(&config)
        .into_iter()
        .map(|(name, shape)| {
            let values = vec![0.0; shape.iter().product()];
            NamedTensor { name, shape, values }
        })
        .collect();
    save_safetensors(&folder.path().join("model.safetensors"), &tensors).unwrap();
    fs::write(folder.path().join("config.json"), config.to_hf().to_string()).unwrap();
    folder
}

fn refused(path: &Path) -> String {
    let error = ModelFiles::open(path).unwrap_err();
    assert_eq!(error.exit_code(), 4);
    error.to_string()
}

#[test]
fn a_folder_without_a_tokenizer_opens_with_a_note() {
    for family in [Family::Llama, Family::Gpt2] {
        let folder = folder(family);
        fs::write(folder.path().join("soft_config.toml"), "[soft]\n").unwrap();
        fs::write(
            folder.path().join("generation_config.json"),
            json!({"max_new_tokens": 12, "eos_token_id": [7, 2, 900]}).to_string(),
        )
        .unwrap();
        let files = ModelFiles::open(folder.path()).unwrap();
        assert_eq!(files.config, config(family));
        assert!(files.tokenizer.is_none() && files.chat_template.is_none());
        assert!(files.tokenizer_note.unwrap().ends_with("has no tokenizer.json"));
        assert_eq!(files.soft.as_deref(), Some("[soft]\n"));
        let expected = GenerationDefaults { max_new_tokens: Some(12), eos_ids: vec![7, 2] };
        assert_eq!(files.generation, expected);
    }
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let folder = folder(Family::Llama);
    let json = json!({
        "version": "1.0", "added_tokens": [],
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 89}, "merges": []},
    });
    fs::write(folder.path().join("tokenizer.json"), json.to_string()).unwrap();
    let message = refused(folder.path());
    assert!(message.contains("its largest id is 89, but the model has 89 embeddings"), "{message}");
}

#[test]
fn what_is_no_model_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    assert!(refused(&folder.path().join("none.gguf")).contains("cannot access"));
    assert!(refused(folder.path()).contains("no config.json; expected a Hugging Face"));
    assert!(refused(&file("model.bin", b"")).contains("pickle"));
    assert!(refused(&file("zip", b"PK\x03\x04....")).contains("pickle"));
    assert!(refused(&file("old", b"\x80\x02....")).contains("pickle"));
    assert!(refused(&file("m.safetensors", b"")).contains("give the folder"));
    assert!(refused(&file("notes.txt", b"hello")).contains("expected a GGUF file"));
    assert!(refused(&file("empty.gguf", b"")).contains("truncated"));
    file("adapter_config.json", b"{}");
    assert!(refused(folder.path()).contains("adapter files are not read yet"));
    file("config.json", b"{");
    assert!(refused(folder.path()).contains("config.json: not a valid JSON file"));
}

#[test]
fn a_truncated_checkpoint_is_one_error() {
    let folder = folder(Family::Llama);
    let path = folder.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let message = refused(folder.path());
    assert!(message.contains("model.safetensors: not a valid safetensors file"), "{message}");
    assert!(message.contains("truncated"), "{message}");
}
