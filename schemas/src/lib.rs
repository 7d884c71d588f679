//! The contract with downstream teams: Avro schemas, topic catalogue, codecs and the registry client.
