//! Sinks: one folder per system written to.
//!
//! To add one: a folder with the same file names as its neighbours, a variant of [`SinkSettings`] and its arms here,
//! a commented section in `docker/muster.toml`, a scenario in `tests/`.

use std::sync::Arc;

use pipeline::config::{Problem, SecretRef, Section};
use pipeline::sink::{Sink, SinkError};
use schemas::{Catalogue, Topic};

pub mod snapshot;
pub mod sql;

/// The systems that can be written to, as a configuration names them.
#[derive(Debug, Clone)]
pub enum SinkSettings {
    /// `to.sql`
    Sql(sql::SqlSettings),
}

/// A sink, ready to be run.
pub struct Built {
    /// The target.
    pub sink: Arc<dyn Sink>,
    /// What it delivers.
    pub topics: Vec<Arc<Topic>>,
}

/// A target, for commands that look at it or set it up.
pub enum Target {
    /// A database.
    Sql(Box<sql::SqlSink>),
}

impl Target {
    /// Connects and looks around. Changes nothing.
    pub async fn probe(&self) -> Result<sql::Probe, SinkError> {
        match self {
            Self::Sql(sink) => sink.probe().await,
        }
    }

    /// What the target lacks. Changes nothing.
    pub async fn plan(&self) -> Result<sql::Plan, SinkError> {
        match self {
            Self::Sql(sink) => sink.plan().await,
        }
    }

    /// What it holds, and whose it is, as far as it can tell. Changes nothing.
    pub async fn survey(&self) -> Result<Vec<sql::Survey>, SinkError> {
        match self {
            Self::Sql(sink) => sink.survey().await,
        }
    }

    /// Does what [`plan`](Self::plan) says, whole or not at all; with something refused, nothing.
    pub async fn apply_plan(&self) -> Result<sql::Plan, SinkError> {
        match self {
            Self::Sql(sink) => sink.apply_plan().await,
        }
    }
}

/// Why a sink can't be set up. A person must act.
#[derive(Debug, thiserror::Error)]
pub enum SinkSetupError {
    /// A secret can't be had.
    #[error("{0}")]
    Secret(Problem),
    /// The mapping doesn't fit the topics it names.
    #[error("{}", .0.join("\n"))]
    Mapping(Vec<String>),
}

impl SinkSettings {
    /// Reads `to.<system>` of a sink's section.
    pub fn read(section: &Section<'_>) -> Option<Self> {
        section.tagged("to", &["sql"]).map(|(_, section)| Self::Sql(sql::SqlSettings::read(&section)))
    }

    /// What only a comparison with the topics' schemas shows, with the places.
    pub fn problems(&self, catalogue: &Catalogue) -> Vec<Problem> {
        match self {
            Self::Sql(settings) => settings.problems(catalogue),
        }
    }

    /// The topics that are delivered.
    pub fn topics(&self) -> Vec<&str> {
        match self {
            Self::Sql(settings) => settings.topics().collect(),
        }
    }

    /// The secrets it needs.
    pub fn secrets(&self) -> Vec<&SecretRef> {
        match self {
            Self::Sql(settings) => settings.secrets().collect(),
        }
    }

    /// Builds the sink; contacts nothing. `env` looks up a variable of the environment, `partitions` a topic's count.
    pub fn build(
        &self,
        name: &str,
        env: &dyn Fn(&str) -> Option<String>,
        catalogue: &Catalogue,
        partitions: &dyn Fn(&Topic) -> u32,
    ) -> Result<Built, SinkSetupError> {
        let named = self.topics();
        let is_named = |topic: &&Arc<Topic>| named.contains(&topic.name.as_str());
        let topics = catalogue.topics().iter().filter(is_named).map(Arc::clone).collect();
        let Target::Sql(sink) = self.target(name, env, catalogue, partitions)?;
        Ok(Built { sink: Arc::new(*sink), topics })
    }

    /// The target alone; contacts nothing.
    pub fn target(
        &self,
        name: &str,
        env: &dyn Fn(&str) -> Option<String>,
        catalogue: &Catalogue,
        partitions: &dyn Fn(&Topic) -> u32,
    ) -> Result<Target, SinkSetupError> {
        match self {
            Self::Sql(settings) => {
                let config = settings.resolve(env).map_err(SinkSetupError::Secret)?;
                let sink = sql::SqlSink::new(name, &config, catalogue, partitions);
                Ok(Target::Sql(Box::new(sink.map_err(SinkSetupError::Mapping)?)))
            }
        }
    }
}
