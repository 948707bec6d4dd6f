//! The board on the screen: what is above and below every page, and the pages.

mod chart;
mod loss;
mod palette;
mod popup;
mod samples;
mod small;
mod soft;
mod throughput;
mod words;

use std::time::Instant;

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Margin, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

pub(super) use palette::Palette;

use super::board::{Board, Page};
use crate::pace;
use words::{cut, thousands};

/// Smallest size that has room for charts.
const CHARTS: (u16, u16) = (60, 16);

/// Draws everything.
pub(super) fn board(frame: &mut Frame<'_>, board: &mut Board, palette: Palette, now: Instant) {
    let area = frame.area();
    if area.width < CHARTS.0 || area.height < CHARTS.1 {
        small::draw(frame, board, palette, now);
    } else {
        let rows = [1, 1, 1, 1].map(Constraint::Length);
        let [head, bar, _, tabs] = Layout::vertical(rows).areas(area);
        let inner = |area: Rect| area.inner(Margin::new(1, 0));
        frame.render_widget(Paragraph::new(title(board, palette)), inner(head));
        let state = Line::styled(board.state(), state_style(board, palette));
        frame.render_widget(Paragraph::new(state).alignment(Alignment::Right), inner(head));
        frame.render_widget(progress(board, palette, now, inner(bar).width), inner(bar));
        frame.render_widget(pages(board, palette), inner(tabs));
        let body = Rect { y: area.y + 5, height: area.height.saturating_sub(7), ..area };
        let body = inner(body);
        match board.page {
            Page::Loss => loss::draw(frame, board, body, palette),
            Page::Throughput => throughput::draw(frame, board, body, palette),
            Page::Soft => soft::draw(frame, board, body, palette),
            Page::Samples => samples::draw(frame, board, body, palette),
        }
        let last = Rect { y: area.bottom() - 1, height: 1, ..area };
        frame.render_widget(keys(board, palette, now, inner(last).width), inner(last));
    }
    popup::draw(frame, board, palette);
}

/// `quickstart · soft, arm 1 of 3`
fn title(board: &Board, palette: Palette) -> Line<'static> {
    let mut spans = vec![Span::styled(board.name.clone(), palette.strong())];
    let (arm, (at, count)) = (&board.begun.arm, board.begun.arms);
    if count > 1 {
        spans.push(Span::raw(format!(" · {arm}, arm {at} of {count}")));
    } else if !arm.is_empty() {
        spans.push(Span::raw(format!(" · {arm}")));
    }
    Line::from(spans)
}

fn state_style(board: &Board, palette: Palette) -> Style {
    if board.control.stop_requested() { palette.warning() } else { palette.accent() }
}

/// `2,340/6,000  39.0 %  42s, 1m06s left`
fn progress_in_words(board: &Board, now: Instant) -> String {
    let (done, steps) = (board.done, board.begun.steps);
    let share = 100.0 * done as f64 / steps.max(1) as f64;
    let [done, steps] = [done, steps].map(|count| thousands(count as i64));
    let elapsed = pace::in_words(now.saturating_duration_since(board.since));
    let left = match &board.speeds.latest {
        Some(speed) => format!(", {} left", pace::in_words(speed.left)),
        None => String::new(),
    };
    format!("{done}/{steps}  {share:.1} %  {elapsed}{left}")
}

fn progress(board: &Board, palette: Palette, now: Instant, width: u16) -> Line<'static> {
    let text = progress_in_words(board, now);
    let room = usize::from(width).saturating_sub(text.chars().count() + 2);
    let share = board.done as f64 / board.begun.steps.max(1) as f64;
    let full = ((room as f64 * share) as usize).min(room);
    Line::from(vec![
        Span::styled("━".repeat(full), palette.accent()),
        Span::styled("─".repeat(room - full), palette.quiet()),
        Span::raw("  "),
        Span::raw(text),
    ])
}

fn pages(board: &Board, palette: Palette) -> Line<'static> {
    let page = |(number, page): (usize, &Page)| {
        let style = if *page == board.page { palette.chosen() } else { palette.quiet() };
        [Span::styled(format!(" {} {} ", number + 1, page.title()), style), Span::raw(" ")]
    };
    Line::from(Page::ALL.iter().enumerate().flat_map(page).collect::<Vec<_>>())
}

/// The newest message while it is new, else the keys.
fn keys(board: &Board, palette: Palette, now: Instant, width: u16) -> Line<'static> {
    if let Some(message) = board.notice(now) {
        return Line::styled(cut(message, usize::from(width)), palette.accent());
    }
    if width < CHARTS.0 {
        let known = [("s", "save"), ("g", "sample"), ("q", "stop"), ("?", "help")];
        return key_line(known.into_iter(), "  ", palette);
    }
    let arrows = match board.page {
        Page::Loss => Some(("↑↓", "figure")),
        Page::Soft => Some(("←→", "sample")),
        Page::Samples => Some(("↑↓", "scroll")),
        Page::Throughput => None,
    };
    let known = [("s", "save"), ("g", "sample"), ("q", "stop and save"), ("Tab", "page")];
    key_line(known.into_iter().chain(arrows).chain([("?", "help")]), "   ", palette)
}

fn key_line(
    keys: impl Iterator<Item = (&'static str, &'static str)>,
    space: &str,
    palette: Palette,
) -> Line<'static> {
    let mut spans = Vec::new();
    for (key, what) in keys {
        spans.push(Span::styled(key, palette.strong()));
        spans.push(Span::styled(format!(" {what}{space}"), palette.quiet()));
    }
    Line::from(spans)
}

/// Names and values below each other.
fn table(rows: &[(&str, String)], palette: Palette) -> Vec<Line<'static>> {
    let widest = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let row = |(name, value): &(&str, String)| {
        let name = Span::styled(format!("{name:widest$}  "), palette.quiet());
        Line::from(vec![name, Span::raw(value.clone())])
    };
    rows.iter().map(row).collect()
}
