use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{DType, Device, Tensor};
use soft_core::{Draw, SoftPipeline, host_values};
use soft_model::{Drawn, DrawnStep, Transformer, Use};

use super::*;
use crate::config::{
    Arm, Model, Rl, RlAlgorithm, RlKl, RlLoss, RlPolicy, RlScale, Task as TaskSettings, TaskName,
};
use crate::task::Task;
use std::sync::{Arc, Mutex};

mod lots;
mod pathwise;
mod ppo;
mod reference;

const POLICIES: &[RlPolicy] = RlPolicy::VALUES;

fn task() -> Arc<Task> {
    let settings = TaskSettings { name: TaskName::Last, ..TaskSettings::default() };
    Arc::new(Task::new(&settings).expect("fine").expect("it is in the table"))
}

fn model(task: &Task, seed: u64) -> Transformer {
    let model = Model { d_model: 16, n_layers: 1, n_heads: 2, ..Model::default() };
    let shape = model.new_shape(task.tokens.len(), 8);
    Transformer::from_seed(&shape, seed, &Device::flex().autodiff(), DType::F64)
}

fn drawing(policy: RlPolicy, arm: Arm) -> Drawing {
    let rl = Rl { algorithm: RlAlgorithm::Rloo, policy, group: 8, ..Rl::default() };
    let (thoughts, eos_ids) = (SoftPipeline::default(), Vec::new());
    let source = Arc::new(TaskSource { task: task(), arm, thoughts, eos_ids });
    let rewards = Mutex::new(rewards(&rl, None).expect("fine"));
    Drawing { source, rewards, pathwise: None, rl, seed: 5 }
}

/// Drawn, rewarded and weighed.
fn drawn(
    drawing: &Drawing,
    model: &Transformer,
    problems: &[usize],
    step: usize,
) -> Vec<Experience> {
    let mut drawn = drawing.draw(model, None, problems, step, 0).expect("drawn");
    drawing.reward(&mut drawn).expect("rewarded");
    drawing.weigh(&mut drawn);
    drawn
}

fn update(model: &Transformer, experience: &Experience, loss: &PolicyLoss) -> Update {
    differentiate(Actors { model, value: None, reference: None }, experience, loss)
}

/// An advantage a row, the same for all its draws.
fn advantages_of(experience: &mut Experience, rows: Vec<f64>) {
    experience.advantages = vec![rows; experience.counts.len()];
}

fn loss(experiences: &[Experience]) -> PolicyLoss {
    PolicyLoss {
        clip: Clip { low: 0.2, high: 0.2 },
        normalize: RlLoss::Token,
        entropy: 0.0,
        beta: 0.0,
        kl: RlKl::Exact,
        value: [0.1, 0.2],
        draws: experiences.iter().map(|experience| experience.draws() as f64).sum(),
        rows: experiences.iter().map(|experience| experience.rows() as f64).sum(),
    }
}

/// All gradients of a model, one after another.
fn flat(model: &Transformer, update: Update) -> Vec<f64> {
    flat_of(model, &GradientsParams::from_grads(update.gradients, model))
}

fn flat_of<M: Module>(model: &M, gradients: &GradientsParams) -> Vec<f64> {
    struct Flat<'a>(&'a GradientsParams, Vec<f64>);
    impl ModuleVisitor for Flat<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            match self.0.get::<D>(param.id) {
                Some(gradient) => self.1.extend(host_values(gradient)),
                None => self.1.extend(vec![0.0; param.dims().iter().product()]),
            }
        }
    }
    let mut flat = Flat(gradients, Vec::new());
    model.visit(&mut flat);
    flat.1
}

#[test]
fn at_the_first_update_every_ratio_is_one() {
    let task = task();
    let model = model(&task, 3);
    let soft = POLICIES.iter().map(|&policy| (policy, Arm::Soft));
    for (policy, arm) in soft.chain([(RlPolicy::Token, Arm::Hard)]) {
        let drawing = drawing(policy, arm);
        let drawn = drawn(&drawing, &model, &[0, 1, 2, 3], 0);
        let update = update(&model, &drawn[0], &loss(&drawn));
        assert!(update.ratio.iter().all(|ratio| (ratio - 1.0).abs() < 1e-9), "{policy}");
        assert!(update.kl_old.abs() < 1e-9 && update.clipped == [0.0, 0.0], "{policy}");
        assert!(flat(&model, update).iter().any(|g| *g != 0.0), "{policy}");
    }
}

