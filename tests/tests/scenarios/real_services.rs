//! Another configuration file, the same program: real Kafka, real registry, real PostgreSQL. And what somebody sees
//! there who has never heard of Muster.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use apache_avro::reader::datum::GenericDatumReader;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use super::support::kafka::Cluster;
use super::support::register::Register;
use super::support::site::Site;
use super::support::{recruiters, until};

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_flow_on_real_services() -> Result<()> {
    let Some(cluster) = Cluster::find("real services").await? else { return Ok(()) };
    let (ats, server) = recruiters(400)?;
    let site = Site::new(cluster.parts(&server.url())).await?;

    site.give(&["run", "--once"]).await?.ok()?;
    site.agrees_with(&ats).await?;
    let written = Register::versions(&site.database()).await?;
    site.give(&["run", "--once"]).await?.ok()?;
    ensure!(Register::versions(&site.database()).await? == written, "the second pass wrote rows that hadn't changed");

    // What a stock consumer reads is what the recruiters sent.
    let held = everything(&cluster.kafka.bootstrap(), "ats.applicant", 12)?;
    let mut schemas = Schemas { registry: cluster.registry.clone(), known: BTreeMap::new() };
    for sent in ats.applicants() {
        let id = sent["applicant_id"].as_str().context("an id")?.to_lowercase();
        let (partition, value) = held.get(&id).with_context(|| format!("{id} isn't in the topic"))?;
        ensure!(*partition == java_partition(id.as_bytes(), 12), "{id} is in partition {partition}");
        let read = schemas.decode(value).await?;
        for field in ["first_name", "last_name", "email_address", "phone_number", "pr_status", "ats1_id"] {
            ensure!(read[field] == sent[field], "{id}: {field}");
        }
        let listed = |applicant: &Value, list: &str| applicant[list].as_array().map_or(0, Vec::len);
        for list in ["milestones", "nursing_educations"] {
            ensure!(listed(&read, list) == listed(&sent, list), "{id}: {list}");
        }
    }

    // Changes, a milestone less, and a bad record that is repaired while the process runs.
    let mut running = site.start()?;
    ats.change_some(25);
    let loses =
        ats.applicants().into_iter().find(|one| one["milestones"].as_array().is_some_and(|list| list.len() > 2));
    let loses = loses.context("nobody has milestones")?["applicant_id"].as_str().context("an id")?.to_lowercase();
    ats.remove_milestone(&loses, 0).context("a milestone")?;
    site.settles(&mut running, &ats).await?;

    let bad = ats.add_applicant();
    let good = ats.applicant(&bad).context("the newcomer")?;
    let mut wrong = good.clone();
    wrong["registration_date"] = json!("the first of May");
    ats.replace_raw(&bad, wrong);
    let letter = std::cell::RefCell::new(String::new());
    until("the bad record is set aside", || async {
        let letters = site.ask(&["dead-letters", "list", "--key", &bad]).await?;
        let id = letters["letters"][0]["id"].as_str().context("no letter yet")?;
        id.clone_into(&mut letter.borrow_mut());
        Ok(())
    })
    .await?;
    let file = site.path("repaired.json");
    std::fs::write(&file, good.to_string())?;
    site.ask(&["dead-letters", "replay", &letter.take(), "--with", &file.display().to_string()]).await?;
    ats.replace_raw(&bad, good);
    site.settles(&mut running, &ats).await?;
    site.ledger_balances().await?;
    let (code, took) = running.terminate().await?;
    ensure!(code == 0 && took < Duration::from_secs(10), "exit code {code} after {took:?}");
    Ok(())
}

/// The latest value of every key with its partition, as any consumer reads them. Deleted keys are gone.
fn everything(bootstrap: &str, topic: &str, partitions: i32) -> Result<BTreeMap<String, (i32, Vec<u8>)>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "somebody-else")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()?;
    let mut all = TopicPartitionList::new();
    for partition in 0..partitions {
        all.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&all)?;
    let mut held = BTreeMap::new();
    let mut at_end = 0;
    while at_end < partitions {
        let polled = tokio::task::block_in_place(|| consumer.poll(Duration::from_secs(20)));
        match polled.context("the topic has no end")? {
            Ok(message) => {
                let key = String::from_utf8(message.key().context("a key")?.to_vec())?;
                let headers = message.headers().context("headers")?;
                let kind = headers.iter().find(|header| header.key == "ce_type").context("a CloudEvents type")?;
                ensure!(kind.value.is_some_and(|kind| kind.starts_with(topic.as_bytes())), "the type names the entity");
                match message.payload() {
                    Some(value) => drop(held.insert(key, (message.partition(), value.to_vec()))),
                    None => drop(held.remove(&key)),
                }
            }
            Err(rdkafka::error::KafkaError::PartitionEOF(_)) => at_end += 1,
            Err(error) => bail!(error),
        }
    }
    Ok(held)
}

/// Schemas by the id in the frame, from the registry alone.
struct Schemas {
    registry: String,
    known: BTreeMap<u32, apache_avro::Schema>,
}

impl Schemas {
    async fn decode(&mut self, framed: &[u8]) -> Result<Value> {
        let [0, a, b, c, d, body @ ..] = framed else { bail!("not in the registry's wire format") };
        let id = u32::from_be_bytes([*a, *b, *c, *d]);
        if !self.known.contains_key(&id) {
            let answer = reqwest::get(format!("{}/schemas/ids/{id}", self.registry)).await?.error_for_status()?;
            let said: Value = answer.json().await?;
            let text = said["schema"].as_str().context("a schema's text")?;
            self.known.insert(id, apache_avro::Schema::parse_str(text)?);
        }
        let mut body = body;
        let value = GenericDatumReader::builder(&self.known[&id]).build()?.read_value(&mut body)?;
        ensure!(body.is_empty(), "bytes behind the record");
        Ok(value.try_into()?)
    }
}

/// Where the Java client puts a key: murmur2, seed 0x9747b28c, as its own source has it.
fn java_partition(key: &[u8], partitions: i32) -> i32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ u32::try_from(key.len()).unwrap_or_default();
    let mut words = key.chunks_exact(4);
    for word in words.by_ref() {
        let word = word.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ (word ^ word >> 24).wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        hash ^= rest.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ hash >> 13).wrapping_mul(M);
    hash ^= hash >> 15;
    (hash & 0x7fff_ffff).cast_signed() % partitions
}
