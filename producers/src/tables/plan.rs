//! From a table's columns to its schema, and to what is asked of the database. No I/O.
//!
//! Every column but the key's becomes a nullable field with the default null: adding and dropping a column is then
//! compatible, and a new field that is null changes no hash. A field that was announced once stays, as null, when its
//! column has gone.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono_tz::Tz;
use pipeline::source::SourceError;
use schemas::{Schema, compatibility};
use serde_json::{Value as Json, json};

use super::config::{Derived, TableConfig, field_name};
use super::types::ColumnKind;

/// A column as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// It can't be null.
    pub required: bool,
    /// Its type, as the database shows it.
    pub shown: String,
    /// Its type, as a cast takes it.
    pub cast: String,
    /// The schema of its type's own operators, where statements don't find them: PostgreSQL would take others.
    pub hidden_in: Option<String>,
    /// What it becomes.
    pub kind: ColumnKind,
}

/// What a look at a table has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// In the table's order.
    pub columns: Vec<Column>,
    /// Changes with the columns.
    pub print: String,
    /// Whether two rows can have the same key; `None`: nobody can tell (a view).
    pub unique: Option<bool>,
}

/// Where a field's value comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// A selected column.
    Column(usize),
    /// A value inside a selected column.
    Derived(usize, Derived),
    /// Nowhere any more.
    Gone,
}

/// What is true of a row that is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Only {
    /// The column's text fits the pattern.
    Like(String, String),
    /// The column is null.
    Null(String),
}

/// What the change column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// A time; with zone or, where `Some`, on the clocks of this zone.
    Time(Option<Tz>),
    /// A number that rises.
    Number,
}

/// How a table is read.
#[derive(Debug)]
pub struct Plan {
    /// What its rows are written with.
    pub schema: Arc<Schema>,
    /// One for each field of the schema.
    pub origins: Vec<Origin>,
    /// What is selected.
    pub select: Vec<Column>,
    /// The places of the key's columns among them, in the key's order.
    pub key: Vec<usize>,
    /// Those of them that hold text in each row, or the row has no key: their column would take a number, too.
    pub text_only: Vec<usize>,
    /// The place of the change column, and what it holds.
    pub change: Option<(usize, ChangeKind)>,
    /// What is true of the rows that are followed.
    pub only: Vec<Only>,
    /// What timestamps without zone mean.
    pub zone: Option<Tz>,
    /// What the columns were when this was made.
    pub print: String,
}

impl Column {
    /// SQLite's: it keeps a number as a number and text as text, as each row has it. The key of 1 and '1' would be one.
    pub fn keeps_any_type(&self) -> bool {
        let declared = self.cast.to_uppercase();
        let decides = ["INT", "CHAR", "CLOB", "TEXT"].iter().any(|part| declared.contains(part));
        declared.is_empty() || (declared.contains("BLOB") && !decides)
    }
}

impl Plan {
    /// The zone of a selected column's values: the key's stay as they are.
    pub fn zone_of(&self, at: usize) -> Option<Tz> {
        if self.key.contains(&at) { None } else { self.zone }
    }

    /// The same, of which nothing is read but the key and the change column.
    pub fn keys_alone(&self) -> Self {
        let mut read = self.key.clone();
        read.extend(self.change.map(|(at, _)| at).filter(|at| !self.key.contains(at)));
        let place = |at: usize| read.iter().position(|other| *other == at);
        let origin = |origin: &Origin| match origin {
            Origin::Column(at) => place(*at).map_or(Origin::Gone, Origin::Column),
            Origin::Derived(..) | Origin::Gone => Origin::Gone,
        };
        Self {
            schema: Arc::clone(&self.schema),
            origins: self.origins.iter().map(origin).collect(),
            select: read.iter().map(|at| self.select[*at].clone()).collect(),
            key: self.key.iter().filter_map(|at| place(*at)).collect(),
            text_only: self.text_only.iter().filter_map(|at| place(*at)).collect(),
            change: self.change.and_then(|(at, kind)| Some((place(at)?, kind))),
            only: self.only.clone(),
            zone: self.zone,
            print: self.print.clone(),
        }
    }
}