/// In single precision too, where a density is a sum over the vocabulary.
#[test]
fn at_the_first_update_every_ratio_is_one_in_single_precision() {
    let task = task();
    let model = model(&task, 3).cast(DType::F32);
    for &policy in POLICIES {
        let drawing = drawing(policy, Arm::Soft);
        let drawn = drawn(&drawing, &model, &[0, 1, 2, 3], 0);
        let update = update(&model, &drawn[0], &loss(&drawn));
        assert_eq!(update.ratio, [1.0; 2], "{policy}: to the bit");
    }
}

#[test]
fn a_group_without_signal_has_a_gradient_of_exactly_zero() {
    let task = task();
    let model = model(&task, 3);
    for &policy in POLICIES {
        let drawing = drawing(policy, Arm::Soft);
        let mut drawn = drawn(&drawing, &model, &[0, 1], 0);
        let none = advantages(RlAlgorithm::Grpo, RlScale::Group, &[1.0; 16]);
        advantages_of(&mut drawn[0], none);
        let update = update(&model, &drawn[0], &loss(&drawn));
        assert_eq!(update.loss, 0.0);
        assert!(flat(&model, update).iter().all(|g| *g == 0.0), "{policy}");
    }
}

/// One token drawn is the token policy, draw for draw and gradient for gradient.
#[test]
fn one_sample_is_the_token_policy() {
    let task = task();
    let model = model(&task, 3);
    let found = [RlPolicy::Token, RlPolicy::Samples].map(|policy| {
        let mut drawing = drawing(policy, Arm::Soft);
        drawing.rl.samples = 1;
        drawing.rl.algorithm = RlAlgorithm::Grpo;
        let drawn = drawn(&drawing, &model, &[0, 1, 2, 3], 0);
        let wanted = loss(&drawn);
        let update = update(&model, &drawn[0], &wanted);
        (drawn[0].rewards.clone(), update.loss, flat(&model, update))
    });
    assert_eq!(found[0], found[1]);
}

/// The same draws under a model that has moved: the loss has the gradient of finite differences,
/// and what is clipped has none.
#[test]
fn an_update_has_the_gradient_of_finite_differences() {
    let task = task();
    let (old, new) = (model(&task, 3), model(&task, 4));
    for (number, &policy) in POLICIES.iter().enumerate() {
        let normalize = [RlLoss::Token, RlLoss::Sequence][number % 2];
        let drawing = drawing(policy, Arm::Soft);
        let mut drawn = drawn(&drawing, &old, &[0, 1], 0);
        let rows = (0..drawn[0].rows()).map(|row| ((row * row) as f64).sin()).collect();
        advantages_of(&mut drawn[0], rows);
        // Old and new are near each other, so that some draws are held and some are not.
        let near = blended(&old, &new, 0.02);
        let wanted = PolicyLoss { normalize, entropy: 0.3, ..loss(&drawn) };
        let found = update(&near, &drawn[0], &wanted);
        let held = found.clipped.iter().sum::<f64>();
        assert!(held < 0.9, "{policy}: {held} of the draws are held");
        let direction = flat(&near, found);
        let length = direction.iter().map(|g| g * g).sum::<f64>().sqrt();
        let at = |step: f64| {
            let moved = shifted(&near, &direction, step / length);
            update(&moved, &drawn[0], &wanted).loss
        };
        let slope = (at(1e-6) - at(-1e-6)) / 2e-6;
        assert!((slope - length).abs() < 1e-4 * length, "{policy}: {slope} {length}");
    }
}

/// A ratio that has left its range gets no gradient that leads it further away, and the one that
/// leads it back.
#[test]
fn a_ratio_out_of_its_range_is_led_back_and_no_further() {
    let task = task();
    let model = model(&task, 3);
    let mut drawn = drawn(&drawing(RlPolicy::Token, Arm::Soft), &model, &[0, 1], 0);
    let exact = drawn[0].log_probs.clone();
    for (shift, gain, held) in [
        (-1.0, 1.0, [0.0, 1.0]),
        (-1.0, -1.0, [0.0; 2]),
        (1.0, -1.0, [1.0, 0.0]),
        (1.0, 1.0, [0.0; 2]),
    ] {
        // Of the model that drew: so that every ratio is 1 / e or e.
        let old = exact.iter().map(|step| step.iter().map(|log| log + shift).collect());
        drawn[0].log_probs = old.collect();
        let rows = drawn[0].rows();
        advantages_of(&mut drawn[0], vec![gain; rows]);
        let update = update(&model, &drawn[0], &loss(&drawn));
        assert!((update.clipped[0] - held[0]).abs() < 1e-9, "{:?}", update.clipped);
        assert!((update.clipped[1] - held[1]).abs() < 1e-9, "{:?}", update.clipped);
        let still = flat(&model, update).iter().all(|g| *g == 0.0);
        assert_eq!(still, held != [0.0; 2], "log-probabilities {shift}, advantage {gain}");
    }
}

