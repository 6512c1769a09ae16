//! The kernel through one io_uring. Lives: one per shard, built and used on the shard's own thread.
//!
//! One of the two files with `unsafe`; the other holds the receive buffers. Everything handed to the kernel
//! (send buffers, the bell's word, the adoption array) is owned by this value until its completion arrived,
//! and dropping it cancels whatever is still running before the memory goes.
//!
//! Each completion carries `op(8) | generation(24) | slot(32)`. The ring keeps the current generation of each
//! slot (told by the ids it is called with) and counts and drops what belongs to an earlier one.
//!
//! Refused: SQPOLL (worse on shared cores), send(2) beside the ring, skipping the completions of sends,
//! IORING_OP_SHUTDOWN for ending both directions (the kernel always hands it to a worker thread; cancelling
//! the receive and the send by their user data costs two cheap entries and close says the rest).

mod callers;
mod complete;
mod config;
mod connect;
mod entropy;
mod user_data;

use std::collections::BTreeMap;
use std::io;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{CancelBuilder, DestinationSlot, Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, opcode, squeue};
use rustix::time::{ClockId, clock_gettime};

use super::bells::Bells;
use super::buffers::Buffers;
use super::{Chunk, Completion, ConnId, Io, ListenerIndex, Millis};
use callers::{NAME_WORDS, Name};
pub use config::{RingStats, UringConfig};
use connect::Dial;
use entropy::Entropy;
use user_data::{Op, pack};

/// The kernel, one ring's worth of it.
pub struct Uring {
    // Dropped first, and by hand: see `Drop`.
    ring: ManuallyDrop<IoUring>,
    memory: ManuallyDrop<Memory>,
    slots: Vec<Slot>,
    listeners: Vec<Listener>,
    bells: Arc<Bells>,
    shard: u16,
    capacity: u32,
    /// Where connections came from that nobody has asked about yet, by slot.
    callers: BTreeMap<u32, SocketAddr>,
    /// Completions reaped in the middle of a turn, for its end.
    stash: Vec<Completion>,
    adopted: Option<i32>,
    bell_heard: bool,
    now: Millis,
    unix_ms: u64,
    entropy: Entropy,
    stats: RingStats,
    /// The ring belongs to the thread that built it.
    _thread: PhantomData<*const ()>,
}

/// Everything the kernel may read or write behind our back.
struct Memory {
    buffers: Buffers,
    sends: Vec<Sending>,
    free_sends: Vec<u32>,
    #[allow(clippy::vec_box)]
    // The kernel reads addresses in it: they must not move when the list grows.
    dials: Vec<Box<Dial>>,
    free_dials: Vec<u32>,
    /// The bell's read lands here.
    bell_word: Box<u64>,
    /// The kernel reads a descriptor here and writes the slot it chose.
    adoption: Box<i32>,
    /// The kernel writes addresses here; by listener, for those that remember who calls.
    names: BTreeMap<ListenerIndex, Box<Name>>,
}

struct Sending {
    buffer: Vec<u8>,
    from: usize,
    done: usize,
}

/// What the ring must know of a slot; 12 bytes each.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    generation: u32,
    /// Index into the sends plus one; 0 when none is in flight.
    send: u32,
    flags: u8,
}

struct Listener {
    /// `None` once closed.
    socket: Option<OwnedFd>,
    armed: bool,
}

const RECV_ARMED: u8 = 1;
/// Both directions are being ended: a short send is not continued.
const ENDING: u8 = 2;
const CLOSING: u8 = 4;
const OPEN: u8 = 8;
/// Open, and nobody has used it yet: its generation is still the previous one's.
const FRESH: u8 = 16;
/// A shutdown is with the kernel's worker, which looks the slot up when it gets to it: until it has, the slot
/// must not be closed, or the FIN would meet the next connection there.
const FIN_PENDING: u8 = 32;

const BUFFER_GROUP: u16 = 0;
/// One submission sends at most this much; the rest follows like that of a short send.
const SEND_BYTES_MAX: usize = 1 << 30;
const SEND_FLAGS: i32 = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
/// FILES_UPDATE offset that asks the kernel to choose the slots (IORING_FILE_INDEX_ALLOC).
const FILE_INDEX_ALLOC: i32 = -1;
/// No sleep is longer, whatever the caller asks for.
const WAIT_MS_MAX: Millis = 3_600_000;
/// How long dropping a ring waits for the kernel to let go.
const CANCEL_LIMIT: Duration = Duration::from_secs(2);

