//! Sources: one folder per system read from.
//!
//! To add one: a folder with the same file names as its neighbours, a variant of [`SourceSettings`] and its arms here,
//! a commented section in `docker/muster.toml`, a scenario in `tests/`.

use std::fmt;
use std::sync::Arc;

use chrono::TimeDelta;
use pipeline::clock::Clock;
use pipeline::config::{Problem, SecretRef, Section};
use pipeline::source::{Source, SourceError};

pub mod ats;

/// One feed of a system, as it is wired: where its records go and what reads them.
pub struct Feed {
    /// The feed's name within its system, as in `applicants`.
    pub name: &'static str,
    /// The topic its records go to.
    pub topic: &'static str,
    /// What reads it.
    pub source: Box<dyn Source>,
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("name", &self.name).field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// A look at one feed.
#[derive(Debug)]
pub struct Probe {
    /// The feed's name within its system.
    pub feed: &'static str,
    /// What it has shown.
    pub outcome: Result<Probed, SourceError>,
}

/// What a look at a feed that answers has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// Records on the page that was asked for.
    pub records: usize,
    /// How many of them can't be used, for each kind of reason; the reason is that of the first, without contents.
    pub rejects: Vec<(usize, String)>,
    /// How far the server's clock is ahead of ours (less than zero: behind); `None`: it doesn't say.
    pub ahead: Option<TimeDelta>,
}

/// The systems that can be read from, as a configuration names them.
#[derive(Debug, Clone)]
pub enum SourceSettings {
    /// `from.ats`
    Ats(ats::AtsSettings),
}

/// Why a source can't be set up. A person must act.
#[derive(Debug, thiserror::Error)]
pub enum SourceSetupError {
    /// A secret can't be had.
    #[error("{0}")]
    Secret(Problem),
    /// An ATS.
    #[error(transparent)]
    Ats(#[from] ats::AtsError),
}

impl SourceSettings {
    /// Reads `from.<system>` of a source's section.
    pub fn read(section: &Section<'_>) -> Option<Self> {
        section.tagged("from", &["ats"]).map(|(_, section)| Self::Ats(ats::AtsSettings::read(&section)))
    }

    /// The system, as its topics name it.
    pub fn system(&self) -> &'static str {
        match self {
            Self::Ats(_) => "ats",
        }
    }

    /// The names of the system's feeds.
    pub fn feed_names(&self) -> Vec<&'static str> {
        match self {
            Self::Ats(_) => ats::AtsFeed::ALL.map(ats::AtsFeed::name).into(),
        }
    }

    /// The topics that the feeds write.
    pub fn topics(&self) -> Vec<&'static str> {
        match self {
            Self::Ats(_) => ats::AtsFeed::ALL.map(ats::AtsFeed::topic).into(),
        }
    }

    /// The secrets it needs.
    pub fn secrets(&self) -> Vec<&SecretRef> {
        match self {
            Self::Ats(settings) => settings.secrets().into(),
        }
    }

    /// Asks each feed for one small page. `env` looks up a variable of the environment.
    pub async fn probe(
        &self,
        env: &(dyn Fn(&str) -> Option<String> + Sync),
        clock: Arc<dyn Clock>,
    ) -> Result<Vec<Probe>, SourceSetupError> {
        match self {
            Self::Ats(settings) => {
                let config = settings.resolve(env).map_err(SourceSetupError::Secret)?;
                Ok(ats::probe(&config, clock).await?)
            }
        }
    }

    /// The system's feeds, in the order in which they are read. `env` looks up a variable of the environment.
    pub fn feeds(
        &self,
        env: &dyn Fn(&str) -> Option<String>,
        clock: Arc<dyn Clock>,
    ) -> Result<Vec<Feed>, SourceSetupError> {
        match self {
            Self::Ats(settings) => {
                let config = settings.resolve(env).map_err(SourceSetupError::Secret)?;
                Ok(ats::sources(config, clock)?)
            }
        }
    }
}
