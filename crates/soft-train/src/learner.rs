//! The transformer as Burn's Learner sees it: a step that runs a rollout, and an update that clips.

use std::sync::{Arc, Mutex, PoisonError};

use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamGroup, ParamId};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer, OptimizerRecord};
use burn::tensor::{DType, ExecutionError, Tensor};
use burn::train::{InferenceStep, ItemLazy, TrainOutput, TrainStep};
use soft_core::{LearnableFilters, Schedule};
use soft_model::Transformer;

use crate::batch::Batch;
use crate::config::Precision;
use crate::not_finite::NotFinite;
use crate::objective::{BatchLoss, Normalize, Objective, StepTotals};
use crate::rl::{self, Actors, Drawing, Experience, Pathwise, PolicyLoss, ValueHead};
use crate::rollout::{Rollout, StepContext};

/// One micro-batch and everything its step shares.
#[derive(Debug, Clone)]
pub(crate) struct MicroBatch {
    /// The rows.
    pub(crate) batch: Batch,
    /// Sums over the optimizer step that it belongs to.
    pub(crate) totals: StepTotals,
    /// Guidance, seed and step.
    pub(crate) context: StepContext,
    /// What is done with it.
    pub(crate) by: By,
}

/// What a micro-batch is trained by.
#[derive(Debug, Clone)]
pub(crate) enum By {
    /// The truth of its rows.
    Truth,
    /// Rewards of what was drawn: then the rest is not used.
    Draws(Arc<Experience>, PolicyLoss),
    /// The gradient of a reward model through what the model feeds itself, in a step of so many rows.
    Reward(Arc<Drawing>, f64),
}

impl MicroBatch {
    /// What was drawn.
    pub(crate) fn drawn(experience: Arc<Experience>, loss: PolicyLoss) -> Self {
        let batch = Batch::new(Vec::new());
        let totals = StepTotals::of(&[]);
        let context = StepContext::default();
        Self { batch, totals, context, by: By::Draws(experience, loss) }
    }
}

