//! How much one key, and all of them together, may ask for.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::tokens::Digest;

/// More keys that aren't valid aren't counted: whoever guesses doesn't fill the memory.
const MOST_GUESSES: usize = 10_000;

/// What may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitSettings {
    /// Requests of one key in a minute; so many may come at once.
    pub requests_per_minute: NonZeroU32,
    /// Answers that are read with one key at the same time.
    pub answers_per_key: u32,
    /// Answers that are read at the same time.
    pub answers: u32,
}

impl Default for LimitSettings {
    fn default() -> Self {
        // Eight resources of thirty depths and the full one are 248 requests: a reader may take everything there is at once.
        let requests_per_minute = NonZeroU32::MIN.saturating_add(299);
        Self { requests_per_minute, answers_per_key: 8, answers: 1_024 }
    }
}

/// Why an answer has to wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// This key has as many as it may have.
    Key,
    /// Everybody together has.
    All,
}

/// Counts.
pub(super) struct Limits {
    settings: LimitSettings,
    /// Valid keys: there are never more than tokens.
    known: DefaultKeyedRateLimiter<Digest>,
    guesses: DefaultKeyedRateLimiter<Digest>,
    clock: DefaultClock,
    read: Mutex<Read>,
}

#[derive(Default)]
struct Read {
    by_token: HashMap<String, u32>,
    all: u32,
}

impl Limits {
    pub(super) fn new(settings: LimitSettings) -> Arc<Self> {
        let quota = Quota::per_minute(settings.requests_per_minute);
        let (known, guesses) = (RateLimiter::keyed(quota), RateLimiter::keyed(quota));
        Arc::new(Self { settings, known, guesses, clock: DefaultClock::default(), read: Mutex::default() })
    }

    /// Counts a request; an error says when to come again. Valid keys are counted apart, so that no number of others crowds
    /// them out.
    pub(super) fn request(&self, digest: &Digest, is_valid: bool) -> Result<(), Duration> {
        let limiter = if is_valid { &self.known } else { &self.guesses };
        if !is_valid && limiter.len() >= MOST_GUESSES {
            limiter.retain_recent();
            limiter.shrink_to_fit();
            if limiter.len() >= MOST_GUESSES {
                return Ok(());
            }
        }
        limiter.check_key(digest).map_err(|not_until| not_until.wait_time_from(self.clock.now()))
    }

    /// A place to read an answer in; it is free again when it is dropped.
    pub(super) fn place(self: &Arc<Self>, token: &str) -> Result<Place, Full> {
        let mut read = self.lock();
        if read.all >= self.settings.answers {
            return Err(Full::All);
        }
        let own = read.by_token.entry(token.to_owned()).or_default();
        if *own >= self.settings.answers_per_key {
            return Err(Full::Key);
        }
        *own += 1;
        read.all += 1;
        Ok(Place { limits: Arc::clone(self), token: token.to_owned() })
    }

    fn lock(&self) -> MutexGuard<'_, Read> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place to read an answer in.
pub(super) struct Place {
    limits: Arc<Limits>,
    token: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut read = self.limits.lock();
        read.all -= 1;
        if let Some(own) = read.by_token.get_mut(&self.token) {
            *own -= 1;
            if *own == 0 {
                read.by_token.remove(&self.token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn limits(requests: u32, per_key: u32, all: u32) -> Arc<Limits> {
        let requests_per_minute = NonZeroU32::new(requests).unwrap();
        Limits::new(LimitSettings { requests_per_minute, answers_per_key: per_key, answers: all })
    }

    #[test]
    fn a_key_that_asks_too_often_is_told_when_to_come_again_and_others_are_not() {
        let limits = limits(2, 1, 1);
        let (one, other) = ([1; 32], [2; 32]);
        limits.request(&one, true).unwrap();
        limits.request(&one, true).unwrap();
        let wait = limits.request(&one, true).unwrap_err();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(30), "{wait:?}");
        limits.request(&other, true).unwrap();
        limits.request(&one, false).unwrap();
    }

    #[test]
    fn a_million_guesses_take_bounded_memory() {
        let limits = limits(1, 1, 1);
        for guess in 0..3 * MOST_GUESSES as u64 {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&guess.to_le_bytes());
            limits.request(&digest, false).unwrap();
        }
        assert_eq!(limits.guesses.len(), MOST_GUESSES);
        limits.request(&[1; 32], true).unwrap();
    }

    #[test]
    fn places_are_free_again_when_they_are_left() {
        let limits = limits(1, 2, 3);
        let mut of_lviv = [limits.place("lviv").unwrap(), limits.place("lviv").unwrap()].map(Some);
        assert_eq!(limits.place("lviv").err(), Some(Full::Key));
        let _of_odesa = limits.place("odesa").unwrap();
        assert_eq!(limits.place("odesa").err(), Some(Full::All));
        of_lviv[0] = None;
        let _again = limits.place("lviv").unwrap();
        assert_eq!(limits.place("lviv").err(), Some(Full::All));
        drop(of_lviv);
        assert_eq!(limits.lock().by_token.len(), 2);
    }
}
