//! The sizes of a ring, and its counters.

/// Sizes of one ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UringConfig {
    /// Submission entries; a power of two. More than fit are submitted in between.
    pub sq_entries: u32,
    /// Completion entries; a power of two, at least twice the submissions.
    pub cq_entries: u32,
    /// Direct descriptors. At most RLIMIT_NOFILE: the kernel checks that per ring.
    pub capacity: u32,
    /// Receive buffers; a power of two up to 32768.
    pub buffers: u16,
    /// Size of one receive buffer in bytes. 1024 × 2 KiB stay in the L2 cache; larger falls out.
    pub buffer_bytes: u32,
    /// Whether to leave out the submission index array (Linux 6.6); see [`super::probe::Features`].
    pub no_sqarray: bool,
}

impl Default for UringConfig {
    fn default() -> Self {
        Self {
            sq_entries: 4096,
            cq_entries: 16_384,
            capacity: 16_384,
            buffers: 1024,
            buffer_bytes: 2048,
            no_sqarray: true,
        }
    }
}

/// What a ring did since it was built.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RingStats {
    /// Calls of io_uring_enter, the only syscall of a running ring.
    pub enters: u64,
    /// Submissions.
    pub sqes: u64,
    /// Completions.
    pub cqes: u64,
    /// Times the submission queue was full in the middle of a turn.
    pub sq_full: u64,
    /// Receives that ended because the provided buffers had run out.
    pub enobufs: u64,
    /// Completions of an earlier generation of their slot.
    pub late: u64,
    /// Sends continued because the kernel sent less than asked.
    pub short_sends: u64,
    /// Turns that found the completion queue overflown (nothing is lost: the kernel kept them aside).
    pub cq_overflow: u64,
    /// Completions the kernel had to drop. Anything but 0 means connections may hang: alarm.
    pub cq_dropped: u64,
    /// Doorbells rung through the ring.
    pub bells_rung: u64,
    /// Doorbells that needed the eventfd because the ring could not be reached.
    pub bells_failed: u64,
    /// Enters that failed for another reason than a timeout or a signal.
    pub enter_errors: u64,
}
