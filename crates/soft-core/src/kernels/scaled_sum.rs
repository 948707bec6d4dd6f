//! A sum with one part multiplied by constants, and its gradients, in one pass each.

use burn::backend::flex::FlexTensor;

use super::node::{Kernel, sizes, tensor, values};

/// Of x, y and the scales of y.
#[derive(Debug, Clone, Copy)]
pub(super) struct ScaledSum;

impl Kernel<3> for ScaledSum {
    /// The scales.
    type Kept = FlexTensor;

    fn forward(self, inputs: [&FlexTensor; 3], _: [bool; 3]) -> (FlexTensor, Self::Kept) {
        let [x, y, scales] = inputs.map(FlexTensor::to_contiguous);
        let (shape, _) = sizes(&x);
        let all = values(&x).iter().zip(values(&y)).zip(values(&scales));
        let out = all.map(|((x, y), scale)| x + y * scale).collect();
        (tensor(out, &shape), scales)
    }

    fn backward(
        self,
        kept: Self::Kept,
        gradient: FlexTensor,
        wanted: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        let to_y = wanted[1].then(|| {
            let gradient = gradient.to_contiguous();
            let (shape, _) = sizes(&gradient);
            let all = values(&gradient).iter().zip(values(&kept));
            tensor(all.map(|(g, scale)| g * scale).collect(), &shape)
        });
        [wanted[0].then_some(gradient), to_y, None]
    }
}
