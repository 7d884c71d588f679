//! Schemas by id: `muster.schemas` first, then the registry. Known ids go on working while the registry is down.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use schemas::{Registry, RegistryError, Schema, SchemaId};
use serde::{Deserialize, Serialize};

use super::{StateError, StateTable};

#[derive(Serialize, Deserialize)]
struct Text {
    subject: String,
    schema: String,
}

/// All schemas that topics were written with.
pub struct SchemaStore {
    table: StateTable,
    registry: Option<Registry>,
    /// Bounded by the schemas ever released: a handful per topic.
    parsed: RwLock<HashMap<SchemaId, Arc<Schema>>>,
}

impl SchemaStore {
    /// As `muster.schemas` holds them, with ids from the registry where one is configured.
    pub fn new(table: StateTable, registry: Option<Registry>) -> Self {
        Self { table, registry, parsed: RwLock::default() }
    }

    /// The id under which `topic`'s values are written with `schema`. Without a registry it is worked out from the
    /// schema; with one, it is what the registry answers, or answered before.
    pub async fn id_for_writing(&self, topic: &str, schema: &Arc<Schema>) -> Result<SchemaId, StateError> {
        let subject = format!("{topic}-value");
        let id = match &self.registry {
            None => schema.id_without_registry(),
            Some(registry) => match registry.register(&subject, schema).await {
                Ok(id) => id,
                Err(error @ RegistryError::Unavailable { .. }) => match self.known_id(&subject, schema)? {
                    Some(id) => {
                        tracing::warn!(topic, error = %error, "registry unavailable, going on with the known schema id");
                        id
                    }
                    None => return Err(error.into()),
                },
                Err(error) => return Err(error.into()),
            },
        };
        let key = id.0.to_string();
        if self.table.get::<Text>(&key)?.is_none() {
            self.table.put(&key, &Text { subject, schema: schema.text().to_owned() }).await?;
        }
        self.remember(id, Arc::clone(schema));
        Ok(id)
    }

    fn known_id(&self, subject: &str, schema: &Schema) -> Result<Option<SchemaId>, StateError> {
        let known = self.table.list::<Text>("")?;
        let found = known.into_iter().find(|(_, text)| text.subject == subject && text.schema == schema.text());
        Ok(found.and_then(|(id, _)| id.parse().ok()).map(SchemaId))
    }

    /// The schemas that a topic's values were announced with, oldest first. The topic is named as the log names it
    /// ([`crate::log::Log::own_name`]).
    pub async fn announced(&self, topic: &str) -> Result<Vec<Arc<Schema>>, StateError> {
        // Somebody else may have written the topic a moment ago.
        self.table.settled().await?;
        let subject = format!("{topic}-value");
        let mut found = Vec::new();
        for (id, text) in self.table.list::<Text>("")? {
            if text.subject == subject {
                found.push((self.table.written_at(&id), text.schema));
            }
        }
        found.sort_by_key(|(at, _)| *at);
        found.iter().map(|(_, text)| Ok(Arc::new(Schema::parse(text)?))).collect()
    }

    /// The schema that was announced last for a topic: what its newest values are written with. The topic is named as
    /// the log names it ([`crate::log::Log::own_name`]). `None`: nothing was written yet.
    pub async fn current(&self, topic: &str) -> Result<Option<Arc<Schema>>, StateError> {
        Ok(self.announced(topic).await?.pop())
    }

    /// The schema with this id. An id that neither the log nor the registry knows is an error of the message that
    /// names it ([`StateError::UnknownSchema`]); while the registry can't be asked, the caller waits.
    pub async fn schema(&self, id: SchemaId) -> Result<Arc<Schema>, StateError> {
        if let Some(schema) = self.parsed.read().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return Ok(Arc::clone(schema));
        }
        let mut text = self.table.get::<Text>(&id.0.to_string())?;
        if text.is_none() {
            // Its writer appends the schema before the first value: one look at the log's end tells.
            self.table.settled().await?;
            text = self.table.get::<Text>(&id.0.to_string())?;
        }
        let schema = match (text, &self.registry) {
            (Some((text, _)), _) => Arc::new(Schema::parse(&text.schema)?),
            (None, Some(registry)) => match registry.schema(id).await {
                Err(RegistryError::NotFound { .. }) => return Err(StateError::UnknownSchema { id: id.0 }),
                schema => schema?,
            },
            (None, None) => return Err(StateError::UnknownSchema { id: id.0 }),
        };
        self.remember(id, Arc::clone(&schema));
        Ok(schema)
    }

    /// The id under which a schema that was looked up here is known.
    pub fn id_of(&self, schema: &Arc<Schema>) -> SchemaId {
        let parsed = self.parsed.read().unwrap_or_else(PoisonError::into_inner);
        let known = parsed.iter().find(|(_, known)| Arc::ptr_eq(known, schema)).map(|(id, _)| *id);
        known.unwrap_or_else(|| schema.id_without_registry())
    }

    fn remember(&self, id: SchemaId, schema: Arc<Schema>) {
        self.parsed.write().unwrap_or_else(PoisonError::into_inner).insert(id, schema);
    }
}