/// What a micro-batch contributes to the metrics of its step.
#[derive(Debug, Clone, Default)]
pub(crate) struct StepItem {
    /// Values by the name they are displayed under.
    pub(crate) values: Vec<(&'static str, f64)>,
}

impl ItemLazy for StepItem {
    fn sync(self) -> Result<Self, ExecutionError> {
        Ok(self)
    }
}

/// Names of the metrics that a [`StepItem`] carries, as the dashboard shows them.
pub(crate) mod metric_name {
    /// Loss of the step.
    pub(crate) const LOSS: &str = "Loss";
    /// Mean cross-entropy of the scored positions, nats.
    pub(crate) const CROSS_ENTROPY: &str = "Cross-entropy";
    /// Mean cross-entropy of the answers alone, nats.
    pub(crate) const ANSWER_CROSS_ENTROPY: &str = "Answer cross-entropy";
    /// Mean entropy of the soft positions, nats.
    pub(crate) const ENTROPY: &str = "Entropy";
    /// Weight of the entropy in the loss.
    pub(crate) const ENTROPY_BETA: &str = "Entropy weight";
    /// Share of the soft positions whose truth the clamp had to lift.
    pub(crate) const CLAMPED: &str = "Clamped share";
    /// Soft inputs whose place among the tokens was looked at.
    pub(crate) const LOCATED: &str = "Located";
    /// Sum of their norms, and on the dashboard their mean over the median norm of a token.
    pub(crate) const MIXTURE_NORM: &str = "Mixture norm";
    /// Sum of their distances to the nearest token, and on the dashboard the same.
    pub(crate) const MIXTURE_DISTANCE: &str = "Mixture distance";
    /// Soft inputs at which learned filters were compared with hard ones.
    pub(crate) const COMPARED: &str = "Compared";
    /// Sum of the weight that hard filters would move, and on the dashboard its mean.
    pub(crate) const FILTER_GAP: &str = "Filter gap";
    /// A learned temperature.
    pub(crate) const TEMPERATURE: &str = "Temperature";
    /// A learned number of tokens kept.
    pub(crate) const TOP_K: &str = "Top-k";
    /// A learned relative probability.
    pub(crate) const MIN_P: &str = "Min-p";
    /// Share of truth in what is fed.
    pub(crate) const GUIDANCE: &str = "Guidance";
    /// Norm of all gradients, before clipping.
    pub(crate) const GRAD_NORM: &str = "Gradient norm";
    /// Learning rate.
    pub(crate) const LEARNING_RATE: &str = "Learning rate";
    /// Perplexity of plain text that is not trained on.
    pub(crate) const TEXT_PERPLEXITY: &str = "Text perplexity";
    /// Mean reward of what was drawn.
    pub(crate) const REWARD: &str = "Reward";
    /// Mean over the groups of the standard deviation of their rewards.
    pub(crate) const REWARD_STD: &str = "Reward spread";
    /// Share of the groups whose rewards do not differ.
    pub(crate) const SILENT: &str = "Groups without signal";
    /// Share of the draws whose ratio is held from under.
    pub(crate) const CLIP_LOW: &str = "Clipped low";
    /// Share of the draws whose ratio is held from above.
    pub(crate) const CLIP_HIGH: &str = "Clipped high";
    /// Share of the draws that are clipped at all.
    pub(crate) const CLIPPED: &str = "Clipped";
    /// Mean of `log pi_old - log pi`.
    pub(crate) const KL_OLD: &str = "KL of the step";
    /// Mean divergence from the model that training began with.
    pub(crate) const KL: &str = "KL";
    /// Mean loss of the values.
    pub(crate) const VALUE_LOSS: &str = "Value loss";
    /// Tokens of a row, in the mean.
    pub(crate) const MEAN_LENGTH: &str = "Row length";
    /// Of the shortest row.
    pub(crate) const MIN_LENGTH: &str = "Shortest row";
    /// Of the longest row.
    pub(crate) const MAX_LENGTH: &str = "Longest row";
    /// Tokens of a thought, in the mean.
    pub(crate) const THOUGHT_LENGTH: &str = "Thought length";
    /// Share of the rows that were cut off before their end.
    pub(crate) const TRUNCATED: &str = "Rows cut off";
    /// Bytes of what was drawn.
    pub(crate) const BUFFER: &str = "Buffer";
    /// Loss of the training on the truth beside the rewards.
    pub(crate) const SUPERVISED: &str = "Supervised loss";
    /// Mean reward of what the model feeds itself, by a reward model that is differentiated.
    pub(crate) const PATHWISE: &str = "Reward read";
    /// Least ratio of a draw.
    pub(crate) const RATIO_MIN: &str = "Least ratio";
    /// Largest ratio of a draw.
    pub(crate) const RATIO_MAX: &str = "Largest ratio";
    /// Share of validation problems answered right.
    pub(crate) const ACCURACY: &str = "Accuracy";
    /// KL of the true belief from that of the thoughts, of tasks that know it.
    pub(crate) const BELIEF_KL: &str = "Belief KL";
    /// Weight of the thoughts on tokens that may be true.
    pub(crate) const BELIEF_MASS: &str = "Belief on truth";
}

/// What the strategy and the model share while training: Burn's Learner keeps its optimizer to
/// itself, so its state is copied out here where a checkpoint is saved.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    /// Asks for the optimizer's state in place of the next update.
    pub(crate) save_optimizer: bool,
    /// Asks for an optimizer that has seen nothing before the next update.
    pub(crate) reset_optimizer: bool,
    /// Asks the next update to change nothing: the loss of its step is not finite.
    pub(crate) hold: bool,
    pub(crate) optimizer: Option<OptimizerRecord>,
    pub(crate) grad_norm: f64,
    /// What is not finite in a step that changed nothing.
    pub(crate) not_finite: Option<NotFinite>,
    /// The weight that hard filters move in place of learned ones, at the last look.
    pub(crate) filter_gap: Option<f64>,
}

