//! The gradient of a reward model through what a model feeds itself.

use super::*;
use crate::batch::Batch;
use crate::example::Example;
use crate::rl::{read_of, run_free};
use crate::rollout::{Sequential, StepContext};
use soft_model::SequenceClassifier;

/// A classifier over the task's tokens, twice as wide as the model.
fn classifier(task: &Task) -> Arc<SequenceClassifier> {
    let model = Model { d_model: 32, n_layers: 1, n_heads: 2, ..Model::default() };
    let device = Device::flex().autodiff();
    let backbone =
        Transformer::from_seed(&model.new_shape(task.tokens.len(), 12), 8, &device, DType::F64);
    let score = (0..32).map(|i| (f64::from(i) * 1.3).sin()).collect();
    let score = soft_core::float_tensor(score, [1, 32], &device, DType::F64);
    Arc::new(SequenceClassifier::from_parts(backbone, score))
}

fn pathwise(task: &Task, answers_in_tokens: bool) -> Pathwise {
    Pathwise {
        classifier: classifier(task),
        rollout: Sequential::UNROLLED,
        answers_in_tokens,
        reads_thoughts: true,
    }
}

fn batch(task: &Task, arm: Arm, count: usize) -> Batch {
    Batch::new(task.train[..count].iter().map(|problem| task.example(arm, problem)).collect())
}

fn run(by: &Pathwise, model: &Transformer, batch: &Batch) -> (Vec<f64>, f64) {
    let rows = batch.len() as f64;
    let found = by.differentiate(model, batch, &StepContext::default(), rows);
    (flat_of(model, &found.gradients), found.reward / rows)
}

/// A model that is moved by `step` in a direction.
fn moved(model: &Transformer, direction: &[f64], step: f64) -> Transformer {
    struct Move<'a>(&'a [f64], f64);
    impl burn::module::ModuleMapper for Move<'_> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let (id, value, mapper) = param.consume();
            let (own, rest) = self.0.split_at(value.dims().iter().product());
            self.0 = rest;
            let own = own.iter().map(|x| x * self.1).collect();
            let own = soft_core::float_tensor(own, value.dims(), &value.device(), value.dtype());
            Param::from_mapped_value(id, (value + own).detach().require_grad(), mapper)
        }
    }
    model.clone().map(&mut Move(direction, step))
}

/// Rows of text of several lengths: a prompt, a thought of so many positions, a tag that closes it and is
/// scored, and an answer.
fn text(lengths: &[[usize; 3]]) -> Vec<Example> {
    let row = |&[prompt, thought, answer]: &[usize; 3]| {
        let len = prompt + thought + 1 + answer;
        let ids: Vec<u32> = (0..len).map(|t| (t * 7 % 5) as u32 + 1).collect();
        let mut example = Example::from_tokens(&ids, prompt);
        example.soft[prompt..prompt + thought].fill(true);
        example.answer_from = Some(prompt + thought + 1);
        example
    };
    lengths.iter().map(row).collect()
}

/// With filters, in rows of several lengths, whose losses are taken in parts, and under noise.
#[test]
fn the_gradient_is_that_of_finite_differences_in_rows_of_text() {
    let task = task();
    let model = model(&task, 3);
    let batch = Batch::new(text(&[[2, 3, 1], [1, 1, 2], [3, 0, 3], [2, 2, 2]]));
    let config = soft_core::PipelineConfig {
        temperature: 0.8,
        top_k: 5,
        noise: soft_core::Noise::Gumbel { temperature: 0.7 },
        ..soft_core::PipelineConfig::default()
    };
    let pipeline = SoftPipeline::new(config).expect("valid settings");
    let context = StepContext { pipeline, loss_chunk: 3, seed: 4, ..StepContext::default() };
    for reads_thoughts in [true, false] {
        let by = Pathwise {
            rollout: Sequential { segment: 2, truncate: 0 },
            reads_thoughts,
            ..pathwise(&task, false)
        };
        let run = |model: &Transformer| by.differentiate(model, &batch, &context, 4.0);
        let found = run(&model);
        assert_eq!(found.written, 3 + 1 + 1 + 2 + (1 + 3) + 2 + 2, "no tag after a thought");
        let gradient = flat_of(&model, &found.gradients);
        let direction: Vec<f64> =
            (0..gradient.len()).map(|i| ((i * 7919 % 1000) as f64).sin()).collect();
        let slope: f64 = gradient.iter().zip(&direction).map(|(g, d)| g * d).sum();
        let step = 1e-6;
        let at = |step| -run(&moved(&model, &direction, step)).reward / 4.0;
        let found = (at(step) - at(-step)) / (2.0 * step);
        let error = (found - slope).abs();
        assert!(slope != 0.0 && error < 1e-5 * slope.abs().max(1.0), "{found} {slope}");
    }
}

