//! What a comparison found: `results.json`, and the table that people read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::statistics::{Difference, significant};
use crate::config::Control;
use crate::results::{aligned, percent};

/// Version of `results.json` of an evaluation.
pub(crate) const VERSION: u32 = 1;
/// Under this share of outputs with an answer, the extractor may decide rather than the thinking.
const FEW_EXTRACTED: f64 = 0.8;

/// `results.json` of `soft eval`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Tells it from the results of a training: "eval".
    pub kind: String,
    /// Version of this format.
    pub version: u32,
    /// Path of the model.
    pub model: String,
    /// Paths of the questions.
    pub data: String,
    /// Questions asked.
    pub questions: u64,
    /// Seeds of the arms that draw.
    pub seeds: u64,
    /// Forward tokens that an arm might spend on a question.
    pub budget: u64,
    /// The arm that the others are compared with.
    pub baseline: String,
    /// How answers were found.
    pub extract: String,
    /// One entry an arm, each followed by its controls.
    pub arms: Vec<ArmOutcome>,
    /// What a reader of the figures has to know beside them.
    pub notes: Vec<String>,
}

/// How one arm did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArmOutcome {
    /// The arm.
    pub arm: String,
    /// Its settings, as they are typed.
    pub settings: Vec<String>,
    /// Set where this is a control of the arm: what was done to its thoughts.
    pub control: Option<Control>,
    /// Share of right answers, mean over seeds, 0 to 1.
    pub accuracy: f64,
    /// Its 95 % interval (Wilson), which counts questions, not seeds.
    pub interval: [f64; 2],
    /// Right answers, over all seeds.
    pub correct: u64,
    /// Answers, over all seeds.
    pub total: u64,
    /// Against the baseline, for a control against its arm; none for the baseline itself.
    pub difference: Option<Difference>,
    /// Share of outputs in which an answer was found.
    pub extracted: f64,
    /// Forward tokens a question, all continuations together, the prompt not counted.
    pub tokens: f64,
    /// Time of the arm, in seconds.
    pub seconds: f64,
    /// How often each rule acted.
    pub rates: BTreeMap<String, f64>,
}

impl Outcome {
    /// The table, and under it what it can and cannot show.
    #[must_use]
    pub fn table(&self) -> String {
        let head =
            ["arm", "accuracy", "95 % interval", "difference", "p", "tokens", "seconds", "found"];
        let mut rows = vec![head.map(String::from)];
        rows.extend(self.arms.iter().map(row));
        let mut text = aligned(&rows);
        for arm in self.arms.iter().filter(|arm| !arm.rates.is_empty()) {
            let rates = arm.rates.iter().map(|(name, rate)| format!("{name} {rate:.3}"));
            let rates: Vec<String> = rates.collect();
            text.push_str(&format!("\n{}: {}", title(arm), rates.join(", ")));
        }
        for note in self.remarks() {
            text.push_str(&format!("\n- {note}"));
        }
        text.push('\n');
        text
    }

    /// Sentences on what the figures can and cannot show.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let mut notes = vec![format!(
            "{} questions, {}: an interval of 95 % counts questions, not seeds. Every arm might spend \
             {} forward tokens a question after the prompt.",
            self.questions,
            match self.seeds {
                1 => "one seed".to_owned(),
                seeds => format!("{seeds} seeds for arms that draw"),
            },
            self.budget
        )];
        let least = (1..=64).find(|&n| 2f64.powi(1 - n) < 0.05).unwrap_or(6);
        let share = f64::from(least) / self.questions.max(1) as f64;
        let share = match share <= 1.0 {
            true => format!("which is {} of accuracy here", percent(share)),
            false => "and there are not so many".to_owned(),
        };
        notes.push(format!(
            "p is that of an exact paired test against `{}` (of a control against its arm); it can only be under 5 % where at least \
             {least} questions were answered differently, {share}.",
            self.baseline,
        ));
        let family = |controls: bool| -> (Vec<&ArmOutcome>, Vec<f64>) {
            let own = self.arms.iter().filter(|arm| arm.control.is_some() == controls);
            own.filter_map(|arm| Some((arm, arm.difference?.p))).unzip()
        };
        let (compared, ps) = family(false);
        let found: Vec<String> = compared
            .iter()
            .zip(significant(&ps))
            .filter(|(_, found)| *found)
            .map(|(arm, _)| title(arm))
            .collect();
        notes.push(match found.is_empty() {
            true => format!(
                "No arm differs from `{}` at 5 % (Holm, {} comparisons): an order of the arms by \
                 accuracy is not evidence.",
                self.baseline,
                ps.len()
            ),
            false => format!(
                "Differ from `{}` at 5 % (Holm, {} comparisons): {}.",
                self.baseline,
                ps.len(),
                found.join(", ")
            ),
        });
        let (controls, control_ps) = family(true);
        if !controls.is_empty() {
            let differ = controls.iter().zip(significant(&control_ps)).filter(|(_, found)| *found);
            let differ: Vec<String> = differ.map(|(arm, _)| title(arm)).collect();
            notes.push(match differ.is_empty() {
                true => format!(
                    "No control differs from its arm at 5 % (Holm, {} comparisons): nothing here says \
                     that the answers needed the thoughts.",
                    controls.len()
                ),
                false => format!("Controls that differ from their arm at 5 %: {}.", differ.join(", ")),
            });
        }
        let few: Vec<String> =
            self.arms.iter().filter(|arm| arm.extracted < FEW_EXTRACTED).map(title).collect();
        if !few.is_empty() {
            notes.push(format!(
                "In less than {:.0} % of their outputs an answer was found: {}. There the extractor \
                 or the budget may decide rather than the thinking.",
                100.0 * FEW_EXTRACTED,
                few.join(", ")
            ));
        }
        notes
    }
}

