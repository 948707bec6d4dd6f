//! `config.json` of Hugging Face, as transformers 4 and 5 write it, to [`ModelConfig`].

use std::path::Path;

use serde_json::Value;

use crate::Error;
use crate::config::json_fields::Fields;
use crate::config::{Activation, Family, ModelConfig, Positions, hf_rope, validate};

const FAMILIES: [Family; 5] =
    [Family::Llama, Family::Mistral, Family::Qwen2, Family::Qwen3, Family::Gpt2];

/// A gated feed-forward takes any of them, GPT-2's takes no `silu`.
const ACTIVATIONS: [Activation; 3] = [Activation::Silu, Activation::GeluTanh, Activation::Gelu];

/// `model_type` and architecture class of a family.
pub(super) fn names(family: Family) -> (&'static str, &'static str) {
    match family {
        Family::Llama => ("llama", "LlamaForCausalLM"),
        Family::Mistral => ("mistral", "MistralForCausalLM"),
        Family::Qwen2 => ("qwen2", "Qwen2ForCausalLM"),
        Family::Qwen3 => ("qwen3", "Qwen3ForCausalLM"),
        Family::Gpt2 => ("gpt2", "GPT2LMHeadModel"),
    }
}

/// Reads the whole object and checks every bound.
pub(super) fn read(value: &Value, path: &Path) -> Result<ModelConfig, Error> {
    let fields = Fields::new(value, path)?;
    if fields.has("quantization_config") {
        return fields.fail(
            "quantization_config",
            "quantised safetensors are not supported; use the unquantised weights or a GGUF file",
        );
    }
    let config = match family(&fields)? {
        Family::Gpt2 => gpt2(&fields)?,
        family => llama_like(&fields, family)?,
    };
    validate::validate(&config).map_err(|refusal| {
        Error::config(path, hf_key(config.family, refusal.field), refusal.problem)
    })?;
    Ok(config)
}

fn family(fields: &Fields<'_>) -> Result<Family, Error> {
    let known = FAMILIES.map(|family| names(family).0).join(", ");
    if let Some(found) = fields.text("model_type")? {
        return match FAMILIES.iter().find(|&&family| names(family).0 == found) {
            Some(family) => Ok(*family),
            None => fields.fail("model_type", format!("found {found:?}, supported are {known}")),
        };
    }
    let class = fields.get("architectures").and_then(|list| list.get(0)).and_then(Value::as_str);
    match FAMILIES.iter().find(|&&family| Some(names(family).1) == class) {
        Some(family) => Ok(*family),
        None => fields.fail("model_type", format!("is missing, supported are {known}")),
    }
}

fn llama_like(fields: &Fields<'_>, family: Family) -> Result<ModelConfig, Error> {
    let d_model = fields.required_size("hidden_size")?;
    let n_layers = fields.required_size("num_hidden_layers")?;
    let n_heads = fields.required_size("num_attention_heads")?;
    let max_positions = fields.required_size("max_position_embeddings")?;
    let vocab_size = fields.required_size("vocab_size")?;
    // Transformers 4 gives Qwen3 a fixed head width where the key is absent.
    let head_dim = match (fields.size("head_dim")?, family) {
        (Some(head_dim), _) => head_dim,
        (None, Family::Qwen3) => 128,
        (None, _) => divided(fields, "num_attention_heads", d_model, n_heads)?,
    };
    let attention_bias = match family {
        Family::Llama | Family::Qwen3 => fields.flag("attention_bias", false)?,
        _ => false,
    };
    let special = SpecialIds::read(fields, vocab_size)?;
    Ok(ModelConfig {
        family,
        vocab_size,
        d_model,
        d_ff: fields.required_size("intermediate_size")?,
        n_layers,
        n_heads,
        n_kv_heads: fields.size("num_key_value_heads")?.unwrap_or(n_heads),
        head_dim,
        max_positions,
        norm_eps: fields.number("rms_norm_eps")?.unwrap_or(1e-6),
        positions: hf_rope::read(fields, max_positions)?,
        activation: activation(fields, "hidden_act", "silu", &ACTIVATIONS)?,
        qkv_bias: attention_bias || family == Family::Qwen2,
        output_bias: attention_bias,
        mlp_bias: family == Family::Llama && fields.flag("mlp_bias", false)?,
        qk_norm: family == Family::Qwen3,
        sliding_window: sliding_window(fields, family, n_layers)?,
        tied_embeddings: fields.flag("tie_word_embeddings", false)?,
        dropout: fields.number("dropout")?.unwrap_or(0.0),
        bos_id: special.bos,
        eos_ids: special.eos,
        pad_id: special.pad,
    })
}

