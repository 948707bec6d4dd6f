//! Where and with what a run ran, for whoever wants to get its numbers again.

use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// The machine, the program and the seed of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// The device tensors live on, as Burn names it.
    pub device: String,
    /// Operating system.
    pub os: String,
    /// Instruction set.
    pub arch: String,
    /// The processor's name, where the system tells.
    pub cpu: Option<String>,
    /// Threads that can run at once.
    pub threads: usize,
    /// Versions that numbers depend on.
    pub versions: Versions,
    /// Commit of the working directory, ending in `-dirty` if it has changes; `None` outside a
    /// git repository.
    pub revision: Option<String>,
    /// The run's seed.
    pub seed: u64,
}

/// Versions that numbers depend on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// This program.
    pub soft: String,
    /// Burn, to which the workspace is pinned.
    pub burn: String,
    /// The oldest Rust that compiles it.
    pub rust: String,
}

impl Environment {
    /// Looks around: `device` and `seed` are the caller's, the rest is found here.
    pub fn capture(device: impl Into<String>, seed: u64) -> Self {
        Self {
            device: device.into(),
            os: std::env::consts::OS.into(),
            arch: std::env::consts::ARCH.into(),
            cpu: cpu_name(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            versions: Versions {
                soft: env!("CARGO_PKG_VERSION").into(),
                burn: "0.22.1".into(),
                rust: env!("CARGO_PKG_RUST_VERSION").into(),
            },
            revision: git_revision(),
            seed,
        }
    }
}

fn cpu_name() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

fn git_revision() -> Option<String> {
    let arguments = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"];
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_string())
}
