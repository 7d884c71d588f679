//! What a simulated ATS is made with. Read by the generator, the state and the handlers.

use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

/// How a simulated ATS is filled and how it behaves. The same options give the same bytes.
#[derive(Clone, Debug)]
pub struct AtsOptions {
    /// Everything random follows from it: data, edits and drift.
    pub seed: u64,
    /// How many applicants to generate: up to some millions; about 64 bytes each until they are edited.
    pub applicants: usize,
    /// What the header `ApiKey` must say for staff and applicants.
    pub api_key: String,
    /// The server's zone: its date-times carry no zone and mean local time here.
    pub zone: Tz,
    /// Where the simulator's clock starts; generated dates lie in the five years before it.
    pub now: DateTime<Utc>,
    /// The clock goes on with the machine's from `now`. Off, it stands still until it is moved.
    pub ticking: bool,
    /// Larger pages are cut to this (ATS contract: 50).
    pub max_page: usize,
    /// In what order applicants are listed.
    pub order: Order,
    /// Plants a few contradictions, all listed by [`super::Ats::planted`]. Off: there are none.
    pub oddities: bool,
    /// Rows that change while somebody pages.
    pub drift: Option<Drift>,
    /// How long every answer takes. At zero requests rarely overlap, so `in_flight` of the log stays low.
    pub latency: Duration,
    /// Serves so many applicants a second at most, to everybody together; `None`: as fast as it can.
    pub pace: Option<u32>,
}

impl Default for AtsOptions {
    fn default() -> Self {
        AtsOptions {
            seed: 1,
            applicants: 2_000,
            api_key: "simulated-key".to_owned(),
            zone: chrono_tz::America::Vancouver,
            // Some day after the contract's newest facts; fixed, so that default data is the same everywhere.
            now: DateTime::from_timestamp(1_780_000_000, 0).unwrap_or_default(),
            ticking: false,
            max_page: 50,
            order: Order::Stable,
            oddities: true,
            drift: None,
            latency: Duration::ZERO,
            pace: None,
        }
    }
}

/// The order of the list of applicants. Only the first is what the contract proposes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By (`updated_date`, `applicant_id`): an edited row moves to the end.
    #[default]
    Stable,
    /// By (`created_date`, `applicant_id`): an edited row stays where it is.
    ByCreated,
    /// No order a client could use; drawn anew whenever a row changes.
    Shuffled,
}

/// What happens to the rows while somebody pages: after every `every`-th page some are touched, as other users would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drift {
    /// After how many pages; 0 counts as 1.
    pub every: u32,
    /// Rows that get a real edit.
    pub changed: usize,
    /// New applicants.
    pub inserted: usize,
    /// Applicants that vanish.
    pub removed: usize,
    /// Rows whose `updated_date` alone moves, so that they change places.
    pub reordered: usize,
    /// How often at most; `None`: for ever, so that no pass ever sees the rows at rest.
    pub rounds: Option<u32>,
}

impl Default for Drift {
    fn default() -> Self {
        Drift { every: 1, changed: 2, inserted: 1, removed: 1, reordered: 2, rounds: Some(10) }
    }
}
