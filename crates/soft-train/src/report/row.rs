//! One generated row on a page: verdict, text, belief, plots, values.

use super::belief;
use super::markup::{counted, details, escape, figure_or_dash, round_figure, table, token_label};
use super::svg::{Guide, LinePlot, Mark, Series};
use super::trace::{Step, Trace};
use super::verdict::{ONE_TOKEN, Verdict, effective_tokens};

/// Steps of a page for which everything is shown; beyond, tables are left out and hints short.
const DETAILED: usize = 2_000;
/// Steps of a page for which anything is shown.
const SHOWN: usize = 6_000;
/// Entries that the pointer is told over a token, and in long pages.
const HINTS: [usize; 2] = [10, 3];
/// Entries in the table of values.
const TABLE_ENTRIES: usize = 3;
/// Vertical marks in a plot; more would hide the line.
const MARKS: usize = 60;
/// Events that are listed.
const LISTED_EVENTS: usize = 40;

/// What a page has room for, in steps.
#[derive(Debug, Default)]
pub(super) struct Room {
    used: usize,
}

impl Room {
    /// Takes the steps of a row, or says that they do not fit. The first row always fits.
    pub(super) fn take(&mut self, row: &Trace) -> bool {
        let steps = row.steps.len().min(SHOWN);
        if self.used > 0 && self.used + steps > SHOWN {
            return false;
        }
        self.used += steps.max(1);
        true
    }

    fn is_detailed(&self) -> bool {
        self.used <= DETAILED
    }
}

/// The section of a row, escaped. `anchor` is its place in the page.
pub(super) fn section(row: &Trace, title: &str, anchor: &str, open: bool, room: &Room) -> String {
    let cut;
    let (row, note) = match row.steps.len() > SHOWN {
        false => (row, String::new()),
        true => {
            cut = Trace { steps: row.steps[..SHOWN].to_vec(), ..row.clone() };
            let note = format!("<p class=\"note\">Only the first {SHOWN} steps are shown.</p>");
            (&cut, note)
        }
    };
    let content = [
        note,
        verdict(row),
        outcome(row),
        prompt(row),
        text(row, HINTS[usize::from(!room.is_detailed())]),
        belief::figure(row),
        events(row),
        plots(row),
        values(row, room),
    ];
    let summary = format!("<h3>{}</h3>", escape(title));
    format!(
        "<section class=\"row\" id=\"{anchor}\">{}</section>\n",
        details(&summary, &content.concat(), open)
    )
}

fn verdict(row: &Trace) -> String {
    let verdict = Verdict::of(row);
    let mut html = format!("<p class=\"verdict\">{}</p>\n", verdict.sentence(row));
    if let Some(sentence) = verdict.off.sentence() {
        let class = if verdict.off.is_warning() { "warning" } else { "note" };
        html.push_str(&format!("<p class=\"{class}\">{sentence}</p>\n"));
    }
    html
}

/// The answer and the one expected, where the row was an exam question.
fn outcome(row: &Trace) -> String {
    if row.answer.is_none() && row.expected.is_none() && row.correct.is_none() {
        return String::new();
    }
    format!("<p>{}</p>\n", outcome_line(row))
}

/// `right: 13`, or `wrong: 12, expected 13`; escaped.
pub(super) fn outcome_line(row: &Trace) -> String {
    let shown = |text: &Option<String>| {
        text.as_deref()
            .map_or_else(|| "none found".into(), |text| format!("<b>{}</b>", escape(text)))
    };
    let (mark, word) = match row.correct {
        Some(true) => ("right", "✓ right"),
        Some(false) => ("wrong", "✗ wrong"),
        None => ("", "not judged"),
    };
    let expected = match (&row.expected, row.correct) {
        (Some(_), Some(true)) | (None, _) => String::new(),
        (expected, _) => format!(", expected {}", shown(expected)),
    };
    format!("<span class=\"{mark}\">{word}</span>: answer {}{expected}", shown(&row.answer))
}

fn prompt(row: &Trace) -> String {
    let tokens = counted(row.prompt_ids.len(), "token");
    match &row.prompt {
        Some(prompt) => details(
            &format!("Prompt ({tokens})"),
            &format!("<pre class=\"prompt\" dir=\"auto\">{}</pre>", escape(prompt)),
            prompt.chars().count() <= 400,
        ),
        None if row.prompt_ids.is_empty() => String::new(),
        None => {
            let ids: Vec<String> = row.prompt_ids.iter().map(u32::to_string).collect();
            let ids = format!("<pre class=\"prompt\">{}</pre>", ids.join(" "));
            details(&format!("Prompt as token ids ({tokens})"), &ids, false)
        }
    }
}

