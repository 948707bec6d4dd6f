//! From sections to the values that the crates below take.

use regex::Regex;
use soft_core::{PipelineConfig, Schedule, ScheduleKind, SoftPipeline, Transform};

use soft_model::{
    Activation, ColdStop, Family, Feedback, LowRankSpec, Manner, ModelConfig, Positions, Targets,
};

use super::choices::{
    Active, EntropyOf, EstimatorKind, FeedKind, GuidanceForm, Mode, ModelFamily, NoiseKind,
    NormMatch, ScheduleForm, Stage,
};
use super::sections::{
    Config, Estimator, Guidance, LowRank, Model, Objective, Prefix, Prompt, Soft, Train,
};

impl Soft {
    /// Filters and noise, as soft-core takes them.
    #[must_use]
    pub fn pipeline(&self) -> PipelineConfig {
        PipelineConfig {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            max_top_k: self.max_top_k,
            noise: match self.noise {
                NoiseKind::None => soft_core::Noise::None,
                NoiseKind::Gumbel => {
                    soft_core::Noise::Gumbel { temperature: self.noise_temperature }
                }
                NoiseKind::Dirichlet => {
                    soft_core::Noise::Dirichlet { concentration: self.noise_concentration }
                }
            },
            feed: match self.feed {
                FeedKind::Mixture => soft_core::Feed::Mixture,
                FeedKind::Inputs => soft_core::Feed::Inputs { beta: self.beta },
                FeedKind::Samples => soft_core::Feed::Samples { count: self.samples },
                FeedKind::Contrast => soft_core::Feed::Contrast,
                // What is fed then is the model's; tokens and stops still follow the weights.
                FeedKind::Hidden => soft_core::Feed::Mixture,
            },
            norm_match: match self.norm_match {
                NormMatch::None => soft_core::NormMatch::None,
                NormMatch::L2 => soft_core::NormMatch::L2,
                NormMatch::Rms => soft_core::NormMatch::Rms,
            },
            order: self.order.iter().map(|&stage| stage.into()).collect(),
        }
    }

    /// What a soft position is fed.
    #[must_use]
    pub fn feedback(&self) -> Feedback {
        match self.feed {
            FeedKind::Hidden => Feedback::Hidden,
            _ => Feedback::Mixture,
        }
    }

    /// How thoughts, or an answer, are decoded.
    ///
    /// # Errors
    /// Settings that the pipeline refuses.
    pub fn manner(&self) -> Result<Manner, soft_core::Error> {
        Ok(Manner {
            pipeline: SoftPipeline::new(self.pipeline())?,
            mode: self.mode.into(),
            feedback: self.feedback(),
            cold_stop: self.cold_stop(),
            repetition_penalty: self.repetition_penalty,
        })
    }

    /// The cold stop, where it is on.
    #[must_use]
    pub fn cold_stop(&self) -> Option<ColdStop> {
        let (entropy, length) = (self.cold_stop_entropy, self.cold_stop_length);
        self.cold_stop.then_some(ColdStop { entropy, length })
    }
}

impl From<Active> for soft_model::Active {
    fn from(active: Active) -> Self {
        match active {
            Active::Always => Self::Always,
            Active::Soft => Self::Soft,
        }
    }
}

impl Config {
    /// Positions that a new prefix or prompt takes from the tokens.
    #[must_use]
    pub fn taken_positions(&self) -> usize {
        match self.adapter.active {
            Active::Always => self.prefix.tokens + self.prompt.tokens,
            Active::Soft => 0,
        }
    }
}

impl From<Stage> for Transform {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Temperature => Self::Temperature,
            Stage::TopK => Self::TopK,
            Stage::TopP => Self::TopP,
            Stage::MinP => Self::MinP,
            Stage::Noise => Self::Noise,
        }
    }
}

impl From<EntropyOf> for soft_model::EntropyOf {
    fn from(of: EntropyOf) -> Self {
        match of {
            EntropyOf::Tempered => Self::Tempered,
            EntropyOf::Raw => Self::Raw,
            EntropyOf::Kept => Self::Kept,
        }
    }
}

impl From<Mode> for soft_model::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Soft => Self::Soft,
            Mode::Hard => Self::Hard,
        }
    }
}

impl From<GuidanceForm> for soft_core::GuidanceForm {
    fn from(form: GuidanceForm) -> Self {
        match form {
            GuidanceForm::Mix => Self::Mix,
            GuidanceForm::Clamp => Self::Clamp,
            GuidanceForm::Coin => Self::Coin,
        }
    }
}

impl Guidance {
    /// The share of the truth as a function of the step, counted from 0. Without a length of its
    /// own the schedule reaches `end` at the last of `train_steps` steps.
    #[must_use]
    pub fn schedule_over(&self, train_steps: usize) -> Schedule {
        schedule(self.schedule, [self.start, self.end], [self.hold, self.steps], train_steps)
    }
}

impl Estimator {
    /// The temperature of the relaxed draw as a function of the step, counted from 0.
    #[must_use]
    pub fn temperature_over(&self, train_steps: usize) -> Schedule {
        schedule(self.schedule, [self.start, self.end], [self.hold, self.steps], train_steps)
    }

    /// The temperature of the last step.
    #[must_use]
    pub fn last_temperature(&self, train_steps: usize) -> f64 {
        self.temperature_over(train_steps).at(train_steps.saturating_sub(1))
    }

