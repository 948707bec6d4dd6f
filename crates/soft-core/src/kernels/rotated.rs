//! Rotary positions and their gradient in one pass each.

use burn::backend::flex::FlexTensor;

use super::node::{Kernel, in_parts, sizes, tensor, values};

/// `x cos + rotate_half(x) sin`; cosines and sines are constants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rotated;

impl Kernel<3> for Rotated {
    /// Cosines and sines.
    type Kept = [FlexTensor; 2];

    fn forward(self, [x, cos, sin]: [&FlexTensor; 3], _: [bool; 3]) -> (FlexTensor, Self::Kept) {
        let kept = [cos.to_contiguous(), sin.to_contiguous()];
        (rotate(x, &kept, 1.0), kept)
    }

    /// The rotation back.
    fn backward(
        self,
        kept: Self::Kept,
        gradient: FlexTensor,
        _: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        [Some(rotate(&gradient, &kept, -1.0)), None, None]
    }
}

/// Rotates rows by their angles times `direction`; the rows of x are read where they lie.
fn rotate(x: &FlexTensor, [cos, sin]: &[FlexTensor; 2], direction: f32) -> FlexTensor {
    let whole_rows = x.layout().strides()[3] == 1;
    let x = if whole_rows { x.clone() } else { x.to_contiguous() };
    let (shape, width) = sizes(&x);
    let (heads, seq, half) = (shape[1], shape[2], width / 2);
    let strides = [0, 1, 2].map(|axis| x.layout().strides()[axis].unsigned_abs());
    let read = &x.storage::<f32>()[x.layout().start_offset()..];
    // Of a size of 1 the table has one row for all.
    let [rows, columns] = [0, 2].map(|axis| cos.layout().shape()[axis]);
    let (cos, sin) = (values(cos), values(sin));
    let mut out = vec![0.0; shape.iter().product()];
    in_parts(&mut out, width, |first, out| {
        for (row, out) in (first..).zip(out.chunks_exact_mut(width)) {
            let (batch, head, column) = (row / (heads * seq), row / seq % heads, row % seq);
            let at = batch * strides[0] + head * strides[1] + column * strides[2];
            let table = (batch % rows * columns + column % columns) * width;
            let (x_1, x_2) = read[at..][..width].split_at(half);
            let (y_1, y_2) = out.split_at_mut(half);
            let (cos, sin) = (&cos[table..][..half], &sin[table..][..half]);
            for i in 0..half {
                let sin = direction * sin[i];
                y_1[i] = x_1[i] * cos[i] - x_2[i] * sin;
                y_2[i] = x_2[i] * cos[i] + x_1[i] * sin;
            }
        }
    });
    tensor(out, &shape)
}
