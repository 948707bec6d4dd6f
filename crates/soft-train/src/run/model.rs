//! The model that a run begins with.

use burn::tensor::{DType, Device};
use soft_model::{ModelConfig, ModelFiles, Transformer};

use super::Problem;
use super::base_model::Base;
use super::trained::restrict;
use crate::config::{Active, Arm, Config, adds};
use crate::data::{Limits, TextEncoder};
use crate::error::Error;
use crate::example::{Example, Truth};
use crate::task::{SpecialTokens, Task};

/// What examples must fit into: the checkpoint that is named, or nothing. Checks too that what the
/// configuration adds to that checkpoint is not there yet.
pub(super) fn limits(config: &Config) -> Result<Limits, Error> {
    let Some(base) = Base::open(config)? else { return Ok(Limits::default()) };
    let files = &base.files;
    let (prefix, prompt) = (config.prefix.tokens, config.prompt.tokens);
    files.check_free(config.low_rank.rank > 0, prefix > 0, prompt > 0)?;
    if let Err(error) = config.low_rank.parameters(&files.config) {
        let report = format!(
            "`low_rank.targets` does not fit {}: {error}",
            config.model.path.as_deref().unwrap_or_default()
        );
        return Err(Error::Config { report });
    }
    let active = config.adapter.active;
    if adds(config) && files.active().is_some_and(|there| there != active.into()) {
        let report = format!(
            "`adapter.active` is {:?}, and the low-rank branches, prefix or prompt of {} act \
             otherwise; expected the same",
            active.as_str(),
            config.model.path.as_deref().unwrap_or_default()
        );
        return Err(Error::Config { report });
    }
    // A new prefix or prompt takes positions too.
    let context = files.context().saturating_sub(config.taken_positions());
    Ok(Limits { vocab_size: Some(base.vocab_size), context: Some(context) })
}

/// The files of the model that is named, its tokenizer with the tokens of `model.new_tokens`.
///
/// # Errors
/// No model, or one that cannot be opened.
pub(super) fn files(config: &Config) -> Result<ModelFiles, Error> {
    let missing = || Error::Config { report: "`model.path` is not set; expected a model".into() };
    Ok(Base::open(config)?.ok_or_else(missing)?.files)
}

/// What makes examples of text for a model.
///
/// # Errors
/// A model without a tokenizer, a chat template that does not compile, and those of
/// [`TextEncoder::new`].
pub fn text_encoder<'a>(config: &Config, files: &'a ModelFiles) -> Result<TextEncoder<'a>, Error> {
    if let (true, Some(note)) = (config.generate.chat, &files.chat_template_note) {
        return Err(Error::Model(soft_model::Error::NoText(format!(
            "{note}; generate.chat=false leaves the template out"
        ))));
    }
    let template = files.chat_template.as_ref();
    TextEncoder::new(config, files.require_tokenizer()?, template, &files.generation.eos_ids)
}

/// Positions of a task's longest line, in any stage of the curriculum.
fn positions(task: &Task, config: &Config) -> usize {
    let stages = 0..config.curriculum.count(task.max_steps());
    let staged = stages.filter_map(|stage| config.curriculum.cut(stage));
    staged.map(|cut| task.cut_positions(cut)).max().unwrap_or(0).max(task.max_positions())
}

/// Checks that a curriculum leaves out no more steps than a task's thoughts have.
pub(super) fn check_curriculum(task: &Task, config: &Config) -> Result<(), Error> {
    let (stages, steps) = (config.curriculum.stages, task.max_steps());
    if stages <= steps {
        return Ok(());
    }
    Err(Error::Config {
        report: format!(
            "`curriculum.stages` is {stages} and the thoughts of the task \"{}\" have {steps} steps; \
             expected at most as many",
            task.name
        ),
    })
}

