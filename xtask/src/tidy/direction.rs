//! Data flows one way: `soft-core <- soft-model <- soft-train <- soft-cli`.

use serde_json::Value;

use super::Offence;
use super::source::Source;

/// The crates from left to right; each may use only those before it.
const LAYERS: [&str; 4] = ["soft-core", "soft-model", "soft-train", "soft-cli"];

/// Our packages that no layer may depend on.
const OUTSIDE: [&str; 3] = ["soft-tests", "soft-examples", "xtask"];

/// Whether `user` may not depend on `used`. Packages outside the layers may use any of them.
fn is_wrong_way(user: &str, used: &str) -> bool {
    let place = |name: &str| LAYERS.iter().position(|layer| *layer == name);
    match (place(user), place(used)) {
        (Some(user), Some(used)) => used > user,
        (Some(_), None) => OUTSIDE.contains(&used),
        (None, _) => false,
    }
}

/// Dependencies against the direction in the manifests, development dependencies included.
pub(super) fn manifests(metadata: &Value) -> Vec<Offence> {
    let mut offences = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let user = package["name"].as_str().unwrap_or_default();
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap_or_default();
            if is_wrong_way(user, used) {
                let file = package["manifest_path"].as_str().unwrap_or("Cargo.toml").to_owned();
                let message = format!("{user} must not depend on {used}: {}", order());
                offences.push(Offence { file, line: 1, message });
            }
        }
    }
    offences
}

/// Paths in the code of one crate that lead into a crate to its right.
pub(super) fn imports(source: &Source) -> Vec<Offence> {
    let Some(user) = source.package() else { return Vec::new() };
    let mut offences = Vec::new();
    for used in LAYERS.iter().chain(&OUTSIDE).filter(|used| is_wrong_way(user, used)) {
        let name = used.replace('-', "_");
        for (line, code) in source.code_lines() {
            if words(code).any(|word| word == name) {
                let message = format!("{user} must not use {name}: {}", order());
                offences.push(Offence { file: source.name.clone(), line, message });
            }
        }
    }
    offences
}

fn order() -> String {
    LAYERS.join(" <- ")
}

/// The identifiers of a line of code.
fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_core(text: &str) -> Vec<Offence> {
        imports(&Source::new("crates/soft-core/src/mix.rs", text))
    }

    #[test]
    fn a_manifest_may_name_crates_to_its_left_only() {
        let package = |name: &str, used: &str| {
            serde_json::json!({"packages": [{"name": name, "manifest_path": "X/Cargo.toml",
                "dependencies": [{"name": used, "kind": "dev"}]}]})
        };
        let found = manifests(&package("soft-model", "soft-train"));
        let message = "soft-model must not depend on soft-train: \
                       soft-core <- soft-model <- soft-train <- soft-cli";
        assert_eq!(found[0].message, message);
        assert_eq!(found[0].file, "X/Cargo.toml");
        assert!(manifests(&package("soft-train", "soft-model")).is_empty());
        assert!(manifests(&package("soft-tests", "soft-cli")).is_empty());
        assert_eq!(manifests(&package("soft-cli", "xtask")).len(), 1);
    }

    #[test]
    fn a_use_or_a_path_against_the_direction_is_found_with_its_line() {
        assert_eq!(in_core("//! x\nuse soft_model::KvCache;\n")[0].line, 2);
        assert_eq!(in_core("fn f() { soft_train::run() }").len(), 1);
        assert_eq!(in_core("use crate::mix;\nuse burn::tensor::Tensor;\n"), []);
    }

    #[test]
    fn a_comment_or_a_longer_name_is_no_import() {
        assert_eq!(in_core("/// soft_model::generate calls this.\nfn f() {}"), []);
        assert_eq!(in_core("let not_soft_model_here = \"soft_model\";"), []);
    }

    #[test]
    fn a_crate_may_use_itself_and_what_is_left_of_it() {
        let text = "use soft_core::Error;\nuse soft_model::Model;\n";
        assert_eq!(imports(&Source::new("crates/soft-train/src/run.rs", text)), []);
        assert_eq!(imports(&Source::new("tests/laws.rs", "use soft_train::Run;")), []);
    }
}
