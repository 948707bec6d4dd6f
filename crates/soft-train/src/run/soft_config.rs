//! The settings that a checkpoint gives to generation: those that its model was trained for.

use soft_model::Tokenizer;
use toml::{Table, Value};

use super::Problem;
use crate::config::{Active, Arm, Config, Cut, EstimatorKind, SoftInputs, SpanKind, TaskName};
use crate::example::Example;

/// Text of a checkpoint's `soft_config.toml`; `cut` is what its stage of a curriculum made of the
/// reasoning.
pub(super) fn soft_config(
    config: &Config,
    arm: Arm,
    cut: Option<Cut>,
    problem: &Problem,
    tokenizer: Option<&Tokenizer>,
) -> String {
    let mut table = Table::new();
    let is_soft = cut.is_none_or(|cut| cut.soft > 0);
    let thinks = arm == Arm::Soft && is_soft && has_thoughts(config, problem);
    table.insert("soft".to_owned(), if thinks { soft(config) } else { greedy() }.into());
    match (thinks, cut, config.task.name) {
        (true, Some(cut), name) => {
            table.insert("think".to_owned(), first(config, cut.soft, problem).into());
            if name.is_generated() {
                table.insert("answer".to_owned(), greedy().into());
            }
        }
        (true, None, name) if name.is_generated() => {
            let steps = match problem {
                Problem::Task(task) => task.max_steps(),
                Problem::Examples { .. } => 0,
            };
            table.insert("think".to_owned(), first(config, steps, problem).into());
            table.insert("answer".to_owned(), greedy().into());
        }
        (true, None, TaskName::Text) => {
            table.insert("think".to_owned(), think(config, problem, tokenizer).into());
        }
        _ => {}
    }
    if config.adapter.active == Active::Soft {
        let active = ("active".to_owned(), config.adapter.active.as_str().into());
        table.insert("adapter".to_owned(), Table::from_iter([active]).into());
    }
    let mut generate = Table::new();
    let max_new = match (problem, cut) {
        (Problem::Task(task), cut) => Some(task.max_new(arm, cut)),
        (Problem::Examples { .. }, _) => None,
    };
    if let Some(max_new) = max_new {
        generate.insert("max_new".to_owned(), (max_new as i64).into());
    }
    if config.task.name == TaskName::Text {
        generate.insert("chat".to_owned(), config.generate.chat.into());
    }
    if !generate.is_empty() {
        table.insert("generate".to_owned(), generate.into());
    }
    format!("# How the model of this checkpoint was trained to think.\n{table}")
}

/// Text without a soft input trains a model of tokens.
fn has_thoughts(config: &Config, problem: &Problem) -> bool {
    match problem {
        Problem::Examples { train, .. } if config.task.name == TaskName::Text => {
            train.iter().any(|example| example.soft_len() > 0)
        }
        _ => true,
    }
}

fn greedy() -> Table {
    Table::from_iter([
        ("mode".to_owned(), "hard".into()),
        ("temperature".to_owned(), Value::Float(0.0)),
    ])
}

fn soft(config: &Config) -> Table {
    let mut soft = Table::try_from(&config.soft).unwrap_or_default();
    let mode = match config.estimator.kind {
        EstimatorKind::Exact | EstimatorKind::Gumbel => "soft",
        // One token is fed.
        EstimatorKind::StraightThrough | EstimatorKind::RaoBlackwell => "hard",
    };
    soft.insert("mode".to_owned(), mode.into());
    if config.estimator.kind == EstimatorKind::Gumbel {
        let last = config.estimator.last_temperature(config.train.steps);
        soft.insert("noise".to_owned(), "gumbel".into());
        soft.insert("noise_temperature".to_owned(), last.into());
        if let Some(Value::Array(order)) = soft.get_mut("order")
            && !order.contains(&"noise".into())
        {
            order.push("noise".into());
        }
    }
    soft
}

/// Soft positions that come first in what is generated: those of a stage of a curriculum, or the
/// thoughts of a task.
fn first(config: &Config, soft: usize, problem: &Problem) -> Table {
    let mut think = Table::try_from(&config.think).unwrap_or_default();
    think.insert("span".to_owned(), SpanKind::First.as_str().into());
    think.insert("first".to_owned(), (soft as i64).into());
    // A task has no tags; a text has the opening one before its soft positions.
    let begins = matches!(problem, Problem::Examples { .. }) && !config.think.open.is_empty();
    think.insert("begin".to_owned(), begins.into());
    think
}