    /// The estimator of a step whose relaxed draw has this temperature.
    #[must_use]
    pub fn at(&self, temperature: f64) -> soft_core::Estimator {
        match self.kind {
            EstimatorKind::Exact => soft_core::Estimator::Exact,
            EstimatorKind::Gumbel => soft_core::Estimator::Gumbel { temperature },
            EstimatorKind::StraightThrough => soft_core::Estimator::StraightThrough { temperature },
            EstimatorKind::RaoBlackwell => {
                let samples = u32::try_from(self.samples).unwrap_or(u32::MAX);
                soft_core::Estimator::RaoBlackwell { temperature, samples }
            }
        }
    }
}

impl Objective {
    /// The weight of the entropy as a function of the step, counted from 0.
    #[must_use]
    pub fn entropy_over(&self, train_steps: usize) -> Schedule {
        if self.entropy_schedule == ScheduleForm::Constant {
            return Schedule::constant(self.entropy_beta);
        }
        let ends = [self.entropy_start, self.entropy_beta];
        let lengths = [self.entropy_hold, self.entropy_steps];
        schedule(self.entropy_schedule, ends, lengths, train_steps)
    }
}

/// A change from the first end to the second within `steps`, or where that is 0 by the last step of
/// a training.
fn schedule(
    form: ScheduleForm,
    [start, end]: [f64; 2],
    [hold, steps]: [usize; 2],
    train_steps: usize,
) -> Schedule {
    let rest = train_steps.saturating_sub(hold + 1).max(1);
    let steps = if steps == 0 { rest } else { steps };
    Schedule { kind: form.into(), start, end, hold, steps }
}

impl From<ScheduleForm> for ScheduleKind {
    fn from(form: ScheduleForm) -> Self {
        match form {
            ScheduleForm::Constant => Self::Constant,
            ScheduleForm::Linear => Self::Linear,
            ScheduleForm::Cosine => Self::Cosine,
            ScheduleForm::InverseSigmoid => Self::InverseSigmoid,
        }
    }
}

impl Train {
    /// The entries of `train.rates`: what they match, and the factor.
    ///
    /// # Errors
    /// What is wrong with an entry, and what was expected.
    pub fn rate_factors(&self) -> Result<Vec<(Regex, f64)>, String> {
        let parse = |text: &String| {
            let bad = |why: &str| {
                format!(
                    "`train.rates` holds {text:?}{why}; expected a regular expression and a \
                     factor, as in \"low_rank.b 16\""
                )
            };
            let (pattern, factor) = text.trim().rsplit_once(' ').ok_or_else(|| bad(""))?;
            let factor: f64 = factor.parse().map_err(|_| bad(""))?;
            if !factor.is_finite() || factor < 0.0 {
                return Err(bad(""));
            }
            let pattern = Regex::new(pattern.trim());
            pattern.map(|pattern| (pattern, factor)).map_err(|error| bad(&format!(": {error}")))
        };
        self.rates.iter().map(parse).collect()
    }
}

impl LowRank {
    /// What the branches are made of; `None` where they are off.
    #[must_use]
    pub fn spec(&self) -> Option<LowRankSpec> {
        (self.rank > 0).then(|| LowRankSpec {
            rank: self.rank,
            alpha: self.alpha,
            targets: self.targets.clone(),
            dropout: self.dropout,
            rslora: self.rslora,
            dora: self.dora,
        })
    }

    /// Parameters that the branches add to a model: `rank * (d_in + d_out)` for each matrix, and
    /// `d_out` more with DoRA.
    ///
    /// # Errors
    /// A target that names no projection of the model.
    pub fn parameters(&self, model: &ModelConfig) -> Result<usize, soft_model::Error> {
        if self.rank == 0 {
            return Ok(0);
        }
        Targets::parse(&self.targets)?.parameters(self.rank, self.dora, model)
    }
}

impl Prefix {
    /// Parameters that the prefix adds to a model: a key and a value for each position and layer.
    #[must_use]
    pub fn parameters(&self, model: &ModelConfig) -> usize {
        2 * model.n_layers * self.tokens * model.n_kv_heads * model.head_dim
    }
}

impl Prompt {
    /// Parameters that the prompt adds to a model: an embedding for each position.
    #[must_use]
    pub fn parameters(&self, model: &ModelConfig) -> usize {
        self.tokens * model.d_model
    }
}

impl Model {
    /// The shape of a new model, with tied embeddings and no special tokens: the task names them.
    ///
    /// The feed-forward is four times as wide as the model in "gpt2", and 8/3 times (rounded up to
    /// a multiple of 8) in "llama", whose gate makes up for the difference.
    #[must_use]
    pub fn new_shape(&self, vocab_size: usize, max_positions: usize) -> ModelConfig {
        let gpt2 = self.family == ModelFamily::Gpt2;
        ModelConfig {
            family: if gpt2 { Family::Gpt2 } else { Family::Llama },
            vocab_size,
            d_model: self.d_model,
            d_ff: if gpt2 { 4 * self.d_model } else { (8 * self.d_model).div_ceil(24) * 8 },
            n_layers: self.n_layers,
            n_heads: self.n_heads,
            n_kv_heads: self.n_heads,
            head_dim: self.d_model / self.n_heads,
            max_positions,
            norm_eps: 1e-5,
            positions: match self.family {
                ModelFamily::Gpt2 => Positions::Learned,
                ModelFamily::Llama => Positions::Rotary { theta: 10_000.0, scaling: None },
            },
            activation: if gpt2 { Activation::GeluTanh } else { Activation::Silu },
            qkv_bias: gpt2,
            output_bias: gpt2,
            mlp_bias: gpt2,
            qk_norm: false,
            sliding_window: None,
            tied_embeddings: true,
            dropout: self.dropout,
            bos_id: None,
            eos_ids: Vec::new(),
            pad_id: None,
        }
    }
}
