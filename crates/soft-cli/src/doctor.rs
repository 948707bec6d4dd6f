//! `soft doctor`: what this program can run on here, and what is missing.

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;

use burn::tensor::Tensor;
use serde_json::{Value, json};
use soft_core::{compiled_devices, device_from_name};
use soft_train::disk;
use soft_train::memory::Available;
use soft_train::run_dir::Environment;

use crate::arguments::{Doctor, Global};
use crate::failure::{Failure, panic_text};
use crate::output::Output;
use crate::progress::Progress;
use crate::settings::{Without, loader};

/// A device that this build knows, and whether it computes.
struct Probe {
    name: &'static str,
    /// What went wrong.
    problem: Option<String>,
}

/// Runs the verb.
pub(crate) fn run(arguments: &Doctor, global: &Global) -> Result<(), Failure> {
    if let Some(name) = &arguments.probe {
        return probe_here(name);
    }
    let run = loader(None, global, Without::Defaults).load()?.config.run;
    let (chosen, runs) = (run.device, PathBuf::from(run.dir));
    let progress = Progress::new("trying the devices");
    let probes: Vec<_> = compiled_devices().into_iter().map(probe).collect();
    drop(progress);
    let report = report(&probes, &chosen, &runs);
    let mut out = Output::new();
    match arguments.json {
        true => out.json(&report)?,
        false => out.line(as_text(&report))?,
    }
    out.flush()
}

/// Tries a device in a process of its own: a broken driver may end the process it is loaded into.
fn probe(name: &'static str) -> Probe {
    let problem = match std::env::current_exe() {
        Err(error) => Some(format!("cannot find this program: {error}")),
        Ok(program) => match Command::new(program).args(["doctor", "--probe", name]).output() {
            Err(error) => Some(format!("cannot start this program: {error}")),
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(last_line(&output.stderr, &output.status.to_string())),
        },
    };
    Probe { name, problem }
}

/// The last line of a message, without its label; `otherwise` where a crash left none.
fn last_line(stderr: &[u8], otherwise: &str) -> String {
    let text = String::from_utf8_lossy(stderr);
    let line = text.lines().rev().find_map(|line| line.strip_prefix("error: "));
    line.map_or_else(|| format!("the driver ended the process ({otherwise})"), ToOwned::to_owned)
}

/// 1 + 2 on the device.
fn probe_here(name: &str) -> Result<(), Failure> {
    let device = device_from_name(name)?;
    std::panic::set_hook(Box::new(|_| {}));
    let sum = catch_unwind(|| {
        let data = Tensor::<1>::from_floats([1.0, 2.0], &device).sum().into_data();
        data.iter::<f64>().sum::<f64>()
    });
    match sum {
        Ok(3.0) => Ok(()),
        Ok(other) => Err(Failure::runtime(format!("1 + 2 gives {other} on this device"))),
        Err(panic) => {
            let text = panic_text(&*panic).replace('\n', " ");
            Err(Failure::runtime(format!("no such device here: {text}")))
        }
    }
}

fn report(probes: &[Probe], chosen: &str, runs: &Path) -> Value {
    let environment = Environment::capture("", 0);
    let device = |probe: &Probe| {
        let works = probe.problem.is_none();
        json!({ "name": probe.name, "works": works, "problem": probe.problem })
    };
    let devices: Vec<_> = probes.iter().map(device).collect();
    let models = models();
    let memory = Available::now();
    let disk = disk::space(runs);
    json!({
        "soft": environment.versions.soft,
        "burn": environment.versions.burn,
        "os": environment.os,
        "arch": environment.arch,
        "cpu": environment.cpu,
        "threads": threads(environment.threads),
        "memory_gib": memory.total.map(gib),
        "memory_available_gib": memory.bytes().map(gib),
        "memory_limit_gib": memory.group_limit.map(gib),
        "runs_folder": runs,
        "disk_gib": disk.map(|disk| gib(disk.total)),
        "disk_free_gib": disk.map(|disk| gib(disk.free)),
        "device": chosen,
        "devices": devices,
        "models_folders": models_folders(),
        "models": models,
        "hints": hints(probes, chosen, models.is_empty()),
    })
}

