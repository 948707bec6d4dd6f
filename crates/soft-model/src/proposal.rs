//! What a pipeline makes of a step's logits for every row, and what it believed.

use burn::tensor::{Bool, Tensor, TensorData};
use soft_core::{
    Action, Distribution, Draw, Feed, Noise, NoiseKey, PipelineConfig, Policy, SoftPipeline,
    SoftToken, host_values,
};

use crate::gate::EntropyOf;
use crate::record::{Mode, SoftInput};

/// Share of a row's own weights in what it feeds, and the tokens that get the rest.
pub(crate) type Blend = (f64, Vec<u32>);

/// A pipeline, and the one whose beliefs its records show.
#[derive(Debug)]
pub(crate) struct Sampler<'a> {
    pipeline: &'a SoftPipeline,
    /// At temperature 0 all weight is on one token: records show the beliefs at temperature 1,
    /// as the entropy does.
    belief: Option<SoftPipeline>,
}

/// What may be fed after a step.
#[derive(Debug)]
pub(crate) struct Proposal {
    token: SoftToken,
    /// `[batch, d_model]`, where some row feeds it.
    pub(crate) mixture: Option<Tensor<2>>,
    /// A draw of each row, where one is needed.
    drawn: Option<Vec<u32>>,
    /// Whether the weights fed were blended with those of a tag.
    blended: bool,
    /// The draw of hard rows, the heaviest token fed by soft ones: of equally heavy ones the draw.
    /// Without meaning for a row of another sampler.
    pub(crate) chosen: Vec<u32>,
    /// Weight of the heaviest token that a soft row feeds.
    pub(crate) weight: Vec<f64>,
}

/// What a step believed, row by row, on the host.
#[derive(Debug)]
pub(crate) struct Believed {
    pub(crate) drawn: Vec<u32>,
    pub(crate) entropy: Vec<f64>,
    pub(crate) top: Vec<Vec<(u32, f64)>>,
    pub(crate) kept_mass: Vec<f64>,
    pub(crate) fed: Option<Vec<Vec<(u32, f64)>>>,
    /// Whether the weights fed are a distribution.
    pub(crate) convex: Vec<bool>,
}

impl<'a> Sampler<'a> {
    pub(crate) fn new(pipeline: &'a SoftPipeline) -> Self {
        Self { pipeline, belief: belief(pipeline) }
    }

    /// The proposal for rows of these modes, none where another sampler has the row: nothing is
    /// mixed or drawn for those alone. `draws` asks for a draw of soft rows too.
    pub(crate) fn propose(
        &self,
        logits: Tensor<2>,
        keys: &[NoiseKey],
        modes: &[Option<Mode>],
        blends: &[Option<Blend>],
        embedding: &Tensor<2>,
        draws: bool,
    ) -> Proposal {
        let pipeline = self.pipeline;
        let mut token = pipeline.apply(logits, keys);
        let any = |wanted| modes.contains(&Some(wanted));
        let blended = blends.iter().any(Option::is_some);
        if blended {
            token.fed = token.fed.blended(blends);
        }
        let mixture = any(Mode::Soft).then(|| {
            let (mixture, fed) = pipeline.mix(token.fed.clone(), embedding);
            token.fed = fed;
            mixture
        });
        // Samples often weigh the same: the lowest id would then stand for them far too often.
        let ties = matches!(pipeline.config().feed, Feed::Samples { .. });
        let draws = draws || ties || any(Mode::Hard);
        let drawn = draws.then(|| pipeline.draw(&token.probs, keys));
        let told = if ties { usize::MAX } else { 1 };
        // A contrast takes weight from the token that it stands for, and a tag that is mixed in is
        // nothing that the model said.
        let said = blended || matches!(pipeline.config().feed, Feed::Contrast);
        let shown = if said { &token.probs } else { &token.fed };
        let heaviest = if any(Mode::Soft) { shown.to_rows(told) } else { Vec::new() };
        let weight = modes
            .iter()
            .enumerate()
            .map(|(row, mode)| match mode {
                Some(Mode::Soft) => heaviest[row].first().map_or(0.0, |entry| entry.1),
                _ => 0.0,
            })
            .collect();
        let chosen = modes
            .iter()
            .enumerate()
            .map(|(row, mode)| match (mode, &drawn) {
                (None, _) => 0,
                (Some(Mode::Hard), Some(drawn)) => drawn[row],
                (Some(_), drawn) => {
                    let entries = &heaviest[row];
                    let tied = entries.iter().take_while(|entry| entry.1 == entries[0].1);
                    let drawn = drawn.as_ref().map(|drawn| drawn[row]);
                    let draw = tied.map(|entry| entry.0).find(|&id| Some(id) == drawn);
                    draw.unwrap_or(entries[0].0)
                }
            })
            .collect();
        Proposal { token, mixture, drawn, blended, chosen, weight }
    }

    /// Entropy of each row, in nats.
    pub(crate) fn entropy(&self, logits: Tensor<2>) -> Vec<f64> {
        host_values(self.pipeline.entropy_nats(logits))
    }

