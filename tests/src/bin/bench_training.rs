//! Training a real model's low-rank branches and a 10 M-parameter model whole: time, tokens a second
//! and peak memory of every rollout. `tests/peers/run_training.sh` sets PyTorch beside it.
//!
//! Each arm runs in a process of its own, a worker: it makes its model and batch, differentiates
//! once, prints `READY <loss> <gradient norm>`, and then for every line that it reads takes one step
//! and prints `<ms> <peak MB> <peak MB above the loaded model>`. The parent gives the workers their
//! turns, so that whatever else the machine does falls on all of them.
//!
//! - `--worker SETTING ARM SOFT [SEGMENT]`: be a worker
//! - `--export SETTING FILE`: write the weights for a peer, `trained.<i>` being what is trained
//! - `--setting SETTING`, `--rounds N`, `--length`: what the parent measures

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Tensor};
use soft_core::{GuidanceForm, PipelineConfig, SoftPipeline, host_values};
use soft_model::{Family, ModelConfig, ModelFiles, NamedTensor, Transformer, save_safetensors};
use soft_tests::bench::{
    Spread, flat_gradients, growth_exponent, keep_freed_memory, median, milliseconds,
    peak_megabytes, print_header, print_result, quick, reset_peak,
};
use soft_tests::{device, smollm2, tiny_config};
use soft_train::batch::Batch;
use soft_train::example::Example;
use soft_train::objective::{BatchLoss, Objective, StepTotals};
use soft_train::rollout::{Differentiated, Parallel, Rollout, Sequential, StepContext};

/// Hard tokens before and after the soft positions.
const PROMPT: usize = 32;
const ANSWER: usize = 16;
/// Soft positions of the main table.
const SOFT: usize = 64;
/// Soft positions over which the growth of the sequential rollout is measured.
const LENGTHS: [usize; 5] = [16, 64, 128, 256, 512];
/// Soft positions after which the truncated arm cuts the gradient.
const TRUNCATE: usize = 16;
const TEMPERATURE: f64 = 0.6;
const TOP_K: usize = 30;
const RANK: usize = 8;
const SETTINGS: [&str; 2] = ["lora", "whole"];
/// One pass of the parallel rollout is teacher forcing, to the bit.
const ARMS: [&str; 5] = ["teacher", "parallel-2", "parallel-3", "sequential", "truncated"];
/// Goal of the second arm against the first.
const PARALLEL_2: f64 = 2.2;

fn rollout(arm: &str, segment: usize) -> Box<dyn Rollout> {
    let parallel = |passes| Box::new(Parallel { passes, grad_passes: 0 });
    match arm {
        "teacher" | "parallel-1" => parallel(1),
        "parallel-2" => parallel(2),
        "parallel-3" => parallel(3),
        "sequential" => Box::new(Sequential { segment, truncate: 0 }),
        "truncated" => Box::new(Sequential { segment, truncate: TRUNCATE }),
        _ => panic!("no arm {arm:?}: expected one of {}", ARMS.join(", ")),
    }
}

/// The segment length that a configuration without one gets.
fn default_segment() -> usize {
    soft_train::config::Rollout::default().segment
}

/// Rows of `soft` mixtures between a hard prompt and a hard answer; both parts after the prompt
/// are scored. No token stands for anything: the work does not depend on which they are.
fn batch(rows: usize, vocabulary: usize, soft: usize) -> Batch {
    let length = PROMPT + soft + ANSWER + 1;
    let row = |row: usize| {
        let ids: Vec<u32> =
            (0..length).map(|t| ((row * 7919 + t * 104_729 + 13) % vocabulary) as u32).collect();
        let mut example = Example::from_tokens(&ids, PROMPT);
        example.soft[PROMPT..PROMPT + soft].fill(true);
        example
    };
    Batch::new((0..rows).map(row).collect())
}

/// 12 layers, d_model 256, d_ff 704, 8 heads on 4 key/value heads, vocabulary 4096, tied: 9.9 M.
fn ten_million() -> ModelConfig {
    ModelConfig {
        vocab_size: 4096,
        d_model: 256,
        d_ff: 704,
        n_layers: 12,
        n_heads: 8,
        n_kv_heads: 4,
        head_dim: 32,
        max_positions: 1024,
        ..tiny_config(Family::Llama)
    }
}

/// The model of a setting and its rows a batch; `None` where the real model is not there.
fn model(setting: &str, device: &Device) -> Option<(Transformer, usize)> {
    match setting {
        "lora" => {
            let files = ModelFiles::open(&smollm2()?).expect("the model opens");
            let targets = ["q_proj".to_owned(), "v_proj".to_owned()];
            let model =
                Transformer::from_weights(&files.config, &files.weights, device, DType::F32)
                    .expect("the weights fit the configuration")
                    .with_low_rank(RANK, 2.0 * RANK as f64, &targets, 9)
                    .expect("the projections are there");
            Some((model, 1))
        }
        "whole" => Some((Transformer::from_seed(&ten_million(), 1, device, DType::F32), 4)),
        _ => panic!("no setting {setting:?}: expected one of {}", SETTINGS.join(", ")),
    }
}

