//! What holds for every configuration.

use std::path::Path;

use super::super::{
    Arm, Config, FeedKind, Loader, Mode, Origin, Paths, Preset, QUICKSTART, SpanKind, Stage,
    TaskName, fields, json_schema,
};
use super::{config, load};

#[test]
fn a_later_source_wins_and_every_value_knows_its_source() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base.toml");
    let file = folder.path().join("file.toml");
    // Each source sets its own key and those of all sources above it.
    let keys = ["log.every", "save.keep", "save.every", "eval.every", "eval.limit", "train.steps"];
    let setting = |i: usize, level: i64| format!("{}={level}", keys[i]);
    let text = |level: usize| -> String {
        (level..keys.len()).map(|i| setting(i, level as i64 + 1) + "\n").collect()
    };
    std::fs::write(&base, text(1)).unwrap();
    std::fs::write(&file, format!("extends = \"base.toml\"\n{}", text(2))).unwrap();
    let load = |levels: usize| {
        let mut loader = Loader::new();
        if levels > 0 {
            loader = loader.model(text(0));
        }
        if levels > 1 {
            loader = loader.file(if levels > 2 { &file } else { &base });
        }
        // The calls are in the wrong order on purpose.
        if levels > 5 {
            loader = loader.flag("--steps", keys[5], 6);
        }
        if levels > 4 {
            loader = loader.overrides([setting(4, 5), setting(5, 5)]);
        }
        if levels > 3 {
            for key in &keys[3..] {
                loader = loader.environment("SOFT_X", key, 4);
            }
        }
        loader.load().unwrap()
    };
    for levels in 0..=6 {
        let resolved = load(levels);
        let table = toml::Table::try_from(&resolved.config).unwrap();
        let defaults = toml::Table::try_from(Config::default()).unwrap();
        for (i, key) in keys.iter().enumerate() {
            let (section, leaf) = key.split_once('.').unwrap();
            let expected = match (i + 1).min(levels) {
                0 => defaults[section][leaf].clone(),
                level => toml::Value::Integer(level as i64),
            };
            assert_eq!(table[section][leaf], expected, "{key} with {levels} sources");
        }
    }
    let resolved = load(6);
    let named =
        |path: &Path, line, column| Origin::File { name: path.display().to_string(), line, column };
    assert_eq!(
        resolved.origin(keys[0]),
        Origin::File { name: "model".into(), line: 1, column: 11 }
    );
    assert_eq!(resolved.origin(keys[1]), named(&base, 1, 11));
    assert_eq!(resolved.origin(keys[2]), named(&file, 2, 12));
    assert_eq!(resolved.origin(keys[3]), Origin::Environment("SOFT_X".into()));
    assert_eq!(resolved.origin(keys[4]), Origin::Override);
    assert_eq!(resolved.origin(keys[5]), Origin::Flag("--steps".into()));
    assert_eq!(resolved.origin("train.lr"), Origin::Default);
}

#[test]
fn resolved_toml_read_back_is_the_same_configuration() {
    let mut full = Config::default();
    full.model.path = Some("a \"quoted\" päth\\x".into());
    full.data.train = Paths::One("x.jsonl".into());
    full.data.valid = Paths::Many(vec!["y.jsonl".into(), "z.jsonl".into()]);
    full.soft.temperature = 0.1 + 0.2;
    full.train.lr = 1e-4;
    full.soft.mode = Mode::Hard;
    full.soft.order = vec![Stage::Noise, Stage::Temperature];
    full.eval.arms = vec![Arm::Soft, Arm::SoftFedHard];
    full.run.seed = i64::MAX as u64;
    for original in [Config::default(), full, config(QUICKSTART)] {
        let text = original.to_toml();
        let again = config(&text);
        assert_eq!(again, original);
        assert_eq!(again.to_toml(), text);
        assert_eq!(again.config_hash(), original.config_hash());
        let shown = load(&text).unwrap().with_origins(true);
        assert_eq!(config(&shown), original, "what `config show` prints is a configuration");
    }
}

#[test]
fn the_hash_changes_with_every_value() {
    let mut other = Config::default();
    other.soft.min_p = 1e-9;
    assert_ne!(other.config_hash(), Config::default().config_hash());
}

/// Keys that are set or not.
const WITHOUT_DEFAULT: [&str; 2] = ["model.path", "model.adapter"];