impl Uring {
    /// Builds the ring of shard `shard` on the calling thread, which must be the one that uses it.
    /// `listeners` are listening sockets ([`super::listen::bind`]); [`ListenerIndex`] counts them.
    pub fn new(
        config: &UringConfig,
        listeners: Vec<OwnedFd>,
        shard: u16,
        bells: Arc<Bells>,
    ) -> io::Result<Self> {
        let ring = ring_builder(config.cq_entries, config.no_sqarray).build(config.sq_entries)?;
        ring.submitter().register_files_sparse(config.capacity)?;
        // SAFETY: `Drop` cancels everything and closes the ring before it drops the buffers, or leaks them.
        let buffers = unsafe {
            let (count, size) = (config.buffers, config.buffer_bytes);
            Buffers::register(&ring.submitter(), BUFFER_GROUP, count, size)?
        };
        // SAFETY: the ring is alive during the call.
        let own = unsafe { BorrowedFd::borrow_raw(ring.as_raw_fd()) };
        if !bells.hang(shard, rustix::io::fcntl_dupfd_cloexec(own, 0)?) {
            let what = format!("shard {shard} does not exist or has a ring already");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let memory = Memory {
            buffers,
            sends: Vec::new(),
            free_sends: Vec::new(),
            dials: Vec::new(),
            free_dials: Vec::new(),
            bell_word: Box::new(0),
            adoption: Box::new(-1),
            names: BTreeMap::new(),
        };
        let listener = |socket| Listener { socket: Some(socket), armed: false };
        let mut uring = Self {
            ring: ManuallyDrop::new(ring),
            memory: ManuallyDrop::new(memory),
            slots: Vec::new(),
            listeners: listeners.into_iter().map(listener).collect(),
            bells,
            shard,
            capacity: config.capacity,
            callers: BTreeMap::new(),
            stash: Vec::new(),
            adopted: None,
            bell_heard: false,
            now: 0,
            unix_ms: 0,
            entropy: Entropy::default(),
            stats: RingStats::default(),
            _thread: PhantomData,
        };
        uring.read_clocks();
        uring.arm_foreign_bell();
        Ok(uring)
    }

    /// Counters since the ring was built.
    pub fn stats(&self) -> RingStats {
        self.stats
    }

    /// The slot of a live connection; a stale or impossible id is a broken invariant of the caller.
    fn slot(&mut self, id: ConnId) -> &mut Slot {
        let slot = slot_mut(&mut self.slots, id.slot);
        assert!(slot.flags & OPEN != 0, "{id:?} is used but its slot is not open");
        if slot.flags & FRESH != 0 {
            // The owner chooses the generation; its first call tells us which.
            slot.flags &= !FRESH;
            slot.generation = id.generation;
        }
        assert_eq!(slot.generation, id.generation, "stale {id:?}");
        slot
    }

    /// Queues one submission, making room by submitting when the queue is full.
    fn push(&mut self, entry: &squeue::Entry) {
        self.stats.sqes += 1;
        let mut tries = 0;
        loop {
            // SAFETY: all memory an entry points to is in `self.memory`, which is dropped only after the
            // ring has let go of it; descriptors are the ring's own slots, or sockets owned by `self`.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return;
            }
            self.make_room(&mut tries);
        }
    }

    /// Queues linked submissions, which must leave together.
    fn push_chain(&mut self, entries: &[squeue::Entry]) {
        self.stats.sqes += entries.len() as u64;
        let mut tries = 0;
        // SAFETY: as for `push`; what else is pointed to is static.
        while unsafe { self.ring.submission().push_multiple(entries) }.is_err() {
            self.make_room(&mut tries);
        }
    }

    fn make_room(&mut self, tries: &mut u32) {
        self.stats.sq_full += 1;
        self.enter(0, EnterFlags::empty(), None);
        *tries += 1;
        if 1 < *tries {
            // The kernel took nothing: its completions must be reaped first.
            assert!(*tries < 1_000, "the kernel takes no submissions");
            self.enter(0, EnterFlags::GETEVENTS, None);
            let mut stash = std::mem::take(&mut self.stash);
            self.reap(&mut stash);
            self.stash = stash;
        }
    }

