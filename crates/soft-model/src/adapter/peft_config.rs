//! `adapter_config.json` of Python PEFT: what it says, checked against a model, and how it is
//! written.

use serde_json::{Map, Value, json};

use super::Targets;
use super::additions::Branch;
use crate::config::{Family, ModelConfig};
use crate::linear::BranchSettings;

/// What a description asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    LowRank(Vec<Branch>),
    Prefix { tokens: usize },
    Prompt { tokens: usize },
}

/// Keys that every kind has and that say nothing about the computation.
const NEUTRAL: [&str; 9] = [
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "peft_type",
    "peft_version",
    "revision",
    "task_type",
    // Sizes and modules of features that other keys switch on.
    "megatron_core",
    "qalora_group_size",
];

/// Keys of LoRA that are read below.
const LOW_RANK: [&str; 11] = [
    "r",
    "lora_alpha",
    "target_modules",
    "lora_dropout",
    "use_rslora",
    "use_dora",
    "bias",
    "fan_in_fan_out",
    "init_lora_weights",
    "layers_to_transform",
    "lora_bias",
];

/// Keys of prompt learning that are read below, and those of how its values were once made.
const PROMPT_LEARNING: [&str; 12] = [
    "num_virtual_tokens",
    "token_dim",
    "num_layers",
    "num_attention_heads",
    "num_transformer_submodules",
    "encoder_hidden_size",
    "prefix_projection",
    "prompt_tuning_init",
    "prompt_tuning_init_text",
    "tokenizer_name_or_path",
    "tokenizer_kwargs",
    "init_weights",
];

/// Starts of LoRA that leave the base as it is.
const PLAIN_STARTS: [&str; 3] = ["gaussian", "orthogonal", "eva"];

/// Reads a description; all problems at once.
pub(super) fn read(json: &Value, model: &ModelConfig) -> Result<Kind, Vec<String>> {
    let Value::Object(object) = json else {
        return Err(vec![format!("found {}, expected an object", short(json))]);
    };
    if object.contains_key("lora_parameters") || object.contains_key("fine_tune_type") {
        return Err(vec![
            "this is an adapter of mlx-lm (it has `lora_parameters`), not of PEFT; expected \
             `peft_type`: fuse it with `mlx_lm.fuse` and give the fused model"
                .to_owned(),
        ]);
    }
    let mut reader = Reader { object, problems: Vec::new() };
    let kind = match object.get("peft_type").and_then(Value::as_str) {
        Some("LORA") => reader.low_rank(model),
        Some("PREFIX_TUNING") => reader.prompt_learning(model, true),
        Some("PROMPT_TUNING") => reader.prompt_learning(model, false),
        _ => {
            let found = object.get("peft_type").map_or("nothing".to_owned(), short);
            let expected = "expected \"LORA\", \"PREFIX_TUNING\" or \"PROMPT_TUNING\"";
            return Err(vec![format!("`peft_type`: found {found}, {expected}")]);
        }
    };
    match kind {
        Some(kind) if reader.problems.is_empty() => Ok(kind),
        _ => Err(reader.problems),
    }
}

struct Reader<'a> {
    object: &'a Map<String, Value>,
    problems: Vec<String>,
}