#[test]
fn every_section_and_key_has_a_meaning_and_a_default_that_it_accepts() {
    let known = fields();
    assert_eq!(known.sections.len(), 27);
    assert_eq!(known.keys.len(), 216);
    for (section, doc) in &known.sections {
        assert!(doc.ends_with('.'), "[{section}] has no sentence: {doc:?}");
    }
    for (key, field) in &known.keys {
        assert!(field.doc.ends_with('.'), "{key} has no sentence: {:?}", field.doc);
        assert_eq!(key.matches('.').count(), 1, "{key} is not section.key");
        for (word, doc) in &field.words {
            assert!(doc.ends_with('.'), "{key} = {word:?} has no sentence: {doc:?}");
        }
        match &field.default {
            Some(value) => assert_eq!(field.kind.accept(value).as_ref(), Some(value), "{key}"),
            None => assert!(WITHOUT_DEFAULT.contains(&key.as_str()), "{key}"),
        }
    }
}

#[test]
fn values_of_overrides_are_toml_and_a_bare_word_is_a_string() {
    let settings = [
        "soft.mode=hard",
        "run.name = a=b",
        "train.lr=1",
        "data.train=a/b c.jsonl",
        "data.valid=[\"x\", \"y\"]",
        "generate.chat=false",
        "model.path=\"quoted\"",
        "save={every=7, keep=3}",
        "train.steps=1_000",
        "run.dir=",
    ];
    let config = Loader::new().overrides(settings).load().unwrap().config;
    assert_eq!(config.soft.mode, Mode::Hard);
    assert_eq!(config.run.name, "a=b");
    assert_eq!(config.train.lr, 1.0);
    assert_eq!(config.data.train.as_slice(), ["a/b c.jsonl"]);
    assert_eq!(config.data.valid.as_slice(), ["x", "y"]);
    assert!(!config.generate.chat);
    assert_eq!(config.model.path.as_deref(), Some("quoted"));
    assert_eq!((config.save.every, config.save.keep), (7, 3));
    assert_eq!(config.train.steps, 1000);
    assert_eq!(config.run.dir, "");
    let error = Loader::new().overrides(["run.name=\"x\"\ntrain.steps=1"]).load();
    assert_eq!(error.unwrap().config.train.steps, 1000, "an override sets one key");
}

#[test]
fn the_contract_keys_have_their_defaults() {
    let soft = Config::default().soft;
    assert_eq!((soft.mode, soft.temperature, soft.top_k), (Mode::Soft, 1.0, 0));
    assert_eq!((soft.top_p, soft.min_p, soft.max_top_k), (1.0, 0.0, 0));
    let order: Vec<_> = soft.order.iter().map(|stage| stage.as_str()).collect();
    assert_eq!(order, ["temperature", "top_k", "top_p", "min_p", "noise"]);
    for key in [
        "run.name",
        "run.dir",
        "run.seed",
        "run.device",
        "save.every",
        "save.keep",
        "log.every",
        "soft.noise",
        "generate.max_new",
        "generate.ignore_eos",
        "generate.chat",
        "task.name",
        "task.digits",
        "task.digit_max",
        "model.path",
        "model.n_layers",
        "model.n_heads",
        "model.d_model",
        "model.dropout",
        "data.train",
        "data.valid",
        "data.format",
        "rollout.kind",
        "rollout.passes",
        "rollout.grad_passes",
        "rollout.segment",
        "rollout.truncate",
        "guidance.form",
        "guidance.schedule",
        "guidance.start",
        "guidance.end",
        "guidance.hold",
        "guidance.steps",
        "objective.entropy_beta",
        "objective.normalize",
        "train.steps",
        "train.micro_batch",
        "train.grad_accum",
        "train.lr",
        "train.warmup",
        "train.clip",
        "eval.limit",
        "eval.arms",
    ] {
        assert!(fields().keys.contains_key(key), "{key}");
    }
}

#[test]
fn t31_every_shipped_configuration_loads_and_trains_something() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# "), "{} does not open with its command", path.display());
        let resolved = Loader::new().file(&path).load().unwrap_or_else(|e| panic!("{e}"));
        match resolved.config.eval.compare.is_empty() {
            true => resolved.require_training().unwrap_or_else(|e| panic!("{e}")),
            false => {
                let load =
                    |settings: &[String]| Loader::new().file(&path).overrides(settings).load();
                crate::comparison::arms(&resolved.config, &load).unwrap_or_else(|e| panic!("{e}"));
            }
        }
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert_eq!(resolved.config.run.name, stem, "a run is named after its file");
        names.push(stem);
    }
    names.sort();
    assert_eq!(
        names,
        [
            "mnns-coconut",
            "mnns-hard",
            "mnns-learned",
            "mnns-no-thought",
            "mnns-rewards",
            "mnns-soft",
            "multiplication-2x2",
            "prosqa-small",
            "quickstart",
            "smollm2-gsm-grpo",
            "smollm2-gsm-lora",
            "smollm2-gsm-prefix",
            "smollm2-thinking",
        ]
    );
}

