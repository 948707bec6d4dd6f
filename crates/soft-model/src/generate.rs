//! The decode loop: logits, distribution, next input, stop.

use burn::tensor::Tensor;
use soft_core::{Distribution, NoiseKey, PipelineConfig, SoftPipeline, SoftToken, host_values};

use crate::kv_cache::KvCache;
use crate::record::{Generation, Mode, SoftInput, StepRecord, Stop};
use crate::transformer::OutputHead;
use crate::{Error, Transformer};

/// How a row is fed at a decode step: a function of (row, decode step).
pub type ModeAt<'a> = &'a dyn Fn(usize, usize) -> Mode;

/// Settings of [`generate`].
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// From logits to the fed distribution.
    pub pipeline: SoftPipeline,
    /// Most tokens to generate.
    pub max_new: usize,
    /// Tokens that end a row; none to go on to `max_new`.
    pub eos_ids: Vec<u32>,
    /// Seed of noise and draws.
    pub seed: u64,
    /// Index of the first prompt among all that are run with this seed: a prompt sees the same
    /// noise however they are cut into batches.
    pub first_row: u32,
    /// Whether steps and inputs are recorded: entropy, top entries, what was fed.
    pub record: bool,
    /// Entries of `top` in a step's record, and of `fed` where the whole vocabulary is fed.
    pub top: usize,
}

/// Generates from token ids, a batch of rows of any lengths in one cache.
///
/// A row's output does not depend on its neighbours' contents: padding is masked, and its noise is
/// keyed by (seed, row, position). `observe` sees each row's step as it is made, where steps are
/// recorded.
///
/// # Errors
/// No prompt, an empty prompt, an id outside the vocabulary, or a prompt over the context.
pub fn generate(
    model: &Transformer,
    prompts: &[Vec<u32>],
    mode_at: ModeAt<'_>,
    options: &GenerateOptions,
    observe: &mut dyn FnMut(usize, &StepRecord),
) -> Result<Vec<Generation>, Error> {
    check_prompts(model, prompts)?;
    let mut decoder = Decoder::new(model, prompts, options);
    let mut logits = decoder.prefill(prompts);
    for step in 0..options.max_new {
        let modes: Vec<Mode> = (0..prompts.len()).map(|row| mode_at(row, step)).collect();
        let next = decoder.choose(logits, step, &modes, observe);
        if decoder.finished(step) {
            break;
        }
        logits = decoder.feed(next);
    }
    Ok(decoder.rows.into_iter().map(Row::into_generation).collect())
}

fn check_prompts(model: &Transformer, prompts: &[Vec<u32>]) -> Result<(), Error> {
    if prompts.is_empty() {
        return Err(Error::Settings("no prompt was given".to_owned()));
    }
    let max_positions = model.config().max_positions;
    for (row, prompt) in prompts.iter().enumerate() {
        if prompt.is_empty() {
            return Err(Error::Settings(format!("prompt {row} has no tokens")));
        }
        model.check_ids(prompt)?;
        let prefix_len = model.prefix_len();
        if prompt.len() + prefix_len > max_positions {
            return Err(Error::PromptTooLong { len: prompt.len(), prefix_len, max_positions });
        }
    }
    Ok(())
}

/// A row while it runs.
struct Row {
    prompt_len: usize,
    token_ids: Vec<u32>,
    stop: Option<Stop>,
    steps: Vec<StepRecord>,
    inputs: Vec<SoftInput>,
}

impl Row {
    fn into_generation(self) -> Generation {
        Generation {
            token_ids: self.token_ids,
            stop: self.stop.unwrap_or(Stop::MaxNew),
            steps: self.steps,
            inputs: self.inputs,
        }
    }
}

struct Decoder<'a> {
    model: &'a Transformer,
    options: &'a GenerateOptions,
    head: OutputHead,
    embedding: Tensor<2>,
    cache: KvCache,
    rows: Vec<Row>,
    /// At temperature 0 all weight is on one token: records show the beliefs at temperature 1,
    /// as the entropy does.
    belief: Option<SoftPipeline>,
}

