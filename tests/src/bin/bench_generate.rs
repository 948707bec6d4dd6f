//! Decode steps of a real model: soft against hard sampling with the same filters and greedy, at
//! batch 1 and 8, and where the time of a step goes. `--greedy BATCH STEPS` prints the milliseconds
//! of greedy steps alone, for `tests/peers`.

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
/// Goals of a soft step, against hard sampling with the same filters and against greedy.
const GOALS: [(&str, f64); 2] = [("hard_sampling", 1.03), ("greedy", 1.10)];

fn options(config: PipelineConfig, steps: usize, record: bool) -> GenerateOptions {
    GenerateOptions {
        thoughts: Manner::new(SoftPipeline::new(config).expect("valid settings"), Mode::Soft),
        // The first step is where the clock starts.
        max_new: steps + 1,
        seed: 5,
        record,
        top: 5,
        ..GenerateOptions::default()
    }
}

fn filters() -> PipelineConfig {
    PipelineConfig {
        temperature: 0.6,
        top_k: 30,
        top_p: 0.95,
        min_p: 0.001,
        ..PipelineConfig::default()
    }
}

fn coldest() -> PipelineConfig {
    PipelineConfig { temperature: 0.0, ..PipelineConfig::default() }
}

/// Milliseconds a decode step of a batch: from the end of the prefill, so that the prompts do not
/// count.
fn step_milliseconds(
    model: &Transformer,
    prompts: &[Vec<u32>],
    mode: Mode,
    options: &GenerateOptions,
) -> f64 {
    let starts = RefCell::new(Vec::new());
    let mode_at = |row: usize, _: usize| {
        if row == 0 {
            starts.borrow_mut().push(Instant::now());
        }
        mode
    };
    generate(model, prompts, &mode_at, options, &mut |_, _, _| {})
        .expect("the prompt fits the context");
    let starts = starts.into_inner();
    let (first, last) = (starts[0], starts[starts.len() - 1]);
    (last - first).as_secs_f64() * 1e3 / (starts.len() - 1) as f64
}

