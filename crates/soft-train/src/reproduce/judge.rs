//! A reward model for a table: a classifier that tells right answers from wrong ones.

use std::fs;
use std::path::Path;

use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::{Module, Param};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::activation::{log_sigmoid, log_softmax};
use burn::tensor::{DType, Device, Tensor};
use serde_json::json;
use soft_core::{float_tensor, host_values, int_tensor};
use soft_model::{NamedTensor, SequenceClassifier, Transformer, save_safetensors, write_folder};

use crate::config::Config;
use crate::error::Error;
use crate::learning_rate::LearningRate;
use crate::stopwatch::Stopwatch;
use crate::task::{Draws, Problem, Task};

/// A decoder with a score in place of its head.
#[derive(Module, Debug)]
struct Judge {
    backbone: Transformer,
    /// `[1, d_model]`.
    score: Param<Tensor<2>>,
}

impl Judge {
    /// A logit for each of some rows of one length: `[rows, 1]`.
    fn logits(&self, rows: &[Vec<u32>]) -> Tensor<2> {
        let (hidden, length) = (self.hidden(rows), rows[0].len());
        let last: Vec<u32> = (1..=rows.len()).map(|row| (row * length - 1) as u32).collect();
        self.scored(hidden, &last)
    }

    /// Hidden states of rows of one length: `[rows * length, d_model]`.
    fn hidden(&self, rows: &[Vec<u32>]) -> Tensor<2> {
        let (count, length) = (rows.len(), rows[0].len());
        let embeds = self.backbone.embed(&rows.concat(), count);
        let mut cache = self.backbone.new_cache(count);
        let real = vec![vec![true; length]; count];
        self.backbone.forward(embeds, &real, &mut cache, None)
    }

    fn scored(&self, hidden: Tensor<2>, rows: &[u32]) -> Tensor<2> {
        let rows = int_tensor(rows, [rows.len()], &hidden.device());
        hidden.select(0, rows).matmul(self.score.val().transpose())
    }

    /// The logits, and the cross-entropy of the problems' answers where their prompts end: a decoder
    /// that knows the answer tells right from wrong sooner.
    ///
    /// The first rows are the problems with their right answers.
    fn forward(&self, rows: &[Vec<u32>], problems: &[&Problem]) -> (Tensor<2>, Tensor<1>) {
        let (hidden, length) = (self.hidden(rows), rows[0].len());
        let last: Vec<u32> = (1..=rows.len()).map(|row| (row * length - 1) as u32).collect();
        let (mut before, mut truth) = (Vec::new(), Vec::new());
        for (row, problem) in problems.iter().enumerate() {
            for (at, &token) in problem.answer.iter().enumerate() {
                before.push((row * length + problem.prompt.len() + at - 1) as u32);
                truth.push(token);
            }
        }
        let device = hidden.device();
        let states = hidden.clone().select(0, int_tensor(&before, [before.len()], &device));
        let log_probs = log_softmax(self.backbone.output_head().logits(states), 1);
        let truth = int_tensor(&truth, [truth.len(), 1], &device);
        (self.scored(hidden, &last), -log_probs.gather(1, truth).mean())
    }
}

/// What a judge can do, and what it cost.
#[derive(Debug)]
pub(super) struct Judged {
    /// For each problem that it was not trained on, whether it prefers the right answer to those of all
    /// other problems: `0` and `1`.
    pub(super) right: String,
    /// The same share of the problems that it was trained on.
    pub(super) trained: f64,
    /// Seconds of its training, by the clock and by the processor.
    pub(super) seconds: [f64; 2],
    /// Its parameters.
    pub(super) parameters: u64,
}

