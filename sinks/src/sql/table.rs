//! The mapping, worked out against the topics' schemas: what the statements are built from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pipeline::config;
use schemas::{Catalogue, Key, Kind, Schema};

use super::Partitions;
use super::cell::{Cell, Shape};
use super::config::{OnDelete, SqlConfig, TableMapping, Versions};

/// A topic, as far as the sink needs to know it.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    pub(super) topic: Arc<str>,
    pub(super) schema: Arc<Schema>,
    /// The fields the key is made of.
    pub(super) key_fields: Vec<String>,
    /// How many leading parts of the key choose the partition.
    pub(super) partition_parts: usize,
    pub(super) partitions: u32,
}

impl Subject {
    /// All topics of entities.
    pub(super) fn all(catalogue: &Catalogue, partitions: &Partitions<'_>) -> Vec<Self> {
        let subjects = catalogue.topics().iter().filter_map(|topic| {
            let entity = topic.entity()?;
            Some(Self {
                topic: topic.name.as_str().into(),
                schema: entity.schema.clone(),
                key_fields: entity.key_fields.clone(),
                partition_parts: entity.group_fields,
                partitions: partitions(topic),
            })
        });
        subjects.collect()
    }
}

/// What is wrong with a mapping, and under which key of which entity's section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Misfit {
    pub(super) entity: String,
    pub(super) key: &'static str,
    pub(super) message: String,
    /// The valid name that comes nearest to the one found.
    pub(super) nearest: Option<String>,
}

impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "tables.{}.{}: {}", self.entity, self.key, self.message)?;
        match &self.nearest {
            Some(nearest) => write!(f, "; did you mean `{nearest}`?"),
            None => Ok(()),
        }
    }
}

/// The misfits of one entity's section.
struct Found<'m> {
    entity: &'m str,
    all: &'m mut Vec<Misfit>,
}

impl Found<'_> {
    fn report(&mut self, key: &'static str, message: String) {
        self.all.push(Misfit { entity: self.entity.to_owned(), key, message, nearest: None });
    }

    /// With the valid name that `found` was probably meant to be.
    fn unknown<'n>(
        &mut self,
        key: &'static str,
        message: String,
        found: &str,
        valid: impl IntoIterator<Item = &'n str>,
    ) {
        let nearest = config::nearest(found, valid);
        self.all.push(Misfit { entity: self.entity.to_owned(), key, message, nearest });
    }
}

/// One table and the entity that fills it.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) entity: String,
    pub(super) subject: Subject,
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    /// The column of the table's own identity.
    pub(super) key: Option<String>,
    /// Places in `columns` by which rows are adopted.
    pub(super) matching: Vec<usize>,
    /// Columns and patterns of rows that are never adopted.
    pub(super) theirs: Vec<(String, String)>,
    pub(super) initial: Vec<(String, Cell)>,
    pub(super) on_delete: OnDelete,
    /// Where it stands which rows are ours.
    pub(super) versions: Versions,
    pub(super) unique: Vec<Vec<String>>,
}

/// One column that an entity fills.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) filling: Filling,
    pub(super) shape: Shape,
    /// Kept up to date, not only set on insert.
    pub(super) owned: bool,
    /// Rows are recognised by it without regard to case.
    pub(super) folded: bool,
    /// What somebody else writes there, and a null doesn't replace.
    pub(super) keeps: Option<String>,
    /// The entity of the parent whose key the field holds.
    pub(super) refers: Option<String>,
}

/// What fills a column: places in the schema.
#[derive(Debug)]
pub(super) enum Filling {
    Field(usize),
    /// An object of several fields, each under a name. Other names in it are somebody else's.
    Object(Vec<(String, usize)>),
}

/// All tables, parents before children.
#[derive(Debug)]
pub(super) struct Tables(pub(super) Vec<Table>);

