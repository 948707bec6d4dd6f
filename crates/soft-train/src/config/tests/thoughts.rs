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