/// Rows that are masked count nowhere.
#[test]
fn rows_that_do_not_count_change_nothing() {
    let task = task();
    let model = model(&task, 3);
    let mut drawn = drawn(&drawing(RlPolicy::Gumbel, Arm::Soft), &model, &[0, 1], 0);
    let rows = drawn[0].rows();
    advantages_of(&mut drawn[0], (0..rows).map(|row| row as f64 - 7.0).collect());
    drawn[0].counts.iter_mut().for_each(|step| step[3] = false);
    let of = |drawn: &[Experience]| flat(&model, update(&model, &drawn[0], &loss(drawn)));
    let before = of(&drawn);
    drawn[0].advantages.iter_mut().for_each(|step| step[3] = 1e6);
    assert_eq!(before, of(&drawn));
    drawn[0].advantages.iter_mut().for_each(|step| step[2] = 1e6);
    assert_ne!(before, of(&drawn));
}

fn with_values(model: &Transformer, mut next: impl FnMut(f64) -> f64) -> Transformer {
    struct Change<'a>(&'a mut dyn FnMut(f64) -> f64);
    impl burn::module::ModuleMapper for Change<'_> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let (id, value, mapper) = param.consume();
            let (shape, device) = (value.dims(), value.device());
            let values = host_values(value.detach()).into_iter().map(&mut self.0).collect();
            let value = soft_core::float_tensor(values, shape, &device, DType::F64);
            Param::from_mapped_value(id, value.require_grad(), mapper)
        }
    }
    model.clone().map(&mut Change(&mut next))
}

fn values(model: &Transformer) -> Vec<f64> {
    let mut all = Vec::new();
    drop(with_values(model, |x| {
        all.push(x);
        x
    }));
    all
}

fn blended(a: &Transformer, b: &Transformer, share: f64) -> Transformer {
    let mut other = values(b).into_iter();
    with_values(a, |x| x + share * (other.next().expect("as many") - x))
}

fn shifted(model: &Transformer, direction: &[f64], step: f64) -> Transformer {
    let mut along = direction.iter();
    with_values(model, |x| x + step * along.next().expect("as many"))
}

/// The probability that a line is right, from all lines: one thought, then "!", then the letter.
fn enumerated(model: &Transformer, task: &Task, problem: usize) -> f64 {
    let vocab = task.tokens.len() as u32;
    let problem = &task.train[problem];
    let rows = vocab as usize;
    let tokens = |tokens: Vec<u32>| {
        let zeros = Tensor::<2>::zeros([rows, vocab as usize], (&Device::flex(), DType::F64));
        let Draw { action, .. } = Draw::of_tokens(&tokens, &soft_core::Distribution::Dense(zeros));
        Draw { action, kept: None }
    };
    let step = |place: usize, draw: Draw| DrawnStep {
        draws: if place == 0 { [Some(draw), None] } else { [None, Some(draw)] },
        uses: vec![if place == 0 { Use::Thought } else { Use::Token }; rows],
        soft: place == 0,
    };
    let all = Drawn {
        prompts: vec![problem.prompt.clone(); rows],
        steps: vec![
            step(0, tokens((0..vocab).collect())),
            step(1, tokens(vec![task.close[0]; rows])),
            step(1, tokens(vec![problem.answer[0]; rows])),
        ],
        temperatures: [1.0; 2],
    };
    let log_probs = all.log_probs(model);
    (0..rows).map(|row| log_probs.iter().map(|step| step[row]).sum::<f64>().exp()).sum()
}

/// The mean of many updates is the gradient of the probability of a right answer, of which all
/// lines are known.
#[test]
fn the_mean_of_updates_is_the_enumerated_gradient() {
    let task = task();
    let model = model(&task, 3);
    let mut drawing = drawing(RlPolicy::Token, Arm::Soft);
    drawing.rl.group = 512;
    let problem = 2;
    let rounds = 24;
    let mut estimates = Vec::new();
    for round in 0..rounds {
        let drawn = drawn(&drawing, &model, &[problem], round);
        let update = update(&model, &drawn[0], &PolicyLoss { draws: 512.0, ..loss(&drawn) });
        estimates.push(flat(&model, update));
    }
    // Along one direction of no meaning, and along that of the estimates themselves.
    let mut seed = 1.0;
    let random: Vec<f64> = estimates[0]
        .iter()
        .map(|_| {
            seed = (seed * 16807.0) % 2_147_483_647.0;
            seed / 2_147_483_647.0 - 0.5
        })
        .collect();
    let n = rounds as f64;
    let mean: Vec<f64> = (0..random.len())
        .map(|at| estimates.iter().map(|estimate| estimate[at]).sum::<f64>() / n)
        .collect();
    for direction in [random, mean] {
        let along = |estimate: &Vec<f64>| -> f64 {
            -estimate.iter().zip(&direction).map(|(g, d)| g * d).sum::<f64>()
        };
        let found: Vec<f64> = estimates.iter().map(along).collect();
        let mean = found.iter().sum::<f64>() / n;
        let spread = found.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let error = (spread / n).sqrt();
        let at = |step: f64| enumerated(&shifted(&model, &direction, step), &task, problem);
        let exact = (at(1e-5) - at(-1e-5)) / 2e-5;
        assert!((mean - exact).abs() < 4.5 * error, "{mean} +- {error}, exactly {exact}");
        assert!(error < 0.3 * exact.abs() || exact.abs() < 1e-3, "{error} {exact}");
    }
}