impl Reader<'_> {
    fn problem(&mut self, key: &str, expected: &str) {
        let found = self.object.get(key).map_or("nothing".to_owned(), short);
        self.problems.push(format!("`{key}`: found {found}, expected {expected}"));
    }

    fn given(&self, key: &str) -> Option<&Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn count(&mut self, key: &str) -> Option<usize> {
        let count = self.given(key).and_then(Value::as_u64);
        let count = count.and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
        if count.is_none() {
            self.problem(key, "a whole number, at least 1");
        }
        count
    }

    /// A number that must be a model's own where it is given.
    fn same(&mut self, key: &str, of_model: usize) {
        if self.given(key).is_some_and(|value| value.as_u64() != Some(of_model as u64)) {
            self.problem(key, &format!("{of_model}, as the base model has it"));
        }
    }

    fn flag(&mut self, key: &str) -> bool {
        match self.given(key) {
            None => false,
            Some(Value::Bool(flag)) => *flag,
            Some(_) => {
                self.problem(key, "true or false");
                false
            }
        }
    }

    fn number(&mut self, key: &str, expected: &str, fits: impl Fn(f64) -> bool) -> Option<f64> {
        let number = self.given(key).and_then(Value::as_f64).filter(|&number| fits(number));
        if number.is_none() {
            self.problem(key, expected);
        }
        number
    }

    /// Everything that is set and would change the computation in a way that is not read.
    fn foreign(&mut self, known: &[&str]) {
        let neutral = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(list) => list.is_empty(),
            Value::Object(object) => object.is_empty(),
            Value::Bool(true) | Value::Number(_) | Value::String(_) => false,
        };
        let set = self.object.iter().filter(|(key, value)| {
            !neutral(value) && !NEUTRAL.contains(&key.as_str()) && !known.contains(&key.as_str())
        });
        let problems: Vec<String> = set
            .map(|(key, value)| {
                format!("`{key}`: found {}, a feature that is not read here", short(value))
            })
            .collect();
        self.problems.extend(problems);
        if self.given("task_type").is_some_and(|task| task != "CAUSAL_LM") {
            self.problem("task_type", "\"CAUSAL_LM\"");
        }
    }

    fn low_rank(&mut self, model: &ModelConfig) -> Option<Kind> {
        self.foreign(&LOW_RANK);
        if model.family == Family::Gpt2 {
            let problem = "LoRA of PEFT on GPT-2 works on the fused `c_attn`, which is three \
                           projections here: merge it in PEFT and give the merged model";
            self.problems.push(problem.to_owned());
            return None;
        }
        let rank = self.count("r");
        let positive = |number: f64| number > 0.0 && number.is_finite();
        let alpha = self.number("lora_alpha", "a number above 0", positive);
        let dropout = match self.given("lora_dropout") {
            None => Some(0.0),
            Some(_) => {
                self.number("lora_dropout", "0 or more, below 1", |x| (0.0..1.0).contains(&x))
            }
        };
        let (rslora, dora) = (self.flag("use_rslora"), self.flag("use_dora"));
        if self.given("bias").is_some_and(|bias| bias != "none") {
            self.problem("bias", "\"none\": trained biases are not read");
        }
        for key in ["fan_in_fan_out", "lora_bias"] {
            if self.flag(key) {
                self.problem(key, "false");
            }
        }
        let plain_start = |value: &Value| match value {
            Value::Bool(_) => true,
            Value::String(name) => PLAIN_STARTS.contains(&name.as_str()),
            _ => false,
        };
        if self.given("init_lora_weights").is_some_and(|value| !plain_start(value)) {
            let expected = "true, false, \"gaussian\", \"orthogonal\" or \"eva\": other starts \
                            change the base model; save the adapter converted to plain LoRA";
            self.problem("init_lora_weights", expected);
        }
        let sites = self.sites(model);
        let settings = BranchSettings { alpha: alpha?, rslora, dropout: dropout? };
        let branch =
            |(layer, projection)| Some(Branch { layer, projection, rank: rank?, settings, dora });
        sites?.into_iter().map(branch).collect::<Option<Vec<_>>>().map(Kind::LowRank)
    }

    /// The projections that `target_modules` and `layers_to_transform` name.
    fn sites(&mut self, model: &ModelConfig) -> Option<Vec<(usize, super::Projection)>> {
        let expected = "a list of module names, or one regular expression";
        let targets = match self.given("target_modules") {
            Some(Value::String(name)) if name == "all-linear" => {
                Targets::parse(std::slice::from_ref(name))
            }
            Some(Value::String(pattern)) => Targets::pattern(pattern),
            Some(Value::Array(list)) if !list.is_empty() => {
                let names: Option<Vec<String>> =
                    list.iter().map(|name| name.as_str().map(str::to_owned)).collect();
                let Some(names) = names else {
                    self.problem("target_modules", expected);
                    return None;
                };
                Targets::parse(&names)
            }
            _ => {
                self.problem("target_modules", expected);
                return None;
            }
        };
        let layers = match self.given("layers_to_transform") {
            None => Some((0..model.n_layers as u64).collect()),
            Some(Value::Array(list)) => list.iter().map(Value::as_u64).collect::<Option<Vec<_>>>(),
            Some(one) => one.as_u64().map(|layer| vec![layer]),
        };
        let layers =
            layers.filter(|layers| layers.iter().all(|&layer| layer < model.n_layers as u64));
        let Some(layers) = layers else {
            let expected = format!("layers below {}", model.n_layers);
            self.problem("layers_to_transform", &expected);
            return None;
        };
        match targets.and_then(|targets| targets.sites(model)) {
            Ok(mut sites) => {
                sites.retain(|(layer, _)| layers.contains(&(*layer as u64)));
                if sites.is_empty() {
                    self.problem("target_modules", "at least one projection of the base model");
                }
                Some(sites).filter(|sites| !sites.is_empty())
            }
            Err(error) => {
                let text = error.to_string();
                let text = text.strip_prefix("generation settings: ").unwrap_or(&text);
                self.problems.push(format!("`target_modules`: {text}"));
                None
            }
        }
    }

    fn prompt_learning(&mut self, model: &ModelConfig, prefix: bool) -> Option<Kind> {
        self.foreign(&PROMPT_LEARNING);
        let tokens = self.count("num_virtual_tokens");
        if tokens.is_some_and(|tokens| tokens >= model.max_positions) {
            let expected = format!("at most {} for this model", model.max_positions - 1);
            self.problem("num_virtual_tokens", &expected);
        }
        self.same("num_transformer_submodules", 1);
        self.same("num_layers", model.n_layers);
        let heads_width = model.n_kv_heads * model.head_dim;
        self.same("token_dim", if prefix { heads_width } else { model.d_model });
        if prefix {
            self.same("num_attention_heads", model.n_kv_heads);
        }
        let tokens = tokens?;
        Some(if prefix { Kind::Prefix { tokens } } else { Kind::Prompt { tokens } })
    }
}

