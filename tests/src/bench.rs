//! What the benchmarks share: a small model, the machine's line, interleaved pairs, fits.

use std::time::Instant;

use burn::module::{ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor};
use soft_core::{GuidanceForm, PipelineConfig, SoftPipeline, host_values};
use soft_model::{Activation, Family, ModelConfig, Transformer};
use soft_train::batch::Batch;
use soft_train::example::Example;
use soft_train::objective::{BatchLoss, Objective, StepTotals};
use soft_train::rollout::{Differentiated, Rollout, StepContext};

/// Vocabulary of [`model`].
pub const VOCABULARY: usize = 2048;

/// Whether `--quick` was given: counts so small that a benchmark ends in seconds. Its figures
/// show that it runs, not how fast.
pub fn quick() -> bool {
    std::env::args().any(|argument| argument == "--quick")
}

/// Keeps freed memory in the process, as the program `soft` does. Where `MIMALLOC_PURGE_DELAY` is
/// set it holds.
#[expect(unsafe_code, reason = "an option of the allocator, which has no safe interface")]
pub fn keep_freed_memory() {
    unsafe extern "C" {
        fn mi_option_set_default(option: std::ffi::c_int, value: std::ffi::c_long);
    }
    // `mi_option_purge_delay` in mimalloc's list of options.
    const PURGE_DELAY: std::ffi::c_int = 15;
    // SAFETY: sets one number that the allocator reads when it frees.
    unsafe { mi_option_set_default(PURGE_DELAY, -1) };
}

/// Prints on what and how the benchmark runs.
pub fn print_header(device: &Device, settings: &str) {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = info.lines().find_map(|line| line.strip_prefix("model name"));
    let cpu = cpu.map_or(std::env::consts::ARCH, |line| line.trim_start_matches([' ', '\t', ':']));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let profile = if cfg!(debug_assertions) {
        "dev (dependencies and the crates measured are optimised)"
    } else {
        "release"
    };
    println!("machine   {cpu}, {threads} threads; device {device:?}");
    println!("build     {profile}");
    let counts = if quick() { " (--quick: the counts are too small to judge by)" } else { "" };
    println!("settings  {settings}{counts}\n");
}

/// The line that ends a figure with a goal.
pub fn print_result(name: &str, value: f64, goal: f64) {
    let verdict = if value <= goal { "ok" } else { "MISSED" };
    println!("RESULT {name} {value:.3} {goal:.2} {verdict}");
}

/// 2 layers, d_model 128, vocabulary [`VOCABULARY`], 4 heads, SwiGLU of width 344, tied
/// embeddings; trainable where the device is an autodiff one. The weights of a fresh model are
/// multiplied by `scale`: at 1 its distributions are nearly uniform.
pub fn model(device: &Device, max_positions: usize, scale: f64) -> Transformer {
    let config = ModelConfig {
        vocab_size: VOCABULARY,
        d_model: 128,
        d_ff: 344,
        n_layers: 2,
        n_heads: 4,
        n_kv_heads: 4,
        head_dim: 32,
        max_positions,
        activation: Activation::Silu,
        ..crate::tiny_config(Family::Llama)
    };
    let model = Transformer::from_seed(&config, 1, &device.clone().inner(), DType::F32);
    let model = crate::scale_weights(model, scale);
    if device.is_autodiff() { burn::module::Module::train(model) } else { model }
}

/// Rows of `prompt` hard tokens, `soft` mixtures and `after` hard tokens that are fed, every
/// prediction scored; all rows are of one length.
pub fn batch(rows: usize, prompt: usize, soft: usize, after: usize) -> Batch {
    let row = |row: usize| {
        let length = prompt + soft + after + 1;
        let ids: Vec<u32> =
            (0..length).map(|t| ((row * 7919 + t * 104_729 + 13) % VOCABULARY) as u32).collect();
        let mut example = Example::from_tokens(&ids, 1);
        example.soft[prompt..prompt + soft].fill(true);
        example
    };
    Batch::new((0..rows).map(row).collect())
}

/// A step that runs free: the whole softmax at temperature 1, no guidance, no drop-out.
///
/// # Panics
/// Never: the settings are valid.
pub fn free_running() -> StepContext {
    StepContext {
        pipeline: SoftPipeline::new(PipelineConfig::default()).expect("the defaults are valid"),
        form: GuidanceForm::Mix,
        guidance: 0.0,
        seed: 3,
        step: 0,
        dropout: 0.0,
        ..StepContext::default()
    }
}

/// Loss and gradients of one batch that runs free.
pub fn differentiate(rollout: &dyn Rollout, model: &Transformer, batch: &Batch) -> Differentiated {
    differentiate_in(rollout, model, batch, &free_running())
}

