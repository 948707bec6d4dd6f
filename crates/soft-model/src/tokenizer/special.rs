//! Special tokens and chat template beside a `tokenizer.json`.

use std::path::Path;

use serde_json::Value;

use crate::Error;
use crate::capped_file::{read_capped, read_capped_text};
use crate::tokenizer::guard::MAX_BYTES;

/// Longest `chat_template.jinja` that is read; published ones take some 20 KB.
const MAX_TEMPLATE_BYTES: u64 = 4 << 20;

/// The named tokens; each is text that the tokenizer knows as one token.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct SpecialTokens {
    pub(super) bos: Option<String>,
    pub(super) eos: Option<String>,
    pub(super) pad: Option<String>,
    pub(super) unk: Option<String>,
}

impl SpecialTokens {
    /// `tokenizer_config.json` first, `special_tokens_map.json` for what it leaves out.
    pub(super) fn read(folder: &Path) -> Result<Self, Error> {
        let config = optional_json(&folder.join("tokenizer_config.json"))?;
        let map = optional_json(&folder.join("special_tokens_map.json"))?;
        let token = |name: &str| {
            [&config, &map].into_iter().flatten().find_map(|file| text_of(&file[name]))
        };
        Ok(Self {
            bos: token("bos_token"),
            eos: token("eos_token"),
            pad: token("pad_token"),
            unk: token("unk_token"),
        })
    }

    /// Hugging Face's names with the tokens that are set.
    pub(super) fn named(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [
            ("bos_token", &self.bos),
            ("eos_token", &self.eos),
            ("pad_token", &self.pad),
            ("unk_token", &self.unk),
        ];
        all.into_iter().filter_map(|(name, token)| Some((name, token.as_deref()?)))
    }
}

/// A token is a string, or an object with its `content`.
fn text_of(token: &Value) -> Option<String> {
    token.as_str().or_else(|| token["content"].as_str()).map(str::to_owned)
}

/// `chat_template.jinja`, else the key of `tokenizer_config.json`, which is one template or a
/// list of named ones of which `default` is taken, else `chat_template.json`.
pub(super) fn chat_template(folder: &Path) -> Result<Option<String>, Error> {
    let path = folder.join("chat_template.jinja");
    if path.exists() {
        return read_capped_text(&path, "chat template", MAX_TEMPLATE_BYTES).map(Some);
    }
    for file in ["tokenizer_config.json", "chat_template.json"] {
        let Some(json) = optional_json(&folder.join(file))? else { continue };
        let template = match &json["chat_template"] {
            Value::Array(named) => named
                .iter()
                .find(|entry| entry["name"] == "default")
                .and_then(|entry| entry["template"].as_str()),
            other => other.as_str(),
        };
        if let Some(template) = template {
            return Ok(Some(template.to_owned()));
        }
    }
    Ok(None)
}

fn optional_json(path: &Path) -> Result<Option<Value>, Error> {
    if !path.exists() {
        return Ok(None);
    }
    let bytes = read_capped(path, "JSON", MAX_BYTES)?;
    let json = serde_json::from_slice(&bytes)
        .map_err(|error| Error::tokenizer(path, format!("not valid JSON: {error}")))?;
    Ok(Some(json))
}
