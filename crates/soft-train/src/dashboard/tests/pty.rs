//! A terminal that a test holds the other end of.
#![expect(unsafe_code, reason = "pseudo-terminals have no safe interface in the standard library")]

use std::fs::File;
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A pseudo-terminal and everything that was written to it.
pub(crate) struct Pty {
    keyboard: File,
    terminal: OwnedFd,
    written: Arc<Mutex<Vec<u8>>>,
    before: libc::termios,
}

impl Pty {
    pub(crate) fn open(columns: u16, rows: u16) -> Self {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let (mut ours, mut theirs) = (-1, -1);
        // SAFETY: the two numbers are written, the size is read, nothing is kept.
        let made = unsafe {
            let none = std::ptr::null_mut();
            libc::openpty(
                &raw mut ours,
                &raw mut theirs,
                none,
                none.cast(),
                (&raw const size).cast_mut(),
            )
        };
        assert_eq!(made, 0, "no terminal: {}", std::io::Error::last_os_error());
        // SAFETY: both are open and ours alone.
        let (keyboard, terminal) =
            unsafe { (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let (mut screen, sink) = (keyboard.try_clone().expect("a handle"), written.clone());
        // Ends with the process: the terminal stays open.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut buffer) {
                sink.lock().expect("no panic").extend(&buffer[..count]);
            }
        });
        let before = modes(&terminal);
        Self { keyboard, terminal, written, before }
    }

    /// Starts a program on the terminal.
    pub(crate) fn start(&self, command: &mut Command) -> Child {
        self.start_as("xterm-256color", command)
    }

    /// Starts a program that takes the terminal for one of this kind.
    pub(crate) fn start_as(&self, kind: &str, command: &mut Command) -> Child {
        let end = || Stdio::from(self.terminal.try_clone().expect("a handle"));
        command.env("TERM", kind).stdin(end()).stdout(end()).stderr(end());
        command.spawn().expect("it starts")
    }

    #[allow(dead_code, reason = "not every test presses keys")]
    pub(crate) fn press(&self, keys: &str) {
        (&self.keyboard).write_all(keys.as_bytes()).expect("keys");
    }

    /// Everything that was written so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().expect("no panic")).into_owned()
    }

    /// Whether a text is written, soon.
    pub(crate) fn shows(&self, text: &str) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if self.text().contains(text) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// The screen, the cursor and the modes are those from before.
    pub(crate) fn assert_restored(&self) {
        assert!(self.shows("\u{1b}[?1049h"), "the dashboard was never up: {}", self.text());
        let text = self.text();
        for (taken, given_back) in [("[?1049h", "[?1049l"), ("[?25l", "[?25h")] {
            assert!(text.rfind(taken) < text.rfind(given_back), "{taken} stays: {text}");
        }
        let now = modes(&self.terminal);
        assert_eq!(now.c_lflag, self.before.c_lflag, "keys are echoed, by lines, with signals");
        assert_eq!(now.c_iflag, self.before.c_iflag);
        assert_eq!(now.c_oflag, self.before.c_oflag);
    }
}

fn modes(terminal: &OwnedFd) -> libc::termios {
    let mut modes = MaybeUninit::uninit();
    // SAFETY: the terminal is open; a success writes all of it.
    unsafe {
        assert_eq!(libc::tcgetattr(terminal.as_raw_fd(), modes.as_mut_ptr()), 0);
        modes.assume_init()
    }
}