impl Tables {
    /// Fails with everything that is wrong with the mapping.
    pub(super) fn new(config: &SqlConfig, subjects: &[Subject]) -> Result<Self, Vec<Misfit>> {
        let mut misfits = Vec::new();
        let mut tables = Vec::new();
        for mapping in &config.tables {
            let mut found = Found { entity: &mapping.entity, all: &mut misfits };
            let topic = &mapping.topic;
            match subjects.iter().find(|subject| *subject.topic == *topic) {
                Some(subject) => tables.push(Table::new(mapping, subject, config, &mut found)),
                None => found.all.push(Misfit {
                    entity: mapping.entity.clone(),
                    key: "topic",
                    message: format!("no entity has a topic {topic}"),
                    nearest: nearest_topic(topic, subjects),
                }),
            }
        }
        let mut seen = BTreeSet::new();
        for mapping in &config.tables {
            let mut found = Found { entity: &mapping.entity, all: &mut misfits };
            for (key, name) in [("entity", &mapping.entity), ("topic", &mapping.topic), ("table", &mapping.table)] {
                if !name.is_empty() && !seen.insert((key, name)) {
                    found.report(key, format!("{key} {name} is mapped twice"));
                }
            }
        }
        for child in &tables {
            let mut found = Found { entity: &child.entity, all: &mut misfits };
            for (column, parent) in child.parents() {
                match tables.iter().find(|table| table.entity == parent) {
                    // Its topic is the mistake.
                    None if config.tables.iter().any(|mapping| mapping.entity == parent) => {}
                    None => found.unknown(
                        "refers",
                        format!("{}.{column} refers to {parent}, which isn't mapped", child.name),
                        parent,
                        tables.iter().map(|table| table.entity.as_str()),
                    ),
                    Some(table) if table.key.is_none() => found.report(
                        "refers",
                        format!("{}.{column} refers to {parent}, whose table {} has no `key`", child.name, table.name),
                    ),
                    Some(_) => {}
                }
            }
        }
        let tables = parents_first(tables, &mut misfits);
        if misfits.is_empty() { Ok(Self(tables)) } else { Err(misfits) }
    }

    pub(super) fn of_topic(&self, topic: &str) -> Option<usize> {
        self.0.iter().position(|table| *table.subject.topic == *topic)
    }

    pub(super) fn of_entity(&self, entity: &str) -> Option<&Table> {
        self.0.iter().find(|table| table.entity == entity)
    }
}

/// The topic that was meant. What all topics of a system begin with says nothing about that.
fn nearest_topic(found: &str, subjects: &[Subject]) -> Option<String> {
    let topics = || subjects.iter().filter_map(|subject| subject.topic.split_once('.'));
    let (system, entity) = found.split_once('.')?;
    let system = config::nearest(system, topics().map(|(system, _)| system)).unwrap_or_else(|| system.to_owned());
    let entity = config::nearest(entity, topics().filter(|(of, _)| *of == system).map(|(_, entity)| entity))?;
    Some(format!("{system}.{entity}"))
}

/// A child stands behind all its parents. A table may refer to itself, but a longer circle has no order.
fn parents_first(mut tables: Vec<Table>, misfits: &mut Vec<Misfit>) -> Vec<Table> {
    let mut sorted: Vec<Table> = Vec::with_capacity(tables.len());
    while !tables.is_empty() {
        let waits = |table: &Table| {
            table.parents().any(|(_, parent)| parent != table.entity && tables.iter().any(|t| t.entity == parent))
        };
        let Some(next) = tables.iter().position(|table| !waits(table)) else {
            let names: Vec<_> = tables.iter().map(|table| table.entity.as_str()).collect();
            let message = format!("{} refer to each other in a circle", names.join(", "));
            Found { entity: names[0], all: misfits }.report("refers", message);
            break;
        };
        sorted.push(tables.remove(next));
    }
    sorted
}