#[test]
fn the_quickstart_compares_all_four_arms() {
    let quickstart = config(QUICKSTART);
    assert_eq!(quickstart.eval.arms, [Arm::Soft, Arm::Hard, Arm::NoThought, Arm::SoftFedHard]);
    assert_eq!(quickstart.task.name, TaskName::Mnns);
}

#[test]
fn the_keys_of_low_rank_reach_the_branches() {
    assert_eq!(Config::default().low_rank.spec(), None);
    let text = "[low_rank]\nrank = 4\nalpha = 8.0\ntargets = ['all-linear']\ndropout = 0.1\nrslora = true\ndora = true";
    let spec = soft_model::LowRankSpec {
        rank: 4,
        alpha: 8.0,
        targets: vec!["all-linear".into()],
        dropout: 0.1,
        rslora: true,
        dora: true,
    };
    assert_eq!(config(text).low_rank.spec(), Some(spec));
}

#[test]
fn the_default_pipeline_is_that_of_soft_core() {
    let default = soft_core::PipelineConfig::default();
    assert_eq!(Config::default().soft.pipeline(), default);
    let soft = config("[soft]\ntemperature = 0.6\ntop_k = 30\ntop_p = 0.95\nmin_p = 0.001\nmax_top_k = 10\nnoise = \"gumbel\"\norder = [\"top_k\", \"temperature\", \"min_p\", \"top_p\", \"noise\"]").soft;
    use soft_core::{Noise, Transform};
    let expected = soft_core::PipelineConfig {
        temperature: 0.6,
        top_k: 30,
        top_p: 0.95,
        min_p: 0.001,
        max_top_k: 10,
        noise: Noise::Gumbel { temperature: 0.5 },
        order: vec![
            Transform::TopK,
            Transform::Temperature,
            Transform::MinP,
            Transform::TopP,
            Transform::Noise,
        ],
        ..soft_core::PipelineConfig::default()
    };
    assert_eq!(soft.pipeline(), expected);
}

#[test]
fn feeding_norm_matching_and_cold_stop_reach_the_pipeline() {
    use soft_core::{Feed, Noise, NormMatch};
    let soft = |text: &str| config(&format!("[soft]\n{text}")).soft;
    let pipeline = |text: &str| soft(text).pipeline();
    let noise = pipeline("noise = \"dirichlet\"\nnoise_concentration = 2.5").noise;
    assert_eq!(noise, Noise::Dirichlet { concentration: 2.5 });
    assert_eq!(pipeline("feed = \"inputs\"\nbeta = 0.5").feed, Feed::Inputs { beta: 0.5 });
    assert_eq!(pipeline("feed = \"samples\"").feed, Feed::Samples { count: 3 });
    assert_eq!(pipeline("norm_match = \"l2\"").norm_match, NormMatch::L2);
    assert_eq!(pipeline("norm_match = \"rms\"").norm_match, NormMatch::Rms);
    assert_eq!(soft("").cold_stop(), None);
    let cold = soft("cold_stop = true\ncold_stop_length = 7").cold_stop().expect("on");
    assert_eq!((cold.entropy, cold.length), (0.01, 7));
}

#[test]
fn a_preset_is_under_every_source_but_the_model() {
    // The preset of a model is in its values already.
    let own = "[soft]\npreset = \"multiplex\"\ntop_k = 7\nmin_p = 0.5\n";
    let file = "[soft]\npreset = \"soft-thinking\"\ntop_p = 0.5\n";
    let load = |overrides: &[&str]| {
        Loader::new().model(own).text("my.toml", file).overrides(overrides).load().unwrap()
    };
    let resolved = load(&["soft.max_top_k=4"]);
    let soft = &resolved.config.soft;
    assert_eq!((soft.top_k, soft.top_p, soft.min_p, soft.max_top_k), (30, 0.5, 0.001, 4));
    assert_eq!(resolved.config.think.span, SpanKind::Tags);
    assert_eq!((resolved.config.answer.mode, resolved.config.answer.top_k), (Mode::Hard, 30));
    assert!(resolved.origin("soft.top_k").to_string().starts_with("preset soft-thinking:"));
    let none = load(&["soft.preset=none"]);
    assert_eq!((none.config.soft.top_k, none.config.soft.top_p), (7, 0.5));
    let again = Loader::new().text("a", resolved.config.to_toml()).load().unwrap();
    assert_eq!(again.config, resolved.config);
    let alone = Loader::new().model(own).load().unwrap().config;
    assert_eq!((alone.soft.top_k, alone.soft.feed), (7, FeedKind::Mixture));
    assert_eq!(alone.think.span, SpanKind::Everywhere);
}

