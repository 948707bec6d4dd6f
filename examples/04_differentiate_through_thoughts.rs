//! Training through soft thoughts: the loss of an answer reaches the soft steps before it, through
//! the mixtures that were fed.
//!
//! The row thinks at positions 2 to 4, where nothing is scored, and answers at position 5. One
//! rollout is one graph over the recurrence; the next is differentiated soft step by soft step and
//! has the same gradient; the last cuts the gradient after every soft step and has another.
//!
//! ```text
//! one graph      : loss 3.0548, gradient norm 13.850937136
//! segments of one: loss 3.0548, gradient norm 13.850937136
//! cut after one  : loss 3.0548, gradient norm 11.664448574
//! ```

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor};
use soft_core::{PipelineConfig, SoftPipeline, host_values};
use soft_model::Transformer;
use soft_train::batch::Batch;
use soft_train::example::Example;
use soft_train::objective::{BatchLoss, StepTotals};
use soft_train::rollout::{Rollout, Sequential, StepContext};

fn main() -> Result<(), soft_core::Error> {
    let device = Device::default().autodiff();
    let shape = soft_train::config::Model::default().new_shape(20, 8);
    let model = Transformer::from_seed(&shape, 1, &device, DType::F64);

    let mut example = Example::from_tokens(&[7, 3, 0, 0, 0, 12], 5);
    example.soft[2..5].fill(true);
    let batch = Batch::new(vec![example]);
    let (totals, temperature) = (StepTotals::of([&batch]), 0.1);
    let loss = BatchLoss {
        batch: &batch,
        objective: Default::default(),
        totals,
        temperature,
        other: None,
    };
    let pipeline = SoftPipeline::new(PipelineConfig { temperature, ..Default::default() })?;
    // Guidance 0: the model feeds itself.
    let context = StepContext { pipeline, guidance: 0.0, ..StepContext::default() };

    for (name, rollout) in [
        ("one graph      ", Sequential::UNROLLED),
        ("segments of one", Sequential { segment: 1, truncate: 0 }),
        ("cut after one  ", Sequential { segment: 1, truncate: 1 }),
    ] {
        let step = rollout.differentiate(&model, &loss, &context);
        let mut squares = Squares(&step.gradients, 0.0);
        model.visit(&mut squares);
        println!("{name}: loss {:.4}, gradient norm {:.9}", step.loss, squares.1.sqrt());
    }
    Ok(())
}

/// Sum of the squares of all gradients.
struct Squares<'a>(&'a GradientsParams, f64);

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = self.0.get::<D>(param.id).map(host_values).unwrap_or_default();
        self.1 += gradient.iter().map(|g| g * g).sum::<f64>();
    }
}
