//! What the kernel tells a thread of its connections, and what follows from it for their clients.

use std::io;
use std::sync::atomic::Ordering;

use erlmcp_shards::io::{Completion, ConnId, Io, RecvEnd};

use super::super::client::Client;
use super::super::plan::Work;
use super::super::pulse::{add, take};
use super::super::rings::{Owner, Ring};
use super::super::talk::Event;
use super::super::voice::Voice;
use super::Worker;
use super::calls::Next;

/// Send buffers kept for reuse.
const POOL_MAX: usize = 4096;
/// Generations travel in 24 bits.
const GENERATION_MASK: u32 = 0xFF_FFFF;

impl Worker {
    pub(super) fn complete(&mut self, ring: usize, completion: Completion) {
        match completion {
            Completion::Received { id, chunk } => {
                let Some(client) = self.owner(ring, id) else {
                    return self.rings[ring].io.recycle(chunk);
                };
                let io = &mut self.rings[ring].io;
                let state = &mut self.clients[client as usize];
                let target = state.target;
                state.used_us = self.now;
                let heard = hear(
                    state,
                    &mut self.voices[usize::from(target)],
                    io.bytes(&chunk),
                    &mut self.pool,
                    &mut self.events,
                );
                io.recycle(chunk);
                self.heard(client, heard);
            }
            Completion::Sent { id, mut buffer, result } => {
                let whole = buffer.len();
                if self.pool.len() < POOL_MAX {
                    buffer.clear();
                    self.pool.push(buffer);
                }
                let Some(client) = self.owner(ring, id) else { return };
                let state = &mut self.clients[client as usize];
                let was_open = state.is_open();
                state.sent(&mut self.rings[ring].io);
                if was_open && result != Ok(whole) {
                    self.end(client, &format!("a send ended with {result:?}"));
                } else {
                    let state = &mut self.clients[client as usize];
                    state.transmit(&mut self.rings[ring].io);
                }
            }
            Completion::RecvEnded { id, why } => {
                let Some(client) = self.owner(ring, id) else { return };
                let state = &mut self.clients[client as usize];
                let is_open = state.is_open();
                match why {
                    RecvEnd::NoBuffers | RecvEnd::Rearm if is_open && !state.is_deaf() => {
                        self.rings[ring].rearm.push(id);
                    }
                    why => {
                        state.deafened(&mut self.rings[ring].io);
                        let is_meant = state.is_deaf()
                            && matches!(
                                why,
                                RecvEnd::Cancelled | RecvEnd::NoBuffers | RecvEnd::Rearm
                            );
                        if is_open && !is_meant {
                            self.end(client, &format!("the server ended a connection: {why:?}"));
                        }
                    }
                }
            }
            Completion::Connected { token, result } => self.connected(ring, token, result),
            Completion::Closed { slot } => {
                let Some(owner) = self.rings[ring].owners.get(slot as usize) else { return };
                let client = owner.client;
                self.clients[client as usize].closed();
                if self.calls.work() == Work::Churn {
                    self.arrivals.again(client);
                }
            }
            Completion::Accepted { .. } | Completion::AcceptEnded { .. } | Completion::Bell => {}
        }
    }

    pub(super) fn owner(&self, ring: usize, id: ConnId) -> Option<u32> {
        let owner = self.rings[ring].owners.get(id.slot as usize)?;
        (owner.generation == id.generation).then_some(owner.client)
    }

    pub(super) fn connected(&mut self, ring: usize, client: u32, result: Result<u32, i32>) {
        take(&self.pulse.connecting, 1);
        let slot = match result {
            Ok(slot) => slot,
            Err(errno) => {
                add(&self.pulse.failed, 1);
                self.fault(&format!("cannot connect: {}", io::Error::from_raw_os_error(errno)));
                if self.calls.work() == Work::Churn {
                    self.arrivals.again(client);
                }
                return;
            }
        };
        let Ring { io, owners, .. } = &mut self.rings[ring];
        let index = slot as usize;
        if owners.len() <= index {
            owners.resize(index + 1, Owner::default());
        }
        let generation = owners[index].generation.wrapping_add(1) & GENERATION_MASK;
        owners[index] = Owner { client, generation };
        let state = &mut self.clients[client as usize];
        state.opened(io, ConnId { slot, generation });
        let voice = &mut self.voices[usize::from(state.target)];
        let is_ready = state.talk.begin(voice, &mut state.out);
        state.transmit(io);
        if is_ready {
            self.arrived(client);
        }
    }

