//! Which problems are held out. Problems with the same digits in another order have the same
//! answer, so a split that parted them would measure memory.

use std::collections::HashSet;

use crate::data::shuffle_seeded;
use crate::error::Error;

/// The 99 multisets of the published validation split, as a JSON list of ascending digits.
const PUBLISHED: &str = include_str!("../../../data/mnns_validation_multisets.json");
/// Fixed, so that runs of every seed are measured on the same problems.
const SPLIT_SEED: u64 = 42;

/// The multisets (ascending digits) that validate.
pub(super) fn validation_multisets(
    digits: usize,
    digit_max: usize,
) -> Result<HashSet<Vec<u32>>, Error> {
    if (digits, digit_max) == (4, 9) {
        return published();
    }
    let mut all = multisets(digits, digit_max);
    if all.len() < 2 {
        return Err(Error::Config {
            report: format!(
                "`task.digit_max` = {digit_max} leaves {} kind of problem, expected at least 2: one to \
                 train on, one to hold out",
                all.len()
            ),
        });
    }
    shuffle_seeded(&mut all, SPLIT_SEED, 0);
    all.truncate((all.len() / 5).max(1));
    Ok(all.into_iter().collect())
}

fn published() -> Result<HashSet<Vec<u32>>, Error> {
    let listed: Vec<Vec<u32>> = serde_json::from_str(PUBLISHED)
        .map_err(|error| Error::Runtime { what: format!("the embedded MNNS split: {error}") })?;
    Ok(listed.into_iter().collect())
}

/// All ascending lists of `digits` digits from 1 to `digit_max`, in lexicographic order.
fn multisets(digits: usize, digit_max: usize) -> Vec<Vec<u32>> {
    let mut all = Vec::new();
    let mut current = vec![1_u32; digits];
    loop {
        all.push(current.clone());
        let Some(place) = current.iter().rposition(|&digit| (digit as usize) < digit_max) else {
            return all;
        };
        let raised = current[place] + 1;
        current[place..].fill(raised);
    }
}
