//! Sources: one folder per system read from.
//!
//! To add one: a folder with the same file names as its neighbours, a variant of [`SourceSettings`] and its arms here,
//! a commented section in `docker/muster.toml`, a scenario in `tests/`.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use chrono::TimeDelta;
use pipeline::clock::Clock;
use pipeline::config::{Problem, SecretRef, Section};
use pipeline::source::{Source, SourceError};
use schemas::{Schema, Topic};

pub mod ats;
pub mod tables;

/// One feed of a system, as it is wired: where its records go and what reads them.
pub struct Feed {
    /// The feed's name within its system, as in `applicants`.
    pub name: String,
    /// The topic its records go to.
    pub topic: String,
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
    pub feed: String,
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

/// What a feed whose records say themselves what they are would write.
#[derive(Debug)]
pub struct SchemaPlan {
    /// The feed's name within its system.
    pub feed: String,
    /// The topic its records go to.
    pub topic: String,
    /// What they would be written with; fails where it doesn't fit what the topic holds.
    pub schema: Result<Arc<Schema>, SourceError>,
    /// How many schemas the topic was written with so far; it fits them all.
    pub announced: usize,
}

/// The systems that can be read from, as a configuration names them.
#[derive(Debug, Clone)]
pub enum SourceSettings {
    /// `from.ats`
    Ats(ats::AtsSettings),
    /// `from.tables`
    Tables(tables::TablesSettings),
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
    /// A database.
    #[error(transparent)]
    Tables(#[from] SourceError),
}

impl SourceSettings {
    /// Reads `from.<system>` of a source's section.
    pub fn read(section: &Section<'_>) -> Option<Self> {
        section.tagged("from", &["ats", "tables"]).map(|(system, section)| match system {
            "ats" => Self::Ats(ats::AtsSettings::read(&section)),
            _ => Self::Tables(tables::TablesSettings::read(&section)),
        })
    }

    /// The names of the system's feeds.
    pub fn feed_names(&self) -> Vec<String> {
        match self {
            Self::Ats(_) => ats::AtsFeed::ALL.map(|feed| feed.name().to_owned()).into(),
            Self::Tables(settings) => settings.tables().iter().map(|table| table.entity.clone()).collect(),
        }
    }

    /// The topics that the feeds write, in the order of their names in [`Self::feed_names`].
    pub fn topics(&self) -> Vec<String> {
        match self {
            Self::Ats(_) => ats::AtsFeed::ALL.map(|feed| feed.topic().to_owned()).into(),
            Self::Tables(settings) => settings.tables().iter().map(|table| table.topic.name.clone()).collect(),
        }
    }

    /// Those of the topics that aren't in the catalogue built into the program.
    pub fn own_topics(&self) -> Vec<Topic> {
        match self {
            Self::Ats(_) => Vec::new(),
            Self::Tables(settings) => settings.topics(),
        }
    }

    /// The secrets it needs.
    pub fn secrets(&self) -> Vec<&SecretRef> {
        match self {
            Self::Ats(settings) => settings.secrets().into(),
            Self::Tables(settings) => settings.secrets().collect(),
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
            Self::Tables(settings) => {
                let config = settings.resolve(env).map_err(SourceSetupError::Secret)?;
                Ok(tables::probe(config, &clock).await?)
            }
        }
    }

    /// What the feeds would write whose schemas aren't the catalogue's. `announced`: what a topic was written with so
    /// far, oldest first.
    pub async fn schema_plans(
        &self,
        env: &(dyn Fn(&str) -> Option<String> + Sync),
        announced: &(dyn Fn(&str) -> Vec<Arc<Schema>> + Sync),
        clock: Arc<dyn Clock>,
    ) -> Result<Vec<SchemaPlan>, SourceSetupError> {
        match self {
            Self::Ats(_) => Ok(Vec::new()),
            Self::Tables(settings) => {
                let config = settings.resolve(env).map_err(SourceSetupError::Secret)?;
                Ok(tables::plans(config, announced, &clock).await?)
            }
        }
    }

    /// The system's feeds, in the order in which they are read. `env` looks up a variable of the environment; in
    /// `folder` they may keep what can be lost.
    pub fn feeds(
        &self,
        env: &dyn Fn(&str) -> Option<String>,
        folder: &Path,
        clock: Arc<dyn Clock>,
    ) -> Result<Vec<Feed>, SourceSetupError> {
        match self {
            Self::Ats(settings) => {
                let config = settings.resolve(env).map_err(SourceSetupError::Secret)?;
                Ok(ats::sources(config, clock)?)
            }
            Self::Tables(settings) => {
                let config = settings.resolve(env).map_err(SourceSetupError::Secret)?;
                Ok(tables::sources(config, folder, &clock)?)
            }
        }
    }
}