    /// Acts on what a client heard.
    fn heard(&mut self, client: u32, heard: Result<(), String>) {
        for event in std::mem::take(&mut self.events) {
            match event {
                Event::Quiet => {}
                Event::Ready => self.arrived(client),
                Event::Right => {
                    let state = &self.clients[client as usize];
                    let us = self.now.saturating_sub(state.asked_us);
                    self.window.call(state.talk.kind(), us);
                    add(&self.pulse.right, 1);
                    self.rest(client);
                }
                Event::Wrong(why) => {
                    self.window.wrong += 1;
                    add(&self.pulse.wrong, 1);
                    self.fault(&why);
                    self.rest(client);
                }
                Event::Updates(count) => {
                    let since =
                        self.now.saturating_sub(self.plan.published_us.load(Ordering::Relaxed));
                    (0..count).for_each(|_| self.window.update(since));
                    add(&self.pulse.updates, u64::from(count));
                    self.pulse.update_last_us.store(self.now, Ordering::Relaxed);
                }
            }
        }
        match heard {
            Ok(()) => {
                let state = &mut self.clients[client as usize];
                state.transmit(&mut self.rings[usize::from(state.ring)].io);
            }
            Err(why) => self.end(client, &why),
        }
    }

    fn arrived(&mut self, client: u32) {
        let state = &mut self.clients[client as usize];
        self.window.connect(self.now.saturating_sub(state.asked_us));
        state.used_us = self.now;
        add(&self.pulse.ready, 1);
        add(&self.pulse.arrived, 1);
        if state.talk.kind().is_caller() {
            self.rest(client);
        } else if self.calls.work() == Work::Churn {
            self.leave(client);
        }
    }

    /// A caller is free: what is next?
    fn rest(&mut self, client: u32) {
        match self.calls.free(client, self.now) {
            Next::Call(at) => self.call(client, at),
            Next::Wait => {}
            Next::Leave => self.leave(client),
        }
    }

    /// A client leaves of its own will.
    pub(super) fn leave(&mut self, client: u32) {
        let state = &mut self.clients[client as usize];
        let was_ready = state.talk.is_settled();
        if state.close(&mut self.rings[usize::from(state.ring)].io) && was_ready {
            take(&self.pulse.ready, 1);
        }
    }

    /// A client's conversation ended against its will.
    fn end(&mut self, client: u32, why: &str) {
        let state = &mut self.clients[client as usize];
        let (was_ready, was_busy) = (state.talk.is_settled(), state.talk.is_busy());
        if !state.close(&mut self.rings[usize::from(state.ring)].io) {
            return;
        }
        if was_ready {
            take(&self.pulse.ready, 1);
            add(&self.pulse.lost, 1);
        } else {
            add(&self.pulse.failed, 1);
        }
        if was_busy {
            self.window.wrong += 1;
            add(&self.pulse.wrong, 1);
        }
        let kind = self.clients[client as usize].talk.kind().as_str();
        self.fault(&format!("{kind}: {why}"));
    }
}

/// Lets a client take what arrived; keeps what it did not take.
fn hear(
    client: &mut Client,
    voice: &mut Voice,
    bytes: &[u8],
    pool: &mut Vec<Vec<u8>>,
    events: &mut Vec<Event>,
) -> Result<(), String> {
    if !client.is_open() {
        return Ok(());
    }
    if client.out.capacity() == 0 {
        client.out = pool.pop().unwrap_or_default();
    }
    let mut kept = std::mem::take(&mut client.kept);
    let mut input = bytes;
    if !kept.is_empty() {
        kept.extend_from_slice(bytes);
        input = &kept;
    }
    while !input.is_empty() {
        let (used, event) = client.talk.read(voice, input, &mut client.out)?;
        if event != Event::Quiet {
            events.push(event);
        }
        if used == 0 {
            break;
        }
        input = &input[used..];
    }
    if !input.is_empty() {
        client.kept = input.to_vec();
    }
    if client.out.is_empty() && pool.len() < POOL_MAX {
        pool.push(std::mem::take(&mut client.out));
    }
    Ok(())
}
