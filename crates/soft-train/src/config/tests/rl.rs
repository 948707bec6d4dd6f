//! Rewards in the place of the truth, and what they cannot be combined with.

use super::super::{RlAlgorithm, RlPolicy};
use super::{config, message};

#[test]
fn what_rewards_have_no_use_for_is_refused_with_what_was_expected() {
    let on = "rl.algorithm = \"grpo\"\n";
    let mnns = format!("{on}task.name = \"mnns\"\n");
    let cases = [
        (format!("{on}task.name = \"ids\""), "expected a generated task, which checks its answers"),
        (format!("{mnns}soft.feed = \"hidden\""), "`soft.feed` is \"hidden\""),
        (format!("{mnns}train.precision = \"bf16\""), "expected \"f32\""),
        (format!("{mnns}learnable.settings = [\"temperature\"]"), "expected []"),
        (format!("{mnns}rl.group = 1"), "expected a whole number, at least 2"),
        (format!("{mnns}rl.algorithm2 = \"ppo\""), "rl.algorithm"),
    ];
    for (text, expected) in cases {
        let found = message(&text);
        assert!(found.contains(expected), "{text}\n{found}");
    }
}

#[test]
fn rewards_are_read() {
    let config = config("task.name = \"mnns\"\nrl = {algorithm = \"rloo\", policy = \"samples\"}");
    assert_eq!(config.rl.algorithm, RlAlgorithm::Rloo);
    assert_eq!(config.rl.policy, RlPolicy::Samples);
    assert!(config.rl.is_on());
}
