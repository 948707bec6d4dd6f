//! A Vulkan driver that runs on the CPU (lavapipe, of Debian's `mesa-vulkan-drivers`), so that
//! the lane `wgpu` runs on machines without a graphics card.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::machine::has_library;

/// The driver, and the loader that applications open.
const PACKAGES: [&str; 2] = ["mesa-vulkan-drivers", "libvulkan1"];

/// Folders where drivers announce themselves.
const MANIFESTS: [&str; 3] =
    ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d"];

/// The manifest of the software driver, installed first where it is missing and we may.
///
/// # Errors
/// Why there is none, with the command that installs it.
pub(super) fn find_or_install() -> Result<PathBuf, String> {
    if let Some(manifest) = find() {
        return Ok(manifest);
    }
    let by_hand = format!("apt-get install {}", PACKAGES.join(" "));
    let Some(prefix) = privilege() else {
        return Err(format!("no software Vulkan driver; as root: {by_hand}"));
    };
    println!("--- installing {}", PACKAGES.join(" and "));
    if !install(&prefix) {
        return Err(format!("no software Vulkan driver, and this failed: {by_hand}"));
    }
    find().ok_or_else(|| format!("{by_hand} left no lvp_icd*.json in {}", MANIFESTS[0]))
}

/// Whether a driver announces itself for a card that is there; where Vulkan is not what `wgpu`
/// uses, the system's own is taken for granted.
pub(super) fn drives_a_card() -> bool {
    cfg!(target_os = "macos")
        || manifests().any(|path| card_of(&path).is_some_and(|card| Path::new(card).exists()))
}

/// The device file of the cards that a driver is for. Mesa installs its drivers for all cards at
/// once, so that a manifest alone says nothing.
fn card_of(manifest: &Path) -> Option<&'static str> {
    let name = manifest.file_name().unwrap_or_default().to_string_lossy();
    match () {
        () if is_software(manifest) => None,
        () if name.starts_with("nvidia") => Some("/dev/nvidia0"),
        () if name.starts_with("dzn") => Some("/dev/dxg"),
        () => Some("/dev/dri/renderD128"),
    }
}

fn find() -> Option<PathBuf> {
    manifests().find(|path| is_software(path))
}

/// Drivers that announce themselves; none where there is nothing to load them.
fn manifests() -> impl Iterator<Item = PathBuf> {
    let folders = if has_library("libvulkan.so.1") { &MANIFESTS[..] } else { &[] };
    let folders = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok());
    let paths = folders.flatten().flatten().map(|entry| entry.path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "json"))
}

/// Mesa names its CPU driver `lvp`.
fn is_software(manifest: &Path) -> bool {
    let name = manifest.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("lvp_icd") && name.ends_with(".json")
}

/// The words before `apt-get`: none for root, `sudo -n` where it asks for no password. `None`
/// where there is no apt-get or no right to use it.
fn privilege() -> Option<Vec<&'static str>> {
    let works = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if !works("apt-get", &["--version"]) {
        return None;
    }
    let user = Command::new("id").arg("-u").output().ok()?;
    if user.stdout.trim_ascii() == b"0" {
        return Some(Vec::new());
    }
    works("sudo", &["-n", "true"]).then(|| vec!["sudo", "-n"])
}

/// Installs from the lists at hand; fetches them anew only where that fails.
fn install(prefix: &[&str]) -> bool {
    let apt = |arguments: &[&str]| {
        let words: Vec<&str> = prefix.iter().copied().chain(["apt-get", "-q", "-y"]).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(arguments);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command.status().is_ok_and(|status| status.success())
    };
    let packages = ["install", "--no-install-recommends", PACKAGES[0], PACKAGES[1]];
    apt(&packages) || (apt(&["update"]) && apt(&packages))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_counts_for_its_own_card() {
        let card = |name: &str| card_of(&Path::new("/usr/share/vulkan/icd.d").join(name));
        assert_eq!(card("nvidia_icd.json"), Some("/dev/nvidia0"));
        assert_eq!(card("radeon_icd.x86_64.json"), Some("/dev/dri/renderD128"));
        assert_eq!(card("dzn_icd.x86_64.json"), Some("/dev/dxg"));
        assert_eq!(card("lvp_icd.x86_64.json"), None, "the software driver is for none");
    }

    #[test]
    fn only_mesas_cpu_driver_counts() {
        assert!(is_software(Path::new("/usr/share/vulkan/icd.d/lvp_icd.x86_64.json")));
        assert!(!is_software(Path::new("/usr/share/vulkan/icd.d/radeon_icd.x86_64.json")));
    }
}
