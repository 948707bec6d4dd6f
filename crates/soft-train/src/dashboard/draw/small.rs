//! A screen too small for charts: the numbers of a page.

use std::time::Instant;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::palette::Palette;
use super::words::{bytes, cut, number, seconds};
use super::{keys, progress_in_words, samples, state_style, title};
use crate::dashboard::board::{Board, Page};
use crate::dashboard::sample::Sample;

pub(super) fn draw(frame: &mut Frame<'_>, board: &Board, palette: Palette, now: Instant) {
    let area = frame.area();
    let width = usize::from(area.width);
    let head = [
        title(board, palette),
        Line::styled(cut(&board.state(), width), state_style(board, palette)),
        Line::raw(cut(&progress_in_words(board, now), width)),
    ];
    let room = usize::from(area.height).saturating_sub(head.len() + 1);
    let mut lines = head.to_vec();
    lines.extend(page(board, width, palette).into_iter().take(room));
    frame.render_widget(Paragraph::new(lines), area);
    if usize::from(area.height) > head.len() {
        let last = Rect { y: area.bottom() - 1, height: 1, ..area };
        frame.render_widget(keys(board, palette, now, area.width), last);
    }
}

fn page(board: &Board, width: usize, palette: Palette) -> Vec<Line<'static>> {
    let row = |name: &str, value: String| Line::raw(cut(&format!("{name:<17}{value}"), width));
    match board.page {
        Page::Loss => {
            let figure = |figure: &crate::dashboard::board::Figure| {
                let values = [figure.value(), figure.held_out.latest()];
                let [train, held_out] = values.map(|value| value.map(number));
                let held_out = held_out.map(|value| format!("{value} held out"));
                let words: Vec<_> = train.into_iter().chain(held_out).collect();
                row(&figure.name, words.join(", "))
            };
            board.shown().skip(board.chosen).map(figure).collect()
        }
        Page::Throughput => match &board.speeds.latest {
            None => vec![Line::styled("no step yet", palette.quiet())],
            Some(speed) => vec![
                row("tokens a second", number(speed.tokens_per_second)),
                row("step time", seconds(speed.seconds)),
                row("scored tokens", format!("{:.1} %", 100.0 * speed.scored)),
                row("peak memory", speed.peak.map_or("-".into(), |peak| bytes(peak as f64))),
            ],
        },
        Page::Soft => match board.samples.get(board.sample) {
            None => vec![Line::styled("no sample yet: press g", palette.quiet())],
            Some(sample) => thoughts(sample, width),
        },
        Page::Samples => match board.samples.front() {
            None => vec![Line::styled("no sample yet: press g", palette.quiet())],
            Some(sample) => samples::sample_lines(sample, width, palette),
        },
    }
}

fn thoughts(sample: &Sample, width: usize) -> Vec<Line<'static>> {
    let share =
        sample.hard_share().map_or("-".to_owned(), |share| format!("{:.0} %", 100.0 * share));
    let head = format!("sample {} after step {}, hard share {share}", sample.number, sample.step);
    let believed = sample.thoughts().enumerate().map(|(at, belief)| {
        let top = belief.top.iter().take(2).map(|(token, weight)| format!("{token} {weight:.2}"));
        let top = top.collect::<Vec<_>>().join("  ");
        format!("{:>3} {:>6.3} nats  {top}", at + 1, belief.entropy_nats)
    });
    [head].into_iter().chain(believed).map(|line| Line::raw(cut(&line, width))).collect()
}
