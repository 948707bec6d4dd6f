//! What a training shows on a terminal: four pages, and keys that ask the run for something.
//!
//! The run tells [`News`]; a thread of its own keeps them on a [`Board`], draws it and reads keys. Nothing
//! here changes what is computed.

mod board;
mod draw;
mod keys;
mod news;
mod sample;
mod series;

#[cfg(test)]
mod tests;

use std::io::{self, Write, stdout};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event};

use board::Board;
use draw::Palette;
pub(crate) use news::{Activity, Begun, News, Speed};
pub(crate) use sample::Sample;

use crate::control::Control;
use crate::terminal;

/// Where news go while a dashboard is up: there is one terminal.
static NEWS: Mutex<Option<Sender<News>>> = Mutex::new(None);

/// Longest time between two frames, so that clocks run.
const FRAME: Duration = Duration::from_millis(250);
/// How often news are taken and keys are read.
const TICK: Duration = Duration::from_millis(50);

/// Whether a dashboard is up.
pub(crate) fn is_up() -> bool {
    terminal::is_taken()
}

/// Tells the dashboard, where one is up; says whether it was told.
pub(crate) fn tell(news: impl FnOnce() -> News) -> bool {
    if !is_up() {
        return false;
    }
    let sender = NEWS.lock().unwrap_or_else(PoisonError::into_inner);
    sender.as_ref().is_some_and(|sender| sender.send(news()).is_ok())
}

/// A dashboard on the terminal of this process; it closes when it is dropped, and what was said
/// meanwhile is printed then.
#[derive(Debug)]
pub(crate) struct Dashboard {
    thread: Option<JoinHandle<Vec<String>>>,
}

impl Dashboard {
    /// Takes the terminal for the run `name`, whose requests `control` takes.
    ///
    /// # Errors
    /// That the terminal cannot be taken: there is none, or it is not ours.
    pub(crate) fn open(name: &str, control: &Control) -> io::Result<Self> {
        terminal::enter()?;
        terminal::leave_on_panic();
        let (sender, news) = channel();
        *NEWS.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        let mut board = Board::new(name, control.clone());
        let thread = std::thread::Builder::new().name("dashboard".into());
        let thread = thread.spawn(move || {
            if watch(&mut board, &news).is_err() {
                terminal::leave();
            }
            // Without a terminal what was said is still kept, to be printed at the end.
            news.iter().take_while(|news| !matches!(news, News::Close)).for_each(|news| {
                board.take(news, Instant::now());
            });
            board.into_messages()
        });
        thread.map(|thread| Self { thread: Some(thread) }).inspect_err(|_| terminal::leave())
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        if let Some(news) = NEWS.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The thread may be gone.
            let _ = news.send(News::Close);
        }
        let messages = self.thread.take().and_then(|thread| thread.join().ok());
        terminal::leave();
        for message in messages.into_iter().flatten() {
            let _ = writeln!(stdout(), "{message}");
        }
    }
}

/// Draws and reads keys until the dashboard closes or the terminal is given back.
///
/// # Errors
/// That the terminal has gone away.
fn watch(board: &mut Board, news: &Receiver<News>) -> io::Result<()> {
    let palette = Palette::from_environment();
    let mut screen = Terminal::new(CrosstermBackend::new(stdout()))?;
    let mut drawn: Option<Instant> = None;
    loop {
        loop {
            match news.try_recv() {
                Ok(News::Close) | Err(TryRecvError::Disconnected) => return Ok(()),
                Ok(news) => board.take(news, Instant::now()),
                Err(TryRecvError::Empty) => break,
            }
        }
        let mut changed = false;
        let mut wait = TICK;
        while event::poll(wait)? {
            match event::read()? {
                Event::Key(key) => changed |= keys::press(board, key),
                Event::Resize(..) => changed = true,
                _ => {}
            }
            wait = Duration::ZERO;
        }
        if changed || drawn.is_none_or(|drawn| drawn.elapsed() >= FRAME) {
            drawn = Some(Instant::now());
            let frame = || {
                screen.draw(|frame| draw::board(frame, board, palette, Instant::now())).map(|_| ())
            };
            match terminal::draw(frame) {
                Some(result) => result?,
                None => return Ok(()),
            }
        }
    }
}
