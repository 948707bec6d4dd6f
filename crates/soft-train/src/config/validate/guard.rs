//! Limits of a training that nothing would reach, and a mode that training does not have.

use super::super::choices::{HeldOutMetric, Mode};
use super::super::sections::{EarlyStop, Guard, Save};
use super::{Config, Found, Place, found};
use crate::task::TaskName;

/// Limits and measures that nothing would use.
pub(super) fn contradictions(config: &Config, place: Place<'_>) -> Vec<Found> {
    let mut problems = Vec::new();
    problems.extend(limits(config, place));
    problems.extend(evaluations(config, place));
    problems.extend(metric(config, place));
    problems
}

fn limits(config: &Config, place: Place<'_>) -> Vec<Found> {
    let (guard, early_stop) = (&config.guard, &config.early_stop);
    let mut problems = Vec::new();
    if let Err(message) = guard.time_limit() {
        problems.push(found(place, &["guard.max_time"], message));
    }
    if guard.loss_max == 0.0 && guard.loss_patience != Guard::default().loss_patience {
        let message = format!(
            "`guard.loss_patience` is {} and `guard.loss_max` is 0, which watches nothing; expected a loss over 0 there",
            guard.loss_patience
        );
        problems.push(found(place, &["guard.loss_patience", "guard.loss_max"], message));
    }
    if early_stop.patience == 0 && early_stop.min_delta != EarlyStop::default().min_delta {
        let message = format!(
            "`early_stop.min_delta` is {} and `early_stop.patience` is 0, which never stops; expected a patience over 0",
            early_stop.min_delta
        );
        problems.push(found(place, &["early_stop.min_delta", "early_stop.patience"], message));
    }
    problems
}

/// What needs evaluations during the training, where there are none.
fn evaluations(config: &Config, place: Place<'_>) -> Vec<Found> {
    if config.eval.every > 0 {
        return Vec::new();
    }
    let (patience, metric) = (config.early_stop.patience, config.eval.metric);
    let mut problems = Vec::new();
    let mut refuse = |key: &'static str, value: String| {
        let message = format!(
            "`{key}` is {value} and `eval.every` is 0, which evaluates at the end only; expected steps between evaluations over 0"
        );
        problems.push(found(place, &[key, "eval.every"], message));
    };
    if patience > 0 {
        refuse("early_stop.patience", patience.to_string());
    }
    if metric != HeldOutMetric::Auto {
        refuse("eval.metric", format!("{:?}", metric.as_str()));
    }
    if config.save.keep_best > Save::default().keep_best {
        refuse("save.keep_best", config.save.keep_best.to_string());
    }
    problems
}

/// A figure that the task is not measured by, or nothing to measure.
fn metric(config: &Config, place: Place<'_>) -> Option<Found> {
    let (eval, metric) = (&config.eval, config.eval.metric);
    if config.task.name == TaskName::None {
        return None;
    }
    let is_made = config.task.name.is_generated();
    let no_examples = config.data.valid.as_slice().is_empty();
    let no_text = eval.text.as_slice().is_empty();
    let refused = |key: &'static str, why: &str| {
        let message = format!("`eval.metric` is {:?} and {why}", metric.as_str());
        Some(found(place, &["eval.metric", key], message))
    };
    match metric {
        HeldOutMetric::Auto if config.early_stop.patience > 0 => {
            (!is_made && no_examples && no_text).then(|| {
                let message = format!(
                    "`early_stop.patience` is {} and there is nothing to judge by; expected held-out examples in `data.valid`, or plain text in `eval.text`",
                    config.early_stop.patience
                );
                found(place, &["early_stop.patience", "data.valid"], message)
            })
        }
        HeldOutMetric::Accuracy if !is_made && config.task.name != TaskName::Text => refused(
            "task.name",
            "only tasks with answers in words are measured by that; expected \"answer_cross_entropy\" or \"cross_entropy\"",
        ),
        HeldOutMetric::Accuracy if !is_made && no_examples => refused(
            "data.valid",
            "`data.valid` is not set; expected a file of held-out examples",
        ),
        HeldOutMetric::CrossEntropy
        | HeldOutMetric::AnswerCrossEntropy
        | HeldOutMetric::TextPerplexity
            if is_made =>
        {
            let name = config.task.name;
            let why = format!("the task \"{name}\" is measured by its \"accuracy\"; expected that");
            refused("task.name", &why)
        }
        HeldOutMetric::CrossEntropy | HeldOutMetric::AnswerCrossEntropy if no_examples => refused(
            "data.valid",
            "`data.valid` is not set; expected a file of held-out examples",
        ),
        HeldOutMetric::TextPerplexity if no_text => {
            refused("eval.text", "`eval.text` is not set; expected a file of plain text")
        }
        _ => None,
    }
}

/// The mode of generation where a training is asked for: what training feeds is the arm's.
pub(super) fn hard_mode(config: &Config) -> Option<String> {
    let instead = match config.task.name {
        name if name.is_generated() => {
            "`eval.arms` [\"hard\"], which trains a chain of thought in tokens, or \"no_thought\""
        }
        TaskName::Text => "`data.soft` \"none\", which feeds every input as a token",
        TaskName::Ids => "lines whose `soft` is 0 at every position",
        _ => return None,
    };
    (config.soft.mode == Mode::Hard).then(|| {
        format!(
            "`soft.mode` is \"hard\", which is a mode of generation and evaluation; expected \"soft\", and to train on tokens {instead}"
        )
    })
}