/// One free-running step: forward and backward, no optimizer.
fn step(rollout: &dyn Rollout, model: &Transformer, batch: &Batch) -> Differentiated {
    let pipeline =
        PipelineConfig { temperature: TEMPERATURE, top_k: TOP_K, ..PipelineConfig::default() };
    let context = StepContext {
        pipeline: SoftPipeline::new(pipeline).expect("valid settings"),
        form: GuidanceForm::Mix,
        guidance: 0.0,
        seed: 3,
        step: 0,
        dropout: 0.0,
        ..StepContext::default()
    };
    let totals = StepTotals::of([batch]);
    let loss = BatchLoss {
        batch,
        objective: Objective::default(),
        totals,
        temperature: TEMPERATURE,
        other: None,
    };
    rollout.differentiate(model, &loss, &context)
}

fn worker(setting: &str, arm: &str, soft: usize, segment: usize) {
    let Some((model, rows)) = model(setting, &device().autodiff()) else { return };
    let rollout = rollout(arm, segment);
    // Threads, buffers of matrix products and the like belong to the base.
    drop(step(rollout.as_ref(), &model, &batch(rows, model.config().vocab_size, 1)));
    let batch = batch(rows, model.config().vocab_size, soft);
    reset_peak();
    let base = peak_megabytes().unwrap_or(f64::NAN);
    let found = step(rollout.as_ref(), &model, &batch);
    // Of the first step: what later ones add is memory that the allocator keeps.
    let peak = peak_megabytes().unwrap_or(f64::NAN);
    let gradient = flat_gradients(&model, &found.gradients);
    let norm = gradient.iter().map(|x| x * x).sum::<f64>().sqrt();
    println!("READY {} {norm}", found.loss);
    drop(found);
    for _ in std::io::stdin().lines() {
        let ms = milliseconds(|| drop(step(rollout.as_ref(), &model, &batch)));
        println!("{ms} {peak} {}", peak - base);
    }
}

/// Writes the weights of a setting under their Hugging Face names, and what is trained of it, in
/// the order of the parameters, as `trained.<i>`.
fn export(setting: &str, path: &Path) {
    struct Trained(Vec<NamedTensor>);
    impl ModuleVisitor for Trained {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val();
            if value.is_require_grad() {
                let shape = value.dims().to_vec();
                let values = host_values(value.inner()).into_iter().map(|x| x as f32).collect();
                self.0.push(NamedTensor {
                    name: format!("trained.{}", self.0.len()),
                    shape,
                    values,
                });
            }
        }
    }
    let Some((model, _)) = model(setting, &device().autodiff()) else { return };
    let mut trained = Trained(Vec::new());
    model.visit(&mut trained);
    let mut tensors = model.named_tensors();
    // Where the whole model is trained it is there already.
    if setting == "lora" {
        tensors.extend(trained.0);
    }
    save_safetensors(path, &tensors).expect("the file can be written");
}

/// A worker's process, and what it said when it was ready.
struct Worker {
    process: Child,
    turns: ChildStdin,
    answers: BufReader<ChildStdout>,
    loss: f64,
}

