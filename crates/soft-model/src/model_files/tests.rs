//! Small models from disk, against their faults; the real one is tested in `tests/tests/smollm2.rs`.

use serde_json::json;

use super::*;
use crate::config::Family;
use crate::config::tests::config;
use crate::{NamedTensor, expected_tensors, save_safetensors};

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
fn t22_an_id_without_an_embedding_is_refused() {
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
fn t23_a_vocabulary_that_the_embedding_does_not_have_is_mis_shaped() {
    let folder = folder(Family::Llama);
    for (vocab_size, layers) in [(90, 3), (1 << 24, 3), (89, 4096)] {
        let mut json = config(Family::Llama).to_hf();
        (json["vocab_size"], json["num_hidden_layers"]) = (json!(vocab_size), json!(layers));
        fs::write(folder.path().join("config.json"), json.to_string()).unwrap();
        let files = ModelFiles::open(folder.path());
        let error = files.and_then(|files| files.weights.check(&files.config)).unwrap_err();
        let Error::Tensors { missing, mis_shaped, .. } = &error else { panic!("{error}") };
        assert_eq!(mis_shaped.len(), usize::from(vocab_size != 89), "{error}");
        assert_eq!(missing.len(), 9 * (layers - 3), "{error}");
        assert!(error.to_string().len() < 4096);
    }
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
    assert!(refused(folder.path()).contains("the adapter with --adapter"));
    file("config.json", b"{");
    assert!(refused(folder.path()).contains("config.json: not a valid JSON file"));
}

#[test]
fn t27_a_pickle_is_known_by_its_bytes_whatever_its_name() {
    let folder = tempfile::tempdir().unwrap();
    for start in [&b"PK\x03\x04"[..], b"\x80\x02"] {
        for name in ["model.pt", "model.gguf", "model", "model.safetensors"] {
            let path = folder.path().join(name);
            fs::write(&path, [start, &[0; 60]].concat()).unwrap();
            let message = refused(&path);
            assert!(message.contains(name) && message.contains("pickle"), "{message}");
            assert!(message.contains("safe_serialization=True"), "{message}");
        }
    }
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

#[test]
fn files_of_absurd_length_are_not_read() {
    let json = json!({
        "version": "1.0", "added_tokens": [],
        "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []},
    });
    for name in ["config.json", "soft_config.toml", "chat_template.jinja"] {
        let folder = folder(Family::Llama);
        fs::write(folder.path().join("tokenizer.json"), json.to_string()).unwrap();
        File::create(folder.path().join(name)).unwrap().set_len(1 << 25).unwrap();
        let message = refused(folder.path());
        assert!(message.contains(name) && message.contains("over the limit"), "{message}");
    }
}

#[test]
fn a_chat_template_that_does_not_compile_is_a_note() {
    let folder = folder(Family::Llama);
    let json = json!({
        "version": "1.0", "added_tokens": [],
        "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []},
    });
    fs::write(folder.path().join("tokenizer.json"), json.to_string()).unwrap();
    fs::write(folder.path().join("chat_template.jinja"), "{% if %}").unwrap();
    let files = ModelFiles::open(folder.path()).unwrap();
    assert!(files.tokenizer.is_some() && files.chat_template.is_none());
    let note = files.chat_template_note.unwrap();
    assert!(note.starts_with("chat template: syntax error"), "{note}");
    fs::write(folder.path().join("chat_template.jinja"), "{{ messages }}").unwrap();
    let files = ModelFiles::open(folder.path()).unwrap();
    assert!(files.chat_template.is_some() && files.chat_template_note.is_none());
}
