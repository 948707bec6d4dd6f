//! Every key of a configuration file, with its meaning, unit and default.
//!
//! The doc comment of a field is the text of `soft config explain`, and the range in its
//! `schemars` attribute is the range that is enforced: each key is described here and nowhere else.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::task::TaskName;

use super::choices::{
    BadLines, DataFormat, EstimatorKind, GuidanceForm, GuidanceOver, LrSchedule, MemoryCheck, Mode,
    ModelFamily, Normalize, Paths, Precision, RolloutKind, ScheduleForm, SoftInputs, TooLong,
    TrainOn,
};

mod adapter;
mod curriculum;
mod decoding;
mod evaluation;
mod guard;
mod learnable;
mod rl;

pub use adapter::Adapter;
pub use curriculum::Curriculum;
pub use decoding::{Gate, Generate, Search, Soft, Think};
pub use evaluation::Eval;
pub use guard::{EarlyStop, Guard};
pub use learnable::Learnable;
pub use rl::Rl;

/// A whole run: model, data, soft decoding, rollout, objective and optimizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where a run is written, its seed and its device.
    pub run: Run,
    /// When checkpoints are written and how many are kept.
    pub save: Save,
    /// How often a training step is reported.
    pub log: Log,
    /// What ends a training before its last step, or steps over a step.
    pub guard: Guard,
    /// When a training ends because it no longer gets better.
    pub early_stop: EarlyStop,
    /// The transformer: a checkpoint to start from, or the shape of a new one.
    pub model: Model,
    /// A low-rank branch on chosen projections, trained while the base stays frozen.
    pub low_rank: LowRank,
    /// Trained keys and values before the sequence, while the base stays frozen.
    pub prefix: Prefix,
    /// Trained embeddings before the sequence, while the base stays frozen.
    pub prompt: Prompt,
    /// What low-rank branches, a prefix and a prompt have in common.
    pub adapter: Adapter,
    /// What is learned: a built-in task, token ids from files, or text from files.
    pub task: Task,
    /// Training and validation files.
    pub data: Data,
    /// How a distribution becomes the next input: filters, noise, mixture.
    pub soft: Soft,
    /// Where thoughts lie in what is generated; the rest follows `answer`.
    pub think: Think,
    /// Which positions of a thought are soft.
    pub gate: Gate,
    /// Several continuations of a prompt at once.
    pub search: Search,
    /// The keys of `soft`, for the answer after the thoughts; its `mode` is "hard" where it is not set.
    pub answer: Soft,
    /// Limits and prompt handling of generation.
    pub generate: Generate,
    /// How soft inputs are computed in training.
    pub rollout: Rollout,
    /// Steps of reasoning that soft positions take the place of, one more in each stage (Coconut).
    pub curriculum: Curriculum,
    /// How the gradient passes what is fed back in training.
    pub estimator: Estimator,
    /// Settings of `soft` that are learned with the model.
    pub learnable: Learnable,
    /// Share of the truth in what is fed back in training.
    pub guidance: Guidance,
    /// The loss: terms and divisor.
    pub objective: Objective,
    /// Rewards in the place of the truth: what is drawn is at temperature 1, with nothing filtered and no drop-out, whatever `soft` says.
    pub rl: Rl,
    /// Length of training, batch, optimizer.
    pub train: Train,
    /// Evaluation during and after training.
    pub eval: Eval,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            run: Run::default(),
            save: Save::default(),
            log: Log::default(),
            guard: Guard::default(),
            early_stop: EarlyStop::default(),
            model: Model::default(),
            low_rank: LowRank::default(),
            prefix: Prefix::default(),
            prompt: Prompt::default(),
            adapter: Adapter::default(),
            task: Task::default(),
            data: Data::default(),
            soft: Soft::default(),
            think: Think::default(),
            gate: Gate::default(),
            search: Search::default(),
            answer: Soft { mode: Mode::Hard, ..Soft::default() },
            generate: Generate::default(),
            rollout: Rollout::default(),
            curriculum: Curriculum::default(),
            estimator: Estimator::default(),
            learnable: Learnable::default(),
            guidance: Guidance::default(),
            objective: Objective::default(),
            rl: Rl::default(),
            train: Train::default(),
            eval: Eval::default(),
        }
    }
}

