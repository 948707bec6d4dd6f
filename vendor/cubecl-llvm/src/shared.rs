//! What all targets share.

/// Narrowing of a device's features to what LLVM lowers.
pub mod lowered_features {
    use cubecl_core::ir::DeviceProperties;

    /// The target that features are narrowed for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum GpuTarget {
        /// PTX.
        Nvptx,
    }

    /// Leaves `props` as they are: with nothing lowered there is nothing to narrow.
    pub fn restrict_features(_props: &mut DeviceProperties, _target: GpuTarget) {}
}
