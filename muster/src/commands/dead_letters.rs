//! `muster dead-letters`: list, show, replay and drop the records that were set aside.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use chrono::{DateTime, NaiveDate, Utc};
use pipeline::dead_letters::Letter;
use pipeline::log::sqlite::holder;
use pipeline::operations::{LetterFilter, LetterRow, LetterState, Operations};
use pipeline::state::{Request, RequestKind};
use schemas::{Schema, SchemaId};
use serde_json::{Value, json};

use super::{ask_owner, writer};
use crate::args::{LettersAction, LettersFilter, LettersState};
use crate::contact::{self, Ask, Told};
use crate::exit;
use crate::output::{Output, table};
use crate::process::{Process, open_operations};
use crate::settings::{LogSettings, Settings};

/// The largest file that `--with` takes.
const LARGEST_EDIT: u64 = 4 << 20;

/// Does what was asked.
pub async fn run(settings: &Settings, action: &LettersAction, output: Output) -> Result<u8> {
    let operations = open_operations(settings).await?;
    match action {
        LettersAction::List(which) => list(&operations, which, output).await,
        LettersAction::Show { id } => show(settings, &operations, id, output).await,
        LettersAction::Replay { id, with, filter } => {
            let edited = with.as_deref().map(read_edit).transpose()?;
            let ids = chosen(&operations, id.as_deref(), filter).await?;
            replay(settings, &operations, &ids, edited, output).await
        }
        LettersAction::Drop { id, filter } => {
            let ids = chosen(&operations, id.as_deref(), filter).await?;
            drop_letters(settings, &ids, output).await
        }
    }
}

fn filter(which: &LettersFilter) -> LetterFilter {
    let state = match which.state.unwrap_or(LettersState::Open) {
        LettersState::Open => Some(LetterState::Open),
        LettersState::Replayed => Some(LetterState::Replayed),
        LettersState::Superseded => Some(LetterState::Superseded),
        LettersState::Dropped => Some(LetterState::Dropped),
        LettersState::All => None,
    };
    LetterFilter {
        state,
        component: which.component.clone(),
        topic: which.topic.clone(),
        code: which.code.clone(),
        key: which.key.clone(),
        since: which.since.map(midnight),
        until: which.until.and_then(|day| day.succ_opt()).map(midnight),
    }
}

fn midnight(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(chrono::NaiveTime::MIN).and_utc()
}

async fn list(operations: &Operations, which: &LettersFilter, output: Output) -> Result<u8> {
    let filter = filter(which);
    let letters = operations.letters(&filter, which.limit).await?;
    let all = operations.count_letters(&filter).await?;
    output.show(&json!({ "letters": letters, "all": all }), || {
        let rows: Vec<Vec<String>> = letters.iter().map(cells).collect();
        if rows.is_empty() {
            return "no dead letters".into();
        }
        let more = all.saturating_sub(letters.len() as u64);
        let more = if more > 0 { format!("\nand {more} more (--limit)") } else { String::new() };
        table(&["id", "state", "when", "component", "key", "reason"], &rows) + &more
    })?;
    Ok(exit::DONE)
}

fn cells(letter: &LetterRow) -> Vec<String> {
    vec![
        letter.id.clone(),
        letter.state.as_str().into(),
        letter.at.format("%Y-%m-%d %H:%M:%S").to_string(),
        letter.component.clone(),
        letter.key.clone().unwrap_or_else(|| "-".into()),
        format!("{}: {}", letter.code, letter.reason),
    ]
}

