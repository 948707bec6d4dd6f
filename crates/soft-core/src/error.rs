//! What can be wrong with the settings of a soft-token pipeline.

/// A setting outside its range, or a device this build does not have.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A number outside its range.
    #[error("{name} = {found}: expected {expected}")]
    OutOfRange {
        /// Name of the setting.
        name: &'static str,
        /// What was given.
        found: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// The order of transforms names one twice.
    #[error("order names {name:?} twice; each transform is applied once")]
    RepeatedTransform {
        /// The transform's name.
        name: &'static str,
    },
    /// The order of transforms leaves out one that is switched on.
    #[error("{name} is set but missing from order; add it there, or switch it off")]
    MissingTransform {
        /// The transform's name.
        name: &'static str,
    },
    /// The order of transforms has a filter after noise that is switched on.
    #[error("order has {name} after noise; noise comes after every filter, so name it last")]
    NoiseNotLast {
        /// Name of the transform after it.
        name: &'static str,
    },
    /// Noise on a distribution of which only drawn tokens are fed.
    #[error("feed draws tokens and noise is on; switch one of them off")]
    NoiseBesideDraws,
    /// A setting that is learned from a value outside the bound it is to keep.
    #[error("{name} = {found}: it is learned from there, so expected a number {bound}")]
    StartOutOfBounds {
        /// Name of the setting.
        name: &'static str,
        /// Where it would start.
        found: String,
        /// What its bound allows.
        bound: String,
    },
    /// Learnable settings in a pipeline that gives them no gradient.
    #[error("nothing can be learned of the filters: {why}")]
    NothingToLearn {
        /// The reason.
        why: &'static str,
    },
    /// A device name that no backend has.
    #[error("unknown device {name:?}: this build knows {known}")]
    UnknownDevice {
        /// What was given.
        name: String,
        /// The names that work.
        known: String,
    },
    /// A device whose backend is not compiled in.
    #[error(
        "device {name:?} is not in this build: build with `--features {feature}`; this build knows {known}"
    )]
    NotCompiled {
        /// What was given.
        name: String,
        /// The cargo feature that brings it.
        feature: &'static str,
        /// The names that work.
        known: String,
    },
}

#[cfg(test)]
mod tests {
    use super::Error;

    #[test]
    fn errors_about_devices_name_what_works() {
        let known = || "auto, flex".to_string();
        let unknown = Error::UnknownDevice { name: "abacus".into(), known: known() };
        assert_eq!(unknown.to_string(), "unknown device \"abacus\": this build knows auto, flex");
        let absent = Error::NotCompiled { name: "cuda".into(), feature: "cuda", known: known() };
        assert_eq!(
            absent.to_string(),
            "device \"cuda\" is not in this build: build with `--features cuda`; this build knows auto, flex"
        );
    }
}
