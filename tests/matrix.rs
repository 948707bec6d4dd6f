//! The portability matrix: the same small tests on every backend, on the device that `SOFT_DEVICE`
//! names (`flex` where it is not set). `cargo xtask matrix` runs each module of this file on each
//! device, and makes a table of it. Shapes are tiny, since one lane is a GPU played by a CPU.

use burn::tensor::{DType, Device, Tensor};
use soft_core::{device_from_name, float_tensor, host_values};

#[path = "matrix/generation.rs"]
mod generation;
#[path = "matrix/laws.rs"]
mod laws;
#[path = "matrix/parity.rs"]
mod parity;
#[path = "matrix/tiny.rs"]
mod tiny;
#[path = "matrix/training_step.rs"]
mod training_step;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The device under test.
fn device() -> Device {
    let name = std::env::var("SOFT_DEVICE").unwrap_or_else(|_| "flex".to_owned());
    device_from_name(&name).expect("SOFT_DEVICE names a device of this build")
}

/// The device that the others are compared with.
fn reference() -> Device {
    device_from_name("flex").expect("flex is compiled in")
}

/// An f32 tensor of numbers that are neither round nor equal, between -1 and 1.
fn numbers<const D: usize>(shape: [usize; D], seed: f64, device: &Device) -> Tensor<D> {
    let count: usize = shape.iter().product();
    let values = (0..count).map(|index| (index as f64 * 1.7 + seed).sin()).collect();
    float_tensor(values, shape, device, DType::F32)
}

/// Asserts that two tensors have the same shape and differ by at most `tolerance`.
fn assert_close<const D: usize>(what: &str, found: Tensor<D>, expected: Tensor<D>, tolerance: f64) {
    assert_eq!(found.dims(), expected.dims(), "{what}: shape");
    assert_values_close(what, &host_values(found), &host_values(expected), tolerance);
}

/// The same for values on the host. A value that is not a number is never close.
fn assert_values_close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}: number of values");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs();
        assert!(
            error <= tolerance,
            "{what}: value {index} is {found}, expected {expected}: off by {error:e}, \
             at most {tolerance:e}"
        );
    }
}

/// CUDA kernels go through NVRTC: LLVM would have to be downloaded (vendor/cubecl-llvm/README.md).
#[cfg(feature = "cuda")]
#[test]
fn cuda_compiles_through_nvrtc_not_llvm() {
    use cubecl_cuda::compiler::CudaBackend;
    assert_eq!(CudaBackend::default(), CudaBackend::Cpp);
}