/// A transformer in training.
#[derive(Module, Debug)]
pub(crate) struct SoftLearner {
    /// The model.
    pub(crate) model: Transformer,
    /// Settings of the pipeline that are learned with it.
    pub(crate) filters: Option<LearnableFilters>,
    /// What is expected of a row, of PPO.
    pub(crate) value: Option<ValueHead>,
    /// What a policy is compared with, where that has a weight.
    #[module(skip)]
    pub(crate) reference: Option<Arc<Reference>>,
    #[module(skip)]
    pub(crate) setup: Arc<Setup>,
}

/// The model that training began with, which a policy is not to leave.
#[derive(Debug)]
pub(crate) enum Reference {
    /// The model in training without its low-rank branches.
    Base,
    /// A model of its own.
    Model(Box<Transformer>),
}

/// What stays the same over the steps.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) rollout: Box<dyn Rollout>,
    pub(crate) normalize: Normalize,
    /// Weight of the entropy by step.
    pub(crate) entropy_beta: Schedule,
    /// Largest global norm of the gradients; 0 is off.
    pub(crate) clip: f64,
    /// Precision of the passes.
    pub(crate) precision: Precision,
    /// What a fresh optimizer is made of.
    pub(crate) optimizer: AdamWConfig,
    pub(crate) exchange: Mutex<Exchange>,
}

impl Setup {
    pub(crate) fn exchange(&self) -> std::sync::MutexGuard<'_, Exchange> {
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SoftLearner {
    /// Numbers the parameters by their place in the model, so that an optimizer's state finds
    /// them again after a restart, and lays each out row by row, as an update leaves it: a product
    /// with a transposed view may round otherwise, and the first step after a restart would differ.
    pub(crate) fn new(model: Transformer, filters: Option<LearnableFilters>, setup: Setup) -> Self {
        let mut number = Number { next: 1 };
        let model = model.map(&mut number);
        let filters = filters.map(|filters| filters.map(&mut number));
        Self { model, filters, value: None, reference: None, setup: Arc::new(setup) }
    }

    /// With a value head, whose parameters are numbered after all others.
    pub(crate) fn with_value(mut self, value: Option<ValueHead>) -> Self {
        let mut number = Number { next: VALUE_IDS };
        self.value = value.map(|value| value.map(&mut number));
        self
    }

    /// The model that training began with, without gradients.
    fn reference(&self) -> Option<Transformer> {
        Some(match self.reference.as_deref()? {
            Reference::Model(model) => (**model).clone(),
            Reference::Base => {
                let mut model = self.model.valid();
                model.set_low_rank(false);
                model
            }
        })
    }

    /// The update on what was drawn.
    fn rewarded(&self, experience: &Experience, loss: &PolicyLoss) -> TrainOutput<StepItem> {
        let reference = self.reference();
        let (model, value) = (&self.model, self.value.as_ref());
        let actors = Actors { model, value, reference: reference.as_ref() };
        let update = rl::differentiate(actors, experience, loss);
        let values = vec![
            (metric_name::LOSS, update.loss),
            (metric_name::ENTROPY, update.entropy),
            (metric_name::CLIP_LOW, update.clipped[0]),
            (metric_name::CLIP_HIGH, update.clipped[1]),
            (metric_name::CLIPPED, update.clipped[0] + update.clipped[1]),
            (metric_name::KL_OLD, update.kl_old),
            (metric_name::KL, update.kl),
            (metric_name::VALUE_LOSS, update.value),
            (metric_name::RATIO_MIN, update.ratio[0]),
            (metric_name::RATIO_MAX, update.ratio[1]),
        ];
        let grads = GradientsParams::from_grads(update.gradients, self);
        TrainOutput { grads, item: StepItem { values } }
    }

    /// The gradient of a reward through what the model feeds itself.
    fn read(&self, by: &Pathwise, item: &MicroBatch, rows: f64) -> TrainOutput<StepItem> {
        let found = by.differentiate(&self.model, &item.batch, &item.context, rows);
        let (reward, entropy) = (found.reward / rows, found.entropy / found.written.max(1) as f64);
        let values = vec![
            (metric_name::LOSS, -reward),
            (metric_name::PATHWISE, reward),
            (metric_name::ENTROPY, entropy * item.batch.len() as f64 / rows),
        ];
        TrainOutput { grads: found.gradients, item: StepItem { values } }
    }

    /// An optimizer that has seen nothing: no decay pulls at learned settings, whose 0 means nothing.
    pub(crate) fn fresh_optimizer(&self) -> ModuleOptimizer {
        let adamw = self.setup.optimizer.init();
        let Some(filters) = &self.filters else { return adamw };
        let undecayed = self.setup.optimizer.clone().with_weight_decay(0.0).build();
        adamw.with_group(ParamGroup::ids_from_module(filters.clone()), undecayed, None)
    }
}

/// The first number of a value head: no model has so many parameters that are tensors.
const VALUE_IDS: u64 = 1 << 40;

/// A model whose parameters lie row by row, as those of a learner do: then both round alike.
pub(crate) fn laid_out(model: Transformer) -> Transformer {
    model.map(&mut Number { next: 1 })
}

struct Number {
    next: u64,
}

impl ModuleMapper for Number {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let trainable = param.is_require_grad();
        let (_, value, mapper) = param.consume();
        let options = (&value.device(), value.dtype());
        let value = Tensor::from_data(value.detach().into_data(), options);
        let id = ParamId::from(self.next);
        self.next += 1;
        Param::from_mapped_value(id, value, mapper).set_require_grad(trainable)
    }
}

