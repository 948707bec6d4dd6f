//! Files from strangers: what is promised of reading them, whatever is in them.
//!
//! A target takes the bytes of one file, or of several with a line `=====` between them, and
//! panics where a law does not hold. Of all of them: nothing panics; an error says something, in
//! under [`MAX_ERROR`] bytes; and what is held meanwhile is bounded by a multiple of the input,
//! however large the sizes that it announces. The rest is said at each target.
//!
//! `cargo xtask fuzz` feeds them what libFuzzer finds; the test `corpus` replays what is in
//! `fuzz/corpus` and `fuzz/regressions`.

mod data;
mod models;
mod settings;
mod texts;

use std::cell::RefCell;
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

pub use data::{jsonl, manifest};
pub use models::{gguf, model_config, peft, safetensors, shard_index};
pub use settings::{config_toml, overrides};
pub use texts::{chat_template, tokenizer};

use tempfile::TempDir;

use crate::allocator::most_held;

/// A name, and the laws of it.
pub type Target = (&'static str, fn(&[u8]));

/// Every target by the name of its folder in `fuzz/corpus`.
pub const TARGETS: [Target; 11] = [
    ("safetensors", safetensors),
    ("shard_index", shard_index),
    ("model_config", model_config),
    ("config_toml", config_toml),
    ("overrides", overrides),
    ("jsonl", jsonl),
    ("tokenizer", tokenizer),
    ("chat_template", chat_template),
    ("manifest", manifest),
    ("gguf", gguf),
    ("peft", peft),
];

/// Bytes of the longest error: it has to fit a terminal.
pub const MAX_ERROR: usize = 4096;

/// Bytes that may be held for a byte of the input. A weight of half a byte becomes an f32, and a
/// list of short texts a list of allocations.
const HELD_PER_BYTE: usize = 256;
/// Bytes that may be held whatever the input is: regular expressions and merges have limits of their
/// own.
const HELD_ALWAYS: usize = 64 << 20;

/// Between the files of an input.
const BETWEEN: &[u8] = b"\n=====\n";

/// The files of an input.
fn sections(mut data: &[u8]) -> Vec<&[u8]> {
    let mut sections = Vec::new();
    while let Some(at) = data.windows(BETWEEN.len()).position(|window| window == BETWEEN) {
        sections.push(&data[..at]);
        data = &data[at + BETWEEN.len()..];
    }
    sections.push(data);
    sections
}

/// Runs a reader and checks what it held.
fn bounded<T>(data: &[u8], read: impl FnOnce() -> T) -> T {
    let (held, done) = most_held(read);
    let most = HELD_ALWAYS + HELD_PER_BYTE * data.len();
    assert!(held <= most, "{held} bytes were held for an input of {}", data.len());
    done
}

/// What was read, or nothing where an error says well why not.
fn told<T, E: Display>(read: Result<T, E>) -> Option<T> {
    match read {
        Ok(read) => Some(read),
        Err(error) => {
            assert_short(&error.to_string());
            None
        }
    }
}

/// What was read, where that cannot fail.
fn must<T, E: Display>(what: &str, read: Result<T, E>) -> T {
    read.unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// An error says something, and not too much.
fn assert_short(text: &str) {
    assert!(!text.trim().is_empty(), "an error without a word");
    let start: String = text.chars().take(400).collect();
    assert!(text.len() <= MAX_ERROR, "an error of {} bytes: {start}", text.len());
}

/// Files of one call, in a folder that is emptied for it.
///
/// The folder is the thread's own and stays: making one anew takes longer than most targets.
fn with_files<T>(files: &[(&str, &[u8])], work: impl FnOnce(&Path) -> T) -> T {
    thread_local! {
        static FOLDER: RefCell<Option<TempDir>> = const { RefCell::new(None) };
    }
    let folder: PathBuf = FOLDER.with_borrow_mut(|folder| {
        let made = || TempDir::new().expect("a temporary folder");
        folder.get_or_insert_with(made).path().to_owned()
    });
    empty(&folder);
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).expect("written");
    }
    work(&folder)
}

fn empty(folder: &Path) {
    for entry in fs::read_dir(folder).expect("listed") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }
            .expect("removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_cut_between_its_files() {
        assert_eq!(sections(b"a\n=====\n\n=====\nb\n"), [&b"a"[..], b"", b"b\n"]);
        assert_eq!(sections(b""), [b""]);
    }

    #[test]
    #[should_panic = "bytes were held for an input of 3"]
    fn what_an_input_announces_is_not_allocated() {
        bounded(b"abc", || drop(Vec::<u8>::with_capacity(1 << 28)));
    }

    #[test]
    #[should_panic = "an error of 5000 bytes"]
    fn a_long_error_is_a_fault() {
        told::<(), _>(Err("x".repeat(5000)));
    }
}