/// Loss and gradients of one batch under the given settings.
pub fn differentiate_in(
    rollout: &dyn Rollout,
    model: &Transformer,
    batch: &Batch,
    context: &StepContext,
) -> Differentiated {
    let objective = Objective::default();
    let loss = BatchLoss {
        batch,
        objective,
        totals: StepTotals::of([batch]),
        temperature: 1.0,
        other: None,
    };
    rollout.differentiate(model, &loss, context)
}

/// Gradients of what `model` trains as one list, in the order of the parameters.
pub fn flat_gradients(model: &Transformer, gradients: &GradientsParams) -> Vec<f64> {
    struct Collect<'a>(&'a GradientsParams, Vec<f64>);
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let trained = param.val().is_require_grad();
            if let Some(gradient) = self.0.get::<D>(param.id).filter(|_| trained) {
                self.1.extend(host_values(gradient));
            }
        }
    }
    let mut collect = Collect(gradients, Vec::new());
    burn::module::Module::visit(model, &mut collect);
    collect.1
}

/// `|a - b| / |a|` in the Euclidean norm.
///
/// # Panics
/// If the lengths differ.
pub fn relative_error(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len(), "the same parameters have gradients");
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut a.iter().copied())
}

/// Milliseconds that `work` takes.
pub fn milliseconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64() * 1e3
}

/// Runs every measurement once a round, so that whatever else the machine does falls on all of
/// them: `[measurement][round]`. A first round is not counted, and each begins with another
/// measurement, so that none always follows the same one.
pub fn interleaved(rounds: usize, measurements: &mut [&mut dyn FnMut() -> f64]) -> Vec<Vec<f64>> {
    let mut values = vec![Vec::with_capacity(rounds); measurements.len()];
    for round in 0..=rounds {
        for turn in 0..measurements.len() {
            let index = (round + turn) % measurements.len();
            let value = measurements[index]();
            if round > 0 {
                values[index].push(value);
            }
        }
    }
    values
}

/// The middle value; of an even number the mean of the two in the middle.
///
/// # Panics
/// If there is none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// A figure over all rounds.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    /// The middle of all rounds.
    pub median: f64,
    /// The least of all rounds.
    pub min: f64,
    /// The greatest of all rounds.
    pub max: f64,
}

impl Spread {
    /// Of one value a round.
    pub fn of(rounds: &[f64]) -> Self {
        Self {
            median: median(rounds),
            min: rounds.iter().copied().fold(f64::INFINITY, f64::min),
            max: rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }

    /// Of `numerator / denominator`, round by round.
    pub fn of_ratios(numerator: &[f64], denominator: &[f64]) -> Self {
        let ratios: Vec<f64> = numerator.iter().zip(denominator).map(|(a, b)| a / b).collect();
        Self::of(&ratios)
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3} ({:.3} .. {:.3})", self.median, self.min, self.max)
    }
}

/// The exponent b of the power law `y = c x^b` by least squares of the logarithms.
pub fn growth_exponent(x: &[f64], y: &[f64]) -> f64 {
    let (x, y): (Vec<f64>, Vec<f64>) = x.iter().zip(y).map(|(x, y)| (x.ln(), y.ln())).unzip();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mx, my) = (mean(&x), mean(&y));
    let covariance: f64 = x.iter().zip(&y).map(|(x, y)| (x - mx) * (y - my)).sum();
    covariance / x.iter().map(|x| (x - mx).powi(2)).sum::<f64>()
}

/// Milliseconds of processor time that this process has taken, in steps of 10, where the system
/// says it.
pub fn processor_milliseconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program, in brackets, may hold spaces.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = |field: usize| fields.get(field)?.parse::<f64>().ok();
    Some(10.0 * (ticks(11)? + ticks(12)?))
}

/// Most resident memory so far in MB, or none where the system does not say.
pub fn peak_megabytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024.0 / 1e6)
}

/// Lets [`peak_megabytes`] count from what is resident now.
pub fn reset_peak() {
    if std::fs::write("/proc/self/clear_refs", "5").is_err() {
        eprintln!("the peak of memory cannot be reset here: the base is the peak so far");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_law_has_its_exponent() {
        let x = [16.0, 64.0, 256.0];
        let y = x.map(|x: f64| 3.0 * x.powf(1.25));
        assert!((growth_exponent(&x, &y) - 1.25).abs() < 1e-12);
    }

    #[test]
    fn ratios_are_those_of_the_same_round() {
        let ratio = Spread::of_ratios(&[2.0, 40.0, 9.0], &[1.0, 10.0, 3.0]);
        assert_eq!((ratio.median, ratio.min, ratio.max), (3.0, 2.0, 4.0));
    }

    #[test]
    fn the_first_round_is_not_counted() {
        let mut calls = 0.0;
        let mut count = || {
            calls += 1.0;
            calls
        };
        assert_eq!(interleaved(2, &mut [&mut count]), [[2.0, 3.0]]);
    }
}
