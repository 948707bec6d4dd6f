//! Questions and their answers, one JSON object a line.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::data::{Lines, MAX_LINE_BYTES};
use crate::error::Error;

const QUESTION: [&str; 4] = ["question", "problem", "prompt", "input"];
const ANSWER: [&str; 3] = ["answer", "solution", "target"];
/// Bad lines that are shown; the others are only counted.
const SHOWN: usize = 5;

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What is asked, its choices included.
    pub text: String,
    /// The right answer: where the file gives `... #### 13`, what follows the mark.
    pub answer: String,
}

/// Reads the questions of the files at `paths`, in order: objects with `question` (or `problem`,
/// `prompt`, `input`) and `answer` (or `solution`, `target`). With `choices`, a list, these are
/// added as lines `A. ..`, and an answer that is a number is the place of one, from 0.
///
/// # Errors
/// [`Error::Data`] for a file that cannot be read, bad lines (all are counted, the first five shown
/// with line and column), or no question; [`Error::Config`] if no file is named.
pub fn read_questions(paths: &[PathBuf]) -> Result<Vec<Question>, Error> {
    if paths.is_empty() {
        return Err(Error::Config {
            report: "no file of questions is named: set `eval.data`".into(),
        });
    }
    let mut questions = Vec::new();
    for path in paths {
        questions.extend(read_file(path)?);
    }
    Ok(questions)
}

fn read_file(path: &Path) -> Result<Vec<Question>, Error> {
    let data = |report| Error::Data { report };
    let unreadable =
        |error: std::io::Error| data(format!("cannot read {}: {error}", path.display()));
    let file = File::open(path).map_err(unreadable)?;
    let mut lines = Lines::new(BufReader::new(file), MAX_LINE_BYTES);
    let (mut questions, mut bad, mut count) = (Vec::new(), Vec::new(), 0usize);
    while let Some((line, text)) = lines.next_line().map_err(unreadable)? {
        let parsed = match text {
            Ok(text) if text.trim().is_empty() => continue,
            Ok(text) => parse(&text),
            Err(found) => Err(found),
        };
        match parsed {
            Ok(question) => questions.push(question),
            Err((column, problem)) => {
                count += 1;
                if bad.len() < SHOWN {
                    bad.push(format!("{}:{line}:{column}: {problem}", path.display()));
                }
            }
        }
    }
    if count > bad.len() {
        bad.push(format!("and {} more bad lines", count - bad.len()));
    }
    match (count, questions.is_empty()) {
        (0, false) => Ok(questions),
        (0, true) => Err(data(format!(
            "{}: no questions; expected {{\"question\": \"..\", \"answer\": \"..\"}}, one a line",
            path.display()
        ))),
        _ => Err(data(bad.join("\n"))),
    }
}

fn parse(line: &str) -> Result<Question, (usize, String)> {
    let value: Value = serde_json::from_str(line).map_err(|error| {
        let text = error.to_string();
        let what = text.split(" at line ").next().unwrap_or_default();
        (error.column().max(1), format!("broken JSON: {what}"))
    })?;
    let Value::Object(object) = value else {
        return Err((1, "expected an object with `question` and `answer`".into()));
    };
    let at_start = |problem| (1, problem);
    let mut text = text_of(&object, &QUESTION).map_err(at_start)?;
    let mut answer = text_of(&object, &ANSWER).map_err(at_start)?;
    if let Some((_, after)) = answer.rsplit_once("####") {
        answer = after.trim().to_owned();
    }
    if let Some(choices) = object.get("choices") {
        let listed = choices.as_array().filter(|choices| (1..=10).contains(&choices.len()));
        let problem = || at_start("`choices` is no list of 1 to 10 entries".to_owned());
        let listed = listed.ok_or_else(problem)?;
        for (letter, choice) in ('A'..).zip(listed) {
            let choice = choice.as_str().map_or_else(|| choice.to_string(), str::to_owned);
            text.push_str(&format!("\n{letter}. {choice}"));
        }
        if let Ok(place) = answer.parse::<u8>()
            && usize::from(place) < listed.len()
        {
            answer = char::from(b'A' + place).to_string();
        }
    }
    Ok(Question { text, answer })
}

fn text_of(object: &Map<String, Value>, keys: &[&str]) -> Result<String, String> {
    let found = keys.iter().find_map(|key| Some((key, object.get(*key)?)));
    let text = match found {
        Some((_, Value::String(text))) => text.trim().to_owned(),
        Some((_, Value::Number(number))) => number.to_string(),
        Some((key, other)) => return Err(format!("`{key}` is {other}; expected text")),
        None => {
            let there: Vec<&str> = object.keys().map(String::as_str).collect();
            return Err(format!("no key `{}` (keys: {})", keys[0], there.join(", ")));
        }
    };
    match text.is_empty() {
        true => Err(format!("`{}` is empty", keys[0])),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(line: &str) -> (String, String) {
        let question = parse(line).expect("a good line");
        (question.text, question.answer)
    }

    #[test]
    fn questions_are_found_by_the_keys_that_are_usual() {
        let is = |text: &str, answer: &str| (text.to_owned(), answer.to_owned());
        assert_eq!(question(r#"{"question": " 1+1? ", "answer": "2", "x": 1}"#), is("1+1?", "2"));
        assert_eq!(question(r#"{"problem": "1+1?", "solution": 2}"#), is("1+1?", "2"));
        let worked = r#"{"question": "q", "answer": "so 9 - 5 = 4\n#### 13"}"#;
        assert_eq!(question(worked), is("q", "13"));
        let choices = r#"{"input": "q", "target": 1, "choices": ["x", "y"]}"#;
        assert_eq!(question(choices), is("q\nA. x\nB. y", "B"));
    }

    #[test]
    fn every_bad_line_is_counted_and_the_first_are_placed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("q.jsonl");
        let report = |text: &str| {
            std::fs::write(&path, text).expect("written");
            match read_questions(std::slice::from_ref(&path)) {
                Err(Error::Data { report }) => report,
                other => panic!("{other:?}"),
            }
        };
        let good = "{\"question\": \"q\", \"answer\": \"a\"}\n";
        let text =
            format!("{good}{{\"question\": \"q\",,}}\n\n{{\"q\": 1}}\n{{\"question\": \"\"}}\n7\n");
        let lines: Vec<String> = report(&text).lines().map(str::to_owned).collect();
        assert!(lines[0].contains("q.jsonl:2:18: broken JSON"), "{lines:?}");
        assert!(lines[1].contains("q.jsonl:4:1: no key `question` (keys: q)"), "{lines:?}");
        assert!(lines[2].contains("`question` is empty") && lines[3].contains("an object"));
        assert!(report("\n \n").contains("no questions; expected"));
        assert!(report(&"{\n".repeat(9)).ends_with("and 4 more bad lines"));
        std::fs::write(&path, good).expect("written");
        assert_eq!(read_questions(&[path.clone(), path]).map(|all| all.len()).ok(), Some(2));
    }
}
