//! Prompts: from the command line or a file, as text or as token ids.

use std::path::Path;

use soft_model::{Message, ModelFiles};

use crate::arguments::Generate;
use crate::failure::Failure;

/// A prompt as it was given.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Prompt {
    /// Text, for the chat template and the tokenizer.
    Text(String),
    /// Token ids, used as they are.
    Ids(Vec<u32>),
}

/// The prompts of a command line, in order.
///
/// # Errors
/// A file that cannot be read, has a broken line or no prompt.
pub(crate) fn read(arguments: &Generate) -> Result<Vec<Prompt>, Failure> {
    let prompts = match (&arguments.prompt, &arguments.prompts, &arguments.prompt_ids) {
        (Some(text), ..) => vec![Prompt::Text(text.clone())],
        (_, Some(path), _) => read_file(path)?,
        (.., ids) => vec![Prompt::Ids(ids.clone().unwrap_or_default())],
    };
    let empty = prompts.iter().any(|prompt| match prompt {
        Prompt::Text(text) => text.is_empty(),
        Prompt::Ids(ids) => ids.is_empty(),
    });
    if prompts.is_empty() || empty {
        return Err(Failure::data("a prompt is empty; expected at least one token"));
    }
    Ok(prompts)
}

fn read_file(path: &Path) -> Result<Vec<Prompt>, Failure> {
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::data(format!("cannot read {}: {error}", path.display())))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..good].iter().filter(|&&byte| byte == b'\n').count();
        Failure::data(format!("{}:{line}: not UTF-8 text", path.display()))
    })?;
    let prompts = parse(&text).map_err(|(line, problem)| {
        Failure::data(format!("{}:{line}: {problem}", path.display()))
    })?;
    if prompts.is_empty() {
        return Err(Failure::data(format!(
            "{}: no prompts; expected one a line, as text or as {{\"prompt\": \"..\"}}",
            path.display()
        )));
    }
    Ok(prompts)
}

/// One prompt a line; empty lines do not count. A line that opens a brace is a JSON object.
fn parse(text: &str) -> Result<Vec<Prompt>, (usize, String)> {
    let text = text.trim_start_matches('\u{feff}');
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| match line.trim_start().starts_with('{') {
            true => from_object(line).map_err(|problem| (number + 1, problem)),
            false => Ok(Prompt::Text(line.to_owned())),
        })
        .collect()
}

fn from_object(line: &str) -> Result<Prompt, String> {
    let object: serde_json::Value =
        serde_json::from_str(line).map_err(|error| format!("broken JSON: {error}"))?;
    match object.get("prompt") {
        Some(serde_json::Value::String(text)) if !text.is_empty() => Ok(Prompt::Text(text.clone())),
        Some(other) => Err(format!("`prompt` is {other}; expected a string that is not empty")),
        None => Err("no key `prompt` in this object; expected {\"prompt\": \"..\"}".into()),
    }
}

/// The token ids of a prompt.
///
/// # Errors
/// Text for a model without a tokenizer, or a template or tokenizer that fails.
pub(crate) fn encode(prompt: &Prompt, files: &ModelFiles, chat: bool) -> Result<Vec<u32>, Failure> {
    let text = match prompt {
        Prompt::Ids(ids) => return Ok(ids.clone()),
        Prompt::Text(text) => text,
    };
    match &files.chat_template {
        Some(template) if chat => {
            let rendered = template.render(&[Message::new("user", text.as_str())], true)?;
            encode_text(&rendered, files, "--prompt-ids")
        }
        _ => encode_text(text, files, "--prompt-ids"),
    }
}

/// The token ids of a text; `instead` is the flag that takes ids.
///
/// # Errors
/// A model without a tokenizer, or a tokenizer that fails.
pub(crate) fn encode_text(
    text: &str,
    files: &ModelFiles,
    instead: &str,
) -> Result<Vec<u32>, Failure> {
    let Some(tokenizer) = &files.tokenizer else {
        let why = files.tokenizer_note.as_deref().unwrap_or("the model has no tokenizer");
        return Err(Failure::model(format!("{why}; give token ids with `{instead}`")));
    };
    Ok(tokenizer.encode(text, true)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_text_or_objects() {
        let text = "\u{feff}plain text\r\n\n{\"prompt\": \"a\\nb\", \"id\": 3}\n  [x]\n";
        let texts = ["plain text", "a\nb", "  [x]"].map(|t| Prompt::Text(t.into()));
        assert_eq!(parse(text), Ok(texts.to_vec()));
        assert_eq!(parse(" \n"), Ok(vec![]));
    }

    #[test]
    fn a_broken_line_is_named() {
        let line_and_start = |text: &str| {
            let (line, problem) = parse(text).expect_err("the line is broken");
            (line, problem.split([':', ';']).next().unwrap_or_default().to_owned())
        };
        assert_eq!(line_and_start("a\n{\"prompt\": "), (2, "broken JSON".into()));
        assert_eq!(
            line_and_start("\n\n{\"text\": 1}"),
            (3, "no key `prompt` in this object".into())
        );
        assert_eq!(line_and_start("{\"prompt\": 5}"), (1, "`prompt` is 5".into()));
        assert_eq!(line_and_start("{\"prompt\": \"\"}"), (1, "`prompt` is \"\"".into()));
    }
}
