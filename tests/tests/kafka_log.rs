//! The Kafka log against a real Apache Kafka: what a simulated cluster can't show.
#![allow(clippy::unwrap_used, reason = "tests")]

mod kafka_log {
    pub mod groups;
    pub mod records;
    pub mod restart;
    pub mod setting;
    mod suite;
    mod three_brokers;
}