/// A value in an error: whole where it is short.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        None => text,
        Some((cut, _)) => format!("{} ...", &text[..cut]),
    }
}

/// The description of an adapter of this kind, as PEFT reads it.
pub(super) fn write(kind: &Kind, base_model: &str, model: &ModelConfig) -> Value {
    let kind_keys = match kind {
        Kind::LowRank(branches) => low_rank_keys(branches, model),
        Kind::Prefix { tokens } => json!({
            "encoder_hidden_size": model.n_kv_heads * model.head_dim,
            "num_attention_heads": model.n_kv_heads,
            "num_layers": model.n_layers,
            "num_transformer_submodules": 1,
            "num_virtual_tokens": tokens,
            "peft_type": "PREFIX_TUNING",
            "prefix_projection": false,
            "token_dim": model.n_kv_heads * model.head_dim,
        }),
        Kind::Prompt { tokens } => json!({
            "num_attention_heads": model.n_heads,
            "num_layers": model.n_layers,
            "num_transformer_submodules": 1,
            "num_virtual_tokens": tokens,
            "peft_type": "PROMPT_TUNING",
            "prompt_tuning_init": "RANDOM",
            "prompt_tuning_init_text": null,
            "token_dim": model.d_model,
            "tokenizer_name_or_path": null,
        }),
    };
    let mut object = Map::new();
    object.insert("auto_mapping".into(), Value::Null);
    object.insert("base_model_name_or_path".into(), json!(base_model));
    object.insert("inference_mode".into(), json!(true));
    object.insert("revision".into(), Value::Null);
    object.insert("task_type".into(), json!("CAUSAL_LM"));
    if let Value::Object(keys) = kind_keys {
        object.extend(keys);
    }
    Value::Object(object)
}

fn low_rank_keys(branches: &[Branch], model: &ModelConfig) -> Value {
    let (rank, settings, dora) = match branches.first() {
        Some(branch) => (branch.rank, branch.settings, branch.dora),
        None => (0, BranchSettings { alpha: 0.0, rslora: false, dropout: 0.0 }, false),
    };
    json!({
        "alpha_pattern": {},
        "bias": "none",
        "fan_in_fan_out": false,
        "init_lora_weights": true,
        "layers_pattern": null,
        "layers_to_transform": null,
        "lora_alpha": number(settings.alpha),
        "lora_dropout": settings.dropout,
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": {},
        "target_modules": target_modules(branches, model),
        "use_dora": dora,
        "use_rslora": settings.rslora,
    })
}

/// PEFT has a whole `lora_alpha` as an integer.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 { json!(value as i64) } else { json!(value) }
}

/// Names where every layer has the same projections, else whole module paths.
fn target_modules(branches: &[Branch], model: &ModelConfig) -> Vec<String> {
    let of_layer = |layer| {
        let own = branches.iter().filter(move |branch| branch.layer == layer);
        own.map(|branch| branch.projection.name()).collect::<Vec<_>>()
    };
    let first = of_layer(0);
    let mut names: Vec<String> = if (1..model.n_layers).all(|layer| of_layer(layer) == first) {
        first.into_iter().map(str::to_owned).collect()
    } else {
        let path = |branch: &Branch| branch.projection.path(model.family, branch.layer);
        branches.iter().map(path).collect()
    };
    names.sort();
    names
}
