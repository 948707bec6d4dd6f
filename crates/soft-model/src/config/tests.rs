//! Reading is the inverse of writing, in both dialects; what cannot be run is refused by key.

use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::gguf::tests::Builder;

fn read(value: &Value) -> Result<ModelConfig, Error> {
    ModelConfig::from_hf(value, Path::new("config.json"))
}

fn refused(value: &Value) -> String {
    let error = read(value).unwrap_err();
    assert_eq!(error.exit_code(), 4);
    error.to_string()
}

fn llama() -> Value {
    json!({
        "model_type": "llama", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
        "bos_token_id": 1, "eos_token_id": [2, 3], "torch_dtype": "bfloat16",
    })
}

fn with(mut base: Value, key: &str, value: Value) -> Value {
    base[key] = value;
    base
}

pub(crate) fn config(family: Family) -> ModelConfig {
    let (gpt2, qwen2) = (family == Family::Gpt2, family == Family::Qwen2);
    ModelConfig {
        family,
        vocab_size: 89,
        d_model: 32,
        d_ff: 96,
        n_layers: 3,
        n_heads: 4,
        n_kv_heads: if gpt2 { 4 } else { 2 },
        head_dim: 8,
        max_positions: 77,
        norm_eps: 1e-6,
        positions: if gpt2 {
            Positions::Learned
        } else {
            Positions::Rotary { theta: 12345.5, scaling: None }
        },
        activation: if gpt2 { Activation::GeluTanh } else { Activation::Silu },
        qkv_bias: gpt2 || qwen2,
        output_bias: gpt2,
        mlp_bias: gpt2,
        qk_norm: family == Family::Qwen3,
        sliding_window: None,
        tied_embeddings: true,
        dropout: 0.25,
        bos_id: Some(1),
        eos_ids: vec![2],
        pad_id: Some(0),
    }
}

const ALL: [Family; 5] =
    [Family::Llama, Family::Mistral, Family::Qwen2, Family::Qwen3, Family::Gpt2];

#[test]
fn reading_undoes_writing_for_every_family() {
    for family in ALL {
        let plain = config(family);
        assert_eq!(read(&plain.to_hf()).unwrap(), plain);
        let other =
            ModelConfig { eos_ids: vec![4, 2], tied_embeddings: false, dropout: 0.0, ..plain };
        assert_eq!(read(&other.to_hf()).unwrap(), other);
    }
    for family in [Family::Mistral, Family::Qwen2, Family::Qwen3] {
        let windowed = ModelConfig { sliding_window: Some(16), ..config(family) };
        assert_eq!(read(&windowed.to_hf()).unwrap(), windowed);
    }
    let scalings = [
        RopeScaling::Linear { factor: 2.5 },
        RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_positions: 33,
        },
    ];
    for scaling in scalings {
        let positions = Positions::Rotary { theta: 5e5, scaling: Some(scaling) };
        let scaled = ModelConfig { positions, ..config(Family::Llama) };
        assert_eq!(read(&scaled.to_hf()).unwrap(), scaled);
    }
    let biased =
        ModelConfig { qkv_bias: true, output_bias: true, mlp_bias: true, ..config(Family::Llama) };
    assert_eq!(read(&biased.to_hf()).unwrap(), biased);
}

#[test]
fn both_dialects_of_transformers_mean_the_same() {
    let scaling = json!({
        "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 128,
    });
    let four = with(llama(), "rope_scaling", scaling.clone());
    let mut five = llama();
    five.as_object_mut().unwrap().shift_remove("rope_theta");
    five.as_object_mut().unwrap().shift_remove("torch_dtype");
    five["dtype"] = json!("bfloat16");
    five["rope_parameters"] = with(scaling.clone(), "rope_theta", json!(500000));
    five["head_dim"] = json!(16);
    let (four, five) = (read(&four).unwrap(), read(&five).unwrap());
    assert_eq!(four, five);
    assert_eq!(four.head_dim, 16);
    assert_eq!(four.eos_ids, [2, 3]);
    let old = json!({"type": "linear", "factor": 2});
    let Positions::Rotary { scaling, .. } =
        read(&with(llama(), "rope_scaling", old)).unwrap().positions
    else {
        panic!("rotary");
    };
    assert_eq!(scaling, Some(RopeScaling::Linear { factor: 2.0 }));
}

