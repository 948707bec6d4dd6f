//! Generation: what it takes and gives; [`crate::decoder`] is its loop.

use soft_core::{Policy, SoftPipeline};

use crate::decoder::Decoder;
use crate::drawn::Drawn;
use crate::gate::Gate;
use crate::record::{Generation, Mode, SoftInput, StepRecord};
use crate::thinking::{Feedback, Manner, Span, Thinking};
use crate::{Error, Transformer};

/// How a row's thoughts are fed at a decode step: a function of (row, decode step).
pub type ModeAt<'a> = &'a dyn Fn(usize, usize) -> Mode;

/// Sees each step of a row as it is made: the row, its token, and the record where steps are
/// recorded.
pub type Observe<'a> = &'a mut dyn FnMut(usize, u32, Option<&StepRecord>);

/// Settings of [`generate`].
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// How thoughts are decoded.
    pub thoughts: Manner,
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
    /// The same index of each prompt, where they do not follow one another; else empty.
    pub rows: Vec<u32>,
    /// Whether steps are recorded: entropy, top entries, what was fed, where it lies. A record
    /// takes memory in proportion to `top`, not to the vocabulary.
    pub record: bool,
    /// Rows that are recorded where steps are: the first so many. The others cost nothing more.
    pub record_rows: usize,
    /// Whether inputs are kept exactly, to be fed again. Where nothing is filtered each takes 8
    /// bytes for every token of the vocabulary.
    pub keep_inputs: bool,
    /// Entries of `top` in a step's record, and of `fed` where the whole vocabulary is fed.
    pub top: usize,
}

impl Default for GenerateOptions {
    /// Soft everywhere, nothing filtered, 128 tokens.
    fn default() -> Self {
        Self {
            thoughts: Manner::new(SoftPipeline::default(), Mode::Soft),
            thinking: None,
            max_new: 128,
            eos_ids: Vec::new(),
            seed: 0,
            first_row: 0,
            rows: Vec::new(),
            record: false,
            record_rows: usize::MAX,
            keep_inputs: false,
            top: 10,
        }
    }
}

impl GenerateOptions {
    /// What the noise of a prompt is keyed by, in place of its place among the prompts.
    pub(crate) fn row(&self, prompt: usize) -> u32 {
        self.rows.get(prompt).copied().unwrap_or(self.first_row + prompt as u32)
    }
}

/// Generates from token ids, a batch of rows of any lengths in one cache.
///
/// A row's output does not depend on its neighbours' contents: padding is masked, and its noise is
/// keyed by (seed, row, position). `mode_at` says how the thoughts of a row are fed at a step.
///
/// # Errors
/// No prompt, an empty prompt, an id or a tag outside the vocabulary, or a prompt over the context.
pub fn generate(
    model: &Transformer,
    prompts: &[Vec<u32>],
    mode_at: ModeAt<'_>,
    options: &GenerateOptions,
    observe: Observe<'_>,
) -> Result<Vec<Generation>, Error> {
    generate_after(model, prompts, &vec![Vec::new(); prompts.len()], mode_at, options, observe)
}

/// As [`generate`], after prompts and inputs that follow them, such as the thoughts of an earlier
/// generation, changed or not; they are fed in one parallel pass.
///
/// # Errors
/// Those of [`generate`], for prompt and inputs together.
///
/// # Panics
/// If there is not one list of inputs a prompt.
pub fn generate_after(
    model: &Transformer,
    prompts: &[Vec<u32>],
    inputs: &[Vec<SoftInput>],
    mode_at: ModeAt<'_>,
    options: &GenerateOptions,
    observe: Observe<'_>,
) -> Result<Vec<Generation>, Error> {
    assert_eq!(prompts.len(), inputs.len(), "one list of inputs a prompt");
    check_prompts(model, prompts, inputs)?;
    check_tags(model, options)?;
    let mut decoder = Decoder::new(model, prompts, inputs, options);
    let mut logits = decoder.prefill(prompts, inputs);
    for step in 0..options.max_new {
        let modes: Vec<Mode> = (0..prompts.len()).map(|row| mode_at(row, step)).collect();
        let next = decoder.choose(logits, step, &modes, observe);
        if decoder.finished(step) {
            break;
        }
        logits = decoder.feed(next);
    }
    Ok(decoder.into_generations())
}

