//! Time and memory of the sequential rollout against the number of soft positions, in a fresh
//! process for each.

use std::process::Command;

use soft_tests::bench::{
    batch, differentiate, growth_exponent, median, milliseconds, model, peak_megabytes,
    print_header, print_result, quick, reset_peak,
};
use soft_tests::device;
use soft_train::rollout::Sequential;

const ROWS: usize = 4;
const PROMPT: usize = 4;
/// Names the child processes, which run one case and print it.
const CHILD: &str = "--child";

/// Milliseconds of a step and peak MB above the process's base.
#[derive(Clone, Copy)]
struct Cost {
    ms: f64,
    megabytes: f64,
}

/// One case in this process: `soft` positions, `segment` of them differentiated together.
fn child(soft: usize, segment: usize) {
    let device = device().autodiff();
    let model = model(&device, 512, 1.0);
    let rollout = Sequential { segment, truncate: 0 };
    // Threads, buffers of matrix products and the like belong to the base.
    drop(differentiate(&rollout, &model, &batch(ROWS, PROMPT, 2, 1)));
    let batch = batch(ROWS, PROMPT, soft, 1);
    reset_peak();
    let base = peak_megabytes();
    let mut times = Vec::new();
    for _ in 0..if quick() { 1 } else { 3 } {
        times.push(milliseconds(|| drop(differentiate(&rollout, &model, &batch))));
    }
    let above = base.and_then(|base| Some(peak_megabytes()? - base)).unwrap_or(f64::NAN);
    println!("{} {above}", median(&times));
}

fn measure(soft: usize, segment: usize) -> Cost {
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(program);
    command.args([CHILD, &soft.to_string(), &segment.to_string()]);
    if quick() {
        command.arg("--quick");
    }
    let output = command.output().expect("this program starts again");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers = text.split_whitespace().map(|word| word.parse::<f64>());
    match (numbers.next(), numbers.next()) {
        (Some(Ok(ms)), Some(Ok(megabytes))) => Cost { ms, megabytes },
        _ => panic!("the child failed: {}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// Costs at every length, lengths interleaved, and the medians of all rounds.
fn costs(lengths: &[usize], segment: usize, rounds: usize) -> Vec<Cost> {
    let mut all = vec![Vec::new(); lengths.len()];
    for _ in 0..rounds {
        for (own, &soft) in all.iter_mut().zip(lengths) {
            own.push(measure(soft, segment));
        }
    }
    let middle = |own: &[Cost], of: fn(&Cost) -> f64| median(&own.iter().map(of).collect::<Vec<_>>());
    all.iter().map(|own| Cost { ms: middle(own, |c| c.ms), megabytes: middle(own, |c| c.megabytes) }).collect()
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|argument| argument == CHILD) {
        let number = |i: usize| arguments[i].parse().expect("written by this program");
        return child(number(2), number(3));
    }
    let (lengths, rounds): (&[usize], usize) =
        if quick() { (&[16, 64], 1) } else { (&[16, 64, 256], 3) };
    print_header(
        &device().autodiff(),
        &format!(
            "2 layers, d_model 128, vocabulary 2048, batch {ROWS}, prompt of {PROMPT}, f32, a \
             process a case, {rounds} rounds; memory above the process's base after a small step"
        ),
    );
    let x: Vec<f64> = lengths.iter().map(|&soft| soft as f64).collect();
    let mut exponents = Vec::new();
    println!("{:<12} {:>5} {:>10} {:>9} {:>10}", "segment", "T", "ms", "ms / T", "peak MB");
    for (name, segment) in [("16", 16), ("64", 64), ("one graph", usize::MAX)] {
        let costs = costs(lengths, segment, rounds);
        for (&soft, cost) in lengths.iter().zip(&costs) {
            let each = cost.ms / soft as f64;
            println!("{name:<12} {soft:>5} {:>10.1} {each:>9.2} {:>10.1}", cost.ms, cost.megabytes);
        }
        let time = growth_exponent(&x, &costs.iter().map(|c| c.ms).collect::<Vec<_>>());
        let memory = growth_exponent(&x, &costs.iter().map(|c| c.megabytes).collect::<Vec<_>>());
        println!("{name:<12} growth: time T^{time:.2}, memory T^{memory:.2}\n");
        exponents.push((time, memory));
    }
    print_result("sequential_time_exponent", exponents[0].0, 1.15);
    print_result("sequential_memory_exponent", exponents[0].1, 1.15);
}
