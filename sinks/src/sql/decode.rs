//! From a change, as a topic carries it, to a row of cells.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use pipeline::log::TopicPartition;
use pipeline::processor::Payload;
use pipeline::reject::Reason;
use pipeline::sink::{Delivery, Rejected};
use schemas::{Key, Reader, Schema};

use super::cell::Cell;
use super::failure::reason;
use super::table::{Filling, GONE, Table, Tables};
use super::transaction::{Database, HeldRow, Item, Parked};
use super::write::{Judged, Keyed};

/// Decodes with readers that are resolved once per writer schema.
#[derive(Default)]
pub(super) struct Decoder {
    readers: Mutex<Readers>,
    schemas: Mutex<HashMap<String, Arc<Schema>>>,
}

/// By table and by the writer schema's place in memory, which nothing else gets as long as the schema is kept here.
type Readers = HashMap<(usize, usize), (Arc<Schema>, Arc<Reader>)>;

/// There are as many writer schemas as releases of Muster have written to the topics; more is a mistake of somebody's.
const MAX_READERS: usize = 256;

/// A change, and where it goes.
pub(super) struct Arrival<'a> {
    /// Its place in the list of fates.
    pub(super) tag: usize,
    /// Its table's place in [`Tables`].
    pub(super) place: usize,
    /// Of the topic.
    pub(super) partition: u32,
    pub(super) delivery: &'a Delivery,
    /// Wins whatever its version.
    pub(super) forced: bool,
}

impl Keyed for Arrival<'_> {
    fn key(&self) -> &Key {
        &self.delivery.key
    }
}

impl Judged for Arrival<'_> {
    fn tag(&self) -> usize {
        self.tag
    }

    fn table(&self) -> usize {
        self.place
    }

    fn version(&self) -> i64 {
        self.delivery.version.0
    }

    fn forced(&self) -> bool {
        self.forced
    }

    fn is_same(&self, held: &HeldRow) -> bool {
        match &self.delivery.payload {
            Some(_) => held.hash.is_some() && held.hash == self.delivery.hash.map(|hash| hash.to_string()),
            None => held.hash.as_deref() == Some(GONE),
        }
    }
}

/// Why a key can't even be asked for.
pub(super) fn unusable_key(key: &Key, database: &dyn Database) -> Option<Reason> {
    let why = database.unwritable(key.as_str())?;
    Some(Reason::new("value_refused", format!("the key {why}")))
}

impl Decoder {
    /// The row of a delivery, or why there can be none.
    pub(super) fn item(&self, tables: &Tables, arrival: &Arrival<'_>, database: &dyn Database) -> Result<Item, Reason> {
        let Arrival { tag, place, partition, delivery, forced } = *arrival;
        let cells = match &delivery.payload {
            Some(payload) => Some(self.cells(&tables.0[place], place, payload, database)?),
            None => None,
        };
        Ok(Item {
            tag,
            table: place,
            partition,
            key: delivery.key.clone(),
            version: delivery.version.0,
            hash: delivery.hash.map(|hash| hash.to_string()),
            forced,
            cells,
        })
    }

    fn cells(
        &self,
        table: &Table,
        place: usize,
        payload: &Payload,
        database: &dyn Database,
    ) -> Result<Vec<Cell>, Reason> {
        let reader = self.reader(table, place, &payload.schema)?;
        let malformed = |fault: schemas::Malformed| Reason::new("malformed", format!("{}: {fault}", table.entity));
        let values = reader.read(&payload.body).map_err(malformed)?;
        let mut cells = Vec::with_capacity(table.columns.len());
        for column in &table.columns {
            let fields = table.subject.schema.fields();
            let cell = match &column.filling {
                Filling::Field(place) => Cell::of(&fields[*place].kind, &values[*place]),
                Filling::Object(parts) => {
                    Cell::object(parts.iter().map(|(name, place)| (&**name, &fields[*place].kind, &values[*place])))
                }
            };
            if let Cell::Text(text) = &cell
                && let Some(why) = database.unwritable(text)
            {
                return Err(Reason::new("value_refused", format!("{}.{} {why}", table.name, column.name)));
            }
            cells.push(cell);
        }
        Ok(cells)
    }

    fn reader(&self, table: &Table, place: usize, writer: &Arc<Schema>) -> Result<Arc<Reader>, Reason> {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let name = (place, Arc::as_ptr(writer).addr());
        if let Some((_, reader)) = readers.get(&name) {
            return Ok(reader.clone());
        }
        let reader = Reader::new(writer.clone(), table.subject.schema.clone());
        let reader = Arc::new(reader.map_err(|error| Reason::new("unreadable_schema", error.to_string()))?);
        if readers.len() >= MAX_READERS {
            readers.clear();
        }
        readers.insert(name, (writer.clone(), reader.clone()));
        Ok(reader)
    }

    /// A parked change as it came.
    pub(super) fn payload(&self, row: &Parked) -> Result<Option<Payload>, Reason> {
        let Some((text, body)) = &row.payload else { return Ok(None) };
        let mut schemas = self.schemas.lock().unwrap_or_else(PoisonError::into_inner);
        let schema = match schemas.get(text) {
            Some(schema) => schema.clone(),
            None => {
                let unreadable = |error: schemas::SchemaError| Reason::new("unreadable_schema", error.to_string());
                let schema = Arc::new(Schema::parse(text).map_err(unreadable)?);
                if schemas.len() >= MAX_READERS {
                    schemas.clear();
                }
                schemas.insert(text.clone(), schema.clone());
                schema
            }
        };
        Ok(Some(Payload { schema, body: body.clone().into() }))
    }

    /// What becomes a dead letter of a row that has waited for too long.
    pub(super) fn letter(&self, row: Parked) -> (Rejected, Option<Payload>) {
        let (payload, reason) = match self.payload(&row) {
            Ok(payload) => (payload, Reason::new(code(&row.code), row.reason)),
            Err(reason) => (None, reason),
        };
        let rejected = Rejected {
            at: TopicPartition::new(row.topic, row.partition),
            key: row.key,
            version: pipeline::change::Version(row.version),
            reason,
        };
        (rejected, payload)
    }
}

/// Codes are known to the program; one that a later Muster stored isn't.
fn code(stored: &str) -> &'static str {
    let known = [
        reason::MISSING_PARENT,
        reason::STILL_REFERRED_TO,
        reason::CONTRADICTION,
        reason::AMBIGUOUS,
        reason::HELD_BY_OTHERS,
        "unique_violation",
        "null_not_allowed",
        "check_violation",
        "value_refused",
        "malformed",
        "unreadable_schema",
        "not_mapped",
    ];
    known.into_iter().find(|code| *code == stored).unwrap_or("waited_too_long")
}
