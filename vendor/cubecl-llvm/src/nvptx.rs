//! The NVPTX target.

/// Versions of the PTX instruction set.
pub mod ptx_version {
    use core::fmt;

    /// A PTX version. It has no values: only the LLVM path reads one.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum PtxVersion {}

    impl PtxVersion {
        /// The newest version that a driver of CUDA `driver` loads: unknown here.
        pub fn for_driver(_driver: i32) -> Option<Self> {
            None
        }
    }

    impl fmt::Display for PtxVersion {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            match *self {}
        }
    }
}
