//! What is said of settings about thoughts in training that contradict one another.

use super::load;

/// What loading, or else the check of a training, says.
fn refused(text: &str) -> String {
    match load(text) {
        Err(error) => error.to_string(),
        Ok(resolved) => match resolved.require_training() {
            Err(error) => error.to_string(),
            Ok(()) => String::new(),
        },
    }
}

#[test]
fn additions_that_would_never_act_are_refused() {
    const SOFT: &str = "task = {name = \"mnns\"}\nadapter = {active = \"soft\"}\n";
    let cases = [
        ("", "`adapter.active` is \"soft\" and nothing is added"),
        (
            "prefix.tokens = 2\nestimator.kind = \"straight_through\"",
            "after which tokens are fed in generation; expected \"exact\" or \"gumbel\"",
        ),
        ("prefix.tokens = 2\neval.arms = [\"soft\", \"no_thought\"]", "holds \"no_thought\""),
    ];
    for (text, expected) in cases {
        let found = refused(&format!("{SOFT}{text}"));
        assert!(found.contains(expected), "{text}: {found}");
    }
    let text = "task = {name = \"text\"}\nadapter = {active = \"soft\"}\nprefix.tokens = 2\n\
                model.path = \"m\"\ndata = {train = \"t\", soft = \"none\"}";
    assert!(refused(text).contains("`data.soft` is \"none\": nothing would be trained"));
    for fine in ["prompt.tokens = 2", "low_rank.rank = 1\nestimator.kind = \"gumbel\""] {
        assert_eq!(refused(&format!("{SOFT}{fine}")), "");
    }
}

#[test]
fn a_curriculum_over_what_has_no_steps_is_refused() {
    const ON: &str = "curriculum = {stages = 2, first = 4, steps = 5}\nrollout.kind = \"sequential\"\n\
                      train.steps = 20\n";
    let cases = [
        ("task = {name = \"ids\"}", "`task.name` is \"ids\", which has no reasoning in steps"),
        ("task = {name = \"mnns\", digits = 2}", "expected fewer stages than digits"),
        (
            "task = {name = \"mnns\"}\neval.arms = [\"soft\", \"hard\"]",
            "`eval.arms` holds \"hard\"",
        ),
        ("task = {name = \"text\"}\ndata.soft = \"first\"", "`data.soft` is \"first\""),
        ("task = {name = \"text\"}\ndata.format = \"text\"", "`data.format` is \"text\""),
        (
            "task = {name = \"mnns\"}\nadapter.active = \"soft\"\nprefix.tokens = 1",
            "stage 0 has no soft input to train on",
        ),
    ];
    for (text, expected) in cases {
        let found = refused(&format!("{ON}{text}"));
        assert!(found.contains(expected), "{text}: {found}");
    }
    let mnns = "task = {name = \"mnns\"}\nguidance.start = 0\n";
    assert_eq!(refused(&format!("{mnns}{ON}")), "");
    let taught = ON.replace("sequential", "teacher");
    assert!(refused(&format!("{mnns}{taught}")).contains("the rollout is \"teacher\""));
    let short = ON.replace("train.steps = 20", "train.steps = 9");
    let expected = "let stage 2 begin after 9 steps, of 9 in `train.steps`";
    assert!(refused(&format!("{mnns}{short}")).contains(expected));
    let none = refused("curriculum = {positions = 2}");
    assert!(none.contains("`curriculum.stages` is 0, which is no curriculum"), "{none}");
}

#[test]
fn hidden_states_take_no_settings_of_distributions() {
    const HIDDEN: &str = "task = {name = \"mnns\"}\nsoft.feed = \"hidden\"\n";
    const RIGHT: &str = "rollout.kind = \"sequential\"\nguidance.start = 0\n";
    assert_eq!(refused(&format!("{HIDDEN}{RIGHT}")), "");
    let bare = refused(HIDDEN);
    assert!(bare.contains("`rollout.kind` is \"teacher\"; expected \"sequential\""), "{bare}");
    assert!(bare.contains("`guidance.start` is 1; expected 0"), "{bare}");
    let cases = [
        ("guidance.schedule = \"linear\"\nguidance.end = 0.5", "`guidance.end` is 0.5"),
        ("estimator.kind = \"gumbel\"", "the estimator draws itself"),
        ("soft.noise = \"gumbel\"", "`soft.noise` is \"gumbel\"; expected \"none\""),
        ("soft.norm_match = \"l2\"", "`soft.norm_match` is \"l2\"; expected \"none\""),
        ("objective.entropy_beta = 0.1", "`objective.entropy_beta` is 0.1; expected 0"),
    ];
    for (text, expected) in cases {
        let found = refused(&format!("{HIDDEN}{RIGHT}{text}"));
        assert!(found.contains(expected), "{text}: {found}");
    }
    let staged = "guidance.start = 0\nrollout.stages = [\"parallel 3\", \"sequential\"]";
    let found = refused(&format!("{HIDDEN}{staged}"));
    assert!(found.contains("`rollout.stages` is [\"parallel 3\", \"sequential\"]"), "{found}");
}
