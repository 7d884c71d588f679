//! A clock that a test moves, or that moves by itself when everybody waits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{Notify, oneshot};

use super::Clock;

/// A clock for tests and simulations. Clones show the same time.
///
/// Made by [`VirtualClock::manual`], it stands still until the test moves it; it works in every runtime, beside real
/// sockets and databases. Made by [`VirtualClock::automatic`], it rests on tokio's paused time and jumps to the next
/// sleeper when all tasks wait: for simulations without real I/O, whose answers it wouldn't wait for.
#[derive(Clone, Debug)]
pub struct VirtualClock(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Manual(Arc<Manual>),
    Automatic {
        /// The wall clock is this and the time since; it is set by moving it.
        start: Arc<Mutex<DateTime<Utc>>>,
        since: tokio::time::Instant,
    },
}

#[derive(Debug)]
struct Manual {
    state: Mutex<State>,
    slept: Notify,
}

#[derive(Debug)]
struct State {
    /// Never steps back, so that [`Clock::sleep`] doesn't mind a stepped wall clock.
    elapsed: TimeDelta,
    /// The wall clock is `zero + elapsed`.
    zero: DateTime<Utc>,
    /// By the time they wake at and the order in which they came: waking is the same in every run.
    sleepers: BTreeMap<(TimeDelta, u64), oneshot::Sender<()>>,
    next_sleeper: u64,
}

impl VirtualClock {
    /// A clock that stands still at `start` until it is moved.
    pub fn manual(start: DateTime<Utc>) -> Self {
        let state = State { elapsed: TimeDelta::zero(), zero: start, sleepers: BTreeMap::new(), next_sleeper: 0 };
        Self(Kind::Manual(Arc::new(Manual { state: Mutex::new(state), slept: Notify::new() })))
    }

    /// A clock that jumps to the next sleeper whenever all tasks wait.
    ///
    /// Needs a current-thread runtime with paused time: `#[tokio::test(start_paused = true)]`.
    pub fn automatic(start: DateTime<Utc>) -> Self {
        Self(Kind::Automatic { start: Arc::new(Mutex::new(start)), since: tokio::time::Instant::now() })
    }

    /// Moves the time forward, waking sleepers in the order of their times, and lets the woken tasks run.
    pub async fn advance(&self, length: Duration) {
        match &self.0 {
            Kind::Automatic { .. } => tokio::time::advance(length).await,
            Kind::Manual(manual) => {
                let length = TimeDelta::from_std(length).unwrap_or(TimeDelta::MAX);
                let end = manual.lock().elapsed.checked_add(&length).unwrap_or(TimeDelta::MAX);
                while manual.wake_next(end) {
                    tokio::task::yield_now().await;
                }
                manual.lock().elapsed = end;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Moves a manual clock to the next sleeper's time and wakes it; `false` when nobody sleeps, or when the clock is
    /// automatic and needs no help.
    pub async fn advance_to_next_sleeper(&self) -> bool {
        let Kind::Manual(manual) = &self.0 else { return false };
        let woken = manual.wake_next(TimeDelta::MAX);
        tokio::task::yield_now().await;
        woken
    }

    /// Waits until this many tasks sleep on a manual clock: the condition to wait for before moving it.
    pub async fn until_sleeping(&self, tasks: usize) {
        let Kind::Manual(manual) = &self.0 else { return };
        loop {
            let slept = manual.slept.notified();
            tokio::pin!(slept);
            // Registered before looking, so that a sleeper coming in between isn't overlooked.
            slept.as_mut().enable();
            if manual.lock().sleeping() >= tasks {
                return;
            }
            slept.await;
        }
    }

    /// Sets the wall clock, back too, as a machine's clock may be. Waits by length don't notice.
    pub fn set(&self, time: DateTime<Utc>) {
        match &self.0 {
            Kind::Manual(manual) => {
                let mut state = manual.lock();
                state.zero = time - state.elapsed;
            }
            Kind::Automatic { start, since } => {
                *start.lock().unwrap_or_else(PoisonError::into_inner) = time - since.elapsed();
            }
        }
    }
}

#[async_trait]
impl Clock for VirtualClock {
    fn now(&self) -> DateTime<Utc> {
        match &self.0 {
            Kind::Automatic { start, since } => *start.lock().unwrap_or_else(PoisonError::into_inner) + since.elapsed(),
            Kind::Manual(manual) => manual.lock().now(),
        }
    }

    async fn sleep(&self, length: Duration) {
        match &self.0 {
            Kind::Automatic { .. } => tokio::time::sleep(length).await,
            Kind::Manual(manual) => {
                if let Some(woken) = manual.add_sleeper(length) {
                    // An error means that the clock is gone, and with it all who could move it.
                    let _ = woken.await;
                }
            }
        }
    }

    async fn sleep_until(&self, time: DateTime<Utc>) {
        // Again, because a manual clock may have been set back.
        while let Ok(left) = (time - self.now()).to_std() {
            if left.is_zero() {
                return;
            }
            self.sleep(left).await;
        }
    }
}

impl Manual {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic happens while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the next sleeper due by `end`, at its time.
    fn wake_next(&self, end: TimeDelta) -> bool {
        let mut state = self.lock();
        while let Some(next) = state.sleepers.first_entry() {
            let time = next.key().0;
            if !next.get().is_closed() && time > end {
                return false;
            }
            if next.remove().send(()).is_ok() {
                state.elapsed = state.elapsed.max(time);
                return true;
            }
        }
        false
    }

    fn add_sleeper(&self, length: Duration) -> Option<oneshot::Receiver<()>> {
        if length.is_zero() {
            return None;
        }
        let (sleeper, woken) = oneshot::channel();
        let mut state = self.lock();
        let length = TimeDelta::from_std(length).unwrap_or(TimeDelta::MAX);
        let wakes_at = state.elapsed.checked_add(&length).unwrap_or(TimeDelta::MAX);
        // Those who gave up waiting are forgotten.
        state.sleepers.retain(|_, sleeper| !sleeper.is_closed());
        let key = (wakes_at, state.next_sleeper);
        state.next_sleeper += 1;
        state.sleepers.insert(key, sleeper);
        drop(state);
        self.slept.notify_waiters();
        Some(woken)
    }
}

impl State {
    fn now(&self) -> DateTime<Utc> {
        self.zero.checked_add_signed(self.elapsed).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    fn sleeping(&self) -> usize {
        self.sleepers.values().filter(|sleeper| !sleeper.is_closed()).count()
    }
}