/// As [`generate`], where `policy` draws the thoughts of rows that think softly and everything that
/// was drawn is kept, of hard rows the tokens. Filters and temperatures are those of the options.
/// Equal prompts that follow one another are fed once.
///
/// # Errors
/// Those of [`generate`], and thoughts that feed hidden states, or are penalized or gated: what they
/// feed is no draw of the policy.
pub fn draw(
    model: &Transformer,
    prompts: &[Vec<u32>],
    mode: Mode,
    policy: Policy,
    options: &GenerateOptions,
) -> Result<(Vec<Generation>, Drawn), Error> {
    check_prompts(model, prompts, &vec![Vec::new(); prompts.len()])?;
    check_tags(model, options)?;
    check_drawn(policy, options)?;
    let mut decoder = Decoder::new(model, prompts, &vec![Vec::new(); prompts.len()], options);
    decoder.draw_by(policy);
    let mut logits = decoder.prefill_groups(prompts);
    let modes = vec![mode; prompts.len()];
    let mut steps = Vec::new();
    for step in 0..options.max_new {
        let next = decoder.choose(logits, step, &modes, &mut |_, _, _| {});
        steps.extend(decoder.take_drawn());
        if decoder.finished(step) {
            break;
        }
        logits = decoder.feed(next);
    }
    let answer = options.thinking.as_ref().map_or(&options.thoughts, |thinking| &thinking.answer);
    let temperatures =
        [&options.thoughts, answer].map(|manner| manner.pipeline.config().temperature);
    let drawn = Drawn { prompts: prompts.to_vec(), steps, temperatures };
    Ok((decoder.into_generations(), drawn))
}

fn check_drawn(policy: Policy, options: &GenerateOptions) -> Result<(), Error> {
    policy.check().map_err(|error| Error::Settings(error.to_string()))?;
    let gated = options.thinking.as_ref().is_some_and(|t| !matches!(t.gate, Gate::Open));
    let manners = std::iter::once(&options.thoughts)
        .chain(options.thinking.as_ref().map(|thinking| &thinking.answer));
    let what = if options.thoughts.feedback == Feedback::Hidden {
        "thoughts feed hidden states"
    } else if gated {
        "thoughts are gated"
    } else if manners.clone().any(|manner| manner.repetition_penalty != 1.0) {
        "repetitions are penalized"
    } else if options.thinking.as_ref().is_some_and(|t| t.answer.mode == Mode::Soft) {
        "the answer is soft"
    } else if manners.clone().any(|manner| manner.cold_stop.is_some()) {
        "there is a cold stop"
    } else if manners.clone().any(|manner| manner.pipeline.config().temperature == 0.0) {
        "the temperature is 0"
    } else {
        return Ok(());
    };
    let report = format!("{what}: what is fed is no draw of a policy; expected this to be off");
    Err(Error::Settings(report))
}

pub(crate) fn check_prompts(
    model: &Transformer,
    prompts: &[Vec<u32>],
    inputs: &[Vec<SoftInput>],
) -> Result<(), Error> {
    if prompts.is_empty() {
        return Err(Error::Settings("no prompt was given".to_owned()));
    }
    let max_positions = model.config().max_positions;
    for (row, (prompt, inputs)) in prompts.iter().zip(inputs).enumerate() {
        if prompt.is_empty() {
            return Err(Error::Settings(format!("prompt {row} has no tokens")));
        }
        model.check_ids(prompt)?;
        let (len, prefix_len) = (prompt.len() + inputs.len(), model.taken_positions());
        if len + prefix_len > max_positions {
            return Err(Error::PromptTooLong { len, prefix_len, max_positions });
        }
    }
    Ok(())
}

pub(crate) fn check_tags(model: &Transformer, options: &GenerateOptions) -> Result<(), Error> {
    let Some(thinking) = &options.thinking else { return Ok(()) };
    if let Span::Tags { open, close } = &thinking.span {
        model.check_ids(open)?;
        model.check_ids(close)?;
        if close.is_empty() {
            return Err(Error::Settings("the tag that ends a thought has no tokens".to_owned()));
        }
    }
    if let Gate::Switch(switch) = &thinking.gate {
        model.check_ids(&switch.open)?;
        model.check_ids(&switch.close)?;
    }
    Ok(())
}
