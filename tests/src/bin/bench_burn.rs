//! What Burn does that the design rests on: the cost of a reshaped weight inside a recurrence,
//! gradients of a low-rank branch alone, and tensors of two checkpointing strategies.

use burn::module::Module;
use burn::tensor::activation::tanh;
use burn::tensor::{DType, Device, Distribution, Tensor};
use soft_core::{compiled_devices, device_from_name};
use soft_model::Transformer;
use soft_tests::bench::{
    batch, differentiate, flat_gradients, growth_exponent, interleaved, median, milliseconds,
    model, peak_megabytes, print_header, quick, relative_error, reset_peak,
};
use soft_tests::device;
use soft_train::rollout::{Rollout, Sequential};

const WIDTH: usize = 256;
const LAYERS: usize = 4;
const ROWS: usize = 4;

type Product = fn(Tensor<2>, &Tensor<2>) -> Tensor<2>;

/// Milliseconds of the backward pass of `x <- tanh(x W_i)`, `steps` times over [`LAYERS`] matrices.
fn backward_ms(weights: &[Tensor<2>], steps: usize, product: Product) -> f64 {
    let mut x = Tensor::<2>::ones([ROWS, WIDTH], &weights[0].device());
    for weight in (0..steps).flat_map(|_| weights) {
        x = tanh(product(x, weight));
    }
    let loss = x.sum();
    milliseconds(|| {
        let grads = loss.backward();
        let gradient = weights[0].grad(&grads).expect("the weight is tracked");
        drop(gradient.into_data());
    })
}

/// As a linear layer does on activations `[batch, seq, width]`: the weight is reshaped.
fn rank_3(x: Tensor<2>, weight: &Tensor<2>) -> Tensor<2> {
    let x = x.reshape([ROWS, 1, WIDTH]);
    let weight = weight.clone().reshape([1, WIDTH, WIDTH]);
    x.matmul(weight).reshape([ROWS, WIDTH])
}

/// The weight itself is a factor.
fn rank_2(x: Tensor<2>, weight: &Tensor<2>) -> Tensor<2> {
    x.matmul(weight.clone())
}

/// Peak MB of `work` above what was resident before it.
fn peak_of(work: impl FnOnce() -> f64) -> f64 {
    reset_peak();
    let base = peak_megabytes().unwrap_or(f64::NAN);
    work();
    peak_megabytes().unwrap_or(f64::NAN) - base
}

fn products(device: &Device) {
    let (lengths, rounds): (&[usize], usize) =
        if quick() { (&[16, 32], 2) } else { (&[16, 64, 128], 7) };
    let std = 1.0 / (WIDTH as f64).sqrt();
    let weights: Vec<Tensor<2>> = (0..LAYERS)
        .map(|_| Tensor::random([WIDTH, WIDTH], Distribution::Normal(0.0, std), device))
        .map(Tensor::require_grad)
        .collect();
    let longest = lengths[lengths.len() - 1];
    let plain = peak_of(|| backward_ms(&weights, longest, rank_2));
    let reshaped = peak_of(|| backward_ms(&weights, longest, rank_3));
    println!(
        "backward of a recurrence over {LAYERS} matrices of {WIDTH} x {WIDTH}, {ROWS} rows, ms"
    );
    println!("{:>5} {:>16} {:>10} {:>7}", "T", "reshaped weight", "rank 2", "ratio");
    let mut columns = [Vec::new(), Vec::new()];
    for &steps in lengths {
        let mut reshaped = || backward_ms(&weights, steps, rank_3);
        let mut plain = || backward_ms(&weights, steps, rank_2);
        let times = interleaved(rounds, &mut [&mut reshaped, &mut plain]);
        let [a, b] = [median(&times[0]), median(&times[1])];
        println!("{steps:>5} {a:>16.2} {b:>10.2} {:>7.2}", a / b);
        columns[0].push(a);
        columns[1].push(b);
    }
    let x: Vec<f64> = lengths.iter().map(|&steps| steps as f64).collect();
    let [a, b] = columns.map(|y| growth_exponent(&x, &y));
    println!("growth: reshaped weight T^{a:.2}, rank 2 T^{b:.2}");
    println!("peak memory at T = {longest}: {reshaped:.0} MB against {plain:.0} MB\n");
}

/// Gradients of a low-rank branch, on a base that is frozen or trains too.
fn low_rank_gradients(device: &Device, frozen: bool) -> Vec<f64> {
    let targets = ["q_proj".to_owned(), "down_proj".to_owned()];
    let model: Transformer = model(device, 64, 2.0)
        .with_low_rank(4, 8.0, &targets, 9)
        .expect("the projections are there");
    let rollout: &dyn Rollout = &Sequential { segment: 4, truncate: 0 };
    let trained = if frozen { model.clone() } else { model.clone().unfreeze() };
    let found = differentiate(rollout, &trained, &batch(2, 3, 6, 2));
    flat_gradients(&model, &found.gradients)
}

fn low_rank() {
    println!("gradients of a low-rank branch on a frozen base, sequential, f32");
    let reference = low_rank_gradients(&device().autodiff(), true);
    let norm = reference.iter().map(|x| x * x).sum::<f64>().sqrt();
    println!("{:<15} {} entries, norm {norm:.3e}", "reference", reference.len());
    let whole = low_rank_gradients(&device().autodiff(), false);
    println!("{:<15} relative error {:.2e}", "base trains too", relative_error(&reference, &whole));
    for name in compiled_devices() {
        let Ok(device) = device_from_name(name) else { continue };
        let opened = std::panic::catch_unwind(|| low_rank_gradients(&device.autodiff(), true));
        match opened {
            Ok(found) => {
                println!("{name:<15} relative error {:.2e}", relative_error(&reference, &found));
            }
            Err(_) => println!("{name:<15} not here: the backend did not start"),
        }
    }
    println!();
}

/// A product of tensors whose devices checkpoint differently.
fn mixed_checkpointing() {
    let plain = device().autodiff();
    let balanced = plain.clone().gradient_checkpointing();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result = std::panic::catch_unwind(|| {
        let of = |device: &Device| Tensor::<2>::ones([2, 2], (device, DType::F32)).require_grad();
        let (a, b) = (of(&plain), of(&balanced));
        let grads = a.clone().matmul(b).sum().backward();
        a.grad(&grads).expect("tracked").into_data()
    });
    std::panic::set_hook(hook);
    let said = match &result {
        Ok(_) => "works".to_owned(),
        Err(cause) => {
            let text = cause.downcast_ref::<String>().cloned();
            let text = text.or_else(|| cause.downcast_ref::<&str>().map(|&text| text.to_owned()));
            format!("panics: {}", text.unwrap_or_default().lines().next().unwrap_or_default())
        }
    };
    println!("a tensor with gradient checkpointing times one without: {said}");
}

fn main() {
    let device = device().autodiff();
    print_header(&device, "f32; medians of interleaved rounds");
    products(&device);
    low_rank();
    mixed_checkpointing();
}