/// The text, token by token, cut where thoughts end and the answer begins.
fn text(row: &Trace, hints: usize) -> String {
    if row.steps.is_empty() {
        return match &row.text {
            Some(text) => format!("<p class=\"text\" dir=\"auto\">{}</p>", escape(text)),
            None => String::new(),
        };
    }
    let mut html = String::from("<figure><figcaption><b>Text.</b> ");
    html.push_str(
        "The more a token is tinted, the less weight the heaviest token of its step had; dotted \
         underline: a mixture was fed back. The pointer over a token shows the weights.</figcaption>",
    );
    for part in row.steps.chunk_by(|a, b| a.phase == b.phase) {
        let (class, name) = match part[0].phase.as_deref() {
            Some("think") => ("think", "thoughts"),
            Some("answer") => ("answer", "answer"),
            Some(other) => ("", other),
            None => ("", ""),
        };
        if !name.is_empty() {
            let steps = counted(part.len(), "step");
            html.push_str(&format!("<p class=\"phase\">{} · {steps}</p>", escape(name)));
        }
        html.push_str(&format!("<p class=\"text {class}\" dir=\"auto\">"));
        html.extend(part.iter().map(|step| token(step, hints)));
        html.push_str("</p>\n");
    }
    html.push_str("</figure>\n");
    html
}

/// A token of the text with its certainty.
fn token(step: &Step, hints: usize) -> String {
    let shown = match step.token.as_deref() {
        Some(token) if !token.is_empty() => escape(token).replace('\n', "↵\n"),
        _ => format!(" #{}", step.token_id),
    };
    // A weight over 0.99 counts as certain: no tint at all.
    let doubt = step.top_weight().map_or(0.0, |top| (1.0 - top).clamp(0.0, 1.0));
    let doubt = if doubt < 1.0 - ONE_TOKEN { 0 } else { (doubt * 5.0).ceil() as usize };
    // One letter each, for there is one for every token.
    let soft = if step.is_soft() { " m" } else { "" };
    let mut html = format!("<i class=\"d{doubt}{soft}\"");
    let hint = belief::hint(step, hints);
    if !hint.is_empty() {
        html.push_str(&format!(" title=\"{}\"", escape(&hint)));
    }
    html.push_str(&format!(">{shown}</i>"));
    if let Some(event) = &step.event {
        html.push_str(&format!("<span class=\"event\">{}</span>", escape(&spoken(event))));
    }
    html
}

/// `cold_stop` as people write it.
fn spoken(event: &str) -> String {
    event.replace('_', " ")
}

fn events(row: &Trace) -> String {
    let found =
        || row.steps.iter().enumerate().filter_map(|(at, step)| Some((at, step.event.as_ref()?)));
    let count = found().count();
    if count == 0 {
        return String::new();
    }
    let listed: Vec<String> = found()
        .take(LISTED_EVENTS)
        .map(|(at, event)| format!("step {at} {}", escape(&spoken(event))))
        .collect();
    let more = match count.saturating_sub(LISTED_EVENTS) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    format!("<p><b>Events:</b> {}{more}.</p>\n", listed.join(", "))
}

type Measure = fn(&Step) -> Option<f64>;

fn plots(row: &Trace) -> String {
    let thresholds = row.thresholds.clone().unwrap_or_default();
    let mut guides = Vec::new();
    let mut caption = String::from("<b>Entropy</b> in nats.");
    if let Some(value) = thresholds.cold_stop_nats {
        guides.push(Guide { value, text: format!("cold stop {}", round_figure(value)) });
    }
    if let Some(value) = thresholds.gate {
        match thresholds.gate_unit.as_deref() {
            None | Some("nats") => {
                guides.push(Guide { value, text: format!("gate {}", round_figure(value)) });
            }
            Some(unit) => caption.push_str(&format!(
                " Gate at {} ({}), another unit and not drawn.",
                round_figure(value),
                escape(unit)
            )),
        }
    }
    if !guides.is_empty() {
        let names: Vec<&str> = guides.iter().map(|guide: &Guide| guide.text.as_str()).collect();
        let names = names.join(", ");
        caption.push_str(&format!(" <span class=\"key kg\"></span> thresholds: {names}."));
    }
    caption.push_str(" Vertical: events, and the stop at the end.");
    let entropy = [Some(Line { color: 0, of: |step| step.entropy_nats })];
    let effective = [Some(Line { color: 0, of: effective_tokens })];
    let norm = [
        Some(Line { color: 0, of: |step| step.norm }),
        Some(Line { color: 1, of: |step| step.token_norm }),
    ];
    let distance = [
        Some(Line { color: 0, of: |step| step.nearest.as_ref().map(super::trace::Entry::value) }),
        Some(Line { color: 1, of: |step| step.hull_distance }),
    ];
    let band = row.embedding_norm.map(|band| [band.low, band.high]);
    let norm_caption = format!(
        "{} <b>Norm of what was fed</b>, {} mean norm of the tokens mixed{}.",
        key(0),
        key(1),
        if band.is_some() { ", on the band of token norms (5th to 95th percentile)" } else { "" }
    );
    let distance_caption = format!(
        "{} <b>Distance to the nearest token</b>, {} distance to the hull of the tokens mixed.",
        key(0),
        key(1)
    );
    let parts = [
        plot(row, "Entropy by step, in nats", &caption, &entropy, guides, None),
        plot(
            row,
            "Effective number of tokens by step",
            "<b>Effective number of tokens</b>, exp(entropy).",
            &effective,
            Vec::new(),
            None,
        ),
        plot(row, "Norm of what was fed, by step", &norm_caption, &norm, Vec::new(), band),
        plot(row, "Distances by step", &distance_caption, &distance, Vec::new(), None),
    ];
    let parts = parts.concat();
    if parts.is_empty() { parts } else { format!("<div class=\"plots\">{parts}</div>\n") }
}

