//! What is measured on held-out data, during and after training and by `soft eval`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::choices::{Arm, Control, ExtractKind, HeldOutMetric, Paths};

/// Evaluation during and after training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Eval {
    /// Steps between evaluations; 0 evaluates at the end only.
    pub every: usize,
    /// Validation examples that are evaluated; 0 is all.
    pub limit: usize,
    /// The figure of the evaluations during training by which a checkpoint is the best, and by which `early_stop` judges.
    pub metric: HeldOutMetric,
    /// File of plain text that is not trained on, or a list of files: its perplexity before, during and after training is the forgetting meter.
    pub text: Paths,
    /// Tokens of that text that are read, from its beginning.
    #[schemars(range(min = 2))]
    pub text_tokens: usize,
    /// Held-out prompts that are continued at every evaluation, before the first step and after the last: what the model writes goes to `samples.jsonl`, what it believed the last time to `traces.jsonl`, both into the report; 0 is none.
    #[schemars(range(max = 64))]
    pub samples: usize,
    /// Ways of thinking that are trained and compared at equal steps.
    #[schemars(length(min = 1))]
    pub arms: Vec<Arm>,
    /// File of questions and answers for `soft eval`, or a list of files: {"question": "..", "answer": ".."} a line.
    pub data: Paths,
    /// Arms of `soft eval`, each "name: a.b=v a.b=v ..": these settings over the configuration.
    pub compare: Vec<String>,
    /// The arm that the others are compared with; empty is the first.
    pub baseline: String,
    /// Forward tokens that each arm may spend on a question, all its continuations together; the prompt is not counted.
    #[schemars(range(min = 1))]
    pub budget: usize,
    /// Seeds that each arm runs with, counted from `run.seed`. An arm without chance runs once.
    #[schemars(range(min = 1, max = 1000))]
    pub seeds: usize,
    /// How the answer is found in what an arm wrote.
    pub extract: ExtractKind,
    /// Regular expression of "regex".
    pub pattern: String,
    /// Text put after each question, before the chat template.
    pub suffix: String,
    /// What is done to the thoughts of `eval.controlled` before they answer, each as a further arm.
    pub controls: Vec<Control>,
    /// Arms that get the controls; they must think softly in a span "first" or "tags". Empty is all that do.
    pub controlled: Vec<String>,
    /// Text of the token of the control "pause".
    pub pause: String,
    /// Rows that run at once.
    #[schemars(range(min = 1, max = 65536))]
    pub batch: usize,
    /// Questions of each arm whose beliefs are traced for the report.
    pub traces: usize,
}

impl Default for Eval {
    fn default() -> Self {
        Self {
            every: 0,
            limit: 0,
            metric: HeldOutMetric::Auto,
            text: Paths::default(),
            text_tokens: 2048,
            samples: 0,
            arms: vec![Arm::Soft],
            data: Paths::default(),
            compare: Vec::new(),
            baseline: String::new(),
            budget: 256,
            seeds: 1,
            extract: ExtractKind::LastNumber,
            pattern: String::new(),
            suffix: String::new(),
            controls: Vec::new(),
            controlled: Vec::new(),
            pause: ".".into(),
            batch: 16,
            traces: 2,
        }
    }
}
