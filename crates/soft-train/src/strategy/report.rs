//! What is told of a step: its record, the dashboard, and a line.

use burn::data::dataloader::Progress;
use burn::train::{EventProcessorTraining, LearnerEvent, TrainingItem};
use serde_json::json;
use soft_core::LearnedValues;

use super::rewarded::Rewarded;
use super::{Done, HeldOut, Steps};
use crate::config::OnNan;
use crate::dashboard::{self, News, Speed};
use crate::error::Error;
use crate::learned;
use crate::learner::{StepItem, metric_name};
use crate::not_finite::NotFinite;
use crate::pace;
use crate::renderer::say;
use crate::rewards;
use crate::stopwatch::Took;

/// Figures of one optimizer step.
pub(super) struct StepFigures {
    pub(super) item: StepItem,
    pub(super) num_tokens: u64,
    /// Those whose prediction is scored.
    pub(super) num_scored: u64,
    pub(super) grad_norm: f64,
    /// What the optimizer was given.
    pub(super) learning_rate: f64,
    /// The 5th, 50th and 95th percentile of the norms of the tokens' embeddings, at a step that
    /// looked where the mixtures lie.
    pub(super) token_norms: Option<[f64; 3]>,
    /// What is learned of the filters, as it stands after the step.
    pub(super) learned: LearnedValues,
    /// What is not finite, where the step changed nothing because of that.
    pub(super) not_finite: Option<NotFinite>,
    /// What is told of a step on rewards.
    pub(super) rewarded: Option<Rewarded>,
}

impl StepFigures {
    pub(super) fn value(&self, name: &str) -> f64 {
        self.item.values.iter().find(|value| value.0 == name).map_or(0.0, |value| value.1)
    }

    /// The loss; none of a step that changed nothing.
    pub(super) fn finite_loss(&self) -> Option<f64> {
        self.not_finite.is_none().then(|| self.value(metric_name::LOSS))
    }

    /// Mean norm of the mixtures and mean distance to the nearest token, over the median norm of a
    /// token; `None` at a step that did not look, or had no mixture.
    fn located(&self) -> Option<[f64; 2]> {
        let count = self.value(metric_name::LOCATED) * self.token_norms?[1];
        let mean = |name| self.value(name) / count;
        Some([metric_name::MIXTURE_NORM, metric_name::MIXTURE_DISTANCE].map(mean))
    }
}

