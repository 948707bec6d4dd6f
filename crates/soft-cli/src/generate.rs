//! `soft generate`: a model continues prompts, softly or token by token.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use burn::tensor::DType;
use serde_json::{Value, json};
use soft_core::SoftPipeline;
use soft_model::{
    GenerateOptions, Generation, ModelFiles, Span, StepRecord, Thinking, Tokenizer, Transformer,
};
use soft_train::config::{Config, Resolved, SpanKind};

use crate::arguments::{Generate, Global};
use crate::failure::Failure;
use crate::output::{Output, to_json};
use crate::progress::Progress;
use crate::prompts::{Prompt, encode, read};
use crate::settings::{Without, device, loader};

/// Prompts that are run at once.
const BATCH: usize = 16;
/// Entries of `top` and `fed` in a step.
const TOP: usize = 10;

/// Runs the verb.
pub(crate) fn run(arguments: &Generate, global: &Global) -> Result<(), Failure> {
    let prompts = read(arguments)?;
    let (files, resolved) = open(arguments, global)?;
    let rows = prompts.iter().map(|prompt| encode(prompt, &files, resolved.config.generate.chat));
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    check_lengths(&rows, files.context())?;
    let model = load(&files, &resolved)?;
    let mut options = options(&resolved, &files, arguments.json || arguments.trace.is_some())?;
    let mut sink = Sink::new(arguments, prompts.len() > 1)?;
    for (prompts, rows) in prompts.chunks(BATCH).zip(rows.chunks(BATCH)) {
        let mode = resolved.config.soft.mode.into();
        let progress = Progress::new(format!("generating from {} prompt(s)", rows.len()));
        let made = soft_model::generate(&model, rows, &|_, _| mode, &options, &mut |_, _| {})?;
        drop(progress);
        options.first_row += rows.len() as u32;
        for ((prompt, ids), generation) in prompts.iter().zip(rows).zip(&made) {
            sink.write(&Made { prompt, ids, generation, tokenizer: files.tokenizer.as_ref() })?;
        }
    }
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
    let files = ModelFiles::open(&path)?;
    let resolved = match &files.soft {
        Some(text) => sources().model(text).load()?,
        None => resolved,
    };
    Ok((files, resolved))
}

/// The weights on the device of a configuration.
pub(crate) fn load(files: &ModelFiles, resolved: &Resolved) -> Result<Transformer, Failure> {
    let device = device(resolved)?;
    let _progress = Progress::new("loading the model");
    Ok(Transformer::open(files, &device, DType::F32)?)
}

fn options(
    resolved: &Resolved,
    files: &ModelFiles,
    record: bool,
) -> Result<GenerateOptions, Failure> {
    let config = &resolved.config;
    let eos_ids = match config.generate.ignore_eos {
        true => Vec::new(),
        false => files.generation.eos_ids.clone(),
    };
    Ok(GenerateOptions {
        pipeline: SoftPipeline::new(config.soft.pipeline())?,
        thinking: thinking(config, files)?,
        max_new: config.generate.max_new,
        eos_ids,
        seed: config.run.seed,
        first_row: 0,
        record,
        top: TOP,
    })
}

/// How a row is divided into thoughts and an answer.
fn thinking(config: &Config, files: &ModelFiles) -> Result<Option<Thinking>, Failure> {
    let (think, cold_stop) = (&config.think, config.soft.cold_stop());
    let span = match think.span {
        SpanKind::Everywhere if cold_stop.is_none() => return Ok(None),
        SpanKind::Everywhere => Span::Everywhere,
        SpanKind::First => Span::First(think.first),
        SpanKind::Tags => {
            let open = (!think.open.is_empty()).then(|| tag(files, "think.open", &think.open));
            Span::Tags { open: open.transpose()?, close: tag(files, "think.close", &think.close)? }
        }
    };
    Ok(Some(Thinking {
        span,
        cold_stop,
        answer_cold_stop: config.answer.cold_stop(),
        answer: SoftPipeline::new(config.answer.pipeline())?,
        answer_mode: config.answer.mode.into(),
    }))
}