/// From nothing, by rewards alone: the answer depends on the prompt, so that no constant is right
/// more than half of the time.
#[test]
fn rewards_alone_teach_the_last_letter_by_every_policy() {
    for &policy in POLICIES {
        let mut drawing = drawing(policy, Arm::Soft);
        drawing.rl.group = 32;
        let mut model = model(&task(), 3);
        let mut adam = AdamWConfig::new().with_weight_decay(0.0).init();
        let mut rewards = 0.0;
        let wanted = |drawn: &[Experience]| PolicyLoss { entropy: 0.02, ..loss(drawn) };
        for step in 0..300 {
            let drawn = drawn(&drawing, &model, &[0, 1, 2, 3], step);
            let update = update(&model, &drawn[0], &wanted(&drawn));
            let gradients = GradientsParams::from_grads(update.gradients, &model);
            model = adam.step(ModuleLearningRate::from(0.005), model, gradients);
            rewards = drawn[0].rewards.iter().sum::<f64>() / drawn[0].rows() as f64;
        }
        assert!(rewards > 0.9, "{policy}: {rewards}");
    }
}

/// Draws are a function of (seed, step, row): the same again, and others for another step.
#[test]
fn draws_are_the_same_again_and_others_at_another_step() {
    let task = task();
    let model = model(&task, 3).valid();
    let drawing = drawing(RlPolicy::Gumbel, Arm::Soft);
    let draw = |step, row| {
        let drawn = drawing.draw(&model, None, &[0, 1, 2, 3], step, row).expect("drawn");
        (drawn[0].log_probs.clone(), drawn[0].drawn.steps[0].draws[0].as_ref().map(fed))
    };
    assert_eq!(draw(0, 0), draw(0, 0));
    assert_ne!(draw(0, 0), draw(1, 0));
    assert_ne!(draw(0, 0), draw(0, 32));
}

/// The weights that a draw feeds.
fn fed(draw: &Draw) -> Vec<f64> {
    let like = Tensor::<2>::zeros([1, 1], (&Device::flex(), DType::F64));
    draw.fed(&like).map_or_else(Vec::new, |fed| {
        fed.to_rows(usize::MAX).into_iter().flatten().map(|(_, weight)| weight).collect()
    })
}

/// The entropy of a draw is that at its own temperature: thoughts and answers have one each.
#[test]
fn entropies_are_those_at_the_temperature_of_the_draw() {
    let model = model(&task(), 3);
    let mut drawn = drawn(&drawing(RlPolicy::Gumbel, Arm::Soft), &model, &[0, 1], 0);
    drawn[0].drawn.temperatures = [0.2, 3.0];
    let found = update(&model, &drawn[0], &PolicyLoss { entropy: 1.0, ..loss(&drawn) });
    let logits = host_values(drawn[0].drawn.score(&model).logits.detach());
    let vocab = logits.len() / drawn[0].counts.concat().len();
    let entropy = |logits: &[f64], temperature: f64| {
        let exps: Vec<f64> = logits.iter().map(|z| (z / temperature).exp()).collect();
        let sum: f64 = exps.iter().sum();
        -exps.iter().map(|e| e / sum * (e / sum).ln()).sum::<f64>()
    };
    let uses = drawn[0].drawn.steps.iter().flat_map(|step| step.uses.clone());
    let each = logits
        .chunks(vocab)
        .zip(uses)
        .map(|(logits, used)| entropy(logits, if used.is_thought() { 0.2 } else { 3.0 }));
    let expected = each.sum::<f64>() / drawn[0].draws() as f64;
    assert!((found.entropy - expected).abs() < 1e-9, "{} {expected}", found.entropy);
    assert!((found.entropy - entropy(&logits[..vocab], 0.2)).abs() > 1e-3, "both count");
}
