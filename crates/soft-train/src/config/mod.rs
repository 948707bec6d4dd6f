//! Configuration of a run: sections and keys, their sources in order of precedence, and what is wrong with them.
//!
//! | source | example | over |
//! |---|---|---|
//! | defaults | [`Config::default`] | |
//! | a model's own `soft_config.toml` | `soft.temperature = 0.6` | defaults |
//! | a preset | `soft.preset = "soft-thinking"` | the model |
//! | `extends` of a file | `extends = "base.toml"` | the preset |
//! | a file | `soft train -c my.toml` | what it extends |
//! | an environment variable | `SOFT_DEVICE=cuda` | the file |
//! | an override | `train.lr=1e-4` | the environment |
//! | a flag | `--device cuda` | everything |

mod choices;
mod convert;
mod curriculum_plan;
mod duration;
mod error;
mod fields;
mod layer;
mod loader;
mod origin;
mod rollout_plan;
mod sections;
mod suggest;
#[cfg(test)]
mod tests;
mod validate;

pub use crate::task::TaskName;
pub use choices::{
    Active, Arm, BadLines, Control, DataFormat, EntropyOf, EstimatorKind, ExtractKind, FeedKind,
    GateKind, GuidanceForm, GuidanceOver, HeldOutMetric, LearnableSetting, LrSchedule, MemoryCheck,
    Mode, ModelFamily, NoiseKind, NormMatch, Normalize, OnNan, Paths, Precision, Preset,
    RewardKind, RlAlgorithm, RlAnswers, RlDiscretize, RlKl, RlLoss, RlPolicy, RlScale, RolloutKind,
    ScheduleForm, SearchKind, SoftInputs, SpanKind, Stage, TooLong, TrainOn,
};
pub use curriculum_plan::Cut;
pub use error::{ConfigError, Problem};
pub use fields::{Field, Fields, Kind, Range, fields, json_schema};
pub use loader::{Loader, Resolved, keys};
pub use origin::Origin;
pub use rollout_plan::RolloutPlan;
pub use sections::{
    Adapter, Config, Curriculum, Data, EarlyStop, Estimator, Eval, Gate, Generate, Guard, Guidance,
    Learnable, Log, LowRank, Model, Objective, Prefix, Prompt, Rl, Rollout, Run, Save, Search,
    Soft, Task, Think, Train,
};
pub(crate) use validate::adds;

use serde::Deserialize;
use toml::{Table, Value};

/// The configuration that `soft train` runs where none is named: `configs/quickstart.toml`.
pub const QUICKSTART: &str = include_str!("../../../../configs/quickstart.toml");

/// What [`QUICKSTART`] is called where a value came from it.
pub const QUICKSTART_NAME: &str = "quickstart.toml (built in)";

impl Config {
    /// Whether nothing is trained but low-rank branches: then the model without them is the one that
    /// training began with.
    pub(crate) fn trains_branches_alone(&self) -> bool {
        self.low_rank.rank > 0
            && self.prefix.tokens + self.prompt.tokens == 0
            && self.model.new_tokens.is_empty()
            && self.train.only.is_empty()
    }

    /// This configuration as TOML, every key written out. Loading it gives an equal one.
    #[must_use]
    pub fn to_toml(&self) -> String {
        self.to_table().to_string()
    }

    /// crc32 of [`Config::to_toml`]: equal for configurations that mean the same.
    #[must_use]
    pub fn config_hash(&self) -> u32 {
        crc32fast::hash(self.to_toml().as_bytes())
    }

    /// Empty only for a seed above 2^63, which [`Config::validate`] reports.
    pub(crate) fn to_table(&self) -> Table {
        self.try_table().unwrap_or_default()
    }

    fn try_table(&self) -> Result<Table, toml::ser::Error> {
        Table::try_from(self)
    }

    fn deserialize_from(mut table: Table) -> Result<Self, toml::de::Error> {
        // The section has the type of `soft`, and this one default of its own.
        let answer = table.entry("answer").or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(answer) = answer {
            answer.entry("mode").or_insert_with(|| "hard".into());
        }
        Self::deserialize(Value::Table(table))
    }
}

/// What to do about a key that does not exist: the nearest known key, or that it is planned.
#[must_use]
pub fn suggestion(unknown: &str) -> Option<String> {
    suggest::for_key(unknown)
}
