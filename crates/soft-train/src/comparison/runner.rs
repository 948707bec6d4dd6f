//! Runs the arms over the questions, writes each answer down, and goes on where it was.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::json;
use soft_model::{
    GenerateOptions, Generation, Mode, ModelFiles, SoftInput, Span, Stop, Tally, Thinking,
    Transformer, embedding_norms, generate_after,
};

use super::arms::Arm;
use super::controls::{Source, Thought, changed, thoughts};
use super::extract::Extractor;
use super::outcome::Outcome;
use super::questions::Question;
use crate::config::{Config, Control};
use crate::decoding::{Decoding, encode_prompt};
use crate::error::Error;
use crate::run_dir::{JsonlWriter, RESULTS, RunDir, TRACES, read_jsonl};
use crate::trace::{Context, Row};

mod summary;

/// Name of the record of answers.
const ITEMS: &str = "items.jsonl";
/// Outputs after which an extractor that found nothing is warned of.
const WARN_AFTER: usize = 20;

/// What is compared, and on what.
#[derive(Debug, Clone, Copy)]
pub struct Comparison<'a> {
    /// The configuration without the settings of an arm.
    pub config: &'a Config,
    /// The arms.
    pub arms: &'a [Arm],
    /// The questions.
    pub questions: &'a [Question],
    /// The model's files.
    pub files: &'a ModelFiles,
    /// The model.
    pub model: &'a Transformer,
    /// The directory of the run.
    pub dir: &'a RunDir,
}

/// What an observer is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// So many answers of all are there; this arm is running.
    Answers {
        /// Answers written down.
        done: usize,
        /// Answers in all.
        total: usize,
        /// The arm.
        arm: String,
    },
    /// Something that the user should know at once.
    Warning(String),
}

/// One line of `items.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Item {
    arm: String,
    control: Option<Control>,
    seed: u64,
    question: usize,
    correct: bool,
    answer: Option<String>,
    expected: String,
    text: String,
    tokens: usize,
    finished: bool,
    tally: Tally,
    /// Its share of the time of its batch.
    seconds: f64,
}

/// An arm with one seed, and its controls: what runs together.
struct Group<'a> {
    arm: &'a Arm,
    seed: u64,
    decoding: Decoding,
}

/// Rows of an arm whose thoughts are to be changed.
struct Batch<'a> {
    /// Number of the first question.
    first: usize,
    rows: &'a [&'a Generation],
    thoughts: &'a [Vec<Thought>],
    /// The thoughts of the question before.
    before: &'a [Thought],
}

type Key = (String, Option<Control>, u64);

/// Runs what is not written down yet, and gives the outcome of all; both lie in the directory.
///
/// # Errors
/// A model that cannot run a question, a damaged record, a file that cannot be written.
pub fn compare(
    comparison: &Comparison<'_>,
    tell: &mut dyn FnMut(Progress),
) -> Result<Outcome, Error> {
    let path = comparison.dir.path();
    let items = path.join(ITEMS);
    // A last line that a kill cut short is removed here, before the record is read.
    let mut writer = JsonlWriter::append_to(&items)?;
    let mut traces = JsonlWriter::append_to(&path.join(TRACES))?;
    let mut runner = Runner::new(comparison, read_items(&items)?)?;
    // A kill may have left the traces of a batch whose answers were not written yet.
    for trace in read_jsonl(&path.join(TRACES))? {
        let (name, question) = (trace["name"].as_str(), trace["question"].as_u64());
        if let (Some(name), Some(question)) = (name, question) {
            runner.traced.insert((name.to_owned(), question as usize));
        }
    }
    let mut groups = Vec::new();
    for arm in comparison.arms {
        for seed in seeds(arm, comparison.config) {
            let mut decoding = Decoding::new(&arm.config, comparison.files)?;
            decoding.options.seed = seed;
            groups.push(Group { arm, seed, decoding });
        }
    }
    for group in &groups {
        runner.run(group, &mut writer, &mut traces, tell)?;
    }
    let outcome = runner.outcome();
    comparison.dir.write_json(RESULTS, &outcome)?;
    Ok(outcome)
}

impl Comparison<'_> {
    /// The token of the control "pause"; any where no arm has that control.
    fn pause(config: &Config, arms: &[Arm], files: &ModelFiles) -> Result<u32, Error> {
        if !arms.iter().any(|arm| arm.controls.contains(&Control::Pause)) {
            return Ok(0);
        }
        let text = &config.eval.pause;
        let ids = files.require_tokenizer()?.encode(text, false)?;
        ids.first().copied().ok_or_else(|| Error::Config {
            report: format!("`eval.pause` is {text:?}, which has no token"),
        })
    }
}