fn gpt2(fields: &Fields<'_>) -> Result<ModelConfig, Error> {
    fields.must_be("scale_attn_weights", true)?;
    fields.must_be("scale_attn_by_inverse_layer_idx", false)?;
    fields.must_be("add_cross_attention", false)?;
    let d_model = fields.required_size("n_embd")?;
    let n_heads = fields.required_size("n_head")?;
    let vocab_size = fields.required_size("vocab_size")?;
    let max_positions = match fields.size("n_positions")? {
        Some(n_positions) => n_positions,
        None => fields.required_size("n_ctx")?,
    };
    let special = SpecialIds::read(fields, vocab_size)?;
    Ok(ModelConfig {
        family: Family::Gpt2,
        vocab_size,
        d_model,
        d_ff: fields.size("n_inner")?.unwrap_or_else(|| d_model.saturating_mul(4)),
        n_layers: fields.required_size("n_layer")?,
        n_heads,
        n_kv_heads: n_heads,
        head_dim: divided(fields, "n_head", d_model, n_heads)?,
        max_positions,
        norm_eps: fields.number("layer_norm_epsilon")?.unwrap_or(1e-5),
        positions: Positions::Learned,
        activation: activation(fields, "activation_function", "gelu_new", &ACTIVATIONS[1..])?,
        qkv_bias: true,
        output_bias: true,
        mlp_bias: true,
        qk_norm: false,
        sliding_window: None,
        tied_embeddings: fields.flag("tie_word_embeddings", true)?,
        dropout: fields.number("resid_pdrop")?.unwrap_or(0.1),
        bos_id: special.bos,
        eos_ids: special.eos,
        pad_id: special.pad,
    })
}

/// Width of a head; the heads must share `d_model` evenly.
fn divided(fields: &Fields<'_>, key: &str, d_model: usize, n_heads: usize) -> Result<usize, Error> {
    if n_heads == 0 || !d_model.is_multiple_of(n_heads) {
        return fields.fail(key, format!("found {n_heads}, which does not divide width {d_model}"));
    }
    Ok(d_model / n_heads)
}

fn activation(
    fields: &Fields<'_>,
    key: &str,
    default: &str,
    accepted: &[Activation],
) -> Result<Activation, Error> {
    let found = fields.text(key)?.unwrap_or(default);
    let activation = match found {
        "silu" | "swish" => Some(Activation::Silu),
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Some(Activation::GeluTanh),
        "gelu" => Some(Activation::Gelu),
        _ => None,
    };
    match activation {
        Some(activation) if accepted.contains(&activation) => Ok(activation),
        _ => {
            let expected: Vec<_> = accepted.iter().map(|&one| activation_name(one)).collect();
            let expected = expected.join(", ");
            fields.fail(key, format!("found {found:?}, supported here are {expected}"))
        }
    }
}

/// Hugging Face's name of an activation.
pub(super) fn activation_name(activation: Activation) -> &'static str {
    match activation {
        Activation::Silu => "silu",
        Activation::GeluTanh => "gelu_new",
        Activation::Gelu => "gelu",
    }
}