#[test]
fn families_have_their_own_defaults() {
    let qwen2 = read(&with(llama(), "model_type", json!("qwen2"))).unwrap();
    assert!(qwen2.qkv_bias && !qwen2.output_bias && !qwen2.qk_norm && !qwen2.tied_embeddings);
    let qwen3 = read(&with(llama(), "model_type", json!("qwen3"))).unwrap();
    assert!(qwen3.qk_norm && !qwen3.qkv_bias);
    assert_eq!(qwen3.head_dim, 128);
    let mistral = with(llama(), "model_type", json!("mistral"));
    assert_eq!(read(&mistral).unwrap().sliding_window, Some(4096));
    let without = with(mistral.clone(), "sliding_window", Value::Null);
    assert_eq!(read(&without).unwrap().sliding_window, None);
    let gpt2 = json!({
        "model_type": "gpt2", "vocab_size": 64, "n_embd": 12, "n_layer": 1, "n_head": 3,
        "n_ctx": 20, "bos_token_id": 50256, "eos_token_id": 50256,
    });
    let gpt2 = read(&gpt2).unwrap();
    assert_eq!((gpt2.d_ff, gpt2.head_dim, gpt2.max_positions), (48, 4, 20));
    assert!(gpt2.tied_embeddings && gpt2.qkv_bias && gpt2.mlp_bias);
    // Ids outside the vocabulary can never occur.
    assert_eq!((gpt2.bos_id, gpt2.eos_ids), (None, vec![]));
    let padless = with(llama(), "pad_token_id", json!(-1));
    assert_eq!(read(&padless).unwrap().pad_id, None);
    let mut unnamed = with(llama(), "architectures", json!(["LlamaForCausalLM"]));
    unnamed.as_object_mut().unwrap().shift_remove("model_type");
    assert_eq!(read(&unnamed).unwrap().family, Family::Llama);
}

#[test]
fn windows_in_some_layers_only_are_refused() {
    let base = with(llama(), "model_type", json!("qwen2"));
    let base = with(with(base, "use_sliding_window", json!(true)), "sliding_window", json!(8));
    assert_eq!(read(&base).unwrap().sliding_window, None);
    let all = with(base.clone(), "max_window_layers", json!(0));
    assert_eq!(read(&all).unwrap().sliding_window, Some(8));
    assert!(
        refused(&with(base.clone(), "max_window_layers", json!(1))).contains("max_window_layers")
    );
    let mixed = json!(["full_attention", "sliding_attention"]);
    assert!(refused(&with(base.clone(), "layer_types", mixed)).contains("layer_types"));
    let other = json!(["linear_attention", "full_attention"]);
    assert!(refused(&with(base, "layer_types", other)).contains("linear_attention"));
}

#[test]
fn t23_unsupported_settings_are_named_by_key() {
    let cases = [
        ("model_type", json!("mamba"), "`model_type`: found \"mamba\", supported are llama"),
        ("hidden_act", json!("relu"), "`hidden_act`: found \"relu\", supported here are silu"),
        (
            "rope_scaling",
            json!({"type": "yarn", "factor": 4}),
            "`rope_scaling.type`: found \"yarn\"",
        ),
        ("rope_scaling", json!({"rope_type": "linear"}), "`rope_scaling.factor`: is missing"),
        ("rope_scaling", json!("linear"), "`rope_scaling`: found \"linear\", expected an object"),
        ("rope_parameters", json!({"rope_theta": 7.0}), "`rope_parameters.rope_theta`"),
        (
            "rope_parameters",
            json!({"full_attention": {"rope_theta": 1e4}}),
            "`rope_parameters.full_attention`: rotary parameters that differ",
        ),
        ("partial_rotary_factor", json!(0.5), "`partial_rotary_factor`"),
        ("quantization_config", json!({"bits": 4}), "`quantization_config`"),
        ("eos_token_id", json!("</s>"), "`eos_token_id`"),
        ("hidden_size", Value::Null, "`hidden_size`: is missing"),
        ("vocab_size", json!(3.5), "`vocab_size`: found 3.5, expected a whole number"),
        ("tie_word_embeddings", json!("yes"), "`tie_word_embeddings`"),
    ];
    for (key, value, expected) in cases {
        let message = refused(&with(llama(), key, value));
        assert!(message.contains(expected), "{message}");
        assert!(message.starts_with("config.json: "), "{message}");
    }
    assert!(refused(&json!([1])).contains("expected one JSON object"));
    let gpt2 = with(config(Family::Gpt2).to_hf(), "scale_attn_by_inverse_layer_idx", json!(true));
    assert!(refused(&gpt2).contains("only false is supported"));
}

