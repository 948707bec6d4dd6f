//! Prompts: from the command line or a file, as text or as token ids.

use std::path::Path;

use soft_model::ModelFiles;
use soft_train::config::Config;
use soft_train::decoding::encode_prompt;

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
    let prompts = parse(&text).map_err(|(line, column, problem)| {
        Failure::data(format!("{}:{line}:{column}: {problem}", path.display()))
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
/// Errors say line and column, from 1.
fn parse(text: &str) -> Result<Vec<Prompt>, (usize, usize, String)> {
    let text = text.trim_start_matches('\u{feff}');
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| match line.trim_start().starts_with('{') {
            true => from_object(line).map_err(|(column, problem)| (number + 1, column, problem)),
            false => Ok(Prompt::Text(line.to_owned())),
        })
        .collect()
}

fn from_object(line: &str) -> Result<Prompt, (usize, String)> {
    let object: serde_json::Value = serde_json::from_str(line).map_err(|error| {
        let text = error.to_string();
        let what = text.split(" at line ").next().unwrap_or_default();
        (error.column().max(1), format!("broken JSON: {what}"))
    })?;
    let at_start = |problem| Err((1, problem));
    match object.get("prompt") {
        Some(serde_json::Value::String(text)) if !text.is_empty() => Ok(Prompt::Text(text.clone())),
        Some(other) => {
            at_start(format!("`prompt` is {other}; expected a string that is not empty"))
        }
        None => {
            at_start("no key `prompt` in this object; expected {\"prompt\": \"..\"}".to_owned())
        }
    }
}

/// The token ids of a prompt. A rendered chat has the special tokens that it needs: as in
/// transformers, none are added to it.
///
/// # Errors
/// Text for a model without a tokenizer, or a template or tokenizer that fails.
pub(crate) fn encode(
    prompt: &Prompt,
    files: &ModelFiles,
    config: &Config,
) -> Result<Vec<u32>, Failure> {
    match prompt {
        Prompt::Ids(ids) => Ok(ids.clone()),
        Prompt::Text(text) => encode_prompt(config, files, text).map_err(|error| match error {
            soft_train::Error::Model(error) => or_ids(&error, "--prompt-ids"),
            other => other.into(),
        }),
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
    files.encode_prompt(text, false).map_err(|error| or_ids(&error, instead))
}

/// What is wrong with a text, and the flag that needs none.
fn or_ids(error: &soft_model::Error, flag: &str) -> Failure {
    match error {
        soft_model::Error::NoText(why) => {
            Failure::model(format!("{why}; give token ids with `{flag}`"))
        }
        other => Failure::model(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(chat: bool) -> Config {
        let mut config = Config::default();
        config.generate.chat = chat;
        config
    }

    /// A folder with a model of zeros, whose tokenizer puts token 0 before a text.
    fn with_template(template: &str) -> ModelFiles {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, text: String| {
            std::fs::write(folder.path().join(name), text).expect("written");
        };
        let json = serde_json::json!({
            "model_type": "llama", "vocab_size": 4, "hidden_size": 4, "intermediate_size": 4,
            "num_hidden_layers": 1, "num_attention_heads": 1, "max_position_embeddings": 8,
            "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
        });
        write("config.json", json.to_string());
        let config = soft_model::ModelConfig::from_hf(&json, Path::new("config.json"));
        let tensors: Vec<_> = soft_model::expected_tensors(&config.expect("a llama"))
            .into_iter()
            .map(|(name, shape)| {
                let values = vec![0.0; shape.iter().product()];
                soft_model::NamedTensor { name, shape, values }
            })
            .collect();
        let path = folder.path().join("model.safetensors");
        soft_model::save_safetensors(&path, &tensors).expect("written");
        let first = serde_json::json!({"SpecialToken": {"id": "<s>", "type_id": 0}});
        let text = serde_json::json!({"Sequence": {"id": "A", "type_id": 0}});
        let tokenizer = serde_json::json!({
            "version": "1.0",
            "added_tokens": [{"id": 0, "content": "<s>", "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true}],
            "post_processor": {
                "type": "TemplateProcessing", "single": [first, text], "pair": [],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
            },
            "model": {"type": "BPE", "vocab": {"<s>": 0, "a": 1, "[": 2, "]": 3}, "merges": []},
        });
        write("tokenizer.json", tokenizer.to_string());
        write("chat_template.jinja", template.to_owned());
        ModelFiles::open(folder.path()).expect("it opens")
    }

    #[test]
    fn nothing_is_added_to_a_rendered_chat() {
        let files = with_template("[{{ messages[0].content }}]");
        let prompt = Prompt::Text("a".into());
        assert_eq!(encode(&prompt, &files, &chat(true)), Ok(vec![2, 1, 3]));
        assert_eq!(encode(&prompt, &files, &chat(false)), Ok(vec![0, 1]));
    }

    #[test]
    fn a_broken_template_fails_only_where_it_would_be_used() {
        let files = with_template("{% if %}");
        let prompt = Prompt::Text("a".into());
        let Err(Failure::Message { text, code: 4 }) = encode(&prompt, &files, &chat(true)) else {
            panic!("refused with code 4")
        };
        assert!(text.starts_with("chat template: syntax error"), "{text}");
        assert!(text.contains("generate.chat=false leaves the template out"), "{text}");
        assert_eq!(encode(&prompt, &files, &chat(false)), Ok(vec![0, 1]));
        assert_eq!(encode(&Prompt::Ids(vec![3]), &files, &chat(true)), Ok(vec![3]));
    }

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
            let (line, column, problem) = parse(text).expect_err("the line is broken");
            assert!(column >= 1);
            (line, problem.split([':', ';']).next().unwrap_or_default().to_owned())
        };
        assert_eq!(line_and_start("a\n{\"prompt\": "), (2, "broken JSON".into()));
        assert_eq!(
            line_and_start("\n\n{\"text\": 1}"),
            (3, "no key `prompt` in this object".into())
        );
        let (line, column, problem) = parse("a\n{\"prompt\" 1}").expect_err("no colon");
        assert_eq!((line, column, &*problem), (2, 11, "broken JSON: expected `:`"));
        assert_eq!(line_and_start("{\"prompt\": 5}"), (1, "`prompt` is 5".into()));
        assert_eq!(line_and_start("{\"prompt\": \"\"}"), (1, "`prompt` is \"\"".into()));
    }
}
