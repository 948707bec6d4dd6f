//! The page of a training: how it went, its arms, its curves, how to repeat it.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::markup::{counted, details, escape, figure, percent, table};
use super::row::key;
use super::run::{ArmMetrics, Run};
use super::svg::{LinePlot, Series, whiskers};
use crate::results::thousands;

/// Curves that every training has, in the order in which they are looked at.
const CURVES: [&str; 6] =
    ["loss", "cross_entropy", "entropy", "guidance", "grad_norm", "learning_rate"];
/// Keys that count and are no curve.
const COUNTS: [&str; 2] = ["step", "num_tokens"];
/// The forgetting meter.
const TEXT_PERPLEXITY: &str = "valid/text_perplexity";
/// What is measured on held-out examples begins with this.
const HELD_OUT: &str = "valid/";

/// `results.json` of a training, as far as this page needs it.
#[derive(Debug, Default, Deserialize)]
pub(super) struct TrainResults {
    arms: Vec<TrainArm>,
    #[serde(default)]
    endings: Vec<TrainEnding>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TrainEnding {
    arm: String,
    steps: u64,
    early: Option<String>,
    best: Option<TrainBest>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TrainBest {
    metric: String,
    value: f64,
    step: u64,
    checkpoint: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct TrainArm {
    arm: String,
    accuracy: f64,
    interval: Option<[f64; 2]>,
    correct: Option<u64>,
    total: Option<u64>,
    steps: Option<u64>,
    batch: Option<u64>,
    seconds: Option<f64>,
    published: Option<f64>,
    checkpoint: Option<String>,
    parameters: Option<u64>,
    seed: Option<u64>,
}

/// The sections of the page; `results` where the run came to its end.
pub(super) fn sections(run: &Run, results: Option<&TrainResults>) -> String {
    let arms = results.map_or(&[][..], |results| &results.arms);
    let mut html = format!("<section><h2>Verdict</h2>\n{}</section>\n", verdict(run, results));
    if !arms.is_empty() {
        html.push_str(&format!("<section><h2>Arms</h2>\n{}</section>\n", arms_table(arms)));
    }
    html.push_str(&checkpoints(arms, results.map_or(&[], |results| &results.endings)));
    html.push_str(&super::rewards::section(&run.metrics));
    let curves = curves(run, arms);
    if !curves.is_empty() {
        html.push_str(&format!("<section><h2>Curves</h2>\n{curves}</section>\n"));
    }
    if run.config.is_some() {
        html.push_str(&format!("<section><h2>Again</h2>\n{}</section>\n", again(&run.path)));
    }
    html
}

impl TrainBest {
    /// Escaped.
    fn figure(&self) -> String {
        let (value, step) = (figure(self.value), thousands(self.step));
        format!("({} {value} at step {step})", escape(&self.metric))
    }
}

fn verdict(run: &Run, results: Option<&TrainResults>) -> String {
    let mut html = String::new();
    let mut say = |class: &str, text: &str| {
        html.push_str(&format!("<p class=\"{class}\">{text}</p>\n"));
    };
    let planned = planned_steps(run);
    let of_planned = planned.map_or_else(String::new, |steps| format!(" of {}", thousands(steps)));
    let last = run.metrics.iter().filter_map(|arm| step(arm.records.last()?)).max();
    match (results, last) {
        (Some(_), Some(last)) => {
            say("verdict", &format!("Finished, after step {}{of_planned}.", thousands(last)))
        }
        (Some(_), None) => say("verdict", "Finished; no steps are recorded."),
        (None, Some(last)) => say(
            "warning",
            &format!(
                "Not finished: there is no results.json. The last step recorded is {}{of_planned}; \
                 the run goes on, was interrupted, or failed.",
                thousands(last)
            ),
        ),
        (None, None) => say("warning", "Not finished, and no steps are recorded."),
    }
    for ending in results.map_or(&[][..], |results| &results.endings) {
        let arm = escape(&ending.arm);
        if let Some(why) = &ending.early {
            let steps = thousands(ending.steps);
            say("note", &format!("{arm}: ended early, after step {steps}: {}.", escape(why)));
        }
        if let Some(best) = &ending.best {
            let kept = match best.checkpoint {
                Some(_) => "its checkpoint is kept",
                None => "its checkpoint was not kept",
            };
            say("note", &format!("{arm}: the best evaluation {}; {kept}.", best.figure()));
        }
    }
    for ArmMetrics { name, records, broken, .. } in &run.metrics {
        let name = name.as_deref().map(|name| format!("{}: ", escape(name))).unwrap_or_default();
        if let Some(steps) = broken_steps(broken) {
            say("warning", &format!("{name}{steps}"));
        } else if let Some(at) =
            records.iter().find(|record| record.get("loss") == Some(&Value::Null))
        {
            let at = step(at).map_or_else(|| "a step".into(), |step| format!("step {step}"));
            say("warning", &format!("{name}The loss is no finite number at {at}."));
        }
        for course in held_out(records) {
            say("note", &format!("{name}{course}"));
        }
        if let Some(change) = forgetting(records) {
            say("note", &format!("{name}{change}"));
        }
    }
    if let Some(results) = results.filter(|results| !results.arms.is_empty()) {
        say("note", &limits(&results.arms));
    }
    html
}

/// What `nonfinite.jsonl` says; escaped.
fn broken_steps(broken: &[Value]) -> Option<String> {
    let last = broken.last()?;
    let text = |key: &str| escape(last[key].as_str().unwrap_or("tensor"));
    let skipped = broken.iter().filter(|step| step["action"] == "skip").count();
    let at = step(last).map_or_else(|| "a step".into(), |step| format!("step {}", thousands(step)));
    let end = match last["action"] == "skip" {
        true => format!("was skipped, the last of {}", counted(skipped, "such step")),
        false if skipped > 0 => {
            format!("ended the training, after {} that were skipped", counted(skipped, "such step"))
        }
        false => "ended the training".to_owned(),
    };
    Some(format!(
        "At {at} the {} was not finite; it {end}. nonfinite.jsonl names their rows.",
        text("first")
    ))
}

/// What the table can show.
fn limits(arms: &[TrainArm]) -> String {
    let problems = arms.iter().filter_map(|arm| arm.total).max().unwrap_or(0);
    let mut seeds: Vec<u64> = arms.iter().filter_map(|arm| arm.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    let seeds = match seeds.len() {
        0 => String::new(),
        count => format!(" of {}", counted(count, "seed")),
    };
    let published = match arms.iter().any(|arm| arm.published.is_some()) {
        true => {
            " Published figures were reached with the authors' own budget of steps and examples, \
             which may be many times the one here."
        }
        false => "",
    };
    format!(
        "Accuracy is exact match on {} held out, each model running freely from its prompt. The \
         intervals are about these problems and one trained model{seeds}: how much another seed \
         would change is not in them.{published}",
        counted(problems as usize, "problem")
    )
}

fn step(record: &Value) -> Option<u64> {
    record.get("step")?.as_u64()
}

fn planned_steps(run: &Run) -> Option<u64> {
    let config: toml::Table = run.config.as_ref()?.parse().ok()?;
    config.get("train")?.get("steps")?.as_integer().and_then(|steps| u64::try_from(steps).ok())
}

/// The course of every held-out measure: first, last and best; escaped.
fn held_out(records: &[Value]) -> Vec<String> {
    let mut keys: Vec<&String> = Vec::new();
    for key in records.iter().filter_map(Value::as_object).flat_map(|record| record.keys()) {
        if key.starts_with(HELD_OUT) && !keys.contains(&key) {
            keys.push(key);
        }
    }
    let course = |key: &&String| {
        let points = points(records, key);
        let by_value = |a: &&(u64, f64), b: &&(u64, f64)| a.1.total_cmp(&b.1);
        let more_is_better = key.contains("accuracy") || key.contains("reward");
        let best = match more_is_better {
            true => points.iter().max_by(by_value),
            false => points.iter().min_by(by_value),
        }?;
        let at = |point: &(u64, f64)| match point.0 {
            0 => format!("{} before training", figure(point.1)),
            step => format!("{} at step {}", figure(point.1), thousands(step)),
        };
        Some(match &points[..] {
            [first, .., last] => {
                format!("{}: {}, {}; best {}.", escape(key), at(first), at(last), at(best))
            }
            _ => format!("{}: {}.", escape(key), at(best)),
        })
    };
    keys.iter().filter_map(course).collect()
}

/// The finite values of a measure with their steps.
fn points(records: &[Value], key: &str) -> Vec<(u64, f64)> {
    let point = |record: &Value| Some((step(record)?, record.get(key)?.as_f64()?));
    records.iter().filter_map(point).collect()
}

/// What the forgetting meter says: how much more plain text perplexes the model than before.
fn forgetting(records: &[Value]) -> Option<String> {
    let points = points(records, TEXT_PERPLEXITY);
    let [(0, before), .., (step, after)] = points[..] else { return None };
    let change = 100.0 * (after / before - 1.0);
    let verdict = match change {
        change if change > 1.0 => "the model has forgotten some of what it knew",
        change if change < -1.0 => "the training has taught it something of plain text too",
        _ => "nothing worth mentioning is forgotten",
    };
    Some(format!(
        "Forgetting: the perplexity of plain text went from {} to {} ({change:+.1} %) by step {}: \
         {verdict}.",
        figure(before),
        figure(after),
        thousands(step)
    ))
}

fn arms_table(arms: &[TrainArm]) -> String {
    let head = [
        "arm",
        "accuracy",
        "0 to 100 %",
        "95 % interval",
        "right",
        "published",
        "steps",
        "batch",
        "seconds",
        "parameters",
    ];
    let dash = || "–".to_owned();
    let row = |arm: &TrainArm| {
        vec![
            format!("<b>{}</b>", escape(&arm.arm)),
            percent(arm.accuracy),
            whiskers(arm.accuracy, arm.interval.unwrap_or([arm.accuracy; 2]), 1.0, arm.published),
            arm.interval.map_or_else(dash, |[low, high]| {
                format!("{:.1} to {:.1}", 100.0 * low, 100.0 * high)
            }),
            arm.correct.zip(arm.total).map_or_else(dash, |(right, of)| format!("{right} / {of}")),
            arm.published.map_or_else(dash, percent),
            arm.steps.map_or_else(dash, thousands),
            arm.batch.map_or_else(dash, thousands),
            arm.seconds.map_or_else(dash, figure),
            arm.parameters.map_or_else(dash, thousands),
            arm.checkpoint
                .as_deref()
                .map_or_else(dash, |path| format!("<code>{}</code>", escape(path))),
        ]
    };
    let rows: Vec<Vec<String>> = arms.iter().map(row).collect();
    let note = match arms.iter().any(|arm| arm.published.is_some()) {
        true => "<p class=\"note\">The thin vertical line is the published accuracy.</p>",
        false => "",
    };
    table(&head, &rows, "arms") + note
}

/// Where the models lie, the last and the best of each arm; arms that feed one model differently
/// share it.
fn checkpoints(arms: &[TrainArm], endings: &[TrainEnding]) -> String {
    let code = |path: &str| format!("<code>{}</code>", escape(path));
    let last = |arm: &TrainArm| {
        let path = arm.checkpoint.as_deref().filter(|path| !path.is_empty())?;
        Some(vec![format!("{}, last", escape(&arm.arm)), code(path)])
    };
    let best = |ending: &TrainEnding| {
        let best = ending.best.as_ref()?;
        let path = best.checkpoint.as_deref()?;
        Some(vec![format!("{}, best {}", escape(&ending.arm), best.figure()), code(path)])
    };
    let mut rows: Vec<Vec<String>> = arms.iter().filter_map(last).collect();
    rows.extend(endings.iter().filter_map(best));
    match rows.is_empty() {
        true => String::new(),
        false => details("Checkpoints", &table(&["arm", "path"], &rows, "texts"), false),
    }
}

/// A plot a measure, an arm a line.
fn curves(run: &Run, arms: &[TrainArm]) -> String {
    let mut keys: Vec<String> = CURVES.map(str::to_owned).into();
    let records = run.metrics.iter().flat_map(|arm| &arm.records);
    for (key, value) in records.filter_map(Value::as_object).flatten() {
        if value.is_number() && !COUNTS.contains(&key.as_str()) && !keys.contains(key) {
            keys.push(key.clone());
        }
    }
    let first = arms.first().map_or("this run", |arm| arm.arm.as_str());
    let names: Vec<&str> =
        run.metrics.iter().map(|arm| arm.name.as_deref().unwrap_or(first)).collect();
    let tells = |name: &&String| !is_zero(run, name) && !is_the_loss(run, name);
    let plots: String = keys.iter().filter(tells).filter_map(|name| curve(run, name)).collect();
    if plots.is_empty() {
        return plots;
    }
    let legend: Vec<String> = names
        .iter()
        .enumerate()
        .map(|(at, name)| format!("{} {}", key(at), escape(name)))
        .collect();
    format!(
        "<p class=\"legend\">{} · against the step; long curves keep the least and the greatest \
         of each bin</p><div class=\"plots\">{plots}</div>\n",
        legend.join(" ")
    )
}

/// Whether a measure is 0 at every step: a weight that is off.
fn is_zero(run: &Run, name: &str) -> bool {
    let records = || run.metrics.iter().flat_map(|arm| &arm.records);
    records().all(|record| record.get(name).is_none_or(|value| value.as_f64() == Some(0.0)))
}

/// Whether a measure is the loss itself, as the cross-entropy is where nothing is added to it.
fn is_the_loss(run: &Run, name: &str) -> bool {
    let mut records = run.metrics.iter().flat_map(|arm| &arm.records);
    name == "cross_entropy" && records.all(|record| record.get(name) == record.get("loss"))
}

fn curve(run: &Run, name: &str) -> Option<String> {
    let line = |(color, arm): (usize, &ArmMetrics)| {
        let point = |record: &Value| {
            let value = record.get(name)?;
            Some((step(record)? as f64, value.as_f64()))
        };
        Series { color, points: arm.records.iter().filter_map(point).collect() }
    };
    let description = format!("{name} by step");
    let series = run.metrics.iter().enumerate().map(line).collect();
    let svg = LinePlot { description, series, ..LinePlot::default() }.svg()?;
    let caption = escape(&name.replace('_', " "));
    Some(format!("<figure><figcaption><b>{caption}</b></figcaption>{svg}</figure>\n"))
}

/// The command that makes the run once more, under another name.
fn again(path: &Path) -> String {
    let config = path.join(crate::run_dir::CONFIG).display().to_string();
    let name = path.file_name().map_or_else(|| "run".into(), |name| name.to_string_lossy());
    format!(
        "<pre>soft train -c {} run.name={}</pre>\n<p class=\"note\">On the same machine and \
         version the numbers come out the same.</p>\n",
        escape(&quoted(&config)),
        escape(&quoted(&format!("{name}-again")))
    )
}

/// A word of a shell.
fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+=:@%".contains(letter);
    if word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}
