//! Attaching fresh additions to a model: branches, a prefix, a prompt.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use soft_core::{NoiseKey, Place, float_tensor, uniform_stream};

use super::{Projection, Targets};
use crate::attention::Prefix;
use crate::construct::normal;
use crate::linear::{BranchSettings, ColumnNorms};
use crate::{Error, Transformer};

/// First index of the parameter streams that the additions draw from: away from the base model's.
const FIRST_STREAM: u32 = 1 << 24;

/// What low-rank branches are made of.
#[derive(Debug, Clone, PartialEq)]
pub struct LowRankSpec {
    /// Rank of `A` and `B`, at least 1.
    pub rank: usize,
    /// Scale of the branch, divided by its rank.
    pub alpha: f64,
    /// Which projections get a branch: see [`Targets`].
    pub targets: Vec<String>,
    /// Probability that an input of a branch is set to zero in training.
    pub dropout: f64,
    /// Divides `alpha` by the root of the rank (rsLoRA, arXiv:2312.03732).
    pub rslora: bool,
    /// Learns the norm of each column apart from its direction (DoRA, arXiv:2402.09353).
    pub dora: bool,
}

impl Default for LowRankSpec {
    fn default() -> Self {
        let targets = ["q_proj", "v_proj"].map(str::to_owned).to_vec();
        Self { rank: 8, alpha: 16.0, targets, dropout: 0.0, rslora: false, dora: false }
    }
}

/// Why an addition is refused: `what` is there, and `key` asks for a new one.
pub(crate) fn already_there(what: &str, key: &str) -> Error {
    Error::Settings(format!(
        "the model has {what} of its own, which a new addition would replace: leave `{key}` at 0 \
         to train what is there further"
    ))
}

/// Why a prefix and a prompt exclude each other.
fn both() -> Error {
    Error::Settings(
        "the model has a prefix or a prompt: both would be the first positions; take one of them"
            .to_owned(),
    )
}

impl Transformer {
    /// Positions that a learned K/V prefix or prompt takes; 0 without one.
    pub fn prefix_len(&self) -> usize {
        self.kv_prefix_len() + self.prompt_len()
    }

    pub(super) fn kv_prefix_len(&self) -> usize {
        let prefix = self.blocks.first().and_then(|block| block.attention.prefix.as_ref());
        prefix.map_or(0, |prefix| prefix.keys.dims()[1])
    }

    pub(super) fn prompt_len(&self) -> usize {
        self.prompt.as_ref().map_or(0, |prompt| prompt.dims()[0])
    }

    /// [`Self::with_branches`] without drop-out, rsLoRA or DoRA.
    ///
    /// # Errors
    /// As there.
    pub fn with_low_rank(
        self,
        rank: usize,
        alpha: f64,
        targets: &[String],
        seed: u64,
    ) -> Result<Self, Error> {
        let targets = targets.to_vec();
        self.with_branches(&LowRankSpec { rank, alpha, targets, ..LowRankSpec::default() }, seed)
    }

    /// Freezes every parameter but a prefix or prompt already there, and attaches a low-rank branch
    /// to the named projections: `y + scale (x A) B`, A uniform in `1 / sqrt(d_in)` of zero (PEFT's
    /// Kaiming start), B zero, scale `alpha / rank`, or `alpha / sqrt(rank)` with rsLoRA. With
    /// DoRA the columns of `W + scale A B` are scaled to learned norms, which start at their own.
    ///
    /// # Errors
    /// A rank of 0, no target, a target that the model lacks, a drop-out outside [0, 1), or
    /// branches already there.
    pub fn with_branches(self, spec: &LowRankSpec, seed: u64) -> Result<Self, Error> {
        let LowRankSpec { rank, alpha, ref targets, dropout, rslora, dora } = *spec;
        if rank == 0 || targets.is_empty() {
            let problem = "a low-rank branch needs a rank over 0 and at least one target";
            return Err(Error::Settings(problem.to_owned()));
        }
        if !(0.0..1.0).contains(&dropout) {
            let problem = format!("low-rank drop-out is {dropout}; expected 0 or more, below 1");
            return Err(Error::Settings(problem));
        }
        if self.num_low_rank() > 0 {
            return Err(already_there("low-rank branches", "low_rank.rank"));
        }
        let sites = Targets::parse(targets)?.sites(&self.config)?;
        let mut model = self.with_frozen_base();
        let (device, dtype) = (model.device(), model.dtype());
        for (stream, (layer, projection)) in (FIRST_STREAM..).zip(sites) {
            let Some(linear) = model.blocks[layer].projection_mut(projection) else { continue };
            let [d_in, d_out] = linear.widths();
            let bound = 1.0 / (d_in as f64).sqrt();
            let key = NoiseKey { seed, step: 0, row: 0, position: 0 };
            let uniform = uniform_stream(key, Place::Init(stream)).take(d_in * rank);
            let a = uniform.map(|u| (2.0 * u - 1.0) * bound).collect();
            let a = float_tensor(a, [d_in, rank], &device, dtype);
            let b = Tensor::zeros([rank, d_out], (&device, dtype));
            linear.attach(a, b, BranchSettings { alpha, rslora, dropout }, dora);
        }
        Ok(model)
    }