impl TrainStep for SoftLearner {
    type Input = MicroBatch;
    type Output = StepItem;

    fn step(&self, mut item: MicroBatch) -> TrainOutput<StepItem> {
        match &item.by {
            By::Truth => {}
            By::Draws(experience, loss) => return self.rewarded(experience, loss),
            By::Reward(drawing, rows) => {
                let pathwise = drawing.pathwise.as_ref().expect("a reward that is differentiated");
                return self.read(pathwise, &item, *rows);
            }
        }
        if let Some(filters) = &self.filters {
            item.context.pipeline = item.context.pipeline.with_learnable(filters.clone());
        }
        let entropy_beta = self.setup.entropy_beta.at(item.context.step as usize);
        let loss = BatchLoss {
            batch: &item.batch,
            objective: Objective { entropy_beta, normalize: self.setup.normalize },
            totals: item.totals,
            temperature: item.context.pipeline.config().temperature,
            other: None,
        };
        let rollout = &self.setup.rollout;
        let mut done = match self.setup.precision {
            Precision::F32 => rollout.differentiate(&self.model, &loss, &item.context),
            Precision::Bf16 => {
                rollout.differentiate(&self.model.cast(DType::BF16), &loss, &item.context)
            }
        };
        if self.setup.precision == Precision::Bf16 {
            raise(&self.model, &mut done.gradients);
        }
        let values = vec![
            (metric_name::LOSS, done.loss),
            (metric_name::CROSS_ENTROPY, done.cross_entropy / item.totals.weight.max(1e-12)),
            (metric_name::ANSWER_CROSS_ENTROPY, done.answer / item.totals.answer.max(1e-12)),
            (metric_name::ENTROPY, done.entropy / item.totals.soft.max(1.0)),
            (metric_name::CLAMPED, done.fed.clamped / item.totals.soft.max(1.0)),
            (metric_name::LOCATED, done.fed.located),
            (metric_name::MIXTURE_NORM, done.fed.norm),
            (metric_name::MIXTURE_DISTANCE, done.fed.distance),
            (metric_name::COMPARED, done.fed.compared),
            (metric_name::FILTER_GAP, done.fed.gap),
        ];
        TrainOutput { grads: done.gradients, item: StepItem { values } }
    }

