//! Settings that are each in range and contradict one another.

use soft_core::SoftPipeline;

use super::choices::{
    DataFormat, EntropyOf, EstimatorKind, ExtractKind, FeedKind, GateKind, LrSchedule, Mode,
    ModelFamily, NoiseKind, Preset, RolloutKind, ScheduleForm, SearchKind, SpanKind, Stage,
};
use super::error::{ConfigError, Problem};
use super::fields::fields;
use super::loader::Resolved;
use super::origin::Origin;
use super::sections::Soft;
use super::suggest;
use super::{Config, QUICKSTART_NAME, choices::Arm};
use crate::task::TaskName;

mod adapter;
mod curriculum;
mod full_width;
mod guard;
mod learnable;
mod rl;
mod task;

pub(crate) use adapter::adds;

type Place<'a> = &'a dyn Fn(&str) -> Origin;

/// What contradicts, leaving out what concerns a key in `broken`: its value is not the intended one.
pub(crate) fn contradictions(config: &Config, broken: &[String], place: Place<'_>) -> Vec<Problem> {
    let mut found = Vec::new();
    found.extend(model(config, place));
    found.extend(decoding(&config.soft, "soft", place));
    found.extend(decoding(&config.answer, "answer", place));
    found.extend(answer_preset(config, place));
    found.extend(answer_without_thoughts(config, place));
    found.extend(gate(config, place));
    found.extend(noisy_beams(config, place));
    found.extend(hidden_answer(config, place));
    found.extend(begun_thought(config, place));
    found.extend(evaluation(config, place));
    found.extend(schedules(config, place));
    found.extend(stages(config, place));
    found.extend(estimator(config, place));
    found.extend(learnable::contradictions(config, place));
    found.extend(parameters(config, place));
    found.extend(repeated("low_rank.targets", &config.low_rank.targets, place));
    found.extend(targets(config, place));
    found.extend(prefix_and_prompt(config, place));
    found.extend(adapter::active(config, place));
    found.extend(curriculum::curriculum(config, place));
    found.extend(task::size(config, place));
    found.extend(data_format(config, place));
    found.extend(samples(config, place));
    found.extend(arms(config, place));
    found.extend(full_width::contradictions(config, place));
    found.extend(guard::contradictions(config, place));
    found.extend(rl::contradictions(config, place));
    found.retain(|(keys, _)| !keys.iter().any(|key| broken.iter().any(|b| b == key)));
    found.into_iter().map(|(_, problem)| problem).collect()
}

type Found = (Vec<&'static str>, Problem);

/// A contradiction between `keys`, reported at the first of them that some source set.
fn found(place: Place<'_>, keys: &[&'static str], message: String) -> Found {
    let set = keys.iter().find(|key| place(key) != Origin::Default);
    let key = set.or(keys.first()).copied().unwrap_or_default();
    (keys.to_vec(), Problem::new(place(key), key, message))
}

/// Entries that a list holds more than once.
fn repeated<T: PartialEq + ToString>(
    key: &'static str,
    list: &[T],
    place: Place<'_>,
) -> Vec<Found> {
    let again = list.iter().enumerate().filter(|(i, entry)| list[..*i].contains(entry));
    again
        .map(|(_, entry)| {
            let word = entry.to_string();
            let message = format!("`{key}` holds {word:?} twice; expected each entry once");
            found(place, &[key], message)
        })
        .collect()
}

/// Targets that name nothing in any model, or are no regular expressions.
fn targets(config: &Config, place: Place<'_>) -> Option<Found> {
    // An empty list is out of range, and told as that.
    let targets = &config.low_rank.targets;
    let error = soft_model::Targets::parse(targets).err().filter(|_| !targets.is_empty())?;
    let text = error.to_string();
    let text = text.strip_prefix("generation settings: ").unwrap_or(&text);
    let known = soft_model::TARGETS.map(str::to_owned);
    let wrong = targets.iter().find(|target| text.contains(&format!("no projection {target:?}")));
    let near = wrong.and_then(|target| suggest::for_word(target, &known));
    let near = near.map_or_else(String::new, |near| format!("; {near}"));
    Some(found(place, &["low_rank.targets"], format!("`low_rank.targets`: {text}{near}")))
}