async fn show(settings: &Settings, operations: &Operations, id: &str, output: Output) -> Result<u8> {
    let Some((row, text)) = operations.letter(id).await? else { bail!("there is no dead letter {id}") };
    let letter: Letter = serde_json::from_str(&text).context("the letter can't be read")?;
    let record = record(settings, &letter).await?;
    let object = json!({ "letter": row, "place": letter.place, "run": letter.run, "record": record });
    output.show(&object, || {
        let record = serde_json::to_string_pretty(&record).unwrap_or_default();
        let place = letter.place.map(|(partition, offset)| format!(" partition {partition} offset {offset}"));
        format!(
            "{} {}\n  {} set it aside at {}\n  topic {}{}\n  key {}\n  {}: {}\n{record}",
            row.id,
            row.state.as_str(),
            row.component,
            row.at,
            letter.topic,
            place.unwrap_or_default(),
            row.key.as_deref().unwrap_or("-"),
            row.code,
            row.reason,
        )
    })?;
    Ok(exit::DONE)
}

/// The record as JSON, in the form that `replay --with` takes.
async fn record(settings: &Settings, letter: &Letter) -> Result<Value> {
    let raw = letter.contents.bytes().context("the letter's contents aren't base64")?;
    if let Ok(json) = serde_json::from_slice(&raw) {
        return Ok(json);
    }
    let Ok((id, body)) = schemas::unframe(&raw) else {
        return Ok(Value::String(String::from_utf8_lossy(&raw).into_owned()));
    };
    // What tables have become, the log alone knows: the configuration has an outline.
    let known = settings.catalogue.entity(&letter.topic).filter(|entity| !entity.generated);
    let json = known.and_then(|entity| schemas::to_json(&entity.schema, body).ok());
    if let Some(json) = json {
        return Ok(json);
    }
    match announced(settings, id).await {
        Ok(schema) => schemas::to_json(&schema, body).context("the letter isn't of its own schema"),
        Err(error) => {
            tracing::warn!(schema = id.0, error = format!("{error:#}"), "the schema of the record can't be had");
            Ok(Value::String(String::from_utf8_lossy(&raw).into_owned()))
        }
    }
}

/// The schema of this id, from the log or the registry.
async fn announced(settings: &Settings, id: SchemaId) -> Result<Arc<Schema>> {
    let ask = Ask::Schema { id: id.0 };
    let told = match running(settings) {
        Some(socket) => contact::ask(&socket, &ask).await?,
        None => {
            let process = Process::open(settings).await?;
            let told = contact::act(ask, &process.runtime).await;
            process.close().await;
            told?
        }
    };
    match told {
        Told::Schema { text } => Ok(Arc::new(Schema::parse(&text)?)),
        Told::Failed(reason) => bail!(reason),
        _ => bail!("the process gave another answer than was asked for"),
    }
}

/// The socket of the process that holds an embedded log.
fn running(settings: &Settings) -> Option<PathBuf> {
    match &settings.log {
        LogSettings::Sqlite { path } => holder(path).and_then(|holder| holder.socket),
        LogSettings::Kafka(_) => None,
    }
}

