//! mimalloc, which counts what each thread holds: a parser is judged by what it asks for.
#![expect(unsafe_code, reason = "an allocator is unsafe by its nature; this one only forwards")]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;

use mimalloc::MiMalloc;

/// The allocator of every program of this package.
pub(crate) struct Allocator;

/// Bytes that a thread holds, and the most it held since it was last asked.
#[derive(Clone, Copy)]
struct Held {
    now: isize,
    most: isize,
}

thread_local! {
    static HELD: Cell<Held> = const { Cell::new(Held { now: 0, most: 0 }) };
}

/// The most bytes that this thread held during `work` beyond what it held before, and what `work`
/// gave. What was asked for counts, whether or not it was ever touched.
pub(crate) fn most_held<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = HELD.with(|held| {
        let now = held.get().now;
        held.set(Held { now, most: now });
        now
    });
    let done = work();
    let most = HELD.with(|held| held.get().most);
    ((most - before).unsigned_abs(), done)
}

/// Notes a change. At the end of a thread, when its count is gone, there is nothing to note.
fn note(change: isize) {
    let _ = HELD.try_with(|held| {
        let now = held.get().now + change;
        held.set(Held { now, most: held.get().most.max(now) });
    });
}

// SAFETY: every call is forwarded unchanged to an allocator that keeps the contract.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        // SAFETY: the caller's promises are those of the callee.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        // SAFETY: the caller's promises are those of the callee.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note(new_size as isize - layout.size() as isize);
        // SAFETY: the caller's promises are those of the callee.
        unsafe { MiMalloc.realloc(old, layout, new_size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        note(-(layout.size() as isize));
        // SAFETY: the caller's promises are those of the callee.
        unsafe { MiMalloc.dealloc(block, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_that_was_held_counts_and_not_what_was_held_before() {
        let before = vec![0_u8; 1 << 20];
        let (most, kept) = most_held(|| {
            drop(Vec::<u8>::with_capacity(5000));
            drop(Vec::<u8>::with_capacity(3000));
            Vec::<u8>::with_capacity(100)
        });
        assert!((5000..6000).contains(&most), "{most}");
        drop((before, kept));
        let (most, ()) = most_held(|| ());
        assert_eq!(most, 0);
    }
}
