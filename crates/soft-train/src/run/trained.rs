//! Which parameters of a model are trained, and how fast.

use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::module::{Module, ModuleVisitor, Param, ParamGroup, ParamId};
use burn::tensor::Tensor;
use regex::Regex;
use soft_model::Transformer;

use crate::config::Config;
use crate::error::Error;
use crate::learning_rate::LearningRate;

/// Leaves only those parameters to be trained that the configuration asks for: the rows of new
/// tokens apart where the embedding is frozen, and what `train.only` names.
///
/// # Errors
/// A pattern of `train.only` that no parameter has, or nothing left to train.
pub(super) fn restrict(
    model: Transformer,
    config: &Config,
    new_ids: &[u32],
) -> Result<Transformer, Error> {
    let before = names(&model);
    let frozen = !before.iter().any(|name| name == "embed_tokens");
    let only = patterns(&config.train.only)?;
    for (pattern, text) in only.iter().zip(&config.train.only) {
        if !before.iter().any(|name| pattern.is_match(name)) {
            return Err(no_such("train.only", text, &before));
        }
    }
    let freezes = !only.is_empty() && !only.iter().any(|only| only.is_match("embed_tokens"));
    let model = match !new_ids.is_empty() && (frozen || freezes) {
        true => model.with_trained_rows(new_ids)?,
        false => model,
    };
    if only.is_empty() {
        return Ok(model);
    }
    // The rows of new tokens would never be learned otherwise.
    let keep = |name: &str| {
        name.starts_with("token_rows") || only.iter().any(|pattern| pattern.is_match(name))
    };
    Ok(model.with_only_trained(&keep))
}

/// The learning rate of every parameter: that of the run, times the factor of the last entry of
/// `train.rates` that names it. The model's parameters must be numbered for good.
///
/// # Errors
/// An entry that names no trained parameter.
pub(super) fn rates(
    model: &Transformer,
    config: &Config,
    step: usize,
) -> Result<ModuleLrScheduler, Error> {
    let rate = LearningRate::new(&config.train, step);
    let mut scheduler = ModuleLrScheduler::new(rate);
    let trained = trained(model);
    for (pattern, factor) in
        config.train.rate_factors().map_err(|report| Error::Config { report })?
    {
        let ids: Vec<_> =
            trained.iter().filter(|(_, name)| pattern.is_match(name)).map(|(id, _)| *id).collect();
        if ids.is_empty() {
            return Err(no_such("train.rates", pattern.as_str(), &names(model)));
        }
        scheduler = scheduler.with_group(ParamGroup::from_ids(ids), rate.times(factor));
    }
    Ok(scheduler)
}

fn names(model: &Transformer) -> Vec<String> {
    trained(model).into_iter().map(|(_, name)| name).collect()
}

/// The parameters that are trained, with their names.
fn trained(model: &Transformer) -> Vec<(ParamId, String)> {
    struct Trained(Vec<bool>);
    impl ModuleVisitor for Trained {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.is_require_grad());
        }
    }
    let mut flags = Trained(Vec::new());
    model.visit(&mut flags);
    let named = model.parameter_names().into_iter().zip(flags.0);
    named.filter(|(_, trained)| *trained).map(|(named, _)| named).collect()
}

fn patterns(texts: &[String]) -> Result<Vec<Regex>, Error> {
    let compile = |text: &String| {
        Regex::new(text).map_err(|error| Error::Config {
            report: format!("`train.only` holds {text:?}, which is no regular expression: {error}"),
        })
    };
    texts.iter().map(compile).collect()
}

fn no_such(key: &str, pattern: &str, names: &[String]) -> Error {
    let mut examples: Vec<&str> = names.iter().map(String::as_str).collect();
    let count = examples.len();
    examples.truncate(8);
    Error::Config {
        report: format!(
            "`{key}` holds {pattern:?}, which none of the {count} trained parameters matches; \
             their names are such as {}",
            examples.join(", ")
        ),
    }
}
