//! The page of what the model writes while it is trained, newest first.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::palette::Palette;
use super::words::{thousands, wrap};
use crate::dashboard::board::Board;
use crate::dashboard::sample::Sample;

pub(super) fn draw(frame: &mut Frame<'_>, board: &mut Board, area: Rect, palette: Palette) {
    let mut lines = Vec::new();
    for sample in &board.samples {
        lines.extend(sample_lines(sample, usize::from(area.width), palette));
        lines.push(Line::default());
    }
    if lines.is_empty() {
        let text = "no sample yet: `g` takes one after this step, `eval.samples` takes some at each \
                    evaluation";
        lines = wrap(&[(text.to_owned(), palette.quiet())], usize::from(area.width));
    }
    let last = lines.len().saturating_sub(usize::from(area.height));
    board.first_line = board.first_line.min(last);
    let seen: Vec<_> = lines.into_iter().skip(board.first_line).collect();
    frame.render_widget(Paragraph::new(seen), area);
}

/// Line ends inside a text, in sight and without lines of their own.
fn inline(text: &str) -> String {
    text.trim_end().replace('\n', "⏎ ")
}

pub(super) fn sample_lines(sample: &Sample, width: usize, palette: Palette) -> Vec<Line<'static>> {
    let step = thousands(sample.step as i64);
    let mut head =
        vec![Span::styled(format!("step {step}, sample {}", sample.number), palette.strong())];
    match sample.correct {
        Some(true) => head.push(Span::styled("  ✓ right", palette.good())),
        Some(false) => head.push(Span::styled("  ✗ wrong", palette.warning())),
        None => {}
    }
    let mut lines = vec![Line::from(head)];
    let mut texts = vec![(inline(&sample.prompt) + " ", palette.quiet())];
    for piece in &sample.pieces {
        if piece.soft {
            // The brackets tell it without colours and underlines too.
            texts.push((format!("‹{}›", inline(piece.text.trim_start())), palette.soft()));
            texts.push((" ".to_owned(), Style::new()));
        } else {
            texts.push((inline(piece.text.trim_start()) + " ", Style::new()));
        }
    }
    lines.extend(wrap(&texts, width));
    if let Some(expected) = &sample.expected {
        lines.extend(wrap(
            &[(format!("expected: {}", inline(expected.trim_start())), palette.quiet())],
            width,
        ));
    }
    lines
}