/// Both would be the first positions of the sequence.
fn prefix_and_prompt(config: &Config, place: Place<'_>) -> Option<Found> {
    let (prefix, prompt) = (config.prefix.tokens, config.prompt.tokens);
    (prefix > 0 && prompt > 0).then(|| {
        let message = format!(
            "`prompt.tokens` is {prompt} and `prefix.tokens` is {prefix}, and both are the first positions; expected one of them to be 0"
        );
        found(place, &["prompt.tokens", "prefix.tokens"], message)
    })
}

fn model(config: &Config, place: Place<'_>) -> Vec<Found> {
    let model = &config.model;
    if model.path.is_some() {
        return Vec::new();
    }
    let (d_model, n_heads) = (model.d_model, model.n_heads);
    let keys = ["model.n_heads", "model.d_model"];
    let mut problems = Vec::new();
    let low_rank = &config.low_rank;
    if model.family == ModelFamily::Gpt2
        && low_rank.rank > 0
        && low_rank.targets.iter().any(|target| target == "gate_proj")
    {
        let message = "`low_rank.targets` holds \"gate_proj\" and `model.family` is \"gpt2\", which has no gate; expected \"up_proj\" or \"down_proj\"";
        problems.push(found(place, &["low_rank.targets", "model.family"], message.into()));
    }
    if !d_model.is_multiple_of(n_heads) {
        let message = format!(
            "`model.n_heads` is {n_heads} and `model.d_model` is {d_model}; expected heads that divide the width"
        );
        problems.push(found(place, &keys, message));
    } else if model.family == ModelFamily::Llama && !(d_model / n_heads).is_multiple_of(2) {
        let message = format!(
            "`model.d_model` / `model.n_heads` is {}; expected an even head width for rotary positions",
            d_model / n_heads
        );
        problems.push(found(place, &keys, message));
    }
    problems
}

/// The full name of a key of `soft`, or of the same one of `answer`.
fn full(section: &str, leaf: &str) -> &'static str {
    let keys = &fields().keys;
    keys.get_key_value(&format!("{section}.{leaf}")).map_or("", |(key, _)| key.as_str())
}

fn answer_preset(config: &Config, place: Place<'_>) -> Option<Found> {
    let preset = config.answer.preset;
    (preset != Preset::None).then(|| {
        let message = format!(
            "`answer.preset` is {:?}; expected it as `soft.preset`, which sets `answer` too",
            preset.as_str()
        );
        found(place, &["answer.preset"], message)
    })
}

/// An answer that differs from the defaults where every position is a thought.
fn answer_without_thoughts(config: &Config, place: Place<'_>) -> Option<Found> {
    let unread = config.think.span == SpanKind::Everywhere
        && config.gate.kind == GateKind::Open
        && config.answer != Config::default().answer
        && config.answer.preset == Preset::None;
    unread.then(|| {
        let keys: Vec<&'static str> =
            fields().keys.keys().map(String::as_str).filter(|k| k.starts_with("answer.")).collect();
        let set = keys.iter().find(|key| place(key) != Origin::Default).unwrap_or(&keys[0]);
        let message = format!(
            "`{set}` is set and `think.span` is \"everywhere\", which leaves no answer; expected \"first\" or \"tags\", or a gate"
        );
        found(place, &[set, "think.span"], message)
    })
}