/// What is fed as a token is read as that token: here the tag that closes a thought, and the prompt.
#[test]
fn what_the_model_does_not_write_is_read_as_it_is() {
    let [example] = <[Example; 1]>::try_from(text(&[[2, 2, 1]])).expect("one");
    let free = run_free(&example);
    assert_eq!(free.soft, [false, false, true, true, false, true]);
    assert_eq!(free.weight, [0.0, 0.0, 1.0, 1.0, 0.0, 1.0]);
    assert_eq!(read_of(&example, true), [0, 1, 2, 3, 4, 5]);
    assert_eq!(read_of(&example, false), [0, 1, 5], "no thought, and nothing that closes it");
    // An earlier turn, with a thought of its own: it is given, and so is what was asked after it.
    let two = Example {
        input_ids: vec![1; 10],
        soft: [0, 1, 0, 0, 0, 0, 1, 1, 0, 0].map(|soft| soft == 1).to_vec(),
        weight: [0, 1, 1, 1, 0, 0, 1, 1, 0, 1].map(|weight| weight as f32).to_vec(),
        truth: vec![crate::example::Truth::Token(1); 10],
        answer_from: Some(9),
    };
    let free = run_free(&two);
    assert_eq!(
        free.soft,
        [6, 7, 9].iter().fold(vec![false; 10], |mut all, &t| {
            all[t] = true;
            all
        })
    );
    assert_eq!(read_of(&two, false), [0, 1, 2, 3, 4, 5, 9], "nothing that was asked is lost");
    let mut blank = Example { soft: vec![false; 10], ..two };
    blank.weight[8] = 1.0;
    assert_eq!(read_of(&blank, false), [0, 1, 2, 3, 4, 5, 9]);
    assert!(!run_free(&blank).soft[..6].contains(&true), "earlier turns stay");
    // Tokens that the model writes: all of them are the answer, whatever is read of them.
    let hard = Example { soft: vec![false; 6], ..example };
    assert_eq!(run_free(&hard).soft, [false, false, true, true, true, true]);
    assert_eq!(read_of(&hard, false), [0, 1, 5]);
}

/// In every arm: thoughts that are fed, thoughts that are tokens, and none.
#[test]
fn the_gradient_is_that_of_finite_differences() {
    let task = task();
    let model = model(&task, 3);
    let mut by = pathwise(&task, false);
    for (arm, reads_thoughts) in
        [(Arm::Soft, true), (Arm::Soft, false), (Arm::Hard, true), (Arm::NoThought, false)]
    {
        by.reads_thoughts = reads_thoughts;
        let batch = batch(&task, arm, 3);
        let (gradient, _) = run(&by, &model, &batch);
        assert!(gradient.iter().any(|g| g.abs() > 1e-6), "{arm}");
        let direction: Vec<f64> =
            (0..gradient.len()).map(|i| ((i * 7919 % 1000) as f64).sin()).collect();
        let slope: f64 = gradient.iter().zip(&direction).map(|(g, d)| g * d).sum();
        let step = 1e-5;
        let at = |step| -run(&by, &moved(&model, &direction, step), &batch).1;
        let found = (at(step) - at(-step)) / (2.0 * step);
        assert!((found - slope).abs() < 1e-6 * slope.abs().max(1.0), "{arm}: {found} {slope}");
    }
}

#[test]
fn segments_and_micro_batches_change_nothing() {
    let task = task();
    let model = model(&task, 3);
    let whole = pathwise(&task, true);
    let batch = batch(&task, Arm::Soft, 4);
    let (expected, reward) = run(&whole, &model, &batch);
    for segment in [1, 2] {
        let rollout = Sequential { segment, truncate: 0 };
        let (found, other) = run(&Pathwise { rollout, ..pathwise(&task, true) }, &model, &batch);
        assert_eq!(reward, other, "segment {segment}");
        let error = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(error < 1e-9, "segment {segment}: {error}");
    }
    let mut sum = vec![0.0; expected.len()];
    for half in [0..2, 2..4] {
        let examples = batch.examples[half.clone()].to_vec();
        let rows = half.map(|row| row as u32).collect();
        let batch = Batch::with_rows(examples, rows);
        let found = whole.differentiate(&model, &batch, &StepContext::default(), 4.0);
        let found = flat_of(&model, &found.gradients);
        sum.iter_mut().zip(found).for_each(|(sum, own)| *sum += own);
    }
    let error = sum.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(error < 1e-9, "{error}");
}

/// What is read is what the model writes: the reward of tokens alone is that of its greedy lines.
#[test]
fn in_tokens_the_reward_is_that_of_greedy_decoding() {
    let task = task();
    let model = model(&task, 3);
    let by = pathwise(&task, true);
    let batch = batch(&task, Arm::Hard, 3);
    let (gradient, reward) = run(&by, &model, &batch);
    let mut expected = 0.0;
    for example in &batch.examples {
        let mut ids = example.input_ids[..example.first_written()].to_vec();
        while ids.len() < example.len() {
            let logits = host_values(model.logits(model.embed(&ids, 1)).detach());
            let last = &logits[logits.len() - task.tokens.len()..];
            let best = (0..last.len()).max_by(|&a, &b| last[a].total_cmp(&last[b]));
            ids.push(best.expect("a token") as u32);
        }
        expected += host_values(by.classifier.logits(&[ids]).detach())[0];
    }
    assert!((reward - expected / 3.0).abs() < 1e-9, "{reward} {}", expected / 3.0);
    assert!(gradient.iter().any(|g| g.abs() > 1e-6));
}

/// Steps along it raise the reward, though the answer alone is read.
#[test]
fn training_by_it_raises_the_reward() {
    let task = task();
    let by = Pathwise { reads_thoughts: false, ..pathwise(&task, true) };
    let batch = batch(&task, Arm::Soft, 8);
    let mut model = model(&task, 3);
    let mut adamw = AdamWConfig::new().init();
    let (_, before) = run(&by, &model, &batch);
    for _ in 0..30 {
        let found = by.differentiate(&model, &batch, &StepContext::default(), 8.0);
        model = adamw.step(ModuleLearningRate::from(1e-2), model, found.gradients);
    }
    let (_, after) = run(&by, &model, &batch);
    assert!(after > before + 0.5, "{before} {after}");
}
