//! From the command line to one configuration.

use soft_train::config::{Loader, QUICKSTART, QUICKSTART_NAME, Resolved};

use crate::arguments::{Global, Source};
use crate::failure::Failure;

/// What a verb runs where no file is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Without {
    /// The built-in quickstart.
    Quickstart,
    /// The defaults.
    Defaults,
}

/// The sources that all verbs share; a verb adds its own flags.
pub(crate) fn loader(source: Option<&Source>, global: &Global, without: Without) -> Loader {
    let mut loader = Loader::new();
    match source.and_then(|source| source.config.as_ref()) {
        Some(path) => loader = loader.file(path),
        None if without == Without::Quickstart => {
            loader = loader.text(QUICKSTART_NAME, QUICKSTART);
        }
        None => {}
    }
    if let Ok(device) = std::env::var("SOFT_DEVICE")
        && !device.is_empty()
    {
        loader = loader.environment("SOFT_DEVICE", "run.device", device);
    }
    if let Some(source) = source {
        loader = loader.overrides(&source.overrides);
    }
    if let Some(device) = &global.device {
        loader = loader.flag("--device", "run.device", device.as_str());
    }
    loader
}

/// The device of a configuration.
///
/// # Errors
/// A name that this build does not know, with the place it came from.
pub(crate) fn device(resolved: &Resolved) -> Result<burn::tensor::Device, Failure> {
    soft_core::device_from_name(&resolved.config.run.device)
        .map_err(|error| Failure::usage(format!("{}: {error}", resolved.origin("run.device"))))
}