/// Milliseconds of what comes after the logits of a step: filters, draw or heaviest token, and
/// the next input. On its own, since it is less than the noise of a whole step.
fn choice_milliseconds(
    model: &Transformer,
    prompts: &[Vec<u32>],
    mode: Mode,
    options: &GenerateOptions,
) -> f64 {
    let repeats = 32;
    let batch = prompts.len();
    let hidden = hidden(model, prompts);
    let logits = model.output_head().logits(hidden);
    let embedding = model.embedding();
    let key = |row| NoiseKey { seed: 5, step: 0, row, position: 0 };
    let keys: Vec<NoiseKey> = (0..batch as u32).map(key).collect();
    let total = milliseconds(|| {
        for _ in 0..repeats {
            let token = options.thoughts.pipeline.apply(logits.clone(), &keys);
            let next = match mode {
                Mode::Soft => {
                    assert_eq!(token.fed.to_rows(1).len(), batch);
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

/// Hidden states after the last token of equally long prompts: `[batch, d_model]`.
fn hidden(model: &Transformer, prompts: &[Vec<u32>]) -> burn::tensor::Tensor<2> {
    let (batch, seq) = (prompts.len(), prompts[0].len());
    let mut cache = model.new_cache(batch);
    let embeds = model.embed(&prompts.concat(), batch);
    let all = model.forward(embeds, &vec![vec![true; seq]; batch], &mut cache, None);
    let width = all.dims()[1];
    all.reshape([batch, seq, width]).narrow(1, seq - 1, 1).reshape([batch, width])
}

/// Milliseconds of the output head: from hidden states to logits.
fn head_milliseconds(model: &Transformer, prompts: &[Vec<u32>]) -> f64 {
    let (hidden, head, repeats) = (hidden(model, prompts), model.output_head(), 16);
    let total = milliseconds(|| {
        for _ in 0..repeats {
            drop(head.logits(hidden.clone()).into_data());
        }
    });
    total / f64::from(repeats)
}

fn compare(model: &Transformer, prompt: &[u32], batch: usize, rounds: usize, steps: usize) {
    let prompts = vec![prompt.to_vec(); batch];
    let cases = [
        ("soft", Mode::Soft, options(filters(), steps, false)),
        ("hard sampling", Mode::Hard, options(filters(), steps, false)),
        ("greedy", Mode::Hard, options(coldest(), steps, false)),
        ("soft, recorded", Mode::Soft, options(filters(), steps, true)),
    ];
    let mut measures: Vec<_> = cases
        .iter()
        .map(|(_, mode, options)| || step_milliseconds(model, &prompts, *mode, options))
        .collect();
    let mut measures: Vec<&mut dyn FnMut() -> f64> =
        measures.iter_mut().map(|measure| measure as &mut dyn FnMut() -> f64).collect();
    let times = interleaved(rounds, &mut measures);

    println!("batch {batch}");
    print!("{:<16} {:>9} {:>9} {:>14}", "", "ms/step", "tokens/s", "after logits");
    println!("   soft step / this");
    for ((name, mode, options), own) in cases.iter().zip(&times) {
        let ms = median(own);
        let ratio = Spread::of_ratios(&times[0], own);
        let choice = match options.record {
            true => "-".to_owned(),
            false => format!("{:.3} ms", choice_milliseconds(model, &prompts, *mode, options)),
        };
        let tokens = batch as f64 * 1e3 / ms;
        println!("{name:<16} {ms:>9.2} {tokens:>9.1} {choice:>14}   {ratio}");
    }
    let (step, head) = (median(&times[0]), head_milliseconds(model, &prompts));
    let choice = choice_milliseconds(model, &prompts, Mode::Soft, &cases[0].2);
    println!(
        "a soft step: blocks {:.1} ms ({:.0} %), output head {head:.1} ms ({:.0} %), after the \
         logits {choice:.2} ms ({:.1} %)\n",
        step - head - choice,
        100.0 * (step - head - choice) / step,
        100.0 * head / step,
        100.0 * choice / step,
    );
    for (place, (name, goal)) in GOALS.into_iter().enumerate() {
        let ratio = Spread::of_ratios(&times[0], &times[1 + place]).median;
        print_result(&format!("soft_step/{name}_batch_{batch}"), ratio, goal);
    }
    println!();
}

/// The two numbers after `--greedy`.
fn greedy_only() -> Option<(usize, usize)> {
    let arguments: Vec<String> = std::env::args().collect();
    let place = arguments.iter().position(|argument| argument == "--greedy")?;
    let number = |at: usize| arguments.get(at).and_then(|text| text.parse().ok());
    Some((number(place + 1).unwrap_or(1), number(place + 2).unwrap_or(32)))
}

fn main() {
    let Some(path) = smollm2() else { return };
    let files = ModelFiles::open(&path).expect("the model opens");
    let device = device();
    let model = Transformer::from_weights(&files.config, &files.weights, &device, DType::F32)
        .expect("the weights fit the configuration");
    let tokenizer = files.tokenizer.as_ref().expect("the file holds a tokenizer");
    let prompt = tokenizer.encode(PROMPT, false).expect("text");

    if let Some((batch, steps)) = greedy_only() {
        let options = options(coldest(), steps, false);
        let prompts = vec![prompt; batch];
        println!("{:.3}", step_milliseconds(&model, &prompts, Mode::Hard, &options));
        return;
    }
    let (rounds, steps) = if quick() { (5, 8) } else { (31, 12) };
    print_header(
        &device,
        &format!(
            "SmolLM2-135M in f32, prompt of {} tokens, {steps} decode steps, {rounds} rounds; \
             temperature 0.6, top_k 30, top_p 0.95, min_p 0.001",
            prompt.len()
        ),
    );
    compare(&model, &prompt, 1, rounds, steps);
    compare(&model, &prompt, 8, rounds / 2, steps);
}
