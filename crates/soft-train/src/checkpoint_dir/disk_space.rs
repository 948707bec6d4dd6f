//! Whether a checkpoint will fit on the disk, asked before it is written.

use std::path::Path;

use crate::error::Error;

/// Free space that a checkpoint wants, in its own size: it is written beside the one it replaces,
/// and records and reports need some too.
const WANTED: f64 = 2.2;

/// Checks that a checkpoint of `size` bytes may be written below `run_dir`, of whose file system
/// `free` bytes are free.
///
/// # Errors
/// [`Error::NoSpace`] where less than 2.2 times its size are free.
pub(crate) fn require_space(run_dir: &Path, size: u64, free: Option<u64>) -> Result<(), Error> {
    let needed = (WANTED * size as f64).ceil() as u64;
    match free {
        Some(free) if free < needed => {
            Err(Error::NoSpace { path: run_dir.to_owned(), needed, free, size })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t02_a_checkpoint_wants_more_than_twice_its_size_and_says_how_much() {
        let path = Path::new("runs/a");
        require_space(path, 1000, Some(2200)).expect("just enough");
        require_space(path, 1000, None).expect("nobody knows better");
        let error = require_space(path, 1000, Some(2199)).expect_err("a byte short");
        assert_eq!(error.exit_code(), 7);
        let text = error.to_string();
        for part in ["runs/a", "2200", "2199", "1000", "run.dir"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