/// Where a run is written, its seed and its device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Run {
    /// Name of the run: its directory is `run.dir/run.name`. A name in use is an error, unless the run is resumed.
    pub name: String,
    /// Folder that holds the run directories.
    pub dir: String,
    /// Seed of everything random: initial weights, order of data, dropout, noise.
    #[schemars(range(max = 9_223_372_036_854_775_807_u64))]
    pub seed: u64,
    /// Device to run on: "auto", or the name of a compiled backend ("flex", "ndarray", "wgpu", "vulkan", "metal", "cuda"). `soft doctor` lists those that work.
    pub device: String,
    /// What is done with a training that would need more memory than there is, by the estimate that `soft train --dry-run` shows.
    pub memory_check: MemoryCheck,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            name: "run".into(),
            dir: "runs".into(),
            seed: 42,
            device: "auto".into(),
            memory_check: MemoryCheck::Refuse,
        }
    }
}

/// When checkpoints are written and how many are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Save {
    /// Steps between checkpoints; 0 writes one at the end only.
    pub every: usize,
    /// Newest checkpoints that are kept; older ones are deleted.
    #[schemars(range(min = 1))]
    pub keep: usize,
    /// Checkpoints that are kept beside those because they were the best at their evaluation, by `eval.metric`: one is written at every evaluation during the training that is better than all before. 0 writes and keeps none.
    pub keep_best: usize,
}

impl Default for Save {
    fn default() -> Self {
        Self { every: 0, keep: 2, keep_best: 1 }
    }
}

/// How often a training step is reported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Steps between printed lines. `metrics.jsonl` holds every step all the same.
    #[schemars(range(min = 1))]
    pub every: usize,
    /// Writes the metrics for TensorBoard too, into `tensorboard` in the run directory.
    pub tensorboard: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self { every: 1, tensorboard: false }
    }
}

/// The transformer: a checkpoint to start from, or the shape of a new one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// Checkpoint to start from: a folder in Hugging Face layout, a GGUF file, or ORG/NAME of the Hugging Face hub. The other keys of this section but `new_tokens` and `dropout` are then those of the checkpoint. Without it a new model is built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Adapter over that checkpoint, in generation and evaluation: a folder of PEFT's files. A training begins from a model: fold the adapter into one with `soft merge` first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// Architecture of a new model.
    pub family: ModelFamily,
    /// Transformer blocks of a new model.
    #[schemars(range(min = 1, max = 1024))]
    pub n_layers: usize,
    /// Attention heads of a new model; divides `model.d_model`.
    #[schemars(range(min = 1, max = 1024))]
    pub n_heads: usize,
    /// Width of the residual stream of a new model.
    #[schemars(range(min = 1, max = 65536))]
    pub d_model: usize,
    /// Tokens that are added to the tokenizer of `model.path`, such as ["<think>", "</think>"]: their embeddings are trained, also where the rest of the embedding is frozen. Those it has already are trained there too.
    pub new_tokens: Vec<String>,
    /// Drop-out rate in training.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub dropout: f64,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            path: None,
            adapter: None,
            new_tokens: Vec::new(),
            family: ModelFamily::Gpt2,
            n_layers: 2,
            n_heads: 2,
            d_model: 32,
            dropout: 0.0,
        }
    }
}

/// A low-rank branch on chosen projections, trained while the base stays frozen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LowRank {
    /// Rank of the branch `x A B * alpha / rank` (LoRA); 0 is off. Above 0 only the branch is trained.
    #[schemars(range(max = 65536))]
    pub rank: usize,
    /// Scale of the branch, divided by its rank.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub alpha: f64,
    /// Projections that get a branch: the end of a module path ("q_proj", "self_attn.q_proj"; GPT-2's have the same names), "all-linear", or a regular expression of a whole Hugging Face path ('model\.layers\.[0-7]\.mlp\..*').
    #[schemars(length(min = 1))]
    pub targets: Vec<String>,
    /// Probability that an input of the branch is set to zero in training.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub dropout: f64,
    /// Divides `alpha` by the root of the rank instead (rsLoRA): the scale of high ranks stays useful.
    pub rslora: bool,
    /// Learns the norm of each output's weights apart from their direction (DoRA).
    pub dora: bool,
}

