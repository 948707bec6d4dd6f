//! Checkpoints, their configurations and adapters.

use std::path::Path;

use serde_json::Value;
use soft_model::{Family, Gguf, ModelConfig, PeftAdapter, Tokenizer, Weights, expected_tensors};

use super::{bounded, empty, must, sections, told, with_files};
use crate::tiny_config;

/// Names that are written: longer ones are read where a prefix makes them so.
const MAX_NAME: usize = 256;
/// Layers up to which the names of all tensors are listed.
const FEW_LAYERS: usize = 64;

/// `model.safetensors`, read as Llama's and as GPT-2's: what is read and has numbers is written
/// and read again, equal to the bit; two readings agree.
pub fn safetensors(data: &[u8]) {
    with_files(&[("model.safetensors", data)], |folder| {
        for family in [Family::Llama, Family::Gpt2] {
            folder_of_weights(data, folder, &tiny_config(family));
        }
    });
}

/// `model.safetensors.index.json` and up to three shards, `a.safetensors` and so on: the laws of
/// [`safetensors()`].
pub fn shard_index(data: &[u8]) {
    let parts = sections(data);
    let names = ["model.safetensors.index.json", "a.safetensors", "b.safetensors", "c.safetensors"];
    let files: Vec<(&str, &[u8])> = names.into_iter().zip(parts).collect();
    with_files(&files, |folder| folder_of_weights(data, folder, &tiny_config(Family::Llama)));
}

fn folder_of_weights(data: &[u8], folder: &Path, config: &ModelConfig) {
    let open = || Weights::open_folder(folder, config);
    let Some(weights) = told(bounded(data, open)) else { return };
    let again = open().expect("it was read before");
    assert!(weights.names().eq(again.names()));
    let _ = told(bounded(data, || weights.check(config)));
    assert_written_is_read(data, &weights, config);
}

/// What is written of some weights is they. An output head that is the embedding in another precision
/// is left out of a model that ties them, when both are read in one.
fn assert_written_is_read(data: &[u8], weights: &Weights, config: &ModelConfig) {
    let broken = bounded(data, || weights.non_finite());
    for name in weights.names() {
        let values = told(bounded(data, || weights.f32_values(name)));
        let len: usize = weights.shape(name).expect("a shape").iter().product();
        assert_eq!(values.is_none(), broken.iter().any(|found| found.tensor == name), "{name}");
        assert!(values.is_none_or(|values| values.len() == len), "{name}");
    }
    if !broken.is_empty() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    if told(weights.save(folder.path(), u64::MAX)).is_none() {
        let unwritable = |name: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
            name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(plain)
        };
        assert!(weights.names().any(unwritable), "what was read is not written");
        return;
    }
    let again = must("what was written is read", Weights::open_folder(folder.path(), config));
    let left_out = |name: &str| config.tied_embeddings && name == "lm_head.weight";
    let names = |weights: &Weights| -> Vec<String> {
        weights.names().filter(|name| !left_out(name)).map(str::to_owned).collect()
    };
    assert_eq!(names(weights), names(&again), "names");
    for name in again.names() {
        assert_eq!(weights.shape(name), again.shape(name), "{name}");
        let values = |weights: &Weights| weights.f32_values(name).expect("finite");
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(values(weights)), bits(values(&again)), "{name}");
    }
}

/// `config.json`: what is read is valid, and reading undoes writing.
pub fn model_config(data: &[u8]) {
    let Ok(json) = serde_json::from_slice::<Value>(data) else { return };
    let path = Path::new("config.json");
    let Some(config) = told(bounded(data, || ModelConfig::from_hf(&json, path))) else { return };
    assert_config_holds(&config);
}

fn assert_config_holds(config: &ModelConfig) {
    must("what was read is valid", config.validate());
    let again = ModelConfig::from_hf(&config.to_hf(), Path::new("config.json"));
    assert_eq!(told(again).as_ref(), Some(config), "what is written is read");
    if config.n_layers <= FEW_LAYERS {
        let tensors = expected_tensors(config);
        let sizes = tensors.iter().map(|(_, shape)| {
            shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size))
        });
        let total = sizes.into_iter().try_fold(0_usize, |sum, size| sum.checked_add(size?));
        assert!(total.is_some(), "sizes that overflow");
    }
}

/// A GGUF file, with the configuration, the weights and the tokenizer in it: the laws of
/// [`model_config`] and [`safetensors()`], and the tokenizer encodes into ids that it has.
pub fn gguf(data: &[u8]) {
    with_files(&[("model.gguf", data)], |folder| {
        let Some(gguf) = told(bounded(data, || Gguf::open(&folder.join("model.gguf")))) else {
            return;
        };
        let config = told(bounded(data, || ModelConfig::from_gguf(&gguf)));
        if let Some(config) = &config {
            assert_config_holds(config);
        }
        if let Some(Some(tokenizer)) = told(bounded(data, || Tokenizer::from_gguf(&gguf)))
            && let Some(ids) = told(tokenizer.encode("Hello, 12 <s>worlds\u{e9}", true))
        {
            assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_len()));
            let _ = tokenizer.decode(&ids);
        }
        let config = config.unwrap_or_else(|| tiny_config(Family::Llama));
        let Some(weights) = told(bounded(data, || Weights::from_gguf(&gguf, &config))) else {
            return;
        };
        // A name that no model has is kept, to be told as unexpected; a folder may name it otherwise.
        if weights.names().all(is_of_a_model) {
            assert_written_is_read(data, &weights, &config);
        }
    });
}

/// Whether a folder would give a tensor the same name again.
fn is_of_a_model(name: &str) -> bool {
    let begins = ["model.", "transformer."].iter().any(|start| name.starts_with(start));
    let buffers = [".attn.bias", ".attn.masked_bias", "rotary_emb.inv_freq"];
    (begins || name == "lm_head.weight") && !buffers.iter().any(|end| name.ends_with(end))
}

/// `adapter_config.json` and `adapter_model.safetensors` of PEFT on a tiny Llama: what is read has
/// as many parameters as the file has numbers, and two readings agree. Where there is a backend,
/// an adapter of finite numbers is attached, written and read again.
pub fn peft(data: &[u8]) {
    let names = ["adapter_config.json", "adapter_model.safetensors"];
    let files: Vec<(&str, &[u8])> = names.into_iter().zip(sections(data)).collect();
    with_files(&files, |folder| {
        let config = tiny_config(Family::Llama);
        let open = || PeftAdapter::open(folder, &config);
        let Some(adapter) = told(bounded(data, open)) else { return };
        let again = open().expect("it was read before");
        assert_eq!(adapter.base_model(), again.base_model());
        assert_eq!(adapter.parameters(), again.parameters());
        assert!(adapter.parameters() <= data.len(), "more numbers than bytes");
        #[cfg(feature = "flex")]
        attached(&adapter, &config, folder);
        empty(folder);
    });
}

#[cfg(feature = "flex")]
fn attached(adapter: &PeftAdapter, config: &ModelConfig, folder: &Path) {
    use burn::tensor::{DType, Device};
    use soft_model::Transformer;

    let base = || Transformer::from_seed(config, 7, &Device::flex(), DType::F32);
    let Some(model) = told(base().with_peft(adapter)) else { return };
    empty(folder);
    must("what was read is written", model.save_peft(folder, "a-base"));
    let again = must("what was written is read", PeftAdapter::open(folder, config));
    assert_eq!(again.parameters(), adapter.parameters());
    must("what was attached is attached again", base().with_peft(&again));
}
