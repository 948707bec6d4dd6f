//! Training time per token of the rollouts, and how fast `parallel` approaches `sequential`.

use burn::tensor::Device;
use soft_model::Transformer;
use soft_tests::bench::{
    Spread, batch, differentiate, flat_gradients, interleaved, median, milliseconds, model,
    print_header, print_result, quick, relative_error,
};
use soft_tests::device;
use soft_train::batch::Batch;
use soft_train::rollout::{Parallel, Rollout, Sequential};

const ROWS: usize = 4;
const SEQUENTIAL: Sequential = Sequential { segment: 16, truncate: 0 };

fn passes(passes: usize) -> Parallel {
    Parallel { passes, grad_passes: 0 }
}

fn times(device: &Device) {
    let (rounds, soft) = if quick() { (3, 8) } else { (15, 32) };
    let (prompt, after) = (soft / 2, soft / 2);
    let positions = prompt + soft + after;
    let batch = batch(ROWS, prompt, soft, after);
    let model = model(device, 512, 1.0);
    print_header(
        device,
        &format!(
            "2 layers, d_model 128, vocabulary 2048, batch {ROWS}, {positions} positions with \
             {soft} soft, f32, {rounds} rounds; forward and backward"
        ),
    );
    let rollouts: [(&str, &dyn Rollout); 5] = [
        ("teacher", &Parallel::TEACHER),
        ("parallel R=2", &passes(2)),
        ("parallel R=3", &passes(3)),
        ("sequential, 16", &SEQUENTIAL),
        ("sequential, 1 graph", &Sequential::UNROLLED),
    ];
    let mut measures: Vec<_> = rollouts
        .iter()
        .map(|(_, rollout)| || milliseconds(|| drop(differentiate(*rollout, &model, &batch))))
        .collect();
    let mut measures: Vec<&mut dyn FnMut() -> f64> =
        measures.iter_mut().map(|measure| measure as &mut dyn FnMut() -> f64).collect();
    let times = interleaved(rounds, &mut measures);
    println!("{:<20} {:>9} {:>13}   this / teacher", "rollout", "ms/step", "µs per token");
    for ((name, _), own) in rollouts.iter().zip(&times) {
        let ms = median(own);
        let per_token = ms * 1e3 / (ROWS * positions) as f64;
        println!("{name:<20} {ms:>9.2} {per_token:>13.2}   {}", Spread::of_ratios(own, &times[0]));
    }
    println!();
    print_result("parallel_r2/teacher", Spread::of_ratios(&times[1], &times[0]).median, 2.2);
}

/// Error of loss and gradient after each number of passes.
fn convergence(name: &str, model: &Transformer, batch: &Batch, last: usize) {
    let exact = differentiate(&SEQUENTIAL, model, batch);
    let gradient = flat_gradients(model, &exact.gradients);
    println!("\nparallel against sequential, {name} (loss {:.4})", exact.loss);
    println!("{:>3} {:>14} {:>18}", "R", "loss error", "gradient error");
    for r in (1..=8).chain([last]) {
        let found = differentiate(&passes(r), model, batch);
        let error = relative_error(&gradient, &flat_gradients(model, &found.gradients));
        println!("{r:>3} {:>14.2e} {error:>18.2e}", (found.loss - exact.loss).abs());
    }
}

fn main() {
    let device = device().autodiff();
    times(&device);
    let soft = if quick() { 8 } else { 32 };
    let batch = batch(ROWS, soft / 2, soft, soft / 2);
    for (name, scale) in [("fresh weights", 1.0), ("weights times 2", 2.0), ("times 4", 4.0)] {
        convergence(name, &model(&device, 512, scale), &batch, soft + 1);
    }
}
