//! Token ids of MNNS.
//!
//! | ids | tokens |
//! |---|---|
//! | 0..5 | `<PAD> <BOS> <EOS> -> + -` |
//! | 6..15 | D0..D9 |
//! | 16..88 | S-36..S36 |
//!
//! These never move. A wider task appends, in this order: D10, D11, .. up to its largest digit,
//! then S37, S-37, S38, S-38, .. up to its largest sum.

use super::super::{SpecialTokens, Tokens};

const FIXED: [&str; 6] = ["<PAD>", "<BOS>", "<EOS>", "->", "+", "-"];
const FIRST_DIGIT: u32 = 6;
const FIXED_DIGIT_MAX: u32 = 9;
const FIRST_SUM: u32 = 16;
const FIXED_SUM_MAX: i64 = 36;
/// Ids every size of the task has.
const FIXED_LEN: u32 = 89;

/// Names and ids of the tokens of one size of the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vocabulary {
    digit_max: u32,
    sum_max: i64,
}

impl Vocabulary {
    /// Padding; never fed and never scored.
    pub const PAD: u32 = 0;
    /// Opens every line.
    pub const BOS: u32 = 1;
    /// Closes the hard lines; generation stops at it.
    pub const EOS: u32 = 2;
    /// `->`, between the digits and what is made of them.
    pub const ARROW: u32 = 3;

    /// The tokens for `digits` digits from 1 to `digit_max`; never fewer than 89.
    pub(super) fn new(digits: usize, digit_max: usize) -> Self {
        Self {
            digit_max: (digit_max as u32).max(FIXED_DIGIT_MAX),
            sum_max: ((digits * digit_max) as i64).max(FIXED_SUM_MAX),
        }
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        let digits = self.digit_max - FIXED_DIGIT_MAX;
        let sums = 2 * (self.sum_max - FIXED_SUM_MAX) as usize;
        FIXED_LEN as usize + digits as usize + sums
    }

    /// Never: there are at least 89 tokens.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The id of a digit, `D7`; `None` if the task has no such digit.
    pub fn digit_id(&self, digit: u32) -> Option<u32> {
        match digit {
            0..=FIXED_DIGIT_MAX => Some(FIRST_DIGIT + digit),
            _ if digit <= self.digit_max => Some(FIXED_LEN + digit - FIXED_DIGIT_MAX - 1),
            _ => None,
        }
    }

    /// The id of a sum, `S-3`; `None` if the task cannot reach it.
    pub fn sum_id(&self, sum: i64) -> Option<u32> {
        if sum.abs() <= FIXED_SUM_MAX {
            return u32::try_from(sum + FIXED_SUM_MAX).ok().map(|place| FIRST_SUM + place);
        }
        if sum.abs() > self.sum_max {
            return None;
        }
        let place = 2 * (sum.abs() - FIXED_SUM_MAX - 1) + i64::from(sum < 0);
        u32::try_from(place).ok().map(|place| self.first_far_sum() + place)
    }

    /// The sum a token stands for; `None` for other tokens.
    pub fn sum_of(&self, id: u32) -> Option<i64> {
        if (FIRST_SUM..FIXED_LEN).contains(&id) {
            return Some(i64::from(id - FIRST_SUM) - FIXED_SUM_MAX);
        }
        let place = i64::from(id.checked_sub(self.first_far_sum())?);
        let size = FIXED_SUM_MAX + 1 + place / 2;
        let sum = if place % 2 == 0 { size } else { -size };
        (size <= self.sum_max).then_some(sum)
    }

    /// The name of a token; `None` outside the vocabulary.
    pub fn token_name(&self, id: u32) -> Option<String> {
        if let Some(name) = FIXED.get(id as usize) {
            return Some((*name).to_string());
        }
        if let Some(sum) = self.sum_of(id) {
            return Some(format!("S{sum}"));
        }
        if (FIRST_DIGIT..FIRST_SUM).contains(&id) {
            return Some(format!("D{}", id - FIRST_DIGIT));
        }
        let far_digit = (FIXED_LEN..self.first_far_sum()).contains(&id);
        far_digit.then(|| format!("D{}", id - FIXED_LEN + FIXED_DIGIT_MAX + 1))
    }

    /// The names of all ids.
    pub(super) fn tokens(&self) -> Tokens {
        let special = SpecialTokens { pad: Self::PAD, bos: Self::BOS, eos: Self::EOS };
        Tokens::new((0..self.len() as u32).filter_map(|id| self.token_name(id)).collect(), special)
    }

    fn first_far_sum(&self) -> u32 {
        FIXED_LEN + self.digit_max - FIXED_DIGIT_MAX
    }
}
