//! `soft generate`: a model continues prompts, softly or token by token.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use burn::tensor::DType;
use serde_json::{Value, json};
use soft_model::{ModelFiles, Tokenizer, Transformer, embedding_norms};
use soft_train::comparison::Extractor;
use soft_train::config::Resolved;
use soft_train::decoding::{Continuations, Decoding, Search};
use soft_train::trace::{Context, Row};

use crate::arguments::{Generate, Global};
use crate::failure::Failure;
use crate::output::{Output, to_json};
use crate::progress::Progress;
use crate::prompts::{Prompt, encode, read};
use crate::settings::{Without, device, loader};

/// Rows that are run at once.
const BATCH: usize = 16;

/// Runs the verb.
pub(crate) fn run(arguments: &Generate, global: &Global) -> Result<(), Failure> {
    let prompts = read(arguments)?;
    let (files, resolved) = open(arguments, global)?;
    let rows = prompts.iter().map(|prompt| encode(prompt, &files, &resolved.config));
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    check_lengths(&rows, files.context())?;
    let mut decoding = Decoding::new(&resolved.config, &files)?;
    decoding.options.record = arguments.json || arguments.trace.is_some();
    let model = load(&files, &resolved)?;
    let norms = match decoding.options.record {
        true => embedding_norms(&model),
        false => [0.0; 3],
    };
    let context = Context::new(&resolved.config, decoding.name.clone(), norms);
    let several = prompts.len() > 1;
    let extractor = Extractor::new(&resolved.config.eval)?;
    let mut sink = Sink::new(arguments, several, context, files.tokenizer.as_ref(), extractor)?;
    let streams = !several && !arguments.json && decoding.search == Search::One;
    if streams && std::io::stdout().is_terminal() {
        return stream(&model, &rows, &decoding, &mut sink, &prompts);
    }
    let progress = Progress::counting(prompts.len() as u64, "generating");
    let mut tokens = 0u64;
    let batch = (BATCH / decoding.search.rows()).max(1);
    for (number, (prompts, rows)) in prompts.chunks(batch).zip(rows.chunks(batch)).enumerate() {
        let made = decoding.run(&model, rows, number * batch, &mut |_, _, _| {
            tokens += 1;
            progress.note(format!("{tokens} tokens"));
        })?;
        progress.advance(rows.len() as u64);
        for ((prompt, ids), made) in prompts.iter().zip(rows).zip(&made) {
            sink.write(prompt, ids, made)?;
        }
    }
    drop(progress);
    sink.finish()
}

/// Checks all prompts before the first is run.
fn check_lengths(rows: &[Vec<u32>], context: usize) -> Result<(), Failure> {
    let Some(long) = rows.iter().position(|ids| ids.len() > context) else { return Ok(()) };
    let number = if rows.len() > 1 { format!("prompt {}: ", long + 1) } else { String::new() };
    Err(Failure::data(format!(
        "{number}{} tokens are over the model's context of {context} positions; shorten it",
        rows[long].len()
    )))
}

/// Writes one prompt's text to the terminal as it is made.
fn stream(
    model: &Transformer,
    rows: &[Vec<u32>],
    decoding: &Decoding,
    sink: &mut Sink<'_>,
    prompts: &[Prompt],
) -> Result<(), Failure> {
    let mut ids = Vec::new();
    let mut shown = 0;
    let mut outcome = Ok(());
    let tokenizer = sink.tokenizer;
    let made = decoding.run(model, rows, 0, &mut |_, token, _| {
        ids.push(token);
        let Some(tokenizer) = tokenizer else { return };
        let text = tokenizer.decode_visible(&ids);
        // A character may be made of several tokens: half of one is not shown.
        if !text.ends_with('\u{fffd}') && text.is_char_boundary(shown) && shown < text.len() {
            let written = sink.out.text(&text[shown..]);
            shown = text.len();
            if outcome.is_ok() {
                outcome = written;
            }
        }
    })?;
    outcome?;
    let generation = &made[0].rows[0];
    let whole = tokenizer.map(|tokenizer| tokenizer.decode_visible(&generation.token_ids));
    match whole {
        Some(whole) => sink.out.line(whole.get(shown..).unwrap_or_default())?,
        None => sink.out.line(list(&generation.token_ids))?,
    }
    sink.trace(&prompts[0], &rows[0], &made[0])?;
    sink.finish_trace()
}

/// The model's files and the configuration, in which the model's own settings take part.
fn open(arguments: &Generate, global: &Global) -> Result<(ModelFiles, Resolved), Failure> {
    let sources = || {
        let loader = loader(Some(&arguments.source), global, Without::Defaults);
        match &arguments.model {
            Some(path) => loader.flag("--model", "model.path", path.display().to_string()),
            None => loader,
        }
    };
    let resolved = sources().load()?;
    let Some(path) =
        arguments.model.clone().or(resolved.config.model.path.clone().map(PathBuf::from))
    else {
        return Err(Failure::usage(
            "no model: give one with `--model PATH`, or `model.path` in a configuration",
        ));
    };
    let named = resolved.config.model.adapter.as_deref().map(Path::new);
    let files = open_files(&path, arguments.adapter.as_deref().or(named))?;
    let resolved = match &files.soft {
        Some(text) => sources().model(text).load()?,
        None => resolved,
    };
    Ok((files, resolved))
}