fn title(arm: &ArmOutcome) -> String {
    match arm.control {
        None => arm.arm.clone(),
        Some(control) => format!("{} / {control}", arm.arm),
    }
}

fn row(arm: &ArmOutcome) -> [String; 8] {
    let [low, high] = arm.interval;
    let name = match arm.control {
        None => arm.arm.clone(),
        Some(control) => format!("  / {control}"),
    };
    [
        name,
        percent(arm.accuracy),
        format!("{:.1} to {:.1}", 100.0 * low, 100.0 * high),
        arm.difference.map_or_else(|| "-".into(), |d| format!("{:+.1}", 100.0 * d.accuracy)),
        arm.difference.map_or_else(|| "-".into(), |d| format!("{:.3}", d.p)),
        format!("{:.0}", arm.tokens),
        format!("{:.0}", arm.seconds),
        format!("{:.0} %", 100.0 * arm.extracted),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(name: &str, control: Option<Control>, p: Option<f64>) -> ArmOutcome {
        ArmOutcome {
            arm: name.into(),
            settings: Vec::new(),
            control,
            accuracy: 0.25,
            interval: [0.1, 0.4],
            correct: 5,
            total: 20,
            difference: p.map(|p| Difference { accuracy: 0.125, p }),
            extracted: if name == "b" { 0.5 } else { 1.0 },
            tokens: 99.6,
            seconds: 3.2,
            rates: BTreeMap::new(),
        }
    }

    fn outcome(p: f64) -> Outcome {
        Outcome {
            kind: "eval".into(),
            version: VERSION,
            model: "m".into(),
            data: "d".into(),
            questions: 20,
            seeds: 1,
            budget: 256,
            baseline: "a".into(),
            extract: "last_number".into(),
            arms: vec![
                arm("a", None, None),
                arm("b", None, Some(p)),
                arm("b", Some(Control::Top), Some(0.9)),
            ],
            notes: Vec::new(),
        }
    }

    #[test]
    fn the_remarks_say_what_the_figures_cannot_show() {
        let notes = outcome(0.04).remarks();
        assert!(notes[0].starts_with("20 questions, one seed:"), "{notes:?}");
        assert!(notes[1].contains("at least 6 questions") && notes[1].contains("30.00 %"));
        assert!(outcome(0.06).remarks()[2].starts_with("No arm differs from `a` at 5 % (Holm, 1"));
        assert!(notes[2].ends_with("(Holm, 1 comparisons): b."), "{notes:?}");
        assert!(notes[3].starts_with("No control differs from its arm"), "{notes:?}");
        assert!(notes[4].contains("b, b / top"), "{notes:?}");
    }

    #[test]
    fn the_table_lines_up_and_the_file_reads_back() {
        let mut outcome = outcome(0.04);
        outcome.arms[1].rates.insert("cold_stop".into(), 0.4);
        let table = outcome.table();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[1].len(), lines[0].len());
        for part in ["  / top", "+12.5", "0.040", "10.0 to 40.0", "b: cold_stop 0.400", "100 %"] {
            assert!(table.contains(part), "{part} is missing in\n{table}");
        }
        let json = serde_json::to_string(&outcome).expect("serialisable");
        assert_eq!(serde_json::from_str::<Outcome>(&json).expect("as written"), outcome);
        assert!(json.contains("\"control\":\"top\"") && json.contains("\"kind\":\"eval\""));
    }
}
