//! What the model writes while it is trained: continuations of held-out prompts, and its beliefs.

use std::path::PathBuf;

use serde_json::{Value, json};
use soft_model::{Tokenizer, embedding_norms};

use super::learned;
use crate::comparison::Extractor;
use crate::config::{Config, Curriculum, Loader};
use crate::dashboard::{self, News, Sample};
use crate::decoding::Decoding;
use crate::error::Error;
use crate::example::Example;
use crate::learner::SoftLearner;
use crate::run_dir::{JsonlWriter, RunDir, SAMPLES, TRACES, replace_file};
use crate::trace::{Context, Row};

/// Prompts that are continued as generation would from a checkpoint.
#[derive(Debug)]
pub(super) struct Samples {
    prompts: Vec<Prompt>,
    /// As it is loaded for a checkpoint, for each stage of the curriculum.
    stages: Vec<Config>,
    curriculum: Curriculum,
    tokenizer: Option<Tokenizer>,
    extractor: Extractor,
    /// Opened at the first sample that nobody planned.
    record: Option<JsonlWriter>,
    folder: PathBuf,
}

#[derive(Debug)]
struct Prompt {
    ids: Vec<u32>,
    text: Option<String>,
    /// What the example goes on with; where a thought comes before an answer, the answer.
    expected: Option<String>,
    has_answer: bool,
}

impl Samples {
    /// # Errors
    /// Settings of generation that contradict one another, or a record that cannot be written.
    pub(super) fn new(
        config: &Config,
        soft_configs: &[String],
        examples: &[Example],
        tokenizer: Option<Tokenizer>,
        dir: &RunDir,
    ) -> Result<Self, Error> {
        let loaded = |soft_config: &String| -> Result<Config, Error> {
            let loaded = Loader::new().model(soft_config).load();
            let mut loaded =
                loaded.map_err(|error| Error::Config { report: error.to_string() })?.config;
            loaded.run.seed = config.run.seed;
            Ok(loaded)
        };
        let text = |ids: &[u32]| tokenizer.as_ref().map(|known| known.decode_visible(ids));
        let prompt = |example: &Example| {
            let begins = example.first_written();
            let ids = example.input_ids[..begins].to_vec();
            let expected = text(&example.input_ids[example.answer_from.unwrap_or(begins)..]);
            let has_answer = example.answer_from.is_some();
            Prompt { text: text(&ids), ids, expected, has_answer }
        };
        Ok(Self {
            prompts: examples.iter().map(prompt).collect(),
            stages: soft_configs.iter().map(loaded).collect::<Result<_, _>>()?,
            curriculum: config.curriculum.clone(),
            extractor: Extractor::new(&config.eval)?,
            record: (config.eval.samples > 0).then(|| dir.samples()).transpose()?,
            folder: dir.path().to_owned(),
            tokenizer,
        })
    }

    /// Continues every prompt with the model as it is after `step` steps: a line each in
    /// `samples.jsonl`, and its beliefs in `traces.jsonl`, in place of those of the step before.
    ///
    /// # Errors
    /// Those of generation, and of the disk.
    pub(super) fn write(&mut self, step: usize, learner: &SoftLearner) -> Result<(), Error> {
        let model = &learner.model;
        let tokenizer = self.tokenizer.as_ref();
        let stage = self.curriculum.stage_at(step.saturating_sub(1), self.stages.len());
        let config = &self.stages[stage];
        let mut decoding = Decoding::with_tokens(config, tokenizer, &model.config().eos_ids)?;
        decoding.options.record = true;
        let thoughts = &mut decoding.options.thoughts.pipeline;
        *thoughts = learned::decoded(thoughts, learner.filters.as_ref());
        let ids: Vec<Vec<u32>> = self.prompts.iter().map(|prompt| prompt.ids.clone()).collect();
        let made = decoding.run(model, &ids, 0, &mut |_, _, _| {})?;
        let mut context = Context::new(config, None, embedding_norms(model));
        let mut traces = String::new();
        let record = match &mut self.record {
            Some(record) => record,
            none => none.insert(JsonlWriter::append_to(&self.folder.join(SAMPLES))?),
        };
        for (number, (prompt, made)) in self.prompts.iter().zip(&made).enumerate() {
            let generation = &made.rows[0];
            let row = Row {
                prompt: prompt.text.as_deref(),
                prompt_ids: &prompt.ids,
                generation,
                tokenizer,
            };
            context.name = Some(format!("Sample {} after step {step}", number + 1));
            let text = row.text();
            let judged = judged(&self.extractor, prompt, text.as_deref());
            let mut line = json!({
                "step": step,
                "sample": number + 1,
                "prompt": prompt.text,
                "expected": prompt.expected,
                "text": text,
                "tokens": generation.token_ids.len(),
                "stop": generation.stop,
            });
            let mut trace = row.json(&context);
            for (key, value) in &judged {
                line[*key] = value.clone();
                trace[*key] = value.clone();
            }
            dashboard::tell(|| {
                let sample = Sample::new(step, number + 1, &row);
                let expected = prompt.expected.clone();
                let correct = line["correct"].as_bool();
                News::Sample(Box::new(Sample { expected, correct, ..sample }))
            });
            record.append(&line)?;
            traces.push_str(&format!("{trace}\n"));
        }
        replace_file(&self.folder.join(TRACES), traces.as_bytes())
    }
}

/// The answer in a text and whether it is the one expected, where the example has one.
fn judged(
    extractor: &Extractor,
    prompt: &Prompt,
    text: Option<&str>,
) -> Vec<(&'static str, Value)> {
    let Some(expected) = prompt.expected.as_deref().filter(|_| prompt.has_answer) else {
        return Vec::new();
    };
    let expected = extractor.expected(expected);
    let answer = text.and_then(|text| extractor.extract(text));
    let correct = answer.as_ref().is_some_and(|answer| extractor.same(answer, &expected));
    vec![("answer", json!(answer)), ("correct", json!(correct))]
}