    /// Entropy of each row as a gate sees it.
    pub(crate) fn gate_entropy(&self, of: EntropyOf, logits: Tensor<2>) -> Vec<f64> {
        match of {
            EntropyOf::Tempered => self.entropy(logits),
            EntropyOf::Raw => host_values(soft_core::entropy_nats(logits, 1.0)),
            EntropyOf::Kept => {
                host_values(self.pipeline.entropy_share(&self.pipeline.probs(logits)))
            }
        }
    }

    /// Reads what the step believed: the one place of the decode loop that waits for more than a
    /// token. `top` bounds what is told of the whole vocabulary; only the first `rows` are read.
    pub(crate) fn believed(
        &self,
        logits: Tensor<2>,
        proposal: &Proposal,
        top: usize,
        rows: usize,
    ) -> Believed {
        let token = &proposal.token;
        let fed = token.fed.first_rows(rows);
        let logits = logits.narrow(0, 0, rows);
        let probs = match &self.belief {
            Some(belief) => belief.apply(logits.clone(), &[]).probs,
            None => token.probs.first_rows(rows),
        };
        let differs = self.pipeline.alters() || self.belief.is_some() || proposal.blended;
        Believed {
            drawn: proposal.drawn.clone().unwrap_or_default(),
            entropy: self.entropy(logits.clone()),
            top: probs.to_rows(top),
            kept_mass: host_values(self.pipeline.kept_mass(logits, &probs)),
            fed: differs.then(|| match &fed {
                Distribution::Dense(_) => fed.to_rows(top),
                // The few tokens that are fed are all told, however few entries are asked for.
                Distribution::Sparse { .. } => fed.to_rows(usize::MAX),
            }),
            convex: is_distribution(&fed),
        }
    }
}

impl Proposal {
    /// Thoughts drawn by a policy, in the place of what the pipeline feeds. The heaviest token that is
    /// fed stands for it, of equally heavy ones that which was drawn first; of a hybrid draw the
    /// token that was drawn.
    pub(crate) fn redraw(
        &mut self,
        policy: Policy,
        embedding: &Tensor<2>,
        keys: &[NoiseKey],
    ) -> Draw {
        let draw = policy.sample(&self.token.probs, embedding, keys);
        if let Some(fed) = draw.fed(embedding) {
            self.token.fed = fed;
        }
        self.mixture = Some(draw.embed(embedding));
        let tokens = match &draw.action {
            Action::Tokens(tokens) | Action::Hybrid { tokens, .. } => {
                tokens.to_data().iter::<i64>().collect()
            }
            Action::Scores { .. } | Action::Vectors { .. } | Action::Shares { .. } => Vec::new(),
        };
        let is_hybrid = matches!(draw.action, Action::Hybrid { .. });
        let count = tokens.len() / keys.len().max(1);
        let heaviest = self.token.fed.to_rows(count.max(1));
        for (row, entries) in heaviest.iter().enumerate() {
            let (id, weight) = entries.first().copied().unwrap_or((0, 0.0));
            let own = tokens[row * count..][..count].iter().map(|&id| id as u32);
            let stands = |id: &u32| {
                is_hybrid || entries.iter().any(|entry| entry.0 == *id && entry.1 == weight)
            };
            (self.chosen[row], self.weight[row]) =
                (own.into_iter().find(stands).unwrap_or(id), weight);
        }
        draw
    }

    /// The chosen tokens as draws.
    pub(crate) fn tokens(&self) -> Draw {
        Draw::of_tokens(&self.chosen, &self.token.probs)
    }

    /// What each row feeds where it is soft, exactly.
    pub(crate) fn inputs(&self) -> Vec<SoftInput> {
        SoftInput::rows(&self.token.fed)
    }
}

/// Whether the weights of each row are at least 0 and sum to 1.
fn is_distribution(fed: &Distribution) -> Vec<bool> {
    const ROUNDING: f64 = 1e-4;
    let weights = match fed {
        Distribution::Dense(weights) | Distribution::Sparse { weights, .. } => {
            weights.clone().detach()
        }
    };
    let sums = host_values(weights.clone().sum_dim(1));
    let least = host_values(weights.min_dim(1));
    let rows = sums.iter().zip(least);
    rows.map(|(sum, least)| least >= 0.0 && (sum - 1.0).abs() < ROUNDING).collect()
}

/// The pipeline at temperature 1 and without noise, where the temperature is 0.
fn belief(pipeline: &SoftPipeline) -> Option<SoftPipeline> {
    let config = pipeline.config();
    if config.temperature > 0.0 {
        return None;
    }
    let (noise, feed) = (Noise::None, Feed::Mixture);
    SoftPipeline::new(PipelineConfig { temperature: 1.0, noise, feed, ..config.clone() }).ok()
}

/// Rows of `b` where `wanted` says so, and of `a` elsewhere: `[batch, d]` each.
pub(crate) fn where_rows(wanted: &[bool], a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    let [batch, d] = a.dims();
    let mask = Tensor::<1, Bool>::from_bool(TensorData::from(wanted), &a.device());
    a.mask_where(mask.reshape([batch, 1]).expand([batch, d]), b)
}
