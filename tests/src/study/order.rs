//! Does it matter whether the temperature acts before or after min-p?

use burn::tensor::{DType, Tensor};
use soft_core::{Distribution, PipelineConfig, SoftPipeline, Transform, host_values, int_tensor};
use soft_model::{GenerateOptions, Manner, Mode, ModelFiles, SoftInput, Transformer, generate};
use soft_train::config::Arm;
use soft_train::evaluate::{Asking, count_correct};
use soft_train::objective::soft_cross_entropy;
use soft_train::task::Task;

use super::{SEEDS, Study, spread, table};
use crate::device;
use crate::runs::mnns;

type Failure = Box<dyn std::error::Error>;

const TEMPERATURES: [f64; 4] = [0.5, 0.7, 1.5, 2.0];
const MIN_P: [f64; 2] = [0.05, 0.2];
const ORDERS: [(&str, [Transform; 2]); 2] = [
    ("after", [Transform::Temperature, Transform::MinP]),
    ("before", [Transform::MinP, Transform::Temperature]),
];
/// Validation problems whose thoughts are looked into; all are answered.
const LOOKED_INTO: usize = 256;
/// Chunks of text, and their tokens.
const CHUNKS: usize = 4;
const CHUNK: usize = 96;
/// Every so many inputs of the text one is a mixture.
const EVERY: usize = 4;

fn settings() -> impl Iterator<Item = (f64, f64, &'static str, [Transform; 2])> {
    MIN_P.into_iter().flat_map(|min_p| {
        TEMPERATURES.into_iter().flat_map(move |temperature| {
            ORDERS.into_iter().map(move |(name, order)| (min_p, temperature, name, order))
        })
    })
}

fn pipeline(temperature: f64, min_p: f64, order: &[Transform]) -> Result<SoftPipeline, Failure> {
    let order = order.to_vec();
    let config = PipelineConfig { temperature, min_p, order, ..PipelineConfig::default() };
    Ok(SoftPipeline::new(config)?)
}

/// What the filters leave of thoughts: mean mass kept, mean number of tokens kept.
fn kept(model: &Transformer, task: &Task, pipeline: &SoftPipeline) -> Result<[f64; 2], Failure> {
    let options = GenerateOptions {
        thoughts: Manner::new(pipeline.clone(), Mode::Soft),
        max_new: task.max_new(Arm::Soft, None),
        record: true,
        keep_inputs: true,
        ..GenerateOptions::default()
    };
    let problems = &task.validation[..LOOKED_INTO.min(task.validation.len())];
    let prompts: Vec<Vec<u32>> = problems.iter().map(|problem| problem.prompt.clone()).collect();
    let made = generate(model, &prompts, &|_, _| Mode::Soft, &options, &mut |_, _, _| {})?;
    let (mut mass, mut number, mut count) = (0.0, 0.0, 0.0);
    for row in &made {
        for (step, input) in row.steps.iter().zip(&row.inputs) {
            mass += step.kept_mass;
            number += match input {
                SoftInput::Token(_) => 1,
                SoftInput::Tokens(entries) => entries.len(),
                SoftInput::Dense(weights) => weights.len(),
                SoftInput::Vector(_) => 0,
            } as f64;
            count += 1.0;
        }
    }
    Ok([mass / count, number / count])
}

/// The models of [`Study::base`] at every setting: a table over the seeds.
///
/// # Errors
/// Those of the trainings and generations.
pub fn of_mnns(study: &Study) -> Result<String, Failure> {
    let task = mnns(4, 9);
    let models: Vec<Transformer> = SEEDS
        .iter()
        .map(|&seed| {
            let files = ModelFiles::open(&study.base(seed)?)?;
            Ok(Transformer::open(&files, &device(), DType::F32)?)
        })
        .collect::<Result<_, Failure>>()?;
    let mut rows = Vec::new();
    for (min_p, temperature, name, order) in settings() {
        let pipeline = pipeline(temperature, min_p, &order)?;
        let (mut masses, mut numbers, mut right) = (Vec::new(), Vec::new(), Vec::new());
        for model in &models {
            let [mass, number] = kept(model, &task, &pipeline)?;
            masses.push(100.0 * mass);
            numbers.push(number);
            let problems = &task.validation;
            let thoughts = Manner::new(pipeline.clone(), Mode::Soft);
            let asking = Asking { arm: Arm::Soft, thoughts, cut: None, seed: 0 };
            let correct = count_correct(model, &task, problems, &asking)?;
            right.push(100.0 * correct as f64 / problems.len() as f64);
        }
        rows.push(vec![
            min_p.to_string(),
            temperature.to_string(),
            name.to_owned(),
            spread(&masses, 1),
            spread(&numbers, 2),
            spread(&right, 1),
        ]);
    }
    let head = ["min-p", "T", "min-p stands", "mass kept, %", "tokens kept", "accuracy, %"];
    Ok(table(&head, &rows))
}

