//! Other programs: starting cargo the way a terminal would, and passing on how it ended.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// Why a verb did not succeed: what to print, and the exit code to end with.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Printed on stderr after `xtask: `; nothing is printed when it is empty.
    pub(crate) message: String,
    /// Exit code of `cargo xtask`.
    pub(crate) code: u8,
}

impl Failure {
    /// A failure of our own: exit code 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1 }
    }
}

/// How a verb ends.
pub(crate) type Outcome = Result<(), Failure>;

/// The folder of the workspace's `Cargo.toml`.
pub(crate) fn workspace_root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// `cargo`, in the workspace root.
///
/// What `cargo run` sets for this program is taken away again: build scripts that watch those
/// variables would run anew on every change between `cargo xtask test` and `cargo test`.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command.current_dir(workspace_root());
    command
}

/// Runs `command` on our terminal and waits for it; `what` names it in the error.
pub(crate) fn run(command: &mut Command, what: &str) -> Outcome {
    let status =
        command.status().map_err(|error| Failure::new(format!("cannot start {what}: {error}")))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure { message: format!("{what} failed ({status})"), code: exit_code(status.code()) })
}

/// A child's exit code as ours; 1 where a signal ended it.
pub(crate) fn exit_code(code: Option<i32>) -> u8 {
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// What `command` writes to stdout; its stderr goes to our terminal.
pub(crate) fn stdout_of(command: &mut Command, what: &str) -> Result<String, Failure> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Failure::new(format!("cannot start {what}: {error}")))?;
    if !output.status.success() {
        return Err(Failure::new(format!("{what} failed ({})", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The workspace as cargo sees it: packages, targets, target directory.
pub(crate) fn metadata() -> Result<Value, Failure> {
    let mut command = cargo();
    command.args(["metadata", "--no-deps", "--format-version", "1"]);
    let text = stdout_of(&mut command, "cargo metadata")?;
    serde_json::from_str(&text)
        .map_err(|error| Failure::new(format!("cargo metadata is not JSON: {error}")))
}

/// Where the dev profile's programs lie.
pub(crate) fn debug_dir(metadata: &Value) -> Result<PathBuf, Failure> {
    match metadata["target_directory"].as_str() {
        Some(folder) => Ok(Path::new(folder).join("debug")),
        None => Err(Failure::new("cargo metadata names no target directory")),
    }
}

/// Names of the targets of `package` that have `kind` ("bin", "example", "test"), sorted.
pub(crate) fn targets(metadata: &Value, package: &str, kind: &str) -> Vec<String> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let mut names: Vec<String> = packages
        .filter(|found| found["name"] == package)
        .flat_map(|found| found["targets"].as_array().into_iter().flatten())
        .filter(|target| {
            target["kind"].as_array().is_some_and(|kinds| kinds.contains(&kind.into()))
        })
        .filter_map(|target| target["name"].as_str().map(str::to_owned))
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_those_of_the_package_and_kind() {
        let metadata = serde_json::json!({"packages": [
            {"name": "a", "targets": [
                {"name": "z", "kind": ["bin"]}, {"name": "b", "kind": ["bin"]},
                {"name": "c", "kind": ["test"]}]},
            {"name": "other", "targets": [{"name": "d", "kind": ["bin"]}]},
        ]});
        assert_eq!(targets(&metadata, "a", "bin"), ["b", "z"]);
        assert!(targets(&metadata, "nowhere", "bin").is_empty());
    }

    #[test]
    fn a_signal_ends_with_code_one() {
        assert_eq!(exit_code(Some(130)), 130);
        assert_eq!(exit_code(None), 1);
    }
}
