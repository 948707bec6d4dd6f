//! What the keys do.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::board::{Board, Page, Popup};

/// Lines of a page of text.
const PAGE_LINES: isize = 10;

/// Does what a key asks for; says whether something may look different now.
pub(super) fn press(board: &mut Board, key: KeyEvent) -> bool {
    if key.kind == KeyEventKind::Release {
        return false;
    }
    // In raw mode the key interrupts nothing by itself.
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        if key.code == KeyCode::Char('c') {
            board.popup = None;
            board.control.interrupt();
        }
        return true;
    }
    match board.popup {
        Some(Popup::Stop) => answer(board, key.code),
        Some(Popup::Help) => board.popup = None,
        None => command(board, key.code),
    }
    true
}

/// The answer to whether the run is to stop.
fn answer(board: &mut Board, key: KeyCode) {
    match key {
        KeyCode::Char('y' | 'Y') => {
            board.control.request_stop();
            board.popup = None;
        }
        KeyCode::Char('n' | 'N' | 'q') | KeyCode::Esc => board.popup = None,
        _ => {}
    }
}

fn command(board: &mut Board, key: KeyCode) {
    match key {
        KeyCode::Char(digit @ '1'..='4') => board.page = Page::ALL[digit as usize - '1' as usize],
        KeyCode::Tab => board.turn_page(1),
        KeyCode::BackTab => board.turn_page(-1),
        KeyCode::Char('s') => board.control.request_save(),
        KeyCode::Char('g') => board.control.request_sample(),
        KeyCode::Char('q') => board.popup = Some(Popup::Stop),
        KeyCode::Char('?' | 'h') => board.popup = Some(Popup::Help),
        KeyCode::Right => board.choose(1),
        KeyCode::Left => board.choose(-1),
        KeyCode::Down => board.scroll(1),
        KeyCode::Up => board.scroll(-1),
        KeyCode::PageDown => board.scroll(PAGE_LINES),
        KeyCode::PageUp => board.scroll(-PAGE_LINES),
        _ => {}
    }
}
