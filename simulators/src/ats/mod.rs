//! An applicant tracking system, as its contract describes it: five lists over HTTP, without envelope, total or links.
//!
//! [`Ats`] is the system; [`Ats::serve`] puts it on a socket. Tests steer it in process through the same handle, other
//! programs over `/__admin/…`. `generate` and `rows` hold the applicants, `masters` the other lists, `edits` and
//! `state` what happens to them, `query` and `http` how they are asked for, `faults` and `spoil` what goes wrong.

mod admin;
mod catalogue;
mod clock;
mod dates;
mod edits;
mod endpoint;
mod faults;
mod generate;
mod http;
mod log;
mod masters;
mod names;
mod options;
mod query;
pub(crate) mod random;
mod rows;
mod spoil;
mod state;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

pub use endpoint::Endpoint;
pub use faults::{Fault, RetryAfter};
pub use log::RequestSeen;
pub use masters::Masters;
pub use options::{AtsOptions, Drift, Order};

use crate::server::Server;
use faults::Faults;
use log::RequestLog;
use state::State;

/// A simulated ATS. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct Ats(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: AtsOptions,
    state: Mutex<State>,
    faults: Mutex<Faults>,
    log: Mutex<RequestLog>,
    /// When the next applicants may be served, where there is a pace.
    turn: Mutex<Option<Instant>>,
}

/// The contradictions that were planted in the generated feed and are still in it. There are no others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Planted {
    /// Applicants (lower-case ids) with the same `ats1_id`.
    pub repeated_ats1_ids: Vec<(String, String)>,
    /// Applicant and milestone (lower-case ids) listed twice under the same date: all but the one with the newest
    /// `created_date` are superseded.
    pub superseded_milestones: Vec<(String, String)>,
}

impl Ats {
    /// An ATS full of invented applicants. The same options give the same bytes.
    pub fn generate(options: AtsOptions) -> Ats {
        let state = State::generate(&options);
        Ats::with(options, state)
    }

    /// Serves recorded applicants exactly as they are. The master lists hold what the feed names; `seed` and the clock
    /// are for what happens later, `applicants` and `oddities` mean nothing here.
    pub fn from_feed(applicants: Vec<Value>, options: AtsOptions) -> Ats {
        let state = State::from_feed(&applicants, &options);
        Ats::with(options, state)
    }

    fn with(options: AtsOptions, state: State) -> Ats {
        Ats(Arc::new(Shared {
            options,
            state: Mutex::new(state),
            faults: Mutex::default(),
            log: Mutex::default(),
            turn: Mutex::default(),
        }))
    }

    /// Listens on `addr` (port 0: any free one) until the server is stopped or dropped. What happened to the data
    /// stays in the [`Ats`]: serve it again on the same address to play a restart.
    ///
    /// # Errors
    /// When the address can't be bound.
    pub fn serve(&self, addr: SocketAddr) -> io::Result<Server> {
        Server::start(addr, http::router(self.clone()))
    }

    /// What it was made with.
    pub fn options(&self) -> &AtsOptions {
        &self.0.options
    }

    /// The simulator's clock.
    pub fn now(&self) -> DateTime<Utc> {
        self.state().now()
    }

    /// Moves the clock, also back.
    pub fn set_now(&self, now: DateTime<Utc>) {
        self.state().set_now(now);
    }

    /// Moves the clock by so much.
    pub fn advance(&self, by: TimeDelta) {
        self.state().advance(by);
    }

    /// Edits `count` different applicants (or all) as clerks would: names, phones, notes and reasons on milestones, a new
    /// milestone, a moved start date. `updated_date` becomes the simulator's now. Returns their lower-case ids.
    pub fn change_some(&self, count: usize) -> Vec<String> {
        self.state().change_some(count)
    }

    /// Enters a new applicant now; returns the lower-case id.
    pub fn add_applicant(&self) -> String {
        self.state().add_applicant()
    }

    /// Takes an applicant away without a trace, as the ATS does; false when there is none with this id.
    pub fn remove_applicant(&self, id: &str) -> bool {
        self.state().remove_applicant(id)
    }

    /// Takes a milestone away and moves `updated_date`; returns it, or `None` when there is none.
    pub fn remove_milestone(&self, applicant: &str, index: usize) -> Option<Value> {
        self.state().remove_milestone(applicant, index)
    }

