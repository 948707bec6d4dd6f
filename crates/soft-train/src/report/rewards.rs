//! The part of a page about rewards: what they did, signs of trouble, what rows wrote.

use serde_json::Value;

use super::markup::{details, escape, figure, table};
use super::run::ArmMetrics;
use crate::results::thousands;
use crate::rl::Alarms;

/// Figures that are compared, begin with end: key, what it is, and its healthy range where there is
/// one.
const FIGURES: [(&str, &str, &str); 12] = [
    ("reward", "mean reward", ""),
    ("reward/pathwise", "mean reward of what the model feeds itself", ""),
    ("reward_std", "its spread within a group", ""),
    ("frac_reward_zero_std", "groups whose rewards do not differ", "under 0.8"),
    ("entropy", "entropy of what is drawn from, nats", "over 0.01"),
    ("kl", "divergence from the first model, nats a draw", "under 2"),
    ("clip_ratio/region_mean", "clipped draws", "under 0.3"),
    ("ratio/min", "least ratio", "over 0.1"),
    ("ratio/max", "largest ratio", ""),
    ("completions/mean_length", "tokens of a row", ""),
    ("completions/clipped_ratio", "rows cut off", "under 0.8"),
    ("thoughts/mean_length", "steps of a thought", ""),
];
/// Parts of a step's time.
const TIMES: [(&str, &str); 3] =
    [("rollout_seconds", "drawing"), ("reward_seconds", "rewarding"), ("update_seconds", "update")];
/// A text in a table is cut to so many characters.
const TEXT: usize = 400;

/// The sections of all arms that were rewarded; empty where none was.
pub(super) fn section(arms: &[ArmMetrics]) -> String {
    let own = |arm: &ArmMetrics| {
        let rewarded = arm.records.iter().any(|record| record.get("reward").is_some());
        rewarded.then(|| {
            let name = arm
                .name
                .as_deref()
                .map_or_else(String::new, |name| format!("<h3>{}</h3>\n", escape(name)));
            name + &alarms(arm) + &course(arm) + &times(arm) + &completions(arm)
        })
    };
    let all: String = arms.iter().filter_map(own).collect();
    if all.is_empty() {
        return all;
    }
    format!("<section><h2>Rewards</h2>\n{all}</section>\n")
}

/// What was said while it trained.
fn alarms(arm: &ArmMetrics) -> String {
    let mut alarms = Alarms::default();
    let mut html = String::new();
    // They are about draws.
    let drawn = arm.records.iter().filter(|record| record.get("ratio/min").is_some());
    for record in drawn {
        let step = record.get("step").and_then(Value::as_u64).unwrap_or(0);
        for warning in alarms.after(&|key| record.get(key)?.as_f64()) {
            let text = format!("step {}: {warning}", thousands(step));
            html.push_str(&format!("<p class=\"warning\">{}</p>\n", escape(&text)));
        }
    }
    html
}

/// The first and the last tenth of the steps.
fn course(arm: &ArmMetrics) -> String {
    let mean = |records: &[&Value], key: &str| {
        let values: Vec<f64> =
            records.iter().filter_map(|record| record.get(key)?.as_f64()).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let records: Vec<&Value> =
        arm.records.iter().filter(|record| record.get("reward").is_some()).collect();
    let tenth = (records.len() / 10).max(1);
    let (first, last) = (&records[..tenth], &records[records.len() - tenth..]);
    let mut rows = Vec::new();
    let mut add = |key: &str, what: &str, healthy: &str| {
        let (Some(begin), Some(end)) = (mean(first, key), mean(last, key)) else { return };
        let name = format!("<code>{}</code> {}", escape(key), escape(what));
        rows.push(vec![name, figure(begin), figure(end), escape(healthy)]);
    };
    for (key, what, healthy) in FIGURES {
        add(key, what, healthy);
    }
    let parts = records.last().and_then(|record| record.as_object()).into_iter().flatten();
    for (key, _) in parts.filter(|(key, _)| key.starts_with("rewards/") && key.ends_with("/mean")) {
        add(key, "a reward apart", "");
    }
    let head = ["figure", "first tenth", "last tenth", "healthy"];
    table(&head, &rows, "texts")
}

/// Where the time went.
fn times(arm: &ArmMetrics) -> String {
    let sum =
        |key: &str| -> f64 { arm.times.iter().filter_map(|line| line.get(key)?.as_f64()).sum() };
    let total = sum("seconds");
    if total <= 0.0 {
        return String::new();
    }
    let part = |(key, name): (&str, &str)| {
        let seconds = sum(key);
        let mean = 1e3 * seconds / arm.times.len() as f64;
        format!("{name} {} ms ({:.0} %)", figure(mean), 100.0 * seconds / total)
    };
    let parts: Vec<String> = TIMES.into_iter().map(part).collect();
    let mean = figure(1e3 * total / arm.times.len() as f64);
    format!("<p class=\"note\">A step takes {mean} ms in the mean: {}.</p>\n", parts.join(", "))
}

/// What the rows of a group wrote, at the first and the last step that was told of.
fn completions(arm: &ArmMetrics) -> String {
    let step = |line: &Value| line.get("step").and_then(Value::as_u64);
    let Some(first) = arm.completions.first().and_then(step) else { return String::new() };
    let last = arm.completions.last().and_then(step).unwrap_or(first);
    let steps = if first == last { vec![last] } else { vec![first, last] };
    let of_step = |at: u64| {
        let lines = arm.completions.iter().filter(|line| step(line) == Some(at));
        let text = |line: &Value, key: &str| {
            let text: String = match &line[key] {
                Value::Array(texts) => {
                    let texts: Vec<&str> = texts.iter().filter_map(Value::as_str).collect();
                    texts.join(" | ")
                }
                other => other.as_str().unwrap_or_default().to_owned(),
            };
            let cut: String = text.chars().take(TEXT).collect();
            escape(&if cut.len() < text.len() { cut + "…" } else { cut })
        };
        let number = |line: &Value, key: &str| line[key].as_f64().map_or("–".into(), figure);
        let row = |line: &Value| {
            let right = if line["correct"].as_bool() == Some(true) { "✓" } else { "" };
            vec![
                format!("<span class=\"wrote\">{}</span>", text(line, "thoughts")),
                format!("<span class=\"wrote\">{}</span>", text(line, "answer")),
                right.to_owned(),
                number(line, "reward"),
                number(line, "advantage"),
                number(line, "tokens"),
            ]
        };
        let lines: Vec<&Value> = lines.collect();
        let prompt = lines.first().map_or_else(String::new, |line| {
            let expected = text(line, "expected");
            format!("<p><b>{}</b><br>expected: {expected}</p>\n", text(line, "prompt"))
        });
        let head = ["thought, as it is read", "answer", "right", "reward", "advantage", "tokens"];
        let rows: Vec<Vec<String>> = lines.into_iter().map(row).collect();
        let name = format!("A group at step {}", thousands(at));
        details(&name, &(prompt + &table(&head, &rows, "samples")), at == last)
    };
    steps.into_iter().map(of_step).collect()
}
