//! Rules about one file: its opening, name, length, and what is not finished in it.

use super::Offence;
use super::source::Source;

/// Longest file, tests included.
const MAX_LINES: usize = 600;

/// Names that say nothing about what a file holds.
const BANNED: [&str; 5] = ["utils", "helpers", "common", "base", "types"];

/// Comments that promise work instead of doing it; in pieces, so as not to accuse this file.
const MARKS: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];

/// A file starts by saying what it is; a file of unit tests is said by its parent.
pub(super) fn opening_doc(source: &Source) -> Vec<Offence> {
    if source.package().is_some() && source.is_test_file() {
        return Vec::new();
    }
    match source.text.lines().next() {
        Some(first) if first.starts_with("//!") => Vec::new(),
        _ => vec![offence(source, 1, "the first line must be `//!` and say what the file is")],
    }
}

/// A file is named after its subject.
pub(super) fn file_name(source: &Source) -> Vec<Offence> {
    let parts = source.name.trim_end_matches(".rs").split('/');
    let banned = parts.filter(|part| BANNED.contains(part));
    banned
        .map(|part| offence(source, 1, &format!("\"{part}\" names no subject: rename the file")))
        .collect()
}

/// A library returns its errors; only tests may panic on them.
pub(super) fn unwrap_in_library(source: &Source) -> Vec<Offence> {
    if source.package().is_none() || source.is_test_file() {
        return Vec::new();
    }
    let found = source.code_lines().filter(|(line, code)| {
        !source.is_test_line(*line) && (code.contains(".unwrap()") || code.contains("::unwrap"))
    });
    found
        .map(|(line, _)| {
            let message = "unwrap in library code: return an error, or `expect` the invariant";
            offence(source, line, message)
        })
        .collect()
}

/// Work is done or in an issue, not in a comment.
pub(super) fn unfinished(source: &Source) -> Vec<Offence> {
    let mut offences = Vec::new();
    for (line, comment) in source.comment_lines() {
        for mark in MARKS.iter().filter(|mark| has_word(comment, mark)) {
            offences.push(offence(source, line, &format!("{mark}: do it, or open an issue")));
        }
    }
    offences
}

/// A file has one subject, and fits in a reader's head.
pub(super) fn length(source: &Source) -> Vec<Offence> {
    let count = source.text.lines().count();
    if count <= MAX_LINES {
        return Vec::new();
    }
    vec![offence(source, MAX_LINES + 1, &format!("{count} lines, at most {MAX_LINES}: split it"))]
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|letter: char| !letter.is_alphanumeric()).any(|found| found == word)
}

fn offence(source: &Source, line: usize, message: &str) -> Offence {
    Offence { file: source.name.clone(), line, message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(text: &str) -> Source {
        Source::new("crates/soft-core/src/mix.rs", text)
    }

    fn lines(offences: &[Offence]) -> Vec<usize> {
        offences.iter().map(|offence| offence.line).collect()
    }

    #[test]
    fn a_file_without_an_opening_doc_is_refused() {
        assert_eq!(lines(&opening_doc(&library("use std::fs;\n"))), [1]);
        assert_eq!(lines(&opening_doc(&library(""))), [1]);
        assert_eq!(opening_doc(&library("//! Mixtures.\n")), []);
        let unit_tests = Source::new("crates/soft-core/src/mix/tests.rs", "use super::*;\n");
        assert_eq!(opening_doc(&unit_tests), []);
        assert_eq!(lines(&opening_doc(&Source::new("tests/laws.rs", "use std::fs;\n"))), [1]);
    }

    #[test]
    fn a_name_without_a_subject_is_refused_for_files_and_folders() {
        let named = |name: &str| file_name(&Source::new(name, "//! x\n")).len();
        assert_eq!(named("crates/soft-core/src/utils.rs"), 1);
        assert_eq!(named("crates/soft-core/src/common/mod.rs"), 1);
        assert_eq!(named("crates/soft-core/src/base_model.rs"), 0);
    }

    #[test]
    fn unwrap_is_refused_in_a_library_and_allowed_in_its_tests() {
        let text = "//! x\nfn f() { g().unwrap(); }\n\n#[cfg(test)]\nmod tests {\n    \
                    #[test]\n    fn t() { g().unwrap(); }\n}\nfn h() { g().unwrap() }\n";
        assert_eq!(lines(&unwrap_in_library(&library(text))), [2, 9]);
        assert_eq!(lines(&unwrap_in_library(&library("x.map(Option::unwrap)"))), [1]);
        assert_eq!(unwrap_in_library(&library("x.unwrap_or(1) // not .unwrap()")), []);
        let tests = Source::new("crates/soft-core/src/mix/tests.rs", "x.unwrap();");
        assert_eq!(unwrap_in_library(&tests), []);
        assert_eq!(unwrap_in_library(&Source::new("tests/laws.rs", "x.unwrap();")), []);
    }

    #[test]
    fn a_promise_in_a_comment_is_refused_and_in_a_string_is_not() {
        let mark = MARKS[0];
        assert_eq!(lines(&unfinished(&library(&format!("//! x\n// {mark}: split\n")))), [2]);
        assert_eq!(lines(&unfinished(&library(&format!("/* a\n {}(me) */", MARKS[1])))), [2]);
        assert_eq!(unfinished(&library(&format!("let x = \"{mark}\"; // {mark}NOTAWORD"))), []);
    }

    #[test]
    fn a_file_over_the_limit_is_refused() {
        assert_eq!(length(&library(&"\n".repeat(MAX_LINES))), []);
        assert_eq!(lines(&length(&library(&"\n".repeat(MAX_LINES + 1)))), [MAX_LINES + 1]);
    }
}
