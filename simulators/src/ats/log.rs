//! Remembers the last requests, for tests that ask how a client behaved.

use std::collections::VecDeque;

/// Older requests are forgotten.
const REMEMBERED: usize = 10_000;

/// A request as it came in, the admin endpoints' excepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestSeen {
    /// As it was written.
    pub path: String,
    /// As it was written; empty when there was none.
    pub query: String,
    /// Whether the header `ApiKey` was there, right or wrong.
    pub had_api_key: bool,
    /// How many requests were being answered at this moment, this one included.
    pub in_flight: usize,
}

#[derive(Debug, Default)]
pub(crate) struct RequestLog {
    seen: VecDeque<RequestSeen>,
    in_flight: usize,
    max_in_flight: usize,
    total: u64,
}

impl RequestLog {
    pub(crate) fn arrived(&mut self, path: &str, query: &str, had_api_key: bool) {
        self.in_flight += 1;
        self.max_in_flight = self.max_in_flight.max(self.in_flight);
        self.total += 1;
        if self.seen.len() == REMEMBERED {
            self.seen.pop_front();
        }
        let (path, query) = (path.to_owned(), query.to_owned());
        self.seen.push_back(RequestSeen { path, query, had_api_key, in_flight: self.in_flight });
    }

    pub(crate) fn left(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    pub(crate) fn seen(&self) -> Vec<RequestSeen> {
        self.seen.iter().cloned().collect()
    }

    pub(crate) fn max_in_flight(&self) -> usize {
        self.max_in_flight
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Forgets what was seen; requests under way still count as in flight.
    pub(crate) fn clear(&mut self) {
        self.seen.clear();
        self.total = 0;
        self.max_in_flight = self.in_flight;
    }
}
