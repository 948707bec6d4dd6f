//! Which stage of the curriculum trains at which step, and what it makes of a reasoning.

use super::sections::Curriculum;

/// What a stage makes of a reasoning: its first steps are left out, and soft positions without
/// truth stand in their place.
///
/// # Source
/// Coconut (Hao et al. 2024, arXiv:2412.06769), section 3: at stage k the first k steps are
/// replaced by k c positions whose inputs are hidden states; the loss is that of what remains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Steps that are left out, where there are so many.
    pub steps: usize,
    /// Soft positions in their place: as many for a reasoning that has fewer steps, so that it is
    /// known how many to generate.
    pub soft: usize,
}

impl Curriculum {
    /// Whether there is one.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.stages > 0
    }

    /// Number of stages over reasonings of at most `longest` steps; 1 where there is no curriculum.
    #[must_use]
    pub fn count(&self, longest: usize) -> usize {
        if !self.is_on() {
            return 1;
        }
        self.stages + 1 + usize::from(longest > self.stages)
    }

    /// What a stage makes of a reasoning; `None` without a curriculum.
    #[must_use]
    pub fn cut(&self, stage: usize) -> Option<Cut> {
        let steps = if stage > self.stages { usize::MAX } else { stage };
        let soft = self.positions * stage.min(self.stages);
        self.is_on().then_some(Cut { steps, soft })
    }

    /// What the curriculum, of `count` stages, has made of the reasoning that a model saw last, after
    /// `steps` steps.
    #[must_use]
    pub fn cut_after(&self, steps: usize, count: usize) -> Option<Cut> {
        self.cut(self.stage_at(steps.saturating_sub(1), count))
    }

    /// The first optimizer step of a stage, counted from 0.
    #[must_use]
    pub fn begin(&self, stage: usize) -> usize {
        match stage {
            0 => 0,
            later => self.first.saturating_add(self.steps.saturating_mul(later - 1)),
        }
    }

    /// The stage of `count` that trains at `step`, counted from 0.
    #[must_use]
    pub fn stage_at(&self, step: usize, count: usize) -> usize {
        (0..count).rev().find(|&stage| self.begin(stage) <= step).unwrap_or(0)
    }

    /// Whether the optimizer begins anew at `step`.
    #[must_use]
    pub fn resets_at(&self, step: usize, count: usize) -> bool {
        let begins = |stage| self.begin(stage) == step;
        self.reset && step > 0 && (1..count).any(begins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curriculum(first: usize) -> Curriculum {
        Curriculum { stages: 2, positions: 3, first, steps: 5, reset: true }
    }

    #[test]
    fn stages_follow_one_another_and_the_last_has_no_end() {
        let stage = |first, longest: usize, step| {
            let curriculum = curriculum(first);
            curriculum.stage_at(step, curriculum.count(longest))
        };
        let stages = |first, longest| [0, 3, 4, 8, 9, 13, 14, 99].map(|t| stage(first, longest, t));
        assert_eq!(stages(4, 2), [0, 0, 1, 1, 2, 2, 2, 2]);
        assert_eq!(stages(4, 3), [0, 0, 1, 1, 2, 2, 3, 3], "the rest of a longer reasoning");
        assert_eq!(stage(0, 2, 0), 1, "no step of stage 0");
        assert_eq!(Curriculum::default().stage_at(5000, 1), 0);
    }

    #[test]
    fn an_optimizer_begins_anew_where_a_stage_does() {
        let resets = |curriculum: &Curriculum, longest| {
            let count = curriculum.count(longest);
            (0..99).filter(|&step| curriculum.resets_at(step, count)).collect::<Vec<_>>()
        };
        assert_eq!(resets(&curriculum(4), 2), [4, 9]);
        assert_eq!(resets(&curriculum(4), 7), [4, 9, 14]);
        assert_eq!(resets(&curriculum(0), 2), [5], "not before the first step");
        let keeps = Curriculum { reset: false, ..curriculum(4) };
        assert_eq!(resets(&keeps, 2), [0; 0]);
        assert_eq!(resets(&Curriculum::default(), 9), [0; 0]);
    }

    #[test]
    fn soft_positions_grow_with_the_steps_that_are_left_out() {
        let cuts: Vec<_> = (0..4).filter_map(|stage| curriculum(4).cut(stage)).collect();
        let pairs: Vec<_> = cuts.iter().map(|cut| (cut.steps, cut.soft)).collect();
        assert_eq!(pairs, [(0, 0), (1, 3), (2, 6), (usize::MAX, 6)]);
        assert_eq!(Curriculum::default().cut(1), None);
    }
}