fn read_edit(path: &Path) -> Result<Value> {
    let size = std::fs::metadata(path).with_context(|| format!("{} can't be read", path.display()))?.len();
    if size > LARGEST_EDIT {
        bail!("{} has {size} bytes; a record has at most {LARGEST_EDIT}", path.display());
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("{} can't be read", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} isn't JSON", path.display()))
}

async fn chosen(operations: &Operations, id: Option<&str>, which: &LettersFilter) -> Result<Vec<String>> {
    if let Some(id) = id {
        if operations.letter(id).await?.is_none() {
            bail!("there is no dead letter {id}");
        }
        return Ok(vec![id.to_owned()]);
    }
    let letters = operations.letters(&filter(which), which.limit).await?;
    Ok(letters.into_iter().map(|letter| letter.id).collect())
}

async fn replay(
    settings: &Settings,
    operations: &Operations,
    ids: &[String],
    edited: Option<Value>,
    output: Output,
) -> Result<u8> {
    let mut answers = Vec::new();
    for id in ids {
        let Some((row, text)) = operations.letter(id).await? else { bail!("there is no dead letter {id}") };
        let letter: Letter = serde_json::from_str(&text).context("the letter can't be read")?;
        let request = Request {
            id: uuid::Uuid::new_v4().to_string(),
            target: owner(settings, &row.component, &letter.topic, edited.is_some()),
            kind: RequestKind::Replay { letter: id.clone(), edited: edited.clone() },
            at: Utc::now(),
            answer: None,
        };
        answers.push((id, ask_owner(settings, request).await?));
    }
    let object: Vec<Value> = answers.iter().map(|(id, answer)| json!({ "letter": id, "answer": answer })).collect();
    output.show(&object, || {
        let lines = answers.iter().map(|(id, answer)| format!("{id}: {}", answer.text));
        if answers.is_empty() { "no dead letters".into() } else { lines.collect::<Vec<_>>().join("\n") }
    })?;
    Ok(if answers.iter().all(|(_, answer)| answer.done) { exit::DONE } else { exit::FAILED })
}

/// Who replays a letter: the component that set it aside; for an edited letter of a sink, whoever writes its topic.
fn owner(settings: &Settings, component: &str, topic: &str, edited: bool) -> String {
    let of_a_sink = settings.sinks.iter().any(|sink| sink.name == component);
    if edited && of_a_sink {
        return writer(topic);
    }
    component.to_owned()
}

async fn drop_letters(settings: &Settings, ids: &[String], output: Output) -> Result<u8> {
    match running(settings) {
        Some(socket) => {
            for id in ids {
                if let Told::Failed(reason) = contact::ask(&socket, &Ask::Drop { letter: id.clone() }).await? {
                    bail!(reason);
                }
            }
        }
        None => {
            let process = Process::open(settings).await?;
            for id in ids {
                process.runtime.letters.settle(id, LetterState::Dropped).await?;
            }
            process.close().await;
        }
    }
    output.show(&json!({ "dropped": ids }), || format!("dropped {}", ids.len()))?;
    Ok(exit::DONE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use pipeline::config;

    use super::*;

    /// The configuration has an outline of the table's schema, which the value would be nonsense by.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_record_of_a_table_is_shown_as_it_was_written_whoever_holds_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().display();
        let text = format!(
            "folder = '{root}'\n[sources.rota]\nevery = '1h'\n[sources.rota.from.tables]\nurl = 'sqlite://{root}/rota.db'\n\
             system = 'rota'\n[sources.rota.from.tables.tables.nurse]\ntable = 'nurses'\nkey = ['id']\n"
        );
        let settings = config::read("muster.toml", &text, Settings::read).unwrap().unwrap();
        let schema = json!({ "type": "record", "name": "rota.nurse", "fields": [
            { "name": "id", "type": "long" }, { "name": "name", "type": ["null", "string"], "default": null }
        ] });
        let schema = Arc::new(Schema::parse(&schema.to_string()).unwrap());
        let nurse = json!({ "id": 7, "name": "Ada" });
        let process = Process::open(&settings).await.unwrap();
        let id = process.runtime.state.schemas.id_for_writing("rota.nurse", &schema).await.unwrap();
        let value = schemas::frame(id, &schemas::from_json(&schema, &nurse).unwrap());
        let letter = Letter {
            id: "letter-1".into(),
            component: "register".into(),
            topic: "rota.nurse".into(),
            place: None,
            life: None,
            key: Some("7".into()),
            version: None,
            hash: None,
            code: "too_long".into(),
            reason: "name: too long".into(),
            at: Utc::now(),
            run: None,
            contents: pipeline::dead_letters::Contents::binary(&value),
        };
        let stop = tokio_util::sync::CancellationToken::new();
        let socket = folder.path().join("muster.sock");
        process.embedded.as_ref().unwrap().set_contact(&socket).unwrap();
        let serving = tokio::spawn(contact::serve(socket, process.runtime.clone(), Vec::new(), stop.clone()));
        while !folder.path().join("muster.sock").exists() {
            tokio::task::yield_now().await;
        }
        assert_eq!(record(&settings, &letter).await.unwrap(), nurse, "by the process that runs");
        stop.cancel();
        serving.await.unwrap().unwrap();
        process.close().await;
        assert_eq!(record(&settings, &letter).await.unwrap(), nurse, "by the log, which nobody holds");
    }
}