    /// io_uring_enter: submits what is queued and waits for `want` completions or until `wait` passed.
    fn enter(&mut self, want: u32, flags: EnterFlags, wait: Option<Duration>) {
        let queued = self.ring.submission().len() as u32;
        let submitter = self.ring.submitter();
        self.stats.enters += 1;
        let entered = match wait {
            None => {
                // SAFETY: no argument is passed; `queued` entries are in the queue.
                unsafe { submitter.enter::<libc::sigset_t>(queued, want, flags.bits(), None) }
            }
            Some(wait) => {
                let time = Timespec::from(wait);
                let args = SubmitArgs::new().timespec(&time);
                let flags = flags | EnterFlags::EXT_ARG;
                // SAFETY: EXT_ARG announces the extended argument, which outlives the call.
                unsafe { submitter.enter(queued, want, flags.bits(), Some(&args)) }
            }
        };
        if let Err(err) = entered {
            // ETIME: the wait is over. EINTR: a signal. EAGAIN/EBUSY: reap first, the entries stay queued.
            let raw = err.raw_os_error().unwrap_or(0);
            if ![libc::ETIME, libc::EINTR].contains(&raw) {
                self.stats.enter_errors += 1;
            }
        }
    }

    /// Takes every completion there is.
    fn reap(&mut self, out: &mut Vec<Completion>) {
        if self.ring.submission().cq_overflow() {
            self.stats.cq_overflow += 1;
        }
        loop {
            let Some(cqe) = self.ring.completion().next() else { break };
            self.stats.cqes += 1;
            self.complete(&cqe, out);
        }
        self.stats.cq_dropped = u64::from(self.ring.completion().overflow());
    }

    /// What the kernel wrote for the accept of this listener that has just completed.
    fn name_words(&mut self, listener: ListenerIndex) -> Option<[u32; NAME_WORDS]> {
        let name = self.memory.names.get_mut(&listener)?;
        let (words, _) = name.place();
        // SAFETY: the box is alive and as large; volatile because the kernel wrote behind the compiler's back.
        Some(unsafe { words.cast::<[u32; NAME_WORDS]>().read_volatile() })
    }

    fn arm_foreign_bell(&mut self) {
        let Some(event) = self.bells.event(self.shard) else { return };
        let word = (&raw mut *self.memory.bell_word).cast::<u8>();
        let entry = opcode::Read::new(Fd(event.as_raw_fd()), word, 8).build();
        self.push(&entry.user_data(pack(Op::ForeignBell, 0, 0)));
    }

    fn submit_send(&mut self, id: ConnId, index: u32) {
        let sending = &self.memory.sends[index as usize];
        let rest = &sending.buffer[sending.from + sending.done..];
        let len = rest.len().min(SEND_BYTES_MAX) as u32;
        let entry = opcode::Send::new(Fixed(id.slot), rest.as_ptr(), len).flags(SEND_FLAGS).build();
        self.push(&entry.user_data(pack(Op::Send, id.generation, id.slot)));
    }

    fn submit_close(&mut self, id: ConnId) {
        let entry = opcode::Close::new(Fixed(id.slot)).build();
        self.push(&entry.user_data(pack(Op::Close, id.generation, id.slot)));
    }

    fn cancel(&mut self, target: u64) {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::user_data(target)).build();
        self.push(&entry.user_data(pack(Op::Cancel, 0, 0)));
    }

    /// Makes the kernel let go of everything: requests, sockets, buffers. Another descriptor of the ring may
    /// outlive us (other shards ring it), so closing ours would not be enough.
    fn quiesce(&mut self) -> io::Result<()> {
        // What was queued last (a bell, a last word) still leaves.
        self.enter(0, EnterFlags::GETEVENTS, None);
        let submitter = self.ring.submitter();
        let limit = Some(Timespec::from(CANCEL_LIMIT));
        match submitter.register_sync_cancel(limit, CancelBuilder::any()) {
            Err(err) if err.raw_os_error() != Some(libc::ENOENT) => return Err(err),
            _ => {}
        }
        let flags = EnterFlags::GETEVENTS.bits();
        // SAFETY: submits nothing and passes no argument; runs the deferred work of the cancellations.
        unsafe { submitter.enter::<libc::sigset_t>(0, 0, flags, None) }?;
        submitter.unregister_buf_ring(self.memory.buffers.group())?;
        submitter.unregister_files()
    }

    /// [`Io::turn`] with a finer clock, for who must be on time to less than a millisecond.
    pub fn turn_within(&mut self, wait: Option<Duration>, out: &mut Vec<Completion>) {
        // GETEVENTS even without waiting: deferred task work runs only then.
        match wait {
            Some(wait) if self.stash.is_empty() => self.enter(1, EnterFlags::GETEVENTS, Some(wait)),
            _ => self.enter(0, EnterFlags::GETEVENTS, None),
        }
        self.read_clocks();
        self.bell_heard = false;
        out.append(&mut self.stash);
        self.reap(out);
    }

    fn read_clocks(&mut self) {
        let monotonic = clock_gettime(ClockId::Monotonic);
        let real = clock_gettime(ClockId::Realtime);
        self.now = monotonic.tv_sec as u64 * 1_000 + monotonic.tv_nsec as u64 / 1_000_000;
        self.unix_ms = real.tv_sec as u64 * 1_000 + real.tv_nsec as u64 / 1_000_000;
    }
}