/// Checks that a task's longest line, and every one of its ids, fit a model that is named.
pub(super) fn check_fits(task: &Task, config: &Config, limits: Limits) -> Result<(), Error> {
    let (ids, positions) = (task.tokens.len(), positions(task, config));
    if let Some(vocab_size) = limits.vocab_size.filter(|&vocab_size| vocab_size < ids) {
        let place = format!("task {}", task.name);
        return Err(Error::TokenOutsideVocabulary { place, id: ids as u32 - 1, vocab_size });
    }
    match limits.context.filter(|&context| context < positions) {
        None => Ok(()),
        Some(context) => Err(Error::Data {
            report: format!(
                "task {} needs {positions} positions, the model of `model.path` has {context} for \
                 it: make its problems smaller, or take another model",
                task.name
            ),
        }),
    }
}

/// The model before its first step: a checkpoint, or a new one from the run's seed, with the
/// low-rank branches and prefix or prompt that the configuration asks for.
pub(super) fn begin(
    config: &Config,
    problem: &Problem,
    arm: Arm,
    device: &Device,
) -> Result<Transformer, Error> {
    let seed = config.run.seed;
    let (model, new_ids) = match Base::open(config)? {
        Some(base) => (base.model(seed, device)?, base.new_ids),
        None => (new_model(config, problem, arm, device), Vec::new()),
    };
    let model = match config.low_rank.spec() {
        Some(spec) => model.with_branches(&spec, seed)?,
        None => model,
    };
    let model = match (config.prefix.tokens, config.prompt.tokens) {
        (0, 0) => model,
        (0, tokens) => model.with_prompt(tokens, seed)?,
        (tokens, _) => model.with_prefix(tokens, seed)?,
    };
    let model = if adds(config) { model.with_active(config.adapter.active.into()) } else { model };
    restrict(model, config, &new_ids)
}

/// Checks that additions which act where the input is soft have something to learn from.
pub(super) fn check_active(config: &Config, problem: &Problem) -> Result<(), Error> {
    let Problem::Examples { train, .. } = problem else { return Ok(()) };
    if config.adapter.active == Active::Always || train.iter().any(|e| e.soft_len() > 0) {
        return Ok(());
    }
    let report = "`adapter.active` is \"soft\" and no example has a soft input: nothing would be \
                  trained; mark soft inputs in the data, or set adapter.active=\"always\"";
    Err(Error::Data { report: report.into() })
}

/// The shape of a new model for the ids and the longest line of a problem.
pub(super) fn new_shape(config: &Config, problem: &Problem) -> ModelConfig {
    let (vocab_size, max_positions) = match problem {
        Problem::Task(task) => (task.tokens.len(), positions(task, config)),
        Problem::Examples { train, valid, earlier, .. } => {
            let all = || train.iter().chain(valid).chain(earlier.iter().flatten());
            (all().map(largest_id).max().unwrap_or(0) as usize + 1, longest(all()))
        }
    };
    // A learned prefix or prompt takes positions of its own.
    let max_positions = max_positions + config.taken_positions();
    config.model.new_shape(vocab_size, max_positions)
}

fn new_model(config: &Config, problem: &Problem, arm: Arm, device: &Device) -> Transformer {
    let mut shape = new_shape(config, problem);
    if let Problem::Task(task) = problem {
        let SpecialTokens { pad, bos, eos } = task.tokens.special();
        shape.bos_id = Some(bos);
        shape.pad_id = Some(pad);
        // Soft thoughts end after a fixed number of positions, the other arms with a token.
        shape.eos_ids = if arm == Arm::Soft { Vec::new() } else { vec![eos] };
    }
    Transformer::from_seed(&shape, config.run.seed, device, DType::F32)
}

fn longest<'a>(examples: impl Iterator<Item = &'a Example>) -> usize {
    examples.map(Example::len).max().unwrap_or(1)
}

fn largest_id(example: &Example) -> u32 {
    let truths = example.truth.iter().flat_map(|truth| match truth {
        Truth::None => Vec::new(),
        Truth::Token(id) => vec![*id],
        Truth::Soft(entries) => entries.iter().map(|entry| entry.0).collect(),
    });
    example.input_ids.iter().copied().chain(truths).max().unwrap_or(0)
}
