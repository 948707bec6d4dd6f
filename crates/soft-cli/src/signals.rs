//! Signals while a run trains.

use std::io::Write;

use soft_train::Control;

/// The first interrupt, termination or hang-up ends the run with a checkpoint, a further one ends
/// the program at once. On Unix `SIGUSR1` asks for a checkpoint, after which the run goes on; a
/// hang-up that is ignored, as under `nohup`, stays so.
pub(crate) fn listen(control: &Control, dashboard: bool) {
    let stop = {
        let control = control.clone();
        move || {
            // A dashboard shows that it stops, and nothing may be printed over it.
            if !dashboard && !control.stop_requested() {
                tell("stopping with a checkpoint; interrupt again to stop at once");
            }
            control.interrupt();
        }
    };
    if let Err(error) = hear(control, stop) {
        tell(&format!("warning: a signal will not write a checkpoint: {error}"));
    }
}

/// A closed stderr leaves nobody to tell, and must not end the thread that hears the next signal.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(unix)]
fn hear(control: &Control, stop: impl Fn() + Send + 'static) -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
    use signal_hook::iterator::Signals;

    let mut heard = vec![SIGINT, SIGTERM, SIGUSR1];
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if !is_ignored(&status, SIGHUP) {
        heard.push(SIGHUP);
    }
    let mut signals = Signals::new(heard)?;
    let control = control.clone();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            match signal {
                SIGUSR1 => control.request_save(),
                _ => stop(),
            }
        }
    })?;
    Ok(())
}

/// Whether a process ignores a signal, by Linux's `status`; elsewhere that is not known.
#[cfg(unix)]
fn is_ignored(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(not(unix))]
fn hear(_: &Control, stop: impl Fn() + Send + 'static) -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(stop)
}

#[cfg(all(test, unix))]
mod tests {
    use super::is_ignored;

    #[test]
    fn the_ignored_signals_are_bits_counted_from_one() {
        let status = "Name:\tsoft\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000002\n";
        assert!(is_ignored(status, 1) && is_ignored(status, 13));
        assert!(!is_ignored(status, 2) && !is_ignored("", 1));
    }
}
