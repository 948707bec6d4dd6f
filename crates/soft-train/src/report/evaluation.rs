//! The page of an evaluation: what its figures can show, the arms, some rows.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::beside;
use super::markup::{counted, details, escape, figure, percent, round_figure, table};
use super::row::{self, Room};
use super::svg::{Dot, dots, whiskers};
use super::trace::{self, Trace};
use crate::error::Error;

/// A difference with a smaller p is called significant.
const LEVEL: f64 = 0.05;
/// Fewest pairs that differ, all in one direction, for which an exact paired test reaches
/// [`LEVEL`]: 2 / 2^6 = 0.031.
const FEWEST_PAIRS: u64 = 6;
/// Below this share of outputs with an answer, accuracy is about the extractor too.
const EXTRACTED: f64 = 0.95;
/// Tokens of the dearest arm over those of the cheapest, above which it is said.
const UNEQUAL: f64 = 1.25;
/// Questions of which every arm's row is shown.
const QUESTIONS: usize = 3;
/// Rows that are open at once.
const OPEN: usize = 2;

/// `results.json` of an evaluation.
#[derive(Debug, Default, Deserialize)]
pub(super) struct EvalResults {
    model: Option<String>,
    data: Option<String>,
    questions: Option<u64>,
    seeds: Option<u64>,
    budget: Option<f64>,
    baseline: Option<String>,
    extract: Option<String>,
    arms: Vec<EvalArm>,
    #[serde(default)]
    notes: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
struct EvalArm {
    arm: String,
    #[serde(default)]
    settings: Vec<String>,
    control: Option<String>,
    accuracy: f64,
    interval: Option<[f64; 2]>,
    correct: Option<u64>,
    total: Option<u64>,
    difference: Option<Difference>,
    extracted: Option<f64>,
    tokens: Option<f64>,
    seconds: Option<f64>,
    rates: Option<Map<String, Value>>,
}

#[derive(Debug, Default, Deserialize)]
struct Difference {
    accuracy: f64,
    p: Option<f64>,
}

/// The sections of the page.
///
/// # Errors
///
/// [`Error::Data`] if the rows are broken.
pub(super) fn sections(results: &EvalResults, traces: Option<&Path>) -> Result<String, Error> {
    let mut html = format!("<p class=\"about\">{}</p>\n", about(results));
    html.push_str("<section><h2>What these figures can show</h2>\n<ul>");
    for sentence in limits(results) {
        html.push_str(&format!("<li>{sentence}"));
    }
    for note in &results.notes {
        html.push_str(&format!("<li>{}", escape(note)));
    }
    html.push_str("</ul></section>\n<section><h2>Arms</h2>\n");
    html.push_str(&arms_table(results));
    html.push_str(&compute(results));
    html.push_str(&rates_table(results));
    html.push_str(&settings_table(results));
    html.push_str("</section>\n");
    if let Some(path) = traces {
        html.push_str(&samples(path)?);
    }
    Ok(html)
}

/// Which model on which data; escaped.
fn about(results: &EvalResults) -> String {
    let mut parts = Vec::new();
    let mut part = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            parts.push(format!("{name} <b>{}</b>", escape(&value)));
        }
    };
    part("model", results.model.clone());
    part("data", results.data.clone());
    part("questions", results.questions.map(|number| number.to_string()));
    part("seeds", results.seeds.map(|number| number.to_string()));
    part("tokens at most", results.budget.map(round_figure));
    part("answers found by", results.extract.clone());
    parts.join(" · ")
}

/// What the numbers can and cannot bear; escaped.
fn limits(results: &EvalResults) -> Vec<String> {
    let mut sentences = vec![certainty(results)];
    sentences.push(significance(results));
    if let (Some(1), Some(questions)) = (results.seeds, results.questions.filter(|&n| n > 0)) {
        let least = FEWEST_PAIRS as f64 / questions as f64;
        sentences.push(match least <= 1.0 {
            true => format!(
                "With {questions} questions asked once, a difference of fewer than {FEWEST_PAIRS} \
                 answers ({} points) can never be significant in an exact paired test.",
                round_figure(100.0 * least)
            ),
            false => {
                format!("{questions} questions are too few for any difference to be significant.")
            }
        });
    }
    match results.seeds {
        Some(1) => sentences.push(
            "One seed: how much an arm with sampling or noise varies by chance is not measured."
                .into(),
        ),
        Some(seeds) if seeds > 1 => sentences.push(format!(
            "Each question was asked under {seeds} seeds; answers to the same question are not \
             independent, so that intervals which count them as such are too narrow."
        )),
        _ => {}
    }
    sentences.extend(extraction(results));
    sentences.extend(budget(results));
    if results.arms.iter().any(|arm| arm.control.is_some()) {
        sentences.push(
            "Indented rows are controls of the arm above them: a control that does as well as its \
             arm says that what the control took away is not what helped."
                .into(),
        );
    }
    sentences
}