impl Default for LowRank {
    fn default() -> Self {
        Self {
            rank: 0,
            alpha: 16.0,
            targets: ["q_proj", "v_proj"].map(str::to_owned).to_vec(),
            dropout: 0.0,
            rslora: false,
            dora: false,
        }
    }
}

/// Trained keys and values before the sequence, while the base stays frozen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Prefix {
    /// Length of the prefix in positions; 0 is off. Above 0 only the prefix is trained.
    #[schemars(range(max = 65536))]
    pub tokens: usize,
}

/// Trained embeddings before the sequence, while the base stays frozen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Prompt {
    /// Length of the prompt in positions (prompt tuning); 0 is off. Above 0 only the prompt is trained. It and `prefix.tokens` exclude each other.
    #[schemars(range(max = 65536))]
    pub tokens: usize,
}

/// What is learned: a built-in task, token ids from files, or text from files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Task {
    /// Task to train and evaluate on.
    pub name: TaskName,
    /// Digits in one problem of the "mnns" task, 2 to 8, or in each factor of the "multiplication" task, 1 to 5.
    #[schemars(range(min = 1, max = 8))]
    pub digits: usize,
    /// Largest digit of the "mnns" task; digits are 1 to this.
    #[schemars(range(min = 1, max = 99))]
    pub digit_max: usize,
    /// Sign choices of the "mnns" task whose sums a soft thought holds: those with the last sum nearest to 0. 0 holds those of all.
    #[schemars(range(max = 256))]
    pub budget: usize,
    /// Most nodes in a graph of the "prosqa" task; a graph has up to 4 fewer. 0: as many as the published graphs, 19 to 26 and some beside.
    #[schemars(range(max = 256))]
    pub nodes: usize,
    /// Hops from the root to the answer in the "prosqa" and "chains" tasks. 0: 3 or 4, half and half, in "prosqa", and 5 in "chains".
    #[schemars(range(max = 16))]
    pub hops: usize,
    /// Problems that are made to train on in the "prosqa" and "chains" tasks, and in "multiplication" of more than 2 digits; 500 more validate.
    #[schemars(range(min = 1, max = 600_000))]
    pub problems: usize,
    /// Seed of the problems of the "prosqa", "multiplication" and "chains" tasks: `run.seed` does not change them.
    #[schemars(range(max = 9_223_372_036_854_775_807_u64))]
    pub seed: u64,
}

impl Default for Task {
    fn default() -> Self {
        Self {
            name: TaskName::None,
            digits: 4,
            digit_max: 9,
            budget: 0,
            nodes: 0,
            hops: 0,
            problems: 10_000,
            seed: 42,
        }
    }
}

/// Training and validation files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// File of training examples, or a list of files. Relative to the working directory.
    pub train: Paths,
    /// File of validation examples, or a list of files. Relative to the working directory.
    pub valid: Paths,
    /// What a line of these files holds.
    pub format: DataFormat,
    /// Most tokens of an example; 0 is the context of the model.
    pub max_len: usize,
    /// What is done with an example of more tokens.
    pub long: TooLong,
    /// What is done where a line cannot be used.
    pub bad_lines: BadLines,
    /// Which tokens of a text are scored.
    pub train_on: TrainOn,
    /// Which inputs are mixtures in examples made from text.
    pub soft: SoftInputs,
    /// Tokens that `data.soft` "first" makes soft.
    #[schemars(range(min = 1))]
    pub soft_first: usize,
    /// Text put after each `question` or `prompt`, before the chat template.
    pub suffix: String,
    /// Positions of a row that the examples of a micro-batch share in "teacher" and "parallel" rollouts, as many as fit one after another (packing): less padding where lengths differ. Each sees itself alone, so no result changes. A row is as long as the longest example where that is longer, so 1 never widens a batch; 0 gives each example a row. Steps of a "sequential" rollout are never packed.
    pub pack: usize,
}

