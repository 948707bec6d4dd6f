//! Decode steps of a real model: soft against hard sampling with the same filters and greedy.

use std::cell::RefCell;
use std::time::Instant;

use burn::tensor::DType;
use soft_core::{PipelineConfig, SoftPipeline};
use soft_model::{GenerateOptions, Mode, ModelFiles, Transformer, generate};
use soft_tests::bench::{Ratio, interleaved, median, print_header, print_result, quick};
use soft_tests::{SMOLLM2, device, models_dir};

const PROMPT: &str = "Question: Tom has 12 apples, gives 5 away and buys 9. How many has he?\nAnswer:";

fn options(config: PipelineConfig, steps: usize, record: bool) -> GenerateOptions {
    GenerateOptions {
        pipeline: SoftPipeline::new(config).expect("valid settings"),
        // The first step is where the clock starts.
        max_new: steps + 1,
        eos_ids: Vec::new(),
        seed: 5,
        first_row: 0,
        record,
        top: 5,
    }
}

/// Milliseconds a decode step: from the end of the prefill, so that the prompt does not count.
fn step_milliseconds(
    model: &Transformer,
    prompt: &[u32],
    mode: Mode,
    options: &GenerateOptions,
) -> f64 {
    let starts = RefCell::new(Vec::new());
    let mode_at = |_: usize, _: usize| {
        starts.borrow_mut().push(Instant::now());
        mode
    };
    generate(model, &[prompt.to_vec()], &mode_at, options, &mut |_, _| {})
        .expect("the prompt fits the context");
    let starts = starts.into_inner();
    let (first, last) = (starts[0], starts[starts.len() - 1]);
    (last - first).as_secs_f64() * 1e3 / (starts.len() - 1) as f64
}

fn main() {
    let Some(dir) = models_dir() else { return };
    let files = ModelFiles::open(&dir.join(SMOLLM2)).expect("the model opens");
    let device = device();
    let model = Transformer::from_weights(&files.config, &files.weights, &device, DType::F32)
        .expect("the weights fit the configuration");
    let tokenizer = files.tokenizer.as_ref().expect("the file holds a tokenizer");
    let prompt = tokenizer.encode(PROMPT, false).expect("text");

    let (rounds, steps) = if quick() { (3, 6) } else { (15, 24) };
    let filters = PipelineConfig {
        temperature: 0.6,
        top_k: 30,
        top_p: 0.95,
        min_p: 0.001,
        ..PipelineConfig::default()
    };
    let coldest = PipelineConfig { temperature: 0.0, ..PipelineConfig::default() };
    print_header(
        &device,
        &format!(
            "SmolLM2-135M in f32, batch 1, prompt of {} tokens, {steps} decode steps, {rounds} \
             rounds; temperature 0.6, top_k 30, top_p 0.95, min_p 0.001",
            prompt.len()
        ),
    );

    let cases = [
        ("soft", Mode::Soft, options(filters.clone(), steps, false)),
        ("hard sampling", Mode::Hard, options(filters.clone(), steps, false)),
        ("greedy", Mode::Hard, options(coldest, steps, false)),
        ("soft, recorded", Mode::Soft, options(filters, steps, true)),
    ];
    let mut measures: Vec<_> = cases
        .iter()
        .map(|(_, mode, options)| || step_milliseconds(&model, &prompt, *mode, options))
        .collect();
    let mut measures: Vec<&mut dyn FnMut() -> f64> =
        measures.iter_mut().map(|measure| measure as &mut dyn FnMut() -> f64).collect();
    let times = interleaved(rounds, &mut measures);

    println!("{:<16} {:>9} {:>9}   {}", "", "ms/step", "tokens/s", "soft step / this");
    for ((name, _, _), own) in cases.iter().zip(&times) {
        let ms = median(own);
        println!("{name:<16} {ms:>9.2} {:>9.1}   {}", 1e3 / ms, Ratio::of(&times[0], own));
    }
    println!();
    print_result("soft_step/hard_sampling", Ratio::of(&times[0], &times[1]).median, 1.03);
    print_result("soft_step/greedy", Ratio::of(&times[0], &times[2]).median, 1.10);
}
