//! What to do after a failure: the only table from error to action. Pure: no I/O, the time is passed in, the randomness
//! comes from a seed.
//!
//! - [`Failure`] says what happened, [`Retry::failed`] what to do: wait and try again, or stop for a person.
//! - [`parse_retry_after`] reads what a server says about waiting.
//! - [`Breaker`] keeps many callers from hammering a system that is down.
//!
//! The run loops are the callers; components only classify ([`Failure`]).

mod backoff;
mod breaker;
mod retry_after;
mod table;

pub use self::backoff::{Budget, Policy, Retry};
pub use self::breaker::{Breaker, BreakerSettings, BreakerState};
pub use self::retry_after::{MOST_RETRY_AFTER, parse_retry_after};
pub use self::table::{Action, Failure, Kind};
