//! The terminal while the dashboard is up.

#[cfg(unix)]
mod unix {
    use std::io::{Write, stdin, stdout};
    use std::sync::OnceLock;

    use rustix::termios::{
        LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
    };

    /// How the terminal was before the dashboard.
    static BEFORE: OnceLock<Termios> = OnceLock::new();
    /// The value that takes a key its meaning.
    const NO_KEY: u8 = if cfg!(target_os = "linux") { 0 } else { 0xff };

    /// Remembers how the terminal is now, for [`restore`].
    pub fn remember() {
        // Where the terminal cannot be asked there is nothing to restore.
        if let Ok(modes) = tcgetattr(stdin()) {
            let _ = BEFORE.set(modes);
        }
    }

    /// Takes the dashboard off the terminal, for a program that ends without its help: visible
    /// cursor, no mouse reports, the screen and the modes from before.
    pub fn restore() {
        if let Some(modes) = BEFORE.get() {
            let _ = tcsetattr(stdin(), OptionalActions::Now, modes);
            let mut out = stdout();
            let _ = out.write_all(
                b"\x1b[?1006l\x1b[?1015l\x1b[?1003l\x1b[?1002l\x1b[?1000l\x1b[?1049l\x1b[?25h",
            );
            let _ = out.flush();
        }
    }

    /// Lets Ctrl-C interrupt the program again. The dashboard puts the terminal into raw mode, in
    /// which Ctrl-C is a key like any other, and it does nothing with that key. Its own thread does
    /// so some time after it was started, so this is called at every step; it costs two system
    /// calls. The keys that suspend or kill stay without effect: both would leave the dashboard on
    /// the terminal.
    pub(crate) fn keep_interrupt_key() {
        let Ok(mut modes) = tcgetattr(stdin()) else { return };
        if !modes.local_modes.contains(LocalModes::ISIG) {
            modes.local_modes.insert(LocalModes::ISIG);
            modes.special_codes[SpecialCodeIndex::VSUSP] = NO_KEY;
            modes.special_codes[SpecialCodeIndex::VQUIT] = NO_KEY;
            let _ = tcsetattr(stdin(), OptionalActions::Now, &modes);
        }
    }
}

#[cfg(unix)]
pub(crate) use unix::keep_interrupt_key;
#[cfg(unix)]
pub use unix::{remember, restore};

/// Elsewhere the key `q` of the dashboard ends a run.
#[cfg(not(unix))]
pub(crate) fn keep_interrupt_key() {}

/// Remembers how the terminal is now; nothing to do here.
#[cfg(not(unix))]
pub fn remember() {}

/// Takes the dashboard off the terminal; nothing to do here.
#[cfg(not(unix))]
pub fn restore() {}