/// Trains a judge on the training problems of a task, each with its answer and with another in turn,
/// and writes it into a folder as transformers would. Nothing stands between prompt and answer. Half
/// of the wrong answers are those of other problems, half any token.
///
/// # Errors
/// Those of the disk.
pub(super) fn train(
    config: &Config,
    task: &Task,
    folder: &Path,
    device: &Device,
) -> Result<Judged, Error> {
    let watch = Stopwatch::start();
    let device = &device.clone().autodiff();
    let longest = task.problems().map(|own| own.prompt.len() + own.answer.len()).max();
    let shape = config.model.new_shape(task.tokens.len(), longest.unwrap_or(1));
    let backbone = Transformer::from_seed(&shape, config.run.seed, device, DType::F32);
    let zeros = float_tensor(vec![0.0; shape.d_model], [1, shape.d_model], device, DType::F32);
    let score = Param::from_tensor(zeros.require_grad());
    let mut judge = Judge { backbone, score };
    let mut adamw = AdamWConfig::new().with_weight_decay(config.train.weight_decay as f32).init();
    let rate = LearningRate::new(&config.train, 0);
    let mut draws = Draws::new(config.run.seed, "judge");
    let half = (config.train.micro_batch / 2).max(1);
    for step in 0..config.train.steps {
        let one = |_| &task.train[draws.below(task.train.len())];
        let problems: Vec<&Problem> = (0..half).map(one).collect();
        let right = problems.iter().map(|own| line(own, &own.answer));
        let mut rows: Vec<Vec<u32>> = right.collect();
        for own in &problems {
            rows.push(line(own, &wrong(task, own, &mut draws)));
        }
        let signs = (0..rows.len()).map(|row| if row < half { 1.0 } else { -1.0 }).collect();
        let signs = float_tensor(signs, [rows.len(), 1], device, DType::F32);
        let (logits, answers) = judge.forward(&rows, &problems);
        let loss = answers - log_sigmoid(logits * signs).mean();
        let gradients = GradientsParams::from_grads(loss.backward(), &judge);
        judge = adamw.step(ModuleLearningRate::from(rate.at(step)), judge, gradients);
    }
    let took = watch.stop();
    let seconds = [took.seconds, took.processor_seconds.unwrap_or_default()];
    let parameters = crate::learner::trainable_parameters(&judge) as u64;
    let judge = judge.valid();
    save(&judge, folder)?;
    let right = preferred(&judge, task, &task.validation);
    let trained = super::unit::share(&preferred(&judge, task, &task.train));
    Ok(Judged { right, trained, seconds, parameters })
}

fn line(problem: &Problem, answer: &[u32]) -> Vec<u32> {
    [&problem.prompt, answer].concat()
}

/// An answer that is not the problem's, of the same length.
fn wrong(task: &Task, problem: &Problem, draws: &mut Draws) -> Vec<u32> {
    loop {
        let found = match draws.below(2) == 0 {
            true => task.train[draws.below(task.train.len())].answer.clone(),
            false => {
                let token = |_: &u32| draws.below(task.tokens.len()) as u32;
                problem.answer.iter().map(token).collect()
            }
        };
        if found != problem.answer && found.len() == problem.answer.len() {
            return found;
        }
    }
}

/// Whether the right answer has a higher logit than all other answers that there are.
fn preferred(judge: &Judge, task: &Task, problems: &[Problem]) -> String {
    let mut answers: Vec<&Vec<u32>> = task.problems().map(|own| &own.answer).collect();
    answers.sort_unstable();
    answers.dedup();
    let of = |problem: &Problem| {
        let rows: Vec<Vec<u32>> = answers.iter().map(|answer| line(problem, answer)).collect();
        let logits = host_values(judge.logits(&rows));
        let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
        if best.is_some_and(|best| *answers[best] == problem.answer) { '1' } else { '0' }
    };
    problems.iter().map(of).collect()
}

/// A folder that [`SequenceClassifier::open`] reads.
fn save(judge: &Judge, folder: &Path) -> Result<(), Error> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(Error::disk(folder))?;
    }
    let mut tensors = judge.backbone.named_tensors();
    tensors.retain(|tensor| tensor.name != "lm_head.weight");
    tensors.push(NamedTensor {
        name: "score.weight".to_owned(),
        shape: judge.score.dims().to_vec(),
        values: host_values(judge.score.val()).into_iter().map(|x| x as f32).collect(),
    });
    let mut json = judge.backbone.config().to_hf();
    let class = json["architectures"][0].as_str().unwrap_or_default();
    let class = class.trim_end_matches("ForCausalLM").trim_end_matches("LMHeadModel");
    json["architectures"] = json!([format!("{class}ForSequenceClassification")]);
    json["num_labels"] = json!(1);
    write_folder(folder, |folder| {
        save_safetensors(&folder.join("model.safetensors"), &tensors)?;
        let path = folder.join("config.json");
        fs::write(&path, format!("{json:#}\n"))
            .map_err(|source| soft_model::Error::Io { path, source })
    })?;
    // What cannot be opened is found here, and not where it is needed.
    SequenceClassifier::open(folder, &judge.backbone.device(), DType::F32)?;
    Ok(())
}
