//! [`ModelConfig`] to a `config.json` that transformers 4 and 5 read.

use serde_json::{Map, Value, json};

use crate::config::hf_config::{activation_name, names};
use crate::config::{Family, ModelConfig, Positions, hf_rope};

/// All keys of the family, with f32 weights announced in both spellings of the type.
pub(super) fn write(config: &ModelConfig) -> Value {
    let (model_type, class) = names(config.family);
    let mut out = Map::new();
    let mut put = |key: &str, value: Value| out.insert(key.to_owned(), value);
    put("architectures", json!([class]));
    put("model_type", json!(model_type));
    put("vocab_size", json!(config.vocab_size));
    put("tie_word_embeddings", json!(config.tied_embeddings));
    put("bos_token_id", json!(config.bos_id));
    put("eos_token_id", eos(&config.eos_ids));
    put("pad_token_id", json!(config.pad_id));
    put("use_cache", json!(true));
    put("torch_dtype", json!("float32"));
    put("dtype", json!("float32"));
    match config.family {
        Family::Gpt2 => gpt2(config, &mut out),
        _ => llama_like(config, &mut out),
    }
    Value::Object(out)
}

/// A single id is written as a number, as transformers does.
fn eos(ids: &[u32]) -> Value {
    match ids {
        [] => Value::Null,
        [one] => json!(one),
        many => json!(many),
    }
}

fn llama_like(config: &ModelConfig, out: &mut Map<String, Value>) {
    let mut put = |key: &str, value: Value| out.insert(key.to_owned(), value);
    put("hidden_size", json!(config.d_model));
    put("intermediate_size", json!(config.d_ff));
    put("num_hidden_layers", json!(config.n_layers));
    put("num_attention_heads", json!(config.n_heads));
    put("num_key_value_heads", json!(config.n_kv_heads));
    put("head_dim", json!(config.head_dim));
    put("max_position_embeddings", json!(config.max_positions));
    put("rms_norm_eps", json!(config.norm_eps));
    put("hidden_act", json!(activation_name(config.activation)));
    put("attention_bias", json!(config.output_bias));
    put("attention_dropout", json!(0.0));
    if config.dropout > 0.0 {
        put("dropout", json!(config.dropout));
    }
    match config.family {
        Family::Llama => {
            put("mlp_bias", json!(config.mlp_bias));
        }
        Family::Mistral => {
            put("sliding_window", json!(config.sliding_window));
        }
        _ => {
            let sliding = config.sliding_window.is_some();
            put("use_sliding_window", json!(sliding));
            put("sliding_window", json!(config.sliding_window));
            put("max_window_layers", json!(if sliding { 0 } else { config.n_layers }));
        }
    }
    if let Positions::Rotary { theta, scaling } = config.positions {
        hf_rope::write(theta, scaling, out);
    }
}

fn gpt2(config: &ModelConfig, out: &mut Map<String, Value>) {
    let mut put = |key: &str, value: Value| out.insert(key.to_owned(), value);
    put("n_embd", json!(config.d_model));
    put("n_inner", json!(config.d_ff));
    put("n_layer", json!(config.n_layers));
    put("n_head", json!(config.n_heads));
    put("n_positions", json!(config.max_positions));
    put("n_ctx", json!(config.max_positions));
    put("layer_norm_epsilon", json!(config.norm_eps));
    put("activation_function", json!(activation_name(config.activation)));
    for key in ["resid_pdrop", "embd_pdrop", "attn_pdrop"] {
        put(key, json!(config.dropout));
    }
}
