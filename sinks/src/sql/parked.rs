//! Rows that wait in the target for a parent, or for a value that another row still holds.

use std::sync::Arc;

use pipeline::change::Version;
use pipeline::log::Offset;
use pipeline::reject::Reason;
use pipeline::sink::{Batch, Delivery};

use super::decode::{Arrival, Decoder};
use super::failure::Failure;
use super::isolate::outdate;
use super::table::Tables;
use super::transaction::{Database, Item, Mine, Parked, Transaction, Which};
use super::write::{Fate, Fates};

/// So many waiting rows are tried at once, the least often tried first; more would slow every batch down.
pub(super) const AT_ONCE: u32 = 500;

/// A row that was tried so often is no longer tried with every batch, only by the retry of every second: a value that is
/// taken costs two statements each time, and hundreds of such rows would slow every batch down.
pub(super) const TRIES_WITH_BATCHES: i64 = 4;

/// Waiting rows that are tried again.
pub(super) struct Waiting {
    pub(super) items: Vec<Item>,
    /// The same rows as they are stored, by their items' tags.
    rows: Vec<(usize, Parked)>,
    /// Rows that can't be tried: their schema can't be read, or nothing maps their topic any more.
    hopeless: Vec<Parked>,
}

/// Reads rows to try again; their tags begin with `first`.
pub(super) async fn load(
    tx: &mut dyn Transaction,
    decoder: &Decoder,
    tables: &Tables,
    mine: &[Mine],
    which: Which,
    first: usize,
    database: &dyn Database,
) -> Result<Waiting, Failure> {
    let mut waiting = Waiting { items: Vec::new(), rows: Vec::new(), hopeless: Vec::new() };
    if mine.is_empty() {
        return Ok(waiting);
    }
    for (tag, row) in (first..).zip(tx.parked(mine, which, AT_ONCE).await?) {
        let Some(place) = tables.of_topic(&row.topic) else {
            let text = format!("nothing maps {} any more", row.topic);
            waiting.hopeless.push(Parked { code: "not_mapped".to_owned(), reason: text, hopeless: true, ..row });
            continue;
        };
        let item = decoder.payload(&row).and_then(|payload| {
            let delivery = Delivery {
                key: row.key.clone(),
                version: Version(row.version),
                hash: row.hash.as_ref().and_then(|hash| hash.parse().ok()),
                offset: Offset::START,
                payload,
            };
            let (partition, forced) = (row.partition, row.forced);
            decoder.item(tables, &Arrival { tag, place, partition, delivery: &delivery, forced }, database)
        });
        match item {
            Ok(item) => {
                waiting.items.push(item);
                waiting.rows.push((tag, row));
            }
            Err(Reason { code, text }) => {
                waiting.hopeless.push(Parked { code: code.to_owned(), reason: text, hopeless: true, ..row });
            }
        }
    }
    Ok(waiting)
}

/// Notes what became of them, and answers how many are settled.
pub(super) async fn keep(tx: &mut dyn Transaction, waiting: &Waiting, fates: &Fates) -> Result<u64, Failure> {
    let mut still = waiting.hopeless.clone();
    let mut settled = 0;
    for (tag, row) in &waiting.rows {
        match fates.get(tag) {
            Some(Fate::Parked(Reason { code, text })) => {
                still.push(Parked { code: (*code).to_owned(), reason: text.clone(), ..row.clone() });
            }
            // It was only waiting; now it is known that waiting doesn't help.
            Some(Fate::Rejected(Reason { code, text })) => {
                still.push(Parked { code: (*code).to_owned(), reason: text.clone(), hopeless: true, ..row.clone() });
            }
            Some(Fate::Delivered | Fate::Unchanged | Fate::Stale) => settled += 1,
            // A change of the same key has come and decides.
            None => {}
        }
    }
    tx.still_parked(&still).await?;
    Ok(settled)
}

/// Parks what must wait of a batch. In a sweep, the row that is there gives way to it and to whatever comes later.
pub(super) async fn park(
    tx: &mut dyn Transaction,
    tables: &Tables,
    batch: &Batch,
    fates: &Fates,
) -> Result<(), Failure> {
    let mut rows = Vec::new();
    let deliveries = batch.parts.iter().flat_map(|part| part.deliveries.iter().map(move |delivery| (part, delivery)));
    for (tag, (part, delivery)) in deliveries.enumerate() {
        let Some(Fate::Parked(Reason { code, text })) = fates.get(&tag) else { continue };
        let payload = delivery.payload.as_ref();
        rows.push(Parked {
            topic: part.of.topic.name.clone(),
            partition: part.of.partition,
            key: delivery.key.clone(),
            version: delivery.version.0,
            hash: delivery.hash.map(|hash| hash.to_string()),
            forced: part.sweeping,
            payload: payload.map(|payload| (Arc::clone(&payload.schema).text().to_owned(), payload.body.to_vec())),
            code: (*code).to_owned(),
            reason: text.clone(),
            hopeless: false,
        });
    }
    for part in batch.parts.iter().filter(|part| part.sweeping) {
        let of_part = |row: &&Parked| row.topic == part.of.topic.name && row.partition == part.of.partition;
        let keys: Vec<&str> = rows.iter().filter(of_part).map(|row| row.key.as_str()).collect();
        if let Some(place) = tables.of_topic(&part.of.topic.name).filter(|_| !keys.is_empty()) {
            outdate(tx, &tables.0[place], &keys).await?;
        }
    }
    tx.park(&rows).await
}
