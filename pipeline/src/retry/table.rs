//! The table: for each kind of failure, whether waiting helps, and what a person must do if it doesn't.

use std::borrow::Cow;
use std::time::Duration;

/// What happened, as far as it decides what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// No connection: refused, reset, no route, name not found.
    Unreachable,
    /// Connected, but no answer in time.
    TimedOut,
    /// The connection broke before the answer was complete; the request may have been carried out.
    Interrupted,
    /// The other side asks us to slow down (429).
    Throttled,
    /// The other side failed (5xx), starts, shuts down or is read-only for now.
    Unavailable,
    /// Another transaction was in the way: deadlock, serialization failure, lock time-out.
    Contended,
    /// An answer that isn't what the system gives: truncated, a proxy's page, a body without end.
    Garbled,
    /// The other side has no room: disk full, quota.
    Full,
    /// Credentials missing or wrong (401).
    Unauthorized,
    /// Credentials accepted, but not allowed to do this (403).
    Forbidden,
    /// The address leads nowhere (404, 405, 410), or the table, topic or database isn't there.
    NotFound,
    /// The other side understood the request and won't have it (other 4xx, wrong schema).
    Refused,
    /// The certificate or the host's identity can't be verified.
    Untrusted,
}

impl Kind {
    /// Every kind, for tables and tests.
    pub const ALL: [Kind; 13] = [
        Kind::Unreachable,
        Kind::TimedOut,
        Kind::Interrupted,
        Kind::Throttled,
        Kind::Unavailable,
        Kind::Contended,
        Kind::Garbled,
        Kind::Full,
        Kind::Unauthorized,
        Kind::Forbidden,
        Kind::NotFound,
        Kind::Refused,
        Kind::Untrusted,
    ];

    /// The kind that an HTTP status stands for; `None` for one that isn't a failure (below 400).
    pub fn of_http_status(status: u16) -> Option<Kind> {
        match status {
            0..=399 => None,
            401 | 407 => Some(Kind::Unauthorized),
            403 => Some(Kind::Forbidden),
            404 | 405 | 410 => Some(Kind::NotFound),
            408 | 425 => Some(Kind::TimedOut),
            409 | 423 => Some(Kind::Contended),
            429 => Some(Kind::Throttled),
            400..=499 => Some(Kind::Refused),
            507 => Some(Kind::Full),
            // Not implemented, version not supported: the same tomorrow.
            501 | 505 => Some(Kind::Refused),
            500.. => Some(Kind::Unavailable),
        }
    }

    /// The row of the table.
    pub(super) fn rule(self) -> Rule {
        match self {
            Kind::Contended => Rule::Wait(Pace::Soon),
            Kind::Unreachable | Kind::TimedOut | Kind::Interrupted | Kind::Unavailable => Rule::Wait(Pace::Usual),
            Kind::Throttled | Kind::Garbled => Rule::Wait(Pace::Usual),
            // Somebody must make room, but then it goes on by itself.
            Kind::Full => Rule::Wait(Pace::Slow),
            Kind::Unauthorized => {
                Rule::Stop("check the credentials: key, user, password, and that they haven't expired")
            }
            Kind::Forbidden => Rule::Stop("grant the account the rights it needs"),
            Kind::NotFound => Rule::Stop("check the address and the names in the configuration"),
            Kind::Refused => {
                Rule::Stop("the request isn't accepted as it is: check versions, schema and configuration")
            }
            Kind::Untrusted => Rule::Stop("check the certificate, its authority and the host name"),
        }
    }

    /// What a person can look at when waiting hasn't helped.
    pub(super) fn advice(self) -> &'static str {
        match self {
            Kind::Unreachable => "check that the system runs and that the address and the network are right",
            Kind::TimedOut => "check the system's load, or allow it more time",
            Kind::Interrupted => "check the network and whatever stands between",
            Kind::Throttled => "ask for a higher limit, or poll less often and with fewer requests at a time",
            Kind::Unavailable => "check the system's own health and log",
            Kind::Contended => "check who else writes there and how long their transactions take",
            Kind::Garbled => "check the address and whether a proxy answers in the system's place",
            Kind::Full => "make room on the system's disk, or raise its quota",
            Kind::Unauthorized | Kind::Forbidden | Kind::NotFound | Kind::Refused | Kind::Untrusted => {
                match self.rule() {
                    Rule::Stop(hint) => hint,
                    Rule::Wait(_) => "",
                }
            }
        }
    }
}

/// What the table says of a kind.
pub(super) enum Rule {
    /// Try again: it may pass.
    Wait(Pace),
    /// Trying again gives the same; a person must act on this hint.
    Stop(&'static str),
}

/// How long to wait, in terms of the policy.
#[derive(Clone, Copy)]
pub(super) enum Pace {
    /// A hundredth of the usual: what is in the way is gone in milliseconds.
    Soon,
    /// As the policy says.
    Usual,
    /// The policy's longest wait at once.
    Slow,
}

/// One failed try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What happened.
    pub kind: Kind,
    /// How long the other side asks us to wait; see [`super::parse_retry_after`].
    pub retry_after: Option<Duration>,
}

impl From<Kind> for Failure {
    fn from(kind: Kind) -> Self {
        Self { kind, retry_after: None }
    }
}

/// What to do after a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Try again after this long.
    Retry {
        /// At least what the other side asked for.
        after: Duration,
    },
    /// Don't try again: a person must act.
    Stop {
        /// What the person can do.
        hint: Cow<'static, str>,
    },
}
