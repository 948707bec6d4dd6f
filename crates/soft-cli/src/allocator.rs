//! mimalloc, which ends the program with the contract's exit code when memory runs out.
#![expect(unsafe_code, reason = "an allocator is unsafe by its nature; this one only forwards")]

use std::alloc::{GlobalAlloc, Layout};
use std::io::Write;

use mimalloc::MiMalloc;

use crate::failure::OUT_OF_MEMORY;

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
        let mut text = [0_u8; 160];
        let mut rest = &mut text[..];
        let advice = "use a smaller model, batch or `rollout.segment`";
        let _ = writeln!(rest, "error: out of memory: {bytes} bytes were refused; {advice}");
        let unused = rest.len();
        let _ = std::io::stderr().write_all(&text[..text.len() - unused]);
        std::process::exit(i32::from(OUT_OF_MEMORY));
    }
    block
}
