//! PPO on problems whose best policy is known.

use burn::module::Module;
use soft_model::{GenerateOptions, Generation, Manner, Mode};

use super::*;
use crate::error::Error;

/// Every row begins with token 0 and draws `steps` of the tokens 1 and 2; `worth` rewards them.
#[derive(Debug)]
struct Game {
    steps: usize,
    worth: fn(&[u32], f64) -> f64,
}

impl Source for Game {
    fn lots(&self, problems: &[usize]) -> Result<Vec<Lot>, Error> {
        Ok(vec![Lot {
            problems: problems.to_vec(),
            places: (0..problems.len()).collect(),
            prompts: vec![vec![0]; problems.len()],
            mode: Mode::Hard,
            options: GenerateOptions {
                thoughts: Manner::new(SoftPipeline::default(), Mode::Hard),
                max_new: self.steps,
                ..GenerateOptions::default()
            },
            close: Vec::new(),
        }])
    }

    fn is_right(&self, _: usize, _: &Generation, _: &[u32]) -> bool {
        false
    }

    fn texts(&self, _: &Completion) -> Texts {
        Texts {
            prompt: String::new(),
            prompt_ids: Vec::new(),
            expected: None,
            thoughts: Vec::new(),
            answer: String::new(),
        }
    }
}

/// A game's rewards, some of which are drawn: the same for the same rows.
#[derive(Debug)]
struct Worth(fn(&[u32], f64) -> f64, u64);

impl Reward for Worth {
    fn name(&self) -> &str {
        "worth"
    }

    fn score(&mut self, completions: &[&Completion], _: &[Texts]) -> Result<Vec<f64>, Error> {
        let mut uniform = || {
            self.1 = self.1.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.1 >> 33) as f64 / (1_u64 << 31) as f64
        };
        Ok(completions.iter().map(|own| (self.0)(&own.answer, uniform())).collect())
    }
}

#[derive(Module, Debug)]
struct ActorAndCritic {
    actor: Transformer,
    critic: ValueHead,
}

/// Trains for some steps; returns the share of the best line among the last draws, the mean reward,
/// and the loss of the values.
fn play(game: Game, best: &[u32], steps: usize) -> [f64; 3] {
    let rl = Rl {
        algorithm: RlAlgorithm::Ppo,
        policy: RlPolicy::Token,
        group: 1,
        updates: 2,
        ..Rl::default()
    };
    let worth: Box<dyn Reward> = Box::new(Worth(game.worth, 7));
    let rewards = Mutex::new(vec![Weighted { reward: worth, weight: 1.0 }]);
    let drawing = Drawing { source: Arc::new(game), rewards, pathwise: None, rl, seed: 3 };
    let shape = Model { d_model: 16, n_layers: 1, n_heads: 2, ..Model::default() };
    let (device, dtype) = (Device::flex().autodiff(), DType::F64);
    let actor = Transformer::from_seed(&shape.new_shape(3, 8), 1, &device, dtype);
    let mut both = ActorAndCritic { actor, critic: ValueHead::new(16, &device, dtype) };
    let mut adam = AdamWConfig::new().with_weight_decay(0.0).init();
    let mut found = [0.0; 3];
    for step in 0..steps {
        let drawn = drawing.draw(&both.actor, Some(&both.critic), &[0; 64], step, 0);
        let mut drawn = drawn.expect("drawn");
        drawing.reward(&mut drawn).expect("rewarded");
        drawing.weigh(&mut drawn);
        for _ in 0..drawing.rl.updates {
            let wanted = PolicyLoss { entropy: 0.01, value: [0.5, 0.2], ..loss(&drawn) };
            let actors = Actors { model: &both.actor, value: Some(&both.critic), reference: None };
            let update = differentiate(actors, &drawn[0], &wanted);
            found[2] = update.value;
            let gradients = GradientsParams::from_grads(update.gradients, &both);
            both = adam.step(ModuleLearningRate::from(0.01), both, gradients);
        }
        let lines = drawn[0].completions.iter().map(|own| &own.answer);
        found[0] = lines.filter(|line| line[..] == *best).count() as f64 / 64.0;
        found[1] = drawn[0].rewards.iter().sum::<f64>() / 64.0;
    }
    found
}

/// Arm 1 pays 1 in 3 draws of 10, arm 2 in 7.
#[test]
fn ppo_finds_the_better_arm_of_a_bandit() {
    let worth = |line: &[u32], uniform: f64| {
        let chance = match line[0] {
            1 => 0.3,
            2 => 0.7,
            _ => 0.0,
        };
        f64::from(u8::from(uniform < chance))
    };
    let [best, reward, _] = play(Game { steps: 1, worth }, &[2], 60);
    assert!(best > 0.9, "arm 2 in {best} of the draws");
    assert!((0.5..0.9).contains(&reward), "{reward}: it pays 0.7");
}

