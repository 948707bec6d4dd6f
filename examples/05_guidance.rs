//! From teacher forcing to running free: a schedule lowers the share of truth `a` that is mixed
//! into what the model feeds itself.
//!
//! The model believes 0.6, 0.3, 0.1; the truth is token 1. `mix` is `(1 - a) p + a y`; `clamp` only
//! adds what token 1 lacks to reach `a`, and leaves the model alone once it believes that much
//! itself, here from a = 0.3 on. At 1 both are the truth, at 0 both are the model, to the bit.
//!
//! ```text
//! step 100: a = 1.00  mix 1: 1.00                    clamp 1: 1.00
//! step 150: a = 0.96  mix 0: 0.02, 1: 0.97, 2: 0.00  clamp 0: 0.03, 1: 0.96, 2: 0.01
//! step 200: a = 0.85  mix 0: 0.09, 1: 0.90, 2: 0.01  clamp 0: 0.13, 1: 0.85, 2: 0.02
//! step 250: a = 0.69  mix 0: 0.19, 1: 0.78, 2: 0.03  clamp 0: 0.26, 1: 0.69, 2: 0.04
//! step 300: a = 0.50  mix 0: 0.30, 1: 0.65, 2: 0.05  clamp 0: 0.43, 1: 0.50, 2: 0.07
//! step 350: a = 0.31  mix 0: 0.41, 1: 0.52, 2: 0.07  clamp 0: 0.59, 1: 0.31, 2: 0.10
//! step 400: a = 0.15  mix 0: 0.51, 1: 0.40, 2: 0.09  clamp 0: 0.60, 1: 0.30, 2: 0.10
//! step 450: a = 0.04  mix 0: 0.58, 1: 0.33, 2: 0.10  clamp 0: 0.60, 1: 0.30, 2: 0.10
//! step 500: a = 0.00  mix 0: 0.60, 1: 0.30, 2: 0.10  clamp 0: 0.60, 1: 0.30, 2: 0.10
//! ```

use burn::tensor::{Device, Tensor};
use soft_core::{Distribution, GuidanceForm, Schedule, ScheduleKind, guide};

fn main() {
    let belief = Tensor::<2>::from_data([[0.6f32, 0.3, 0.1]], &Device::default());
    let truth = Distribution::one_hot(&[1], &belief);
    let probs = Distribution::Dense(belief);
    // The truth for the first 100 steps, then down to nothing within 400.
    let schedule =
        Schedule { kind: ScheduleKind::Cosine, start: 1.0, end: 0.0, hold: 100, steps: 400 };
    for step in (100..=500).step_by(50) {
        let share = schedule.at(step);
        let [mix, clamp] = [GuidanceForm::Mix, GuidanceForm::Clamp].map(|form| {
            let fed = guide(probs.clone(), &truth, &[share], form);
            let mut entries = fed.to_rows(3).remove(0);
            entries.sort_by_key(|entry| entry.0);
            let entries = entries.iter().map(|(id, weight)| format!("{id}: {weight:.2}"));
            entries.collect::<Vec<_>>().join(", ")
        });
        println!("step {step}: a = {share:.2}  mix {mix:<25}  clamp {clamp}");
    }
}
