//! The real model against its oracle: torch 2.15 / transformers 5.23 in f32 on the dequantised
//! weights (`smollm2-golden.json`, beside the weights, says how each value was made).

use std::sync::LazyLock;

use burn::tensor::{DType, Device};
use serde_json::Value;
use soft_core::{PipelineConfig, SoftPipeline};
use soft_model::{GenerateOptions, Mode, ModelFiles, Transformer, generate, score};
use soft_tests::{SMOLLM2, models_dir};

struct Smol {
    files: ModelFiles,
    model: Transformer,
    golden: Value,
}

static SMOL: LazyLock<Option<Smol>> = LazyLock::new(|| {
    let dir = models_dir()?;
    let files = ModelFiles::open(&dir.join(SMOLLM2)).expect("the model opens");
    let model =
        Transformer::from_weights(&files.config, &files.weights, &Device::flex(), DType::F32)
            .expect("the weights fit the configuration");
    let text = std::fs::read_to_string(dir.join("smollm2-golden.json")).expect("the oracle");
    Some(Smol { files, model, golden: serde_json::from_str(&text).expect("valid JSON") })
});

fn ids(value: &Value) -> Vec<u32> {
    let list = value.as_array().expect("a list of ids");
    list.iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

fn cases(golden: &Value) -> &Vec<Value> {
    golden["cases"].as_array().expect("cases")
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
    GenerateOptions { pipeline, max_new, eos_ids, seed: 0, first_row: 0, record: true, top: 5 }
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
        generate(&smol.model, prompts, &|_, _| Mode::Hard, &options, &mut |_, _| {})
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
    let options = GenerateOptions { pipeline, max_new: 6, ..greedy(6, Vec::new()) };
    let out = generate(
        &smol.model,
        std::slice::from_ref(&prompt),
        &|_, _| Mode::Soft,
        &options,
        &mut |_, _| {},
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