impl<'a> Decoder<'a> {
    fn new(model: &'a Transformer, prompts: &[Vec<u32>], options: &'a GenerateOptions) -> Self {
        let rows = prompts
            .iter()
            .map(|prompt| Row {
                prompt_len: prompt.len(),
                token_ids: Vec::new(),
                stop: None,
                steps: Vec::new(),
                inputs: Vec::new(),
            })
            .collect();
        Self {
            model,
            options,
            head: model.output_head(),
            embedding: model.embedding(),
            cache: model.new_cache(prompts.len()),
            rows,
            belief: belief(&options.pipeline),
        }
    }

    /// Feeds the prompts, padded on the left, and returns the logits after the last token of each.
    fn prefill(&mut self, prompts: &[Vec<u32>]) -> Tensor<2> {
        let batch = prompts.len();
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let mut ids = Vec::with_capacity(batch);
        let mut real = Vec::with_capacity(batch);
        for prompt in prompts {
            let padding = longest - prompt.len();
            let padded = std::iter::repeat_n(prompt[0], padding).chain(prompt.iter().copied());
            ids.push(padded.collect::<Vec<u32>>());
            real.push((0..longest).map(|column| column >= padding).collect::<Vec<bool>>());
        }
        let last_chunk = self.model.forward_ids(&ids, &real, &mut self.cache).last();
        let hidden = last_chunk.expect("no prompt is empty");
        let [rows, d_model] = hidden.dims();
        let columns = rows / batch;
        let last = hidden.reshape([batch, columns, d_model]).narrow(1, columns - 1, 1);
        self.head.logits(last.reshape([batch, d_model]))
    }

    /// One step: distribution, token and record of every running row; returns the next inputs.
    fn choose(
        &mut self,
        logits: Tensor<2>,
        step: usize,
        modes: &[Mode],
        observe: &mut dyn FnMut(usize, &StepRecord),
    ) -> Tensor<2> {
        let pipeline = &self.options.pipeline;
        let keys: Vec<NoiseKey> = self.noise_keys(step);
        let token = pipeline.apply(logits.clone(), &keys);
        let all_soft = modes.iter().all(|&mode| mode == Mode::Soft);
        let drawn = (!all_soft || self.options.record).then(|| pipeline.draw(&token.probs, &keys));
        let heaviest = if modes.contains(&Mode::Soft) { heaviest(&token.fed) } else { Vec::new() };
        let chosen: Vec<u32> = modes
            .iter()
            .enumerate()
            .map(|(row, mode)| match (mode, &drawn) {
                (Mode::Hard, Some(drawn)) => drawn[row],
                _ => heaviest[row],
            })
            .collect();
        if let Some(drawn) = drawn.filter(|_| self.options.record) {
            self.record(logits, &token, step, modes, &chosen, &drawn, observe);
        }
        self.advance(step, &chosen);
        self.next_embeds(&token.fed, modes, &chosen)
    }

    fn noise_keys(&self, step: usize) -> Vec<NoiseKey> {
        self.rows
            .iter()
            .enumerate()
            .map(|(row, state)| NoiseKey {
                seed: self.options.seed,
                step: 0,
                row: self.options.first_row + row as u32,
                position: (state.prompt_len + step) as u32,
            })
            .collect()
    }

    /// The fed mixture of soft rows and the token's embedding of hard ones: `[batch, d_model]`.
    fn next_embeds(&self, fed: &Distribution, modes: &[Mode], chosen: &[u32]) -> Tensor<2> {
        let embedding = self.embedding.clone();
        let hard = || Distribution::one_hot(chosen, &self.embedding).mix(embedding.clone());
        if modes.iter().all(|&mode| mode == Mode::Soft) {
            return fed.mix(embedding);
        }
        if modes.iter().all(|&mode| mode == Mode::Hard) {
            return hard();
        }
        let hard = hard();
        let [batch, d_model] = hard.dims();
        let is_soft: Vec<bool> = modes.iter().map(|&mode| mode == Mode::Soft).collect();
        let mask = Tensor::<1, burn::tensor::Bool>::from_bool(
            burn::tensor::TensorData::from(is_soft.as_slice()),
            &hard.device(),
        );
        hard.mask_where(mask.reshape([batch, 1]).expand([batch, d_model]), fed.mix(embedding))
    }

