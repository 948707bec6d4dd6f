//! Which rollout trains at which step.

use super::choices::RolloutKind;
use super::sections::Rollout;

/// The stages of a training, each with the first step after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutPlan {
    /// (first step after the stage, kind); the last stage has no end.
    stages: Vec<(usize, RolloutKind)>,
}

impl RolloutPlan {
    /// One kind throughout.
    #[must_use]
    pub fn only(kind: RolloutKind) -> Self {
        Self { stages: vec![(usize::MAX, kind)] }
    }

    /// The kind that trains at `step`, counted from 0.
    #[must_use]
    pub fn kind_at(&self, step: usize) -> RolloutKind {
        let stage = self.stages.iter().find(|(end, _)| step < *end);
        stage.or(self.stages.last()).map_or(RolloutKind::Teacher, |stage| stage.1)
    }

    /// The stages in order: (first step after it, kind).
    #[must_use]
    pub fn stages(&self) -> &[(usize, RolloutKind)] {
        &self.stages
    }
}

impl Rollout {
    /// The plan that `rollout.stages` spells out, or `rollout.kind` throughout where it is empty.
    ///
    /// # Errors
    /// What is wrong with a stage, and what was expected.
    pub fn plan(&self) -> Result<RolloutPlan, String> {
        if self.stages.is_empty() {
            return Ok(RolloutPlan::only(self.kind));
        }
        let mut stages: Vec<(usize, RolloutKind)> = Vec::new();
        for (index, text) in self.stages.iter().enumerate() {
            let last = index + 1 == self.stages.len();
            let (kind, steps) = parse(text, last)?;
            let before = stages.last().map_or(0, |stage| stage.0);
            stages.push((before.saturating_add(steps.unwrap_or(usize::MAX)), kind));
        }
        // The last stage goes on to the end of the training, whatever its length says.
        if let Some(stage) = stages.last_mut() {
            stage.0 = usize::MAX;
        }
        Ok(RolloutPlan { stages })
    }
}

/// `kind steps`; the steps may be left out of the last stage.
fn parse(text: &str, last: bool) -> Result<(RolloutKind, Option<usize>), String> {
    let bad = || {
        format!(
            "`rollout.stages` holds {text:?}; expected a kind and its steps, as in \"teacher \
             2000\" (\"teacher\", \"parallel\" or \"sequential\"; the last may leave its steps out)"
        )
    };
    let mut words = text.split_whitespace();
    let kind = match words.next() {
        Some("teacher") => RolloutKind::Teacher,
        Some("parallel") => RolloutKind::Parallel,
        Some("sequential") => RolloutKind::Sequential,
        _ => return Err(bad()),
    };
    let steps = words.next().map(|word| word.replace('_', "").parse().map_err(|_| bad()));
    let steps: Option<usize> = steps.transpose()?;
    if words.next().is_some() || steps == Some(0) || (steps.is_none() && !last) {
        return Err(bad());
    }
    Ok((kind, steps))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(stages: &[&str]) -> Result<RolloutPlan, String> {
        let stages = stages.iter().map(ToString::to_string).collect();
        Rollout { stages, ..Rollout::default() }.plan()
    }

    #[test]
    fn stages_follow_one_another_and_the_last_has_no_end() {
        use RolloutKind::{Parallel, Sequential, Teacher};
        let plan = plan(&["teacher 10", "parallel 1_000", "sequential"]).expect("a plan");
        let kinds = [0, 9, 10, 1009, 1010, usize::MAX].map(|step| plan.kind_at(step));
        assert_eq!(kinds, [Teacher, Teacher, Parallel, Parallel, Sequential, Sequential]);
    }

    #[test]
    fn without_stages_the_one_kind_trains_throughout() {
        let kind = RolloutKind::Sequential;
        let rollout = Rollout { kind, ..Rollout::default() };
        assert_eq!(rollout.plan(), Ok(RolloutPlan::only(kind)));
    }

    #[test]
    fn a_stage_that_cannot_be_read_is_quoted() {
        for bad in ["techer 10", "teacher", "teacher 0", "teacher ten", "teacher 1 2", ""] {
            let error = plan(&[bad, "sequential"]).expect_err(bad);
            assert!(error.contains(&format!("{bad:?}")), "{error}");
        }
    }
}