/// A chain of five states: 1 goes back to the first and pays 0.2 at once, 2 goes on, and only five of
/// them in a row pay 10. The best line gives up every small payment.
#[test]
fn ppo_finds_the_far_end_of_a_chain_of_five_states() {
    let worth = |line: &[u32], _: f64| {
        let small = 0.2 * line.iter().filter(|&&token| token == 1).count() as f64;
        let end = if line.iter().all(|&token| token == 2) { 10.0 } else { 0.0 };
        small + end
    };
    let [best, reward, value] = play(Game { steps: 5, worth }, &[2; 5], 150);
    assert!(best > 0.9 && reward > 9.0, "the end in {best} of the lines, {reward}");
    assert!(value < 5.0, "the values know what comes: {value}");
}

/// The loss of the values has the gradient of finite differences, in the head and in the model.
#[test]
fn the_loss_of_values_has_the_gradient_of_finite_differences() {
    let rl = Rl { algorithm: RlAlgorithm::Ppo, ..Rl::default() };
    let drawing = Drawing { rl, ..drawing(RlPolicy::Gumbel, Arm::Soft) };
    let model = model(&task(), 3);
    let device = Device::flex().autodiff();
    let values: Vec<f64> = (0..17).map(|i| (f64::from(i) * 1.7).sin()).collect();
    let head = ValueHead::from_values(&values, &device, DType::F64);
    let mut drawn = drawing.draw(&model, Some(&head), &[0, 1], 0, 0).expect("drawn");
    drawing.reward(&mut drawn).expect("rewarded");
    drawing.weigh(&mut drawn);
    let rows = drawn[0].rows();
    advantages_of(&mut drawn[0], vec![0.0; rows]);
    let wanted = PolicyLoss { value: [0.5, 0.2], ..loss(&drawn) };
    let found = |model: &Transformer, values: &[f64]| {
        let head = ValueHead::from_values(values, &device, DType::F64);
        let actors = Actors { model, value: Some(&head), reference: None };
        let update = differentiate(actors, &drawn[0], &wanted);
        let loss = update.loss;
        let both = ActorAndCritic { actor: model.clone(), critic: head };
        (loss, flat_of(&both, &GradientsParams::from_grads(update.gradients, &both)))
    };
    // Moved a little, so that old and new values differ.
    let moved: Vec<f64> = values.iter().map(|x| x + 0.01).collect();
    let (loss, gradient) = found(&model, &moved);
    assert!(loss > 0.0);
    let length = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
    let (own, of_head) = gradient.split_at(gradient.len() - values.len());
    assert!(own.iter().any(|g| *g != 0.0) && of_head.iter().any(|g| *g != 0.0));
    let at = |step: f64| {
        let along = |(x, g): (&f64, &f64)| x + step * g / length;
        let head: Vec<f64> = moved.iter().zip(of_head).map(along).collect();
        found(&shifted(&model, own, step / length), &head).0
    };
    let slope = (at(1e-6) - at(-1e-6)) / 2e-6;
    assert!((slope - length).abs() < 1e-5 * length, "{slope} {length}");
}

/// A row that was cut off before its end teaches nothing where that is asked for, and counts else.
#[test]
fn rows_that_were_cut_off_are_masked_where_that_is_asked_for() {
    #[derive(Debug)]
    struct Ending(Game);
    impl Source for Ending {
        fn lots(&self, problems: &[usize]) -> Result<Vec<Lot>, Error> {
            let mut lots = self.0.lots(problems)?;
            lots[0].options.eos_ids = vec![2];
            Ok(lots)
        }

        fn is_right(&self, _: usize, _: &Generation, _: &[u32]) -> bool {
            false
        }

        fn texts(&self, completion: &Completion) -> Texts {
            self.0.texts(completion)
        }
    }
    let model = model(&task(), 3);
    for mask_truncated in [false, true] {
        let rl = Rl { mask_truncated, group: 64, ..Rl::default() };
        let source = Arc::new(Ending(Game { steps: 2, worth: |_, _| 0.0 }));
        let drawing = Drawing { source, rewards: Mutex::default(), pathwise: None, rl, seed: 3 };
        let drawn = drawing.draw(&model, None, &[0], 0, 0).expect("drawn").remove(0);
        let ended: Vec<bool> = drawn.completions.iter().map(|own| own.ended).collect();
        assert!(ended.contains(&true) && ended.contains(&false), "both kinds of rows");
        for (row, ended) in ended.into_iter().enumerate() {
            let counts = drawn.counts.iter().any(|step| step[row]);
            assert_eq!(counts, ended || !mask_truncated, "row {row}");
        }
    }
}