impl Io for Uring {
    fn now(&self) -> Millis {
        self.now
    }

    fn unix_ms(&self) -> u64 {
        self.unix_ms
    }

    fn random(&mut self, out: &mut [u8]) {
        self.entropy.fill(out);
    }

    fn accept(&mut self, listener: ListenerIndex) {
        let Some(state) = self.listeners.get_mut(usize::from(listener)) else { return };
        let Some(socket) = &state.socket else { return };
        if std::mem::replace(&mut state.armed, true) {
            return;
        }
        let socket = Fd(socket.as_raw_fd());
        let entry = match self.memory.names.get_mut(&listener) {
            None => opcode::AcceptMulti::new(socket).allocate_file_index(true).build(),
            Some(name) => {
                let (address, length) = name.place();
                let slot = Some(DestinationSlot::auto_target());
                opcode::Accept::new(socket, address, length).file_index(slot).build()
            }
        };
        self.push(&entry.user_data(pack(Op::Accept, 0, u32::from(listener))));
    }

    fn caller(&mut self, slot: u32) -> Option<SocketAddr> {
        self.callers.remove(&slot)
    }

    fn accept_stop(&mut self, listener: ListenerIndex) {
        if self.listeners.get(usize::from(listener)).is_some_and(|state| state.armed) {
            self.cancel(pack(Op::Accept, 0, u32::from(listener)));
        }
    }

    fn listener_close(&mut self, listener: ListenerIndex) {
        self.accept_stop(listener);
        // What names the descriptor by number must be with the kernel before the number is free. The armed
        // accept keeps the socket until its cancellation; nothing else does.
        self.enter(0, EnterFlags::empty(), None);
        if let Some(state) = self.listeners.get_mut(usize::from(listener)) {
            state.socket = None;
        }
    }

    fn recv(&mut self, id: ConnId) {
        let slot = self.slot(id);
        assert!(slot.flags & RECV_ARMED == 0, "a receive of {id:?} is armed already");
        slot.flags |= RECV_ARMED;
        let entry = opcode::RecvMulti::new(Fixed(id.slot), self.memory.buffers.group()).build();
        self.push(&entry.user_data(pack(Op::Recv, id.generation, id.slot)));
    }

    fn recv_stop(&mut self, id: ConnId) {
        if self.slot(id).flags & RECV_ARMED != 0 {
            self.cancel(pack(Op::Recv, id.generation, id.slot));
        }
    }

    fn send(&mut self, id: ConnId, buffer: Vec<u8>, from: usize) {
        let sending = Sending { buffer, from, done: 0 };
        assert!(self.slot(id).send == 0, "a send of {id:?} is in flight already");
        let index = match self.memory.free_sends.pop() {
            Some(index) => {
                self.memory.sends[index as usize] = sending;
                index
            }
            None => {
                self.memory.sends.push(sending);
                (self.memory.sends.len() - 1) as u32
            }
        };
        self.slot(id).send = index + 1;
        self.submit_send(id, index);
    }

    fn shutdown(&mut self, id: ConnId) {
        let slot = self.slot(id);
        slot.flags |= ENDING;
        let (receiving, sending) = (slot.flags & RECV_ARMED != 0, slot.send != 0);
        if receiving {
            self.cancel(pack(Op::Recv, id.generation, id.slot));
        }
        if sending {
            self.cancel(pack(Op::Send, id.generation, id.slot));
        }
    }

    fn shutdown_write(&mut self, id: ConnId) {
        let slot = self.slot(id);
        if slot.flags & FIN_PENDING != 0 {
            return;
        }
        slot.flags |= FIN_PENDING;
        let entry = opcode::Shutdown::new(Fixed(id.slot), libc::SHUT_WR).build();
        self.push(&entry.user_data(pack(Op::ShutdownWrite, id.generation, id.slot)));
    }

    fn close(&mut self, id: ConnId) {
        let slot = self.slot(id);
        let pending = slot.send != 0 || slot.flags & (RECV_ARMED | CLOSING) != 0;
        assert!(!pending, "{id:?} is closed with something pending");
        slot.flags |= CLOSING;
        if slot.flags & FIN_PENDING == 0 {
            self.submit_close(id);
        }
    }

