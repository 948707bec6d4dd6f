//! What a row amounts to in a few figures, and the sentence that says so.

use super::markup::{counted, escape, figure, percent};
use super::trace::{Step, Trace};
use crate::results::thousands;

/// A mixture whose heaviest token has more than this is a token in all but name.
pub(super) const ONE_TOKEN: f64 = 0.99;
/// A mixture with a smaller cosine to its nearest token is far from every token: an even mixture
/// of four unrelated tokens has 0.5 to each.
pub(super) const FAR_COSINE: f64 = 0.5;
/// By definition one token in ten lies outside the band of norms: a warning takes more than that.
const USUAL_OUTSIDE: f64 = 0.1;

/// The figures of a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Verdict {
    pub(super) steps: usize,
    pub(super) soft: usize,
    /// Share of the soft steps that fed one token almost alone; `None` without soft steps.
    pub(super) hard_share: Option<f64>,
    pub(super) mean_entropy: Option<f64>,
    pub(super) mean_effective: Option<f64>,
    pub(super) off: OffDistribution,
}

/// Soft steps that fed something unlike any token.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct OffDistribution {
    /// Soft steps of which the norm, the cosine or the distance is known.
    pub(super) measured: usize,
    /// Norm below the band of token norms.
    pub(super) short: usize,
    /// Norm above it.
    pub(super) long: usize,
    /// Far from every token.
    pub(super) far: usize,
    /// Any of these.
    pub(super) any: usize,
}

impl Verdict {
    pub(super) fn of(row: &Trace) -> Self {
        let soft: Vec<&Step> = row.steps.iter().filter(|step| step.is_soft()).collect();
        let one_token = |step: &&&Step| step.is_one_token(ONE_TOKEN);
        let hard_share = share(soft.iter().filter(one_token).count(), soft.len());
        Self {
            steps: row.steps.len(),
            soft: soft.len(),
            hard_share,
            mean_entropy: mean(row.steps.iter().filter_map(|step| step.entropy_nats)),
            mean_effective: mean(row.steps.iter().filter_map(effective_tokens)),
            off: OffDistribution::of(row, &soft),
        }
    }

    /// The verdict in words.
    pub(super) fn sentence(&self, row: &Trace) -> String {
        let mut text = format!(
            "{}: {} soft, {} hard.",
            counted(self.steps, "step"),
            thousands(self.soft as u64),
            thousands((self.steps - self.soft) as u64)
        );
        if let Some(share) = self.hard_share {
            text.push_str(&format!(
                " {} of the soft steps fed one token almost alone (weight over {ONE_TOKEN}).",
                percent(share)
            ));
        }
        if let Some(entropy) = self.mean_entropy {
            text.push_str(&format!(" Mean entropy {} nats", figure(entropy)));
            if let Some(effective) = self.mean_effective {
                text.push_str(&format!(", on average {} effective tokens", figure(effective)));
            }
            text.push('.');
        }
        text.push_str(&format!(" {}", stop_reason(row)));
        text
    }
}

impl OffDistribution {
    fn of(row: &Trace, soft: &[&Step]) -> Self {
        let mut off = Self::default();
        for step in soft {
            let band = row.embedding_norm.zip(step.norm);
            let short = band.is_some_and(|(band, norm)| norm < band.low);
            let long = band.is_some_and(|(band, norm)| norm > band.high);
            let far = is_far(row, step);
            off.measured += usize::from(band.is_some() || far.is_some());
            off.short += usize::from(short);
            off.long += usize::from(long);
            off.far += usize::from(far == Some(true));
            off.any += usize::from(short || long || far == Some(true));
        }
        off
    }

    /// Whether more steps are unlike tokens than tokens are unlike each other.
    pub(super) fn is_warning(&self) -> bool {
        self.any as f64 > USUAL_OUTSIDE * self.measured as f64
    }

