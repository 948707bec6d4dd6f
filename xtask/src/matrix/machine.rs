//! What hardware and drivers this machine has, as far as a lane needs to know.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Whether a graphics card can be reached: the device files of the kernel's drivers.
pub(super) fn has_gpu() -> bool {
    if cfg!(target_os = "macos") {
        return true;
    }
    let devices = ["/dev/nvidia0", "/dev/dri/renderD128", "/dev/dxg"];
    devices.iter().any(|device| Path::new(device).exists())
}

/// What keeps CUDA from running here, if anything does.
pub(super) fn cuda_obstacle() -> Option<String> {
    if !Path::new("/dev/nvidia0").exists() && !Path::new("/dev/dxg").exists() {
        return Some("no NVIDIA card on this machine".to_owned());
    }
    for library in ["libcuda.so", "libnvrtc.so"] {
        if !has_library(library) {
            return Some(format!("a card, but no {library} (driver or CUDA toolkit missing)"));
        }
    }
    if cuda_headers().is_none() {
        return Some("a card, but no CUDA headers: set CUDA_PATH".to_owned());
    }
    None
}

/// Whether the dynamic loader finds a library whose file name starts with `name`.
pub(super) fn has_library(name: &str) -> bool {
    let mut folders: Vec<PathBuf> = std::env::var_os("LD_LIBRARY_PATH")
        .map(|paths| std::env::split_paths(&paths).collect())
        .unwrap_or_default();
    folders.extend(["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from));
    folders.extend(["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"].map(PathBuf::from));
    folders.extend(["/usr/local/cuda/lib64", "/usr/lib/wsl/lib"].map(PathBuf::from));
    folders.iter().any(|folder| holds(folder, name)) || loader_cache_names(name)
}

fn holds(folder: &Path, name: &str) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with(name))
}

fn loader_cache_names(name: &str) -> bool {
    ["ldconfig", "/sbin/ldconfig"].iter().any(|program| {
        let output = Command::new(program).arg("-p").stderr(Stdio::null()).output();
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(name))
    })
}

/// Where NVRTC finds the headers that kernels include; the same places that CubeCL looks in.
fn cuda_headers() -> Option<PathBuf> {
    let roots = match std::env::var_os("CUDA_PATH") {
        Some(path) => vec![PathBuf::from(path)],
        None => ["/usr/local/cuda", "/opt/cuda", "/usr"].map(PathBuf::from).to_vec(),
    };
    roots.into_iter().map(|root| root.join("include")).find(|path| path.join("cuda.h").exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_library_that_is_nowhere_is_not_found() {
        assert!(!has_library("libnobody-has-this.so"));
    }
}
