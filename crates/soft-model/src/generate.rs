//! The decode loop: logits, distribution, next input, stop.

use burn::tensor::{Bool, Tensor, TensorData};
use soft_core::{Distribution, NoiseKey, SoftPipeline};

use crate::kv_cache::KvCache;
use crate::proposal::{Believed, Proposal, Sampler};
use crate::record::{Generation, Mode, SoftInput, StepRecord, Stop};
use crate::thinking::{Phase, Span, Thinking, Verdict};
use crate::transformer::OutputHead;
use crate::{Error, Transformer};

/// How a row's thoughts are fed at a decode step: a function of (row, decode step).
pub type ModeAt<'a> = &'a dyn Fn(usize, usize) -> Mode;

/// Settings of [`generate`].
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// From logits to the fed distribution, in thoughts.
    pub pipeline: SoftPipeline,
    /// How a row is divided into thoughts and an answer; without it all of it is a thought.
    pub thinking: Option<Thinking>,
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
/// No prompt, an empty prompt, an id or a tag outside the vocabulary, or a prompt over the context.
pub fn generate(
    model: &Transformer,
    prompts: &[Vec<u32>],
    mode_at: ModeAt<'_>,
    options: &GenerateOptions,
    observe: &mut dyn FnMut(usize, &StepRecord),
) -> Result<Vec<Generation>, Error> {
    check_prompts(model, prompts)?;
    if let Some(Thinking { span: Span::Tags { open, close }, .. }) = options.thinking {
        model.check_ids(&[open.unwrap_or(close), close])?;
    }
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
    phase: Phase,
    steps: Vec<StepRecord>,
    inputs: Vec<SoftInput>,
}

/// What a step feeds, row by row.
struct Choice {
    /// Whether the row's thoughts or its answer proposed it.
    thinks: Vec<bool>,
    modes: Vec<Mode>,
    tokens: Vec<u32>,
    /// Rows that end with this step by the cold stop.
    stops: Vec<bool>,
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
    thoughts: Sampler<'a>,
    answer: Option<Sampler<'a>>,
}