#[test]
fn t23_hostile_sizes_are_refused_before_anything_is_allocated() {
    let cases = [
        ("num_hidden_layers", json!(1_000_000_000), "num_hidden_layers"),
        ("num_hidden_layers", json!(0), "num_hidden_layers"),
        ("num_attention_heads", json!(0), "num_attention_heads"),
        ("num_attention_heads", json!(3), "num_attention_heads"),
        ("num_key_value_heads", json!(3), "num_key_value_heads"),
        ("num_key_value_heads", json!(0), "num_key_value_heads"),
        ("hidden_size", json!(u64::MAX - 3), "hidden_size"),
        ("hidden_size", json!(-64), "hidden_size"),
        ("vocab_size", json!(1u64 << 40), "vocab_size"),
        ("head_dim", json!(7), "head_dim"),
        ("max_position_embeddings", json!(0), "max_position_embeddings"),
        ("rope_theta", json!("NaN"), "rope_theta"),
        ("rope_theta", json!(-1.0), "rope_theta"),
        ("rms_norm_eps", json!(0.0), "rms_norm_eps"),
        ("rms_norm_eps", json!(2.0), "rms_norm_eps"),
        ("rope_scaling", json!({"type": "linear", "factor": 0.0}), "rope_scaling"),
    ];
    for (key, value, expected) in cases {
        let message = refused(&with(llama(), key, value.clone()));
        assert!(message.contains(expected), "{key} = {value}: {message}");
    }
    let mut giant = with(llama(), "hidden_size", json!(1 << 20));
    giant["num_hidden_layers"] = json!(4096);
    assert!(refused(&giant).contains("weights"));
}

#[test]
fn a_configuration_built_by_hand_is_checked_in_its_own_words() {
    assert!(config(Family::Llama).validate().is_ok());
    let error = ModelConfig { n_layers: 0, ..config(Family::Llama) }.validate().unwrap_err();
    assert_eq!(
        error.to_string(),
        "generation settings: model.n_layers: found 0, expected 1..=4096"
    );
    assert_eq!(error.exit_code(), 2);
}

fn gguf(arch: &str) -> Builder {
    let key = |rest: &str| format!("{arch}.{rest}");
    Builder::default()
        .text("general.architecture", arch)
        .u32(&key("block_count"), 3)
        .u32(&key("context_length"), 77)
        .u32(&key("embedding_length"), 32)
        .u32(&key("feed_forward_length"), 96)
        .u32(&key("attention.head_count"), 4)
        .u32(&key("attention.head_count_kv"), 2)
        .f32(&key("attention.layer_norm_rms_epsilon"), 1e-6)
        .f32(&key("rope.freq_base"), 12345.5)
        .u32("tokenizer.ggml.bos_token_id", 1)
        .u32("tokenizer.ggml.eos_token_id", 2)
        .u32("tokenizer.ggml.padding_token_id", 0)
        .f32_tensor("token_embd.weight", &[89, 32], &[0.0; 89 * 32])
}

#[test]
fn a_gguf_header_means_the_same_as_a_config_json() {
    let expected = ModelConfig { dropout: 0.0, ..config(Family::Llama) };
    assert_eq!(ModelConfig::from_gguf(&gguf("llama").open().unwrap()).unwrap(), expected);
    let expected = ModelConfig { dropout: 0.0, ..config(Family::Qwen3) };
    assert_eq!(ModelConfig::from_gguf(&gguf("qwen3").open().unwrap()).unwrap(), expected);
    let biased = gguf("qwen2").f32_tensor("blk.0.attn_q.bias", &[32], &[0.0; 32]);
    let expected = ModelConfig { dropout: 0.0, ..config(Family::Qwen2) };
    assert_eq!(ModelConfig::from_gguf(&biased.open().unwrap()).unwrap(), expected);
    // Whatever biases a file has, the class of transformers says which belong to the model.
    for (arch, name) in [("llama", "attn_output"), ("qwen2", "ffn_up"), ("qwen3", "attn_output")] {
        let odd = gguf(arch).f32_tensor(&format!("blk.0.{name}.bias"), &[32], &[0.0; 32]);
        let config = ModelConfig::from_gguf(&odd.open().unwrap()).unwrap();
        assert_eq!(read(&config.to_hf()).unwrap(), config, "{arch}");
    }
    let error = ModelConfig::from_gguf(&gguf("mamba").open().unwrap()).unwrap_err();
    assert!(error.to_string().contains("`general.architecture`: found \"mamba\""), "{error}");
    let experts = gguf("llama").u32("llama.expert_count", 8).open().unwrap();
    assert!(ModelConfig::from_gguf(&experts).unwrap_err().to_string().contains("expert_count"));
}