/// Threads that the CPU backends use.
fn threads(available: usize) -> usize {
    let limit = std::env::var("RAYON_NUM_THREADS").ok().and_then(|n| n.parse().ok());
    limit.filter(|&n: &usize| n > 0).unwrap_or(available)
}

/// Bytes in 2^30, to one digit.
fn gib(bytes: u64) -> f64 {
    (bytes as f64 / f64::from(1 << 30) * 10.0).round() / 10.0
}

/// Where the tests look too: `SOFT_MODELS`, else `models` and `../shared/models`.
fn models_folders() -> Vec<PathBuf> {
    match std::env::var_os("SOFT_MODELS") {
        Some(folder) => vec![folder.into()],
        None => ["models", "../shared/models"].map(PathBuf::from).to_vec(),
    }
}

/// GGUF files and Hugging Face folders in the models folders.
fn models() -> Vec<String> {
    let is_model = |path: &Path| {
        path.extension().is_some_and(|extension| extension == "gguf")
            || path.join("config.json").is_file()
    };
    let folders = models_folders();
    let entries = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok());
    let paths = entries.flatten().flatten().map(|entry| entry.path()).filter(|path| is_model(path));
    let mut paths: Vec<_> = paths.map(|path| path.display().to_string()).collect();
    paths.sort();
    paths
}

const CPU_ONLY: &str = "this build runs on the CPU only; for a GPU build with \
     `--features cuda`, `vulkan`, `metal` or `wgpu`";
const NO_MODELS: &str = "no model found: set SOFT_MODELS to a folder with GGUF files or Hugging \
     Face folders, or run `cargo xtask fetch`";

fn hints(probes: &[Probe], chosen: &str, no_models: bool) -> Vec<String> {
    let mut hints = Vec::new();
    let works = |probe: &Probe| probe.problem.is_none();
    if !probes.iter().any(|probe| !is_cpu(probe.name)) {
        hints.push(CPU_ONLY.into());
    }
    if chosen != "auto" && !probes.iter().any(|probe| probe.name == chosen && works(probe)) {
        hints.push(format!(
            "the chosen device `{chosen}` does not run; choose another with `--device`"
        ));
    }
    if let Some(broken) = probes.iter().find(|probe| chosen == "auto" && !works(probe)) {
        hints.push(format!(
            "`{}` does not run: give `--device` another one of those above",
            broken.name
        ));
    }
    if no_models {
        hints.push(NO_MODELS.into());
    }
    hints
}

fn is_cpu(name: &str) -> bool {
    matches!(name, "flex" | "ndarray" | "wgpu-cpu")
}

fn as_text(report: &Value) -> String {
    let text = |key: &str| match &report[key] {
        Value::Null => "unknown".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut lines = vec![
        format!("soft {}, burn {}, {} {}", text("soft"), text("burn"), text("os"), text("arch")),
        format!("cpu      {}, {} threads", text("cpu"), text("threads")),
        format!(
            "memory   {} GiB, {} GiB free, {}",
            text("memory_gib"),
            text("memory_available_gib"),
            match &report["memory_limit_gib"] {
                Value::Null => "no limit of a control group".to_owned(),
                limit => format!("a control group's limit of {limit} GiB"),
            }
        ),
        format!(
            "disk     {} GiB, {} GiB free for {}",
            text("disk_gib"),
            text("disk_free_gib"),
            text("runs_folder")
        ),
    ];
    for device in report["devices"].as_array().into_iter().flatten() {
        let name = device["name"].as_str().unwrap_or_default();
        lines.push(match device["problem"].as_str() {
            None => format!("device   {name}: works"),
            Some(problem) => format!("device   {name}: does not run: {problem}"),
        });
    }
    for model in report["models"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        lines.push(format!("model    {model}"));
    }
    for hint in report["hints"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        lines.push(format!("hint     {hint}"));
    }
    lines.join("\n")
}