impl Default for Data {
    fn default() -> Self {
        Self {
            train: Paths::default(),
            valid: Paths::default(),
            format: DataFormat::Auto,
            max_len: 0,
            long: TooLong::Error,
            bad_lines: BadLines::Error,
            train_on: TrainOn::Completion,
            soft: SoftInputs::Reasoning,
            soft_first: 16,
            suffix: String::new(),
            pack: 0,
        }
    }
}

/// How soft inputs are computed in training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rollout {
    /// The kind of rollout: exactness against cost.
    pub kind: RolloutKind,
    /// Rollouts that take turns, in place of `rollout.kind`: a kind and its steps each, as in ["teacher 2000", "parallel 2000", "sequential"]. The last goes on to the end.
    pub stages: Vec<String>,
    /// Full-width passes of the "parallel" rollout; 1 is "teacher".
    #[schemars(range(min = 1))]
    pub passes: usize,
    /// Last passes of the "parallel" rollout that carry gradients; 0 is all.
    pub grad_passes: usize,
    /// Soft positions that the "sequential" rollout differentiates at once: more memory, less time. No effect on the gradients. 0 is as many as about 1 GiB of activations allows.
    pub segment: usize,
    /// Soft positions after which the "sequential" rollout cuts the gradient; 0 never cuts.
    pub truncate: usize,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            kind: RolloutKind::Teacher,
            stages: Vec::new(),
            passes: 2,
            grad_passes: 0,
            segment: 0,
            truncate: 0,
        }
    }
}

/// How the gradient passes what is fed back in training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Estimator {
    /// The estimator. All but "exact" draw, in place of `soft.noise`.
    pub kind: EstimatorKind,
    /// Temperature of the relaxed draw at the first step.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub start: f64,
    /// Temperature of the relaxed draw once the schedule is over.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub end: f64,
    /// How it goes from `estimator.start` to `estimator.end`.
    pub schedule: ScheduleForm,
    /// Steps that stay at `estimator.start` before the schedule begins.
    pub hold: usize,
    /// Steps of the schedule, after `estimator.hold`; 0 is the rest of the training.
    pub steps: usize,
    /// Draws that "rao_blackwell" averages.
    #[schemars(range(min = 1, max = 1000))]
    pub samples: usize,
}

impl Default for Estimator {
    fn default() -> Self {
        Self {
            kind: EstimatorKind::Exact,
            start: 1.0,
            end: 1.0,
            schedule: ScheduleForm::Constant,
            hold: 0,
            steps: 0,
            samples: 10,
        }
    }
}

/// Share of the truth in what is fed back in training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Guidance {
    /// How truth and prediction are combined.
    pub form: GuidanceForm,
    /// How the share goes from `guidance.start` to `guidance.end`.
    pub schedule: ScheduleForm,
    /// Whether all positions of a step have one share, or the change sweeps over them.
    pub over: GuidanceOver,
    /// Share of the truth at the first step: 1 is teacher forcing, 0 is free soft running.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub start: f64,
    /// Share of the truth once the schedule is over.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub end: f64,
    /// Steps that stay at `guidance.start` before the schedule begins.
    pub hold: usize,
    /// Steps of the schedule, after `guidance.hold`; 0 is the rest of the training.
    pub steps: usize,
}

impl Default for Guidance {
    fn default() -> Self {
        Self {
            form: GuidanceForm::Mix,
            schedule: ScheduleForm::Constant,
            over: GuidanceOver::Step,
            start: 1.0,
            end: 1.0,
            hold: 0,
            steps: 0,
        }
    }
}

