//! From rewards to the advantages of draws.

use crate::config::{RlAlgorithm, RlScale};

/// Added to a standard deviation, so that rewards that are nearly equal are not blown up.
const EPS: f64 = 1e-4;

/// How much better each row of a group is than what the group lets expect.
///
/// - "rloo": `A_i = r_i - mean of the others`, an unbiased baseline (Kool et al. 2019; Ahmadian et al.
///   2024, arXiv:2402.14740)
/// - "grpo": `A_i = (r_i - mean) / (std + 1e-4)`, with the standard deviation of a sample (divisor
///   n - 1), as TRL has it (Shao et al. 2024, arXiv:2402.03300), where `rl.scale` is "group"; without
///   the division else
///
/// Where all rewards are equal, and in a group of one, every advantage is exactly 0.
pub fn advantages(algorithm: RlAlgorithm, scale: RlScale, rewards: &[f64]) -> Vec<f64> {
    let n = rewards.len() as f64;
    if !has_signal(rewards) {
        return vec![0.0; rewards.len()];
    }
    let mean = rewards.iter().sum::<f64>() / n;
    match (algorithm, scale) {
        (RlAlgorithm::Off | RlAlgorithm::Ppo | RlAlgorithm::Pathwise, _) => {
            vec![0.0; rewards.len()]
        }
        (RlAlgorithm::Rloo, _) => rewards.iter().map(|r| (r - mean) * n / (n - 1.0)).collect(),
        (RlAlgorithm::Grpo, RlScale::Group) => {
            let deviation = deviation(rewards);
            rewards.iter().map(|r| (r - mean) / (deviation + EPS)).collect()
        }
        (RlAlgorithm::Grpo, RlScale::Batch | RlScale::None) => {
            rewards.iter().map(|r| r - mean).collect()
        }
    }
}

/// Whether the rewards of a group differ: where they do not, nothing is learned from it.
pub fn has_signal(rewards: &[f64]) -> bool {
    rewards.windows(2).any(|pair| pair[0] != pair[1])
}

/// Standard deviation of a sample; 0 of fewer than two.
pub(crate) fn deviation(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n.max(1.0);
    let squares: f64 = values.iter().map(|r| (r - mean) * (r - mean)).sum();
    (squares / (n - 1.0).max(1.0)).sqrt()
}

/// What a scale of the whole batch divides by.
pub(crate) fn batch_scale(rewards: &[f64]) -> f64 {
    deviation(rewards) + EPS
}

/// Generalized advantage estimation over the draws of a row:
///
/// ```text
/// delta_t = r_t + gamma V_(t+1) - V_t,  A_t = delta_t + gamma lambda A_(t+1),  R_t = A_t + V_t
/// ```
///
/// V is 0 after the last draw. Returns the advantages A and the returns R that values should reach.
///
/// # Panics
/// If there are not as many values as rewards.
///
/// # Source
/// Schulman et al. 2016, arXiv:1506.02438, eq. 16.
pub fn gae(rewards: &[f64], values: &[f64], gamma: f64, lambda: f64) -> (Vec<f64>, Vec<f64>) {
    assert_eq!(rewards.len(), values.len(), "a value for each reward");
    let mut found = vec![0.0; rewards.len()];
    let (mut next, mut after) = (0.0, 0.0);
    for t in (0..rewards.len()).rev() {
        next = rewards[t] + gamma * after - values[t] + gamma * lambda * next;
        found[t] = next;
        after = values[t];
    }
    let returns = found.iter().zip(values).map(|(advantage, value)| advantage + value).collect();
    (found, returns)
}

