//! A look at the tables, for people: are they there, can their rows be used, what do they become? Saves and emits nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use pipeline::clock::Clock;
use pipeline::source::SourceError;
use schemas::Schema;
use tokio::sync::Mutex;

use super::compare::Remembered;
use super::config::TablesConfig;
use super::engine::{Engine, Gather};
use super::postgres::Asked;
use super::read::TableSource;
use super::sql::{Bounds, Extra, Statements};
use crate::{Probe, Probed, SchemaPlan};

/// Rows asked for: enough to see their shape.
const ROWS: u32 = 5;

/// Asks each table for a few rows, one after the other.
pub(crate) async fn probe(config: TablesConfig, clock: &Arc<dyn Clock>) -> Result<Vec<Probe>, SourceError> {
    let engine = Arc::new(Mutex::new(Engine::new(&config)?));
    let config = Arc::new(config);
    let mut probes = Vec::with_capacity(config.tables.len());
    for table in &config.tables {
        let mut source = TableSource::new(
            Arc::clone(&config),
            table.clone(),
            Arc::clone(&engine),
            Arc::clone(clock),
            Remembered::nothing(),
        );
        probes.push(Probe { feed: table.entity.clone(), outcome: look(&mut source, &**clock).await });
    }
    Ok(probes)
}

async fn look(source: &mut TableSource, clock: &dyn Clock) -> Result<Probed, SourceError> {
    let plan = source.look(&[]).await?;
    let engine = Arc::clone(&source.engine);
    let engine = &mut *engine.lock().await;
    let sql = Statements { dialect: engine.dialect(), name: &source.name, plan: &plan }.by_key(
        Bounds::default(),
        Extra::default(),
        Some(ROWS),
    );
    let gather = Gather::new(&plan, false, Some(ROWS), source.pace.most_bytes());
    let read = source.run(engine, &Asked { sql, parameters: Vec::new() }, gather).await?;
    let ahead = read.now - clock.now();
    let mut rejects: BTreeMap<&'static str, (usize, String)> = BTreeMap::new();
    for reject in &read.gather.rows.rejects {
        let (count, _) = rejects.entry(reject.reason.code).or_insert_with(|| (0, reject.reason.text.clone()));
        *count += 1;
    }
    let rejects = rejects.into_iter().map(|(code, (count, text))| (count, format!("{code}: {text}"))).collect();
    let records = usize::try_from(read.gather.rows.read).unwrap_or_default();
    Ok(Probed { records, rejects, ahead: Some(ahead) })
}

/// What each table's schema would be, beside what its topic was written with so far, oldest first.
pub(crate) async fn plans(
    config: TablesConfig,
    announced: &(dyn Fn(&str) -> Vec<Arc<Schema>> + Sync),
    clock: &Arc<dyn Clock>,
) -> Result<Vec<SchemaPlan>, SourceError> {
    let engine = Arc::new(Mutex::new(Engine::new(&config)?));
    let config = Arc::new(config);
    let mut plans = Vec::with_capacity(config.tables.len());
    for table in &config.tables {
        let topic = table.topic.name.clone();
        let announced = announced(&topic);
        let mut source = TableSource::new(
            Arc::clone(&config),
            table.clone(),
            Arc::clone(&engine),
            Arc::clone(clock),
            Remembered::nothing(),
        );
        let schema = source.look(&announced).await.map(|plan| Arc::clone(&plan.schema));
        plans.push(SchemaPlan { feed: table.entity.clone(), topic, schema, announced: announced.len() });
    }
    Ok(plans)
}
