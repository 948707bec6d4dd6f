//! `soft score`: the log-probability of each token of a text.

use soft_model::{ModelFiles, Score as Scored};

use crate::arguments::{Global, Score};
use crate::failure::Failure;
use crate::generate::{load, open_files};
use crate::output::Output;
use crate::progress::Progress;
use crate::prompts::encode_text;
use crate::settings::{Without, loader};

/// Runs the verb.
pub(crate) fn run(arguments: &Score, global: &Global) -> Result<(), Failure> {
    let resolved = loader(None, global, Without::Defaults).load()?;
    let files = open_files(&arguments.model, arguments.adapter.as_deref())?;
    let ids = match (&arguments.text, &arguments.ids) {
        (Some(text), _) => encode_text(text, &files, "--ids")?,
        (None, ids) => ids.clone().unwrap_or_default(),
    };
    if ids.is_empty() {
        return Err(Failure::data("the text has no tokens; expected at least one"));
    }
    let model = load(&files, &resolved)?;
    let progress = Progress::new(format!("scoring {} tokens", ids.len()));
    let scored = soft_model::score(&model, &ids)?;
    drop(progress);
    let mut out = Output::new();
    match arguments.json {
        true => out.json(&scored)?,
        false => out.line(table(&scored, &files))?,
    }
    out.flush()
}

/// A line a token, then the mean.
fn table(scored: &Scored, files: &ModelFiles) -> String {
    let token = |id: u32| {
        let text = files.tokenizer.as_ref().and_then(|tokenizer| tokenizer.decode_token(id));
        text.map_or_else(String::new, |text| format!("{text:?}"))
    };
    let mut text = format!("{:>8}  {:>10}  token", "id", "log p");
    for (&id, logprob) in scored.token_ids.iter().zip(&scored.logprobs) {
        let logprob = logprob.map_or_else(|| "-".into(), |value| format!("{value:.4}"));
        let line = format!("\n{id:>8}  {logprob:>10}  {}", token(id));
        text.push_str(line.trim_end_matches(' '));
    }
    if let Some(mean) = scored.nll_mean {
        let perplexity = mean.exp();
        text.push_str(&format!("\nmean NLL {mean:.4} nats a token, perplexity {perplexity:.3}"));
    }
    text
}