/// A switch without a tag to close the thought with, or a share beside another unit.
fn gate(config: &Config, place: Place<'_>) -> Vec<Found> {
    let gate = &config.gate;
    let mut problems = Vec::new();
    let tags = config.think.span == SpanKind::Tags;
    if gate.kind == GateKind::Switch && gate.max_switches > 0 && !tags {
        let message = format!(
            "`gate.max_switches` is {} and `think.span` is {:?}, which has no tag to close the thought with; expected \"tags\"",
            gate.max_switches,
            config.think.span.as_str()
        );
        problems.push(found(place, &["gate.max_switches", "think.span"], message));
    }
    let share = gate.kind == GateKind::Entropy && gate.entropy == EntropyOf::Kept;
    if share && gate.threshold > 1.0 {
        let message = format!(
            "`gate.threshold` is {} and `gate.entropy` is \"kept\", a share; expected a number from 0 to 1",
            gate.threshold
        );
        problems.push(found(place, &["gate.threshold", "gate.entropy"], message));
    }
    if gate.kind != GateKind::Open && config.soft.mode == Mode::Hard {
        let message = format!(
            "`gate.kind` is {:?} and `soft.mode` is \"hard\", which leaves nothing to choose; expected \"soft\"",
            gate.kind.as_str()
        );
        problems.push(found(place, &["gate.kind", "soft.mode"], message));
    }
    let search = config.search.kind;
    if search != SearchKind::None && config.soft.temperature == 0.0 {
        let message = format!(
            "`search.kind` is {:?} and `soft.temperature` is 0, at which all continuations are one; expected a temperature above 0",
            search.as_str()
        );
        problems.push(found(place, &["search.kind", "soft.temperature"], message));
    }
    let beams = !matches!(search, SearchKind::None | SearchKind::Vote);
    if beams && gate.kind != GateKind::Open {
        let message = format!(
            "`search.kind` is {:?} and `gate.kind` is {:?}; expected \"open\": beams have no gate",
            search.as_str(),
            gate.kind.as_str()
        );
        problems.push(found(place, &["search.kind", "gate.kind"], message));
    }
    if beams && config.soft.feed != FeedKind::Mixture {
        let message = format!(
            "`search.kind` is {:?} and `soft.feed` is {:?}; expected \"mixture\": beams say themselves what they feed",
            search.as_str(),
            config.soft.feed.as_str()
        );
        problems.push(found(place, &["search.kind", "soft.feed"], message));
    }
    problems
}

/// Noise that beams leave out.
fn noisy_beams(config: &Config, place: Place<'_>) -> Option<Found> {
    let beams = !matches!(config.search.kind, SearchKind::None | SearchKind::Vote);
    (beams && config.soft.noise != NoiseKind::None).then(|| {
        let message = format!(
            "`search.kind` is {:?} and `soft.noise` is {:?}; expected \"none\": beams draw nothing",
            config.search.kind.as_str(),
            config.soft.noise.as_str()
        );
        found(place, &["search.kind", "soft.noise"], message)
    })
}

/// A thought that is begun without a tag.
fn begun_thought(config: &Config, place: Place<'_>) -> Option<Found> {
    let think = &config.think;
    let tagged = think.span != SpanKind::Everywhere && !think.open.is_empty();
    (think.begin && !tagged).then(|| {
        let message = format!(
            "`think.begin` is true, `think.span` is {:?} and `think.open` is {:?}; expected \"first\" or \"tags\", and a tag to put after the prompt",
            think.span.as_str(),
            think.open
        );
        found(place, &["think.begin", "think.span", "think.open"], message)
    })
}

fn hidden_answer(config: &Config, place: Place<'_>) -> Option<Found> {
    (config.answer.feed == FeedKind::Hidden).then(|| {
        let message =
            "`answer.feed` is \"hidden\"; expected it as `soft.feed`: an answer is made of tokens";
        found(place, &["answer.feed"], message.into())
    })
}

fn evaluation(config: &Config, place: Place<'_>) -> Vec<Found> {
    let eval = &config.eval;
    let mut problems = repeated("eval.controls", &eval.controls, place);
    if config.task.name.is_generated() && !eval.text.as_slice().is_empty() {
        let message = format!(
            "`eval.text` is set and `task.name` is \"{}\", whose vocabulary has no words; expected the task \"text\" or \"ids\", or no text",
            config.task.name
        );
        problems.push(found(place, &["eval.text", "task.name"], message));
    }
    match (eval.extract, eval.pattern.is_empty()) {
        (ExtractKind::Regex, true) => {
            let message = "`eval.extract` is \"regex\" and `eval.pattern` is empty; expected a regular expression";
            problems.push(found(place, &["eval.pattern", "eval.extract"], message.into()));
        }
        (ExtractKind::Regex, false) | (_, true) => {}
        (other, false) => {
            let message = format!(
                "`eval.pattern` is set and `eval.extract` is {:?}; expected \"regex\"",
                other.as_str()
            );
            problems.push(found(place, &["eval.pattern", "eval.extract"], message));
        }
    }
    problems
}

