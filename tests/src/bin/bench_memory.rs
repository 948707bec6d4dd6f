//! What saves time and memory in a full-width training step: packed rows, activations that are
//! computed again, Burn's own checkpointing, bf16. Rows of very different lengths, as text has them.
//!
//! Each arm runs in a process of its own, a worker: it makes its model and batch, takes a step, and
//! then takes one for every line that it reads and prints its figures. The parent gives the workers
//! their turns, so that whatever else the machine does falls on all of them.
//!
//! - `--worker SETTING ARM`: be a worker
//! - `--setting SETTING`, `--rounds N`, `--arms NAME,NAME`: what the parent measures

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use burn::tensor::{DType, Device};
use soft_core::{PipelineConfig, SoftPipeline};
use soft_model::{Family, ModelConfig, ModelFiles, Transformer};
use soft_tests::bench::{
    Spread, differentiate_in, median, milliseconds, peak_megabytes, print_header,
    processor_milliseconds, quick, reset_peak,
};
use soft_tests::{device, smollm2, tiny_config};
use soft_train::batch::Batch;
use soft_train::example::Example;
use soft_train::rollout::{Parallel, Rollout, Sequential, StepContext};

/// Lengths of the examples of a batch.
const LENGTHS: [usize; 8] = [40, 56, 72, 96, 136, 184, 248, 320];
/// Columns of a packed row: no longer than the longest example.
const PACK: usize = 1;
const SETTINGS: [&str; 2] = ["whole", "lora"];

/// One way to take a step.
struct Arm {
    name: &'static str,
    rollout: &'static dyn Rollout,
    packed: bool,
    recompute: usize,
    /// Places of the loss at once; 0 is all.
    loss_chunk: usize,
    /// Burn's gradient checkpointing, which computes cheap operations again. It does not mix with
    /// leaves that were made without it, so the loss cannot be in chunks.
    balanced: bool,
    precision: DType,
}

const PLAIN: Arm = Arm {
    name: "teacher",
    rollout: &Parallel::TEACHER,
    packed: false,
    recompute: 0,
    loss_chunk: 256,
    balanced: false,
    precision: DType::F32,
};
const TWO: &Parallel = &Parallel { passes: 2, grad_passes: 0 };
const EXACT: &Sequential = &Sequential { segment: 16, truncate: 0 };

/// The first arm is what the others are compared with.
const ARMS: [Arm; 13] = [
    PLAIN,
    Arm { name: "packed", packed: true, ..PLAIN },
    Arm { name: "whole-loss", loss_chunk: 0, ..PLAIN },
    Arm { name: "whole-loss-balanced", loss_chunk: 0, balanced: true, ..PLAIN },
    Arm { name: "recompute-1", recompute: 1, ..PLAIN },
    Arm { name: "recompute-4", recompute: 4, ..PLAIN },
    Arm { name: "packed-recompute-1", packed: true, recompute: 1, ..PLAIN },
    Arm { name: "bf16", precision: DType::BF16, ..PLAIN },
    Arm { name: "parallel-2", rollout: TWO, ..PLAIN },
    Arm { name: "parallel-2-packed", rollout: TWO, packed: true, ..PLAIN },
    Arm { name: "parallel-2-recompute-1", rollout: TWO, recompute: 1, ..PLAIN },
    Arm { name: "sequential", rollout: EXACT, ..PLAIN },
    Arm { name: "sequential-packed", rollout: EXACT, packed: true, ..PLAIN },
];

/// Examples of the lengths, the second eighth of each soft, everything scored after the first.
fn batch(vocabulary: usize) -> Batch {
    let example = |(row, &length): (usize, &usize)| {
        let ids: Vec<u32> =
            (0..length).map(|t| ((row * 7919 + t * 104_729 + 13) % vocabulary) as u32).collect();
        let mut example = Example::from_tokens(&ids, length / 8);
        example.soft[length / 8..length / 4].fill(true);
        example
    };
    Batch::new(LENGTHS.iter().enumerate().map(example).collect())
}

/// A 9.9 M-parameter model trained whole, or a real one's branches; none where that is not there.
fn model(setting: &str, device: &Device) -> Option<Transformer> {
    match setting {
        "lora" => {
            let files = ModelFiles::open(&smollm2()?).expect("the model opens");
            let targets = ["q_proj".to_owned(), "v_proj".to_owned()];
            let model = Transformer::open(&files, device, DType::F32).expect("the weights fit");
            Some(model.with_low_rank(8, 16.0, &targets, 9).expect("the projections are there"))
        }
        "whole" => {
            let config = ModelConfig {
                vocab_size: 4096,
                d_model: 256,
                d_ff: 704,
                n_layers: 12,
                n_heads: 8,
                n_kv_heads: 4,
                head_dim: 32,
                max_positions: 1024,
                ..tiny_config(Family::Llama)
            };
            Some(Transformer::from_seed(&config, 1, device, DType::F32))
        }
        _ => panic!("no setting {setting:?}: expected one of {}", SETTINGS.join(", ")),
    }
}