impl Table {
    fn new(mapping: &TableMapping, subject: &Subject, target: &SqlConfig, found: &mut Found<'_>) -> Self {
        let table = &mapping.table;
        let schema = &subject.schema;
        let named: BTreeMap<String, String> = match &mapping.columns {
            Some(columns) => columns.clone(),
            None => {
                let in_objects = |name: &String| mapping.json.values().any(|object| object.values().any(|f| f == name));
                let names = schema.fields().iter().map(|field| &field.name).filter(|name| !in_objects(name));
                names.map(|name| (name.clone(), name.clone())).collect()
            }
        };
        let mut columns = Vec::new();
        for (place, field) in schema.fields().iter().enumerate() {
            let Some(column) = named.get(&field.name) else { continue };
            let refers = mapping.refers.get(column).cloned();
            if refers.is_some() && !can_be_a_key(&field.kind) {
                let message =
                    format!("{table}.{column} refers to another table, but {} is a {}", field.name, field.kind);
                found.report("refers", message);
            }
            let is_identity = mapping.key.as_ref() == Some(column);
            let owned = match &mapping.owned {
                Some(owned) => owned.contains(column),
                None => !is_identity,
            };
            if is_identity && owned {
                found.report("owned", format!("{table}.{column} is the table's identity: it can't be among `owned`"));
            }
            let keeps = mapping.keeps.get(column).cloned();
            if keeps.is_some() && !owned {
                found.report("keeps", format!("{table}.{column} isn't among `owned`: it is never replaced"));
            }
            columns.push(Column {
                name: column.clone(),
                filling: Filling::Field(place),
                shape: Shape::of(&field.kind),
                owned,
                folded: mapping.fold.contains(column),
                keeps,
                refers,
            });
        }
        columns.extend(objects(mapping, schema, found));
        for field in named.keys().filter(|field| schema.field(field).is_none()) {
            let fields = schema.fields().iter().map(|field| field.name.as_str());
            found.unknown("columns", format!("{} has no field {field}", schema.name()), field, fields);
        }
        let mut seen = BTreeSet::new();
        let mapped = named.values().map(|column| ("columns", column));
        let mapped = mapped.chain(mapping.json.keys().map(|column| ("json", column)));
        for (key, column) in mapped.chain(mapping.initial.keys().map(|column| ("initial", column))) {
            if !seen.insert(column) {
                found.report(key, format!("{table}.{column} is filled twice"));
            }
            if [MUSTER_KEY, MUSTER_VERSION, MUSTER_HASH].contains(&column.as_str()) {
                found.report(key, format!("{table}.{column} is Muster's own column"));
            }
        }
        let is_mapped = |column: &String| columns.iter().any(|c| c.name == *column);
        let by_default = || {
            let fields = subject.key_fields.iter().map(|field| named.get(field).cloned());
            // An entity whose key isn't in its table has nothing to be recognised by.
            fields.collect::<Option<Vec<_>>>().unwrap_or_default()
        };
        let matching = mapping.matching.clone().unwrap_or_else(by_default);
        for (key, names) in [
            ("match", &matching),
            ("owned", mapping.owned.as_ref().unwrap_or(&Vec::new())),
            ("keeps", &mapping.keeps.keys().cloned().collect()),
            ("refers", &mapping.refers.keys().cloned().collect()),
            ("unique", &mapping.unique.concat()),
        ] {
            for name in names.iter().filter(|name| !is_mapped(name)) {
                let columns = columns.iter().map(|column| column.name.as_str());
                found.unknown(key, format!("names {table}.{name}, which no field fills"), name, columns);
            }
        }
        for name in mapping.fold.iter().filter(|name| !matching.contains(name)) {
            found.report("fold", format!("names {table}.{name}, by which no row is recognised: it isn't in `match`"));
        }
        for column in columns.iter().filter(|column| column.folded && column.shape != Shape::Text) {
            found.report("fold", format!("{table}.{} is no text: it has no case", column.name));
        }
        if matching.is_empty() && !mapping.theirs.is_empty() {
            found.report("theirs", format!("{table} has no `match`: no row is adopted anyway"));
        }
        let versions = mapping.versions.unwrap_or(target.versions);
        if versions == Versions::Side && mapping.key.is_none() {
            found.report(
                "versions",
                format!("{table} has no `key`, by which rows are known that have no column of ours"),
            );
        }
        let on_delete = mapping.on_delete.clone().unwrap_or_else(|| target.on_delete.clone());
        if let OnDelete::Soft { column, .. } = &on_delete
            && is_mapped(column)
        {
            found.report("deleted_column", format!("{table}.{column} says that a row is gone: no field can fill it"));
        }
        let matching = matching.iter().filter_map(|name| columns.iter().position(|c| c.name == *name)).collect();
        Self {
            entity: mapping.entity.clone(),
            subject: subject.clone(),
            name: table.clone(),
            columns,
            key: mapping.key.clone(),
            matching,
            theirs: mapping.theirs.iter().map(|(column, pattern)| (column.clone(), pattern.clone())).collect(),
            initial: mapping.initial.iter().map(|(column, value)| (column.clone(), Cell::from(value))).collect(),
            on_delete,
            versions,
            unique: mapping.unique.clone(),
        }
    }

    /// The column of the table's own identity, where the database fills it and no field does.
    pub(super) fn generated(&self) -> Option<&str> {
        self.key.as_deref().filter(|key| self.columns.iter().all(|column| column.name != *key))
    }

    /// Columns that refer, with their parents' entities.
    pub(super) fn parents(&self) -> impl Iterator<Item = (&str, &str)> {
        self.columns.iter().filter_map(|column| Some((column.name.as_str(), column.refers.as_deref()?)))
    }

    pub(super) fn has_parents(&self) -> bool {
        self.parents().next().is_some()
    }

    pub(super) fn topic(&self) -> &str {
        &self.subject.topic
    }

