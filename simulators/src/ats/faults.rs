//! Faults of a simulated ATS: what can go wrong, and which endpoint does it to whom next. [`super::spoil`] acts them out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Endpoint;

/// One way to answer wrongly. Over the admin endpoint: `"hang"`, `{"status":{"code":429,"retry_after":{"seconds":2}}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// This status with `{"message": …}`, before the key is looked at.
    Status {
        /// 400 to 599; anything else answers 500.
        code: u16,
        /// The header `Retry-After`.
        #[serde(default)]
        retry_after: Option<RetryAfter>,
    },
    /// The request is read and never answered.
    Hang,
    /// The right answer, so many milliseconds late.
    Slow {
        /// How late, in milliseconds.
        ms: u64,
    },
    /// The right answer in 256-byte pieces, so many milliseconds apart.
    Drip {
        /// The pause, in milliseconds.
        ms: u64,
    },
    /// 200 and JSON, complete for HTTP, whose text stops in the middle.
    TruncatedJson,
    /// 200 and half of the body, then the connection breaks.
    CutBody,
    /// 200 and a page for people.
    HtmlPage,
    /// 200 and rows for ever.
    EndlessBody,
    /// In every n-th row each value but the ids is of another type; 0 counts as 1.
    WrongTypes {
        /// Every how many-th row, from the first.
        every: usize,
    },
    /// Every row twice.
    DuplicateRows,
    /// `[]`, whatever there is.
    EmptyArray,
    /// `null`.
    Null,
    /// The rows in an envelope: `{"data": […]}`.
    Object,
    /// The connection is reset instead of an answer.
    Reset,
}

impl Fault {
    /// A status without `Retry-After`.
    pub fn status(code: u16) -> Fault {
        Fault::Status { code, retry_after: None }
    }

    /// 429 with this `Retry-After`.
    pub fn too_many_requests(retry_after: RetryAfter) -> Fault {
        Fault::Status { code: 429, retry_after: Some(retry_after) }
    }
}

/// What the header `Retry-After` says (RFC 9110, section 10.2.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfter {
    /// So many seconds.
    Seconds(u64),
    /// An HTTP date so many seconds from now by the machine's clock; it may lie in the past.
    DateIn(i64),
    /// This text, however absurd. What no header can carry becomes `?`.
    Text(String),
}

/// Which fault is due where.
#[derive(Debug, Default)]
pub(crate) struct Faults(BTreeMap<Endpoint, Due>);

#[derive(Debug)]
struct Due {
    fault: Fault,
    /// Requests that are still answered rightly before.
    after: u32,
    /// `None`: until cleared.
    times: Option<u32>,
}

impl Faults {
    /// Replaces what was due there; zero `times` means nothing is.
    pub(crate) fn set(&mut self, endpoint: Endpoint, fault: Fault, after: u32, times: Option<u32>) {
        if times == Some(0) {
            self.0.remove(&endpoint);
            return;
        }
        self.0.insert(endpoint, Due { fault, after, times });
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The fault for the request that came in just now.
    pub(crate) fn take(&mut self, endpoint: Endpoint) -> Option<Fault> {
        let due = self.0.get_mut(&endpoint)?;
        if due.after > 0 {
            due.after -= 1;
            return None;
        }
        let fault = due.fault.clone();
        if let Some(times) = &mut due.times {
            *times -= 1;
            if *times == 0 {
                self.0.remove(&endpoint);
            }
        }
        Some(fault)
    }
}
