//! Rewards in the place of the truth, and what they cannot be combined with.

use super::super::{RlAlgorithm, RlPolicy};
use super::{config, message};

#[test]
fn what_rewards_have_no_use_for_is_refused_with_what_was_expected() {
    let on = "rl.algorithm = \"grpo\"\n";
    let mnns = format!("{on}task.name = \"mnns\"\n");
    let cases = [
        (format!("{on}task.name = \"ids\""), "expected \"text\" or a generated task"),
        (format!("{mnns}soft.feed = \"hidden\""), "`soft.feed` is \"hidden\""),
        (format!("{mnns}train.precision = \"bf16\""), "expected \"f32\""),
        (format!("{mnns}learnable.settings = [\"temperature\"]"), "expected []"),
        (format!("{mnns}rl.group = 0"), "expected a whole number, at least 1"),
        (format!("{mnns}rl.group = 1"), "compares the rows of a group; expected at least 2"),
        (format!("{mnns}soft.noise = \"gumbel\""), "`rl.policy` has its own"),
        (format!("{mnns}soft.temperature = 0"), "at 0 nothing is drawn"),
        (format!("{mnns}soft.feed = \"inputs\""), "the algorithm says what is fed"),
        (format!("{mnns}rl.rewards = []"), "expected one reward or more"),
        (format!("{mnns}rl.rewards = [\"answer\"]"), "and a weight, as in \"answer 1\""),
        (format!("{mnns}rl.rewards = [\"beauty 1\"]"), "expected one of answer, format, length"),
        (format!("{mnns}rl.rewards = [\"answer inf\"]"), "and a weight"),
        (format!("{mnns}rl.kl_stop = 1"), "no divergence is measured"),
        (format!("{mnns}soft.norm_match = \"rms\""), "`soft.norm_match` is \"rms\""),
        (format!("{mnns}model.dropout = 0.1"), "only the training loss has it"),
        (format!("{mnns}objective.entropy_beta = 0.1"), "only the training loss has it"),
        (format!("{mnns}rl.reference = \"there\""), "expected more than 0"),
        (format!("{mnns}rl.rewards = [\"command 1\"]"), "`rl.command` is not set"),
        (format!("{mnns}rl.command = [\"true\"]"), "expected \"command 1\" in it"),
        (format!("{mnns}rl.rewards = [\"model 1\"]"), "`rl.reward_model` is not set"),
        (
            format!("{mnns}rl.discretize = \"samples\""),
            "expected the policy \"samples\", or \"top\"",
        ),
        (format!("{mnns}rl.algorithm2 = \"ppo\""), "rl.algorithm"),
    ];
    for (text, expected) in cases {
        let found = message(&text);
        assert!(found.contains(expected), "{text}\n{found}");
    }
}

#[test]
fn what_a_reward_that_is_differentiated_has_no_use_for_is_refused() {
    let on = "task.name = \"mnns\"\nrl.algorithm = \"pathwise\"\nrl.reward_model = \"there\"\n";
    let with = format!("{on}rl.pathwise = 1\n");
    let text = with.replace("mnns", "text");
    let cases = [
        (on.to_owned(), "`rl.pathwise` is 0"),
        (format!("{with}rl.discretize = \"samples\""), "expected \"top\", which reads them"),
        (format!("{with}soft.noise = \"dirichlet\""), "whose gradient does not pass it"),
        (format!("{with}rl.rewards = []"), "`rl.rewards` is set"),
        (format!("{with}rl.command = [\"true\"]"), "`rl.command` is set"),
        (format!("{with}rl.loss = \"sequence\""), "`rl.loss` is set"),
        (format!("{with}soft.temperature = 0"), "nothing has a slope"),
        (format!("{with}soft.feed = \"hidden\""), "runs the model free from a prompt"),
        (format!("{with}task.name2 = \"ids\""), "task.name"),
        (format!("{text}data.soft = \"first\""), "would be fed as the example has it"),
        (
            "task.name = \"mnns\"\nrl.pathwise = 1\nrl.reward_model = \"there\"".to_owned(),
            "`rl.algorithm` is \"off\", which trains on the truth alone",
        ),
    ];
    for (text, expected) in cases {
        let found = message(&text);
        assert!(found.contains(expected), "{text}\n{found}");
    }
    // Noise and answers are none of its draws.
    config(&format!("{with}soft.noise = \"gumbel\"\nsoft.norm_match = \"rms\""));
}

#[test]
fn rewards_are_read() {
    let config = config("task.name = \"mnns\"\nrl = {algorithm = \"rloo\", policy = \"samples\"}");
    assert_eq!(config.rl.algorithm, RlAlgorithm::Rloo);
    assert_eq!(config.rl.policy, RlPolicy::Samples);
    assert!(config.rl.is_on());
}
