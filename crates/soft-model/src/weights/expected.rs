//! The tensors that a configuration asks for.

use crate::config::{Family, ModelConfig};

/// Names as Hugging Face has them, shapes as torch's `Linear` has them: `[out, in]`, GPT-2's
/// Conv1D matrices too.
pub fn expected_tensors(config: &ModelConfig) -> Vec<(String, Vec<usize>)> {
    let mut list = List(Vec::new());
    let embedding = vec![config.vocab_size, config.d_model];
    if config.family == Family::Gpt2 {
        list.add("transformer.wte.weight", embedding.clone());
        list.add("transformer.wpe.weight", vec![config.max_positions, config.d_model]);
        for index in 0..config.n_layers {
            gpt2_block(config, &format!("transformer.h.{index}"), &mut list);
        }
        list.norm("transformer.ln_f", config.d_model, true);
    } else {
        list.add("model.embed_tokens.weight", embedding.clone());
        for index in 0..config.n_layers {
            llama_block(config, &format!("model.layers.{index}"), &mut list);
        }
        list.norm("model.norm", config.d_model, false);
    }
    if !config.tied_embeddings {
        list.add("lm_head.weight", embedding);
    }
    list.0
}

/// Name of the input embedding matrix.
pub(crate) fn embedding_name(family: Family) -> &'static str {
    match family {
        Family::Gpt2 => "transformer.wte.weight",
        _ => "model.embed_tokens.weight",
    }
}

struct List(Vec<(String, Vec<usize>)>);

impl List {
    fn add(&mut self, name: impl Into<String>, shape: Vec<usize>) {
        self.0.push((name.into(), shape));
    }

    fn linear(&mut self, name: &str, [out, input]: [usize; 2], bias: bool) {
        self.add(format!("{name}.weight"), vec![out, input]);
        if bias {
            self.add(format!("{name}.bias"), vec![out]);
        }
    }

    fn norm(&mut self, name: &str, width: usize, bias: bool) {
        self.add(format!("{name}.weight"), vec![width]);
        if bias {
            self.add(format!("{name}.bias"), vec![width]);
        }
    }
}

fn llama_block(config: &ModelConfig, block: &str, list: &mut List) {
    let (d_model, d_ff) = (config.d_model, config.d_ff);
    let queries = config.n_heads * config.head_dim;
    let keys = config.n_kv_heads * config.head_dim;
    list.norm(&format!("{block}.input_layernorm"), d_model, false);
    let attention = format!("{block}.self_attn");
    list.linear(&format!("{attention}.q_proj"), [queries, d_model], config.qkv_bias);
    list.linear(&format!("{attention}.k_proj"), [keys, d_model], config.qkv_bias);
    list.linear(&format!("{attention}.v_proj"), [keys, d_model], config.qkv_bias);
    list.linear(&format!("{attention}.o_proj"), [d_model, queries], config.output_bias);
    if config.qk_norm {
        list.norm(&format!("{attention}.q_norm"), config.head_dim, false);
        list.norm(&format!("{attention}.k_norm"), config.head_dim, false);
    }
    list.norm(&format!("{block}.post_attention_layernorm"), d_model, false);
    list.linear(&format!("{block}.mlp.gate_proj"), [d_ff, d_model], config.mlp_bias);
    list.linear(&format!("{block}.mlp.up_proj"), [d_ff, d_model], config.mlp_bias);
    list.linear(&format!("{block}.mlp.down_proj"), [d_model, d_ff], config.mlp_bias);
}

fn gpt2_block(config: &ModelConfig, block: &str, list: &mut List) {
    let (d_model, d_ff) = (config.d_model, config.d_ff);
    list.norm(&format!("{block}.ln_1"), d_model, true);
    list.linear(&format!("{block}.attn.c_attn"), [3 * d_model, d_model], true);
    list.linear(&format!("{block}.attn.c_proj"), [d_model, d_model], true);
    list.norm(&format!("{block}.ln_2"), d_model, true);
    list.linear(&format!("{block}.mlp.c_fc"), [d_ff, d_model], true);
    list.linear(&format!("{block}.mlp.c_proj"), [d_model, d_ff], true);
}
