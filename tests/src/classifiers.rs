//! Sequence classifiers in the files of transformers.

use std::fs;
use std::path::Path;

use burn::tensor::DType;
use serde_json::json;
use soft_model::{ModelConfig, NamedTensor, Transformer, save_safetensors};

use crate::device;

/// Writes a classifier of this shape with one label and random weights; the setting that names it as
/// the reward model.
///
/// # Panics
/// If it cannot be written.
pub fn write_classifier(folder: &Path, shape: &ModelConfig) -> String {
    let model = Transformer::from_seed(shape, 11, &device(), DType::F32);
    let mut tensors = model.named_tensors();
    tensors.retain(|tensor| tensor.name != "lm_head.weight");
    let values = (0..shape.d_model).map(|i| (i as f32 * 1.3).sin()).collect();
    tensors.push(NamedTensor {
        name: "score.weight".to_owned(),
        shape: vec![1, shape.d_model],
        values,
    });
    let mut config = shape.to_hf();
    let class = config["architectures"][0].as_str().expect("a class").to_owned();
    let class = class.replace("ForCausalLM", "").replace("LMHeadModel", "");
    config["architectures"] = json!([format!("{class}ForSequenceClassification")]);
    config["num_labels"] = json!(1);
    fs::create_dir_all(folder).expect("made");
    fs::write(folder.join("config.json"), config.to_string()).expect("written");
    save_safetensors(&folder.join("model.safetensors"), &tensors).expect("written");
    format!("rl.reward_model={:?}", folder.display().to_string())
}
