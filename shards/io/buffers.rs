//! The provided buffers of one ring: the kernel picks one per received piece, the shard gives it back.
//!
//! One of the two files with `unsafe`. Memory: the ring of descriptors the kernel reads, and the buffers
//! themselves; both allocated here, page aligned, and freed only when the ring that knew them is gone.
//!
//! Invariants: a buffer is either the kernel's or lent to the shard, and `lent` says which; bytes of a buffer
//! are touched only while it is lent; only this shard writes the tail.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// Most buffers a ring takes.
pub const BUFFERS_MAX: u16 = 1 << 15;

/// A group of equal buffers registered with one ring.
pub(super) struct Buffers {
    ring: Pages,
    bytes: Pages,
    count: u16,
    size: u32,
    group: u16,
    tail: u16,
    lent: Vec<bool>,
}

impl Buffers {
    /// Allocates `count` (a power of two) buffers of `size` bytes and registers them as `group`.
    ///
    /// # Safety
    ///
    /// The ring behind `submitter` must be gone, or must have cancelled everything it ever started, before
    /// the value is dropped: until then the kernel may write into these buffers.
    pub unsafe fn register(
        submitter: &Submitter<'_>,
        group: u16,
        count: u16,
        size: u32,
    ) -> io::Result<Self> {
        if !count.is_power_of_two() || BUFFERS_MAX < count || size == 0 {
            let what = "the number of receive buffers must be a power of two up to 32768";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let ring = Pages::new(usize::from(count) * size_of::<BufRingEntry>());
        let bytes = Pages::new(usize::from(count) * size as usize);
        let lent = vec![false; usize::from(count)];
        let mut buffers = Self { ring, bytes, count, size, group, tail: 0, lent };
        // SAFETY: the pages hold `count` entries and live until the ring is gone (this function's contract).
        unsafe {
            let address = buffers.ring.start.as_ptr() as u64;
            submitter.register_buf_ring_with_flags(address, count, group, 0)?;
        }
        for buffer in 0..count {
            buffers.offer(buffer);
        }
        Ok(buffers)
    }

    /// The group's number in submissions.
    pub fn group(&self) -> u16 {
        self.group
    }

    /// The kernel filled this buffer; from now on it is the shard's.
    pub fn lend(&mut self, buffer: u16) {
        let lent = &mut self.lent[usize::from(buffer)];
        assert!(!*lent, "the kernel filled buffer {buffer}, which was not its own");
        *lent = true;
    }

    /// The first `len` bytes of a lent buffer.
    pub fn bytes(&mut self, buffer: u16, len: u32) -> &mut [u8] {
        assert!(self.lent[usize::from(buffer)], "buffer {buffer} is not lent");
        assert!(len <= self.size, "{len} bytes of a buffer of {}", self.size);
        // SAFETY: inside the allocation (`lent` has one entry per buffer, so the index is below `count`);
        // the kernel does not write a buffer it handed out; `&mut self` keeps a second slice away.
        unsafe {
            let start = self.bytes.start.add(usize::from(buffer) * self.size as usize);
            std::slice::from_raw_parts_mut(start.as_ptr(), len as usize)
        }
    }

    /// Gives a lent buffer back to the kernel.
    pub fn recycle(&mut self, buffer: u16) {
        let lent = &mut self.lent[usize::from(buffer)];
        assert!(*lent, "buffer {buffer} was recycled twice");
        *lent = false;
        self.offer(buffer);
    }

    fn offer(&mut self, buffer: u16) {
        let index = usize::from(self.tail & (self.count - 1));
        let base = self.ring.start.cast::<BufRingEntry>();
        let offset = usize::from(buffer) * self.size as usize;
        // SAFETY: `index` < `count` entries of the page-aligned allocation. The kernel reads an entry only
        // between its head and the tail, and this one is beyond the tail until the store below. The tail
        // lies in the reserved field of entry 0, which `set_*` leave alone. There are `count` buffers in
        // all and each is offered only while not already with the kernel, so the ring never overflows.
        unsafe {
            let address = self.bytes.start.add(offset).as_ptr() as u64;
            let entry = base.add(index).as_mut();
            entry.set_addr(address);
            entry.set_len(self.size);
            entry.set_bid(buffer);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(base.as_ptr()).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}

/// Zeroed, page-aligned memory at a fixed address.
struct Pages {
    start: NonNull<u8>,
    layout: Layout,
}

impl Pages {
    fn new(bytes: usize) -> Self {
        let layout =
            Layout::from_size_align(bytes.max(1), PAGE_BYTES).expect("a buffer size in range");
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Self { start, layout }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, and dropped once.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

const PAGE_BYTES: usize = 4096;