/// The one token of a tag.
fn tag(files: &ModelFiles, key: &str, text: &str) -> Result<u32, Failure> {
    let known = files.tokenizer.as_ref().and_then(|tokenizer| tokenizer.token_id(text));
    known.ok_or_else(|| {
        Failure::model(format!(
            "`{key}` is {text:?}, which is not one token of this model's tokenizer; name a tag \
             that is, or set `think.span` to \"first\""
        ))
    })
}

/// One prompt and what came of it.
struct Made<'a> {
    prompt: &'a Prompt,
    ids: &'a [u32],
    generation: &'a Generation,
    tokenizer: Option<&'a Tokenizer>,
}

impl Made<'_> {
    /// The object of `--json`.
    fn json(&self) -> Value {
        let steps: Vec<_> = self.generation.steps.iter().map(|step| self.step(step)).collect();
        json!({
            "prompt": match self.prompt { Prompt::Text(text) => Some(text), Prompt::Ids(_) => None },
            "prompt_ids": self.ids,
            "text": self.text(),
            "token_ids": self.generation.token_ids,
            "stop": self.generation.stop,
            "steps": steps,
        })
    }

    fn step(&self, step: &StepRecord) -> Value {
        let mut object = json!({
            "decode_step": step.decode_step,
            "position": step.position,
            "mode": step.mode,
            "token_id": step.token_id,
            "token": self.token(step.token_id),
            "sampled_id": step.sampled_id,
            "entropy_nats": step.entropy_nats,
            "top": self.triples(&step.top),
            "kept_mass": step.kept_mass,
        });
        if let Some(fed) = &step.fed {
            object["fed"] = self.triples(fed);
        }
        object
    }

    fn triples(&self, entries: &[(u32, f64)]) -> Value {
        entries.iter().map(|&(id, weight)| json!([id, self.token(id), weight])).collect()
    }

    fn token(&self, id: u32) -> Option<String> {
        self.tokenizer.and_then(|tokenizer| tokenizer.decode_token(id))
    }

    fn text(&self) -> Option<String> {
        self.tokenizer.map(|tokenizer| tokenizer.decode_visible(&self.generation.token_ids))
    }

    /// The text, or the ids where the model has no tokenizer.
    fn plain(&self) -> String {
        self.text().unwrap_or_else(|| list(&self.generation.token_ids))
    }
}

fn list(ids: &[u32]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Where results go: standard output, and a trace file.
struct Sink {
    out: Output,
    json: bool,
    several: bool,
    trace: Option<(PathBuf, BufWriter<File>)>,
}

impl Sink {
    fn new(arguments: &Generate, several: bool) -> Result<Self, Failure> {
        let create = |path: &PathBuf| match File::create(path) {
            Ok(file) => Ok((path.clone(), BufWriter::new(file))),
            Err(error) => Err(cannot_write(path, &error)),
        };
        let trace = arguments.trace.as_ref().map(create).transpose()?;
        Ok(Self { out: Output::new(), json: arguments.json, several, trace })
    }

    fn write(&mut self, made: &Made<'_>) -> Result<(), Failure> {
        if let Some((path, file)) = &mut self.trace {
            let line = to_json(&made.json())?;
            writeln!(file, "{line}").map_err(|error| cannot_write(path, &error))?;
        }
        if self.json {
            return self.out.json(&made.json());
        }
        if self.several {
            let prompt = match made.prompt {
                Prompt::Text(text) => text.clone(),
                Prompt::Ids(ids) => list(ids),
            };
            self.out.line(format!("> {prompt}"))?;
        }
        self.out.line(made.plain())?;
        self.out.flush()
    }

    fn finish(mut self) -> Result<(), Failure> {
        if let Some((path, file)) = &mut self.trace {
            file.flush().map_err(|error| cannot_write(path, &error))?;
        }
        self.out.flush()
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::disk(format!("cannot write {}: {error}", path.display()))
}