/// Makes the plan. `announced`: what the topic's values were written with so far, oldest first.
pub fn plan(
    config: &TableConfig,
    zone: Option<Tz>,
    look: &Look,
    announced: &[Arc<Schema>],
) -> Result<Plan, SourceError> {
    let refused = |reason: String, hint: &str| refused(config, reason, hint);
    if look.unique == Some(false) {
        let reason = format!("two rows of {} may have the same {}", config.table, config.key.join(", "));
        return Err(refused(reason, "make a unique index over these columns, or name others as `key`"));
    }
    let column = |name: &str| look.columns.iter().find(|column| column.name == name);
    let key = key_columns(config, look)?;
    let mut names: BTreeMap<String, &Column> = BTreeMap::new();
    let mut fields: Vec<(String, Json, Origin)> = Vec::new();
    let mut select: Vec<Column> = Vec::new();
    for one in &look.columns {
        let is_key = key.iter().any(|part| part.name == one.name);
        let wanted = config.columns.as_ref().is_none_or(|columns| columns.contains(&one.name));
        let replaced = config.derived.iter().any(|derived| derived.name == field_name(&one.name));
        if !is_key && (!wanted || replaced || config.leave_out.contains(&one.name)) {
            continue;
        }
        let name = field_name(&one.name);
        if let Some(other) = names.insert(name.clone(), one) {
            let reason = format!("columns {:?} and {:?} would both be the field {name}", other.name, one.name);
            return Err(refused(reason, "name one of them in `leave_out`"));
        }
        let avro = one.kind.avro(if is_key { None } else { zone });
        let field = if is_key { json!({ "name": name, "type": avro }) } else { nullable(&name, &avro) };
        fields.push((name, field, Origin::Column(select.len())));
        select.push(one.clone());
    }
    for named in config.columns.iter().flatten().chain(&config.leave_out) {
        if column(named).is_none() && !was_announced(announced, named) {
            let reason = format!("{} has no column {named:?}", config.table);
            return Err(refused(reason, "correct `columns` or `leave_out`"));
        }
    }
    for derived in &config.derived {
        let Some(from) = column(&derived.from) else {
            let reason = format!("{} has no column {:?} to find {} in", config.table, derived.from, derived.name);
            return Err(refused(reason, "correct `derived`"));
        };
        if !matches!(from.kind, ColumnKind::Json | ColumnKind::String) {
            let reason = format!("{:?}, where {} is to be found, is {}", from.name, derived.name, from.shown);
            return Err(refused(reason, "fields are found inside JSON"));
        }
        let at = selected(&mut select, from);
        let field = nullable(&derived.name, &ColumnKind::Json.avro(None));
        fields.push((derived.name.clone(), field, Origin::Derived(at, derived.clone())));
    }
    let change = match &config.change {
        None => None,
        Some(name) => {
            let Some(one) = column(name) else {
                return Err(refused(format!("{} has no column {name:?}", config.table), "correct `change`"));
            };
            let kind = change_kind(config, one, zone)?;
            Some((selected(&mut select, one), kind))
        }
    };
    let (schema, origins) = schema(config, fields, announced)?;
    let only = only(config, look)?;
    let place = |part: &&Column| select.iter().position(|one| one.name == part.name);
    let key: Vec<usize> = key.iter().filter_map(place).collect();
    let is_text = |at: &usize| select[*at].keeps_any_type() && select[*at].kind == ColumnKind::String;
    let text_only = key.iter().copied().filter(is_text).collect();
    Ok(Plan { schema, origins, select, key, text_only, change, only, zone, print: look.print.clone() })
}

/// A column that isn't there yet is null in every row.
fn only(config: &TableConfig, look: &Look) -> Result<Vec<Only>, SourceError> {
    let is_there = |name: &str| look.columns.iter().any(|column| column.name == name);
    if let Some(missing) = config.like.keys().find(|name| !is_there(name)) {
        return Err(refused(config, format!("{} has no column {missing:?}", config.table), "correct `like`"));
    }
    let like = config.like.iter().map(|(column, pattern)| Only::Like(column.clone(), pattern.clone()));
    let null = config.null.iter().filter(|name| is_there(name)).map(|column| Only::Null(column.clone()));
    Ok(like.chain(null).collect())
}

fn key_columns<'l>(config: &TableConfig, look: &'l Look) -> Result<Vec<&'l Column>, SourceError> {
    let mut key = Vec::with_capacity(config.key.len());
    for name in &config.key {
        let Some(one) = look.columns.iter().find(|column| column.name == *name) else {
            let reason = format!("{} has no column {name:?}, which is part of the key", config.table);
            return Err(refused(config, reason, "correct `key`"));
        };
        let told = config.types.contains_key(name);
        if one.keeps_any_type() && (!told || matches!(one.kind, ColumnKind::Decimal { .. })) {
            let reason =
                format!("{name:?} is part of the key and declares no type, so 1 and '1' would be the same key");
            let hint =
                format!("say what it holds, as in types = {{ {name} = \"long\" }}, or read a view that casts it");
            return Err(refused(config, reason, &hint));
        }
        if !one.kind.is_key() {
            let reason = format!("{name:?} is {}, which can't be part of a key", one.shown);
            return Err(refused(config, reason, "name other columns as `key`"));
        }
        // Sorted by its own order and compared by text's, a page would begin behind rows that weren't read.
        if let Some(schema) = &one.hidden_in {
            let reason = format!("{name:?} is {}, whose order is in schema {schema}, off the search_path", one.shown);
            let hint = format!("grant usage on it, and `alter role … set search_path = public, {schema}` for Muster");
            return Err(refused(config, reason, &hint));
        }
        // A view doesn't know.
        if !one.required && look.unique.is_some() {
            let reason = format!("{name:?} is part of the key and may be null");
            return Err(refused(config, reason, "make the column `not null`, or name others as `key`"));
        }
        key.push(one);
    }
    Ok(key)
}