impl<'a> Decoder<'a> {
    fn new(model: &'a Transformer, prompts: &[Vec<u32>], options: &'a GenerateOptions) -> Self {
        let rows = prompts
            .iter()
            .map(|prompt| Row {
                prompt_len: prompt.len(),
                token_ids: Vec::new(),
                stop: None,
                phase: Phase::begin(options.thinking.as_ref(), prompt),
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
            thoughts: Sampler::new(&options.pipeline),
            answer: options.thinking.as_ref().map(|thinking| Sampler::new(&thinking.answer)),
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
        let keys = self.noise_keys(step);
        let thinks: Vec<bool> = self.rows.iter().map(|row| row.phase.thinks).collect();
        let answer_mode = self.options.thinking.as_ref().map_or(Mode::Hard, |t| t.answer_mode);
        let modes: Vec<Mode> =
            modes.iter().zip(&thinks).map(|(&m, &t)| if t { m } else { answer_mode }).collect();
        let proposals = [true, false].map(|phase| {
            let sampler = self.sampler(phase)?;
            let own = modes.iter().zip(&thinks).map(|(&mode, &t)| (t == phase).then_some(mode));
            let (own, draws): (Vec<_>, _) = (own.collect(), self.options.record);
            let propose = || sampler.propose(logits.clone(), &keys, &own, &self.embedding, draws);
            thinks.contains(&phase).then(propose)
        });
        let tokens = (0..modes.len())
            .map(|row| proposals[usize::from(!thinks[row])].as_ref().map_or(0, |p| p.chosen[row]))
            .collect();
        let stops = vec![false; modes.len()];
        let mut choice = Choice { thinks, modes, tokens, stops };
        self.settle(&logits, step, &mut choice);
        if self.options.record {
            self.record(logits, &proposals, step, &choice, observe);
        }
        self.advance(step, &choice);
        self.next_embeds(proposals, &choice)
    }

    fn sampler(&self, thinks: bool) -> Option<&Sampler<'a>> {
        if thinks { Some(&self.thoughts) } else { self.answer.as_ref() }
    }

    /// Tags and stops: what the rules of thinking make of the chosen tokens.
    fn settle(&mut self, logits: &Tensor<2>, step: usize, choice: &mut Choice) {
        let Some(thinking) = &self.options.thinking else { return };
        let entropies = [true, false].map(|phase| {
            let watched = thinking.cold_stop_of(phase).is_some();
            let needed = watched && choice.thinks.contains(&phase);
            let sampler = self.sampler(phase).filter(|_| needed)?;
            Some(sampler.entropy(logits.clone()))
        });
        for (row, state) in self.rows.iter_mut().enumerate() {
            if state.stop.is_some() {
                continue;
            }
            let entropy = entropies[usize::from(!choice.thinks[row])].as_ref().map(|all| all[row]);
            match state.phase.after(thinking, step, choice.tokens[row], entropy) {
                Verdict::Feed => {}
                Verdict::FeedTag(tag) => {
                    choice.modes[row] = Mode::Hard;
                    choice.tokens[row] = tag;
                }
                Verdict::Stop => choice.stops[row] = true,
            }
        }
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
    fn next_embeds(&self, proposals: [Option<Proposal>; 2], choice: &Choice) -> Tensor<2> {
        let hard =
            || Distribution::one_hot(&choice.tokens, &self.embedding).mix(self.embedding.clone());
        let mut next = None;
        for (proposal, phase) in proposals.into_iter().zip([true, false]) {
            let Some(mixture) = proposal.and_then(|proposal| proposal.mixture) else { continue };
            let fed = choice.modes.iter().zip(&choice.thinks);
            let fed: Vec<bool> =
                fed.map(|(&mode, &thinks)| mode == Mode::Soft && thinks == phase).collect();
            if fed.iter().all(|&fed| fed) {
                return mixture;
            }
            let others = next.take().unwrap_or_else(hard);
            let [batch, d_model] = others.dims();
            let data = TensorData::from(fed.as_slice());
            let mask = Tensor::<1, Bool>::from_bool(data, &others.device());
            let mask = mask.reshape([batch, 1]).expand([batch, d_model]);
            next = Some(others.mask_where(mask, mixture));
        }
        next.unwrap_or_else(hard)
    }

    fn advance(&mut self, step: usize, choice: &Choice) {
        let max_positions = self.model.config().max_positions - self.model.prefix_len();
        let choices = choice.tokens.iter().zip(&choice.stops);
        for (row, (&token, &stops)) in self.rows.iter_mut().zip(choices) {
            if row.stop.is_some() {
                continue;
            }
            row.token_ids.push(token);
            row.stop = if self.options.eos_ids.contains(&token) {
                Some(Stop::Eos)
            } else if stops {
                Some(Stop::ColdStop)
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

    /// Keeps what the step believed and fed.
    fn record(
        &mut self,
        logits: Tensor<2>,
        proposals: &[Option<Proposal>; 2],
        step: usize,
        choice: &Choice,
        observe: &mut dyn FnMut(usize, &StepRecord),
    ) {
        let top = self.options.top;
        let believed: [Option<Believed>; 2] = [true, false].map(|phase| {
            let proposal = proposals[usize::from(!phase)].as_ref()?;
            Some(self.sampler(phase)?.believed(logits.clone(), proposal, top))
        });
        for (row, state) in self.rows.iter_mut().enumerate() {
            let believed = believed[usize::from(!choice.thinks[row])].as_ref();
            let Some(believed) = believed.filter(|_| state.stop.is_none()) else { continue };
            let (mode, token_id) = (choice.modes[row], choice.tokens[row]);
            let soft = mode == Mode::Soft;
            let record = StepRecord {
                decode_step: step,
                position: state.prompt_len + step,
                mode,
                token_id,
                sampled_id: believed.drawn[row],
                entropy_nats: believed.entropy[row],
                top: believed.top[row].clone(),
                kept_mass: believed.kept_mass[row],
                fed: believed.fed.as_ref().filter(|_| soft).map(|fed| fed[row].clone()),
            };
            observe(row, &record);
            state.steps.push(record);
            let input = &believed.inputs[row];
            state.inputs.push(if soft { input.clone() } else { SoftInput::token(token_id) });
        }
    }
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
