//! Names of tensors: those of GGUF and of Hugging Face's variants to the canonical ones.

use crate::config::{Family, ModelConfig};
use crate::weights::stored::Layout;

/// Canonical name of a tensor in a Hugging Face file; `None` for a buffer that is computed.
///
/// The prefix of the base model (`transformer.` or `model.`) is added where a file lacks it.
pub(crate) fn from_hf(family: Family, name: &str) -> Option<String> {
    const BUFFERS: [&str; 3] = [".attn.bias", ".attn.masked_bias", "rotary_emb.inv_freq"];
    if BUFFERS.iter().any(|buffer| name.ends_with(buffer)) {
        return None;
    }
    let (prefix, starts) = match family {
        Family::Gpt2 => ("transformer.", ["h.", "wte.", "wpe.", "ln_f."]),
        _ => ("model.", ["layers.", "embed_tokens.", "norm.", "norm."]),
    };
    if starts.iter().any(|start| name.starts_with(start)) {
        return Some(format!("{prefix}{name}"));
    }
    Some(name.to_owned())
}

/// Layout in Hugging Face files: GPT-2's four matrices of a block are `[in, out]`.
pub(crate) fn hf_layout(name: &str) -> Layout {
    const CONV1D: [&str; 4] =
        [".attn.c_attn.weight", ".attn.c_proj.weight", ".mlp.c_fc.weight", ".mlp.c_proj.weight"];
    if name.starts_with("transformer.h.") && CONV1D.iter().any(|end| name.ends_with(end)) {
        Layout::Transposed
    } else {
        Layout::Canonical
    }
}

/// Canonical name and layout of a GGUF tensor; `None` for one that is computed or settings.
///
/// A name that is not known is kept, to be listed as unexpected.
pub(crate) fn from_gguf(
    config: &ModelConfig,
    interleaved: bool,
    name: &str,
) -> Option<(String, Layout)> {
    if name == "rope_freqs.weight" || name.ends_with("attn_rot_embd.weight") {
        return None;
    }
    let known = match config.family {
        Family::Gpt2 => gpt2(name),
        _ => llama(name),
    };
    let layout = match name.rsplit('.').nth(1) {
        Some("attn_q") if interleaved => Layout::Interleaved { heads: config.n_heads },
        Some("attn_k") if interleaved => Layout::Interleaved { heads: config.n_kv_heads },
        _ => Layout::Canonical,
    };
    Some((known.unwrap_or_else(|| name.to_owned()), layout))
}

/// `blk.3.attn_q.weight` to `(3, attn_q, weight)`.
fn block_parts(name: &str) -> Option<(usize, &str, &str)> {
    let mut parts = name.strip_prefix("blk.")?.splitn(3, '.');
    let index = parts.next()?.parse().ok()?;
    Some((index, parts.next()?, parts.next()?))
}

fn llama(name: &str) -> Option<String> {
    match name {
        "token_embd.weight" => return Some("model.embed_tokens.weight".into()),
        "output_norm.weight" => return Some("model.norm.weight".into()),
        "output.weight" => return Some("lm_head.weight".into()),
        _ => {}
    }
    let (index, part, kind) = block_parts(name)?;
    let module = match part {
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_output" => "self_attn.o_proj",
        "attn_q_norm" => "self_attn.q_norm",
        "attn_k_norm" => "self_attn.k_norm",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        "attn_norm" => "input_layernorm",
        "ffn_norm" => "post_attention_layernorm",
        _ => return None,
    };
    Some(format!("model.layers.{index}.{module}.{kind}"))
}

fn gpt2(name: &str) -> Option<String> {
    match name {
        "token_embd.weight" => return Some("transformer.wte.weight".into()),
        "position_embd.weight" => return Some("transformer.wpe.weight".into()),
        "output_norm.weight" => return Some("transformer.ln_f.weight".into()),
        "output_norm.bias" => return Some("transformer.ln_f.bias".into()),
        "output.weight" => return Some("lm_head.weight".into()),
        _ => {}
    }
    let (index, part, kind) = block_parts(name)?;
    let module = match part {
        "attn_norm" => "ln_1",
        "attn_qkv" => "attn.c_attn",
        "attn_output" => "attn.c_proj",
        "ffn_norm" => "ln_2",
        "ffn_up" => "mlp.c_fc",
        "ffn_down" => "mlp.c_proj",
        _ => return None,
    };
    Some(format!("transformer.h.{index}.{module}.{kind}"))
}