fn change_kind(config: &TableConfig, one: &Column, zone: Option<Tz>) -> Result<ChangeKind, SourceError> {
    match (&one.kind, zone) {
        (ColumnKind::Moment, _) => Ok(ChangeKind::Time(None)),
        (ColumnKind::Local, Some(zone)) => Ok(ChangeKind::Time(Some(zone))),
        (ColumnKind::Long, _) => Ok(ChangeKind::Number),
        (ColumnKind::Local, None) => {
            let reason = format!("{:?} has no time zone, so nobody knows which moment it means", one.name);
            Err(refused(config, reason, "set `timestamp_zone`, as in \"UTC\""))
        }
        _ => {
            let reason = format!("{:?} is {}, by which nothing can be told to be newer", one.name, one.shown);
            Err(refused(config, reason, "name a timestamp or a whole number as `change`, or none"))
        }
    }
}

/// The place of a column among those that are selected; it is added where it isn't there.
fn selected(select: &mut Vec<Column>, column: &Column) -> usize {
    select.iter().position(|one| one.name == column.name).unwrap_or_else(|| {
        select.push(column.clone());
        select.len() - 1
    })
}

/// The announced fields in their order, those that have gone included, then the new ones.
fn schema(
    config: &TableConfig,
    mut fields: Vec<(String, Json, Origin)>,
    announced: &[Arc<Schema>],
) -> Result<(Arc<Schema>, Vec<Origin>), SourceError> {
    let mut ordered: Vec<(Json, Origin)> = Vec::with_capacity(fields.len());
    if let Some(current) = announced.last() {
        for (name, field) in fields_of(current) {
            match fields.iter().position(|(other, ..)| *other == name) {
                Some(at) => {
                    let (_, field, origin) = fields.remove(at);
                    ordered.push((field, origin));
                }
                None if config.topic.key_fields.contains(&name) || field.get("default") != Some(&Json::Null) => {
                    let reason = format!("{name} has gone from {}, and its field can't be null", config.table);
                    return Err(refused(config, reason, WAY_OUT));
                }
                None => ordered.push((field, Origin::Gone)),
            }
        }
    }
    ordered.extend(fields.into_iter().map(|(_, field, origin)| (field, origin)));
    let (fields, origins): (Vec<Json>, Vec<Origin>) = ordered.into_iter().unzip();
    let text = json!({
        "type": "record",
        "name": config.topic.schema_name(),
        "fields": fields,
    });
    let parsed = Schema::parse(&text.to_string());
    let schema = parsed.map_err(|error| refused(config, error.to_string(), "leave the column out (`leave_out`)"))?;
    let schema = Arc::new(schema);
    for earlier in announced {
        let mut problems = compatibility::compare(earlier, &schema);
        // What is said of a field first says it best.
        problems.dedup_by(|later, first| later.0 == first.0);
        if !problems.is_empty() {
            let named = problems.iter().map(|(field, what)| format!("{field} {what}")).collect::<Vec<_>>();
            let reason = format!("{} no longer fits topic {}: {}", config.table, config.topic.name, named.join("; "));
            return Err(refused(config, reason, WAY_OUT));
        }
    }
    Ok((schema, origins))
}

const WAY_OUT: &str =
    "change the column back, name it in `leave_out`, or set `topic` to a new one, as in prm.employee.v2";

fn fields_of(schema: &Schema) -> Vec<(String, Json)> {
    let text: Json = serde_json::from_str(schema.text()).unwrap_or_default();
    let fields = text.get("fields").and_then(Json::as_array).cloned().unwrap_or_default();
    fields.into_iter().map(|field| (field["name"].as_str().unwrap_or_default().to_owned(), field)).collect()
}

fn was_announced(announced: &[Arc<Schema>], column: &str) -> bool {
    announced.iter().any(|schema| schema.field(&field_name(column)).is_some())
}

fn nullable(name: &str, avro: &Json) -> Json {
    json!({ "name": name, "type": ["null", avro], "default": null })
}

fn refused(config: &TableConfig, reason: String, hint: &str) -> SourceError {
    SourceError::Refused { system: config.topic.name.clone(), reason, hint: hint.to_owned() }
}

#[cfg(test)]
mod tests;