fn decoding(soft: &Soft, section: &str, place: Place<'_>) -> Vec<Found> {
    let key = |leaf| full(section, leaf);
    let mut problems = Vec::new();
    problems.extend(repeated(key("order"), &soft.order, place));
    let stages = [
        (Stage::Temperature, "temperature", soft.temperature.to_string(), soft.temperature != 1.0),
        (Stage::TopK, "top_k", soft.top_k.to_string(), soft.top_k != 0),
        (Stage::TopP, "top_p", soft.top_p.to_string(), soft.top_p < 1.0),
        (Stage::MinP, "min_p", soft.min_p.to_string(), soft.min_p > 0.0),
        (
            Stage::Noise,
            "noise",
            format!("{:?}", soft.noise.as_str()),
            soft.noise != NoiseKind::None,
        ),
    ];
    for (stage, leaf, value, on) in stages {
        if on && !soft.order.contains(&stage) {
            let message = format!(
                "`{}` is {value} and `{}` leaves {:?} out; expected it there, or off",
                key(leaf),
                key("order"),
                stage.as_str()
            );
            problems.push(found(place, &[key(leaf), key("order")], message));
        }
    }
    // The rest of what the pipeline itself demands.
    if let (true, Err(error)) = (problems.is_empty(), SoftPipeline::new(soft.pipeline())) {
        let key = key(match &error {
            soft_core::Error::OutOfRange { name, .. } => name,
            soft_core::Error::NoiseBesideDraws => "feed",
            _ => "order",
        });
        problems.push(found(place, &[key], format!("`{key}`: {error}")));
    }
    problems
}

fn schedules(config: &Config, place: Place<'_>) -> Vec<Found> {
    let (guidance, train, objective) = (&config.guidance, &config.train, &config.objective);
    let mut problems = Vec::new();
    let moves = place("guidance.end") != Origin::Default && guidance.end != guidance.start;
    if guidance.schedule == ScheduleForm::Constant && moves {
        let message = format!(
            "`guidance.end` is {} and `guidance.schedule` is \"constant\", which stays at {}; expected \"linear\", \"cosine\" or \"inverse_sigmoid\"",
            guidance.end, guidance.start
        );
        problems.push(found(place, &["guidance.end", "guidance.schedule"], message));
    }
    if train.schedule != LrSchedule::Constant && train.min_lr > train.lr {
        let message = format!(
            "`train.min_lr` is {} and `train.lr` is {}; expected a smaller one",
            train.min_lr, train.lr
        );
        problems.push(found(place, &["train.min_lr", "train.lr"], message));
    }
    let starts = objective.entropy_start != 0.0;
    if objective.entropy_schedule == ScheduleForm::Constant && starts {
        let message = format!(
            "`objective.entropy_start` is {} and `objective.entropy_schedule` is \"constant\", which is `objective.entropy_beta` throughout; expected \"linear\", \"cosine\" or \"inverse_sigmoid\"",
            objective.entropy_start
        );
        let keys = ["objective.entropy_start", "objective.entropy_schedule"];
        problems.push(found(place, &keys, message));
    }
    let decays = train.schedule == LrSchedule::WarmupStableDecay;
    if decays != (train.decay > 0) {
        let message = format!(
            "`train.decay` is {} and `train.schedule` is {:?}; expected a decay over 0 with \"wsd\", and 0 with the others",
            train.decay,
            train.schedule.as_str()
        );
        problems.push(found(place, &["train.decay", "train.schedule"], message));
    } else if decays && train.warmup + train.decay > train.steps {
        let message = format!(
            "`train.warmup` and `train.decay` are {} steps together, of {} in `train.steps`",
            train.warmup + train.decay,
            train.steps
        );
        problems.push(found(place, &["train.decay", "train.warmup", "train.steps"], message));
    }
    problems
}