fn certainty(results: &EvalResults) -> String {
    let widths = results.arms.iter().filter_map(|arm| arm.interval).map(|[low, high]| high - low);
    let widest = widths.fold(0.0, f64::max);
    let answers = results.arms.iter().filter_map(|arm| arm.total).max();
    let answers = answers.map_or_else(String::new, |total| {
        format!(" from {} an arm", counted(total as usize, "answer"))
    });
    format!(
        "Each accuracy{answers} is known to about ± {} points or better (95 % intervals).",
        figure(50.0 * widest)
    )
}

fn significance(results: &EvalResults) -> String {
    let compared: Vec<(&EvalArm, &Difference, f64)> = results
        .arms
        .iter()
        .filter_map(|arm| {
            let difference = arm.difference.as_ref()?;
            Some((arm, difference, difference.p?))
        })
        .collect();
    let baseline = results
        .baseline
        .as_deref()
        .map_or_else(|| "the baseline".into(), |name| format!("<b>{}</b>", escape(name)));
    let controls = compared.iter().any(|(arm, ..)| arm.control.is_some());
    let baseline = if controls { baseline + ", controls from their arm" } else { baseline };
    let count = compared.len();
    if count == 0 {
        return "No arm is compared with another.".into();
    }
    let differing: Vec<String> = compared
        .iter()
        .filter(|(.., p)| *p < LEVEL)
        .map(|(arm, difference, p)| {
            format!(
                "<b>{}</b> ({} points, p = {})",
                escape(&arm_name(arm)),
                points(difference.accuracy),
                figure(*p)
            )
        })
        .collect();
    let rows = counted(count, "row");
    if differing.is_empty() {
        return format!(
            "Of {rows} compared, none differs significantly from {baseline} (p below {LEVEL}, \
             paired): the table gives no reason to prefer one. That is no proof that they are equal."
        );
    }
    let strict = LEVEL / count as f64;
    let holding = compared.iter().filter(|(.., p)| *p < strict).count();
    let correction = match count {
        1 => String::new(),
        _ => format!(
            " Of {count} comparisons, {} would fall below {LEVEL} by chance alone on average; {holding} \
             of these stay{} significant when that is allowed for (p below {}).",
            round_figure(LEVEL * count as f64),
            if holding == 1 { "s" } else { "" },
            round_figure(strict)
        ),
    };
    format!(
        "Significantly different from {baseline} (p below {LEVEL}, paired): {}.{correction}",
        differing.join(", ")
    )
}

/// Where answers were often not found.
fn extraction(results: &EvalResults) -> Option<String> {
    let low: Vec<String> = results
        .arms
        .iter()
        .filter_map(|arm| Some((arm, arm.extracted.filter(|&share| share < EXTRACTED)?)))
        .map(|(arm, share)| format!("<b>{}</b> ({})", escape(&arm_name(arm)), percent(share)))
        .collect();
    (!low.is_empty()).then(|| {
        format!(
            "An answer was found in fewer than {} % of the outputs of {}: accuracy there is also a \
             matter of the format and the token limit.",
            round_figure(100.0 * EXTRACTED),
            low.join(", ")
        )
    })
}

/// Where arms spent unequal numbers of tokens.
fn budget(results: &EvalResults) -> Option<String> {
    let by_tokens = |a: &(&EvalArm, f64), b: &(&EvalArm, f64)| a.1.total_cmp(&b.1);
    let spent = || results.arms.iter().filter_map(|arm| Some((arm, arm.tokens?)));
    let (least, most) = (spent().min_by(by_tokens)?, spent().max_by(by_tokens)?);
    (most.1 > UNEQUAL * least.1).then(|| {
        format!(
            "Arms spent unequal numbers of tokens a question, from {} (<b>{}</b>) to {} \
             (<b>{}</b>): a higher accuracy may have been bought with more computing.",
            figure(least.1),
            escape(&arm_name(least.0)),
            figure(most.1),
            escape(&arm_name(most.0))
        )
    })
}

