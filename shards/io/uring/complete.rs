//! What a completion means: from the kernel's result codes to [`Completion`]s.

use io_uring::cqueue;

use super::user_data::{GENERATION_MASK, Op, unpack};
use super::{CLOSING, ENDING, FIN_PENDING, FRESH, OPEN, RECV_ARMED, Slot, Uring, slot_mut};
use crate::io::{Chunk, Completion, ConnId, ListenerIndex, RecvEnd};

impl Uring {
    pub(super) fn complete(&mut self, cqe: &cqueue::Entry, out: &mut Vec<Completion>) {
        let (op, generation, slot) = unpack(cqe.user_data());
        match op {
            Some(Op::Recv) => self.complete_recv(generation, slot, cqe, out),
            Some(Op::Send) => self.complete_send(generation, slot, cqe.result(), out),
            Some(Op::Accept) => self.complete_accept(slot as ListenerIndex, cqe, out),
            Some(Op::Close) => self.complete_close(generation, slot, out),
            Some(Op::Bell) => self.hear_bell(out),
            Some(Op::ForeignBell) => {
                self.arm_foreign_bell();
                self.hear_bell(out);
            }
            Some(Op::RangBell) => {
                // Only failures report: that ring is full or its thread gone. The eventfd waits for it.
                self.stats.bells_failed += 1;
                self.bells.ring(slot as u16);
            }
            Some(Op::Socket) => self.complete_socket(slot, cqe.result(), out),
            Some(Op::PrepareConnect | Op::Connect) => {
                self.complete_connect(slot, cqe.result(), out);
            }
            Some(Op::Adopt) => self.adopted = Some(cqe.result()),
            Some(Op::ShutdownWrite) => self.complete_fin(generation, slot),
            // A cancel that found nothing says nothing new.
            Some(Op::Cancel) => {}
            None => self.stats.late += 1,
        }
    }

    fn complete_recv(
        &mut self,
        generation: u32,
        slot: u32,
        cqe: &cqueue::Entry,
        out: &mut Vec<Completion>,
    ) {
        let result = cqe.result();
        let buffer = cqueue::buffer_select(cqe.flags());
        if let Some(buffer) = buffer {
            self.memory.buffers.lend(buffer);
        }
        let state = slot_mut(&mut self.slots, slot);
        if !state.is_current(generation) || state.flags & RECV_ARMED == 0 {
            self.stats.late += 1;
            if let Some(buffer) = buffer {
                self.memory.buffers.recycle(buffer);
            }
            return;
        }
        let id = ConnId { slot, generation: state.generation };
        let more = cqueue::more(cqe.flags());
        if !more {
            state.flags &= !RECV_ARMED;
        }
        match buffer {
            Some(buffer) if 0 < result => {
                let chunk = Chunk { buffer, len: result as u32 };
                out.push(Completion::Received { id, chunk });
            }
            Some(buffer) => self.memory.buffers.recycle(buffer),
            None => {}
        }
        if !more {
            let why = match -result {
                0 => RecvEnd::Eof,
                libc::ENOBUFS => {
                    self.stats.enobufs += 1;
                    RecvEnd::NoBuffers
                }
                libc::ECANCELED => RecvEnd::Cancelled,
                errno if 0 < errno => RecvEnd::Error(errno),
                _ => RecvEnd::Rearm,
            };
            out.push(Completion::RecvEnded { id, why });
        }
    }

    fn complete_send(
        &mut self,
        generation: u32,
        slot: u32,
        result: i32,
        out: &mut Vec<Completion>,
    ) {
        let state = slot_mut(&mut self.slots, slot);
        if !state.is_current(generation) || state.send == 0 {
            self.stats.late += 1;
            return;
        }
        let (flags, index) = (state.flags, state.send - 1);
        let id = ConnId { slot, generation: state.generation };
        let sending = &mut self.memory.sends[index as usize];
        sending.done += usize::try_from(result).unwrap_or(0);
        let whole = sending.buffer.len() - sending.from;
        if 0 < result && sending.done < whole && flags & ENDING == 0 {
            self.stats.short_sends += 1;
            self.submit_send(id, index);
            return;
        }
        state.send = 0;
        self.memory.free_sends.push(index);
        let sending = &mut self.memory.sends[index as usize];
        let result = if 0 <= result || 0 < sending.done { Ok(sending.done) } else { Err(-result) };
        let buffer = std::mem::take(&mut sending.buffer);
        out.push(Completion::Sent { id, buffer, result });
    }

    fn complete_accept(
        &mut self,
        listener: ListenerIndex,
        cqe: &cqueue::Entry,
        out: &mut Vec<Completion>,
    ) {
        let result = cqe.result();
        if let Ok(slot) = u32::try_from(result) {
            let state = slot_mut(&mut self.slots, slot);
            if state.flags & CLOSING != 0 {
                // An accept may take a slot freed by a close of the same submission and report before it.
                out.push(Completion::Closed { slot });
            }
            state.flags = OPEN | FRESH;
            self.note_caller(listener, slot);
            out.push(Completion::Accepted { listener, slot });
        }
        if !cqueue::more(cqe.flags()) {
            if let Some(listener) = self.listeners.get_mut(usize::from(listener)) {
                listener.armed = false;
            }
            out.push(Completion::AcceptEnded { listener, errno: (-result).max(0) });
        }
    }

    /// That it failed, on a dead connection, says nothing new; that it is over lets a waiting close go.
    fn complete_fin(&mut self, generation: u32, slot: u32) {
        let state = slot_mut(&mut self.slots, slot);
        if !state.is_current(generation) || state.flags & FIN_PENDING == 0 {
            self.stats.late += 1;
            return;
        }
        state.flags &= !FIN_PENDING;
        if state.flags & CLOSING != 0 {
            let id = ConnId { slot, generation: state.generation };
            self.submit_close(id);
        }
    }

    fn complete_close(&mut self, generation: u32, slot: u32, out: &mut Vec<Completion>) {
        let state = slot_mut(&mut self.slots, slot);
        // Not closing any more: its `Closed` was already told, just before the accept that took the slot.
        if state.is_current(generation) && state.flags & CLOSING != 0 {
            state.flags = 0;
            out.push(Completion::Closed { slot });
        }
    }

    fn hear_bell(&mut self, out: &mut Vec<Completion>) {
        if !std::mem::replace(&mut self.bell_heard, true) {
            out.push(Completion::Bell);
        }
    }
}

impl Slot {
    fn is_current(&self, generation: u32) -> bool {
        self.generation & GENERATION_MASK == generation
    }
}