/// A language model that was never trained on mixtures, on plain text: what the filters keep of its
/// predictions, and how well it predicts where every few inputs are mixtures of those.
///
/// # Errors
/// A model or text that cannot be read.
pub fn of_text(files: &ModelFiles, text: &str) -> Result<String, Failure> {
    let ids = files.require_tokenizer()?.encode(text, false)?;
    let model = Transformer::open(files, &device(), DType::F32)?;
    let chunks: Vec<&[u32]> = ids.chunks_exact(CHUNK).take(CHUNKS).collect();
    let predicted: Vec<Tensor<2>> =
        chunks.iter().map(|chunk| model.logits(model.embed(chunk, 1))).collect();
    let mut rows = Vec::new();
    for (min_p, temperature, name, order) in settings() {
        let pipeline = pipeline(temperature, min_p, &order)?;
        let (mut mass, mut number, mut count, mut losses) = (0.0, 0.0, 0.0, Vec::new());
        for (chunk, logits) in chunks.iter().zip(&predicted) {
            let probs = pipeline.probs(logits.clone());
            let kept = host_values(pipeline.kept_mass(logits.clone(), &probs));
            mass += kept.iter().sum::<f64>();
            count += kept.len() as f64;
            let (Distribution::Dense(weights) | Distribution::Sparse { weights, .. }) = probs;
            number += host_values(weights).iter().filter(|&&w| w > 0.0).count() as f64;
            losses.push(loss(chunk, model.logits(with_mixtures(&model, chunk, logits, &pipeline))));
        }
        rows.push(vec![
            min_p.to_string(),
            temperature.to_string(),
            name.to_owned(),
            format!("{:.1}", 100.0 * mass / count),
            format!("{:.2}", number / count),
            format!("{:.4}", losses.iter().sum::<f64>() / losses.len() as f64),
        ]);
    }
    let pairs = chunks.iter().zip(predicted);
    let tokens: Vec<f64> = pairs.map(|(chunk, logits)| loss(chunk, logits)).collect();
    let tokens = tokens.iter().sum::<f64>() / tokens.len() as f64;
    let head = ["min-p", "T", "min-p stands", "mass kept, %", "tokens kept", "NLL, nats a token"];
    let note = format!("\nAll inputs tokens: {tokens:.4} nats a token.\n");
    Ok(table(&head, &rows) + &note)
}

/// The tokens' embeddings, and in every few places the mixture of what was predicted there.
///
/// # Shapes
/// - logits: `[tokens, vocab]`; output: `[1, tokens, d_model]`
fn with_mixtures(
    model: &Transformer,
    ids: &[u32],
    logits: &Tensor<2>,
    pipeline: &SoftPipeline,
) -> Tensor<3> {
    let embeds = model.embed(ids, 1);
    let [_, tokens, d_model] = embeds.dims();
    let places: Vec<u32> = (EVERY..tokens).step_by(EVERY).map(|place| place as u32).collect();
    let before: Vec<u32> = places.iter().map(|place| place - 1).collect();
    let before = int_tensor(&before, [places.len()], &embeds.device());
    let mixtures = model.mix(pipeline, pipeline.probs(logits.clone().select(0, before)));
    let mut sources: Vec<u32> = (0..tokens as u32).collect();
    for (number, place) in places.iter().enumerate() {
        sources[*place as usize] = (tokens + number) as u32;
    }
    let sources = int_tensor(&sources, [tokens], &embeds.device());
    let all = Tensor::cat(vec![embeds.reshape([tokens, d_model]), mixtures], 0);
    all.select(0, sources).reshape([1, tokens, d_model])
}

/// Mean cross-entropy of the tokens after the first.
fn loss(ids: &[u32], logits: Tensor<2>) -> f64 {
    let scored = logits.narrow(0, 0, ids.len() - 1);
    let truth = Distribution::one_hot(&ids[1..], &scored);
    host_values(soft_cross_entropy(scored, truth).mean())[0]
}

/// Trainings that feed themselves at either order: a table over the seeds.
///
/// # Errors
/// Those of the trainings.
pub fn of_trainings(study: &Study) -> Result<String, Failure> {
    let mut rows = Vec::new();
    for temperature in [0.5, 2.0] {
        for (name, order) in
            [("after", "[\"temperature\", \"min_p\"]"), ("before", "[\"min_p\", \"temperature\"]")]
        {
            let settings = [
                format!("soft.temperature={temperature}"),
                "soft.min_p=0.2".to_owned(),
                format!("soft.order={order}"),
            ];
            let (mut right, mut hard) = (Vec::new(), Vec::new());
            for seed in SEEDS {
                let name = format!("order-{name}-{temperature}");
                let trained = study.tuned(&name, seed, &settings)?;
                let accuracy = |arm: usize| {
                    trained.results.arms.get(arm).map(|result| 100.0 * result.accuracy)
                };
                right.extend(accuracy(0));
                hard.extend(accuracy(1));
            }
            rows.push(vec![
                "0.2".to_owned(),
                temperature.to_string(),
                name.to_owned(),
                spread(&right, 1),
                spread(&hard, 1),
            ]);
        }
    }
    let head = ["min-p", "T", "min-p stands", "accuracy, %", "fed hard, %"];
    Ok(table(&head, &rows))
}
