//! The dashboard on screens of memory, its keys, and a panic on a real terminal.

use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::Color;

use super::board::{Board, Page, Popup};
use super::draw::{self, Palette};
use super::keys::press;
use super::sample::{Belief, Piece, Sample};
use super::{Activity, Begun, News, Speed};
use crate::control::Control;
use crate::learner::metric_name;

#[cfg(unix)]
mod panics;
#[cfg(unix)]
mod pty;

fn screen(
    board: &mut Board,
    (width, height): (u16, u16),
    palette: Palette,
) -> ratatui::buffer::Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("in memory");
    let now = Instant::now();
    terminal.draw(|frame| draw::board(frame, board, palette, now)).expect("in memory");
    terminal.backend().buffer().clone()
}

/// The screen as lines of text.
fn text(board: &mut Board, size: (u16, u16)) -> String {
    let buffer = screen(board, size, Palette::new(true));
    let cells: Vec<&str> = buffer.content().iter().map(ratatui::buffer::Cell::symbol).collect();
    let rows = cells.chunks(usize::from(size.0)).map(|row| row.concat().trim_end().to_owned());
    rows.collect::<Vec<_>>().join("\n")
}

fn key(code: KeyCode) -> KeyEvent {
    KeyEvent::new(code, KeyModifiers::NONE)
}

fn sample(step: usize) -> Sample {
    let piece = |text: &str, soft| Piece { text: text.to_owned(), soft };
    let belief = |soft, nats: f64| Belief {
        soft,
        thinks: true,
        entropy_nats: nats,
        top: vec![
            (" seven".to_owned(), 0.6),
            ("漢字".to_owned(), 0.3),
            ("\u{1b}[2J".to_owned(), 0.1),
        ],
    };
    Sample {
        step,
        number: 1,
        prompt: "three and four make".to_owned(),
        expected: Some("7".to_owned()),
        correct: Some(true),
        pieces: vec![piece(" maybe seven", true), piece(" 7\nthen ", false)],
        beliefs: (0..40).map(|at| belief(at % 3 > 0, 0.1 * f64::from(at))).collect(),
    }
}

/// A training of some length, as it is told.
fn filled(steps: usize) -> Board {
    let mut board = Board::new("my-run", Control::default());
    let mut take = |news| board.take(news, Instant::now());
    take(News::Begun(Begun {
        arm: "soft".to_owned(),
        arms: (1, 3),
        steps: 6000,
        done: 0,
        clip: 1.0,
    }));
    take(News::Doing(Activity::Training));
    for step in 1..=steps {
        let t = step as f64;
        let train = [
            (metric_name::LOSS, 4.0 / (1.0 + t / 200.0) + 0.1 * (t * 12.9).sin()),
            (metric_name::CROSS_ENTROPY, 4.0 / (1.0 + t / 200.0)),
            (metric_name::ENTROPY, 1.5),
            (metric_name::MIXTURE_NORM, 0.81),
            (metric_name::MIXTURE_DISTANCE, 0.42),
            (metric_name::GUIDANCE, 1.0 - t / 6000.0),
            (metric_name::GRAD_NORM, if step % 4 == 0 { 1.6 } else { 0.7 }),
            (metric_name::LEARNING_RATE, 5e-3 * (1.0 - t / 6000.0)),
        ];
        let train = train.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let accuracy = (metric_name::ACCURACY.to_owned(), t / 6000.0);
        let held_out = if step % 250 == 0 { vec![accuracy] } else { Vec::new() };
        take(News::Figures { step, train, held_out });
        take(News::Speed(Speed {
            step,
            tokens_per_second: 12_400.0,
            seconds: 0.0182,
            tokens: 640 * step as u64,
            scored: 0.42,
            elapsed: Duration::from_secs(42),
            left: Duration::from_secs(66),
            peak: Some(512 << 20),
        }));
    }
    take(News::Sample(Box::new(sample(steps))));
    board
}

#[test]
fn t42_every_page_has_a_form_for_every_size_of_screen() {
    let sides = [1, 2, 3, 7, 10, 16, 17, 24, 50];
    let widths = [1, 2, 5, 9, 20, 40, 59, 60, 80, 111, 160];
    for steps in [0, 1, 2, 700] {
        let mut board =
            if steps == 0 { Board::new("x", Control::default()) } else { filled(steps) };
        for page in Page::ALL {
            for popup in [None, Some(Popup::Help), Some(Popup::Stop)] {
                (board.page, board.popup) = (page, popup);
                for size in widths.iter().flat_map(|&w| sides.map(|h| (w, h))) {
                    screen(&mut board, size, Palette::new(steps % 2 == 0));
                }
            }
        }
    }
}