    /// Clips by the norm of all gradients together, then steps. A step whose norm or loss is not
    /// finite changes nothing. Where the optimizer's state is asked for, that is all that is done.
    fn optimize(
        self,
        optim: &mut ModuleOptimizer,
        lr_module: ModuleLearningRate,
        mut grads: GradientsParams,
    ) -> Self {
        let setup = self.setup.clone();
        let mut exchange = setup.exchange();
        if std::mem::take(&mut exchange.save_optimizer) {
            exchange.optimizer = Some(optim.to_record());
            return self;
        }
        exchange.grad_norm = global_norm(&self, &grads);
        if std::mem::take(&mut exchange.reset_optimizer) {
            *optim = self.fresh_optimizer();
        }
        if exchange.hold || !exchange.grad_norm.is_finite() {
            exchange.not_finite = Some(NotFinite::of(&self, &grads));
            return self;
        }
        if setup.clip > 0.0 && exchange.grad_norm > setup.clip {
            scale(&self, &mut grads, setup.clip / exchange.grad_norm);
        }
        optim.step(lr_module, self, grads)
    }
}

impl InferenceStep for SoftLearner {
    type Input = StepItem;
    type Output = StepItem;

    /// Validation runs whole generations, outside the Learner; its figures pass through here to
    /// the dashboard.
    fn step(&self, item: StepItem) -> StepItem {
        item
    }
}

/// `sqrt(sum of squares)` over all gradients.
fn global_norm<M: Module>(module: &M, grads: &GradientsParams) -> f64 {
    struct Squares<'a>(&'a GradientsParams, Option<Tensor<1>>);
    impl ModuleVisitor for Squares<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let Some(gradient) = self.0.get::<D>(param.id) else { return };
            let square = gradient.square().sum();
            self.1 = Some(match self.1.take() {
                Some(sum) => sum + square,
                None => square,
            });
        }
    }
    let mut squares = Squares(grads, None);
    module.visit(&mut squares);
    squares.1.map_or(0.0, |sum| soft_core::host_values(sum)[0].sqrt())
}

/// Multiplies all gradients.
pub(crate) fn scale<M: Module>(module: &M, grads: &mut GradientsParams, factor: f64) {
    struct Scale<'a>(&'a mut GradientsParams, f64);
    impl ModuleVisitor for Scale<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.0.remove::<D>(param.id) {
                self.0.register(param.id, gradient * self.1);
            }
        }
    }
    module.visit(&mut Scale(grads, factor));
}

/// Gradients of a copy in a lower precision, in that of the model itself.
fn raise<M: Module>(module: &M, grads: &mut GradientsParams) {
    struct Raise<'a>(&'a mut GradientsParams);
    impl ModuleVisitor for Raise<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.0.remove::<D>(param.id) {
                self.0.register(param.id, gradient.cast(param.val().dtype()));
            }
        }
    }
    module.visit(&mut Raise(grads));
}