    fn advance(&mut self, step: usize, chosen: &[u32]) {
        let max_positions = self.model.config().max_positions - self.model.prefix_len();
        for (row, &token) in self.rows.iter_mut().zip(chosen) {
            if row.stop.is_some() {
                continue;
            }
            row.token_ids.push(token);
            row.stop = if self.options.eos_ids.contains(&token) {
                Some(Stop::Eos)
            } else if row.prompt_len + step >= max_positions {
                Some(Stop::MaxPositions)
            } else {
                None
            };
        }
    }

    fn finished(&self, step: usize) -> bool {
        step + 1 == self.options.max_new || self.rows.iter().all(|row| row.stop.is_some())
    }

    /// Feeds one column; rows that have stopped get padding.
    fn feed(&mut self, next: Tensor<2>) -> Tensor<2> {
        let [batch, d_model] = next.dims();
        let real: Vec<Vec<bool>> = self.rows.iter().map(|row| vec![row.stop.is_none()]).collect();
        let embeds = next.reshape([batch, 1, d_model]);
        let hidden = self.model.forward(embeds, &real, &mut self.cache, None);
        self.head.logits(hidden)
    }

    /// Reads what the step believed: the one place of the loop that waits for more than a token.
    #[expect(clippy::too_many_arguments, reason = "the parts of one step's record")]
    fn record(
        &mut self,
        logits: Tensor<2>,
        token: &SoftToken,
        step: usize,
        modes: &[Mode],
        chosen: &[u32],
        drawn: &[u32],
        observe: &mut dyn FnMut(usize, &StepRecord),
    ) {
        let options = self.options;
        let entropy = host_values(options.pipeline.entropy_nats(logits.clone()));
        let probs = match &self.belief {
            Some(belief) => belief.apply(logits.clone(), &[]).probs,
            None => token.probs.clone(),
        };
        let kept_mass = host_values(options.pipeline.kept_mass(logits, &probs));
        let top = probs.to_rows(options.top);
        let noisy = options.pipeline.config().noise != soft_core::Noise::None;
        let differs = noisy || self.belief.is_some();
        let fed = differs.then(|| match &token.fed {
            Distribution::Dense(_) => token.fed.to_rows(options.top),
            // The few tokens that are fed are all told, however few entries are asked for.
            Distribution::Sparse { .. } => token.fed.to_rows(usize::MAX),
        });
        let inputs = SoftInput::rows(&token.fed);
        for (row, (state, input)) in self.rows.iter_mut().zip(inputs).enumerate() {
            if state.stop.is_some() {
                continue;
            }
            let soft = modes[row] == Mode::Soft;
            let record = StepRecord {
                decode_step: step,
                position: state.prompt_len + step,
                mode: modes[row],
                token_id: chosen[row],
                sampled_id: drawn[row],
                entropy_nats: entropy[row],
                top: top[row].clone(),
                kept_mass: kept_mass[row],
                fed: fed.as_ref().filter(|_| soft).map(|fed| fed[row].clone()),
            };
            observe(row, &record);
            state.steps.push(record);
            state.inputs.push(if soft { input } else { SoftInput::token(chosen[row]) });
        }
    }
}

/// The pipeline at temperature 1 and without noise, where the temperature is 0.
fn belief(pipeline: &SoftPipeline) -> Option<SoftPipeline> {
    let config = pipeline.config();
    if config.temperature > 0.0 {
        return None;
    }
    let noise = soft_core::Noise::None;
    SoftPipeline::new(PipelineConfig { temperature: 1.0, noise, ..config.clone() }).ok()
}

/// The heaviest token of each row.
fn heaviest(fed: &Distribution) -> Vec<u32> {
    fed.to_rows(1).iter().map(|row| row[0].0).collect()
}

/// Logits after each position of a prompt and the inputs that a generation fed after it, in one
/// parallel pass: what [`generate`] computed step by step, within rounding.
///
/// # Shapes
/// - output: `[prompt + inputs, vocab]`
pub fn replay(model: &Transformer, prompt: &[u32], inputs: &[SoftInput]) -> Tensor<2> {
    let embedding = model.embedding();
    let d_model = embedding.dims()[1];
    let prompt = model.embed(prompt, 1);
    let fed = inputs.iter().map(|input| input.mix(&embedding).reshape([1, 1, d_model]));
    let embeds = Tensor::cat(std::iter::once(prompt).chain(fed).collect(), 1);
    model.logits(embeds)
}
