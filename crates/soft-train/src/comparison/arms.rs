//! The arms of a comparison: a name and settings over the configuration.

use crate::config::{
    Config, ConfigError, Control, FeedKind, Mode, NoiseKind, Resolved, SearchKind, Soft, SpanKind,
};
use crate::error::Error;

/// Arms where the configuration names none.
const USUAL: [&str; 8] = [
    "greedy: soft.mode=hard soft.temperature=0",
    "sampled: soft.mode=hard soft.temperature=0.6 soft.top_p=0.95",
    "hard_cold_stop: soft.mode=hard soft.temperature=0.6 soft.top_p=0.95 soft.cold_stop=true",
    "soft: soft.temperature=0.6 soft.top_k=30 soft.top_p=0.95 soft.max_top_k=10 soft.cold_stop=true",
    "soft_no_cold_stop: soft.temperature=0.6 soft.top_k=30 soft.top_p=0.95 soft.max_top_k=10",
    "vote: soft.mode=hard soft.temperature=0.6 soft.top_p=0.95 search.kind=vote",
    "beam: soft.mode=hard search.kind=beam",
    "soft_beam: soft.top_k=30 search.kind=soft_beam",
];
/// Sections that an arm may set: the others are the comparison's own.
const SECTIONS: [&str; 5] = ["soft", "answer", "think", "gate", "search"];

/// One way of thinking.
#[derive(Debug, Clone)]
pub struct Arm {
    /// What it is called.
    pub name: String,
    /// Its settings, as they are typed.
    pub settings: Vec<String>,
    /// The configuration with them.
    pub config: Config,
    /// Controls that are run beside it.
    pub controls: Vec<Control>,
}

impl Arm {
    /// Whether another seed may give another result.
    #[must_use]
    pub fn has_chance(&self) -> bool {
        let config = &self.config;
        let draws = |soft: &Soft| {
            let drawn = soft.mode == Mode::Hard
                || soft.noise != NoiseKind::None
                || matches!(soft.feed, FeedKind::Inputs | FeedKind::Samples);
            soft.temperature > 0.0 && drawn
        };
        let everywhere = config.think.span == SpanKind::Everywhere;
        let answers = !everywhere || config.gate.kind != crate::config::GateKind::Open;
        match config.search.kind {
            SearchKind::None | SearchKind::Vote => {
                draws(&config.soft) || (answers && draws(&config.answer))
            }
            _ => false,
        }
    }

    /// Continuations of a question that share its budget.
    #[must_use]
    pub fn rows(&self) -> usize {
        match self.config.search.kind {
            SearchKind::None => 1,
            _ => self.config.search.beams,
        }
    }

    /// Whether it has soft thoughts and an answer after them, which controls need.
    fn thinks_softly(&self) -> bool {
        self.config.think.span != SpanKind::Everywhere
            && self.config.soft.mode == Mode::Soft
            && self.config.search.kind == SearchKind::None
    }
}

/// The arms of a configuration; `load` gives the configuration with further settings.
///
/// # Errors
/// [`Error::Config`] with everything that is wrong with any arm: no name, a name twice, a setting
/// that is not an arm's own, a configuration that cannot be used, controls of an arm that has no
/// soft thoughts before its answer.
pub fn arms(
    config: &Config,
    load: &dyn Fn(&[String]) -> Result<Resolved, ConfigError>,
) -> Result<Vec<Arm>, Error> {
    let eval = &config.eval;
    let usual: Vec<String> = USUAL.iter().map(|&arm| arm.to_owned()).collect();
    let given = if eval.compare.is_empty() { &usual } else { &eval.compare };
    let (mut arms, mut problems) = (Vec::<Arm>::new(), Vec::new());
    for text in given {
        match arm(text, eval.budget, load) {
            Ok(arm) if arms.iter().any(|other| other.name == arm.name) => {
                problems.push(format!("`eval.compare` holds {:?} twice", arm.name));
            }
            Ok(arm) => arms.push(arm),
            Err(problem) => problems.push(problem),
        }
    }
    let known: Vec<String> = arms.iter().map(|arm| arm.name.clone()).collect();
    for (key, name) in eval
        .controlled
        .iter()
        .map(|name| ("eval.controlled", name))
        .chain(Some(("eval.baseline", &eval.baseline)).filter(|(_, name)| !name.is_empty()))
    {
        if !known.contains(name) && problems.is_empty() {
            problems.push(format!("`{key}` names {name:?}, which is no arm: {}", known.join(", ")));
        }
    }
    for arm in &mut arms {
        let named = eval.controlled.contains(&arm.name);
        if !named && !eval.controlled.is_empty() || eval.controls.is_empty() {
            continue;
        }
        match arm.thinks_softly() {
            true => arm.controls.clone_from(&eval.controls),
            false if named => problems.push(format!(
                "`eval.controlled` names {:?}, which has no soft thoughts before an answer; its \
                 `think.span` must be \"first\" or \"tags\", and `soft.mode` \"soft\"",
                arm.name
            )),
            false => {}
        }
        let tokens = [Control::Top, Control::Second];
        if arm.config.soft.feed == FeedKind::Hidden
            && arm.controls.iter().any(|control| tokens.contains(control))
        {
            problems.push(format!(
                "arm {:?} feeds hidden states, which have no heaviest token: leave \"top\" and \
                 \"second\" out of `eval.controls`",
                arm.name
            ));
        }
    }
    if !eval.controls.is_empty()
        && problems.is_empty()
        && arms.iter().all(|arm| arm.controls.is_empty())
    {
        problems.push(
            "`eval.controls` is set and no arm has soft thoughts before an answer; one needs \
             `think.span` \"first\" or \"tags\" and `soft.mode` \"soft\""
                .into(),
        );
    }
    if !eval.controlled.is_empty() && eval.controls.is_empty() {
        problems.push("`eval.controlled` is set and `eval.controls` is empty; name some".into());
    }
    match problems.is_empty() {
        true => Ok(arms),
        false => Err(Error::Config { report: problems.join("\n") }),
    }
}