/// Number of parameters that receive gradients.
pub(crate) fn trainable_parameters<M: Module>(module: &M) -> usize {
    struct Count(usize);
    impl ModuleVisitor for Count {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.is_require_grad() {
                self.0 += param.dims().iter().product::<usize>();
            }
        }
    }
    let mut count = Count(0);
    module.visit(&mut count);
    count.0
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::super::not_finite::spoil;
    use burn::optim::SgdConfig;
    use burn::tensor::Device;
    use soft_core::host_values;

    use super::*;
    use crate::config::Model;
    use crate::rollout::Parallel;

    fn learner(clip: f64) -> SoftLearner {
        let shape = Model { d_model: 8, ..Model::default() }.new_shape(6, 4);
        let device = Device::flex().autodiff();
        let model = Transformer::from_seed(&shape, 3, &device, DType::F64);
        let setup = Setup {
            rollout: Box::new(Parallel::TEACHER),
            normalize: Normalize::default(),
            entropy_beta: Schedule::constant(0.0),
            clip,
            precision: Precision::F32,
            optimizer: AdamWConfig::new(),
            exchange: Mutex::default(),
        };
        SoftLearner::new(model, None, setup)
    }

    fn parameters(learner: &SoftLearner) -> Vec<f64> {
        struct Collect(Vec<f64>);
        impl ModuleVisitor for Collect {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                self.0.extend(host_values(param.val().inner()));
            }
        }
        let mut collect = Collect(Vec::new());
        learner.visit(&mut collect);
        collect.0
    }

    /// Length of a step of plain gradient descent at rate 1, and the norm that was recorded.
    fn step(clip: f64) -> (f64, f64) {
        let learner = learner(clip);
        let before = parameters(&learner);
        let gradients = gradients(&learner);
        let updated = learner.optimize(&mut SgdConfig::new().init(), 1.0.into(), gradients);
        let moved =
            parameters(&updated).iter().zip(&before).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
        let recorded = updated.setup.exchange().grad_norm;
        (moved.sqrt(), recorded)
    }

    #[test]
    fn a_step_is_as_long_as_all_gradients_together_and_at_most_as_the_clip() {
        let (whole, norm) = step(0.0);
        assert!((whole - norm).abs() < 1e-9 * norm, "{whole} {norm}");
        let (over, _) = step(2.0 * norm);
        assert!((over - norm).abs() < 1e-9 * norm, "a clip that is not reached: {over}");
        let (clipped, recorded) = step(0.3 * norm);
        assert!((clipped - 0.3 * norm).abs() < 1e-6 * norm, "{clipped} of {norm}");
        assert_eq!(recorded, norm, "the norm is that before clipping");
    }

    fn gradients(learner: &SoftLearner) -> GradientsParams {
        let logits = learner.model.logits(learner.model.embed(&[1, 4, 2], 1));
        GradientsParams::from_grads(logits.powf_scalar(2.0).sum().backward(), learner)
    }

    /// An update with Adam: what was found, and the learner after it.
    fn update(
        learner: SoftLearner,
        adamw: &mut ModuleOptimizer,
        gradients: GradientsParams,
    ) -> (Exchange, SoftLearner) {
        let setup = learner.setup.clone();
        let updated = learner.optimize(adamw, 0.1.into(), gradients);
        let exchange = std::mem::take(&mut *setup.exchange());
        (exchange, updated)
    }

    /// A withheld update changes neither the parameters nor what the optimizer knows.
    fn assert_changes_nothing(
        clip: f64,
        withhold: impl Fn(&SoftLearner, &mut GradientsParams),
    ) -> Exchange {
        let learner = learner(clip);
        let before = parameters(&learner);
        let mut adamw = learner.fresh_optimizer();
        let mut withheld = gradients(&learner);
        withhold(&learner, &mut withheld);
        let (exchange, learner) = update(learner, &mut adamw, withheld);
        assert_eq!(before, parameters(&learner), "clip {clip}");
        let fine = gradients(&learner);
        let after = parameters(&update(learner, &mut adamw, fine).1);
        let fresh = self::learner(clip);
        let (mut adamw, fine) = (fresh.fresh_optimizer(), gradients(&fresh));
        let expected = parameters(&update(fresh, &mut adamw, fine).1);
        assert_ne!(before, expected);
        assert_eq!(after, expected, "the optimizer has seen the withheld step");
        exchange
    }

    #[test]
    fn t40_an_infinite_gradient_changes_nothing_with_and_without_clipping_and_is_named() {
        for clip in [0.0, 1.0] {
            let exchange = assert_changes_nothing(clip, spoil);
            assert!(!exchange.grad_norm.is_finite());
            let found = exchange.not_finite.expect("looked for");
            let name = found.gradient.as_deref().expect("a name");
            assert!(name.starts_with("norm"), "the last parameter of the model: {name}");
            assert_eq!((found.broken, found.weight), (1, None));
            assert!(found.gradients > 5);
        }
    }

    #[test]
    fn t40_a_withheld_step_changes_nothing_however_fine_its_gradients() {
        let hold = |learner: &SoftLearner, _: &mut GradientsParams| {
            learner.setup.exchange().hold = true;
        };
        let exchange = assert_changes_nothing(1.0, hold);
        assert!(exchange.grad_norm.is_finite());
        let found = exchange.not_finite.expect("looked for");
        assert_eq!((found.gradient, found.broken), (None, 0));
    }
}
