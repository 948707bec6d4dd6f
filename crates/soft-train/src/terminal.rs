//! The terminal while the dashboard is up, and as it was before.

use std::io::{self, stdout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once};
use std::time::Duration;

use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

/// Whether the terminal is ours.
static TAKEN: AtomicBool = AtomicBool::new(false);
/// Held while a frame is drawn: nothing may be written after the terminal was given back.
static DRAWING: Mutex<()> = Mutex::new(());

/// Takes the terminal: another screen, no cursor, keys one by one and without echo.
pub(crate) fn enter() -> io::Result<()> {
    enable_raw_mode()?;
    TAKEN.store(true, Ordering::SeqCst);
    execute!(stdout(), EnterAlternateScreen, Hide).inspect_err(|_| leave())
}

/// Gives the terminal back as it was, from whichever thread; nothing to do where it is not taken.
pub(crate) fn leave() {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    // A frame takes a few milliseconds; a thread that panicked while it drew never ends it.
    for _ in 0..50 {
        if DRAWING.try_lock().is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(4));
    }
    // A terminal that is gone has nothing to be restored.
    let _ = execute!(stdout(), LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

/// Whether the terminal is taken.
pub(crate) fn is_taken() -> bool {
    TAKEN.load(Ordering::SeqCst)
}

/// Draws, unless the terminal was given back.
pub(crate) fn draw<T>(frame: impl FnOnce() -> T) -> Option<T> {
    let _drawing = DRAWING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    is_taken().then(frame)
}

/// From now on the terminal is given back before a panic is told, on whichever thread.
pub(crate) fn leave_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            leave();
            tell(panic);
        }));
    });
}
