//! Multiplication of two numbers digit by digit, the last digit first.
//!
//! The thought is the long multiplication: each partial product, padded to its width, and the sum so
//! far. Its every token follows from those before, so the exact belief of every step is one token:
//! soft thoughts have nothing to hold at once, which makes it a control. The format is that of
//! "From Explicit CoT to Implicit CoT" (Deng et al., 2024, arXiv 2405.14838).
//!
//! ```text
//! hard        <BOS> 2 1 * 4 3 || 8 4 0 + 0 6 3 0 #### 8 0 4 0 <EOS>       12 x 34 = 48 + 360 = 408
//! soft        <BOS> 2 1 * 4 3 || ~ ~ ~ ~ ~ ~ ~ ~ #### 8 0 4 0
//! no_thought  <BOS> 2 1 * 4 3 || <PAUSE>.. #### 8 0 4 0 <EOS>
//! ```
//!
//! From the second partial product on the sum so far stands in brackets, `( 8 0 4 0 )`; the last sum
//! is the answer.

use std::collections::HashSet;

use super::draws::{Draws, Parted, part};
use super::{Problem, SpecialTokens, Step, Task, Tokens, kin_of};
use crate::config;
use crate::data::shuffle_seeded;
use crate::error::Error;

const NAMES: [&str; 20] = [
    "<PAD>", "<BOS>", "<EOS>", "<PAUSE>", "*", "+", "(", ")", "||", "####", "0", "1", "2", "3",
    "4", "5", "6", "7", "8", "9",
];
const PAD: u32 = 0;
const BOS: u32 = 1;
const EOS: u32 = 2;
const PAUSE: u32 = 3;
const TIMES: u32 = 4;
const PLUS: u32 = 5;
const OPEN: u32 = 6;
const CLOSE: u32 = 7;
const THOUGHT: u32 = 8;
const ANSWER: u32 = 9;
const FIRST_DIGIT: u32 = 10;

/// Most digits of a factor.
const MAX_DIGITS: usize = 5;
/// Up to so many digits every pair of factors is a problem.
const ALL_PAIRS: usize = 2;

/// Products of two factors of exactly `task.digits` digits, the first digit not 0.
///
/// Of 1 or 2 digits all pairs are problems, and a fifth of them, drawn with `task.seed`, validates.
/// Of more digits `task.problems` pairs to train on and 500 to validate are drawn from that seed,
/// none twice. A pair and its reverse are on one side.
///
/// # Errors
/// [`Error::Config`] if `task.digits` is not 1 to 5.
pub(super) fn task(settings: &config::Task) -> Result<Task, Error> {
    let digits = settings.digits;
    if !(1..=MAX_DIGITS).contains(&digits) {
        let report = format!(
            "`task.digits` is {digits} and `task.name` is \"multiplication\", expected 1 to \
             {MAX_DIGITS}: lower `task.digits`"
        );
        return Err(Error::Config { report });
    }
    let Parted { train, validation } = match digits {
        ..=ALL_PAIRS => all_pairs(digits, settings.seed),
        _ => drawn_pairs(settings)?,
    };
    let special = SpecialTokens { pad: PAD, bos: BOS, eos: EOS };
    Ok(Task {
        name: settings.name,
        tokens: Tokens::new(NAMES.map(str::to_owned).to_vec(), special),
        open: Vec::new(),
        pause: vec![PAUSE; chain(0, 0, digits).len()],
        close: vec![ANSWER],
        train,
        validation,
        // A thousandth of the answers or less is right by chance.
        baseline: None,
        published: None,
    })
}

/// The numbers of so many digits.
fn factors(digits: usize) -> std::ops::Range<u64> {
    power_of_10(digits - 1)..power_of_10(digits)
}

fn power_of_10(exponent: usize) -> u64 {
    10_u64.pow(exponent as u32)
}

/// Every pair, in ascending order on each side.
fn all_pairs(digits: usize, seed: u64) -> Parted {
    let mut sides: Vec<(u64, u64)> =
        factors(digits).flat_map(|a| (a..factors(digits).end).map(move |b| (a, b))).collect();
    shuffle_seeded(&mut sides, seed, 0);
    let held_out: HashSet<_> = sides[..sides.len() / 5].iter().collect();
    let pairs = factors(digits).flat_map(|a| factors(digits).map(move |b| (a, b)));
    let (validation, train): (Vec<_>, Vec<_>) =
        pairs.partition(|&(a, b)| held_out.contains(&(a.min(b), a.max(b))));
    let problems =
        |pairs: Vec<(u64, u64)>| pairs.into_iter().map(|(a, b)| problem(a, b, digits)).collect();
    Parted { train: problems(train), validation: problems(validation) }
}

fn drawn_pairs(settings: &config::Task) -> Result<Parted, Error> {
    let factors = factors(settings.digits);
    let mut draws = Draws::new(settings.seed, "multiplication");
    part(settings.problems, || {
        let mut factor =
            || factors.start + draws.below((factors.end - factors.start) as usize) as u64;
        let (a, b) = (factor(), factor());
        Ok(((a.min(b), a.max(b)), problem(a, b, settings.digits)))
    })
}

fn problem(a: u64, b: u64, digits: usize) -> Problem {
    let (a_digits, b_digits) = (reversed(a, digits), reversed(b, digits));
    let step = |token| Step { tokens: vec![token], belief: vec![(token, 1.0)] };
    Problem {
        prompt: [&[BOS], &a_digits[..], &[TIMES], &b_digits, &[THOUGHT]].concat(),
        steps: chain(a, b, digits).into_iter().map(step).collect(),
        answer: reversed(a * b, 2 * digits),
        kin: kin_of(&[a.min(b) as u32, a.max(b) as u32]),
        rival: None,
    }
}

/// The long multiplication, without the last sum. Its length depends on `digits` alone: `a` times
/// digit i of `b` (from 0) fills `digits + 1 + i` places, and so does the sum up to it.
fn chain(a: u64, b: u64, digits: usize) -> Vec<u32> {
    let mut line = Vec::new();
    let mut sum = 0;
    for place in 0..digits {
        let width = digits + 1 + place;
        let partial = a * (b / power_of_10(place) % 10) * power_of_10(place);
        sum += partial;
        line.extend((place > 0).then_some(PLUS));
        line.extend(reversed(partial, width));
        if place > 0 && place + 1 < digits {
            line.push(OPEN);
            line.extend(reversed(sum, width));
            line.push(CLOSE);
        }
    }
    line
}

/// The digits of a number, the last first, padded with zeros to so many places.
fn reversed(number: u64, places: usize) -> Vec<u32> {
    let digit = |place| FIRST_DIGIT + (number / power_of_10(place) % 10) as u32;
    (0..places).map(digit).collect()
}

#[cfg(test)]
mod tests;