/// An estimator that draws beside noise or draws of the pipeline, or a schedule that is off.
fn estimator(config: &Config, place: Place<'_>) -> Vec<Found> {
    let (estimator, soft) = (&config.estimator, &config.soft);
    let mut problems = Vec::new();
    if estimator.kind != EstimatorKind::Exact {
        let kind = estimator.kind.as_str();
        if soft.noise != NoiseKind::None || soft.feed != FeedKind::Mixture {
            let message = format!(
                "`estimator.kind` is {kind:?}, `soft.noise` is {:?} and `soft.feed` is {:?}; expected \"none\" and \"mixture\": the estimator draws itself",
                soft.noise.as_str(),
                soft.feed.as_str()
            );
            problems.push(found(place, &["estimator.kind", "soft.noise", "soft.feed"], message));
        }
        if soft.temperature == 0.0 {
            let message = format!(
                "`estimator.kind` is {kind:?} and `soft.temperature` is 0, which leaves nothing to draw; expected a temperature above 0"
            );
            problems.push(found(place, &["estimator.kind", "soft.temperature"], message));
        }
    }
    let moves = place("estimator.end") != Origin::Default && estimator.end != estimator.start;
    if estimator.schedule == ScheduleForm::Constant && moves {
        let message = format!(
            "`estimator.end` is {} and `estimator.schedule` is \"constant\", which stays at {}; expected \"linear\", \"cosine\" or \"inverse_sigmoid\"",
            estimator.end, estimator.start
        );
        problems.push(found(place, &["estimator.end", "estimator.schedule"], message));
    }
    problems
}

/// Patterns of parameters that cannot be read, and new tokens without a model to add them to.
fn parameters(config: &Config, place: Place<'_>) -> Vec<Found> {
    let mut problems = Vec::new();
    for text in &config.train.only {
        if let Err(error) = regex::Regex::new(text) {
            let message =
                format!("`train.only` holds {text:?}, which is no regular expression: {error}");
            problems.push(found(place, &["train.only"], message));
        }
    }
    if let Err(message) = config.train.rate_factors() {
        problems.push(found(place, &["train.rates"], message));
    }
    if !config.model.new_tokens.is_empty() && config.model.path.is_none() {
        let message = "`model.new_tokens` is set and `model.path` is not; expected a model with a tokenizer to add them to";
        problems.push(found(place, &["model.new_tokens", "model.path"], message.into()));
    }
    problems.extend(repeated("model.new_tokens", &config.model.new_tokens, place));
    problems
}

/// Stages that cannot be read, or a kind beside them.
fn stages(config: &Config, place: Place<'_>) -> Option<Found> {
    let rollout = &config.rollout;
    if let Err(message) = rollout.plan() {
        return Some(found(place, &["rollout.stages"], message));
    }
    (!rollout.stages.is_empty() && rollout.kind != RolloutKind::default()).then(|| {
        let message = format!(
            "`rollout.kind` is {:?} and `rollout.stages` names the kinds; expected one of the two",
            rollout.kind.as_str()
        );
        found(place, &["rollout.kind", "rollout.stages"], message)
    })
}

/// A format of text for the task that takes ids.
fn data_format(config: &Config, place: Place<'_>) -> Option<Found> {
    let format = config.data.format;
    let is_text = !matches!(format, DataFormat::Auto | DataFormat::Ids);
    (config.task.name == TaskName::Ids && is_text).then(|| {
        let message = format!(
            "`data.format` is {:?} and `task.name` is \"ids\"; expected the format \"ids\", or `task.name` \"text\"",
            format.as_str()
        );
        found(place, &["data.format", "task.name"], message)
    })
}

/// Prompts to continue, and no held-out examples to take them from.
fn samples(config: &Config, place: Place<'_>) -> Option<Found> {
    let reads_files = matches!(config.task.name, TaskName::Ids | TaskName::Text);
    let lacks = reads_files && config.data.valid.as_slice().is_empty();
    (config.eval.samples > 0 && lacks).then(|| {
        let message = "`eval.samples` is set and `data.valid` is not; expected a file of held-out examples to take prompts from";
        found(place, &["eval.samples", "data.valid"], message.into())
    })
}