impl Steps<'_> {
    /// `metrics.jsonl`, the dashboard, and a line.
    pub(super) fn report(
        &mut self,
        done: &Done,
        figures: &StepFigures,
        held_out: &[HeldOut],
        took: Took,
    ) -> Result<(), Error> {
        self.pace.step();
        let at = self.at(done.steps);
        let job = &mut *self.job;
        let guidance = job.feed.guidance(done.steps - 1);
        let learning_rate = figures.learning_rate;
        let value = |name| figures.value(name);
        let mut line = json!({
            "step": done.steps,
            "loss": value(metric_name::LOSS),
            "entropy": value(metric_name::ENTROPY),
            "grad_norm": figures.grad_norm,
            "learning_rate": learning_rate,
            "num_tokens": done.tokens,
        });
        if job.drawing.is_none() {
            line["cross_entropy"] = value(metric_name::CROSS_ENTROPY).into();
            line["entropy_beta"] = job.entropy_beta.at(done.steps - 1).into();
            line["guidance"] = guidance.into();
        }
        if job.drawing.is_none() && job.feed.clamps(done.steps - 1) {
            line["guidance/clamped"] = value(metric_name::CLAMPED).into();
        }
        let located = figures.located();
        if let Some([norm, distance]) = located {
            line["mixture/norm"] = norm.into();
            line["mixture/distance"] = distance.into();
        }
        if let Some(stage) = job.feed.stage(done.steps - 1) {
            line["curriculum/stage"] = stage.into();
        }
        learned::record(&mut line, &figures.learned, learned::gap(&figures.item));
        if job.watch.guard.on_nan == OnNan::Skip {
            line["skipped"] = done.course.skipped.into();
        }
        if let Some(drawing) = &job.drawing {
            for (name, key) in rewards::names(&drawing.rl) {
                line[key] = value(name).into();
            }
        }
        if let Some(rewarded) = &figures.rewarded {
            for (key, value) in &rewarded.parts {
                line[key] = (*value).into();
            }
            for line in &rewarded.lines {
                job.completions.as_mut().map_or(Ok(()), |record| record.append(line))?;
            }
            let draws = job.drawing.as_ref().is_some_and(|drawing| drawing.rl.draws());
            let alarms =
                if draws { job.alarms.after(&|key| line[key].as_f64()) } else { Vec::new() };
            for warning in alarms {
                say(format_args!("{} step {}: {warning}", job.label.trim_end(), done.steps));
            }
        }
        if job.has_answers && job.drawing.is_none() {
            line["answer_cross_entropy"] = value(metric_name::ANSWER_CROSS_ENTROPY).into();
        }
        for HeldOut { key, value, .. } in held_out {
            line[*key] = (*value).into();
        }
        job.metrics.append(&line)?;
        if let Some(events) = &mut job.events {
            events.write(done.steps as u64, &line)?;
        }
        // Hidden states are no mixtures, and need not lie near the tokens.
        let mixed = located.filter(|_| job.feed.feeds_mixtures());
        let strayed = mixed.zip(figures.token_norms).and_then(|(at, norms)| strayed(at, norms));
        if let (false, Some(warning)) = (self.warned, strayed) {
            self.warned = true;
            say(format_args!("{} step {}: {warning}", job.label.trim_end(), done.steps));
        }
        let steps = job.steps;
        let seconds = (done.seconds - job.before.seconds).max(1e-9);
        let speed = Speed {
            step: done.steps,
            tokens_per_second: (done.tokens - job.before.tokens) as f64 / seconds,
            seconds: took.seconds,
            tokens: done.tokens,
            scored: figures.num_scored as f64 / figures.num_tokens.max(1) as f64,
            elapsed: self.pace.elapsed(),
            left: self.pace.left(steps - done.steps),
            peak: dashboard::is_up().then(pace::peak_resident_bytes).flatten(),
        };
        let prints = !dashboard::tell(|| News::Speed(speed));
        if figures.not_finite.is_some() {
            let skipped = done.course.skipped;
            say(format_args!("{at} | skipped: not finite, see nonfinite.jsonl ({skipped} so far)"));
        } else if prints && (done.steps.is_multiple_of(job.log_every) || done.steps == steps) {
            let course = match &job.drawing {
                Some(drawing) => rewards::in_words(&drawing.rl, &|name| figures.value(name)),
                None => format!(
                    "loss {:.4} | cross-entropy {:.4} | entropy {:.3} | guidance {guidance:.2}",
                    value(metric_name::LOSS),
                    value(metric_name::CROSS_ENTROPY),
                    value(metric_name::ENTROPY),
                ),
            };
            say(format_args!(
                "{at} | {course} | grad norm {:.2} | lr {learning_rate:.2e}{} | {:.1} ms | {:.0} \
                 tok/s | {}, {} left",
                figures.grad_norm,
                learned::in_words(&figures.learned),
                took.seconds * 1e3,
                speed.tokens_per_second,
                pace::in_words(speed.elapsed),
                pace::in_words(speed.left),
            ));
        }
        if prints && !held_out.is_empty() {
            say(format_args!("{at} | {}", in_words(held_out)));
        }
        let mut item = figures.item.clone();
        learned::display(&mut item, &figures.learned);
        let sums = [metric_name::LOCATED, metric_name::MIXTURE_NORM, metric_name::MIXTURE_DISTANCE];
        item.values.retain(|(name, _)| !sums.contains(name));
        if let Some([norm, distance]) = located {
            item.values.push((metric_name::MIXTURE_NORM, norm));
            item.values.push((metric_name::MIXTURE_DISTANCE, distance));
        }
        if job.drawing.is_none() {
            let entropy_beta = job.entropy_beta.at(done.steps - 1);
            item.values.extend([
                (metric_name::ENTROPY_BETA, entropy_beta),
                (metric_name::GUIDANCE, guidance),
            ]);
        }
        item.values.extend([
            (metric_name::GRAD_NORM, figures.grad_norm),
            (metric_name::LEARNING_RATE, learning_rate),
        ]);
        item.values.retain(|(_, value)| value.is_finite());
        let shown = |item| {
            let progress = Progress::new(done.steps, steps, Some("steps".to_owned()));
            LearnerEvent::ProcessedItem(TrainingItem::new(item, progress, Some(done.steps), None))
        };
        self.interrupter.fail_on_error(self.events.process_train(shown(item)));
        if !held_out.is_empty() {
            let values = held_out.iter().map(|held| (held.title, held.value)).collect();
            let item = StepItem { values };
            self.interrupter.fail_on_error(self.events.process_valid(shown(item)));
        }
        Ok(())
    }
}

pub(super) fn in_words(figures: &[HeldOut]) -> String {
    let words = figures.iter().map(|held| format!("{} {:.4}", held.key, held.value));
    words.collect::<Vec<_>>().join(" | ")
}

/// Why mixtures are far from what the model was trained on, if they are: their mean norm lies
/// outside the norms of most tokens, or the nearest token is farther away than a token is long.
fn strayed([norm, distance]: [f64; 2], [low, median, high]: [f64; 3]) -> Option<String> {
    let (low, high) = (low / median, high / median);
    let what = if norm < low {
        format!("the mixtures are shorter than 95 % of the tokens ({norm:.2} of their median)")
    } else if norm > high {
        format!("the mixtures are longer than 95 % of the tokens ({norm:.2} of their median)")
    } else if distance > 1.0 {
        format!("the nearest token is {distance:.2} token lengths away from the mixtures")
    } else {
        return None;
    };
    Some(format!(
        "warning: {what}; a smaller soft.temperature or soft.max_top_k, soft.norm_match, or a \
         positive objective.entropy_beta keeps them nearer"
    ))
}