fn worker(setting: &str, arm: &Arm) {
    let device = device().autodiff();
    let device = if arm.balanced { device.gradient_checkpointing() } else { device };
    let Some(model) = model(setting, &device) else { return };
    let pipeline = PipelineConfig { temperature: 0.6, top_k: 30, ..PipelineConfig::default() };
    let context = StepContext {
        pipeline: SoftPipeline::new(pipeline).expect("valid settings"),
        loss_chunk: arm.loss_chunk,
        recompute: arm.recompute,
        ..StepContext::default()
    };
    let batch = batch(model.config().vocab_size);
    let batch = if arm.packed { batch.packed(PACK) } else { batch };
    let step = |batch: &Batch| match arm.precision {
        DType::F32 => differentiate_in(arm.rollout, &model, batch, &context),
        precision => differentiate_in(arm.rollout, &model.cast(precision), batch, &context),
    };
    // Threads, buffers of matrix products and the like belong to the base.
    drop(step(&Batch::new(vec![Example::from_tokens(&[1, 2, 3], 1)])));
    reset_peak();
    let base = peak_megabytes().unwrap_or(f64::NAN);
    let loss = step(&batch).loss;
    // Of the first step: what later ones add is memory that the allocator keeps.
    let above = peak_megabytes().unwrap_or(f64::NAN) - base;
    let (fed, cells) = batch.filled();
    println!("{loss} {above} {fed} {cells}");
    for _ in std::io::stdin().lines() {
        let before = processor_milliseconds();
        let ms = milliseconds(|| drop(step(&batch)));
        let processor = processor_milliseconds().zip(before).map_or(f64::NAN, |(a, b)| a - b);
        println!("{ms} {processor}");
    }
}

/// A worker's process.
struct Worker {
    process: Child,
    turns: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    fn start(setting: &str, arm: &str) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut process = Command::new(program)
            .args(["--worker", setting, arm])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts again");
        let turns = process.stdin.take().expect("piped");
        let answers = BufReader::new(process.stdout.take().expect("piped"));
        Self { process, turns, answers }
    }

    /// The numbers of the next line; none at the end of the output.
    fn numbers(&mut self) -> Vec<f64> {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the worker writes text");
        line.split_whitespace().map(|word| word.parse().expect("a number")).collect()
    }

    fn step(&mut self) -> Vec<f64> {
        writeln!(self.turns).expect("the worker reads");
        self.numbers()
    }

    fn end(mut self) {
        drop(self.turns);
        self.process.wait().expect("it ends with its input");
    }
}

/// Every arm of a setting in turn, `rounds` times.
fn compare(setting: &str, rounds: usize, chosen: &[&Arm]) {
    let mut workers: Vec<Worker> =
        chosen.iter().map(|arm| Worker::start(setting, arm.name)).collect();
    let ready: Vec<Vec<f64>> = workers.iter_mut().map(Worker::numbers).collect();
    if ready.iter().any(Vec::is_empty) {
        return workers.into_iter().for_each(Worker::end);
    }
    let mut wall = vec![Vec::new(); chosen.len()];
    let mut processor = vec![Vec::new(); chosen.len()];
    for round in 0..rounds {
        for turn in 0..chosen.len() {
            let arm = (round + turn) % chosen.len();
            let figures = workers[arm].step();
            wall[arm].push(figures[0]);
            processor[arm].push(figures[1]);
        }
    }
    println!("{setting}");
    println!(
        "{:<24} {:>6} {:>9} {:>9} {:>9} {:>9}   processor time / {}",
        "arm", "full %", "ms/step", "tokens/s", "above MB", "loss", chosen[0].name
    );
    for (arm, of) in chosen.iter().enumerate() {
        let ms = median(&wall[arm]);
        let [loss, above, fed, cells] = ready[arm][..] else { panic!("a worker said {ready:?}") };
        println!(
            "{:<24} {:>6.0} {ms:>9.0} {:>9.0} {above:>9.0} {loss:>9.5}   {}",
            of.name,
            100.0 * fed / cells,
            fed * 1e3 / ms,
            Spread::of_ratios(&processor[arm], &processor[0]),
        );
    }
    println!();
    workers.into_iter().for_each(Worker::end);
}

/// The word after `name`.
fn value_of<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let place = arguments.iter().position(|argument| argument == name)?;
    arguments.get(place + 1).map(String::as_str)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let arm = |name: &str| {
        let found = ARMS.iter().find(|arm| arm.name == name);
        found.unwrap_or_else(|| panic!("no arm {name:?}: see the table"))
    };
    if let ["--worker", setting, name] = words[..] {
        return worker(setting, arm(name));
    }
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{text:?} is no number"));
    let rounds = value_of(&arguments, "--rounds").map_or(if quick() { 1 } else { 5 }, number);
    let chosen: Vec<&Arm> = match value_of(&arguments, "--arms") {
        Some(names) => names.split(',').map(arm).collect(),
        None => ARMS.iter().collect(),
    };
    let setting = value_of(&arguments, "--setting");
    print_header(
        &device(),
        &format!(
            "whole: 12 layers, d_model 256, vocabulary 4096, 9.9 M; lora: SmolLM2-135M, rank 8 on \
             q_proj and v_proj; examples of {LENGTHS:?} tokens, an eighth of each soft, guidance 0, \
             the loss of 256 places at once; forward and backward, {rounds} rounds"
        ),
    );
    for own in SETTINGS.into_iter().filter(|&own| setting.is_none_or(|setting| setting == own)) {
        compare(own, rounds, &chosen);
    }
}
