//! The way home of deferred calls: from any thread into the shard that made them.
//!
//! Bounded by construction: a call may have at most [`EVENTS_MAX`] events under way (more are dropped and
//! say so to the handler), its answer comes once, and the number of calls is limited.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, unbounded};
use erlmcp_catalog::{CallEvent, MakeSink, ReplySink};

use super::slots::Key;
use crate::message::CallMail;

/// Events of one call that may wait in the queue.
pub const EVENTS_MAX: u32 = 256;

/// Rings the shard's doorbell; callable from any thread.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// The queue of one shard.
pub struct Answers {
    sender: Sender<CallMail>,
    receiver: Receiver<CallMail>,
    wake: Wake,
    /// Cancel flags of sinks made since the engine last looked. Locked only when a call is deferred.
    made: Mutex<Vec<(u64, Arc<AtomicBool>)>>,
}

impl Answers {
    /// An empty queue.
    pub fn new(wake: Wake) -> Self {
        let (sender, receiver) = unbounded();
        Self { sender, receiver, wake, made: Mutex::default() }
    }

    /// The next answer, if there is one.
    pub fn next(&self) -> Option<CallMail> {
        self.receiver.try_recv().ok()
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.receiver.len()
    }

    /// The cancel flag of a call that was deferred.
    pub fn take_flag(&self, key: Key) -> Option<Arc<AtomicBool>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let index = made.iter().position(|(ticket, _)| *ticket == key.to_u64())?;
        Some(made.swap_remove(index).1)
    }
}

impl MakeSink for Answers {
    fn sink(&self, ticket: u64) -> Arc<dyn ReplySink> {
        let cancelled = Arc::new(AtomicBool::new(false));
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push((ticket, cancelled.clone()));
        Arc::new(Sink {
            ticket,
            sender: self.sender.clone(),
            wake: self.wake.clone(),
            cancelled,
            events: AtomicU32::new(0),
        })
    }
}

struct Sink {
    ticket: u64,
    sender: Sender<CallMail>,
    wake: Wake,
    /// Written by the shard, read by the handler; a flag, no data behind it: relaxed.
    cancelled: Arc<AtomicBool>,
    /// Events ever sent; only this call's threads touch it.
    events: AtomicU32,
}

impl ReplySink for Sink {
    fn send(&self, event: CallEvent) -> bool {
        if self.cancelled.load(Ordering::Relaxed) {
            return false;
        }
        if !matches!(event, CallEvent::Step(_)) {
            // A rough bound is enough: the queue is drained every turn, so that the count of a call's whole
            // life is compared with what is waiting now.
            let waiting = self.sender.len() as u32;
            let sent = self.events.fetch_add(1, Ordering::Relaxed);
            if waiting >= EVENTS_MAX && sent >= EVENTS_MAX {
                return false;
            }
        }
        let sent = self.sender.send(CallMail { ticket: self.ticket, event }).is_ok();
        (self.wake)();
        sent
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use erlmcp_catalog::Step;

    fn progress() -> CallEvent {
        CallEvent::Progress { progress: 1.0, total: None, message: None }
    }

    #[test]
    fn a_flood_of_events_is_cut_but_the_answer_always_fits() {
        let answers = Answers::new(Arc::new(|| {}));
        let sink = answers.sink(1);
        let taken = (0..10_000).filter(|_| sink.send(progress())).count();
        assert_eq!(taken as u32, EVENTS_MAX);
        assert!(sink.send(CallEvent::Step(Step::Later)));
        assert_eq!(answers.waiting() as u32, EVENTS_MAX + 1);
    }

    #[test]
    fn a_cancelled_call_is_told_and_not_listened_to() {
        let answers = Answers::new(Arc::new(|| {}));
        let sink = answers.sink(9);
        let flag = answers.take_flag(Key::from_u64(9)).expect("made");
        assert!(!sink.is_cancelled());
        flag.store(true, Ordering::Relaxed);
        assert!(sink.is_cancelled());
        assert!(!sink.send(progress()));
        assert!(answers.take_flag(Key::from_u64(9)).is_none());
    }
}