struct Line {
    color: usize,
    of: Measure,
}

/// The sign of a line in a caption.
pub(super) fn key(color: usize) -> String {
    format!("<span class=\"key k{color}\"></span>")
}

fn plot(
    row: &Trace,
    description: &str,
    caption: &str,
    lines: &[Option<Line>],
    guides: Vec<Guide>,
    band: Option<[f64; 2]>,
) -> String {
    let series = lines.iter().flatten().map(|line| Series {
        color: line.color,
        points: row.steps.iter().enumerate().map(|(at, s)| (at as f64, (line.of)(s))).collect(),
    });
    let plot = LinePlot {
        description: description.into(),
        series: series.collect(),
        guides,
        band,
        marks: marks(row),
    };
    // Guides alone are no measurement.
    let measured = plot.series.iter().any(|line| line.points.iter().any(|(_, y)| y.is_some()));
    match plot.svg().filter(|_| measured) {
        Some(svg) => format!("<figure><figcaption>{caption}</figcaption>{svg}</figure>\n"),
        None => String::new(),
    }
}

fn marks(row: &Trace) -> Vec<Mark> {
    let events = row.steps.iter().enumerate().filter_map(|(at, step)| {
        Some(Mark { x: at as f64, text: format!("step {at}: {}", spoken(step.event.as_ref()?)) })
    });
    let mut marks: Vec<Mark> = events.take(MARKS).collect();
    if let (Some(stop), Some(last)) = (&row.stop, row.steps.len().checked_sub(1)) {
        marks.push(Mark { x: last as f64, text: format!("stop: {}", spoken(stop)) });
    }
    marks
}

fn values(row: &Trace, room: &Room) -> String {
    if row.steps.is_empty() {
        return String::new();
    }
    if !room.is_detailed() {
        return format!(
            "<p class=\"note\">The table of values is left out in a page of more than {DETAILED} \
             steps; the trace has them.</p>\n"
        );
    }
    let head = [
        "step",
        "phase",
        "mode",
        "token",
        "heaviest",
        "entropy",
        "effective",
        "kept",
        "norm",
        "nearest",
        "distance",
        "cosine",
        "hull",
        "event",
    ];
    let line = |(at, step): (usize, &Step)| {
        let name = |id, token| format!("<bdi>{}</bdi>", escape(&token_label(id, token)));
        let near = step.nearest.as_ref();
        vec![
            at.to_string(),
            escape(step.phase.as_deref().unwrap_or("")),
            escape(step.mode.as_deref().unwrap_or("")),
            name(step.token_id, step.token.as_deref()),
            belief::heaviest(step, TABLE_ENTRIES),
            figure_or_dash(step.entropy_nats),
            figure_or_dash(effective_tokens(step)),
            figure_or_dash(step.kept_mass),
            figure_or_dash(step.norm),
            near.map_or_else(|| "–".into(), |entry| name(entry.0, entry.1.as_deref())),
            figure_or_dash(near.map(super::trace::Entry::value)),
            figure_or_dash(step.cosine),
            figure_or_dash(step.hull_distance),
            escape(&step.event.as_deref().map(spoken).unwrap_or_default()),
        ]
    };
    let rows: Vec<Vec<String>> = row.steps.iter().enumerate().map(line).collect();
    let summary = format!("Values of {}", counted(rows.len(), "step"));
    let (head, rows) = without_empty_columns(&head, rows);
    details(&summary, &table(&head, &rows, "values"), false)
}

/// A table without the columns of what was not recorded.
fn without_empty_columns<'a>(
    head: &[&'a str],
    rows: Vec<Vec<String>>,
) -> (Vec<&'a str>, Vec<Vec<String>>) {
    let empty = |cell: &String| cell.is_empty() || cell == "–";
    let kept: Vec<bool> =
        (0..head.len()).map(|at| !rows.iter().all(|row| empty(&row[at]))).collect();
    fn only<T>(cells: impl IntoIterator<Item = T>, kept: &[bool]) -> Vec<T> {
        cells.into_iter().zip(kept).filter(|(_, kept)| **kept).map(|(cell, _)| cell).collect()
    }
    let rows = rows.into_iter().map(|row| only(row, &kept)).collect();
    (only(head.iter().copied(), &kept), rows)
}