/// The files of a model, and of an adapter over it.
pub(crate) fn open_files(model: &Path, adapter: Option<&Path>) -> Result<ModelFiles, Failure> {
    let files = ModelFiles::open(model)?;
    Ok(match adapter {
        Some(adapter) => files.with_adapter(adapter)?,
        None => files,
    })
}

/// The weights on the device of a configuration.
pub(crate) fn load(files: &ModelFiles, resolved: &Resolved) -> Result<Transformer, Failure> {
    let device = device(resolved)?;
    let _progress = Progress::new("loading the model");
    Ok(Transformer::open(files, &device, DType::F32)?)
}

fn list(ids: &[u32]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Where results go: standard output, and a trace file.
struct Sink<'a> {
    out: Output,
    json: bool,
    several: bool,
    context: Context,
    tokenizer: Option<&'a Tokenizer>,
    extractor: Extractor,
    trace: Option<(PathBuf, BufWriter<File>)>,
}

impl<'a> Sink<'a> {
    fn new(
        arguments: &Generate,
        several: bool,
        context: Context,
        tokenizer: Option<&'a Tokenizer>,
        extractor: Extractor,
    ) -> Result<Self, Failure> {
        let create = |path: &PathBuf| match File::create(path) {
            Ok(file) => Ok((path.clone(), BufWriter::new(file))),
            Err(error) => Err(cannot_write(path, &error)),
        };
        let trace = arguments.trace.as_ref().map(create).transpose()?;
        let (out, json) = (Output::new(), arguments.json);
        Ok(Self { out, json, several, context, tokenizer, extractor, trace })
    }

    fn write(&mut self, prompt: &Prompt, ids: &[u32], made: &Continuations) -> Result<(), Failure> {
        self.trace(prompt, ids, made)?;
        if self.json {
            return self.out.json(&self.object(prompt, ids, made));
        }
        if self.several {
            let prompt = match prompt {
                Prompt::Text(text) => text.clone(),
                Prompt::Ids(ids) => list(ids),
            };
            self.out.line(format!("> {prompt}"))?;
        }
        let row = &made.rows[self.best(made)];
        self.out.line(self.text(&row.token_ids).unwrap_or_else(|| list(&row.token_ids)))?;
        self.out.flush()
    }

    fn trace(&mut self, prompt: &Prompt, ids: &[u32], made: &Continuations) -> Result<(), Failure> {
        if self.trace.is_none() {
            return Ok(());
        }
        let line = to_json(&self.object(prompt, ids, made))?;
        if let Some((path, file)) = &mut self.trace {
            writeln!(file, "{line}").map_err(|error| cannot_write(path, &error))?;
        }
        Ok(())
    }

    fn text(&self, ids: &[u32]) -> Option<String> {
        self.tokenizer.map(|tokenizer| tokenizer.decode_visible(ids))
    }

    /// The answers of votes, by the extractor of `eval.extract`.
    fn answers(&self, made: &Continuations) -> Vec<Option<String>> {
        let answer = |ids: &[u32]| self.extractor.extract(&self.text(ids)?);
        made.rows.iter().map(|row| answer(&row.token_ids)).collect()
    }

    /// The continuation to show: the best beam, or the vote that wins.
    fn best(&self, made: &Continuations) -> usize {
        match made.scores.is_empty() && made.rows.len() > 1 {
            true => self.extractor.majority(&self.answers(made)),
            false => 0,
        }
    }

    /// The object of `--json`: the continuation to show, and all of them beside it.
    fn object(&self, prompt: &Prompt, ids: &[u32], made: &Continuations) -> Value {
        let text = match prompt {
            Prompt::Text(text) => Some(text.as_str()),
            Prompt::Ids(_) => None,
        };
        let tokenizer = self.tokenizer;
        let row = |generation| Row { prompt: text, prompt_ids: ids, generation, tokenizer };
        let mut object = row(&made.rows[self.best(made)]).json(&self.context);
        let answers = self.answers(made);
        if made.rows.len() > 1 || !made.scores.is_empty() {
            let others = made.rows.iter().enumerate().map(|(place, generation)| {
                json!({
                    "text": row(generation).text(),
                    "token_ids": generation.token_ids,
                    "stop": generation.stop,
                    "score": made.scores.get(place),
                    "answer": answers[place],
                })
            });
            object["continuations"] = others.collect();
            object["forward_tokens"] = json!(made.forward_tokens);
        }
        object
    }

    fn finish_trace(&mut self) -> Result<(), Failure> {
        if let Some((path, file)) = &mut self.trace {
            file.flush().map_err(|error| cannot_write(path, &error))?;
        }
        self.out.flush()
    }

    fn finish(mut self) -> Result<(), Failure> {
        self.finish_trace()
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::disk(format!("cannot write {}: {error}", path.display()))
}
