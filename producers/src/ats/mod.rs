//! The applicant tracking system: four master lists and the applicants, polled over HTTP.
//!
//! [`sources`] gives one [`Source`] per feed. `config` has the settings, `client` asks and judges answers, `decode` makes
//! records (no I/O); `masters` reads a list whole, `applicants` reads windows of days page by page in passes, with
//! `position` (what is saved) and `memory` (what the passes have brought). `probe` looks at the feeds without reading them.

mod applicants;
mod client;
mod config;
mod decode;
mod masters;
mod memory;
mod page;
mod position;
mod probe;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use chrono_tz::Tz;
use pipeline::change::Change;
use pipeline::clock::Clock;
use pipeline::reject::Reject;
use pipeline::source::Source;

use crate::Feed;
pub use config::{AtsConfig, AtsPaths, AtsSettings};
pub(crate) use probe::probe;

/// What the records of one answer's body become, in their order; `None` when the body is no list. Times without a zone are
/// those of `zone`. What a source reads goes through the same code.
pub fn decode_body(feed: AtsFeed, zone: Tz, body: &[u8]) -> Option<Vec<Result<Change, Reject>>> {
    let decoder = decode::Decoder::new(feed, zone);
    let elements = decode::split::elements(body).ok()?;
    Some(elements.into_iter().map(|element| decoder.decode(element)).collect())
}

/// What an ATS serves (ATS contract, "Endpoints of the ATS").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AtsFeed {
    /// Who works with the applicants.
    Staff,
    /// Health authorities.
    HealthAuthorities,
    /// Why applicants withdraw.
    Reasons,
    /// The milestones there are.
    Milestones,
    /// Applicants with their milestones.
    Applicants,
}

impl AtsFeed {
    /// All of them, masters first: what refers comes after what is referred to.
    pub const ALL: [Self; 5] =
        [Self::Staff, Self::HealthAuthorities, Self::Reasons, Self::Milestones, Self::Applicants];

    /// As in `ats.applicants`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Staff => "staff",
            Self::HealthAuthorities => "health_authorities",
            Self::Reasons => "reasons",
            Self::Milestones => "milestones",
            Self::Applicants => "applicants",
        }
    }

    /// The topic its records go to.
    pub fn topic(self) -> &'static str {
        decode::topic(self)
    }

    fn needs_api_key(self) -> bool {
        matches!(self, Self::Staff | Self::Applicants)
    }
}

impl fmt::Display for AtsFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why an ATS can't be set up. A person must act.
#[derive(Debug, thiserror::Error)]
pub enum AtsError {
    /// An HTTP header can't carry it.
    #[error("the ATS's api_key holds characters that a header can't carry")]
    ApiKey,
    /// Not an address together with the base URL.
    #[error("{path:?} is no path for the ATS's feed {feed}")]
    Path {
        /// Whose path.
        feed: AtsFeed,
        /// The path.
        path: String,
    },
    /// No TLS, or the like.
    #[error("the ATS's HTTP client can't be built")]
    Client(#[source] reqwest::Error),
}

/// The feeds of one ATS, masters first. They share the connections and the settings.
///
/// A TLS provider of rustls must have been installed.
pub fn sources(config: AtsConfig, clock: Arc<dyn Clock>) -> Result<Vec<Feed>, AtsError> {
    let client = Arc::new(client::Client::new(&config, Arc::clone(&clock))?);
    let config = Arc::new(config);
    let source = |feed: AtsFeed| -> Box<dyn Source> {
        let (client, config, clock) = (Arc::clone(&client), Arc::clone(&config), Arc::clone(&clock));
        match feed {
            AtsFeed::Applicants => Box::new(applicants::Applicants::new(client, config, clock)),
            feed => Box::new(masters::Master::new(feed, client, config, clock)),
        }
    };
    Ok(AtsFeed::ALL
        .map(|feed| Feed { name: feed.name().to_owned(), topic: feed.topic().to_owned(), source: source(feed) })
        .into())
}