    /// The partition of the topic that a key lies in.
    pub(super) fn partition_of(&self, key: &Key) -> u32 {
        schemas::partition_of(key.prefix(self.subject.partition_parts).as_bytes(), self.subject.partitions)
    }

    /// Places in `columns` by which a row that is there is recognised as the one of these cells: the matching ones, or
    /// the table's identity where those are all null. Empty: there is nothing to go by.
    pub(super) fn recognised_by(&self, cells: &[Cell]) -> Vec<usize> {
        if self.matching.iter().any(|place| cells[*place] != Cell::Null) {
            return self.matching.clone();
        }
        // A mapping that matches by nothing wants no row to be taken over.
        let identity = self.identity().filter(|place| !self.matching.is_empty() && cells[*place] != Cell::Null);
        identity.into_iter().collect()
    }

    /// The place of the identity, where a field fills it.
    pub(super) fn identity(&self) -> Option<usize> {
        let key = self.key.as_ref()?;
        self.columns.iter().position(|column| column.name == *key)
    }

    /// What of a value counts when rows are recognised by it.
    pub(super) fn compared(&self, place: usize, cell: &Cell) -> Option<String> {
        let text = cell.as_text()?;
        Some(if self.columns[place].folded { text.to_lowercase() } else { text })
    }

    /// Owned columns whose values only one row may have.
    pub(super) fn contested(&self) -> impl Iterator<Item = &str> {
        let columns = self.columns.iter().filter(|column| column.owned).map(|column| column.name.as_str());
        columns.filter(|name| self.unique.iter().flatten().any(|unique| unique == name))
    }

    /// Whether the mapping says that only one row may have these columns' values.
    pub(super) fn is_natural_key(&self, columns: &[String]) -> bool {
        let same =
            |others: &[String]| others.len() == columns.len() && others.iter().all(|other| columns.contains(other));
        let matching: Vec<String> = self.matching.iter().map(|place| self.columns[*place].name.clone()).collect();
        self.unique.iter().any(|unique| same(unique)) || same(&matching) || same(self.key.as_slice())
    }

    /// The column that says that a row is gone, and with what.
    pub(super) fn soft(&self) -> Option<(&str, Option<Cell>)> {
        match &self.on_delete {
            OnDelete::Hard => None,
            OnDelete::Soft { column, value } => Some((column, value.as_ref().map(Cell::from))),
        }
    }
}

/// Columns that hold objects of several fields.
fn objects(mapping: &TableMapping, schema: &Schema, found: &mut Found<'_>) -> Vec<Column> {
    let table = &mapping.table;
    let mut columns = Vec::new();
    for (column, object) in &mapping.json {
        let mut parts = Vec::new();
        for (name, field) in object {
            match schema.fields().iter().position(|candidate| candidate.name == *field) {
                Some(place) => parts.push((name.clone(), place)),
                None => {
                    let fields = schema.fields().iter().map(|field| field.name.as_str());
                    found.unknown("json", format!("{} has no field {field}", schema.name()), field, fields);
                }
            }
            // SQLite's paths have no way to say it.
            if name.contains('"') {
                found.report("json", format!("{table}.{column}: a name in it can't have a quotation mark"));
            }
        }
        let named = [
            ("match", mapping.matching.as_ref().is_some_and(|matching| matching.contains(column))),
            ("keeps", mapping.keeps.contains_key(column)),
            ("refers", mapping.refers.contains_key(column)),
            ("key", mapping.key.as_ref() == Some(column)),
            ("unique", mapping.unique.iter().flatten().any(|unique| unique == column)),
        ];
        for (key, _) in named.into_iter().filter(|(_, is_named)| *is_named) {
            found.report(key, format!("{table}.{column} is an object of several fields: it can't be named here"));
        }
        columns.push(Column {
            name: column.clone(),
            filling: Filling::Object(parts),
            shape: Shape::Json,
            owned: mapping.owned.as_ref().is_none_or(|owned| owned.contains(column)),
            folded: false,
            keeps: None,
            refers: None,
        });
    }
    columns
}

/// Ours in every table that has room for them: the entity's key, the version and the hash that were written.
pub(super) const MUSTER_KEY: &str = "muster_key";
pub(super) const MUSTER_VERSION: &str = "muster_version";
pub(super) const MUSTER_HASH: &str = "muster_hash";
/// Stands in `muster_hash` of a row that was deleted softly.
pub(super) const GONE: &str = "deleted";

/// A name as SQL takes it, whatever stands in it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn can_be_a_key(kind: &Kind) -> bool {
    matches!(kind, Kind::String | Kind::Uuid | Kind::Enum(_) | Kind::Int | Kind::Long)
}