#[test]
fn a_gpt2_whose_heads_do_not_fill_its_width_is_refused() {
    let gpt2 = |kv_heads: u32, key_length: u32| {
        let gguf = Builder::default()
            .text("general.architecture", "gpt2")
            .u32("gpt2.block_count", 3)
            .u32("gpt2.context_length", 77)
            .u32("gpt2.embedding_length", 32)
            .u32("gpt2.feed_forward_length", 96)
            .u32("gpt2.attention.head_count", 4)
            .u32("gpt2.attention.head_count_kv", kv_heads)
            .u32("gpt2.attention.key_length", key_length)
            .f32_tensor("token_embd.weight", &[89, 32], &[0.0; 89 * 32]);
        ModelConfig::from_gguf(&gguf.open().unwrap())
    };
    assert!(gpt2(4, 8).is_ok());
    let error = gpt2(2, 8).unwrap_err();
    assert!(error.to_string().contains("`gpt2.attention.head_count_kv`: found 2"), "{error}");
    assert_eq!(error.exit_code(), 4);
    let error = gpt2(4, 16).unwrap_err();
    assert!(error.to_string().contains("`gpt2.attention.key_length`: found 16"), "{error}");
}

#[test]
fn the_divisors_of_llama_3_1_give_back_its_settings() {
    let (theta, factor, context) = (12345.5f64, 8.0, 77.0);
    let divisors: Vec<f32> = (0..4)
        .map(|i| {
            let wavelength = std::f64::consts::TAU * theta.powf(f64::from(i) / 4.0);
            let blend = ((context / wavelength - 1.0) / 3.0).clamp(0.0, 1.0);
            (1.0 / ((1.0 - blend) / factor + blend)) as f32
        })
        .collect();
    let read = |values: &[f32]| {
        let gguf = gguf("llama").f32_tensor("rope_freqs.weight", &[4], values).open().unwrap();
        ModelConfig::from_gguf(&gguf)
    };
    let scaling = RopeScaling::Llama3 {
        factor,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_positions: 77,
    };
    let expected = Positions::Rotary { theta, scaling: Some(scaling) };
    assert_eq!(read(&divisors).unwrap().positions, expected);
    assert!(read(&[1.0, 3.0, 2.0, 8.0]).unwrap_err().to_string().contains("other divisors"));
}

#[test]
fn a_linear_factor_scales_unless_the_type_says_none() {
    let read = |builder: Builder| ModelConfig::from_gguf(&builder.open().unwrap());
    let positions = |builder| read(builder).unwrap().positions;
    let factor = || gguf("llama").f32("llama.rope.scaling.factor", 4.0);
    let scaled = |scaling| Positions::Rotary { theta: 12345.5, scaling };
    let linear = Some(RopeScaling::Linear { factor: 4.0 });
    assert_eq!(positions(factor()), scaled(linear));
    assert_eq!(positions(factor().text("llama.rope.scaling.type", "linear")), scaled(linear));
    assert_eq!(positions(factor().text("llama.rope.scaling.type", "none")), scaled(None));
    assert_eq!(positions(gguf("llama").f32("llama.rope.scale_linear", 4.0)), scaled(linear));
    for kind in ["yarn", "llama3"] {
        let error = read(factor().text("llama.rope.scaling.type", kind)).unwrap_err();
        assert!(error.to_string().contains("supported are none and linear"), "{error}");
    }
    let both = factor().f32_tensor("rope_freqs.weight", &[4], &[1.0; 4]);
    let error = read(both).unwrap_err().to_string();
    assert!(error.contains("`llama.rope.scaling.factor`: found 4 beside `rope_freqs"), "{error}");
    let one = gguf("llama").f32("llama.rope.scaling.factor", 1.0);
    assert!(read(one.f32_tensor("rope_freqs.weight", &[4], &[1.0; 4])).is_ok());
}

#[test]
fn control_tokens_that_end_a_turn_end_a_generation() {
    let tokens = ["<|endoftext|>", "<|im_end|>", "a", "<|eot_id|>", "<end_of_turn>"];
    let gguf = gguf("llama")
        .texts("tokenizer.ggml.tokens", &tokens)
        .i32s("tokenizer.ggml.token_type", &[3, 3, 1, 3, 1])
        .u32("tokenizer.ggml.eot_token_id", 3);
    let config = ModelConfig::from_gguf(&gguf.open().unwrap()).unwrap();
    // What the metadata names comes first and once; `<end_of_turn>` is plain text here.
    assert_eq!(config.eos_ids, [2, 3, 1]);
}
