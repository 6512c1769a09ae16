//! Connections that we open: socket, options, source address and connect, all in the ring.
//!
//! The kernel chooses the direct descriptor, as it does for an accept, so a ring may do both. That costs one
//! turn: the slot must be known before the rest of the chain can name it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use io_uring::types::{DestinationSlot, Fixed, Timespec};
use io_uring::{Probe, opcode, squeue};
use socket2::SockAddr;

use super::user_data::{Op, pack};
use super::{CLOSING, FRESH, OPEN, Uring, slot_mut};
use crate::io::probe::CONNECTING;
use crate::io::{Completion, Millis};

/// One attempt. Boxed: the kernel reads the addresses when the chain is submitted.
pub(super) struct Dial {
    token: u32,
    target: SockAddr,
    source: Option<SockAddr>,
    within: Option<Timespec>,
    slot: u32,
}

/// The value of every option that is switched on here; the kernel reads it when the step is its turn.
static ON: libc::c_int = 1;

impl Uring {
    /// Whether this kernel can connect inside the ring, from a chosen source (Linux 6.11).
    pub fn can_connect(&self) -> bool {
        let mut known = Probe::new();
        let asked = self.ring.submitter().register_probe(&mut known);
        asked.is_ok() && CONNECTING.iter().all(|(code, _)| known.is_supported(*code))
    }

    /// See [`Io::connect`](crate::io::Io::connect). The kernel chooses the slot first.
    pub(super) fn begin_dial(
        &mut self,
        token: u32,
        target: SocketAddr,
        source: Option<SocketAddr>,
        within: Option<Millis>,
    ) {
        let (target, source) = (SockAddr::from(target), source.map(SockAddr::from));
        let within = within.map(|ms| Timespec::from(Duration::from_millis(ms)));
        let family = i32::from(target.family());
        let dial = Dial { token, target, source, within, slot: 0 };
        let index = match self.memory.free_dials.pop() {
            Some(index) => {
                *self.memory.dials[index as usize] = dial;
                index
            }
            None => {
                self.memory.dials.push(Box::new(dial));
                (self.memory.dials.len() - 1) as u32
            }
        };
        let entry = opcode::Socket::new(family, libc::SOCK_STREAM, libc::IPPROTO_TCP)
            .file_index(Some(DestinationSlot::auto_target()))
            .build();
        self.push(&entry.user_data(pack(Op::Socket, 0, index)));
    }

    pub(super) fn complete_socket(&mut self, index: u32, result: i32, out: &mut Vec<Completion>) {
        let Ok(slot) = u32::try_from(result) else {
            return self.end_dial(index, Err(-result), out);
        };
        let state = slot_mut(&mut self.slots, slot);
        if state.flags & CLOSING != 0 {
            // As for an accept: the slot was freed by a close that has not been reported yet.
            out.push(Completion::Closed { slot });
        }
        state.flags = 0;
        let dial = &mut self.memory.dials[index as usize];
        dial.slot = slot;
        let on = (&raw const ON).cast::<libc::c_void>();
        let on_bytes = size_of_val(&ON) as u32;
        let option = |level: i32, name: i32| {
            opcode::SetSockOpt::new(Fixed(slot), level as u32, name as u32, on, on_bytes).build()
        };
        let linked = squeue::Flags::IO_LINK | squeue::Flags::SKIP_SUCCESS;
        let step = |entry: squeue::Entry| {
            entry.flags(linked).user_data(pack(Op::PrepareConnect, 0, index))
        };
        let target = dial.target.as_ptr().cast::<libc::sockaddr>();
        let connect = opcode::Connect::new(Fixed(slot), target, dial.target.len()).build();
        let connect = connect.user_data(pack(Op::Connect, 0, index));
        let nodelay = step(option(libc::IPPROTO_TCP, libc::TCP_NODELAY));
        let limit = dial.within.as_ref().map(|within| {
            // Its own end says nothing: the connect reports what became of it.
            opcode::LinkTimeout::new(within).build().user_data(pack(Op::Cancel, 0, 0))
        });
        let mut chain = vec![nodelay];
        if let Some(source) = &dial.source {
            let address = source.as_ptr().cast::<libc::sockaddr>();
            let bind = opcode::Bind::new(Fixed(slot), address, source.len()).build();
            let late = step(option(libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT));
            chain.extend([late, step(bind)]);
        }
        match limit {
            None => chain.push(connect),
            Some(limit) => chain.extend([connect.flags(squeue::Flags::IO_LINK), limit]),
        }
        self.push_chain(&chain);
    }

    /// The one completion of a chain: of the connect, or of the step before it that failed. After a failed
    /// step that would not have reported its success, the kernel cancels the rest without a word.
    pub(super) fn complete_connect(&mut self, index: u32, result: i32, out: &mut Vec<Completion>) {
        let slot = self.memory.dials[index as usize].slot;
        if 0 <= result {
            slot_mut(&mut self.slots, slot).flags = OPEN | FRESH;
            return self.end_dial(index, Ok(slot), out);
        }
        // Nobody has seen this slot, so nobody is told that it is closed.
        let entry = opcode::Close::new(Fixed(slot)).build();
        self.push(&entry.user_data(pack(Op::Cancel, 0, 0)));
        // Nobody but its own clock cancels a connect.
        let errno = if result == -libc::ECANCELED { libc::ETIMEDOUT } else { -result };
        self.end_dial(index, Err(errno), out);
    }

    fn end_dial(&mut self, index: u32, result: Result<u32, i32>, out: &mut Vec<Completion>) {
        out.push(Completion::Connected { token: self.memory.dials[index as usize].token, result });
        self.memory.free_dials.push(index);
    }

    /// Rings the bell of `shard` whenever a completion waits in this ring. So a thread may own several rings
    /// and sleep in one of them; the others it must turn without waiting.
    pub fn signal(&self, shard: u16) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        let none = || io::Error::new(io::ErrorKind::InvalidInput, "no such shard");
        let event = self.bells.event(shard).ok_or_else(none)?;
        self.ring.submitter().register_eventfd(event.as_raw_fd())
    }
}
