//! The page of the figures that are trained for and with.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::chart::{Plot, Shape};
use super::palette::Palette;
use super::words::{cut, number, thousands};
use crate::dashboard::board::{Board, Figure};
use crate::learner::metric_name;

/// Columns of the list of figures.
const LIST: u16 = 35;
/// Columns of a name in it.
const NAME: usize = 16;

pub(super) fn draw(frame: &mut Frame<'_>, board: &mut Board, area: Rect, palette: Palette) {
    board.chosen = board.chosen.min(board.shown().count().saturating_sub(1));
    let small = if area.height >= 15 { area.height * 2 / 5 } else { 0 };
    let [upper, lower] =
        Layout::vertical([Constraint::Min(0), Constraint::Length(small)]).areas(area);
    let [left, _, right] =
        Layout::horizontal([Constraint::Min(0), Constraint::Length(2), Constraint::Length(LIST)])
            .areas(upper);
    match board.shown().nth(board.chosen) {
        Some(figure) => large(figure, board, palette).draw(frame, left, palette),
        None => frame.render_widget(Line::styled("no step yet", palette.quiet()), left),
    }
    list(frame, board, right, palette);
    if small > 0 {
        draw_small(frame, board, lower, palette);
    }
}

fn clip(board: &Board, name: &str) -> Option<f64> {
    (name == metric_name::GRAD_NORM && board.begun.clip > 0.0).then_some(board.begun.clip)
}

fn large<'a>(figure: &'a Figure, board: &Board, palette: Palette) -> Plot<'a> {
    let value = match (figure.value(), figure.held_out.latest()) {
        (Some(smoothed), _) => number(smoothed),
        (None, Some(held_out)) => number(held_out),
        (None, None) => String::new(),
    };
    let mut plot = Plot::new(&figure.name, value);
    plot.level = clip(board, &figure.name);
    plot.level_name = "clip";
    let (raw, smoothed) = (figure.raw.points(), figure.smoothed.series.points());
    let plot = match figure.is_exact() {
        true => plot.curve(raw, palette.accent(), Shape::Line),
        false => plot.named("raw", raw, palette.quiet(), Shape::Dots).named(
            "smoothed",
            smoothed,
            palette.accent(),
            Shape::Line,
        ),
    };
    plot.named("held out", figure.held_out.points(), palette.held_out(), Shape::Marked)
}

/// Every figure with its last value, of the step and on held-out data.
fn list(frame: &mut Frame<'_>, board: &Board, area: Rect, palette: Palette) {
    let head = format!("  {:NAME$}{:>8}{:>9}", "", "smoothed", "held out");
    let mut lines = vec![Line::styled(head, palette.quiet())];
    let room = usize::from(area.height).saturating_sub(1 + clip_lines(board).len());
    let first = (board.chosen + 1).saturating_sub(room);
    for (at, figure) in board.shown().enumerate().skip(first).take(room) {
        let chosen = at == board.chosen;
        let (mark, style) =
            if chosen { ("▸ ", palette.strong()) } else { ("  ", ratatui::style::Style::new()) };
        let shown = |value: Option<f64>| value.map(number).unwrap_or_default();
        let name = cut(&figure.name, NAME);
        lines.push(Line::from(vec![
            Span::styled(format!("{mark}{name:NAME$}"), style),
            Span::styled(format!("{:>8}", shown(figure.value())), style),
            Span::styled(format!("{:>9}", shown(figure.held_out.latest())), palette.held_out()),
        ]));
    }
    lines.extend(clip_lines(board).into_iter().map(|line| Line::styled(line, palette.quiet())));
    frame.render_widget(Paragraph::new(lines), area);
}

/// How often gradients are clipped.
fn clip_lines(board: &Board) -> Vec<String> {
    let (over, all) = board.clipped;
    if board.begun.clip <= 0.0 || all == 0 {
        return Vec::new();
    }
    let share = 100.0 * over as f64 / all as f64;
    vec![format!("  clip {}, met by {share:.0} % of steps", board.begun.clip)]
}

/// What goes with the loss, beside each other.
fn draw_small(frame: &mut Frame<'_>, board: &Board, area: Rect, palette: Palette) {
    let held_out = board.figures.iter().find(|figure| figure.held_out.latest().is_some());
    // A training has rewards or guidance.
    let known = [
        metric_name::REWARD,
        metric_name::KL,
        metric_name::GRAD_NORM,
        metric_name::LEARNING_RATE,
        metric_name::GUIDANCE,
    ]
    .map(|name| board.figure(name));
    let mut plots: Vec<Plot<'_>> = Vec::new();
    if let Some(figure) = held_out {
        let value = figure.held_out.latest().map(number).unwrap_or_default();
        let step = thousands(figure.held_out.latest_step().unwrap_or(0) as i64);
        let plot = Plot::new(&figure.name, format!("{value} at {step}"));
        plots.push(plot.curve(figure.held_out.points(), palette.held_out(), Shape::Marked));
    }
    for figure in known.into_iter().flatten() {
        let level = clip(board, &figure.name);
        let value = figure.raw.latest().map(number).unwrap_or_default();
        let plot = Plot { level, level_name: "clip", ..Plot::new(&figure.name, value) };
        plots.push(match level.is_some() || !figure.is_exact() {
            true => plot.curve(figure.raw.points(), palette.quiet(), Shape::Dots).curve(
                figure.smoothed.series.points(),
                palette.accent(),
                Shape::Line,
            ),
            false => plot.curve(figure.raw.points(), palette.accent(), Shape::Line),
        });
    }
    let count = plots.len().min(if area.width >= 110 { 4 } else { 3 });
    let columns = Layout::horizontal(vec![Constraint::Fill(1); count]).spacing(2).split(area);
    for (plot, column) in plots.iter().zip(columns.iter()) {
        plot.draw(
            frame,
            Rect { y: column.y + 1, height: column.height.saturating_sub(1), ..*column },
            palette,
        );
    }
}
