//! Hugging Face names of a decoder's tensors, by family.

use crate::config::Family;

/// Names of the tensors outside the blocks.
pub(crate) struct OuterNames {
    pub(crate) embedding: &'static str,
    pub(crate) positions: &'static str,
    pub(crate) final_norm: &'static str,
    pub(crate) head: &'static str,
}

/// Names of the modules of one block, without `.weight` or `.bias`.
pub(crate) struct BlockNames {
    pub(crate) attention_norm: String,
    /// Query, key and value; GPT-2 stores them as one matrix.
    pub(crate) query_key_value: QueryKeyValue,
    pub(crate) attention_output: String,
    pub(crate) query_norm: String,
    pub(crate) key_norm: String,
    pub(crate) mlp_norm: String,
    pub(crate) gate: String,
    pub(crate) up: String,
    pub(crate) down: String,
}

/// How a family stores the three input projections of attention.
pub(crate) enum QueryKeyValue {
    Separate([String; 3]),
    Fused(String),
}

pub(crate) fn outer_names(family: Family) -> OuterNames {
    match family {
        Family::Gpt2 => OuterNames {
            embedding: "transformer.wte.weight",
            positions: "transformer.wpe.weight",
            final_norm: "transformer.ln_f",
            head: "lm_head.weight",
        },
        _ => OuterNames {
            embedding: "model.embed_tokens.weight",
            positions: "",
            final_norm: "model.norm",
            head: "lm_head.weight",
        },
    }
}

pub(crate) fn block_names(family: Family, layer: usize) -> BlockNames {
    if family == Family::Gpt2 {
        let at = |part: &str| format!("transformer.h.{layer}.{part}");
        return BlockNames {
            attention_norm: at("ln_1"),
            query_key_value: QueryKeyValue::Fused(at("attn.c_attn")),
            attention_output: at("attn.c_proj"),
            query_norm: String::new(),
            key_norm: String::new(),
            mlp_norm: at("ln_2"),
            gate: String::new(),
            up: at("mlp.c_fc"),
            down: at("mlp.c_proj"),
        };
    }
    let at = |part: &str| format!("model.layers.{layer}.{part}");
    BlockNames {
        attention_norm: at("input_layernorm"),
        query_key_value: QueryKeyValue::Separate(
            ["q_proj", "k_proj", "v_proj"].map(|p| at(&format!("self_attn.{p}"))),
        ),
        attention_output: at("self_attn.o_proj"),
        query_norm: at("self_attn.q_norm"),
        key_norm: at("self_attn.k_norm"),
        mlp_norm: at("post_attention_layernorm"),
        gate: at("mlp.gate_proj"),
        up: at("mlp.up_proj"),
        down: at("mlp.down_proj"),
    }
}
