//! Decode steps of a real model: soft against hard sampling with the same filters and greedy.

use std::cell::RefCell;
use std::time::Instant;

use burn::tensor::DType;
use soft_core::{Distribution, NoiseKey, PipelineConfig, SoftPipeline};
use soft_model::{GenerateOptions, Manner, Mode, ModelFiles, Transformer, generate};
use soft_tests::bench::{
    Spread, interleaved, median, milliseconds, print_header, print_result, quick,
};
use soft_tests::{device, smollm2};

const PROMPT: &str =
    "Question: Tom has 12 apples, gives 5 away and buys 9. How many has he?\nAnswer:";

fn options(config: PipelineConfig, steps: usize, record: bool) -> GenerateOptions {
    GenerateOptions {
        thoughts: Manner::new(SoftPipeline::new(config).expect("valid settings"), Mode::Soft),
        // The first step is where the clock starts.
        max_new: steps + 1,
        seed: 5,
        record,
        keep_inputs: record,
        top: 5,
        ..GenerateOptions::default()
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
    generate(model, &[prompt.to_vec()], &mode_at, options, &mut |_, _, _| {})
        .expect("the prompt fits the context");
    let starts = starts.into_inner();
    let (first, last) = (starts[0], starts[starts.len() - 1]);
    (last - first).as_secs_f64() * 1e3 / (starts.len() - 1) as f64
}

/// Milliseconds of what comes after the logits of a step: filters, draw or heaviest token, and
/// the next input. On its own, since it is less than the noise of a whole step.
fn choice_milliseconds(
    model: &Transformer,
    prompt: &[u32],
    mode: Mode,
    options: &GenerateOptions,
) -> f64 {
    let repeats = 32;
    let logits = model.logits(model.embed(prompt, 1)).narrow(0, prompt.len() - 1, 1);
    let embedding = model.embedding();
    let keys = [NoiseKey { seed: 5, step: 0, row: 0, position: 0 }];
    let total = milliseconds(|| {
        for _ in 0..repeats {
            let token = options.thoughts.pipeline.apply(logits.clone(), &keys);
            let next = match mode {
                Mode::Soft => {
                    assert_eq!(token.fed.to_rows(1).len(), 1);
                    token.fed.mix(embedding.clone())
                }
                Mode::Hard => {
                    let drawn = options.thoughts.pipeline.draw(&token.probs, &keys);
                    Distribution::one_hot(&drawn, &embedding).mix(embedding.clone())
                }
            };
            drop(next.into_data());
        }
    });
    total / f64::from(repeats)
}

fn main() {
    let Some(path) = smollm2() else { return };
    let files = ModelFiles::open(&path).expect("the model opens");
    let device = device();
    let model = Transformer::from_weights(&files.config, &files.weights, &device, DType::F32)
        .expect("the weights fit the configuration");
    let tokenizer = files.tokenizer.as_ref().expect("the file holds a tokenizer");
    let prompt = tokenizer.encode(PROMPT, false).expect("text");

    let (rounds, steps) = if quick() { (5, 8) } else { (31, 12) };
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

    print!("{:<16} {:>9} {:>9} {:>14}", "", "ms/step", "tokens/s", "after logits");
    println!("   soft step / this");
    for ((name, mode, options), own) in cases.iter().zip(&times) {
        let ms = median(own);
        let ratio = Spread::of_ratios(&times[0], own);
        let choice = match options.record {
            true => "-".to_owned(),
            false => format!("{:.3} ms", choice_milliseconds(&model, &prompt, *mode, options)),
        };
        println!("{name:<16} {ms:>9.2} {:>9.1} {choice:>14}   {ratio}", 1e3 / ms);
    }
    println!();
    print_result("soft_step/hard_sampling", Spread::of_ratios(&times[0], &times[1]).median, 1.03);
    print_result("soft_step/greedy", Spread::of_ratios(&times[0], &times[2]).median, 1.10);
}