/// Values with mean 0 and standard deviation 1, as PPO takes its advantages; all 0 where they are
/// equal.
pub fn whitened(values: &[f64]) -> Vec<f64> {
    if !has_signal(values) {
        return vec![0.0; values.len()];
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let scale = deviation(values) + 1e-8;
    values.iter().map(|value| (value - mean) / scale).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [RlAlgorithm; 2] = [RlAlgorithm::Rloo, RlAlgorithm::Grpo];
    const GROUP: RlScale = RlScale::Group;

    #[test]
    fn equal_rewards_and_groups_of_one_have_no_advantage() {
        for algorithm in BOTH {
            for scale in [RlScale::Group, RlScale::Batch, RlScale::None] {
                for rewards in [vec![0.1; 7], vec![0.3], vec![]] {
                    let found = advantages(algorithm, scale, &rewards);
                    assert_eq!(found, vec![0.0; rewards.len()]);
                }
            }
        }
    }

    #[test]
    fn each_row_is_compared_with_the_others() {
        let rewards = [1.0, 0.0, 0.5, 0.25, 1.0];
        let found = advantages(RlAlgorithm::Rloo, GROUP, &rewards);
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
            let of = |rewards: &[f64]| advantages(algorithm, GROUP, rewards);
            let own = of(&rewards);
            assert!(own.iter().sum::<f64>().abs() < 1e-9, "{own:?}");
            let shifted = of(&rewards.map(|r| r + 3.0));
            assert!(own.iter().zip(&shifted).all(|(a, b)| (a - b).abs() < 1e-9));
            let scaled = of(&rewards.map(|r| r * 5.0));
            let factor = if algorithm == RlAlgorithm::Rloo { 5.0 } else { 1.0 };
            assert!(own.iter().zip(&scaled).all(|(a, b)| (a * factor - b).abs() < 1e-4));
        }
        let plain = advantages(RlAlgorithm::Grpo, RlScale::None, &rewards);
        assert_eq!(plain, [72.5, -27.5, -17.5, -27.5]);
    }

    /// Worked by hand: gamma 0.9, lambda 0.5.
    ///
    /// | t | r | V   | delta                     | A                       | A + V  |
    /// | 2 | 1 | 0.6 | 1 - 0.6 = 0.4             | 0.4                     | 1      |
    /// | 1 | 0 | 0.5 | 0.9 * 0.6 - 0.5 = 0.04    | 0.04 + 0.45 * 0.4 = 0.22| 0.72   |
    /// | 0 | 2 | 1.0 | 2 + 0.9 * 0.5 - 1 = 1.45  | 1.45 + 0.45 * 0.22      | 2.549  |
    #[test]
    fn the_estimation_of_advantages_is_that_of_a_table() {
        let (found, returns) = gae(&[2.0, 0.0, 1.0], &[1.0, 0.5, 0.6], 0.9, 0.5);
        for (found, expected) in found.iter().zip([1.549, 0.22, 0.4]) {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
        for (found, expected) in returns.iter().zip([2.549, 0.72, 1.0]) {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
    }

    /// With lambda 1 an advantage is all that comes less the value, with lambda 0 one step of it.
    #[test]
    fn its_two_ends_are_sums_and_single_steps() {
        let (rewards, values, gamma) = ([0.3, -1.0, 0.0, 2.0], [0.1, 0.2, -0.4, 0.9], 0.8);
        let (sums, _) = gae(&rewards, &values, gamma, 1.0);
        let (steps, _) = gae(&rewards, &values, gamma, 0.0);
        for t in 0..4 {
            let later = (t..4).map(|s| rewards[s] * gamma.powi((s - t) as i32)).sum::<f64>();
            assert!((sums[t] - (later - values[t])).abs() < 1e-12);
            let next = values.get(t + 1).map_or(0.0, |v| gamma * v);
            assert!((steps[t] - (rewards[t] + next - values[t])).abs() < 1e-12);
        }
    }

    #[test]
    fn whitened_values_have_mean_0_and_deviation_1() {
        let found = whitened(&[3.0, 4.0, 8.0]);
        assert!(found.iter().sum::<f64>().abs() < 1e-9 && (deviation(&found) - 1.0).abs() < 1e-6);
        assert_eq!(whitened(&[2.0, 2.0]), [0.0; 2]);
    }
}
