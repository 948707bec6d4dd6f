//! What a run on rewards has beside a model: prompts, rewards, a reference, and a value head.

use std::cmp::max;
use std::path::Path;
use std::sync::{Arc, Mutex};

use burn::module::Module;
use burn::tensor::{DType, Device};
use serde::{Deserialize, Serialize};
use soft_core::SoftPipeline;
use soft_model::{ModelConfig, ModelFiles, Tokenizer, Transformer};

use super::base_model::Base;
use super::evaluation::limited;
use super::{Problem, model, trained_arms};
use crate::config::{
    Arm, Config, HeldOutMetric, Loader, RewardKind, RlAlgorithm, RlAnswers, RlDiscretize, RlPolicy,
};
use crate::error::Error;
use crate::example::Example;
use crate::learner::{Reference, SoftLearner, laid_out};
use crate::rl::{
    Drawing, Pathwise, RewardModel, Source, TaskSource, TextSource, ValueHead, read_of,
    require_vocabulary, rewards,
};
use crate::rollout::Sequential;

/// File of a checkpoint that holds the value head of PPO.
pub(super) const VALUE_HEAD: &str = "value_head.json";

/// Its contents: the weights and then the bias.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    values: Vec<f64>,
}

/// What is drawn and rewarded, where rewards stand in the place of the truth. `soft_config` is that of
/// a checkpoint of this run, `shape` that of the model in training.
///
/// # Errors
/// Settings of generation or rewards that cannot be, or a reward model that cannot be opened.
pub(super) fn drawing(
    config: &Config,
    problem: &Problem,
    arm: Arm,
    (soft_config, tokenizer): (&str, Option<Tokenizer>),
    shape: &ModelConfig,
    device: &Device,
) -> Result<Option<Arc<Drawing>>, Error> {
    if !config.rl.is_on() {
        return Ok(None);
    }
    // A run that goes on was not asked before: what lies in the folder may be another one by now.
    check(config, problem)?;
    let source: Arc<dyn Source> = match problem {
        Problem::Task(task) => Arc::new(TaskSource {
            task: Arc::new((**task).clone()),
            arm,
            thoughts: SoftPipeline::new(config.soft.pipeline())?,
            eos_ids: shape.eos_ids.clone(),
        }),
        Problem::Examples { train, .. } => {
            let mut decoded = decoded(config, soft_config)?;
            if decoded.soft.temperature == 0.0 {
                // A model that was trained on tokens decodes the likeliest; here they are drawn.
                decoded.soft.temperature = config.soft.temperature;
            }
            let tokenizer = tokenizer.ok_or_else(no_tokenizer)?;
            Arc::new(TextSource::new(config, &decoded, train, tokenizer, &shape.eos_ids)?)
        }
    };
    let (model, pathwise) = reward_model(config, matches!(problem, Problem::Task(_)), device)?;
    let rewards = Mutex::new(match config.rl.draws() {
        true => rewards(&config.rl, model)?,
        false => Vec::new(),
    });
    let (rl, seed) = (config.rl.clone(), config.run.seed);
    Ok(Some(Arc::new(Drawing { source, rewards, pathwise, rl, seed })))
}

/// How a checkpoint of this run decodes.
fn decoded(config: &Config, soft_config: &str) -> Result<Config, Error> {
    let decoded = Loader::new().model(soft_config).load();
    let decoded = decoded.map_err(|error| Error::Config { report: error.to_string() })?.config;
    Ok(Config { generate: config.generate.clone(), answer: config.answer.clone(), ..decoded })
}

fn no_tokenizer() -> Error {
    Error::Data { report: "answers of text need the tokenizer of `model.path`".into() }
}

