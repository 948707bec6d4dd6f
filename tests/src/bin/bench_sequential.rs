//! Time and memory of the sequential rollout against the number of soft positions, in a fresh
//! process for each.

use std::process::Command;

use soft_tests::bench::{
    Spread, batch, differentiate, growth_exponent, median, milliseconds, model, peak_megabytes,
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
    let step = || milliseconds(|| drop(differentiate(&rollout, &model, &batch)));
    let first = step();
    // Of the first step: what later ones add is memory that the allocator keeps.
    let above = base.and_then(|base| Some(peak_megabytes()? - base)).unwrap_or(f64::NAN);
    let repeats = if quick() { 0 } else { (512 / soft).clamp(2, 12) };
    let mut times: Vec<f64> = (0..repeats).map(|_| step()).collect();
    if times.is_empty() {
        times.push(first);
    }
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

/// Costs of every round at every length, lengths interleaved: `[round][length]`.
fn costs(lengths: &[usize], segment: usize, rounds: usize) -> Vec<Vec<Cost>> {
    (0..rounds).map(|_| lengths.iter().map(|&soft| measure(soft, segment)).collect()).collect()
}

/// Prints the costs of one segment length; returns the growth exponents of time and memory.
fn report(name: &str, lengths: &[usize], costs: &[Vec<Cost>]) -> (f64, f64) {
    for (i, &soft) in lengths.iter().enumerate() {
        let of = |read: fn(&Cost) -> f64| {
            median(&costs.iter().map(|round| read(&round[i])).collect::<Vec<_>>())
        };
        let (ms, megabytes) = (of(|cost| cost.ms), of(|cost| cost.megabytes));
        println!("{name:<12} {soft:>5} {ms:>10.1} {:>9.2} {megabytes:>10.1}", ms / soft as f64);
    }
    let x: Vec<f64> = lengths.iter().map(|&soft| soft as f64).collect();
    let exponent = |read: fn(&Cost) -> f64| {
        let of_round =
            |round: &Vec<Cost>| growth_exponent(&x, &round.iter().map(read).collect::<Vec<_>>());
        Spread::of(&costs.iter().map(of_round).collect::<Vec<_>>())
    };
    let (time, memory) = (exponent(|cost| cost.ms), exponent(|cost| cost.megabytes));
    println!("{name:<12} exponent of time {time}, of memory {memory}\n");
    (time.median, memory.median)
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|argument| argument == CHILD) {
        let number = |i: usize| arguments[i].parse().expect("written by this program");
        return child(number(2), number(3));
    }
    let (lengths, rounds): (&[usize], usize) =
        if quick() { (&[16, 64], 1) } else { (&[16, 64, 256], 5) };
    print_header(
        &device().autodiff(),
        &format!(
            "2 layers, d_model 128, vocabulary 2048, batch {ROWS}, prompt of {PROMPT}, f32, a \
             process a case, {rounds} rounds; memory above the process's base after a small step"
        ),
    );
    println!("{:<12} {:>5} {:>10} {:>9} {:>10}", "segment", "T", "ms", "ms / T", "peak MB");
    let cases = [("16", 16), ("64", 64), ("one graph", usize::MAX)];
    let exponents =
        cases.map(|(name, segment)| report(name, lengths, &costs(lengths, segment, rounds)));
    print_result("sequential_time_exponent", exponents[0].0, 1.15);
    print_result("sequential_memory_exponent", exponents[0].1, 1.15);
}
