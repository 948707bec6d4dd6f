//! Trainable additions to a frozen model: low-rank branches, a K/V prefix, a prompt.

mod additions;
mod attach;
mod merge;
mod own_files;
mod peft_config;
mod peft_files;
mod targets;

pub use attach::LowRankSpec;
pub use merge::{Difference, probe_ids};
pub use peft_files::PeftAdapter;
pub use targets::Targets;

pub(crate) use additions::Additions;
pub(crate) use attach::already_there;

use crate::block::Block;
use crate::config::{Family, ModelConfig};
use crate::linear::Linear;
use crate::names::{QueryKeyValue, block_names};

/// The projections of a block that can carry a low-rank branch, by their Hugging Face names.
pub const TARGETS: [&str; 7] =
    ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// A projection of a block; as a number, its place in [`TARGETS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Projection {
    Query,
    Key,
    Value,
    Output,
    Gate,
    Up,
    Down,
}

impl Projection {
    pub(crate) const ALL: [Self; 7] =
        [Self::Query, Self::Key, Self::Value, Self::Output, Self::Gate, Self::Up, Self::Down];

    pub(crate) fn name(self) -> &'static str {
        TARGETS[self as usize]
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|projection| projection.name() == name)
    }

    /// Input and output widths; `None` where the model lacks the projection.
    pub(crate) fn widths(self, config: &ModelConfig) -> Option<[usize; 2]> {
        let (d_model, d_ff) = (config.d_model, config.d_ff);
        let queries = config.n_heads * config.head_dim;
        let keys = config.n_kv_heads * config.head_dim;
        match self {
            Self::Query => Some([d_model, queries]),
            Self::Key | Self::Value => Some([d_model, keys]),
            Self::Output => Some([queries, d_model]),
            Self::Gate if config.family == Family::Gpt2 => None,
            Self::Gate | Self::Up => Some([d_model, d_ff]),
            Self::Down => Some([d_ff, d_model]),
        }
    }

    /// Hugging Face's path of the module. GPT-2 has its three input projections as one module and
    /// names the others differently; its paths here end in the names of [`TARGETS`] too.
    pub(crate) fn path(self, family: Family, layer: usize) -> String {
        let names = block_names(family, layer);
        let QueryKeyValue::Separate([query, key, value]) = names.query_key_value else {
            let part = if self < Self::Gate { "attn" } else { "mlp" };
            return format!("transformer.h.{layer}.{part}.{}", self.name());
        };
        match self {
            Self::Query => query,
            Self::Key => key,
            Self::Value => value,
            Self::Output => names.attention_output,
            Self::Gate => names.gate,
            Self::Up => names.up,
            Self::Down => names.down,
        }
    }
}

impl Block {
    pub(crate) fn projection(&self, projection: Projection) -> Option<&Linear> {
        match projection {
            Projection::Query => Some(&self.attention.query),
            Projection::Key => Some(&self.attention.key),
            Projection::Value => Some(&self.attention.value),
            Projection::Output => Some(&self.attention.output),
            Projection::Gate => self.mlp.gate.as_ref(),
            Projection::Up => Some(&self.mlp.up),
            Projection::Down => Some(&self.mlp.down),
        }
    }

    pub(crate) fn projection_mut(&mut self, projection: Projection) -> Option<&mut Linear> {
        match projection {
            Projection::Query => Some(&mut self.attention.query),
            Projection::Key => Some(&mut self.attention.key),
            Projection::Value => Some(&mut self.attention.value),
            Projection::Output => Some(&mut self.attention.output),
            Projection::Gate => self.mlp.gate.as_mut(),
            Projection::Up => Some(&mut self.mlp.up),
            Projection::Down => Some(&mut self.mlp.down),
        }
    }

    /// Every projection of the block with its name.
    pub(crate) fn projections(&self) -> impl Iterator<Item = (Projection, &Linear)> {
        Projection::ALL.into_iter().filter_map(|p| Some((p, self.projection(p)?)))
    }
}