    fn connect(
        &mut self,
        token: u32,
        target: SocketAddr,
        source: Option<SocketAddr>,
        within: Option<Millis>,
    ) {
        self.begin_dial(token, target, source, within);
    }

    fn adopt(&mut self, fd: OwnedFd) -> io::Result<u32> {
        // Receives and sends are the only way to read and write here.
        rustix::net::sockopt::socket_type(&fd)?;
        *self.memory.adoption = fd.as_raw_fd();
        let word = &raw mut *self.memory.adoption;
        let entry = opcode::FilesUpdate::new(word, 1).offset(FILE_INDEX_ALLOC).build();
        self.adopted = None;
        self.push(&entry.user_data(pack(Op::Adopt, 0, 0)));
        // Executed during the submission, but its completion stands in the queue among others.
        let mut stash = std::mem::take(&mut self.stash);
        for _ in 0..ADOPT_TRIES {
            self.enter(0, EnterFlags::GETEVENTS, None);
            self.reap(&mut stash);
            if self.adopted.is_some() {
                break;
            }
        }
        self.stash = stash;
        match self.adopted.take() {
            Some(1) => {
                // SAFETY: the box is alive; volatile because the kernel wrote it behind the compiler's back.
                let slot = unsafe { word.read_volatile() } as u32;
                slot_mut(&mut self.slots, slot).flags = OPEN | FRESH;
                Ok(slot)
            }
            Some(errno) if errno < 0 => Err(io::Error::from_raw_os_error(-errno)),
            _ => Err(io::Error::other("the kernel did not take the descriptor")),
        }
    }

    fn ring_bell(&mut self, shard: u16) {
        let Some(ring) = self.bells.ring_of(shard) else {
            // Not built yet: the eventfd keeps the bell until it is.
            self.stats.bells_failed += 1;
            return self.bells.ring(shard);
        };
        self.stats.bells_rung += 1;
        let there = pack(Op::Bell, 0, 0);
        let entry = opcode::MsgRingData::new(Fd(ring.as_raw_fd()), 0, there, None).build();
        // Its success must not cut our own sleep short.
        let entry = entry.flags(squeue::Flags::SKIP_SUCCESS);
        self.push(&entry.user_data(pack(Op::RangBell, 0, u32::from(shard))));
    }

    fn bytes(&mut self, chunk: &Chunk) -> &mut [u8] {
        self.memory.buffers.bytes(chunk.buffer, chunk.len)
    }

    fn recycle(&mut self, chunk: Chunk) {
        self.memory.buffers.recycle(chunk.buffer);
    }

    fn turn(&mut self, wait: Option<Millis>, out: &mut Vec<Completion>) {
        self.turn_within(wait.map(|wait| Duration::from_millis(wait.min(WAIT_MS_MAX))), out);
    }

    fn capacity(&self) -> u32 {
        self.capacity
    }

    fn health(&self, out: &mut Vec<(&'static str, u64)>) {
        let stats = &self.stats;
        out.extend([
            ("enters", stats.enters),
            ("sqes", stats.sqes),
            ("cqes", stats.cqes),
            ("sq_full", stats.sq_full),
            ("enobufs", stats.enobufs),
            ("late_in_ring", stats.late),
            ("short_sends", stats.short_sends),
            ("cq_overflow", stats.cq_overflow),
            ("cq_dropped", stats.cq_dropped),
            ("bells_rung", stats.bells_rung),
            ("bells_failed", stats.bells_failed),
            ("enter_errors", stats.enter_errors),
        ]);
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        let quiet = self.quiesce().is_ok();
        // SAFETY: neither field is used again; the ring goes before the memory it was told of.
        unsafe {
            ManuallyDrop::drop(&mut self.ring);
            if quiet {
                ManuallyDrop::drop(&mut self.memory);
            }
            // Otherwise the memory is leaked: the kernel may still write to it.
        }
    }
}

/// The ring every part of this crate uses; [`super::probe`] builds the same.
pub(super) fn ring_builder(cq_entries: u32, no_sqarray: bool) -> io_uring::Builder {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_submit_all()
        .setup_cqsize(cq_entries);
    if no_sqarray {
        builder.setup_no_sqarray();
    }
    builder
}

fn slot_mut(slots: &mut Vec<Slot>, slot: u32) -> &mut Slot {
    let index = slot as usize;
    if slots.len() <= index {
        slots.resize(index + 1, Slot::default());
    }
    &mut slots[index]
}

const ADOPT_TRIES: usize = 8;

#[cfg(test)]
mod tests;