/// Held-out examples of text, to be answered as a checkpoint of each stage of the curriculum would
/// answer them, in its likeliest tokens; none where nothing asks for that.
///
/// # Errors
/// Settings of generation that cannot be, or no tokenizer.
pub(super) fn held_out_answers(
    config: &Config,
    problem: &Problem,
    soft_configs: &[String],
    tokenizer: Option<Tokenizer>,
    eos_ids: &[u32],
) -> Result<Vec<TextSource>, Error> {
    let Problem::Examples { valid, .. } = problem else { return Ok(Vec::new()) };
    let valid = limited(valid, config.eval.limit);
    let asked = config.eval.metric == HeldOutMetric::Accuracy;
    let has_answers = valid.iter().any(|example| example.answer_from.is_some());
    let rewarded = config.rl.is_on() && has_answers;
    if !asked && !rewarded {
        return Ok(Vec::new());
    }
    let tokenizer = tokenizer.ok_or_else(no_tokenizer)?;
    let of_stage = |soft_config: &String| {
        let mut decoded = decoded(config, soft_config)?;
        decoded.answer.temperature = 0.0;
        TextSource::new(config, &decoded, valid, tokenizer.clone(), eos_ids)
    };
    soft_configs.iter().map(of_stage).collect()
}

/// Checks what can be known of rewards and answers before anything is trained.
///
/// # Errors
/// Answers that are to be compared and are not there, a folder without a reward model, and one that
/// cannot read what it is to read, or is too short.
pub(super) fn check(config: &Config, problem: &Problem) -> Result<(), Error> {
    let rl = &config.rl;
    if let Problem::Examples { train, valid, .. } = problem {
        let none = |own: &[Example]| own.iter().all(|example| example.answer_from.is_none());
        let refuse = |what: &str| {
            let report = format!(
                "{what} has an answer after a thought; expected data.format=\"reasoning\", or thoughts \
                 between tags"
            );
            Err(Error::Data { report })
        };
        if rl.draws() && rl.rewards(RewardKind::Answer) && none(train) {
            return refuse("`rl.rewards` holds \"answer\" and no training example");
        }
        let valid = limited(valid, config.eval.limit);
        if config.eval.metric == HeldOutMetric::Accuracy && none(valid) {
            return refuse("`eval.metric` is \"accuracy\" and no held-out example");
        }
    }
    if !rl.is_on() || rl.reward_model.is_empty() {
        return Ok(());
    }
    let files = RewardModel::files(Path::new(&rl.reward_model))?;
    let (vocab_size, tokenizer) = match Base::open(config)? {
        None => (model::new_shape(config, problem).vocab_size, None),
        Some(base) => (base.vocab_size, base.files.tokenizer),
    };
    let by_ids = matches!(problem, Problem::Task(_));
    let tokenizer = tokenizer.as_ref().filter(|_| !by_ids);
    let reads = rl.draws() && rl.rewards(RewardKind::Model);
    if rl.pathwise > 0.0 || (reads && by_ids) {
        require_vocabulary(&files, tokenizer, vocab_size)?;
    }
    if reads && !by_ids {
        files.require_tokenizer()?;
    }
    if rl.pathwise == 0.0 {
        return Ok(());
    }
    let room = files.config.max_positions;
    let mut longest = 0;
    for arm in trained_arms(config, problem) {
        let examples = problem.stages(config, arm)?.into_iter().flatten();
        longest =
            examples.map(|own| read_of(&own, reads_thoughts(config)).len()).fold(longest, max);
    }
    if longest <= room {
        return Ok(());
    }
    let path = &rl.reward_model;
    Err(Error::Config {
        report: format!(
            "`rl.reward_model` is {path}, which has {room} positions, and is to read {longest} of the \
             longest example; expected as many"
        ),
    })
}

/// Whether a reward is given thoughts.
fn reads_thoughts(config: &Config) -> bool {
    config.rl.discretize != RlDiscretize::Drop
}

/// The reward model, once for those that read what was drawn and once for the one that is
/// differentiated; they share its weights.
fn reward_model(
    config: &Config,
    by_ids: bool,
    device: &Device,
) -> Result<(Option<RewardModel>, Option<Pathwise>), Error> {
    let rl = &config.rl;
    if rl.reward_model.is_empty() {
        return Ok((None, None));
    }
    let model = RewardModel::open(Path::new(&rl.reward_model), by_ids, &device.clone().autodiff())?;
    let rollout = &config.rollout;
    let pathwise = (rl.pathwise > 0.0).then(|| Pathwise {
        classifier: model.classifier().clone(),
        rollout: Sequential { segment: rollout.segment, truncate: rollout.truncate },
        answers_in_tokens: rl.pathwise_answers == RlAnswers::Token,
        reads_thoughts: reads_thoughts(config),
    });
    Ok((Some(model), pathwise))
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
    let reference = match (config.trains_branches_alone(), is_fresh) {
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
