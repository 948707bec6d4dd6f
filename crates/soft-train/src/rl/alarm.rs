//! Signs of a training on rewards that goes wrong.

/// Steps in a row after which something is said.
const PATIENCE: usize = 10;

/// A figure of a step, and what is wrong where it leaves its range.
struct Sign {
    /// Key in `metrics.jsonl`.
    key: &'static str,
    /// Whether a value is unhealthy.
    bad: fn(f64) -> bool,
    /// What it means, and what to do.
    advice: &'static str,
}

/// The ranges are those that people who train so go by: groups without signal under 0.8, clipped
/// draws under 0.3, divergence under 2 nats a draw, entropy over 0.01, rows cut off under 0.8, ratios
/// over 0.1.
const SIGNS: [Sign; 6] = [
    Sign {
        key: "frac_reward_zero_std",
        bad: |share| share >= 0.98,
        advice: "nearly no group has rewards that differ, so nothing is learned: easier or harder \
                 prompts, a larger rl.group, or a reward with more steps between 0 and 1",
    },
    Sign {
        key: "entropy",
        bad: |nats| nats < 0.01,
        advice: "what is drawn from has nearly no entropy left: a larger rl.entropy, a smaller \
                 train.lr, or rl.beta over 0",
    },
    Sign {
        key: "clip_ratio/region_mean",
        bad: |share| share > 0.3,
        advice: "many ratios are clipped: a smaller train.lr, or fewer rl.updates",
    },
    Sign {
        key: "kl",
        bad: |nats| nats > 2.0,
        advice: "the model is far from the one that training began with: a larger rl.beta, or a \
                 smaller train.lr",
    },
    Sign {
        key: "completions/clipped_ratio",
        bad: |share| share > 0.8,
        advice: "most rows are cut off before their end: a larger generate.max_new, or a reward \
                 \"length\"",
    },
    Sign {
        key: "ratio/min",
        bad: |ratio| ratio < 0.1,
        advice: "some draws are ten times less likely than when they were drawn: fewer rl.updates, \
                 or a smaller train.lr",
    },
];

/// Counts how long each figure has been unhealthy.
#[derive(Debug, Default)]
pub struct Alarms {
    bad: [usize; SIGNS.len()],
}

impl Alarms {
    /// What there is to say of a step, once for each time that a figure has been unhealthy for ten
    /// steps in a row. `value` gives a figure by its key, where it is known.
    pub fn after(&mut self, value: &dyn Fn(&str) -> Option<f64>) -> Vec<String> {
        let mut said = Vec::new();
        for (count, sign) in self.bad.iter_mut().zip(&SIGNS) {
            let Some(value) = value(sign.key) else { continue };
            *count = if (sign.bad)(value) { *count + 1 } else { 0 };
            if *count == PATIENCE {
                said.push(format!(
                    "warning: {} is {value:.3} and has been unhealthy for {PATIENCE} steps: {}",
                    sign.key, sign.advice
                ));
            }
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(alarms: &mut Alarms, key: &str, value: f64) -> Vec<String> {
        alarms.after(&|own| (own == key).then_some(value))
    }

    #[test]
    fn an_alarm_comes_after_ten_bad_steps_and_once() {
        let mut alarms = Alarms::default();
        for _ in 1..PATIENCE {
            assert!(told(&mut alarms, "entropy", 0.001).is_empty());
        }
        let said = told(&mut alarms, "entropy", 0.001);
        assert!(said[0].contains("entropy is 0.001") && said[0].contains("rl.entropy"), "{said:?}");
        assert!(told(&mut alarms, "entropy", 0.001).is_empty(), "it was said");
        assert!(told(&mut alarms, "entropy", 0.5).is_empty());
        for _ in 1..PATIENCE {
            told(&mut alarms, "entropy", 0.001);
        }
        assert_eq!(told(&mut alarms, "entropy", 0.001).len(), 1, "it was well between");
    }

    #[test]
    fn healthy_figures_say_nothing() {
        for (key, value) in [
            ("frac_reward_zero_std", 0.7),
            ("entropy", 0.2),
            ("clip_ratio/region_mean", 0.1),
            ("kl", 0.5),
            ("completions/clipped_ratio", 0.3),
            ("ratio/min", 0.8),
        ] {
            let mut alarms = Alarms::default();
            assert!((0..30).all(|_| told(&mut alarms, key, value).is_empty()), "{key}");
        }
    }
}
