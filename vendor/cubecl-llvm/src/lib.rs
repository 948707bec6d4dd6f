//! The items of `cubecl-llvm` 0.11.3 that `cubecl-cuda` names, without LLVM behind them.
//!
//! The real crate's build script downloads an LLVM bundle, which a machine without internet
//! cannot do. `cubecl-cuda` compiles kernels through NVRTC as well (its feature `cpp`, which
//! `soft-core/cuda` turns on), and needs this crate's names only to type-check the path that is
//! then never taken. Should it be taken all the same, [`PlironCompiler`] answers with an error
//! that says what to do. See the README beside this file.

use core::convert::Infallible;
use core::ffi::c_char;
use core::fmt;

use cubecl_core::ir::nvidia::SmArch;
use cubecl_core::prelude::KernelDefinition;
use cubecl_core::{CompilationError, Compiler};
use cubecl_environment::backtrace::BackTrace;
use cubecl_runtime::kernel::BufferIOAttr;

pub mod nvptx;
pub mod shared;

/// The machine that LLVM would emit code for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LlvmTarget {
    /// PTX, the only target `cubecl-cuda` asks for.
    #[default]
    Nvptx,
}

/// A compiler that refuses every kernel.
#[derive(Clone, Debug, Default)]
pub struct PlironCompiler {
    /// The target; has no effect.
    pub target: LlvmTarget,
}

/// Options of a compilation; none has an effect.
#[derive(Clone, Debug, Default)]
pub struct PlironOptions {
    /// AMD architecture: never set by CUDA.
    pub arch: Option<Infallible>,
    /// NVIDIA architecture.
    pub sm_arch: Option<SmArch>,
    /// PTX version the driver loads.
    pub ptx_version: Option<nvptx::ptx_version::PtxVersion>,
    /// Whether launch parameters travel in the kernel's parameter block.
    pub grid_constants: bool,
}

/// A compiled PTX module. No function here makes one.
#[derive(Clone, Debug)]
pub struct NvptxModule {
    /// NUL-terminated PTX.
    pub ptx: Vec<c_char>,
    /// Name of the kernel's entry point.
    pub entrypoint: String,
    /// Intermediate representation, for logs.
    pub ir: String,
    /// Shared memory of a launch, in bytes.
    pub shared_memory_size: usize,
    /// How each buffer is used, in binding order.
    pub io: Vec<BufferIOAttr>,
}

/// What a compilation would give.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PlironArtifact {
    /// A PTX module.
    NvptxCode(NvptxModule),
}

impl fmt::Display for PlironArtifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PlironArtifact::NvptxCode(module) = self;
        f.write_str(&module.ir)
    }
}

impl Compiler for PlironCompiler {
    type Representation = PlironArtifact;
    type CompilationOptions = PlironOptions;

    fn compile(
        &mut self,
        _kernel: KernelDefinition,
        _options: &Self::CompilationOptions,
    ) -> Result<PlironArtifact, CompilationError> {
        Err(CompilationError::Generic {
            reason: "this build has a stand-in for cubecl-llvm, which compiles nothing: build \
                     with the feature `cpp` of cubecl-cuda (soft-core's feature `cuda` has it), \
                     or without the [patch.crates-io] entry for cubecl-llvm"
                .to_string(),
            backtrace: BackTrace::capture(),
        })
    }

    fn extension(&self) -> &'static str {
        "ll"
    }

    fn lang_tag(&self) -> &'static str {
        "llvm-stand-in"
    }
}