    /// Turns every low-rank branch on or off; off, the model is the base to the bit.
    pub fn set_low_rank(&mut self, enabled: bool) {
        self.for_each_branch(|branch| branch.enabled = enabled);
    }

    /// The model without the drop-out of its low-rank branches, for evaluation in passes that have
    /// a [`crate::Dropout`].
    #[must_use]
    pub fn without_branch_dropout(mut self) -> Self {
        self.for_each_branch(|branch| branch.settings.dropout = 0.0);
        self
    }

    fn for_each_branch(&mut self, change: impl Fn(&mut crate::linear::LowRank)) {
        for block in &mut self.blocks {
            for projection in Projection::ALL {
                let linear = block.projection_mut(projection);
                if let Some(branch) = linear.and_then(|linear| linear.low_rank.as_mut()) {
                    change(branch);
                }
            }
        }
    }

    /// Freezes every parameter but low-rank branches already there, and puts `tokens` learned keys
    /// and values before the first position of every layer, normal with standard deviation 0.02.
    ///
    /// # Errors
    /// No tokens, as many as the model has positions, or a prefix or prompt already there.
    pub fn with_prefix(self, tokens: usize, seed: u64) -> Result<Self, Error> {
        self.check_room("prefix", tokens)?;
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

    /// Freezes every parameter but low-rank branches already there, and puts `tokens` learned
    /// embeddings before the sequence (prompt tuning, Lester et al. 2021, arXiv:2104.08691). They
    /// take positions 0 to `tokens` - 1, and start as embeddings of tokens drawn from the
    /// vocabulary.
    ///
    /// # Errors
    /// No tokens, as many as the model has positions, or a prefix or prompt already there.
    pub fn with_prompt(self, tokens: usize, seed: u64) -> Result<Self, Error> {
        self.check_room("prompt", tokens)?;
        let mut model = self.with_frozen_base();
        let key = NoiseKey { seed, step: 0, row: 0, position: 0 };
        let vocab_size = model.config.vocab_size;
        let uniform = uniform_stream(key, Place::Init(3 * FIRST_STREAM)).take(tokens);
        let ids: Vec<u32> = uniform
            .map(|u| ((u * vocab_size as f64) as usize).min(vocab_size - 1) as u32)
            .collect();
        let rows = model.embed(&ids, 1).detach().reshape([tokens, model.config.d_model]);
        let values = soft_core::host_values(rows.clone());
        let rows = float_tensor(values, rows.dims(), &model.device(), model.dtype());
        model.prompt = Some(Param::from_tensor(rows));
        Ok(model)
    }

    pub(super) fn check_room(&self, what: &str, tokens: usize) -> Result<(), Error> {
        let max_positions = self.config.max_positions;
        if tokens == 0 || tokens >= max_positions {
            return Err(Error::Settings(format!(
                "a {what} of {tokens} tokens: expected 1 to {}",
                max_positions - 1
            )));
        }
        match (what, self.kv_prefix_len(), self.prompt_len()) {
            (_, 0, 0) => Ok(()),
            ("prefix", 1.., _) => Err(already_there("a prefix", "prefix.tokens")),
            ("prompt", _, 1..) => Err(already_there("a prompt", "prompt.tokens")),
            _ => Err(both()),
        }
    }

    /// Freezes the base; where there is an addition already, it has been frozen for that one.
    pub(super) fn with_frozen_base(self) -> Self {
        if self.num_low_rank() > 0 || self.prefix_len() > 0 { self } else { self.freeze() }
    }

    pub(super) fn num_low_rank(&self) -> usize {
        let projections = self.blocks.iter().flat_map(|block| block.projections());
        projections.filter(|(_, linear)| linear.low_rank.is_some()).count()
    }

    /// The norms that weight-decomposed branches divide by; `None` where there is no such branch.
    pub(crate) fn column_norms(&self) -> Option<std::sync::Arc<ColumnNorms>> {
        let mut norms = ColumnNorms::default();
        let mut any = false;
        for block in &self.blocks {
            let layer = Projection::ALL
                .map(|p| block.projection(p).and_then(|linear| linear.norms_for_branch()));
            any |= layer.iter().any(Option::is_some);
            norms.push(layer);
        }
        any.then(|| std::sync::Arc::new(norms))
    }
}
