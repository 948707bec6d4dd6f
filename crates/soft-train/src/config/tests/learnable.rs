//! The section `learnable`: what contradicts it.

use super::super::Loader;
use super::load;

const RIGHT: &str = "learnable.settings = [\"temperature\", \"top_k\", \"min_p\"]\n\
    rollout.kind = \"sequential\"\nguidance.start = 0.5\n\
    soft = {top_k = 8, min_p = 0.02}\n";

#[test]
fn learnable_settings_that_are_right_load() {
    let config = load(RIGHT).expect("right").config;
    let learnable = config.learnable.config();
    assert!(learnable.temperature && learnable.top_k && learnable.min_p);
    assert!(load("").expect("the default").config.learnable.config().is_off());
}

#[test]
fn learnable_settings_that_get_no_gradient_or_are_not_read_are_refused() {
    let cases = [
        (
            "rollout.kind=teacher",
            "`learnable.settings` is set and `rollout.kind` is \"teacher\", which feeds the truth; expected \"parallel\" or \"sequential\", or a stage of one",
        ),
        (
            "guidance.start=1",
            "`learnable.settings` is set and `guidance.start` and `guidance.end` are 1, which feeds the truth; expected a share under 1",
        ),
        (
            "eval.arms=[\"hard\"]",
            "`learnable.settings` is set and `eval.arms` has no \"soft\", the arm that thinks in mixtures; expected it there",
        ),
        (
            "rollout.truncate=1",
            "`learnable.settings` is set and no gradient passes a mixture: `rollout.passes` is 2, `rollout.grad_passes` 0 and `rollout.truncate` 1; expected two passes or more with gradients, or no cut after every position",
        ),
        (
            "rollout={kind=\"parallel\", grad_passes=1}",
            "`learnable.settings` is set and no gradient passes a mixture: `rollout.passes` is 2, `rollout.grad_passes` 1 and `rollout.truncate` 0; expected two passes or more with gradients, or no cut after every position",
        ),
        (
            "soft.temperature=0",
            "nothing can be learned of the filters: the temperature is 0, which feeds one token whatever the filters are",
        ),
        (
            "soft.temperature=0.05",
            "`soft.temperature`: temperature = 0.05: it is learned from there, so expected a number over 0.1",
        ),
        (
            "soft.top_k=0",
            "`soft.top_k`: top_k = 0: it is learned from there, so expected a number over 1",
        ),
        (
            "soft.min_p=0",
            "`soft.min_p`: min_p = 0: it is learned from there, so expected a number over 0 and under 1",
        ),
        (
            "soft.top_p=0.9",
            "nothing can be learned of the filters: top_p is on, which counts probabilities that a learned filter is still changing",
        ),
        (
            "soft.feed=samples",
            "nothing can be learned of the filters: what is fed are drawn tokens, which no gradient passes",
        ),
        (
            "learnable={settings=[\"temperature\", \"temperature\"]}",
            "`learnable.settings` holds \"temperature\" twice; expected each entry once",
        ),
        (
            "learnable={settings=[\"temperature\"], least_top_k=3}",
            "`learnable.least_top_k` is 3 and `learnable.settings` does not name \"top_k\"; expected it there",
        ),
        ("learnable.most_min_p=0", "`learnable.most_min_p` is 0; expected"),
        ("learnable.least_top_k=0.5", "`learnable.least_top_k` is 0.5; expected"),
    ];
    for (setting, expected) in cases {
        let loaded = Loader::new().text("my.toml", RIGHT).overrides([setting]).load();
        let message = loaded.expect_err(setting).to_string();
        assert!(message.contains(expected), "{setting}: {message}");
    }
}
