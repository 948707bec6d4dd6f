//! How many parameters a model has, and how many of them are trained, from its shape alone.

use soft_model::{Family, ModelConfig, Positions};

use crate::config::Config;
use crate::error::Error;

/// Numbers of parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Parameters {
    /// All, with what is added to the base.
    pub(crate) all: usize,
    /// Those that get gradients.
    pub(crate) trained: usize,
    /// Of the embedding and the head, those that get gradients.
    pub(crate) trained_tokens: usize,
    /// Whether rows of them are trained apart from the rest.
    pub(crate) has_rows: bool,
    /// Of the blocks' own matrices, those that get gradients.
    pub(crate) trained_in_blocks: usize,
    /// The largest tensor.
    pub(crate) largest: usize,
    /// Which matrices of the blocks get gradients of their own or through a branch.
    pub(crate) in_blocks: InBlocks,
}

/// Which inputs of a block's matrices the backward pass needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct InBlocks {
    /// Of the query, key or value projection.
    pub(crate) attention: bool,
    /// Of the attention's output projection.
    pub(crate) output: bool,
    /// Of the gate or up projection.
    pub(crate) up: bool,
    /// Of the down projection.
    pub(crate) down: bool,
}

/// Every parameter of a base model with its size, under the names of
/// [`soft_model::Transformer::parameter_names`].
pub(crate) fn base(shape: &ModelConfig) -> Vec<(String, usize)> {
    let (d, f) = (shape.d_model, shape.d_ff);
    let [queries, keys] = [shape.n_heads, shape.n_kv_heads].map(|heads| heads * shape.head_dim);
    let layer_norm = shape.family == Family::Gpt2;
    let mut all = vec![("embed_tokens".to_owned(), shape.vocab_size * d)];
    if shape.positions == Positions::Learned {
        all.push(("positions".to_owned(), shape.max_positions * d));
    }
    for layer in 0..shape.n_layers {
        let mut push = |name: &str, numbers: usize| {
            all.push((format!("layers.{layer}.{name}"), numbers));
        };
        let mut norm = |name: &str, width: usize, bias: bool| {
            push(&format!("{name}.weight"), width);
            if bias {
                push(&format!("{name}.bias"), width);
            }
        };
        norm("input_layernorm", d, layer_norm);
        norm("post_attention_layernorm", d, layer_norm);
        if shape.qk_norm {
            norm("self_attn.q_norm", shape.head_dim, false);
            norm("self_attn.k_norm", shape.head_dim, false);
        }
        let mut linear = |name: &str, from: usize, to: usize, bias: bool| {
            push(&format!("{name}.weight"), from * to);
            if bias {
                push(&format!("{name}.bias"), to);
            }
        };
        linear("self_attn.q_proj", d, queries, shape.qkv_bias);
        linear("self_attn.k_proj", d, keys, shape.qkv_bias);
        linear("self_attn.v_proj", d, keys, shape.qkv_bias);
        linear("self_attn.o_proj", queries, d, shape.output_bias);
        if !layer_norm {
            linear("mlp.gate_proj", d, f, shape.mlp_bias);
        }
        linear("mlp.up_proj", d, f, shape.mlp_bias);
        linear("mlp.down_proj", f, d, shape.mlp_bias);
    }
    all.push(("norm.weight".to_owned(), d));
    if layer_norm {
        all.push(("norm.bias".to_owned(), d));
    }
    if !shape.tied_embeddings {
        all.push(("lm_head.weight".to_owned(), shape.vocab_size * d));
    }
    all
}

impl Parameters {
    /// What a configuration trains of a model of this shape. `there` are parameters that a
    /// checkpoint adds to its own base, `new_tokens` the rows of [`crate::config::Model::new_tokens`].
    ///
    /// # Errors
    /// A pattern of `train.only` that is no regular expression, or a target of `low_rank.targets`
    /// that the model does not have.
    pub(crate) fn of(
        config: &Config,
        shape: &ModelConfig,
        there: usize,
        new_tokens: usize,
    ) -> Result<Self, Error> {
        let base = base(shape);
        let branches = config.low_rank.parameters(shape)?;
        let beside = config.prefix.parameters(shape) + config.prompt.parameters(shape);
        let frozen = branches + beside + there > 0;
        let only = config.train.only.iter().map(|text| regex::Regex::new(text));
        let only: Vec<regex::Regex> = only.collect::<Result<_, _>>().map_err(|error| {
            Error::Config { report: format!("`train.only` is no regular expression: {error}") }
        })?;
        let keeps = |name: &str| {
            !frozen && (only.is_empty() || only.iter().any(|pattern| pattern.is_match(name)))
        };
        let trained = |part: &str| {
            let of_part = base.iter().filter(|(name, _)| name.contains(part) && keeps(name));
            of_part.map(|(_, numbers)| numbers).sum::<usize>()
        };
        let reads_branch = |names: &[&str]| {
            branches > 0
                && config.low_rank.targets.iter().any(|target| {
                    // A pattern may name anything.
                    let plain = soft_model::TARGETS.iter().any(|known| target.ends_with(known));
                    !plain || names.iter().any(|name| target.ends_with(name))
                })
        };
        let has = |names: &[&str]| {
            let weight = |name: &&str| trained(&format!("{name}.weight")) > 0;
            names.iter().any(weight) || reads_branch(names)
        };
        let tokens = trained("embed_tokens") + trained("lm_head");
        let head_rows = if shape.tied_embeddings { 1 } else { 2 };
        let has_rows = new_tokens > 0 && trained("embed_tokens") == 0;
        let rows = if has_rows { new_tokens * shape.d_model * head_rows } else { 0 };
        let all_base: usize = base.iter().map(|(_, numbers)| numbers).sum();
        let added = branches + beside + there;
        Ok(Self {
            all: all_base + added + rows,
            trained: trained("") + added + rows,
            trained_tokens: tokens,
            has_rows,
            trained_in_blocks: trained("_proj.weight"),
            largest: base.iter().map(|(_, numbers)| *numbers).max().unwrap_or(0),
            in_blocks: InBlocks {
                attention: has(&["q_proj", "k_proj", "v_proj"]),
                output: has(&["o_proj"]),
                up: has(&["gate_proj", "up_proj"]),
                down: has(&["down_proj"]),
            },
        })
    }
}
