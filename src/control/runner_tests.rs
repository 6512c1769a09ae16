//! The runner as handlers use it: from foreign threads, in bulk, with panics.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded, unbounded};
use erlmcp_catalog::runner::{Overloaded, Runner};

use crate::control::Control;
use crate::control::future_queue::FUTURES_MAX;

/// Far beyond anything that works; only a hang reaches it.
const HANG: Duration = Duration::from_secs(30);

#[track_caller]
fn wait<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(HANG).expect("the runner hangs")
}

#[test]
fn a_parked_executor_wakes_for_each_job_of_a_foreign_thread() {
    let control = Control::start().unwrap();
    let runner = control.runner();
    let (done, is_done) = bounded(1);
    // Each round waits for the one before, so the executor has parked again in between. Only a wake that
    // really comes gets through 200 of them; nothing ticks on this executor.
    for round in 0..200 {
        let done = done.clone();
        runner
            .spawn_future(Box::new(move || {
                Box::pin(async move {
                    done.send(round).unwrap();
                })
            }))
            .unwrap();
        assert_eq!(wait(&is_done), round);
    }
}

#[test]
fn many_threads_may_push_at_once() {
    let control = Control::start().unwrap();
    let runner = control.runner();
    let (done, is_done) = unbounded();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let (runner, done) = (runner.clone(), done.clone());
            scope.spawn(move || {
                for _ in 0..1000 {
                    let done = done.clone();
                    runner
                        .spawn_future(Box::new(move || {
                            Box::pin(async move {
                                done.send(()).unwrap();
                            })
                        }))
                        .unwrap();
                }
            });
        }
    });
    for _ in 0..8000 {
        wait(&is_done);
    }
}

#[test]
fn ten_thousand_sleepers_share_one_thread() {
    let control = Control::start().unwrap();
    let runner = control.runner();
    let (done, is_done) = unbounded();
    let started = Instant::now();
    for index in 0..10_000_u64 {
        let (sleeper, done) = (runner.clone(), done.clone());
        runner
            .spawn_future(Box::new(move || {
                Box::pin(async move {
                    sleeper.sleep(Duration::from_millis(200 + index % 50)).await;
                    done.send(()).unwrap();
                })
            }))
            .unwrap();
    }
    for _ in 0..10_000 {
        wait(&is_done);
    }
    assert!(Duration::from_millis(200) <= started.elapsed());
}

#[test]
fn futures_are_bounded_and_room_comes_back() {
    let control = Control::start().unwrap();
    let runner = control.runner();
    let dropped = Arc::new(AtomicUsize::new(0));
    struct Count(Arc<AtomicUsize>);
    impl Drop for Count {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let (hold, held) = bounded::<()>(0);
    let forever = |count: Count, held: Receiver<()>, sleeper: Arc<dyn Runner>| {
        runner.spawn_future(Box::new(move || {
            Box::pin(async move {
                let _count = count;
                while held.try_recv() != Err(crossbeam_channel::TryRecvError::Disconnected) {
                    sleeper.sleep(Duration::from_millis(20)).await;
                }
            })
        }))
    };
    for _ in 0..FUTURES_MAX {
        forever(Count(dropped.clone()), held.clone(), runner.clone()).unwrap();
    }
    assert_eq!(forever(Count(dropped.clone()), held.clone(), runner.clone()), Err(Overloaded));
    drop(hold);
    let (done, is_done) = bounded(1);
    let deadline = Instant::now() + HANG;
    loop {
        let done = done.clone();
        let pushed = runner.spawn_future(Box::new(move || {
            Box::pin(async move {
                done.send(()).unwrap();
            })
        }));
        match pushed {
            Ok(()) => break,
            Err(Overloaded) => assert!(Instant::now() < deadline, "no room came back"),
        }
        std::thread::yield_now();
    }
    wait(&is_done);
}

#[test]
fn a_panic_ends_its_future_only() {
    let control = Control::start().unwrap();
    let runner = control.runner();
    // Without the default hook's noise.
    fn planned() -> ! {
        std::panic::resume_unwind(Box::new("planned"))
    }
    runner.spawn_future(Box::new(|| planned())).unwrap();
    runner.spawn_future(Box::new(|| Box::pin(async { planned() }))).unwrap();
    let (done, is_done) = bounded(1);
    runner
        .spawn_future(Box::new(move || {
            Box::pin(async move {
                done.send(()).unwrap();
            })
        }))
        .unwrap();
    wait(&is_done);
}

#[test]
fn stopping_drops_what_still_runs_and_refuses_what_comes_later() {
    let control = Control::start().unwrap();
    let runner = control.runner();
    let (alive, is_alive) = bounded::<()>(0);
    let sleeper = runner.clone();
    runner
        .spawn_future(Box::new(move || {
            Box::pin(async move {
                let _alive = alive;
                sleeper.sleep(Duration::from_secs(3600)).await;
            })
        }))
        .unwrap();
    control.stop();
    assert_eq!(is_alive.recv_timeout(HANG), Err(RecvTimeoutError::Disconnected));
    assert_eq!(runner.spawn_future(Box::new(|| Box::pin(async {}))), Err(Overloaded));
}

#[test]
fn blocking_work_does_not_delay_futures() {
    let control = Control::start().unwrap();
    let runner = control.runner();
    let (hold, held) = bounded::<()>(0);
    let (done, is_done) = bounded(2);
    let blocked = done.clone();
    runner
        .spawn_blocking(Box::new(move || {
            let _ = held.recv();
            blocked.send("blocking").unwrap();
        }))
        .unwrap();
    runner
        .spawn_future(Box::new(move || {
            Box::pin(async move {
                done.send("future").unwrap();
            })
        }))
        .unwrap();
    assert_eq!(wait(&is_done), "future");
    drop(hold);
    assert_eq!(wait(&is_done), "blocking");
}
