//! The lanes: which backend, and whether this machine can run it.

use super::machine;
use super::vulkan_driver;

/// One backend of the matrix.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lane {
    pub(super) name: &'static str,
    /// Features of a build of its own, where it cannot share the common one.
    pub(super) own_features: Option<&'static str>,
}

/// All lanes, in the order of the table.
pub(super) const LANES: [Lane; 5] = [
    Lane { name: "flex", own_features: None },
    Lane { name: "ndarray", own_features: None },
    Lane { name: "wgpu", own_features: None },
    Lane { name: "cuda", own_features: None },
    Lane { name: "vulkan", own_features: Some("flex,vulkan") },
];

/// What to do with a lane on this machine.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Run it: the value of `SOFT_DEVICE`, and more variables for the process.
    Run { device: String, variables: Vec<(String, String)> },
    /// Leave it out, for this reason.
    Skip(String),
}

impl Lane {
    /// Looks at the machine; the lane `wgpu` may install a software driver.
    pub(super) fn plan(&self) -> Plan {
        match self.name {
            "wgpu" if machine::has_gpu() && vulkan_driver::drives_a_card() => runs_on("wgpu"),
            "wgpu" => match vulkan_driver::find_or_install() {
                Ok(manifest) => Plan::Run {
                    device: "wgpu-cpu".to_owned(),
                    // The first is what loaders since 1.3.207 read, the second what older ones do.
                    variables: ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"]
                        .map(|name| (name.to_owned(), manifest.display().to_string()))
                        .to_vec(),
                },
                Err(reason) => Plan::Skip(reason),
            },
            "cuda" => match machine::cuda_obstacle() {
                None => runs_on("cuda"),
                Some(obstacle) => Plan::Skip(format!("compiled, not run: {obstacle}")),
            },
            "vulkan" if !machine::has_gpu() => {
                Plan::Skip("no GPU here, and its SPIR-V crashes the software driver".to_owned())
            }
            "vulkan" if !vulkan_driver::drives_a_card() => {
                Plan::Skip("a GPU, but no Vulkan driver for it".to_owned())
            }
            name => runs_on(name),
        }
    }
}

fn runs_on(device: &str) -> Plan {
    Plan::Run { device: device.to_owned(), variables: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_lanes_always_run() {
        for lane in &LANES[..2] {
            assert_eq!(lane.plan(), runs_on(lane.name));
        }
    }
}
