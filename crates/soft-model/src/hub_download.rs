//! Download of a model into the cache of Hugging Face's libraries (feature `hub`).

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::Path;

use hf_hub::Cache;
use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use serde_json::Value;

use crate::Error;
use crate::capped_file::read_capped;

#[cfg(test)]
mod tests;

const INDEX: &str = "model.safetensors.index.json";
/// What makes a folder a model: downloaded last, so that a download that was cut short is known.
const CONFIG: &str = "config.json";
/// Longest index that is read.
const MAX_INDEX_BYTES: u64 = 64 << 20;
/// Attempts at a file after the first.
const RETRIES: usize = 3;

/// Where models are downloaded from.
#[derive(Debug, Clone)]
pub(crate) struct Hub {
    endpoint: String,
    token: Option<String>,
}

impl Hub {
    /// `HF_ENDPOINT`, else Hugging Face's own, with `HF_TOKEN`; none where `HF_HUB_OFFLINE` says
    /// so. The variables are those of huggingface_hub.
    pub(crate) fn from_environment(variable: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        let text = |name| variable(name).and_then(|value| value.into_string().ok());
        let is_on = |value: &str| ["1", "ON", "YES", "TRUE"].contains(&&*value.to_uppercase());
        if text("HF_HUB_OFFLINE").is_some_and(|value| is_on(&value)) {
            return None;
        }
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        Some(Self { endpoint: endpoint.trim_end_matches('/').to_owned(), token: text("HF_TOKEN") })
    }

    /// Downloads the newest revision of `id` (`ORG/NAME`) into `cache`: settings, tokenizer and
    /// weights in safetensors; where there are none, the one GGUF file. Files that are there
    /// already stay.
    ///
    /// # Errors
    /// [`Error::NotAModel`] where the hub does not answer, has no such model or does not give it,
    /// or the model has no weights in a format that is read.
    pub(crate) fn download(&self, cache: &Path, id: &str) -> Result<(), Error> {
        let asked = Path::new(id);
        let problem = |error: ApiError| Error::not_a_model(asked, self.in_words(&error));
        let mut api = ApiBuilder::from_cache(Cache::new(cache.to_owned()))
            .with_endpoint(self.endpoint.clone())
            .with_retries(RETRIES)
            .with_progress(std::io::stderr().is_terminal());
        if self.token.is_some() {
            api = api.with_token(self.token.clone());
        }
        let repository = api.build().map_err(problem)?.model(id.to_owned());
        let names: Vec<String> =
            repository.info().map_err(problem)?.siblings.into_iter().map(|s| s.rfilename).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).filter(|n| is_plain(n)).collect();
        let get = |name: &str| repository.get(name).map_err(problem);
        let Some(weights) = self.weights(asked, &names, &repository)? else {
            return get(only_gguf(asked, &names)?).map(drop);
        };
        let settings = |name: &&str| {
            *name != CONFIG && [".json", ".jinja", ".toml"].iter().any(|end| name.ends_with(end))
        };
        for name in names.iter().copied().filter(settings) {
            get(name)?;
        }
        for name in &weights {
            get(name)?;
        }
        get(CONFIG).map(drop)
    }

    /// The files of the weights in safetensors; none where the model is not a folder of them.
    fn weights(
        &self,
        asked: &Path,
        names: &[&str],
        repository: &ApiRepo,
    ) -> Result<Option<BTreeSet<String>>, Error> {
        if !names.contains(&CONFIG) {
            return Ok(None);
        }
        if names.contains(&INDEX) {
            let index = repository.get(INDEX);
            let index = index.map_err(|error| Error::not_a_model(asked, self.in_words(&error)))?;
            let bytes = read_capped(&index, "JSON", MAX_INDEX_BYTES)?;
            let json: Value = serde_json::from_slice(&bytes)
                .map_err(|error| Error::format(&index, "JSON", error.to_string()))?;
            let files = json["weight_map"].as_object().into_iter().flat_map(|map| map.values());
            let files = files.filter_map(Value::as_str).filter(|name| is_plain(name));
            return Ok(Some(files.map(str::to_owned).collect()));
        }
        // Mistral's own layout lies beside that of Hugging Face, with the same weights.
        let is_weights =
            |name: &&&str| name.ends_with(".safetensors") && !name.starts_with("consolidated");
        let files: BTreeSet<String> =
            names.iter().filter(is_weights).map(|name| (*name).to_owned()).collect();
        Ok(Some(files).filter(|files| !files.is_empty()))
    }

    fn in_words(&self, error: &ApiError) -> String {
        let said = error.to_string();
        let advice = if said.contains("401") || said.contains("403") || said.contains("404") {
            "is the name right? A model that is gated or private needs HF_TOKEN"
        } else {
            "is there a network? HF_HUB_OFFLINE=1 looks in the cache alone"
        };
        format!("no such file or folder, and {} did not give it: {said}; {advice}", self.endpoint)
    }
}

/// Whether a name that a server gave stays in its folder.
fn is_plain(name: &str) -> bool {
    !name.starts_with('.') && !name.contains(['/', '\\', ':', '\0'])
}

fn only_gguf<'a>(asked: &Path, names: &[&'a str]) -> Result<&'a str, Error> {
    let files: Vec<&str> = names.iter().copied().filter(|name| name.ends_with(".gguf")).collect();
    match files[..] {
        [one] => Ok(one),
        [] => Err(Error::not_a_model(
            asked,
            "the model has no weights in safetensors and no GGUF file; others are not read: \
             pickles run code",
        )),
        _ => Err(Error::not_a_model(
            asked,
            format!(
                "the model has several GGUF files; download one with `hf download {} FILE` and \
                 give its path: {}",
                asked.display(),
                files.join(", ")
            ),
        )),
    }
}
