//! The page of what the training costs.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::chart::{Plot, Shape};
use super::palette::Palette;
use super::table;
use super::words::{bytes, number, seconds, thousands};
use crate::dashboard::board::Board;
use crate::pace;

pub(super) fn draw(frame: &mut Frame<'_>, board: &Board, area: Rect, palette: Palette) {
    let speeds = &board.speeds;
    let Some(latest) = &speeds.latest else {
        return frame.render_widget(Line::styled("no step yet", palette.quiet()), area);
    };
    let mean_seconds = speeds.smoothed_seconds.series.latest().unwrap_or(latest.seconds);
    let scored = 100.0 * speeds.scored.series.latest().unwrap_or(latest.scored);
    let memory = latest.peak.map_or_else(|| "not known here".to_owned(), |peak| bytes(peak as f64));
    let rate = speeds.rate.series.latest().unwrap_or(latest.tokens_per_second);
    let rows = [
        ("tokens a second", number(rate)),
        ("mean of the session", number(latest.tokens_per_second)),
        ("step time", seconds(mean_seconds)),
        ("the last step", seconds(latest.seconds)),
        ("elapsed", pace::in_words(latest.elapsed)),
        ("left", pace::in_words(latest.left)),
        ("tokens so far", thousands(latest.tokens as i64)),
        ("scored tokens", format!("{scored:.1} %")),
        ("peak memory", memory),
    ];
    let [upper, _, lower] =
        Layout::vertical([Constraint::Fill(3), Constraint::Length(1), Constraint::Fill(2)])
            .areas(area);
    let [left, _, right] =
        Layout::horizontal([Constraint::Min(0), Constraint::Length(3), Constraint::Length(33)])
            .areas(upper);
    let plot = Plot::new("Tokens a second", number(rate));
    let points = speeds.rate.series.points();
    plot.curve(points, palette.accent(), Shape::Line).draw(frame, left, palette);
    frame.render_widget(Paragraph::new(table(&rows, palette)), right);

    let [left, right] = Layout::horizontal([Constraint::Fill(1); 2]).spacing(3).areas(lower);
    let times = Plot { scale: 1e3, ..Plot::new("Step time, ms", seconds(mean_seconds)) };
    times
        .curve(speeds.seconds.points(), palette.quiet(), Shape::Dots)
        .curve(speeds.smoothed_seconds.series.points(), palette.accent(), Shape::Line)
        .draw(frame, left, palette);
    let value = latest.peak.map_or_else(String::new, |peak| bytes(peak as f64));
    let memory = Plot { scale: 1.0 / f64::from(1 << 20), ..Plot::new("Peak memory, MiB", value) };
    memory.curve(speeds.peak.points(), palette.accent(), Shape::Line).draw(frame, right, palette);
}