#[test]
fn every_page_says_what_it_is_about_in_eighty_columns() {
    let mut board = filled(2340);
    let mut has = |page, parts: &[&str]| {
        board.page = page;
        let text = text(&mut board, (80, 24));
        for part in parts.iter().chain(&[
            "my-run · soft, arm 1 of 3",
            "training",
            "2,340/6,000  39.0 %",
            "1m06s left",
        ]) {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
    };
    has(
        Page::Loss,
        &[
            "smoothed",
            "held out",
            "Gradient norm",
            "clip 1, met by 25 %",
            "Learning rate",
            "Guidance",
            "step",
        ],
    );
    has(Page::Throughput, &["12,400", "18.2 ms", "512 MiB", "42.0 %", "1,497,600"]);
    has(
        Page::Soft,
        &["Entropy, sample 1 of step 2340", "hard share", "0.81", "␣seven 0.60", "漢", "position"],
    );
    has(
        Page::Samples,
        &["step 2,340, sample 1  ✓ right", "three and four make", "‹maybe seven› 7", "expected: 7"],
    );
}

#[test]
fn what_a_schedule_says_is_shown_as_it_is() {
    let mut board = filled(2340);
    let value = |board: &Board, name| board.figure(name).and_then(super::board::Figure::value);
    assert_eq!(value(&board, metric_name::LEARNING_RATE), Some(5e-3 * (1.0 - 2340.0 / 6000.0)));
    assert_ne!(
        value(&board, metric_name::LOSS),
        board.figure(metric_name::LOSS).and_then(|f| f.raw.latest())
    );
    assert!(text(&mut board, (80, 24)).contains("3.05e-3"));
}

#[test]
fn what_is_off_stays_out_of_sight() {
    let mut board = filled(3);
    let figures = |value| News::Figures {
        step: 4,
        train: vec![(metric_name::CLAMPED.to_owned(), value)],
        held_out: Vec::new(),
    };
    board.take(figures(0.0), Instant::now());
    assert!(!text(&mut board, (80, 24)).contains("Clamped share"));
    board.take(figures(0.2), Instant::now());
    assert!(text(&mut board, (80, 24)).contains("Clamped share"));
}

#[test]
fn t42_a_narrow_screen_shows_the_numbers_of_the_page() {
    let mut board = filled(2340);
    let mut has = |page, part: &str| {
        board.page = page;
        let text = text(&mut board, (40, 10));
        assert!(
            text.contains(part) && text.contains("2,340/6,000"),
            "{part:?} is missing in\n{text}"
        );
    };
    has(Page::Loss, "Loss             0.");
    has(Page::Throughput, "tokens a second  12,400");
    has(Page::Soft, "hard share 0 %");
    has(Page::Samples, "‹maybe seven›");
}

#[test]
fn t42_no_color_means_none() {
    for page in Page::ALL {
        let mut board = filled(300);
        board.page = page;
        let colors = |palette, board: &mut Board| {
            let cells = screen(board, (120, 40), palette).content().to_vec();
            cells.iter().filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset).count()
        };
        assert_eq!(colors(Palette::new(false), &mut board), 0, "{page:?}");
        assert!(colors(Palette::new(true), &mut board) > 20, "{page:?}");
    }
}

#[test]
fn control_characters_of_a_token_do_not_reach_the_terminal() {
    let mut board = filled(3);
    board.page = Page::Soft;
    let text = text(&mut board, (120, 40));
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
}

#[test]
fn keys_turn_pages_and_ask_the_run() {
    let mut board = filled(10);
    let control = board.control.clone();
    for (code, page) in [
        (KeyCode::Char('3'), Page::Soft),
        (KeyCode::Tab, Page::Samples),
        (KeyCode::Tab, Page::Loss),
        (KeyCode::BackTab, Page::Samples),
        (KeyCode::Char('1'), Page::Loss),
    ] {
        press(&mut board, key(code));
        assert_eq!(board.page, page, "{code:?}");
    }
    press(&mut board, key(KeyCode::Down));
    assert_eq!(board.figures[board.chosen].name, metric_name::CROSS_ENTROPY);
    press(&mut board, key(KeyCode::Up));
    press(&mut board, key(KeyCode::Up));
    assert_eq!(board.chosen, board.figures.len() - 1, "around");
    press(&mut board, key(KeyCode::Char('s')));
    assert_eq!(board.state(), "training, then saving");
    assert!(control.take_save() && !control.sample_requested());
    press(&mut board, key(KeyCode::Char('g')));
    assert!(control.take_sample());
    press(&mut board, key(KeyCode::Char('?')));
    assert_eq!(board.popup, Some(Popup::Help));
    press(&mut board, key(KeyCode::Char('q')));
    assert_eq!(board.popup, None, "any key closes the help, and does nothing else");
}

#[test]
fn t41_the_key_q_asks_once_and_ctrl_c_does_not_ask() {
    let mut board = filled(10);
    let control = board.control.clone();
    for refusal in ['n', 'q'] {
        press(&mut board, key(KeyCode::Char('q')));
        assert!(text(&mut board, (80, 24)).contains("Stop after a checkpoint"));
        press(&mut board, key(KeyCode::Char(refusal)));
        assert!(board.popup.is_none() && !control.stop_requested(), "{refusal}");
    }
    press(&mut board, key(KeyCode::Char('q')));
    press(&mut board, key(KeyCode::Char('y')));
    assert!(control.stop_requested());
    assert!(text(&mut board, (80, 24)).contains("stopping after this step"));

    let mut board = filled(10);
    press(&mut board, KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
    assert!(board.control.stop_requested());
}

#[test]
fn another_arm_begins_with_empty_charts_and_messages_stay() {
    let mut board = filled(10);
    board.take(News::Message("a warning".to_owned()), Instant::now());
    assert!(text(&mut board, (80, 24)).contains("a warning"));
    let begun = Begun { arm: "hard".to_owned(), arms: (2, 3), steps: 50, done: 20, clip: 0.0 };
    board.take(News::Begun(begun), Instant::now());
    let shown = text(&mut board, (80, 24));
    assert!(shown.contains("hard, arm 2 of 3") && shown.contains("20/50  40.0 %"), "{shown}");
    assert!(board.figures.is_empty() && board.samples.is_empty());
    let later = Instant::now() + Duration::from_secs(60);
    assert_eq!(board.notice(later), None);
    assert_eq!(board.into_messages(), ["a warning"]);
}
