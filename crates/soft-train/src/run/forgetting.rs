//! The forgetting meter: how well a model still predicts plain text that it is not trained on.

use std::fs;

use soft_model::{Transformer, score};

use super::base_model::Base;
use crate::config::Config;
use crate::error::Error;

/// Tokens that are read at once: the context of a prediction is at most this long.
const WINDOW: usize = 256;

/// Held-out plain text, cut into windows.
#[derive(Debug, Clone)]
pub(super) struct PlainText {
    windows: Vec<Vec<u32>>,
}

impl PlainText {
    /// The first `eval.text_tokens` tokens of the files of `eval.text`; `None` where none is named.
    ///
    /// # Errors
    /// A file that cannot be read or is no UTF-8, no tokenizer, or less than two tokens of text.
    pub(super) fn open(config: &Config) -> Result<Option<Self>, Error> {
        let files = config.eval.text.as_slice();
        if files.is_empty() {
            return Ok(None);
        }
        let base = Base::open(config)?;
        let tokenizer = base.as_ref().and_then(|base| base.files.tokenizer.as_ref());
        let (Some(base), Some(tokenizer)) = (&base, tokenizer) else {
            let report = "`eval.text` is set, and there is no tokenizer to read it with; expected \
                          a `model.path` with one, or no text";
            return Err(Error::Config { report: report.into() });
        };
        let mut ids: Vec<u32> = Vec::new();
        for file in files {
            let text = fs::read_to_string(file).map_err(|error| Error::Data {
                report: format!("cannot read `eval.text` {file}: {error}"),
            })?;
            ids.extend(tokenizer.encode(&text, false)?);
        }
        ids.truncate(config.eval.text_tokens);
        let bos = tokenizer.bos_id();
        let added = config.taken_positions() + usize::from(bos.is_some());
        let room = WINDOW.min(base.files.context()).saturating_sub(added);
        if room < 2 {
            let report =
                format!("`eval.text`: {room} positions are left for it, expected 2 or more");
            return Err(Error::Data { report });
        }
        let windows: Vec<Vec<u32>> = ids
            .chunks(room)
            .map(|window| bos.into_iter().chain(window.iter().copied()).collect())
            .filter(|window: &Vec<u32>| window.len() > 1)
            .collect();
        if windows.is_empty() {
            let report = format!("`eval.text` holds {} tokens, expected at least 2", ids.len());
            return Err(Error::Data { report });
        }
        Ok(Some(Self { windows }))
    }

    /// `exp` of the mean negative log-likelihood of a token, in windows of at most 256 tokens that
    /// do not overlap; the first token of a window is not predicted.
    ///
    /// # Errors
    /// Those of scoring.
    pub(super) fn perplexity(&self, model: &Transformer) -> Result<f64, Error> {
        let (mut sum, mut count) = (0.0, 0.0);
        for window in &self.windows {
            let scored = score(model, window)?;
            sum -= scored.logprobs.iter().flatten().sum::<f64>();
            count += scored.logprobs.iter().flatten().count() as f64;
        }
        Ok((sum / f64::max(count, 1.0)).exp())
    }
}
