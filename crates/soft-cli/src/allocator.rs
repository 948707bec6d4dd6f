//! mimalloc, which ends the program with the contract's exit code when memory runs out.
#![expect(unsafe_code, reason = "an allocator is unsafe by its nature; this one only forwards")]

use std::alloc::{GlobalAlloc, Layout};
use std::io::Write;

use mimalloc::MiMalloc;
use soft_train::memory::ADVICE;

use crate::failure::OUT_OF_MEMORY;

unsafe extern "C" {
    fn mi_option_set_default(option: std::ffi::c_int, value: std::ffi::c_long);
}

/// `mi_option_purge_delay` in mimalloc's list of options.
const PURGE_DELAY: std::ffi::c_int = 15;

/// Keeps freed memory instead of giving it back to the system: the next step asks for the same
/// sizes, and clearing pages that come back is a tenth of a training step's time. Where
/// `MIMALLOC_PURGE_DELAY` is set it holds.
pub(crate) fn keep_freed_memory() {
    // SAFETY: sets one number that the allocator reads when it frees.
    unsafe { mi_option_set_default(PURGE_DELAY, -1) };
}

/// The allocator of the program.
pub(crate) struct Allocator;

// SAFETY: every call is forwarded unchanged to an allocator that keeps the contract.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those of the callee.
        checked(unsafe { MiMalloc.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those of the callee.
        checked(unsafe { MiMalloc.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promises are those of the callee.
        checked(unsafe { MiMalloc.realloc(old, layout, new_size) }, new_size)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are those of the callee.
        unsafe { MiMalloc.dealloc(block, layout) }
    }
}

/// Without this the standard library aborts, which looks like a crash and has no exit code.
fn checked(block: *mut u8, bytes: usize) -> *mut u8 {
    if block.is_null() {
        // On the stack: there is no memory to format in.
        let mut text = [0_u8; 512];
        let mut rest = &mut text[..];
        let _ = writeln!(rest, "error: out of memory: {bytes} bytes were refused; {ADVICE}");
        let unused = rest.len();
        let _ = std::io::stderr().write_all(&text[..text.len() - unused]);
        std::process::exit(i32::from(OUT_OF_MEMORY));
    }
    block
}
