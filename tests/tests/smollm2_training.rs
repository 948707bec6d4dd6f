//! The configurations that fine-tune the real model, a few steps of each.

use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device};
use serde_json::Value;
use soft_model::{ModelFiles, Transformer, score};
use soft_tests::runs::{Runs, checkpoint, metrics, read_json};
use soft_tests::smollm2;
use soft_train::config::{Loader, SpanKind};
use soft_train::decoding::encode_prompt;
use soft_train::run::{TrainOptions, train};

/// The repository, and the data beside it.
fn root(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Trains rows of at most 127 tokens, one a step, and gives the run directory.
fn a_few_steps(runs: &Runs, config: &str, model: &Path) -> Option<PathBuf> {
    let data = root("../shared/data/gsm_symbolic");
    if !data.is_dir() {
        eprintln!("SKIPPED: no {}", data.display());
        return None;
    }
    let file = |path: PathBuf| format!("{:?}", path.display().to_string());
    let settings = [
        format!("run.dir={}", file(runs.path("runs"))),
        format!("run.name={config}"),
        format!("model.path={}", file(model.to_owned())),
        format!("data.train={}", file(data.join("train.jsonl"))),
        format!("data.valid={}", file(data.join("valid.jsonl"))),
        format!("eval.text={}", file(root("docs/plain-text.txt"))),
        "data.max_len=127".into(),
        "data.long=drop".into(),
        "train.steps=3".into(),
        "train.micro_batch=1".into(),
        "train.warmup=1".into(),
        "rollout.stages=[\"teacher 1\", \"parallel\"]".into(),
        "guidance.hold=1".into(),
        "eval.every=0".into(),
        "eval.limit=1".into(),
        "eval.text_tokens=48".into(),
        "save.every=0".into(),
    ];
    let loaded = Loader::new().file(root(&format!("configs/{config}.toml"))).overrides(settings);
    let resolved = loaded.load().unwrap_or_else(|error| panic!("{config}: {error}"));
    let trained = train(&resolved, &Device::flex(), &TrainOptions::default());
    Some(trained.unwrap_or_else(|error| panic!("{config}: {error}")).run_dir)
}

#[test]
fn low_rank_branches_and_prefixes_learn_to_think_with_new_tags_and_leave_the_model_alone() {
    let Some(model) = smollm2() else { return };
    let runs = Runs::temporary();
    let base = ModelFiles::open(&model).expect("the model");
    // What is added changes nothing at the start, but for the share of two new tokens.
    let tokenizer = base.require_tokenizer().expect("its tokenizer");
    let text = std::fs::read_to_string(root("docs/plain-text.txt")).expect("the plain text");
    let mut ids = vec![tokenizer.bos_id().expect("it has one")];
    ids.extend(&tokenizer.encode(&text, false).expect("a text")[..48]);
    let opened = Transformer::open(&base, &Device::flex(), DType::F32).expect("it opens");
    let plain = score(&opened, &ids).expect("a score").nll_mean.expect("a mean").exp();
    drop(opened);
    for config in ["smollm2-gsm-lora", "smollm2-gsm-prefix"] {
        let Some(run) = a_few_steps(&runs, config, &model) else { return };
        let records = metrics(&run);
        assert_eq!(records.len(), 3, "{config}: one object a step");
        let before = read_json(&run.join("before.json"));
        for key in ["valid/cross_entropy", "valid/answer_cross_entropy", "valid/text_perplexity"] {
            assert!(before[key].as_f64().is_some_and(|value| value > 0.0), "{config}: {before}");
        }
        // A fresh prefix is no longer the model; fresh branches are.
        if config == "smollm2-gsm-lora" {
            let found = before["valid/text_perplexity"].as_f64().expect("a number");
            assert!((found / plain - 1.0).abs() < 0.01, "{found}, scored {plain}");
        }
        let soft: Vec<&Value> = records.iter().map(|record| &record["entropy"]).collect();
        assert!(soft.iter().all(|h| h.as_f64().is_some_and(|h| h > 0.0)), "{config}: {soft:?}");

        let files = ModelFiles::open(&checkpoint(&run, 3)).expect("a checkpoint is a model");
        assert_eq!(files.config.vocab_size, base.config.vocab_size + 2, "{config}");
        let tokenizer = files.tokenizer.as_ref().expect("its tokenizer");
        assert_eq!(tokenizer.encode("<think>", false).expect("a text"), [49152], "{config}");
        let name = "model.layers.7.mlp.up_proj.weight";
        let matrix = |files: &ModelFiles| files.weights.f32_values(name).expect("a matrix");
        assert!(matrix(&files) == matrix(&base), "{config}: the base is frozen");
        let embedding = "model.embed_tokens.weight";
        let rows = files.weights.f32_values(embedding).expect("the embedding");
        let before = base.weights.f32_values(embedding).expect("the embedding");
        assert!(rows[..before.len()] == before[..], "{config}: so are the old tokens");
        let soft = files.soft.clone().expect("how it was trained to think");
        let loaded = Loader::new().model(soft).load().expect("its settings").config;
        let prompt = encode_prompt(&loaded, &files, "What is 2 and 3?").expect("a prompt");
        assert_eq!(prompt.last(), Some(&49152), "{config}: what is generated is its thought");
        assert_eq!(loaded.think.span, SpanKind::Tags, "{config}: and then its answer");
        let trained = Transformer::open(&files, &Device::flex(), DType::F32).expect("it opens");
        assert_eq!(trained.prefix_len() > 0, config == "smollm2-gsm-prefix");
    }
}