impl Worker {
    /// None where the worker had no model.
    fn start(setting: &str, arm: &str, soft: usize, segment: usize) -> Option<Self> {
        let program = std::env::current_exe().expect("this program has a path");
        let mut process = Command::new(program)
            .args(["--worker", setting, arm, &soft.to_string(), &segment.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts again");
        let turns = process.stdin.take().expect("piped");
        let mut answers = BufReader::new(process.stdout.take().expect("piped"));
        let ready = numbers(&mut answers, "READY");
        if ready.is_empty() {
            process.wait().expect("it has ended");
            return None;
        }
        Some(Self { process, turns, answers, loss: ready[0] })
    }

    /// Milliseconds of one step, peak MB, and peak MB above the loaded model.
    fn step(&mut self) -> [f64; 3] {
        writeln!(self.turns).expect("the worker reads");
        let found = numbers(&mut self.answers, "");
        found.try_into().unwrap_or_else(|found| panic!("the worker said {found:?}"))
    }

    fn end(mut self) {
        drop(self.turns);
        self.process.wait().expect("it ends with its input");
    }
}

/// The numbers of the next line, after `opening`; none at the end of the output.
fn numbers(lines: &mut impl BufRead, opening: &str) -> Vec<f64> {
    let mut line = String::new();
    lines.read_line(&mut line).expect("the worker writes text");
    let words = line.trim().trim_start_matches(opening).split_whitespace();
    words.map(|word| word.parse().expect("the worker writes numbers")).collect()
}

/// Every arm of a setting in turn, `rounds` times.
fn compare(setting: &str, segment: usize, rounds: usize) {
    let start = |arm: &&str| Worker::start(setting, arm, SOFT, segment);
    let Some(mut workers): Option<Vec<Worker>> = ARMS.iter().map(start).collect() else { return };
    let mut found = vec![Vec::new(); ARMS.len()];
    for round in 0..rounds {
        for turn in 0..ARMS.len() {
            let arm = (round + turn) % ARMS.len();
            found[arm].push(workers[arm].step());
        }
    }
    let rows = if setting == "lora" { 1 } else { 4 };
    let tokens = rows * (PROMPT + SOFT + ANSWER);
    let segments =
        if segment == 0 { "of their own choice".into() } else { format!("of {segment}") };
    println!("{setting}: batch {rows}, {SOFT} soft positions, segments {segments}");
    println!(
        "{:<12} {:>9} {:>9} {:>8} {:>8} {:>9}   this / teacher",
        "arm", "ms/step", "tokens/s", "peak MB", "above", "loss"
    );
    let times: Vec<Vec<f64>> =
        found.iter().map(|steps| steps.iter().map(|step| step[0]).collect()).collect();
    for (arm, name) in ARMS.iter().enumerate() {
        let ms = median(&times[arm]);
        let [_, peak, above] = found[arm][0];
        println!(
            "{name:<12} {ms:>9.1} {:>9.1} {peak:>8.0} {above:>8.0} {:>9.5}   {}",
            tokens as f64 * 1e3 / ms,
            workers[arm].loss,
            Spread::of_ratios(&times[arm], &times[0]),
        );
    }
    println!();
    let ratio = Spread::of_ratios(&times[1], &times[0]).median;
    print_result(&format!("{setting}/parallel_2/teacher"), ratio, PARALLEL_2);
    println!();
    workers.into_iter().for_each(Worker::end);
}

/// Growth of the sequential rollout with the number of soft positions.
fn growth(setting: &str, segment: usize, rounds: usize) {
    let lengths = if quick() { &LENGTHS[..2] } else { &LENGTHS[..] };
    let (mut times, mut peaks) = (Vec::new(), Vec::new());
    println!("{:<12} {:>5} {:>10} {:>9} {:>9}", setting, "soft", "ms", "ms / soft", "above MB");
    for &soft in lengths {
        let Some(mut worker) = Worker::start(setting, "sequential", soft, segment) else { return };
        let steps: Vec<[f64; 3]> = (0..rounds).map(|_| worker.step()).collect();
        worker.end();
        let ms = median(&steps.iter().map(|step| step[0]).collect::<Vec<_>>());
        let above = steps[0][2];
        println!("{:<12} {soft:>5} {ms:>10.1} {:>9.2} {above:>9.0}", "", ms / soft as f64);
        times.push(ms);
        peaks.push(above);
    }
    let x: Vec<f64> = lengths.iter().map(|&soft| soft as f64).collect();
    print_result(&format!("{setting}/sequential_time_exponent"), growth_exponent(&x, &times), 1.15);
    println!("exponent of memory {:.2}\n", growth_exponent(&x, &peaks));
}

/// The word after `name`.
fn value_of<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let place = arguments.iter().position(|argument| argument == name)?;
    arguments.get(place + 1).map(String::as_str)
}

fn main() {
    keep_freed_memory();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{text:?} is no number"));
    match words[..] {
        ["--worker", setting, arm, soft] => {
            return worker(setting, arm, number(soft), default_segment());
        }
        ["--worker", setting, arm, soft, segment] => {
            return worker(setting, arm, number(soft), number(segment));
        }
        ["--export", setting, path] => return export(setting, Path::new(path)),
        _ => {}
    }
    let rounds = value_of(&arguments, "--rounds").map_or(if quick() { 1 } else { 7 }, number);
    let segment = value_of(&arguments, "--segment").map_or(default_segment(), number);
    let chosen = value_of(&arguments, "--setting");
    print_header(
        &device(),
        &format!(
            "prompt {PROMPT}, answer {ANSWER}; lora: SmolLM2-135M, rank {RANK} on q_proj and \
             v_proj; whole: 12 layers, d_model 256, vocabulary 4096, 9.9 M; temperature \
             {TEMPERATURE}, top_k {TOP_K}, guidance 0; f32; forward and backward, {rounds} rounds"
        ),
    );
    for setting in SETTINGS.into_iter().filter(|&own| chosen.is_none_or(|chosen| chosen == own)) {
        compare(setting, segment, rounds);
        if words.contains(&"--length") {
            growth(setting, segment, rounds.min(3));
        }
    }
}