fn arm(
    text: &str,
    budget: usize,
    load: &dyn Fn(&[String]) -> Result<Resolved, ConfigError>,
) -> Result<Arm, String> {
    let (name, settings) = match text.split_once(':') {
        Some((name, settings)) => (name.trim(), settings),
        None => (text.trim(), ""),
    };
    if name.is_empty() || name.contains(['=', ' ']) {
        return Err(format!(
            "`eval.compare` holds {text:?}; expected a name of one word, a colon and settings, \
             such as \"greedy: soft.mode=hard soft.temperature=0\""
        ));
    }
    let settings: Vec<String> = words(settings);
    if let Some(foreign) = settings.iter().find(|setting| {
        let key = setting.split('=').next().unwrap_or_default().trim();
        let section = key.split('.').next().unwrap_or_default();
        !SECTIONS.contains(&section) && key != "generate.ignore_eos"
    }) {
        return Err(format!(
            "arm {name:?} sets {foreign:?}; an arm may set keys of {}, and generate.ignore_eos",
            SECTIONS.join(", ")
        ));
    }
    let resolved = load(&settings).map_err(|error| format!("arm {name:?}: {error}"))?;
    let mut config = resolved.config;
    let mut arm =
        Arm { name: name.to_owned(), settings, config: config.clone(), controls: Vec::new() };
    config.generate.max_new = budget / arm.rows();
    if config.generate.max_new == 0 {
        return Err(format!(
            "arm {name:?} follows {} continuations, and `eval.budget` is {budget}: not a token for \
             each",
            arm.rows()
        ));
    }
    arm.config = config;
    Ok(arm)
}

/// Settings apart at blanks, but not at those in quotes or brackets.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut depth, mut quoted) = (Vec::new(), String::new(), 0usize, false);
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            '[' | '{' if !quoted => depth += 1,
            ']' | '}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        if c.is_whitespace() && !quoted && depth == 0 {
            words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
        } else {
            word.push(c);
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Loader;

    fn load(settings: &[String]) -> Result<Resolved, ConfigError> {
        Loader::new().overrides(settings).load()
    }

    fn found(change: impl Fn(&mut Config)) -> Result<Vec<Arm>, String> {
        let mut config = Config::default();
        change(&mut config);
        arms(&config, &load).map_err(|error| error.to_string())
    }

    #[test]
    fn the_usual_arms_share_one_budget() {
        let arms = found(|_| {}).expect("they load");
        assert_eq!(arms.len(), USUAL.len());
        for arm in &arms {
            assert_eq!(arm.config.generate.max_new * arm.rows(), 256, "{}", arm.name);
            assert!(arm.controls.is_empty());
        }
        let chance: Vec<bool> = arms.iter().map(Arm::has_chance).collect();
        assert_eq!(chance, [false, true, true, false, false, true, false, false]);
    }

    #[test]
    fn everything_that_is_wrong_with_the_arms_is_told_at_once() {
        let compare = [
            "a: soft.mode=hard",
            "a: soft.top_k=2",
            "b: run.seed=1",
            "soft.mode=hard",
            "c: soft.presett=none",
            "d: search.kind=beam search.beams=500",
        ];
        let report = found(|c| c.eval.compare = compare.map(String::from).to_vec()).unwrap_err();
        let lines: Vec<&str> = report.lines().collect();
        assert!(lines[0].contains("holds \"a\" twice"), "{report}");
        assert!(lines[1].contains("arm \"b\" sets \"run.seed=1\"; an arm may set"), "{report}");
        assert!(lines[2].contains("expected a name of one word"), "{report}");
        assert!(lines[3].contains("did you mean `soft.preset`?"), "{report}");
        assert!(lines[4].contains("follows 500 continuations"), "{report}");
        let idle = found(|c| c.eval.controls = vec![Control::Top]).unwrap_err();
        assert!(idle.contains("no arm has soft thoughts before an answer"), "{idle}");
        let none = found(|c| c.eval.controlled = vec!["greedy".into()]).unwrap_err();
        assert!(none.contains("`eval.controls` is empty"), "{none}");
        let missing = found(|c| c.eval.baseline = "x".into()).unwrap_err();
        assert!(missing.contains("`eval.baseline` names \"x\", which is no arm: greedy,"));
    }

    #[test]
    fn controls_go_to_the_arms_that_think_softly_before_they_answer() {
        let thinks = "t: think.span=first soft.top_k=5";
        let of = |controlled: &[&str]| {
            found(|c| {
                c.eval.compare = vec![thinks.into(), "soft".into(), "h: soft.mode=hard".into()];
                c.eval.controls = vec![Control::Top, Control::Delete];
                c.eval.controlled = controlled.iter().map(ToString::to_string).collect();
            })
        };
        let counts: Vec<usize> = of(&[]).unwrap().iter().map(|arm| arm.controls.len()).collect();
        assert_eq!(counts, [2, 0, 0]);
        assert_eq!(of(&["t"]).unwrap()[0].controls, [Control::Top, Control::Delete]);
        assert!(of(&["soft"]).unwrap_err().contains("has no soft thoughts before an answer"));
    }

    #[test]
    fn blanks_in_quotes_and_brackets_part_nothing() {
        let found = words(" think.close=\"a b\"  soft.order=[\"top_k\", \"noise\"] x=1");
        assert_eq!(found, ["think.close=\"a b\"", "soft.order=[\"top_k\", \"noise\"]", "x=1"]);
    }
}
