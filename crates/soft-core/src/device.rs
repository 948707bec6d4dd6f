//! Names of the devices that a build can run on.

use burn::tensor::Device;
#[cfg(any(feature = "wgpu", feature = "vulkan", feature = "metal"))]
use burn::tensor::DeviceKind;

use crate::Error;

/// Every device name, with the cargo feature it needs and whether this build has it.
const DEVICES: [(&str, &str, bool); 7] = [
    ("flex", "flex", cfg!(feature = "flex")),
    ("ndarray", "ndarray", cfg!(feature = "ndarray")),
    ("cuda", "cuda", cfg!(feature = "cuda")),
    ("vulkan", "vulkan", cfg!(feature = "vulkan")),
    ("metal", "metal", cfg!(feature = "metal")),
    ("wgpu", "wgpu", cfg!(feature = "wgpu")),
    ("wgpu-cpu", "wgpu", cfg!(feature = "wgpu")),
];

/// The device names that this build can open.
pub fn compiled_devices() -> Vec<&'static str> {
    DEVICES.iter().filter(|device| device.2).map(|device| device.0).collect()
}

/// Opens a device by name: `auto`, `flex`, `ndarray`, `cuda`, `vulkan`, `metal`, `wgpu` or
/// `wgpu-cpu` (WGSL on a software driver). `auto` is the first compiled GPU backend, else the CPU.
///
/// # Errors
/// A name that no backend has, or whose backend is not compiled in.
pub fn device_from_name(name: &str) -> Result<Device, Error> {
    let known = || format!("auto, {}", compiled_devices().join(", "));
    let name = if name == "auto" { automatic() } else { name };
    match name {
        #[cfg(feature = "flex")]
        "flex" => Ok(Device::flex()),
        #[cfg(feature = "ndarray")]
        "ndarray" => Ok(Device::ndarray()),
        #[cfg(feature = "cuda")]
        "cuda" => Ok(Device::cuda(0)),
        #[cfg(feature = "vulkan")]
        "vulkan" => Ok(Device::vulkan(DeviceKind::DefaultDevice)),
        #[cfg(feature = "metal")]
        "metal" => Ok(Device::metal(DeviceKind::DefaultDevice)),
        #[cfg(feature = "wgpu")]
        "wgpu" => Ok(Device::wgpu(DeviceKind::DefaultDevice)),
        #[cfg(feature = "wgpu")]
        "wgpu-cpu" => Ok(Device::wgpu(DeviceKind::Cpu)),
        _ => Err(match DEVICES.iter().find(|device| device.0 == name) {
            Some((_, feature, _)) => {
                Error::NotCompiled { name: name.into(), feature, known: known() }
            }
            None => Error::UnknownDevice { name: name.into(), known: known() },
        }),
    }
}

fn automatic() -> &'static str {
    ["cuda", "metal", "vulkan", "wgpu", "flex", "ndarray"]
        .into_iter()
        .find(|name| DEVICES.iter().any(|device| device.0 == *name && device.2))
        .unwrap_or("flex")
}

/// Whether the device's tensors lie in host memory, so that reading them costs a copy and no wait.
pub fn is_host_device(device: &Device) -> bool {
    let host: &[Device] = &[
        #[cfg(feature = "flex")]
        Device::flex(),
        #[cfg(feature = "ndarray")]
        Device::ndarray(),
    ];
    host.contains(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_device_names_those_that_work() {
        let error = device_from_name("abacus").expect_err("there is no abacus");
        assert!(
            error.to_string().starts_with("unknown device \"abacus\": this build knows auto, ")
        );
    }

    #[cfg(feature = "flex")]
    #[test]
    fn the_cpu_is_a_host_device_with_and_without_autodiff() {
        assert!(is_host_device(&Device::flex()));
        assert!(is_host_device(&Device::flex().autodiff()));
    }
}