    /// Serves this value, whatever it is, in the place of an applicant; false when there is none with this id. Where it has
    /// no readable dates it counts as created and updated now.
    pub fn replace_raw(&self, id: &str, value: Value) -> bool {
        self.state().replace_raw(id, &value)
    }

    /// Serves this value, whatever it is, besides the applicants; dates as for [`Ats::replace_raw`].
    pub fn add_raw(&self, value: Value) {
        self.state().add_raw(&value);
    }

    /// Replaces a master list; false for endpoints that serve none.
    pub fn set_master(&self, endpoint: Endpoint, rows: Vec<Value>) -> bool {
        self.state().set_master(endpoint, rows)
    }

    /// From now on rows drift like this, counting pages from here; `None`: no more.
    pub fn set_drift(&self, drift: Option<Drift>) {
        self.state().set_drift(drift);
    }

    /// The next `times` requests to this endpoint get this fault (`None`: until cleared). Replaces what was set before.
    pub fn set_fault(&self, endpoint: Endpoint, fault: Fault, times: Option<u32>) {
        self.set_fault_after(endpoint, 0, fault, times);
    }

    /// As [`Ats::set_fault`], but `after` requests are answered rightly first.
    pub fn set_fault_after(&self, endpoint: Endpoint, after: u32, fault: Fault, times: Option<u32>) {
        lock(&self.0.faults).set(endpoint, fault, after, times);
    }

    /// All endpoints answer rightly again. A request that hangs already goes on hanging.
    pub fn clear_faults(&self) {
        lock(&self.0.faults).clear();
    }

    /// How many endpoints have a fault set.
    pub fn faults(&self) -> usize {
        lock(&self.0.faults).len()
    }

    /// How many rows there are, bad ones included.
    pub fn len(&self) -> usize {
        self.state().len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All rows at this moment, in the order they are listed in: about 2 kB of memory each.
    pub fn applicants(&self) -> Vec<Value> {
        self.state().applicants()
    }

    /// One row; case of the id doesn't matter.
    pub fn applicant(&self, id: &str) -> Option<Value> {
        self.state().applicant(id)
    }

    /// The master lists at this moment.
    pub fn masters(&self) -> Masters {
        self.state().masters().clone()
    }

    /// What an oracle must expect to be set aside.
    pub fn planted(&self) -> Planted {
        self.state().planted()
    }

    /// The last requests, oldest first: 10,000 at most.
    pub fn requests(&self) -> Vec<RequestSeen> {
        lock(&self.0.log).seen()
    }

    /// The most requests that were being answered at once.
    pub fn max_in_flight(&self) -> usize {
        lock(&self.0.log).max_in_flight()
    }

    /// All requests since the start or the last [`Ats::clear_requests`], also those no longer listed.
    pub fn requests_total(&self) -> u64 {
        lock(&self.0.log).total()
    }

    /// Forgets the requests seen so far.
    pub fn clear_requests(&self) {
        lock(&self.0.log).clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0.state)
    }

    /// How long so many applicants must wait so that all together come at the [pace](AtsOptions::pace).
    fn turn(&self, applicants: usize) -> Duration {
        let Some(pace) = self.0.options.pace.filter(|_| applicants > 0) else { return Duration::ZERO };
        let now = Instant::now();
        let mut turn = lock(&self.0.turn);
        let at = turn.map_or(now, |turn| turn.max(now));
        *turn = Some(at + Duration::from_secs_f64(applicants as f64 / f64::from(pace.max(1))));
        at - now
    }

    fn take_fault(&self, endpoint: Endpoint) -> Option<Fault> {
        lock(&self.0.faults).take(endpoint)
    }

    /// Notes a request; it counts as in flight until the returned guard goes.
    fn saw_request(&self, path: &str, query: &str, had_api_key: bool) -> InFlight {
        lock(&self.0.log).arrived(path, query, had_api_key);
        InFlight(self.clone())
    }
}

struct InFlight(Ats);

impl Drop for InFlight {
    fn drop(&mut self) {
        lock(&self.0.0.log).left();
    }
}

/// Every change is made whole before the lock is given back, so a panic elsewhere leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
