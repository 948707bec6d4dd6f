//! From the answers to the outcome of a comparison.

use std::collections::BTreeMap;

use soft_model::Tally;

use super::super::arms::Arm;
use super::super::outcome::{ArmOutcome, Outcome, VERSION};
use super::super::statistics::{accuracy, difference};
use super::{Item, Runner, seeds};
use crate::config::{Control, GateKind, SearchKind};

impl Runner<'_> {
    pub(super) fn outcome(&self) -> Outcome {
        let (config, eval) = (self.of.config, &self.of.config.eval);
        let baseline = match eval.baseline.is_empty() {
            true => self.of.arms.first().map_or_else(String::new, |arm| arm.name.clone()),
            false => eval.baseline.clone(),
        };
        let right_of = |arm: &Arm, control: Option<Control>| -> (Vec<u32>, u32) {
            let mut right = vec![0; self.prompts.len()];
            for item in self.of_arm(arm, control) {
                right[item.question] += u32::from(item.correct);
            }
            (right, seeds(arm, config).count() as u32)
        };
        let base = self.of.arms.iter().find(|arm| arm.name == baseline);
        let base = base.map(|arm| right_of(arm, None));
        let mut arms = Vec::new();
        for arm in self.of.arms {
            let controls = arm.controls.iter().map(|&control| Some(control));
            for control in std::iter::once(None).chain(controls) {
                let (right, seeds) = right_of(arm, control);
                let is_base = control.is_none() && arm.name == baseline;
                let own = right_of(arm, None);
                let base = match control {
                    // Of a control the question is what it does to its own arm.
                    Some(_) => Some(&own),
                    None => base.as_ref().filter(|_| !is_base),
                };
                let difference = base.map(|(base, n)| difference(&right, seeds, base, *n));
                let (accuracy, interval) = accuracy(&right, seeds);
                arms.push(ArmOutcome {
                    correct: right.iter().map(|&r| u64::from(r)).sum(),
                    accuracy,
                    interval,
                    difference,
                    ..self.arm_outcome(arm, control)
                });
            }
        }
        let mut outcome = Outcome {
            kind: "eval".into(),
            version: VERSION,
            model: config.model.path.clone().unwrap_or_default(),
            data: eval.data.as_slice().join(", "),
            questions: self.prompts.len() as u64,
            seeds: eval.seeds as u64,
            budget: eval.budget as u64,
            baseline,
            extract: eval.extract.to_string(),
            arms,
            notes: Vec::new(),
        };
        // The report finds the others itself.
        outcome.notes = outcome.remarks().into_iter().take(1).collect();
        outcome
    }

    fn of_arm(&self, arm: &Arm, control: Option<Control>) -> impl Iterator<Item = &Item> {
        seeds(arm, self.of.config)
            .filter_map(move |seed| self.items.get(&(arm.name.clone(), control, seed)))
            .flatten()
    }

    /// Everything about an arm but how many answers were right.
    fn arm_outcome(&self, arm: &Arm, control: Option<Control>) -> ArmOutcome {
        let items: Vec<&Item> = self.of_arm(arm, control).collect();
        let total = items.len();
        let mean = |value: &dyn Fn(&Item) -> f64| {
            items.iter().map(|item| value(item)).sum::<f64>() / total.max(1) as f64
        };
        let sum = |value: &dyn Fn(&Tally) -> usize| -> f64 {
            items.iter().map(|item| value(&item.tally) as f64).sum()
        };
        let (soft, positions) = (sum(&|t| t.soft), sum(&|t| t.thoughts));
        let mut rates = BTreeMap::new();
        let mut rate = |name: &str, value: f64| rates.insert(name.to_owned(), value);
        rate("finished", mean(&|item| f64::from(u8::from(item.finished))));
        let config = &arm.config;
        if control.is_none() {
            if config.soft.cold_stop || config.answer.cold_stop {
                rate("cold_stop", mean(&|item| f64::from(u8::from(item.tally.cold_stops > 0))));
            }
            if soft > 0.0 {
                rate("soft_share", soft / positions.max(1.0));
                rate("thought", positions / total.max(1) as f64);
                if arm.config.search.kind == SearchKind::None {
                    rate("nearly_hard", sum(&|t| t.nearly_hard) / soft);
                }
            }
            if config.gate.kind == GateKind::Switch {
                rate("switches", sum(&|t| t.switches) / total.max(1) as f64);
            }
        }
        ArmOutcome {
            arm: arm.name.clone(),
            settings: arm.settings.clone(),
            control,
            accuracy: 0.0,
            interval: [0.0, 1.0],
            correct: 0,
            total: total as u64,
            difference: None,
            extracted: mean(&|item| f64::from(u8::from(item.answer.is_some()))),
            tokens: mean(&|item| item.tokens as f64),
            seconds: items.iter().map(|item| item.seconds).sum(),
            rates,
        }
    }
}