/// An arm, or a control and its kind; not yet escaped.
fn arm_name(arm: &EvalArm) -> String {
    match &arm.control {
        Some(control) if !arm.arm.contains(control.as_str()) => format!("{}, {control}", arm.arm),
        _ => arm.arm.clone(),
    }
}

/// A difference of shares in points, with its sign.
fn points(difference: f64) -> String {
    let points = format!("{:+.1}", 100.0 * difference).replace('-', "−");
    if points.ends_with("0.0") && points.len() <= "−0.0".len() { "0.0".into() } else { points }
}

fn arms_table(results: &EvalResults) -> String {
    let ends = results.arms.iter().map(|arm| arm.interval.map_or(arm.accuracy, |ends| ends[1]));
    let most = scale_end(ends.fold(0.0, f64::max));
    let baseline = results.arms.iter().find(|arm| Some(&arm.arm) == results.baseline.as_ref());
    let reference = baseline.map(|arm| arm.accuracy);
    let scale = format!("0 to {} %", round_figure(100.0 * most));
    let head = vec![
        "arm",
        "accuracy",
        &scale,
        "95 % interval",
        "right",
        "difference",
        "p",
        "tokens",
        "seconds",
        "extracted",
    ];
    let rows: Vec<Vec<String>> =
        results.arms.iter().map(|arm| arm_cells(arm, most, reference)).collect();
    let caption = match &results.baseline {
        Some(name) => format!(
            "<p class=\"note\">Differences are in points against <b>{}</b>, whose accuracy is the \
             thin vertical line, and those of a control against its arm. Tokens are those computed for a question, seconds those of the whole \
             arm.</p>",
            escape(name)
        ),
        None => String::new(),
    };
    table(&head, &rows, "arms") + &caption
}

/// Accuracy over forward tokens; controls are no ways of thinking and are left out.
fn compute(results: &EvalResults) -> String {
    let dot = |arm: &EvalArm| {
        let interval = arm.interval.unwrap_or([arm.accuracy; 2]);
        Some(Dot { name: arm_name(arm), cost: arm.tokens?, share: arm.accuracy, interval })
    };
    let ways = results.arms.iter().filter(|arm| arm.control.is_none());
    let all: Vec<Dot> = ways.filter_map(dot).collect();
    let svg = dots("accuracy over forward tokens", "forward tokens a question", &all);
    svg.map_or_else(String::new, |svg| {
        format!(
            "<h3>At equal computing</h3>\n<figure>{svg}<figcaption>Accuracy over the tokens that \
             were computed for a question, all continuations together; bars are 95 % \
             intervals. Of two ways one above the other, the upper buys more with the \
             same.</figcaption></figure>\n"
        )
    })
}

fn arm_cells(arm: &EvalArm, most: f64, reference: Option<f64>) -> Vec<String> {
    let dash = || "–".to_owned();
    let name = match &arm.control {
        Some(control) => format!(
            "<span class=\"control\">{} <small>control: {}</small></span>",
            escape(&arm.arm),
            escape(control)
        ),
        None => format!("<b>{}</b>", escape(&arm.arm)),
    };
    let interval =
        arm.interval.map(|[low, high]| format!("{:.1} to {:.1}", 100.0 * low, 100.0 * high));
    let p = arm.difference.as_ref().and_then(|difference| difference.p);
    let p = p.map(|p| if p < LEVEL { format!("<b>{}</b>", figure(p)) } else { figure(p) });
    vec![
        name,
        percent(arm.accuracy),
        whiskers(arm.accuracy, arm.interval.unwrap_or([arm.accuracy; 2]), most, reference),
        interval.unwrap_or_else(dash),
        arm.correct.zip(arm.total).map_or_else(dash, |(right, total)| format!("{right} / {total}")),
        arm.difference.as_ref().map_or_else(dash, |difference| points(difference.accuracy)),
        p.unwrap_or_else(dash),
        arm.tokens.map_or_else(dash, figure),
        arm.seconds.map_or_else(dash, figure),
        arm.extracted.map_or_else(dash, percent),
    ]
}

