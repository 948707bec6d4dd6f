//! The keyboard while the dashboard is up.

/// Lets Ctrl-C interrupt the program again. The dashboard puts the terminal into raw mode, in
/// which Ctrl-C is a key like any other, and it does nothing with that key. Its own thread does so
/// some time after it was started, so this is called at every step; it costs two system calls.
#[cfg(unix)]
pub(crate) fn keep_interrupt_key() {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let stdin = std::io::stdin();
    // Where the terminal cannot be asked there is no key to keep.
    let Ok(mut modes) = tcgetattr(&stdin) else { return };
    if !modes.local_modes.contains(LocalModes::ISIG) {
        modes.local_modes.insert(LocalModes::ISIG);
        let _ = tcsetattr(&stdin, OptionalActions::Now, &modes);
    }
}

/// Elsewhere the key `q` of the dashboard ends a run.
#[cfg(not(unix))]
pub(crate) fn keep_interrupt_key() {}
