//! What all additions to a frozen base have in common.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::choices::Active;

/// What low-rank branches, a prefix and a prompt have in common.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Adapter {
    /// Where they act. It is saved with them: in generation they act where they did in training.
    pub active: Active,
}