/// Where the thoughts lie that the examples have.
fn think(config: &Config, problem: &Problem, tokenizer: Option<&Tokenizer>) -> Table {
    let mut think = Table::try_from(&config.think).unwrap_or_default();
    let mut set = |key: &str, value: Value| think.insert(key.to_owned(), value);
    match config.data.soft {
        SoftInputs::First => {
            set("span", SpanKind::First.as_str().into());
            set("first", (config.data.soft_first as i64).into());
        }
        SoftInputs::All | SoftInputs::None => {
            set("span", SpanKind::Everywhere.as_str().into());
        }
        SoftInputs::Reasoning => {
            let tags = [&config.think.open, &config.think.close];
            let splits = |tag: &&String| {
                !tag.is_empty() && tokenizer.is_some_and(|known| known.token_id(tag).is_none())
            };
            set("span", SpanKind::Tags.as_str().into());
            set("split_tags", (config.think.split_tags || tags.iter().any(splits)).into());
            let begins = match problem {
                Problem::Examples { train, .. } => train.iter().any(begins_with_its_thought),
                Problem::Task(_) => false,
            };
            set("begin", (begins && !config.think.open.is_empty()).into());
        }
    }
    think
}

/// Whether the opening tag is part of the prompt: it is not scored, so it is not learned.
fn begins_with_its_thought(example: &Example) -> bool {
    let first = example.soft.iter().position(|&soft| soft);
    first.is_some_and(|first| first > 0 && example.weight[first - 1] == 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Loader;

    /// What generation starts from after a training with these settings on one example.
    fn loaded(settings: &str, soft: &[usize], prompt: usize) -> Config {
        let text = format!("task.name = \"text\"\nmodel.path = \"m\"\n{settings}");
        let config = Loader::new().text("my.toml", text).load().expect("valid settings").config;
        let mut example = Example::from_tokens(&[5, 6, 7, 8, 9, 10], prompt);
        soft.iter().for_each(|&t| example.soft[t] = true);
        let problem = Problem::Examples {
            train: vec![example],
            valid: Vec::new(),
            earlier: Vec::new(),
            notes: Vec::new(),
        };
        let written = soft_config(&config, Arm::Soft, None, &problem, None);
        Loader::new()
            .model(written.clone())
            .load()
            .unwrap_or_else(|e| panic!("{e}\n{written}"))
            .config
    }

    #[test]
    fn a_checkpoint_thinks_where_its_examples_did() {
        let tags = loaded("", &[3, 4], 3);
        assert_eq!((tags.think.span, tags.think.begin), (SpanKind::Tags, true));
        let opened = loaded("", &[3, 4], 2);
        assert!(!opened.think.begin, "the model learned to open its thought");
        let untagged = loaded("think.open = \"\"", &[3, 4], 3);
        assert!(!untagged.think.begin, "there is no tag to begin with");
        let first = loaded("data.soft = \"first\"\ndata.soft_first = 3", &[3, 4], 3);
        assert_eq!((first.think.span, first.think.first), (SpanKind::First, 3));
        let all = loaded("data.soft = \"all\"", &[3, 4, 5], 3);
        assert_eq!(all.think.span, SpanKind::Everywhere);
        for plain in [loaded("data.soft = \"none\"", &[], 3), loaded("", &[], 3)] {
            assert_eq!(plain.soft.mode, crate::config::Mode::Hard, "no thought was trained");
            assert_eq!(plain.think.span, SpanKind::Everywhere);
        }
        assert!(!loaded("generate.chat = false", &[3], 3).generate.chat);
    }

    #[test]
    fn a_checkpoint_of_a_curriculum_thinks_as_long_as_its_stage() {
        let settings = "task.name = \"mnns\"\ntask.digits = 3\nsoft.feed = \"hidden\"\n\
                        rollout.kind = \"sequential\"\nguidance.start = 0\n\
                        curriculum = {stages = 2, positions = 2, first = 5, steps = 5}";
        let config = Loader::new().text("my.toml", settings).load().expect("valid").config;
        let task = crate::task::Task::new(&config.task).expect("small").expect("a task");
        let problem = Problem::Task(Box::new(task));
        let of = |stage| {
            let cut = config.curriculum.cut(stage);
            let written = soft_config(&config, Arm::Soft, cut, &problem, None);
            Loader::new().model(written).load().expect("valid").config
        };
        let whole = of(0);
        assert_eq!((whole.soft.mode, whole.generate.max_new), (crate::config::Mode::Hard, 3));
        for (stage, soft, max_new) in [(1, 2, 4), (2, 4, 5)] {
            let of = of(stage);
            assert_eq!((of.think.span, of.think.first), (SpanKind::First, soft));
            assert_eq!(of.soft.feed, crate::config::FeedKind::Hidden);
            assert_eq!((of.generate.max_new, of.answer.temperature), (max_new, 0.0));
        }
    }

    #[test]
    fn a_checkpoint_is_fed_what_its_estimator_fed() {
        use crate::config::{Mode, NoiseKind};
        let gumbel = loaded(
            "estimator = {kind = \"gumbel\", schedule = \"linear\", end = 0.25}\nsoft.order = [\"temperature\"]",
            &[3],
            3,
        );
        assert_eq!((gumbel.soft.noise, gumbel.soft.noise_temperature), (NoiseKind::Gumbel, 0.25));
        assert_eq!(loaded("estimator.kind = \"straight_through\"", &[3], 3).soft.mode, Mode::Hard);
    }
}
