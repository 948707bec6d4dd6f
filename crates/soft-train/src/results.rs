//! How well each arm did, as a file that scripts read and as a table that people read.

use serde::{Deserialize, Serialize};

use crate::config::Arm;

/// The standard normal quantile of a two-sided 95 % interval.
const Z_95: f64 = 1.959_963_984_540_054;

/// How one arm did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArmResult {
    /// The arm.
    pub arm: Arm,
    /// Share of problems answered right after running freely from the prompt, 0 to 1.
    pub accuracy: f64,
    /// Its 95 % confidence interval (Wilson), for these problems and one trained model.
    pub interval: [f64; 2],
    /// Problems answered right.
    pub correct: u64,
    /// Problems asked.
    pub total: u64,
    /// Optimizer steps the model was trained for.
    pub steps: u64,
    /// Examples in each of those steps.
    pub batch: u64,
    /// Time of the training, in seconds.
    pub seconds: f64,
    /// The published accuracy, 0 to 1, where there is one.
    pub published: Option<f64>,
    /// The model, as a path that `--model` takes.
    pub checkpoint: String,
    /// Parameters of the model, low-rank branches and prefix included.
    pub parameters: u64,
    /// The learning rate.
    pub learning_rate: f64,
    /// The run's seed.
    pub seed: u64,
}

impl ArmResult {
    /// A result with `correct` of `total`: accuracy and interval follow, everything else is left
    /// at zero, none or empty for the caller to fill in.
    pub fn new(arm: Arm, correct: u64, total: u64) -> Self {
        Self {
            arm,
            accuracy: correct as f64 / total.max(1) as f64,
            interval: wilson(correct, total),
            correct,
            total,
            steps: 0,
            batch: 0,
            seconds: 0.0,
            published: None,
            checkpoint: String::new(),
            parameters: 0,
            learning_rate: 0.0,
            seed: 0,
        }
    }
}

/// `results.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// One entry an arm.
    pub arms: Vec<ArmResult>,
    /// How the training of each arm ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endings: Vec<Ending>,
}

/// How the training of an arm ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ending {
    /// The arm.
    pub arm: Arm,
    /// Optimizer steps done.
    pub steps: u64,
    /// Why it ended before its last step, if it did.
    pub early: Option<String>,
    /// Steps that were skipped because they were not finite.
    pub skipped: u64,
    /// The best evaluation during the training, where there was one.
    pub best: Option<BestCheckpoint>,
}

/// The best evaluation of a training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BestCheckpoint {
    /// Key of the figure in `metrics.jsonl`.
    pub metric: String,
    /// Its value.
    pub value: f64,
    /// The optimizer step.
    pub step: u64,
    /// The model, as a path that `--model` takes; none where it was not kept.
    pub checkpoint: Option<String>,
}

/// What stands around the arms when they are printed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Context {
    /// A name and an accuracy (0 to 1) that needs no model, such as always giving one answer.
    pub baseline: Option<(String, f64)>,
    /// Where published figures come from.
    pub published_source: String,
    /// Steps and batch of the published runs.
    pub published_budget: Option<(u64, u64)>,
    /// The run directory.
    pub run_dir: String,
    /// Commands to try next, with what each does.
    pub next: Vec<(String, String)>,
}

/// The 95 % confidence interval of a share, after Wilson: the shares p for which `correct` of
/// `total` lies within 1.96 standard deviations. Unlike the textbook one it never leaves 0..1 and
/// does not shrink to a point at 0 or 1.
pub fn wilson(correct: u64, total: u64) -> [f64; 2] {
    interval(correct as f64, total)
}

/// [`wilson`] of a number that need not be whole, such as a sum of means.
pub(crate) fn interval(correct: f64, total: u64) -> [f64; 2] {
    if total == 0 {
        return [0.0, 1.0];
    }
    let n = total as f64;
    let share = correct / n;
    let z2 = Z_95 * Z_95;
    let center = share + z2 / (2.0 * n);
    let spread = Z_95 * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z2 / n;
    // The bounds hold exactly; rounding may break them by an ulp.
    [((center - spread) / scale).clamp(0.0, share), ((center + spread) / scale).clamp(share, 1.0)]
}

impl Results {
    /// The table, ours beside the published figures, and what to look at next.
    pub fn table(&self, context: &Context) -> String {
        let mut rows = vec![
            ["arm", "accuracy", "95 % interval", "published", "steps", "seconds", "parameters"]
                .map(String::from),
        ];
        rows.extend(self.arms.iter().map(row));
        if let Some((name, accuracy)) = &context.baseline {
            let mut cells = [const { String::new() }; 7];
            cells[0].clone_from(name);
            cells[1] = percent(*accuracy);
            rows.push(cells);
        }
        let mut text = aligned(&rows);
        for line in self.remarks(context) {
            text.push('\n');
            text.push_str(&line);
        }
        text.push('\n');
        text
    }

    fn remarks(&self, context: &Context) -> Vec<String> {
        let mut lines = vec![String::new()];
        let asked = self.arms.iter().map(|result| result.total).max().unwrap_or(0);
        lines.push(format!(
            "exact match on {asked} held-out problems, each arm running freely from its prompt"
        ));
        if self.arms.iter().any(|result| result.published.is_some()) {
            lines.push(format!("published: {}", context.published_source));
            lines.extend(self.budget_remark(context));
        }
        if !context.run_dir.is_empty() {
            lines.push(format!("run directory: {}", context.run_dir));
        }
        if !context.next.is_empty() {
            lines.extend([String::new(), "try next:".into()]);
            let width = context.next.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
            let hint = |(command, what): &(String, String)| format!("  {command:width$}  # {what}");
            lines.extend(context.next.iter().map(hint));
        }
        lines
    }