/// How often each rule acted in each arm.
fn rates_table(results: &EvalResults) -> String {
    let rates: BTreeSet<&String> =
        results.arms.iter().filter_map(|arm| arm.rates.as_ref()).flat_map(Map::keys).collect();
    if rates.is_empty() {
        return String::new();
    }
    let names: Vec<String> = rates.iter().map(|rate| escape(&rate.replace('_', " "))).collect();
    let head: Vec<&str> = ["arm"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let row = |arm: &EvalArm| {
        let cells = rates.iter().map(|rate| rate_cell(arm, rate));
        [escape(&arm_name(arm))].into_iter().chain(cells).collect()
    };
    let rows: Vec<Vec<String>> = results.arms.iter().map(row).collect();
    details("How often each rule acted", &table(&head, &rows, "rates"), true)
}

fn rate_cell(arm: &EvalArm, rate: &str) -> String {
    match arm.rates.as_ref().and_then(|rates| rates.get(rate)) {
        None | Some(Value::Null) => "–".into(),
        Some(value) => match value.as_f64() {
            Some(number) => figure(number),
            None => escape(&value.to_string()),
        },
    }
}

/// A round end of the scale at or over a share.
fn scale_end(share: f64) -> f64 {
    [0.05, 0.1, 0.2, 0.4, 0.6, 0.8].into_iter().find(|end| share <= *end).unwrap_or(1.0)
}

fn settings_table(results: &EvalResults) -> String {
    let rows: Vec<Vec<String>> = results
        .arms
        .iter()
        .filter(|arm| !arm.settings.is_empty())
        .map(|arm| {
            let settings = escape(&arm.settings.join(" "));
            vec![escape(&arm_name(arm)), format!("<code>{settings}</code>")]
        })
        .collect();
    match rows.is_empty() {
        true => String::new(),
        false => {
            details("Settings of the arms", &table(&["arm", "settings"], &rows, "texts"), false)
        }
    }
}

/// The rows of the first questions.
fn samples(path: &Path) -> Result<String, Error> {
    let mut prompts: Vec<Vec<u32>> = Vec::new();
    let (rows, all) = trace::read(path, |row| {
        if prompts.contains(&row.prompt_ids) {
            return true;
        }
        let keep = prompts.len() < QUESTIONS;
        if keep {
            prompts.push(row.prompt_ids.clone());
        }
        keep
    })?;
    let mut room = Room::default();
    let mut questions = String::new();
    let (mut shown, mut opened) = (0, 0);
    for (number, prompt) in prompts.iter().enumerate() {
        let of_prompt = rows.iter().filter(|row| row.prompt_ids == *prompt);
        let fitting: Vec<&Trace> = of_prompt.filter(|row| room.take(row)).collect();
        if fitting.is_empty() {
            continue;
        }
        let titles = titles(&fitting);
        questions.push_str(&format!("<h2>Question {}</h2>\n", number + 1));
        questions.push_str(&beside::section(&fitting, &titles));
        for (at, (row, title)) in fitting.iter().zip(&titles).enumerate() {
            let anchor = format!("question-{}-{}", number + 1, at + 1);
            questions.push_str(&row::section(row, title, &anchor, opened < OPEN, &room));
            opened += 1;
        }
        shown += fitting.len();
    }
    let left_out = match all.saturating_sub(shown) {
        0 => "all are shown".into(),
        more => format!("{} left out to keep this page small", counted(more, "row")),
    };
    Ok(format!(
        "<section><h2>Sampled rows</h2>\n<p class=\"note\">{} of {} in <code>{}</code>: those of \
         the first {} in the file, not chosen by how they went; {left_out}.</p>\n{questions}</section>\n",
        counted(shown, "row"),
        all,
        escape(&path.display().to_string()),
        counted(prompts.len(), "question"),
    ))
}

/// A title for each row: its name, with a number where several have the same.
pub(super) fn titles(rows: &[&Trace]) -> Vec<String> {
    let name = |row: &Trace| row.name.clone().unwrap_or_else(|| "Row".into());
    let title = |(at, row): (usize, &&Trace)| {
        let own = name(row);
        let same = rows.iter().filter(|other| name(other) == own).count();
        let before = rows[..at].iter().filter(|other| name(other) == own).count();
        if same > 1 { format!("{own} {}", before + 1) } else { own }
    };
    rows.iter().enumerate().map(title).collect()
}
