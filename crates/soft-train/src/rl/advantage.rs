//! From the rewards of a group to the advantages of its rows.

use crate::config::RlAlgorithm;

/// Added to a standard deviation, so that a group of nearly equal rewards is not blown up.
const EPS: f64 = 1e-4;

/// How much better each row of a group is than what the group lets expect.
///
/// - "rloo": `A_i = r_i - mean of the others`, an unbiased baseline (Kool et al. 2019; Ahmadian et al.
///   2024, arXiv:2402.14740)
/// - "grpo": `A_i = (r_i - mean) / (std + 1e-4)`, with the standard deviation of a sample (divisor
///   n - 1), as TRL has it (Shao et al. 2024, arXiv:2402.03300)
///
/// Where all rewards are equal, and in a group of one, every advantage is exactly 0.
pub fn advantages(algorithm: RlAlgorithm, rewards: &[f64]) -> Vec<f64> {
    let n = rewards.len() as f64;
    if !has_signal(rewards) {
        return vec![0.0; rewards.len()];
    }
    let mean = rewards.iter().sum::<f64>() / n;
    match algorithm {
        RlAlgorithm::Off => vec![0.0; rewards.len()],
        RlAlgorithm::Rloo => rewards.iter().map(|r| (r - mean) * n / (n - 1.0)).collect(),
        RlAlgorithm::Grpo => {
            let squares: f64 = rewards.iter().map(|r| (r - mean) * (r - mean)).sum();
            let deviation = (squares / (n - 1.0)).sqrt();
            rewards.iter().map(|r| (r - mean) / (deviation + EPS)).collect()
        }
    }
}

/// Whether the rewards of a group differ: where they do not, nothing is learned from it.
pub fn has_signal(rewards: &[f64]) -> bool {
    rewards.windows(2).any(|pair| pair[0] != pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [RlAlgorithm; 2] = [RlAlgorithm::Rloo, RlAlgorithm::Grpo];

    #[test]
    fn equal_rewards_and_groups_of_one_have_no_advantage() {
        for algorithm in BOTH {
            for rewards in [vec![0.1; 7], vec![0.3], vec![]] {
                assert_eq!(advantages(algorithm, &rewards), vec![0.0; rewards.len()]);
            }
        }
    }

    #[test]
    fn each_row_is_compared_with_the_others() {
        let rewards = [1.0, 0.0, 0.5, 0.25, 1.0];
        let found = advantages(RlAlgorithm::Rloo, &rewards);
        for (row, advantage) in found.iter().enumerate() {
            let others = rewards.iter().enumerate().filter(|(other, _)| *other != row);
            let mean = others.map(|(_, r)| r).sum::<f64>() / 4.0;
            assert!((advantage - (rewards[row] - mean)).abs() < 1e-12);
        }
    }

    /// The scale of rewards does not matter to GRPO, and a shift to neither.
    #[test]
    fn advantages_know_no_shift_and_grpo_no_scale() {
        let rewards = [100.0, 0.0, 10.0, 0.0];
        for algorithm in BOTH {
            let own = advantages(algorithm, &rewards);
            assert!(own.iter().sum::<f64>().abs() < 1e-9, "{own:?}");
            let shifted = advantages(algorithm, &rewards.map(|r| r + 3.0));
            assert!(own.iter().zip(&shifted).all(|(a, b)| (a - b).abs() < 1e-9));
            let scaled = advantages(algorithm, &rewards.map(|r| r * 5.0));
            let factor = if algorithm == RlAlgorithm::Rloo { 5.0 } else { 1.0 };
            assert!(own.iter().zip(&scaled).all(|(a, b)| (a * factor - b).abs() < 1e-4));
        }
    }
}
