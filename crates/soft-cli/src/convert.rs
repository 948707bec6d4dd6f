//! `soft convert`: a model from any file that is read, as a Hugging Face folder in f32.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use soft_model::{ModelFiles, expected_tensors, save_sharded};

use crate::arguments::Convert;
use crate::failure::Failure;
use crate::output::Output;
use crate::progress::Progress;

/// Runs the verb.
pub(crate) fn run(arguments: &Convert) -> Result<(), Failure> {
    let target = &arguments.output;
    check_free(target)?;
    let files = ModelFiles::open(&arguments.input)?;
    check_plain(&arguments.input, &files)?;
    let progress = Progress::counting(files.weights.names().count() as u64, "converting");
    let half = Half::begin(target)?;
    let count = write(&half.0, &files, arguments.max_shard_size, &progress)?;
    // What is announced as a model has been opened as one.
    ModelFiles::open(&half.0)?;
    half.commit(target)?;
    drop(progress);
    if let Some(note) = &files.tokenizer_note {
        eprintln!("warning: without a tokenizer: {note}");
    }
    let shapes = expected_tensors(&files.config);
    let weights: usize = shapes.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    let plural = if count == 1 { "file" } else { "files" };
    let mut out = Output::new();
    out.line(format!(
        "{}: {} tensors, {weights} weights in f32, {count} {plural}",
        target.display(),
        shapes.len()
    ))?;
    out.flush()
}

/// Nothing is overwritten: the target is not there, or it is an empty folder.
fn check_free(target: &Path) -> Result<(), Failure> {
    let there = match fs::read_dir(target).map(|mut entries| entries.next().is_none()) {
        Ok(true) => return Ok(()),
        Ok(false) => "a folder that is not empty",
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(_) => "no folder",
    };
    Err(Failure::usage(format!(
        "{} is {there}, and nothing is overwritten: give a new folder",
        target.display()
    )))
}

/// Refuses what one plain model cannot hold.
fn check_plain(input: &Path, files: &ModelFiles) -> Result<(), Failure> {
    if files.added_parameters() > 0 {
        return Err(Failure::model(format!(
            "{}: low-rank branches or a prefix lie beside the base model, which would be lost: \
             fold the branches in with `soft merge` and convert what it writes",
            input.display()
        )));
    }
    let broken = files.weights.non_finite();
    if broken.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = broken.iter().map(|found| format!("\n  {found}")).collect();
    Err(Failure::model(format!(
        "{}: it is broken, expected numbers everywhere:{}",
        input.display(),
        lines.concat()
    )))
}

/// All files of the model; gives the number of those with tensors.
fn write(
    folder: &Path,
    files: &ModelFiles,
    max_bytes: u64,
    progress: &Progress,
) -> Result<usize, Failure> {
    let config = &files.config;
    write_json(&folder.join("config.json"), &config.to_hf())?;
    if let Some(generation) = generation(files) {
        write_json(&folder.join("generation_config.json"), &generation)?;
    }
    if let Some(soft) = &files.soft {
        write_text(&folder.join("soft_config.toml"), soft)?;
    }
    if let Some(tokenizer) = &files.tokenizer {
        tokenizer.save(folder).map_err(not_written)?;
    }
    let count = save_sharded(folder, &expected_tensors(config), max_bytes, |name| {
        progress.advance(1);
        files.weights.f32_values(name)
    });
    count.map_err(not_written)
}

/// The makers' advice, where `config.json` does not say as much.
fn generation(files: &ModelFiles) -> Option<Value> {
    let advice = &files.generation;
    let mut out = Map::new();
    if let Some(most) = advice.max_new_tokens {
        out.insert("max_new_tokens".into(), json!(most));
    }
    if advice.eos_ids != files.config.eos_ids {
        out.insert("eos_token_id".into(), json!(advice.eos_ids));
    }
    (!out.is_empty()).then_some(Value::Object(out))
}

fn write_json(path: &Path, value: &Value) -> Result<(), Failure> {
    write_text(path, &format!("{value:#}\n"))
}

fn write_text(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::disk(format!("cannot write {}: {error}", path.display()))
}

/// A file that could not be written is the disk's fault, not the model's.
fn not_written(error: soft_model::Error) -> Failure {
    match error {
        soft_model::Error::Io { path, source } => unwritable(&path, &source),
        other => other.into(),
    }
}

/// A folder beside the target that takes its place when it is whole, and goes when it never is.
struct Half(PathBuf);

impl Half {
    fn begin(target: &Path) -> Result<Self, Failure> {
        let Some(name) = target.file_name() else {
            let problem = format!("{} is no name for a new folder", target.display());
            return Err(Failure::usage(problem));
        };
        let name = format!(".{}.tmp-{}", name.to_string_lossy(), std::process::id());
        let path = target.with_file_name(name);
        fs::create_dir_all(&path).map_err(|error| unwritable(&path, &error))?;
        Ok(Self(path))
    }

    /// Files reach the disk before their folder has its name.
    fn commit(self, target: &Path) -> Result<(), Failure> {
        let failed = |error: io::Error| unwritable(target, &error);
        for entry in fs::read_dir(&self.0).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            File::open(path).and_then(|file| file.sync_all()).map_err(failed)?;
        }
        // An empty folder may be there; not every system renames over one.
        match fs::remove_dir(target) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        fs::rename(&self.0, target).map_err(failed)
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        // After the rename there is nothing left to delete.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Reads `5GB`, `200MB`, `1GiB` or a number of bytes.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 8] = [
        ("KIB", 1 << 10),
        ("MIB", 1 << 20),
        ("GIB", 1 << 30),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("B", 1),
    ];
    let upper = text.trim().to_ascii_uppercase();
    let (number, unit) = UNITS
        .iter()
        .find_map(|(name, unit)| Some((upper.strip_suffix(name)?, *unit)))
        .unwrap_or((&upper, 1));
    let bytes = number.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    match bytes {
        Some(bytes) if bytes > 0 => Ok(bytes),
        _ => Err("expected a whole number with a unit, such as 5GB, 200MB or 1GiB".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_decimal_and_binary_units() {
        let cases = [
            ("5GB", 5_000_000_000),
            ("200mb", 200_000_000),
            ("3 KB", 3_000),
            ("1GiB", 1 << 30),
            ("2MiB", 2 << 20),
            ("7KiB", 7 << 10),
            ("12B", 12),
            ("12", 12),
        ];
        for (text, expected) in cases {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "GB", "0", "0GB", "-1GB", "1.5GB", "5G", "99999999999TB", "five"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
