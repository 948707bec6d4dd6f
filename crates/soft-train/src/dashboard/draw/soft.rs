//! The page of soft thoughts: what the last samples believed, and where the mixtures lie.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::chart::{Plot, Shape};
use super::palette::Palette;
use super::table;
use super::words::{cut, number};
use crate::dashboard::board::Board;
use crate::dashboard::sample::{Belief, Sample};
use crate::learner::metric_name;

/// Columns of the heaviest token's bar.
const BAR: usize = 10;
/// Least weight that is not shown as 0.00.
const LEAST: f64 = 0.005;

pub(super) fn draw(frame: &mut Frame<'_>, board: &mut Board, area: Rect, palette: Palette) {
    // Charts over the steps have what a large screen has to spare.
    let spare = if area.height >= 34 { area.height / 3 } else { 0 };
    let [upper, lower, charts] =
        Layout::vertical([Constraint::Fill(2), Constraint::Fill(3), Constraint::Length(spare)])
            .spacing(1)
            .areas(area);
    over_steps(frame, board, charts, palette);
    let [left, right] =
        Layout::horizontal([Constraint::Min(0), Constraint::Length(34)]).spacing(3).areas(upper);
    frame.render_widget(Paragraph::new(table(&numbers(board), palette)), right);
    let Some(sample) = board.samples.get(board.sample) else {
        let lines = [
            "no sample yet: `g` takes one after this step,",
            "`eval.samples` takes some at each evaluation",
        ];
        let lines = lines.map(|line| Line::styled(line, palette.quiet()));
        return frame.render_widget(Paragraph::new(lines.to_vec()), left);
    };
    let thoughts: Vec<&Belief> = sample.thoughts().collect();
    if thoughts.is_empty() {
        let nothing = "the sample has no soft position and no thought";
        return frame.render_widget(Line::styled(nothing, palette.quiet()), left);
    }
    let points: Vec<(f64, f64)> = thoughts
        .iter()
        .enumerate()
        .map(|(at, belief)| ((at + 1) as f64, belief.entropy_nats))
        .collect();
    let title = format!("Entropy, sample {} of step {}", sample.number, sample.step);
    let title = cut(&title, usize::from(left.width));
    let plot = Plot { along: "position", ..Plot::new(&title, String::new()) };
    plot.curve(&points, palette.accent(), Shape::Marked).draw(frame, left, palette);

    let room = usize::from(lower.height).saturating_sub(1);
    board.first_thought = board.first_thought.min(thoughts.len().saturating_sub(room));
    let head = format!("{:>4}  {:<5}{:>7}  {:BAR$}  {}", "", "fed", "nats", "heaviest", "beliefs");
    let mut lines = vec![Line::styled(head, palette.quiet())];
    let rows = thoughts.iter().enumerate().skip(board.first_thought).take(room);
    lines.extend(rows.map(|(at, belief)| row(at + 1, belief, usize::from(lower.width), palette)));
    frame.render_widget(Paragraph::new(lines), lower);
}

fn numbers(board: &Board) -> Vec<(&'static str, String)> {
    let latest = |name| board.figure(name).and_then(|figure| figure.raw.latest()).map(number);
    let sample = board.samples.get(board.sample);
    let hard = sample.and_then(Sample::hard_share);
    let soft = sample.map(|sample| sample.beliefs.iter().filter(|belief| belief.soft).count());
    let none = || "-".to_owned();
    vec![
        ("soft positions", soft.map_or_else(none, |count| count.to_string())),
        ("hard share", hard.map_or_else(none, |share| format!("{:.0} % over 0.99", 100.0 * share))),
        ("training entropy", latest(metric_name::ENTROPY).map_or_else(none, |nats| nats + " nats")),
        ("mixture norm", latest(metric_name::MIXTURE_NORM).map_or_else(none, |it| it + " tokens")),
        (
            "nearest token",
            latest(metric_name::MIXTURE_DISTANCE).map_or_else(none, |it| it + " tokens"),
        ),
    ]
}

/// What the training steps saw of all their soft positions.
fn over_steps(frame: &mut Frame<'_>, board: &Board, area: Rect, palette: Palette) {
    let names = [metric_name::ENTROPY, metric_name::MIXTURE_NORM, metric_name::MIXTURE_DISTANCE];
    let figures: Vec<_> = names.iter().filter_map(|name| board.figure(name)).collect();
    let columns = Layout::horizontal(vec![Constraint::Fill(1); figures.len()]).spacing(2);
    for (figure, column) in figures.iter().zip(columns.split(area).iter()) {
        let value = figure.raw.latest().map(number).unwrap_or_default();
        Plot::new(&figure.name, value)
            .curve(figure.raw.points(), palette.quiet(), Shape::Dots)
            .curve(figure.smoothed.series.points(), palette.accent(), Shape::Line)
            .draw(frame, *column, palette);
    }
}

/// `   3  soft   1.270  ████▋       The 0.47   L 0.36`
fn row(at: usize, belief: &Belief, width: usize, palette: Palette) -> Line<'static> {
    let heaviest = belief.top.first().map_or(0.0, |top| top.1);
    let (mode, style) =
        if belief.soft { ("soft", palette.accent()) } else { ("hard", palette.quiet()) };
    let mut spans = vec![
        Span::styled(format!("{at:>4}  "), palette.quiet()),
        Span::styled(format!("{mode:<5}"), style),
        Span::raw(format!("{:>7.3}  ", belief.entropy_nats)),
        Span::styled(format!("{:BAR$}", bar(heaviest)), style),
    ];
    let seen = belief.top.iter().take_while(|(_, weight)| *weight >= LEAST);
    for (rank, (token, weight)) in seen.enumerate() {
        let entry = format!("  {}", cut(&visible(token), 14));
        let weight = format!(" {weight:.2}");
        let used: usize = spans.iter().map(Span::width).sum();
        if used + Span::raw(&entry).width() + weight.len() > width {
            break;
        }
        let style = if rank == 0 { palette.strong() } else { ratatui::style::Style::new() };
        spans.push(Span::styled(entry, style));
        spans.push(Span::styled(weight, palette.quiet()));
    }
    Line::from(spans)
}

/// A share of the bar's columns, in eighths.
fn bar(share: f64) -> String {
    let eighths = (share.clamp(0.0, 1.0) * (8 * BAR) as f64).round() as usize;
    let part = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    "█".repeat(eighths / 8) + part
}

/// A token that begins or ends with a space is told from one that does not.
fn visible(token: &str) -> String {
    token.replace(' ', "␣").replace('\n', "⏎")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_share() {
        assert_eq!(bar(0.0), "");
        assert_eq!(bar(1.0), "█".repeat(BAR));
        assert_eq!(bar(0.05), "▌");
        assert_eq!(bar(0.5 + 0.0125), format!("{}▏", "█".repeat(5)));
        assert_eq!(bar(f64::NAN), "");
    }
}
