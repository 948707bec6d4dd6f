//! What lies over a page: help, and the question whether to stop.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Clear, Padding, Paragraph};

use super::palette::Palette;
use crate::dashboard::board::{Board, Popup};

const KEYS: [(&str, &str); 9] = [
    ("1 .. 4, Tab", "another page"),
    ("↑ ↓", "another figure, or scroll"),
    ("← →", "another figure or sample"),
    ("s", "a checkpoint after this step"),
    ("g", "samples after this step"),
    ("q", "stop after a checkpoint; asks once"),
    ("Ctrl-C", "stop after a checkpoint; does not ask"),
    ("Ctrl-C twice", "leave at once, without a checkpoint"),
    ("?", "this help; any key closes it"),
];

pub(super) fn draw(frame: &mut Frame<'_>, board: &Board, palette: Palette) {
    let (title, lines) = match board.popup {
        None => return,
        Some(Popup::Help) => {
            let line = |(key, what): (&str, &'static str)| {
                Line::from(vec![
                    Span::styled(format!("{key:<14}"), palette.strong()),
                    Span::raw(what),
                ])
            };
            (" Keys ", KEYS.map(line).to_vec())
        }
        Some(Popup::Stop) => {
            let what = match board.control.stop_requested() {
                true => "It stops already. Ctrl-C leaves at once.",
                false => "Stop after a checkpoint of the last whole step?",
            };
            let keys = Line::from(vec![
                Span::styled("y", palette.strong()),
                Span::styled(" stop    ", palette.quiet()),
                Span::styled("n", palette.strong()),
                Span::styled(" go on", palette.quiet()),
            ]);
            (" Stop ", vec![Line::raw(what), Line::default(), keys])
        }
    };
    let whole = frame.area();
    let widest = lines.iter().map(Line::width).max().unwrap_or(0) as u16;
    let (width, height) = (widest + 4, lines.len() as u16 + 2);
    // Where there is no room for a frame the lines have it all.
    let fits = width <= whole.width && height <= whole.height;
    let (width, height) = (width.min(whole.width), height.min(whole.height));
    let area = Rect {
        x: whole.x + (whole.width - width) / 2,
        y: whole.y + (whole.height - height) / 2,
        width,
        height,
    };
    frame.render_widget(Clear, area);
    let mut text = Paragraph::new(lines);
    if fits {
        let block = Block::bordered().border_type(BorderType::Rounded).title(title);
        text = text.block(block.padding(Padding::horizontal(1)));
    }
    frame.render_widget(text, area);
}
