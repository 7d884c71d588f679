//! Appending to Kafka through our log, beside a bare librdkafka producer with the same settings and records. Both count
//! only what the broker has confirmed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use pipeline::log::kafka::{KafkaLog, KafkaOptions};
use pipeline::log::{Append, Log, NewTopic, TopicPartition};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, ClientContext};

use crate::rounds::{Rounds, rate};
use crate::sqlite_log::record;
use crate::table::{Finding, Goal};
use crate::{Bench, Setting};

/// See the file.
pub const BENCH: Bench =
    Bench { name: "kafka-log", about: "appending to Kafka", run: |setting| Box::pin(run(setting)) };

const PARTITIONS: u32 = 12;
const BATCH: usize = 1_000;
/// Calls of `append` at once where the pipe is to be kept full.
const AT_ONCE: usize = 8;

async fn run(setting: Setting) -> Result<Vec<Finding>> {
    let Some(kafka) = services::Kafka::measured().await? else { bail!("there is no Kafka") };
    let (batches, rounds) = (setting.amount(100, 4), setting.amount(7, 1));
    let log = Arc::new(KafkaLog::connect(KafkaOptions::plaintext(kafka.bootstrap())).await?);
    let topic = |name: &str| {
        let settings = [("max.message.bytes".to_owned(), "1048588".to_owned())].into();
        NewTopic { name: name.to_owned(), partitions: PARTITIONS, replication: 1, settings }
    };
    log.create(&[topic("ours"), topic("bare")]).await?;
    let bare = Bare::new(&kafka.bootstrap())?;
    let count = batches * BATCH;

    let stream = Rounds::in_turn(
        rounds,
        async || appended(&log, batches_of("ours", batches), AT_ONCE).await,
        async || {
            let (bare, work) = (bare.clone(), batches_of("bare", batches));
            tokio::task::spawn_blocking(move || bare.send(&[work.concat()])).await?
        },
    )
    .await?;
    let waiting = Rounds::in_turn(
        rounds,
        async || appended(&log, batches_of("ours", batches), 1).await,
        async || {
            let (bare, work) = (bare.clone(), batches_of("bare", batches));
            tokio::task::spawn_blocking(move || bare.send(&work)).await?
        },
    )
    .await?;

    let finding = |what: String, against: &str, all: &Rounds| {
        let figures = (rate(count, &all.ours), rate(count, &all.theirs));
        Finding::beside(what, against, figures, "records/s", all.ratio()).wants(Goal::RatioAtLeast(0.8))
    };
    let what = "append to Kafka, 300 bytes and our headers, acks=all, idempotent";
    Ok(vec![
        finding(
            format!("{what}; {AT_ONCE} calls of {BATCH} at once"),
            "a bare librdkafka producer, same settings and records, all confirmed at the end",
            &stream,
        ),
        finding(
            format!("{what}; calls of {BATCH} one after another"),
            &format!("the same, waiting for the confirmations of each {BATCH}"),
            &waiting,
        ),
    ])
}

fn batches_of(topic: &str, batches: usize) -> Vec<Vec<Append>> {
    let at: Vec<TopicPartition> = (0..PARTITIONS).map(|partition| TopicPartition::new(topic, partition)).collect();
    let batch = |batch: usize| {
        let numbers = batch * BATCH..(batch + 1) * BATCH;
        numbers.map(|number| record(at[number % at.len()].clone(), number)).collect()
    };
    (0..batches).map(batch).collect()
}

async fn appended(log: &Arc<KafkaLog>, work: Vec<Vec<Append>>, at_once: usize) -> Result<f64> {
    let mut lanes: Vec<Vec<Vec<Append>>> = vec![Vec::new(); at_once];
    for (place, batch) in work.into_iter().enumerate() {
        lanes[place % at_once].push(batch);
    }
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for lane in lanes {
        let log = Arc::clone(log);
        tasks.spawn(async move {
            for batch in lane {
                ensure!(log.append(batch).await?.len() == BATCH, "records without an offset");
            }
            Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(began.elapsed().as_secs_f64())
}

/// What a program would write that knows nothing but librdkafka.
#[derive(Clone)]
struct Bare {
    producer: Arc<ThreadedProducer<Confirmed>>,
    confirmed: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
}

struct Confirmed {
    confirmed: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
}

impl ClientContext for Confirmed {}

impl ProducerContext for Confirmed {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let count = if result.is_ok() { &self.confirmed } else { &self.failed };
        count.fetch_add(1, Ordering::Release);
    }
}

impl Bare {
    fn new(bootstrap: &str) -> Result<Self> {
        let (confirmed, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", bootstrap)
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("compression.codec", "zstd")
            .set("linger.ms", "1")
            .set("batch.size", "1000000")
            .set("queue.buffering.max.messages", "100000")
            .set("queue.buffering.max.kbytes", "65536");
        let context = Confirmed { confirmed: Arc::clone(&confirmed), failed: Arc::clone(&failed) };
        let producer = config.create_with_context(context).context("a bare producer")?;
        Ok(Self { producer: Arc::new(producer), confirmed, failed })
    }

    /// Sends each batch and waits for its confirmations before the next.
    fn send(&self, batches: &[Vec<Append>]) -> Result<f64> {
        let began = Instant::now();
        let mut sent = self.confirmed.load(Ordering::Acquire);
        for batch in batches {
            for record in batch {
                self.enqueue(record)?;
            }
            self.producer.poll(Duration::ZERO);
            sent += batch.len();
            while self.confirmed.load(Ordering::Acquire) < sent {
                ensure!(self.failed.load(Ordering::Acquire) == 0, "the broker refused records");
                std::thread::sleep(Duration::from_micros(100));
            }
        }
        Ok(began.elapsed().as_secs_f64())
    }

    fn enqueue(&self, record: &Append) -> Result<()> {
        loop {
            let mut headers = OwnedHeaders::new_with_capacity(record.headers.0.len());
            for (key, value) in &record.headers.0 {
                headers = headers.insert(Header { key, value: Some(value.as_ref()) });
            }
            let native = BaseRecord::<[u8], [u8]>::to(&record.at.topic)
                .partition(i32::try_from(record.at.partition)?)
                .key(&record.key[..])
                .payload(record.value.as_deref().unwrap_or_default())
                .headers(headers);
            match self.producer.send(native) {
                Ok(()) => return Ok(()),
                Err((error, _)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }
}
