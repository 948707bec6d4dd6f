//! What a run on rewards has beside a model: prompts, rewards, a reference, and a value head.

use std::path::Path;
use std::sync::{Arc, Mutex};

use burn::module::Module;
use burn::tensor::{DType, Device};
use serde::{Deserialize, Serialize};
use soft_core::SoftPipeline;
use soft_model::{ModelFiles, Tokenizer, Transformer};

use super::Problem;
use crate::config::{Arm, Config, Loader, RlAlgorithm, RlPolicy};
use crate::error::Error;
use crate::learner::{Reference, SoftLearner, laid_out};
use crate::rl::{Drawing, Source, TaskSource, TextSource, ValueHead, rewards};

/// File of a checkpoint that holds the value head of PPO.
pub(super) const VALUE_HEAD: &str = "value_head.json";

/// Its contents: the weights and then the bias.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    values: Vec<f64>,
}

/// What is drawn and rewarded, where rewards stand in the place of the truth. `soft_config` is that of
/// a checkpoint of this run, `eos_ids` end a row.
///
/// # Errors
/// Settings of generation or rewards that cannot be, or a reward model that cannot be opened.
pub(super) fn drawing(
    config: &Config,
    problem: &Problem,
    arm: Arm,
    (soft_config, tokenizer): (&str, Option<Tokenizer>),
    eos_ids: &[u32],
    device: &Device,
) -> Result<Option<Arc<Drawing>>, Error> {
    if !config.rl.is_on() {
        return Ok(None);
    }
    let source: Arc<dyn Source> = match problem {
        Problem::Task(task) => Arc::new(TaskSource {
            task: Arc::new((**task).clone()),
            arm,
            thoughts: SoftPipeline::new(config.soft.pipeline())?,
            eos_ids: eos_ids.to_vec(),
        }),
        Problem::Examples { train, .. } => {
            let decoded = Loader::new().model(soft_config).load();
            let decoded = decoded.map_err(|error| Error::Config { report: error.to_string() })?;
            let mut decoded = decoded.config;
            decoded.generate = config.generate.clone();
            decoded.answer = config.answer.clone();
            if decoded.soft.temperature == 0.0 {
                // A model that was trained on tokens decodes the likeliest; here they are drawn.
                decoded.soft.temperature = config.soft.temperature;
            }
            let missing = || Error::Data {
                report: "rewards of text need the tokenizer of `model.path`".into(),
            };
            let tokenizer = tokenizer.ok_or_else(missing)?;
            Arc::new(TextSource::new(config, &decoded, train, tokenizer, eos_ids)?)
        }
    };
    let rewards = Mutex::new(rewards(&config.rl, &device.clone().inner())?);
    let (rl, seed) = (config.rl.clone(), config.run.seed);
    Ok(Some(Arc::new(Drawing { source, rewards, rl, seed })))
}

/// The learner with what the policy is compared with: the model that training began with, whose
/// parameters it shares where these are not trained. A run that goes on has the model without its
/// low-rank branches where nothing else is trained, and else begins it once more.
///
/// # Errors
/// Those of opening the model.
pub(super) fn with_reference(
    learner: SoftLearner,
    config: &Config,
    begun: &dyn Fn() -> Result<Transformer, Error>,
    is_fresh: bool,
) -> Result<SoftLearner, Error> {
    if !config.rl.is_on() || config.rl.beta == 0.0 {
        return Ok(learner);
    }
    if !config.rl.reference.is_empty() {
        let reference = Reference::Model(Box::new(named(config, &learner.model)?));
        return Ok(SoftLearner { reference: Some(Arc::new(reference)), ..learner });
    }
    let branches_alone = config.low_rank.rank > 0
        && config.prefix.tokens + config.prompt.tokens == 0
        && config.model.new_tokens.is_empty()
        && config.train.only.is_empty();
    let reference = match (branches_alone, is_fresh) {
        (true, _) => Reference::Base,
        (false, true) => Reference::Model(Box::new(learner.model.valid())),
        (false, false) => Reference::Model(Box::new(laid_out(begun()?).valid())),
    };
    Ok(SoftLearner { reference: Some(Arc::new(reference)), ..learner })
}

/// The reference that is named, where its draws mean the same.
fn named(config: &Config, model: &Transformer) -> Result<Transformer, Error> {
    let path = Path::new(&config.rl.reference);
    let files = ModelFiles::open(path)?;
    let own = model.config();
    let refuse = |what: &str, found: usize, expected: usize| {
        let path = path.display();
        Err(Error::Config {
            report: format!(
                "`rl.reference` is {path}, whose {what} is {found}; expected {expected}, that of the \
                 model in training: the reference scores what it draws"
            ),
        })
    };
    let found = &files.config;
    if found.vocab_size != own.vocab_size {
        return refuse("vocabulary", found.vocab_size, own.vocab_size);
    }
    if config.rl.policy == RlPolicy::Gaussian && found.d_model != own.d_model {
        return refuse("width", found.d_model, own.d_model);
    }
    if files.context() < own.max_positions {
        return refuse("context", files.context(), own.max_positions);
    }
    Ok(laid_out(Transformer::open(&files, &model.device().inner(), DType::F32)?))
}

/// The value head of PPO: new, or that of a checkpoint, to the bit.
///
/// # Errors
/// A checkpoint that has none, or another one.
pub(super) fn value_head(
    config: &Config,
    model: &Transformer,
    checkpoint: Option<&Path>,
    device: &Device,
) -> Result<Option<ValueHead>, Error> {
    if config.rl.algorithm != RlAlgorithm::Ppo {
        return Ok(None);
    }
    let d_model = model.config().d_model;
    let Some(checkpoint) = checkpoint else {
        return Ok(Some(ValueHead::new(d_model, device, DType::F32)));
    };
    let path = checkpoint.join(VALUE_HEAD);
    let refuse = |problem: String| Error::checkpoint(&path, problem);
    let text = std::fs::read(&path).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    let saved: Saved =
        serde_json::from_slice(&text).map_err(|error| refuse(format!("is damaged: {error}")))?;
    if saved.values.len() != d_model + 1 {
        let (found, expected) = (saved.values.len(), d_model + 1);
        return Err(refuse(format!("holds {found} numbers; expected {expected}")));
    }
    Ok(Some(ValueHead::from_values(&saved.values, device, DType::F32)))
}

/// What [`value_head`] reads.
pub(super) fn to_json(value: &ValueHead) -> impl Serialize + use<> {
    Saved { values: value.to_values() }
}
