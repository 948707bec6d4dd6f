//! Tiny models of every family against the logits that transformers computes for them
//! (`tests/goldens/make_models.py`).

use std::path::{Path, PathBuf};

use burn::tensor::DType;
use serde_json::Value;
use soft_core::host_values;
use soft_model::{Family, ModelFiles, Positions, RopeScaling, Transformer};
use soft_tests::device;

/// f32 on both sides, with sums in another order; the logits are of the size of 3.
const TOLERANCE: f64 = 2e-5;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens/tiny").join(name)
}

/// The largest difference of any logit, and the model's files.
fn compare(name: &str) -> (f64, ModelFiles) {
    let folder = folder(name);
    let files = ModelFiles::open(&folder).unwrap_or_else(|error| panic!("{error}"));
    let model = Transformer::open(&files, &device(), DType::F32).expect("its tensors fit");
    let text = std::fs::read_to_string(folder.join("logits.json")).expect("the oracle");
    let oracle: Value = serde_json::from_str(&text).expect("valid JSON");
    let list = |value: &Value| value.as_array().expect("a list").clone();
    let ids: Vec<u32> =
        list(&oracle["ids"]).iter().map(|id| id.as_u64().expect("an id") as u32).collect();
    let expected = list(&oracle["logits"]).iter().flat_map(list).collect::<Vec<_>>();
    let found = host_values(model.logits(model.embed(&ids, 1)));
    assert_eq!(found.len(), expected.len());
    let difference = |(a, b): (&f64, &Value)| (a - b.as_f64().expect("a logit")).abs();
    (found.iter().zip(&expected).map(difference).fold(0.0, f64::max), files)
}

fn assert_same(name: &str) -> ModelFiles {
    let (worst, files) = compare(name);
    assert!(worst < TOLERANCE, "{name}: logits differ by {worst:e}");
    files
}

#[test]
fn llama_3_scaling_grouped_heads_and_a_head_of_its_own() {
    let config = assert_same("llama3").config;
    let Positions::Rotary { scaling: Some(RopeScaling::Llama3 { .. }), .. } = config.positions
    else {
        panic!("{:?}", config.positions)
    };
    assert!(!config.tied_embeddings && config.n_kv_heads == 2 && config.head_dim == 8);
}

#[test]
fn llama_with_biases_and_linear_scaling() {
    let config = assert_same("llama-biased-linear").config;
    let Positions::Rotary { scaling: Some(RopeScaling::Linear { factor }), .. } = config.positions
    else {
        panic!("{:?}", config.positions)
    };
    assert_eq!(factor, 2.0);
    assert!(config.tied_embeddings && config.qkv_bias && config.output_bias && config.mlp_bias);
}

#[test]
fn mistral_with_a_sliding_window() {
    assert_eq!(assert_same("mistral").config.sliding_window, Some(5));
}

#[test]
fn qwen2_with_biases() {
    let config = assert_same("qwen2").config;
    assert!(config.qkv_bias && !config.output_bias && !config.qk_norm);
}

#[test]
fn qwen3_with_head_norms() {
    let config = assert_same("qwen3").config;
    assert!(config.qk_norm && !config.qkv_bias && config.head_dim == 8);
}

#[test]
fn gpt2_with_learned_positions() {
    let config = assert_same("gpt2").config;
    assert_eq!((config.family, config.positions), (Family::Gpt2, Positions::Learned));
}