/// The loss: terms and divisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Objective {
    /// Weight of the mean entropy (nats) of the soft inputs in the loss: above 0 sharpens them, below 0 spreads them.
    pub entropy_beta: f64,
    /// How the weight goes from `objective.entropy_start` to `objective.entropy_beta`; "constant" is `objective.entropy_beta` throughout.
    pub entropy_schedule: ScheduleForm,
    /// Weight of the entropy at the first step of a schedule.
    pub entropy_start: f64,
    /// Steps that stay at `objective.entropy_start` before the schedule begins.
    pub entropy_hold: usize,
    /// Steps of the schedule, after `objective.entropy_hold`; 0 is the rest of the training.
    pub entropy_steps: usize,
    /// Weight in the loss of what a soft position should be; 0 trains on the rest alone, whose gradient reaches the thoughts through what they feed.
    #[schemars(range(min = 0.0))]
    pub thought_weight: f64,
    /// What the sum of the losses is divided by.
    pub normalize: Normalize,
}

impl Default for Objective {
    fn default() -> Self {
        Self {
            entropy_beta: 0.0,
            entropy_schedule: ScheduleForm::default(),
            entropy_start: 0.0,
            entropy_hold: 0,
            entropy_steps: 0,
            thought_weight: 1.0,
            normalize: Normalize::default(),
        }
    }
}

/// Length of training, batch, optimizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Train {
    /// Optimizer steps. A run that goes on may have more or fewer: steps that are done stay as they were, and from there on every schedule that ends with the training is that of a run of the new length.
    #[schemars(range(min = 1))]
    pub steps: usize,
    /// Rows of one batch through the model.
    #[schemars(range(min = 1))]
    pub micro_batch: usize,
    /// Batches whose gradients make one optimizer step.
    #[schemars(range(min = 1))]
    pub grad_accum: usize,
    /// Largest learning rate of AdamW.
    #[schemars(range(min = 0.0))]
    pub lr: f64,
    /// Steps over which the learning rate grows from 0 to `train.lr`.
    pub warmup: usize,
    /// The learning rate after the warm-up.
    pub schedule: LrSchedule,
    /// Steps at the end over which a "wsd" schedule goes down.
    pub decay: usize,
    /// Learning rate at the last step of a schedule that goes down.
    #[schemars(range(min = 0.0))]
    pub min_lr: f64,
    /// Decoupled weight decay of AdamW.
    #[schemars(range(min = 0.0))]
    pub weight_decay: f64,
    /// Largest global norm of the gradients of a step; 0 is off.
    #[schemars(range(min = 0.0))]
    pub clip: f64,
    /// Scored positions whose logits "teacher" and "parallel" rollouts hold at once: less memory with a large vocabulary; 0 is all of a batch.
    pub loss_chunk: usize,
    /// Blocks whose activations "teacher" and "parallel" rollouts hold at once (gradient checkpointing): the backward pass computes those of each group of so many again, one more forward pass for far less memory; 0 holds all. No effect on the gradients, nor on "sequential" rollouts, which have `rollout.segment`.
    pub recompute: usize,
    /// Precision of activations and gradients in training. The weights that are trained, their optimizer's state and what is saved are "f32" in any case.
    pub precision: Precision,
    /// Regular expressions: only parameters whose name one of them matches are trained; empty is all that are not frozen otherwise. Names are such as "layers.0.self_attn.q_proj.weight", "embed_tokens" and "norm.weight".
    pub only: Vec<String>,
    /// Factors of the learning rate, each "regular expression, then a factor", as in "low_rank.b 16"; of several that match a name the last one counts.
    pub rates: Vec<String>,
}

impl Default for Train {
    fn default() -> Self {
        Self {
            steps: 1000,
            micro_batch: 16,
            grad_accum: 1,
            lr: 1e-3,
            warmup: 0,
            schedule: LrSchedule::Constant,
            decay: 0,
            min_lr: 0.0,
            weight_decay: 0.01,
            clip: 1.0,
            loss_chunk: 256,
            recompute: 0,
            precision: Precision::F32,
            only: Vec::new(),
            rates: Vec::new(),
        }
    }
}
