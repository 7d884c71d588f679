//! Sinks: one folder per system written to.
//!
//! To add one: a folder with the same file names as its neighbours, a variant of [`SinkSettings`] and its arms here,
//! a commented section in `docker/muster.toml`, a scenario in `tests/`.

use std::sync::Arc;

use pipeline::config::{Problem, Section};
use pipeline::sink::Sink;
use schemas::Topic;

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

    /// Builds the sink; contacts nothing. `env` looks up a variable of the environment, `partitions` a topic's count.
    pub fn build(
        &self,
        name: &str,
        env: &dyn Fn(&str) -> Option<String>,
        partitions: &dyn Fn(&Topic) -> u32,
    ) -> Result<Built, SinkSetupError> {
        match self {
            Self::Sql(settings) => {
                let config = settings.resolve(env).map_err(SinkSetupError::Secret)?;
                let catalogue = schemas::catalogue();
                let sink = sql::SqlSink::new(name, &config, catalogue, partitions).map_err(SinkSetupError::Mapping)?;
                let named = |topic: &&Arc<Topic>| config.tables.iter().any(|table| table.topic == topic.name);
                let topics = catalogue.topics().iter().filter(named).map(Arc::clone).collect();
                Ok(Built { sink: Arc::new(sink), topics })
            }
        }
    }
}
