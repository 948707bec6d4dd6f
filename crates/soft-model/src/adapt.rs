//! Trainable additions to a frozen model: low-rank branches and a K/V prefix.

use burn::module::{Module, Param};
use soft_core::float_tensor;

use crate::attention::Prefix;
use crate::construct::normal;
use crate::linear::Linear;
use crate::{Error, Transformer};

/// The projections of a block that can carry a low-rank branch, by their Hugging Face names.
pub const TARGETS: [&str; 7] =
    ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// First index of the parameter streams that the additions draw from: away from the base model's.
const FIRST_STREAM: u32 = 1 << 24;

/// Why an addition is refused: `what` is there, and `key` asks for a new one.
pub(crate) fn already_there(what: &str, key: &str) -> Error {
    Error::Settings(format!(
        "the model has {what} of its own, which a new addition would replace: leave `{key}` at 0 \
         to train what is there further"
    ))
}

impl Transformer {
    /// Tokens of the learned K/V prefix; 0 without one.
    pub fn prefix_len(&self) -> usize {
        let prefix = self.blocks.first().and_then(|block| block.attention.prefix.as_ref());
        prefix.map_or(0, |prefix| prefix.keys.dims()[1])
    }

    /// Freezes every parameter but a prefix already there, and attaches a low-rank branch of `rank`
    /// to the named projections of every block: `y + alpha / rank (x A) B`, A normal with variance
    /// 1 / rank, B zero.
    ///
    /// # Errors
    /// A rank of 0, no target, a name that is not one of [`TARGETS`] or that the model lacks, or
    /// branches already there.
    pub fn with_low_rank(
        self,
        rank: usize,
        alpha: f64,
        targets: &[String],
        seed: u64,
    ) -> Result<Self, Error> {
        if rank == 0 || targets.is_empty() {
            let problem = "a low-rank branch needs a rank over 0 and at least one target";
            return Err(Error::Settings(problem.to_owned()));
        }
        if self.num_low_rank() > 0 {
            return Err(already_there("low-rank branches", "low_rank.rank"));
        }
        let mut model = self.with_frozen_base();
        let (device, dtype) = (model.device(), model.dtype());
        let mut stream = FIRST_STREAM;
        for block in &mut model.blocks {
            for target in targets {
                let linear = block.projection_mut(target).ok_or_else(|| {
                    Error::Settings(format!(
                        "no projection {target:?} to attach a low-rank branch to: expected one of \
                         {} that this model has",
                        TARGETS.join(", ")
                    ))
                })?;
                let d_in = linear.widths()[0];
                let std = (1.0 / rank as f64).sqrt();
                let a = normal(seed, stream, d_in * rank).map(|x| x * std).collect();
                linear.attach(float_tensor(a, [d_in, rank], &device, dtype), alpha);
                stream += 1;
            }
        }
        Ok(model)
    }

    /// Turns every low-rank branch on or off; off, the model is the base to the bit.
    pub fn set_low_rank(&mut self, enabled: bool) {
        for block in &mut self.blocks {
            for target in TARGETS {
                if let Some(Linear { low_rank: Some(branch), .. }) = block.projection_mut(target) {
                    branch.enabled = enabled;
                }
            }
        }
    }

    /// Freezes every parameter but low-rank branches already there, and puts `tokens` learned keys
    /// and values before the first position of every layer, normal with standard deviation 0.02.
    ///
    /// # Errors
    /// No tokens, as many as the model has positions, or a prefix already there.
    pub fn with_prefix(self, tokens: usize, seed: u64) -> Result<Self, Error> {
        let max_positions = self.config.max_positions;
        if tokens == 0 || tokens >= max_positions {
            return Err(Error::Settings(format!(
                "a prefix of {tokens} tokens: expected 1 to {}",
                max_positions - 1
            )));
        }
        if self.prefix_len() > 0 {
            return Err(already_there("a prefix", "prefix.tokens"));
        }
        let mut model = self.with_frozen_base();
        let (device, dtype) = (model.device(), model.dtype());
        let shape = [model.config.n_kv_heads, tokens, model.config.head_dim];
        let mut stream = 2 * FIRST_STREAM;
        for block in &mut model.blocks {
            let mut part = || {
                stream += 1;
                let values = normal(seed, stream, shape.iter().product()).map(|x| 0.02 * x);
                Param::from_tensor(float_tensor(values.collect(), shape, &device, dtype))
            };
            block.attention.prefix = Some(Prefix { keys: part(), values: part() });
        }
        Ok(model)
    }

    /// Freezes the base; where there is an addition already, it has been frozen for that one.
    fn with_frozen_base(self) -> Self {
        if self.num_low_rank() > 0 || self.prefix_len() > 0 { self } else { self.freeze() }
    }

    fn num_low_rank(&self) -> usize {
        self.blocks
            .iter()
            .flat_map(|block| TARGETS.iter().filter_map(|target| block.projection(target)))
            .filter(|linear| linear.low_rank.is_some())
            .count()
    }
}

impl crate::block::Block {
    pub(crate) fn projection(&self, target: &str) -> Option<&Linear> {
        match target {
            "q_proj" => Some(&self.attention.query),
            "k_proj" => Some(&self.attention.key),
            "v_proj" => Some(&self.attention.value),
            "o_proj" => Some(&self.attention.output),
            "gate_proj" => self.mlp.gate.as_ref(),
            "up_proj" => Some(&self.mlp.up),
            "down_proj" => Some(&self.mlp.down),
            _ => None,
        }
    }

    pub(crate) fn projection_mut(&mut self, target: &str) -> Option<&mut Linear> {
        match target {
            "q_proj" => Some(&mut self.attention.query),
            "k_proj" => Some(&mut self.attention.key),
            "v_proj" => Some(&mut self.attention.value),
            "o_proj" => Some(&mut self.attention.output),
            "gate_proj" => self.mlp.gate.as_mut(),
            "up_proj" => Some(&mut self.mlp.up),
            "down_proj" => Some(&mut self.mlp.down),
            _ => None,
        }
    }
}
