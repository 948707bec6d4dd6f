//! An operation with a backward pass of its own as one node of the CPU backend's graph.

use std::fmt::Debug;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex};
use burn::tensor::{DType, Device, Tensor, TensorData};

/// Numbers under which a second thread costs more than it saves: waking one takes longer than a
/// pass over as many.
pub(super) const PARALLEL: usize = 1 << 17;

/// An operation on `N` tensors of the CPU backend in f32.
pub(super) trait Kernel<const N: usize>: Copy + Debug + Send + 'static {
    /// What the backward pass needs.
    type Kept: Clone + Debug + Send + 'static;

    /// The output, and what is kept for those inputs whose gradients are `wanted`.
    fn forward(self, inputs: [&FlexTensor; N], wanted: [bool; N]) -> (FlexTensor, Self::Kept);

    /// The gradients that are `wanted`, from that of the output.
    fn backward(
        self,
        kept: Self::Kept,
        gradient: FlexTensor,
        wanted: [bool; N],
    ) -> [Option<FlexTensor>; N];
}

#[derive(Debug)]
struct Step<K>(K);

impl<K: Kernel<N>, const N: usize> Backward<Flex, N> for Step<K> {
    type State = K::Kept;

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<Flex>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let found = self.0.backward(ops.state, gradient, wanted);
        for (parent, found) in ops.parents.into_iter().zip(found) {
            if let (Some(parent), Some(found)) = (parent, found) {
                grads.register::<Flex>(parent.id, found);
            }
        }
    }
}

/// The kernel's output where all inputs are of the CPU backend in f32, all with autodiff (and
/// without gradient checkpointing) or all without.
pub(super) fn apply<K: Kernel<N>, const N: usize, const D: usize>(
    kernel: K,
    inputs: [&Tensor<D>; N],
) -> Option<Tensor<D>> {
    let host = Device::flex();
    if !inputs.iter().all(|x| x.dtype() == DType::F32 && x.device() == host) {
        return None;
    }
    if !inputs.iter().any(|x| x.device().is_autodiff()) {
        let found: Option<Vec<FlexTensor>> =
            inputs.iter().map(|x| (*x).clone().try_into_primitive::<Flex>().ok()).collect();
        let found: [FlexTensor; N] = found?.try_into().ok()?;
        let (output, _) = kernel.forward(found.each_ref(), [false; N]);
        return Some(Tensor::from_primitive::<Flex>(output));
    }
    let found: Option<Vec<FloatTensor<Autodiff<Flex>>>> =
        inputs.iter().map(|x| (*x).clone().try_into_primitive::<Autodiff<Flex>>().ok()).collect();
    let found: [FloatTensor<Autodiff<Flex>>; N] = found?.try_into().ok()?;
    let wanted = found.each_ref().map(|x| x.is_tracked());
    let (output, kept) = kernel.forward(found.each_ref().map(|x| x.primitive()), wanted);
    let nodes = found.each_ref().map(|x| x.node());
    let output = match Step(kernel).prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(node) => node.finish(kept, output),
        OpsKind::UnTracked(node) => node.finish(output),
    };
    Some(Tensor::from_primitive::<Autodiff<Flex>>(output))
}

/// A tensor of these values.
pub(super) fn tensor(values: Vec<f32>, shape: &[usize]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape.to_vec()))
}

/// The values of a contiguous tensor.
///
/// # Panics
/// If it is not: see [`FlexTensor::to_contiguous`].
pub(super) fn values(x: &FlexTensor) -> &[f32] {
    x.as_slice::<f32>().expect("made contiguous before")
}

/// The sizes of a tensor, and the length of its rows.
pub(super) fn sizes(x: &FlexTensor) -> (Vec<usize>, usize) {
    let shape: Vec<usize> = x.layout().shape().to_vec();
    let width = shape.last().copied().unwrap_or(1);
    (shape, width)
}

/// Fills `out` row by row, in parts on several threads where it is long: `fill(first, part)` gets
/// the index of the part's first row. Gives what the calls gave, in order.
pub(super) fn in_parts<T: Send>(
    out: &mut [f32],
    width: usize,
    fill: impl Fn(usize, &mut [f32]) -> T + Sync,
) -> Vec<T> {
    use rayon::prelude::*;
    let rows = out.len() / width.max(1);
    let threads = rayon::current_num_threads();
    if out.len() < PARALLEL || threads == 1 || rows == 1 {
        return vec![fill(0, out)];
    }
    let part = rows.div_ceil(threads);
    let parts = out.par_chunks_mut(part * width).enumerate();
    parts.map(|(index, out)| fill(index * part, out)).collect()
}

/// The sums of the columns of a matrix of rows of `width`.
pub(super) fn column_sums(rows: &[f32], width: usize) -> Vec<f32> {
    let mut sums = vec![0.0; width];
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            for row in rows.chunks_exact(width.max(1)) {
                for (sum, x) in sums.iter_mut().zip(row) {
                    *sum += x;
                }
            }
        },
    );
    sums
}

/// `exp(x)` to about 2 units in the last place, in a form that compilers make vector code of. 0
/// under -87, where f32 has no full precision; up to 88.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// Adding it rounds to a whole number, which then stands in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    /// `ln 2` in two parts, the first exact in a product with a small whole number.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let bounded = if x < -87.0 { -87.0 } else { x };
    let rounded = bounded * std::f32::consts::LOG2_E + ROUND;
    let whole = rounded - ROUND;
    let rest = bounded - whole * LN_2[0] - whole * LN_2[1];
    let series = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let sum = series.iter().fold(1.0 / 5040.0, |sum, term| sum * rest + term);
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(1.0_f32.to_bits()));
    if x < -87.0 { 0.0 } else { sum * power }
}
