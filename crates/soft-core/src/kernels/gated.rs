//! `gate sigmoid(gate) up` and its gradients in one pass each.

use burn::backend::flex::FlexTensor;

use super::node::{Kernel, exp, in_parts, sizes, tensor, values};

#[derive(Debug, Clone, Copy)]
pub(super) struct GatedSilu;

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    let small = exp(-x.abs());
    let least = small / (1.0 + small);
    if x < 0.0 { least } else { 1.0 - least }
}

impl Kernel<2> for GatedSilu {
    type Kept = [FlexTensor; 2];

    fn forward(self, inputs: [&FlexTensor; 2], _: [bool; 2]) -> (FlexTensor, Self::Kept) {
        let kept = inputs.map(FlexTensor::to_contiguous);
        let [gate, up] = kept.each_ref().map(values);
        let (shape, width) = sizes(&kept[0]);
        let mut out = vec![0.0; gate.len()];
        in_parts(&mut out, width, |first, out| {
            let (gate, up) = (&gate[first * width..], &up[first * width..]);
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || {
                    for ((y, g), u) in out.iter_mut().zip(gate).zip(up) {
                        *y = g * sigmoid(*g) * u;
                    }
                },
            );
        });
        (tensor(out, &shape), kept)
    }

    fn backward(
        self,
        kept: Self::Kept,
        gradient: FlexTensor,
        _: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        let [gate, up] = kept.each_ref().map(values);
        let gradient = gradient.to_contiguous();
        let gradient = values(&gradient);
        let (shape, width) = sizes(&kept[0]);
        let mut to_gate = vec![0.0; gate.len()];
        let parts = in_parts(&mut to_gate, width, |first, to_gate| {
            let from = first * width;
            let [gate, up, gradient] = [gate, up, gradient].map(|x| &x[from..][..to_gate.len()]);
            let mut to_up = vec![0.0; to_gate.len()];
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || {
                    let out = to_gate.iter_mut().zip(&mut to_up);
                    for (((to_gate, to_up), g), (u, d)) in
                        out.zip(gate).zip(up.iter().zip(gradient))
                    {
                        let s = sigmoid(*g);
                        *to_up = d * g * s;
                        *to_gate = d * u * s * (1.0 + g * (1.0 - s));
                    }
                },
            );
            to_up
        });
        let to_up = joined(parts);
        [to_gate, to_up].map(|values| Some(tensor(values, &shape)))
    }
}

/// The parts one after another; one part is not copied.
fn joined(mut parts: Vec<Vec<f32>>) -> Vec<f32> {
    if parts.len() == 1 { parts.remove(0) } else { parts.concat() }
}