/// Checks what can be checked before the model is loaded: tags and tokens of the arms, the
/// extractor, the token of a pause.
///
/// # Errors
/// The first that is wrong.
pub fn check(config: &Config, arms: &[Arm], files: &ModelFiles) -> Result<(), Error> {
    for arm in arms {
        Decoding::new(&arm.config, files).map_err(|error| match error {
            Error::Model(soft_model::Error::NoText(problem)) => {
                Error::Model(soft_model::Error::NoText(format!("arm {:?}: {problem}", arm.name)))
            }
            other => other,
        })?;
    }
    Extractor::new(&config.eval)?;
    Comparison::pause(config, arms, files)?;
    Ok(())
}

/// The seeds that an arm runs with.
fn seeds(arm: &Arm, config: &Config) -> std::ops::Range<u64> {
    let count = if arm.has_chance() { config.eval.seeds as u64 } else { 1 };
    config.run.seed..config.run.seed + count
}

fn read_items(path: &Path) -> Result<Vec<Item>, Error> {
    let objects = read_jsonl(path)?;
    let item = |(line, object)| {
        serde_json::from_value(object).map_err(|error| Error::Data {
            report: format!(
                "{}:{}: no answer of an evaluation: {error}; delete the run to begin again",
                path.display(),
                line + 1
            ),
        })
    };
    objects.into_iter().enumerate().map(item).collect()
}

struct Runner<'a> {
    of: &'a Comparison<'a>,
    extractor: Extractor,
    prompts: Vec<Vec<u32>>,
    /// The right answers, as the extractor would give them.
    expected: Vec<String>,
    pause: u32,
    norms: [f64; 3],
    items: HashMap<Key, Vec<Item>>,
    seen: usize,
    found: usize,
    warned: bool,
    total: usize,
    /// Arms and questions that have a trace.
    traced: HashSet<(String, usize)>,
}

impl<'a> Runner<'a> {
    fn new(of: &'a Comparison<'a>, read: Vec<Item>) -> Result<Self, Error> {
        let eval = &of.config.eval;
        let prompt = |question: &Question| {
            let text = format!("{}{}", question.text, eval.suffix);
            encode_prompt(of.config, of.files, &text)
        };
        let prompts = of.questions.iter().map(prompt).collect::<Result<Vec<_>, _>>()?;
        let context = of.files.context();
        if let Some(place) = prompts.iter().position(|ids| ids.len() >= context) {
            return Err(Error::Data {
                report: format!(
                    "question {} has {} tokens, and the model {context} positions: leave it out of \
                     `eval.data`, or shorten it",
                    place + 1,
                    prompts[place].len()
                ),
            });
        }
        let pause = Comparison::pause(of.config, of.arms, of.files)?;
        let runs = |arm: &Arm| seeds(arm, of.config).count() * (1 + arm.controls.len());
        let total = of.arms.iter().map(runs).sum::<usize>() * prompts.len();
        let extractor = Extractor::new(eval)?;
        let expected =
            of.questions.iter().map(|question| extractor.expected(&question.answer)).collect();
        let mut runner = Self {
            of,
            extractor,
            prompts,
            expected,
            pause,
            norms: embedding_norms(of.model),
            items: HashMap::new(),
            seen: 0,
            found: 0,
            warned: false,
            total,
            traced: HashSet::new(),
        };
        for item in read {
            let key = (item.arm.clone(), item.control, item.seed);
            let items = runner.items.entry(key).or_default();
            if runner.expected.get(item.question) != Some(&item.expected) {
                return Err(Error::Data {
                    report: format!(
                        "question {} of the evaluation that is to go on had the answer {:?}, and \
                         has another now, or is gone: `eval.data` or `eval.extract` changed; begin \
                         anew under another `run.name`",
                        item.question + 1,
                        item.expected
                    ),
                });
            }
            // A kill between the answers of one batch leaves some that are written again.
            if item.question == items.len() {
                runner.seen += 1;
                runner.found += usize::from(item.answer.is_some());
                items.push(item);
            }
        }
        Ok(runner)
    }

    fn done(&self, group: &Group<'_>) -> usize {
        let of = |control| {
            let key = (group.arm.name.clone(), control, group.seed);
            self.items.get(&key).map_or(0, Vec::len)
        };
        let controls = group.arm.controls.iter().map(|&control| of(Some(control)));
        controls.chain(Some(of(None))).min().unwrap_or(0)
    }