    /// The steps concerned, in words; `None` where nothing was measured.
    pub(super) fn sentence(&self) -> Option<String> {
        if self.measured == 0 {
            return None;
        }
        let mut reasons = Vec::new();
        let mut reason = |count: usize, what: &str| {
            if count > 0 {
                reasons.push(format!("{} {what}", thousands(count as u64)));
            }
        };
        reason(self.short, "with a norm below the 5th percentile of token embeddings");
        reason(self.long, "with a norm above the 95th percentile");
        reason(self.far, "far from every token (more than 60° from the nearest)");
        let lead = if self.is_warning() { "Off distribution: " } else { "" };
        let reasons = match reasons.is_empty() {
            true => String::new(),
            false => format!(" ({})", reasons.join(", ")),
        };
        Some(format!(
            "{lead}{} of {} fed something unlike any token{reasons}.",
            thousands(self.any as u64),
            counted(self.measured, "soft step")
        ))
    }
}

/// Whether what was fed is far from every token; by distance where there is no cosine.
fn is_far(row: &Trace, step: &Step) -> Option<bool> {
    let by_distance = || {
        let distance = step.nearest.as_ref()?.value();
        Some(distance > row.embedding_norm?.median)
    };
    step.cosine.map(|cosine| cosine < FAR_COSINE).or_else(by_distance)
}

/// exp(entropy), as recorded or worked out.
pub(super) fn effective_tokens(step: &Step) -> Option<f64> {
    step.effective_tokens.or_else(|| step.entropy_nats.map(f64::exp))
}

/// Why a row ended, as a sentence; escaped.
pub(super) fn stop_reason(row: &Trace) -> String {
    match row.stop.as_deref() {
        Some("eos") => "It stopped because the model ended its text.".into(),
        Some("cold_stop") => "It stopped because the model had become certain (cold stop).".into(),
        Some("max_new") => "It stopped at the limit of new tokens.".into(),
        Some("max_positions") => "It stopped because the model's context was full.".into(),
        Some(other) => format!("It stopped: {}.", escape(other)),
        None => "Why it stopped is not recorded.".into(),
    }
}

fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn row(steps: Value) -> Trace {
        let row = json!({"token_ids": [], "steps": steps, "stop": "cold_stop",
            "embedding_norm": {"low": 1.0, "median": 1.5, "high": 2.0}});
        serde_json::from_value(row).unwrap()
    }

    #[test]
    fn the_hard_share_counts_soft_steps_alone() {
        let row = row(json!([
            {"token_id": 1, "mode": "soft", "top": [[1, "a", 0.995]], "entropy_nats": 0.0},
            {"token_id": 1, "mode": "soft", "top": [[1, "a", 1.0]], "fed": [[1, "a", 0.5]],
             "entropy_nats": 1.0},
            {"token_id": 1, "mode": "hard", "top": [[1, "a", 1.0]], "entropy_nats": 2.0},
        ]));
        let verdict = Verdict::of(&row);
        assert_eq!((verdict.steps, verdict.soft, verdict.hard_share), (3, 2, Some(0.5)));
        assert_eq!(verdict.mean_entropy, Some(1.0));
        assert_eq!(
            verdict.sentence(&row),
            "3 steps: 2 soft, 1 hard. 50.0 % of the soft steps fed one token almost alone (weight \
             over 0.99). Mean entropy 1.00 nats, on average 3.70 effective tokens. It stopped \
             because the model had become certain (cold stop)."
        );
        assert_eq!(verdict.off.sentence(), None);
    }

    #[test]
    fn a_step_unlike_any_token_is_counted_once_and_its_reasons_each() {
        let row = row(json!([
            {"token_id": 1, "mode": "soft", "norm": 0.5, "cosine": 0.4},
            {"token_id": 1, "mode": "soft", "norm": 2.5, "cosine": 0.9},
            {"token_id": 1, "mode": "soft", "norm": 1.5, "nearest": [1, "a", 1.6]},
            {"token_id": 1, "mode": "soft", "norm": 1.5, "cosine": 0.9},
            {"token_id": 1, "mode": "hard", "norm": 9.0},
        ]));
        let off = Verdict::of(&row).off;
        assert_eq!(off, OffDistribution { measured: 4, short: 1, long: 1, far: 2, any: 3 });
        assert!(off.is_warning());
        let text = off.sentence().unwrap();
        assert!(text.starts_with("Off distribution: 3 of 4 soft steps fed something"), "{text}");
    }

    #[test]
    fn an_empty_row_has_a_verdict() {
        let row = Trace::default();
        let text = Verdict::of(&row).sentence(&row);
        assert_eq!(text, "0 steps: 0 soft, 0 hard. Why it stopped is not recorded.");
    }
}