#[test]
fn every_preset_loads_and_differs_from_the_defaults() {
    for preset in Preset::ALL {
        let loaded = config(&format!("[soft]\npreset = \"{preset}\""));
        let mut plain = Config::default();
        plain.soft.preset = preset;
        assert_ne!(loaded, plain, "{preset}");
        assert!(preset.toml().starts_with("# ") && preset.toml().contains("arXiv:"), "{preset}");
        // Whatever a model's own settings were, none of them is left.
        let own = "[soft]\nnoise = \"gumbel\"\ntemperature = 0.0\ntop_k = 3\nnorm_match = \"l2\"\n\
                   cold_stop = true\norder = [\"temperature\", \"top_k\", \"noise\"]";
        let over = Loader::new().model(own).overrides([format!("soft.preset={preset}")]).load();
        assert_eq!(over.unwrap_or_else(|e| panic!("{e}")).config, loaded, "{preset}");
    }
    let error = Loader::new().overrides(["soft.preset=soft-thinkin"]).load().unwrap_err();
    assert!(error.to_string().contains("did you mean \"soft-thinking\"?"), "{error}");
}

#[test]
fn the_answer_is_hard_unless_it_says_otherwise() {
    let answer = |text: &str| config(&format!("think = {{span = \"tags\"}}\n{text}")).answer;
    assert_eq!(answer("").mode, Mode::Hard);
    let some = answer("[answer]\ntemperature = 0.5");
    assert_eq!((some.mode, some.temperature), (Mode::Hard, 0.5));
    assert_eq!(answer("[answer]\nmode = \"soft\"").mode, Mode::Soft);
    assert_eq!(config("[soft]\ntop_k = 3").answer.top_k, 0, "the sections are apart");
}

#[test]
fn a_guidance_schedule_without_a_length_ends_with_the_training() {
    let text = "[guidance]\nschedule = \"linear\"\nend = 0.0\nhold = 10";
    let schedule = config(text).guidance.schedule_over(100);
    assert_eq!((schedule.at(0), schedule.at(10), schedule.at(99)), (1.0, 1.0, 0.0));
    assert!(schedule.at(98) > 0.0, "the end is not reached early");
    let fixed = config(&format!("{text}\nsteps = 20")).guidance.schedule_over(100);
    assert_eq!((fixed.at(20), fixed.at(30)), (0.5, 0.0));
    let short = config(text).guidance.schedule_over(5);
    assert_eq!(short.at(4), 1.0, "a training within the hold never leaves the start");
}

#[test]
fn a_new_model_has_the_published_number_of_parameters() {
    let shape = config(QUICKSTART).model.new_shape(89, 11);
    shape.validate().unwrap();
    let count = |shape: &soft_model::ModelConfig| -> usize {
        soft_model::expected_tensors(shape)
            .iter()
            .map(|(_, dims)| dims.iter().product::<usize>())
            .sum()
    };
    // GPT-2 with 2 layers, 2 heads, width 32, vocabulary 89, 11 positions.
    assert_eq!(count(&shape), 28_672);
    let llama = config("[model]\nfamily = \"llama\"").model.new_shape(89, 11);
    llama.validate().unwrap();
    assert_eq!(llama.d_ff, 88);
}

#[test]
fn the_json_schema_names_every_key() {
    let schema = json_schema();
    for key in fields().keys.keys() {
        let (section, leaf) = key.split_once('.').unwrap();
        let body = &schema["properties"][section]["properties"][leaf];
        assert!(body["description"].is_string(), "{key}");
        let has_default = !body["default"].is_null();
        assert!(has_default || WITHOUT_DEFAULT.contains(&key.as_str()), "{key} has no default");
    }
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["properties"]["soft"]["properties"]["top_p"]["maximum"].as_f64(), Some(1.0));
    assert!(schema["properties"]["extends"].is_object());
}
