//! How a device says that its memory has run out.

/// What GPU backends, their drivers and the standard library say of memory that cannot be had, in
/// small letters. CubeCL's texts are those of `cubecl-runtime/src/server/base.rs` of 0.11, wgpu's
/// those of its `DeviceError` and `Error`, CUDA's the name of its code.
const SIGNS: [&str; 11] = [
    "out of memory",
    "out-of-memory",
    "out_of_memory",
    "outofmemory",
    "out of device memory",
    "bufferallocationfailed",
    "can't allocate buffer of size",
    "every page size the memory tracks still holds live allocations",
    "couldn't map storage for a deferred allocation",
    "not enough memory left",
    "memory allocation of",
];

/// Whether the text of an error or a panic says that memory has run out.
#[must_use]
pub fn is_out_of_memory(text: &str) -> bool {
    let text = text.to_lowercase();
    SIGNS.iter().any(|sign| text.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t45_what_devices_say_of_memory_is_recognised_and_nothing_else() {
        for said in [
            "An out-of-memory error happened during launch\nCaused by:\n  pool\nBacktrace\n",
            "out of device memory allocating 1073741824 bytes\n",
            "can't allocate buffer of size: 8589934592\n",
            "Can't allocate 512 bytes: every page size the memory tracks still holds live allocations",
            "couldn't map storage for a deferred allocation of 512 bytes\nCaused by:\n  x",
            "Unknown error happened during execution: cuMemAllocHost_v2 failed with error code: \
             CUDA_ERROR_OUT_OF_MEMORY",
            "wgpu error: Out of Memory",
            "wgpu error: Validation Error: Not enough memory left.",
            "memory allocation of 4096 bytes failed",
        ] {
            assert!(is_out_of_memory(said), "{said}");
        }
        for said in [
            "index out of bounds: the len is 3 but the index is 3",
            "couldn't find resource for that handle: Memory wasn't found",
            "The device is poisoned: an illegal memory access",
            "Too many resources were requested during launch",
        ] {
            assert!(!is_out_of_memory(said), "{said}");
        }
    }
}