/// One window for all layers or none; a mixture of both is refused.
fn sliding_window(
    fields: &Fields<'_>,
    family: Family,
    n_layers: usize,
) -> Result<Option<usize>, Error> {
    let window = fields.size("sliding_window")?;
    let sliding = match (family, fields.get("layer_types")) {
        (Family::Llama, _) => return Ok(None),
        (_, Some(types)) => layer_types(fields, types)?,
        (Family::Mistral, None) => true,
        (_, None) => {
            let first = fields.size("max_window_layers")?.unwrap_or(28);
            if !fields.flag("use_sliding_window", false)? || first >= n_layers {
                false
            } else if first == 0 {
                true
            } else {
                let problem = format!(
                    "found {first} of {n_layers} layers: windows in some layers only are not \
                     supported"
                );
                return fields.fail("max_window_layers", problem);
            }
        }
    };
    if !sliding
        || (fields.has("use_sliding_window") && !fields.flag("use_sliding_window", false)?)
    {
        return Ok(None);
    }
    // Transformers' own default where the key is absent; an explicit null means no window.
    let default = (!fields.is_null("sliding_window")).then_some(4096);
    Ok(window.or(default))
}

fn layer_types(fields: &Fields<'_>, types: &Value) -> Result<bool, Error> {
    let kinds: Option<Vec<&str>> =
        types.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
    let Some(kinds) = kinds else {
        return fields.fail("layer_types", "expected a list of strings");
    };
    if kinds.iter().all(|kind| *kind == "full_attention") {
        return Ok(false);
    }
    if kinds.iter().all(|kind| *kind == "sliding_attention") {
        return Ok(true);
    }
    let found = kinds.iter().find(|kind| **kind != "full_attention").unwrap_or(&"");
    let problem = format!(
        "found {found:?} in some layers; supported are \"full_attention\" or \
         \"sliding_attention\" in all of them"
    );
    fields.fail("layer_types", problem)
}

/// Ids of the special tokens. One outside the vocabulary can never occur and is dropped:
/// small models written by transformers keep the class defaults, such as 50256.
struct SpecialIds {
    bos: Option<u32>,
    eos: Vec<u32>,
    pad: Option<u32>,
}

impl SpecialIds {
    fn read(fields: &Fields<'_>, vocab_size: usize) -> Result<Self, Error> {
        let inside = |ids: Vec<u32>| ids.into_iter().filter(|&id| (id as usize) < vocab_size);
        let one = |key| Ok::<_, Error>(inside(ids(fields, key)?).next());
        let mut eos: Vec<u32> = Vec::new();
        for id in inside(ids(fields, "eos_token_id")?) {
            if !eos.contains(&id) {
                eos.push(id);
            }
        }
        Ok(Self { bos: one("bos_token_id")?, eos, pad: one("pad_token_id")? })
    }
}

/// An id, a list of ids, or none; -1 is Llama 1's way to say none.
fn ids(fields: &Fields<'_>, key: &str) -> Result<Vec<u32>, Error> {
    let values: Vec<&Value> = match fields.get(key) {
        None => Vec::new(),
        Some(Value::Array(list)) => list.iter().collect(),
        Some(one) => vec![one],
    };
    let mut ids = Vec::with_capacity(values.len());
    for value in values {
        match value.as_i64() {
            Some(-1) => {}
            Some(id) if u32::try_from(id).is_ok() => ids.push(id as u32),
            _ => return fields.fail(key, "expected a token id or a list of them"),
        }
    }
    Ok(ids)
}

/// The file's spelling of a field.
fn hf_key(family: Family, field: &'static str) -> &'static str {
    match (family, field) {
        (Family::Gpt2, "d_model") => "n_embd",
        (Family::Gpt2, "d_ff") => "n_inner",
        (Family::Gpt2, "n_layers") => "n_layer",
        (Family::Gpt2, "n_heads") => "n_head",
        (Family::Gpt2, "max_positions") => "n_positions",
        (Family::Gpt2, "norm_eps") => "layer_norm_epsilon",
        (Family::Gpt2, "dropout") => "resid_pdrop",
        (_, "d_model") => "hidden_size",
        (_, "d_ff") => "intermediate_size",
        (_, "n_layers") => "num_hidden_layers",
        (_, "n_heads") => "num_attention_heads",
        (_, "n_kv_heads") => "num_key_value_heads",
        (_, "max_positions") => "max_position_embeddings",
        (_, "norm_eps") => "rms_norm_eps",
        (_, "rope_original") => "rope_scaling.original_max_position_embeddings",
        (_, other) => other,
    }
}