    fn run(
        &mut self,
        group: &Group<'_>,
        writer: &mut JsonlWriter,
        traces: &mut JsonlWriter,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<(), Error> {
        let eval = &self.of.config.eval;
        let batch = (eval.batch / group.arm.rows()).max(1);
        let traced = match group.seed == self.of.config.run.seed {
            true => eval.traces.min(self.prompts.len()),
            false => 0,
        };
        let mut before: Option<Vec<Thought>> = None;
        loop {
            let first = self.done(group);
            let arm = group.arm.name.clone();
            let done = self.items.values().map(Vec::len).sum();
            tell(Progress::Answers { done, total: self.total, arm });
            if first >= self.prompts.len() {
                return Ok(());
            }
            let range = first..self.prompts.len().min(first + batch);
            let began = Instant::now();
            let mut decoding = group.decoding.clone();
            decoding.options.record = first < traced;
            // A record costs time: only the rows that are traced have one.
            decoding.options.record_rows = traced.saturating_sub(first) * group.arm.rows();
            decoding.options.keep_inputs = !group.arm.controls.is_empty();
            let prompts = &self.prompts[range.clone()];
            let made = decoding.run(self.of.model, prompts, first, &mut |_, _, _| {})?;
            let seconds = began.elapsed().as_secs_f64() / range.len() as f64;
            let mut all: Vec<Item> = Vec::new();
            let context = Context::new(&group.arm.config, Some(group.arm.name.clone()), self.norms);
            for (question, made) in range.clone().zip(&made) {
                let answers: Vec<Option<String>> =
                    made.rows.iter().map(|row| self.answer(&group.decoding.options, row)).collect();
                let votes = made.scores.is_empty() && made.rows.len() > 1;
                let place = if votes { self.extractor.majority(&answers) } else { 0 };
                let row = &made.rows[place];
                let mut item = self.item(group, None, question, row);
                (item.tokens, item.seconds) = (made.forward_tokens, seconds);
                let is_new = self.traced.insert((group.arm.name.clone(), question));
                if question < traced && !row.steps.is_empty() && is_new {
                    traces.append(&self.trace(&context, question, row, &item))?;
                }
                all.push(item);
            }
            if decoding.options.keep_inputs {
                let close = close_tag(&group.decoding.options);
                let rows: Vec<&Generation> = made.iter().map(|made| &made.rows[0]).collect();
                let own: Vec<Vec<Thought>> = rows.iter().map(|row| thoughts(row, close)).collect();
                let first_other = match before.take() {
                    Some(before) => before,
                    None => self.thoughts_before(group, first)?,
                };
                for &control in &group.arm.controls {
                    let batch = Batch { first, rows: &rows, thoughts: &own, before: &first_other };
                    all.extend(self.control(group, control, &batch)?);
                }
                before = own.into_iter().next_back();
            }
            for item in all {
                self.keep(item, writer)?;
            }
            self.warn(tell);
        }
    }

    /// The thoughts of the question before `first`, of the last one for the first: "shuffle" gives
    /// the same thoughts to a question wherever batches begin.
    fn thoughts_before(&self, group: &Group<'_>, first: usize) -> Result<Vec<Thought>, Error> {
        let before = (first + self.prompts.len() - 1) % self.prompts.len();
        let mut decoding = group.decoding.clone();
        decoding.options.keep_inputs = true;
        let prompt = &self.prompts[before..=before];
        let made = decoding.run(self.of.model, prompt, before, &mut |_, _, _| {})?;
        Ok(thoughts(&made[0].rows[0], close_tag(&decoding.options)))
    }

    /// The answers after the changed thoughts of a batch.
    fn control(
        &self,
        group: &Group<'_>,
        control: Control,
        batch: &Batch<'_>,
    ) -> Result<Vec<Item>, Error> {
        let began = Instant::now();
        let embedding = self.of.model.embedding();
        let (options, context) = (&group.decoding.options, self.of.files.context());
        let count = batch.rows.len();
        let prompts = &self.prompts[batch.first..batch.first + count];
        let (mut inputs, mut budgets) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for (place, row) in batch.rows.iter().enumerate() {
            let source = Source {
                embedding: &embedding,
                other: place.checked_sub(1).map_or(batch.before, |other| &batch.thoughts[other]),
                pause: self.pause,
                seed: group.seed,
                question: (batch.first + place) as u32,
            };
            let before = row.tally.first_thought;
            let mut all = row.inputs[..before].to_vec();
            all.extend(changed(control, &batch.thoughts[place], &source));
            all.extend(rest_of_tag(options, row));
            let used = before + row.tally.thoughts;
            // A thought that went on to the end leaves nothing to answer with.
            let fits = prompts[place].len() + all.len() <= context;
            budgets.push(if fits { options.max_new.saturating_sub(used) } else { 0 });
            all.truncate(context - prompts[place].len());
            inputs.push(all);
        }
        let options = GenerateOptions {
            thinking: options
                .thinking
                .clone()
                .map(|thinking| Thinking { span: Span::First(0), ..thinking }),
            max_new: budgets.iter().copied().max().unwrap_or(0),
            first_row: batch.first as u32,
            record: false,
            keep_inputs: false,
            ..options.clone()
        };
        let hard = |_: usize, _: usize| Mode::Hard;
        let mut made =
            generate_after(self.of.model, prompts, &inputs, &hard, &options, &mut |_, _, _| {})?;
        let seconds = began.elapsed().as_secs_f64() / count as f64;
        let mut items = Vec::with_capacity(count);
        for (place, row) in made.iter_mut().enumerate() {
            // Rows run on together; each answers within its own budget.
            if row.token_ids.len() > budgets[place] {
                row.token_ids.truncate(budgets[place]);
                row.stop = Stop::MaxNew;
            }
            let mut item = self.item(group, Some(control), batch.first + place, row);
            (item.tokens, item.seconds) = (inputs[place].len() + row.token_ids.len(), seconds);
            items.push(item);
        }
        Ok(items)
    }

    fn text(&self, ids: &[u32]) -> String {
        let tokenizer = self.of.files.tokenizer.as_ref();
        tokenizer.map_or_else(String::new, |tokenizer| tokenizer.decode_visible(ids))
    }

    /// The answer of a row: what it wrote after its thoughts, where these are apart from it.
    fn answer(&self, options: &GenerateOptions, row: &Generation) -> Option<String> {
        let apart = options.thinking.as_ref().is_some_and(|t| t.span != Span::Everywhere);
        let first = match apart && row.tally.thoughts > 0 {
            true => row.tally.first_thought + row.tally.thoughts,
            false => 0,
        };
        self.extractor.extract(&self.text(&row.token_ids[first.min(row.token_ids.len())..]))
    }

    fn item(
        &self,
        group: &Group<'_>,
        control: Option<Control>,
        question: usize,
        row: &Generation,
    ) -> Item {
        let text = self.text(&row.token_ids);
        let answer = match control {
            None => self.answer(&group.decoding.options, row),
            Some(_) => self.extractor.extract(&text),
        };
        let expected = self.expected[question].clone();
        let correct =
            answer.as_deref().is_some_and(|answer| self.extractor.same(answer, &expected));
        Item {
            arm: group.arm.name.clone(),
            control,
            seed: group.seed,
            question,
            correct,
            answer,
            expected,
            text,
            tokens: row.token_ids.len(),
            finished: row.stop == Stop::Eos,
            tally: row.tally,
            seconds: 0.0,
        }
    }

    fn trace(
        &self,
        context: &Context,
        question: usize,
        row: &Generation,
        item: &Item,
    ) -> serde_json::Value {
        let tokenizer = self.of.files.tokenizer.as_ref();
        let prompt = Some(&*self.of.questions[question].text);
        let prompt_ids = &self.prompts[question];
        let mut object = Row { prompt, prompt_ids, generation: row, tokenizer }.json(context);
        object["question"] = json!(question);
        object["expected"] = json!(item.expected);
        object["answer"] = json!(item.answer);
        object["correct"] = json!(item.correct);
        object
    }

    fn keep(&mut self, item: Item, writer: &mut JsonlWriter) -> Result<(), Error> {
        let key = (item.arm.clone(), item.control, item.seed);
        let items = self.items.entry(key).or_default();
        if item.question == items.len() {
            writer.append(&item)?;
            self.seen += 1;
            self.found += usize::from(item.answer.is_some());
            items.push(item);
        }
        Ok(())
    }

    fn warn(&mut self, tell: &mut dyn FnMut(Progress)) {
        if self.warned || self.seen < WARN_AFTER {
            return;
        }
        self.warned = true;
        if self.found > 0 {
            return;
        }
        tell(Progress::Warning(format!(
            "`eval.extract` is \"{}\" and found no answer in the first {} outputs: every one of them \
             counts as wrong; look at `text` in {ITEMS}, and set `eval.extract`, `eval.pattern` or \
             `eval.budget` to fit",
            self.of.config.eval.extract, self.seen
        )));
    }
}

/// Tokens of the tag that ends a thought; none where there is no such tag.
fn close_tag(options: &GenerateOptions) -> &[u32] {
    match &options.thinking {
        Some(Thinking { span: Span::Tags { close, .. }, .. }) => close,
        _ => &[],
    }
}

/// Tokens of the closing tag that were forced after its first one, which ended the thought.
fn rest_of_tag(options: &GenerateOptions, row: &Generation) -> Vec<SoftInput> {
    let close = close_tag(options);
    if close.is_empty() {
        return Vec::new();
    }
    let end = row.tally.first_thought + row.tally.thoughts;
    let is = |at: usize, id: u32| row.inputs.get(at) == Some(&SoftInput::token(id));
    let forced = end > 0
        && is(end - 1, close[0])
        && close[1..].iter().enumerate().all(|(step, &id)| is(end + step, id));
    if forced { close[1..].iter().map(|&id| SoftInput::token(id)).collect() } else { Vec::new() }
}
