//! The system's allocator, with a count of what chosen threads ask it for.
//!
//! The one file here with `unsafe`. Threads that are not counted pay for one thread-local look.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts and hands on.
pub struct Counting;

/// What the counted threads have asked for since the process began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allocated {
    /// New blocks.
    pub blocks: u64,
    /// Blocks that changed their size.
    pub resized: u64,
    /// Bytes of both.
    pub bytes: u64,
}

static BLOCKS: AtomicU64 = AtomicU64::new(0);
static RESIZED: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

thread_local! {
    // Const and without a destructor: reading it allocates nothing, at any time in a thread's life.
    static IS_COUNTED: Cell<bool> = const { Cell::new(false) };
}

/// From now on the calling thread is counted, or no longer.
pub fn count_this_thread(on: bool) {
    IS_COUNTED.set(on);
}

/// The counts so far.
pub fn allocated() -> Allocated {
    Allocated {
        blocks: BLOCKS.load(Ordering::Relaxed),
        resized: RESIZED.load(Ordering::Relaxed),
        bytes: BYTES.load(Ordering::Relaxed),
    }
}

fn note(which: &AtomicU64, bytes: usize) {
    if IS_COUNTED.get() {
        which.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

// SAFETY: every call is handed to `System` as it came; counting touches no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(&BLOCKS, layout.size());
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(&BLOCKS, layout.size());
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note(&RESIZED, bytes);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.realloc(block, layout, bytes) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, handed on.
        unsafe { System.dealloc(block, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_threads_that_ask_for_it_are_counted() {
        // One test, because the counts belong to the whole process.
        let before = allocated();
        drop(std::hint::black_box(vec![0u8; 1000]));
        assert_eq!(allocated(), before);
        count_this_thread(true);
        let mut bytes: Vec<u8> = std::hint::black_box(Vec::with_capacity(1000));
        bytes.reserve_exact(5000);
        count_this_thread(false);
        let after = allocated();
        assert_eq!((after.blocks - before.blocks, after.resized - before.resized), (1, 1));
        assert_eq!(after.bytes - before.bytes, 6000);
    }
}
