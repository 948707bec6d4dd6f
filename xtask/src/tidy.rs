//! `cargo xtask tidy`: house rules that no compiler checks. Each rule is a function from a source
//! file (or the manifests) to its offences, with a made-up offender as its test.

mod direction;
mod rules;
mod source;

use std::fs;
use std::path::{Path, PathBuf};

use crate::process::{Failure, Outcome, metadata, workspace_root};
use source::Source;

/// One broken rule: where, and what to do about it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Offence {
    pub(crate) file: String,
    /// Counted from 1.
    pub(crate) line: usize,
    pub(crate) message: String,
}

/// Checks the manifests and every Rust file of the project.
pub(crate) fn run() -> Outcome {
    let root = workspace_root();
    let mut files = Vec::new();
    for folder in ["crates", "examples", "tests", "xtask"] {
        collect(&root.join(folder), &mut files)?;
    }
    let mut offences = direction::manifests(&metadata()?);
    for file in &files {
        let text = fs::read_to_string(file).map_err(|error| cannot_read(file, &error))?;
        let name = file.strip_prefix(&root).unwrap_or(file).to_string_lossy().replace('\\', "/");
        offences.extend(check(&Source::new(&name, &text)));
    }
    offences.sort();
    for Offence { file, line, message } in &offences {
        eprintln!("{file}:{line}: {message}");
    }
    match offences.len() {
        0 => {
            println!("tidy: {} files, nothing to say", files.len());
            Ok(())
        }
        count => Err(Failure::new(format!("tidy: {count} offences in {} files", files.len()))),
    }
}

fn check(source: &Source) -> Vec<Offence> {
    let rules = [
        direction::imports,
        rules::opening_doc,
        rules::file_name,
        rules::unwrap_in_library,
        rules::unfinished,
        rules::length,
    ];
    rules.iter().flat_map(|rule| rule(source)).collect()
}

/// All `.rs` files below `folder`.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Outcome {
    for entry in fs::read_dir(folder).map_err(|error| cannot_read(folder, &error))?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if entry.file_name() != "target" {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn cannot_read(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("tidy: cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decent_file_has_no_offence_and_a_bad_one_has_each() {
        let decent = "//! What it is.\n\nfn answer() -> u32 {\n    42\n}\n";
        assert_eq!(check(&Source::new("crates/soft-core/src/answer.rs", decent)), []);

        let note = concat!("// TO", "DO: later\n");
        let bad = format!("use soft_train::Run;\n{note}fn f() {{ g().unwrap(); }}\n");
        let found = check(&Source::new("crates/soft-core/src/utils.rs", &bad));
        assert_eq!(found.len(), 5, "{found:#?}");
    }
}
