//! From sections to the values that the crates below take.

use soft_core::{PipelineConfig, Schedule, ScheduleKind, Transform};

use super::choices::{GuidanceForm, GuidanceSchedule, Mode, NoiseKind, Stage};
use super::sections::{Guidance, LowRank, Soft};

impl Soft {
    /// Filters and noise, as soft-core takes them.
    #[must_use]
    pub fn pipeline(&self) -> PipelineConfig {
        PipelineConfig {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            max_top_k: self.max_top_k,
            noise: match self.noise {
                NoiseKind::None => soft_core::Noise::None,
                NoiseKind::Gumbel => soft_core::Noise::Gumbel { temperature: self.noise_temperature },
            },
            order: self.order.iter().map(|&stage| stage.into()).collect(),
        }
    }
}

impl From<Stage> for Transform {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Temperature => Self::Temperature,
            Stage::TopK => Self::TopK,
            Stage::TopP => Self::TopP,
            Stage::MinP => Self::MinP,
            Stage::Noise => Self::Noise,
        }
    }
}

impl From<Mode> for soft_model::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Soft => Self::Soft,
            Mode::Hard => Self::Hard,
        }
    }
}

impl From<GuidanceForm> for soft_core::GuidanceForm {
    fn from(form: GuidanceForm) -> Self {
        match form {
            GuidanceForm::Mix => Self::Mix,
            GuidanceForm::Clamp => Self::Clamp,
            GuidanceForm::Coin => Self::Coin,
        }
    }
}

impl Guidance {
    /// The share of the truth as a function of the step, counted from 0. Without a length of its
    /// own the schedule reaches `end` at the last of `train_steps` steps.
    #[must_use]
    pub fn schedule_over(&self, train_steps: usize) -> Schedule {
        let rest = train_steps.saturating_sub(self.hold + 1).max(1);
        Schedule {
            kind: match self.schedule {
                GuidanceSchedule::Constant => ScheduleKind::Constant,
                GuidanceSchedule::Linear => ScheduleKind::Linear,
                GuidanceSchedule::Cosine => ScheduleKind::Cosine,
            },
            start: self.start,
            end: self.end,
            hold: self.hold,
            steps: if self.steps == 0 { rest } else { self.steps },
        }
    }
}

impl LowRank {
    /// The names of the projections that get a branch.
    #[must_use]
    pub fn target_names(&self) -> Vec<String> {
        self.targets.iter().map(ToString::to_string).collect()
    }
}
