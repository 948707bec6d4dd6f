//! The real model against its oracle: torch 2.15 / transformers 5.23 in f32 on the dequantised
//! weights (`tests/goldens/README.md` says how the values were made).

use std::sync::LazyLock;

use burn::tensor::{DType, Device};
use serde_json::Value;
use soft_core::{PipelineConfig, SoftPipeline};
use soft_model::{
    GenerateOptions, Manner, Message, Mode, ModelConfig, ModelFiles, Positions, Tokenizer,
    Transformer, generate, score,
};
use soft_tests::smollm2;

struct Smol {
    files: ModelFiles,
    model: Transformer,
    golden: Value,
}

static SMOL: LazyLock<Option<Smol>> = LazyLock::new(|| {
    let files = ModelFiles::open(&smollm2()?).expect("the model opens");
    let model =
        Transformer::from_weights(&files.config, &files.weights, &Device::flex(), DType::F32)
            .expect("the weights fit the configuration");
    let golden = serde_json::from_str(include_str!("../goldens/smollm2.json"));
    Some(Smol { files, model, golden: golden.expect("valid JSON") })
});

fn ids(value: &Value) -> Vec<u32> {
    let list = value.as_array().expect("a list of ids");
    list.iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

fn cases(golden: &Value) -> &Vec<Value> {
    golden["cases"].as_array().expect("cases")
}

#[test]
fn the_shape_is_that_of_its_paper() {
    let Some(smol) = &*SMOL else { return };
    let config = &smol.files.config;
    assert_eq!((config.n_layers, config.d_model, config.d_ff), (30, 576, 1536));
    assert_eq!((config.n_heads, config.n_kv_heads, config.head_dim), (9, 3, 64));
    assert_eq!((config.vocab_size, config.max_positions), (49152, 8192));
    assert_eq!(config.norm_eps, 1e-5);
    assert_eq!(config.positions, Positions::Rotary { theta: 100_000.0, scaling: None });
    assert!(config.tied_embeddings && !config.qkv_bias);
    assert_eq!((config.bos_id, &config.eos_ids[..], config.pad_id), (Some(1), &[2][..], Some(2)));
    assert_eq!(smol.files.weights.names().count(), 272);
    assert_eq!(smol.files.tokenizer.as_ref().expect("it has one").vocab_len(), 49152);
    let again = ModelConfig::from_hf(&config.to_hf(), std::path::Path::new("config.json"));
    assert_eq!(again.expect("what we write we read"), *config);
}

/// As it lies in the file, and as a checkpoint holds it.
#[test]
fn ids_and_chat_text_are_the_oracles() {
    let Some(smol) = &*SMOL else { return };
    let strings: Value = serde_json::from_str(include_str!("../goldens/smollm2-tokenizer.json"))
        .expect("valid JSON");
    let from_gguf = smol.files.tokenizer.as_ref().expect("it has one");
    let folder = tempfile::tempdir().expect("a temporary folder");
    from_gguf.save(folder.path()).expect("saved");
    let saved = Tokenizer::open_folder(folder.path()).expect("readable").expect("there");
    for tokenizer in [from_gguf, &saved] {
        for case in strings.as_array().expect("strings") {
            let found = tokenizer.encode(case["text"].as_str().expect("text"), true);
            let found = found.expect("it encodes");
            assert_eq!(found, ids(&case["ids"]), "{case}");
            assert_eq!(tokenizer.decode(&found), case["decoded"].as_str().expect("text"));
        }
        let mut chats = 0;
        for case in cases(&smol.golden) {
            chats += u32::from(case["kind"] == "chat");
            let text = prompt_text(tokenizer, case);
            let found = tokenizer.encode(&text, true).expect("it encodes");
            assert_eq!(found, ids(&case["input_ids"]), "{text}");
            for top in case["top5"].as_array().expect("five entries") {
                let token = tokenizer.decode_token(top["id"].as_u64().expect("an id") as u32);
                assert_eq!(token.as_deref(), top["token"].as_str());
            }
            if let Some(text) = case["greedy_text"].as_str() {
                assert_eq!(tokenizer.decode(&ids(&case["greedy_ids"])), text);
            }
        }
        assert!(chats > 0, "the oracle has chat cases");
    }
}

/// What the oracle encoded: the rendered chat, which must be its own, or the text.
fn prompt_text(tokenizer: &Tokenizer, case: &Value) -> String {
    let text = case["text"].as_str().or(case["prompt"].as_str()).expect("a text");
    if case["kind"] != "chat" {
        return text.to_owned();
    }
    let template = tokenizer.chat_template().expect("it compiles").expect("a chat model");
    let prompt = Message::new("user", case["prompt"].as_str().expect("a prompt"));
    let rendered = template.render(&[prompt], true).expect("it renders");
    assert_eq!(rendered, text);
    rendered
}

#[test]
fn the_mean_nll_of_512_tokens_is_the_oracles() {
    let Some(smol) = &*SMOL else { return };
    let tokens = ids(&smol.golden["moby_dick_512"]["input_ids"]);
    let nll = score(&smol.model, &tokens).expect("512 tokens").nll_mean.expect("more than one");
    assert!((nll - 4.195_512).abs() < 1e-3, "mean NLL {nll}");
}

#[test]
fn every_top_five_is_the_oracles() {
    let Some(smol) = &*SMOL else { return };
    for case in cases(&smol.golden) {
        let prompt = ids(&case["input_ids"]);
        let greedy = ids(&case["greedy_ids"]);
        let oracle = case["top5_first4_steps"].as_array().expect("four steps");
        let sequence = [&prompt[..], &greedy[..oracle.len() - 1]].concat();
        let score = score(&smol.model, &sequence).expect("a short sequence");
        let nll = -score.logprobs[1..prompt.len()].iter().flatten().sum::<f64>()
            / (prompt.len() - 1) as f64;
        let expected = case["prompt_mean_nll"].as_f64().expect("a number");
        assert!((nll - expected).abs() < 1e-3, "{}: {nll} against {expected}", case["prompt"]);
        for (step, oracle) in oracle.iter().enumerate() {
            let ours = &score.top[prompt.len() - 1 + step];
            for (entry, oracle) in ours.iter().zip(oracle.as_array().expect("five entries")) {
                let probability = oracle[2].as_f64().expect("a probability");
                assert_eq!(u64::from(entry.0), oracle[0].as_u64().expect("an id"));
                assert!((entry.1.exp() - probability).abs() < 1e-3, "{case:.80} step {step}");
            }
        }
    }
}

fn greedy(max_new: usize, eos_ids: Vec<u32>) -> GenerateOptions {
    let config = PipelineConfig { temperature: 0.0, ..PipelineConfig::default() };
    let pipeline = SoftPipeline::new(config).expect("valid settings");
    GenerateOptions {
        thoughts: Manner::new(pipeline, Mode::Soft),
        max_new,
        eos_ids,
        record: true,
        keep_inputs: true,
        top: 5,
        ..GenerateOptions::default()
    }
}

#[test]
fn greedy_continuations_are_the_oracles_alone_and_in_one_batch() {
    let Some(smol) = &*SMOL else { return };
    let cases = cases(&smol.golden);
    let prompts: Vec<Vec<u32>> = cases.iter().map(|case| ids(&case["input_ids"])).collect();
    let expected: Vec<Vec<u32>> = cases.iter().map(|case| ids(&case["greedy_ids"])).collect();
    let longest = expected.iter().map(Vec::len).max().unwrap_or(0);
    let options = greedy(longest, smol.files.generation.eos_ids.clone());
    let run = |prompts: &[Vec<u32>]| {
        generate(&smol.model, prompts, &|_, _| Mode::Hard, &options, &mut |_, _, _| {})
            .expect("the prompts fit")
    };
    let together = run(&prompts);
    for (row, expected) in expected.iter().enumerate() {
        let alone = &run(&prompts[row..=row])[0];
        for (name, found) in [("alone", alone), ("in a batch", &together[row])] {
            // Up to the first step whose margin is too small to decide.
            let decided = alone
                .steps
                .iter()
                .position(|step| step.top.len() > 1 && step.top[0].1 - step.top[1].1 < 1e-3)
                .unwrap_or(expected.len())
                .min(expected.len());
            assert_eq!(found.token_ids[..decided], expected[..decided], "row {row} {name}");
        }
    }
}

#[test]
fn a_soft_generation_is_replayed_by_one_parallel_pass() {
    let Some(smol) = &*SMOL else { return };
    let prompt = ids(&cases(&smol.golden)[0]["input_ids"]);
    let config = PipelineConfig { top_k: 10, ..PipelineConfig::default() };
    let pipeline = SoftPipeline::new(config).expect("valid settings");
    let options =
        GenerateOptions { thoughts: Manner::new(pipeline, Mode::Soft), ..greedy(6, Vec::new()) };
    let out = generate(
        &smol.model,
        std::slice::from_ref(&prompt),
        &|_, _| Mode::Soft,
        &options,
        &mut |_, _, _| {},
    )
    .expect("the prompt fits");
    let fed = &out[0].inputs[..5];
    let logits = soft_model::replay(&smol.model, &prompt, fed);
    let entropy = soft_core::host_values(soft_core::entropy_nats(logits, 1.0));
    for (step, record) in out[0].steps.iter().enumerate() {
        let replayed = entropy[prompt.len() - 1 + step];
        assert!((replayed - record.entropy_nats).abs() < 1e-4, "step {step}");
        assert_eq!(record.mode, Mode::Soft);
    }
}
