//! Tensors from host values and back, in a given precision.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

/// A float tensor of `shape` from row-major host values, in precision `dtype`.
///
/// # Panics
/// If the number of values is not the product of the shape.
pub fn float_tensor<const D: usize>(
    values: Vec<f64>,
    shape: [usize; D],
    device: &Device,
    dtype: DType,
) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape).convert_dtype(dtype), (device, dtype))
}

/// An integer tensor of `shape` from row-major ids.
///
/// # Panics
/// If the number of ids is not the product of the shape.
pub fn int_tensor<const D: usize>(
    ids: &[u32],
    shape: [usize; D],
    device: &Device,
) -> Tensor<D, Int> {
    let ids: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
    Tensor::from_data(TensorData::new(ids, shape), device)
}

/// The tensor in at least f32: sums, logarithms and exponentials of shorter numbers lose too much.
pub fn at_least_f32<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match x.dtype() {
        DType::F32 | DType::F64 => x,
        _ => x.cast(DType::F32),
    }
}

/// The values of a tensor on the host, row-major; waits for the device.
pub fn host_values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    let data = tensor.into_data().convert_dtype(DType::F64);
    data.try_into_vec::<f64>().expect("the dtype was converted to f64 just above")
}