    /// Says so where our arms saw fewer examples than the published ones.
    fn budget_remark(&self, context: &Context) -> Option<String> {
        let (steps, batch) = context.published_budget?;
        let ours = self.arms.iter().max_by_key(|result| result.steps * result.batch)?;
        let (seen, published) = (ours.steps * ours.batch, steps * batch);
        (seen < published).then(|| {
            format!(
                "reduced budget: at most {} steps of {} here, {} steps of {batch} published ({:.0} times \
                 the examples)",
                thousands(ours.steps),
                ours.batch,
                thousands(steps),
                published as f64 / seen.max(1) as f64
            )
        })
    }
}

fn row(result: &ArmResult) -> [String; 7] {
    let [low, high] = result.interval;
    [
        result.arm.as_str().to_string(),
        percent(result.accuracy),
        format!("{:.1} to {:.1}", 100.0 * low, 100.0 * high),
        result.published.map_or_else(|| "-".into(), percent),
        thousands(result.steps),
        format!("{:.0}", result.seconds),
        thousands(result.parameters),
    ]
}

pub(crate) fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// A number with a comma after each group of three digits.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// First column to the left, numbers to the right, a rule under the head.
pub(crate) fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let mut line = format!("{:w$}", row[0], w = widths[0]);
        for (cell, w) in row.iter().zip(widths).skip(1) {
            line.push_str(&format!("  {cell:>w$}"));
        }
        text.push_str(line.trim_end());
        text.push('\n');
        if number == 0 {
            text.push_str(&"-".repeat(widths.iter().sum::<usize>() + 2 * (N - 1)));
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Results {
        let soft = ArmResult {
            steps: 4000,
            batch: 64,
            seconds: 71.4,
            published: Some(0.9894),
            parameters: 28672,
            checkpoint: "runs/a/checkpoints/step-004000".into(),
            ..ArmResult::new(Arm::Soft, 1190, 1308)
        };
        let fed_hard =
            ArmResult { steps: 4000, batch: 64, ..ArmResult::new(Arm::SoftFedHard, 759, 1308) };
        Results { arms: vec![soft, fed_hard], endings: Vec::new() }
    }

    fn context() -> Context {
        Context {
            baseline: Some(("always 1".into(), 0.3425)),
            published_source: "a paper".into(),
            published_budget: Some((329_000, 16)),
            run_dir: "runs/a".into(),
            next: vec![("soft report runs/a".into(), "look at it".into())],
        }
    }

    #[test]
    fn both_ends_of_an_interval_are_1_96_standard_deviations_from_the_share() {
        for (correct, total) in [(8, 10), (1, 10), (1190, 1308), (450, 1308)] {
            let share = correct as f64 / total as f64;
            for end in wilson(correct, total) {
                let deviation = (end * (1.0 - end) / total as f64).sqrt();
                assert!(((share - end).abs() / deviation - 1.96).abs() < 1e-4, "{correct} {end}");
            }
        }
    }

    #[test]
    fn an_interval_holds_its_share_and_stays_within_0_and_1() {
        assert_eq!(wilson(0, 0), [0.0, 1.0]);
        for correct in 0..=50 {
            let [low, high] = wilson(correct, 50);
            let share = correct as f64 / 50.0;
            assert!(0.0 <= low && low <= share && share <= high && high <= 1.0);
            assert!(high - low > 0.05, "even 0 and 50 of 50 leave doubt");
        }
    }

    #[test]
    fn the_file_has_the_keys_of_the_contract() {
        let json = serde_json::to_value(results()).expect("serialisable");
        let arm = &json["arms"][0];
        assert_eq!(arm["arm"], "soft");
        assert_eq!(json["arms"][1]["arm"], "soft_fed_hard");
        for key in ["accuracy", "interval", "steps", "seconds", "published", "checkpoint"] {
            assert!(arm.get(key).is_some(), "{key}");
        }
        assert_eq!(arm["interval"].as_array().map(Vec::len), Some(2));
        assert!(json["arms"][1]["published"].is_null());
        let read: Results = serde_json::from_value(json).expect("as written");
        assert_eq!(read, results());
    }

    #[test]
    fn the_table_lines_up_and_says_what_it_compares() {
        let table = results().table(&context());
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[1].len(), lines[0].len());
        assert_eq!(lines[2].len(), lines[0].len());
        for part in [
            "90.98 %",
            "98.94 %",
            "always 1",
            "34.25 %",
            "4,000",
            "28,672",
            "1308 held-out",
            "published: a paper",
            "reduced budget: at most 4,000 steps of 64 here, 329,000 steps of 16",
            "run directory: runs/a",
            "soft report runs/a  # look at it",
        ] {
            assert!(table.contains(part), "{part} is missing in\n{table}");
        }
    }

    #[test]
    fn nothing_is_called_reduced_at_the_published_budget() {
        let mut full = results();
        full.arms[0].steps = 329_000;
        full.arms[0].batch = 16;
        assert!(!full.table(&context()).contains("reduced budget"));
    }
}
