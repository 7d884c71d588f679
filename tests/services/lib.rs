//! Finds or starts the real services the tests run against: Apache Kafka, a schema registry, PostgreSQL.
//!
//! Each is looked for in this order:
//! 1. environment variables: `MUSTER_TEST_KAFKA` (bootstrap servers), `MUSTER_TEST_REGISTRY` (address with base path),
//!    `MUSTER_TEST_POSTGRES` (address of a maintenance database, as a user who may create databases). All or none;
//! 2. a container, where a container engine on this machine answers (`docs/decisions/test-services.md`);
//! 3. package artefacts: Kafka and the registry through Maven, PostgreSQL from the system's binaries;
//! 4. else an error when `CI` is set, otherwise `None`, after one line on stderr that says what is missing.
//!
//! What we start listens on loopback, on random ports, with throw-away data. All test processes share one server of each
//! kind; it ends by itself seconds after the last of them, however that ended. Downloads are kept in
//! `MUSTER_TEST_CACHE` (default: `muster-tests` in the user's cache folder).
//!
//! For tests that break things there are servers of one test alone, always from packages: [`Kafka::own`], three
//! [`Brokers`], [`Registry::own`], [`Postgres::own`], [`Toxiproxy`] for the network between, and [`S3`] for snapshots.
//!
//! ```no_run
//! # async fn story() -> anyhow::Result<()> {
//! let Some(postgres) = services::postgres().await? else { return Ok(()) };
//! let database = postgres.database("rota").await?;
//! // … connect to database.url
//! # Ok(())
//! # }
//! ```

mod brokers;
mod cache;
mod container;
mod engine;
mod find;
mod given;
mod go;
mod http;
mod instance;
mod kafka;
mod lock;
mod maven;
mod missing;
mod ports;
mod postgres;
mod program;
mod registry;
mod s3;
mod survey;
#[cfg(test)]
mod tests;
mod toxiproxy;

pub use brokers::Brokers;
pub use kafka::{Kafka, OwnKafka, kafka};
pub use ports::free_port;
pub use postgres::{OwnPostgres, Postgres, TestDatabase, postgres};
pub use registry::{OwnRegistry, Registry, registry};
pub use s3::S3;
pub use survey::{Outlook, survey};
pub use toxiproxy::{Proxy, Toxic, Toxiproxy};