fn arms(config: &Config, place: Place<'_>) -> Vec<Found> {
    let arms = &config.eval.arms;
    let mut problems = Vec::new();
    // The quickstart's own arms are for its task: a file of ids may take the place of that.
    let built_in =
        matches!(place("eval.arms"), Origin::File { name, .. } if name == QUICKSTART_NAME);
    let says = match config.task.name {
        TaskName::Ids => Some("whose lines say themselves which inputs are soft"),
        TaskName::Text => Some("where `data.soft` says which inputs are soft"),
        _ => None,
    };
    if let (Some(says), false) = (says, built_in || arms[..] == [Arm::Soft]) {
        let message = format!(
            "`eval.arms` holds other arms than \"soft\" and `task.name` is {:?}, {says}; expected [\"soft\"]",
            config.task.name.as_str()
        );
        problems.push(found(place, &["eval.arms", "task.name"], message));
    }
    problems.extend(repeated("eval.arms", arms, place));
    if arms.contains(&Arm::SoftFedHard) && !arms.contains(&Arm::Soft) {
        let message = "`eval.arms` holds \"soft_fed_hard\" without \"soft\"; expected both, for it is the model of the soft arm";
        problems.push(found(place, &["eval.arms"], message.into()));
    }
    problems
}

impl Config {
    /// Checks a configuration that was not loaded: every range and every contradiction.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let table = self.try_table().map_err(|error| ConfigError {
            problems: vec![Problem::at(
                Origin::Default,
                format!("a value does not fit TOML: {error}"),
            )],
        })?;
        let mut problems = Vec::new();
        for (key, field) in &fields().keys {
            let (section, leaf) = key.split_once('.').unwrap_or(("", key));
            let Some(value) = table.get(section).and_then(|s| s.get(leaf)) else { continue };
            if field.kind.accept(value).is_none() {
                let message = format!("`{key}` is {value}; expected {}", field.kind);
                problems.push(Problem::new(Origin::Default, key, message));
            }
        }
        let broken: Vec<_> = problems.iter().filter_map(|p| p.key.clone()).collect();
        problems.extend(contradictions(self, &broken, &|_| Origin::Default));
        ConfigError::check(problems)
    }
}

impl Resolved {
    /// Checks that there is something to train on, which a configuration for generation need not have.
    ///
    /// # Errors
    /// No task, or a task on files without files.
    pub fn require_training(&self) -> Result<(), ConfigError> {
        let config = &self.config;
        let problem = |key: &str, message: &str| Problem::new(self.origin(key), key, message);
        let mut problems = Vec::new();
        match config.task.name {
            TaskName::None => problems.push(problem(
                "task.name",
                "`task.name` is \"none\"; expected a task to train on, \"mnns\", \"ids\" or \"text\"",
            )),
            name @ (TaskName::Ids | TaskName::Text) if config.data.train.is_empty() => {
                let message = format!(
                    "`data.train` is empty; expected files, for `task.name` is {:?}",
                    name.as_str()
                );
                problems.push(problem("data.train", &message));
            }
            _ => {}
        }
        if config.task.name == TaskName::Text && config.model.path.is_none() {
            let message = "`model.path` is not set and `task.name` is \"text\", which needs a tokenizer; expected a model";
            problems.push(problem("model.path", message));
        }
        if config.model.adapter.is_some() {
            let message = "`model.adapter` is set, which is for generation and evaluation; expected a model that holds it: `soft merge` makes one";
            problems.push(problem("model.adapter", message));
        }
        if let Some(message) = guard::hard_mode(config) {
            problems.push(problem("soft.mode", &message));
        }
        if let Some(message) = adapter::nothing_added(config) {
            problems.push(problem("adapter.active", message));
        }
        let hidden = curriculum::hidden(config);
        problems.extend(hidden.iter().map(|(key, message)| problem(key, message)));
        ConfigError::check(problems)
    }
}
