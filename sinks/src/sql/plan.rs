//! What must be done to a database before its tables can be written: only ever additions.

use std::collections::BTreeMap;

use super::cell::Shape;
use super::config::Versions;
use super::table::{Column, MUSTER_HASH, MUSTER_KEY, MUSTER_VERSION, Table, Tables, quoted};

/// What would be run, and what can't be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Statements, in order.
    pub statements: Vec<String>,
    /// What a person must change first: it would lose data, or somebody else's table stands in the way.
    pub refused: Vec<Refusal>,
}

impl Plan {
    /// Nothing to do, nothing in the way.
    pub fn is_empty(&self) -> bool {
        self.statements.is_empty() && self.refused.is_empty()
    }
}

/// What stands in the way of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The table.
    pub table: String,
    /// The column, where it is one.
    pub column: Option<String>,
    /// Why, and what would help.
    pub reason: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.column {
            Some(column) => write!(f, "{}.{column}: {}", self.table, self.reason),
            None => write!(f, "{}: {}", self.table, self.reason),
        }
    }
}

/// What a database has.
#[derive(Debug, Clone, Default)]
pub(super) struct Catalog {
    /// How many of Muster's own migrations have been carried out.
    pub(super) migrations: usize,
    /// Whether we may make temporary tables.
    pub(super) temporary: bool,
    pub(super) tables: BTreeMap<String, ExistingTable>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct ExistingTable {
    /// Not a table: a view, a foreign table.
    pub(super) is_other: bool,
    pub(super) columns: BTreeMap<String, ExistingColumn>,
    /// Unique indexes and constraints over whole tables, by name.
    pub(super) uniques: BTreeMap<String, Vec<String>>,
    pub(super) indexes: Vec<String>,
    /// The first columns of indexes over whole tables.
    pub(super) indexed: Vec<String>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct ExistingColumn {
    /// The type without length and precision, as a cast takes it.
    pub(super) cast: String,
    /// The type as declared.
    pub(super) full: String,
    pub(super) nullable: bool,
    pub(super) has_default: bool,
    /// What the database puts where nothing is said, as an expression, where it can be had.
    pub(super) default: Option<String>,
    /// Length in characters, where there is a limit.
    pub(super) length: Option<usize>,
    /// PostgreSQL's kind of type: `S` is text, `E` an enumeration.
    pub(super) category: char,
}

/// How a database says it.
pub(super) trait Dialect {
    /// The table's name, with its schema.
    fn table(&self, name: &str) -> String;
    /// The statements of each migration of Muster's own tables.
    fn migrations(&self) -> Vec<Vec<String>>;
    /// The type of a new column.
    fn column_type(&self, shape: Shape) -> String;
    /// The type of an identity that the database fills, with all that makes it fill it.
    fn generated_type(&self) -> &'static str;
    /// The types of Muster's own columns.
    fn own_types(&self) -> [&'static str; 3];
    /// The type of a column that says when a row was deleted.
    fn moment_type(&self) -> &'static str;
    /// Why values of this shape can't go into a column of this type without loss. Not asked for references.
    fn misfit(&self, shape: Shape, column: &ExistingColumn) -> Option<String>;
    /// `create [unique] index` for a table. `columns`: as SQL has them, expressions among them.
    fn create_index(&self, unique: bool, name: &str, table: &str, columns: &[String], only: Option<&str>) -> String;
    /// A column, quoted, without regard to case.
    fn folded(&self, column: &str) -> String;
}

/// Compares what is there with what the mapping needs.
pub(super) fn plan(tables: &Tables, catalog: &Catalog, dialect: &dyn Dialect) -> Plan {
    let mut plan = Plan::default();
    plan.statements.extend(dialect.migrations().into_iter().skip(catalog.migrations).flatten());
    for table in &tables.0 {
        match catalog.tables.get(&table.name) {
            None => create(&mut plan, tables, table, catalog, dialect),
            Some(existing) if existing.is_other => {
                refuse(&mut plan, table, None, "is not a table; map the entity to a table".to_owned());
            }
            Some(existing) => alter(&mut plan, tables, table, existing, catalog, dialect),
        }
        indexes(&mut plan, table, catalog.tables.get(&table.name), dialect);
        theirs(&mut plan, tables, table, catalog, dialect);
    }
    plan
}

/// All columns of a table with their types: mapped, initial, soft delete, Muster's.
fn wanted(tables: &Tables, table: &Table, catalog: &Catalog, dialect: &dyn Dialect) -> Vec<(String, String)> {
    let mut wanted = Vec::new();
    if let Some(key) = table.generated() {
        wanted.push((key.to_owned(), dialect.generated_type().to_owned()));
    }
    for column in &table.columns {
        let own = dialect.column_type(column.shape);
        let of_parent = column.refers.as_ref().and_then(|entity| identity_type(tables, entity, catalog, dialect));
        wanted.push((column.name.clone(), of_parent.unwrap_or(own)));
    }
    for (column, value) in &table.initial {
        wanted.push((column.clone(), literal_type(value, dialect)));
    }
    if let Some((column, value)) = table.soft() {
        let typ = value.map_or_else(|| dialect.moment_type().to_owned(), |value| literal_type(&value, dialect));
        wanted.push((column.to_owned(), typ));
    }
    if table.versions == Versions::Column {
        for (column, typ) in [MUSTER_KEY, MUSTER_VERSION, MUSTER_HASH].into_iter().zip(dialect.own_types()) {
            wanted.push((column.to_owned(), typ.to_owned()));
        }
    }
    wanted
}

fn literal_type(value: &super::cell::Cell, dialect: &dyn Dialect) -> String {
    use super::cell::Cell;
    dialect.column_type(match value {
        Cell::Bool(_) => Shape::Bool,
        Cell::Int(_) => Shape::Long,
        Cell::Real(_) => Shape::Double,
        // A setting can be nothing else.
        Cell::Null | Cell::Text(_) | Cell::Blob(_) | Cell::Date(_) | Cell::Timestamp(_) | Cell::LocalTimestamp(_) => {
            Shape::Text
        }
    })
}

/// The type of the parent's identity: as it is, else as it will be.
fn identity_type(tables: &Tables, entity: &str, catalog: &Catalog, dialect: &dyn Dialect) -> Option<String> {
    let parent = tables.of_entity(entity)?;
    let key = parent.key.as_ref()?;
    let existing = catalog.tables.get(&parent.name).and_then(|table| table.columns.get(key));
    let filled = parent.columns.iter().find(|column| column.name == *key);
    // Numbers, where the database counts them.
    let shape = filled.map_or(Shape::Long, |column| column.shape);
    Some(existing.map_or_else(|| dialect.column_type(shape), |column| column.full.clone()))
}

fn create(plan: &mut Plan, tables: &Tables, table: &Table, catalog: &Catalog, dialect: &dyn Dialect) {
    let mut lines = Vec::new();
    for (column, typ) in wanted(tables, table, catalog, dialect) {
        let is_identity = table.key.as_ref() == Some(&column);
        // One that the database fills says so itself.
        let is_filled = is_identity && table.generated().is_none();
        let primary = if is_filled { " primary key not null" } else { "" };
        let references = references(tables, table, &column, dialect);
        lines.push(format!("    {} {typ}{primary}{references}", quoted(&column)));
    }
    plan.statements.push(format!("create table {} (\n{}\n)", dialect.table(&table.name), lines.join(",\n")));
}

fn references(tables: &Tables, table: &Table, column: &str, dialect: &dyn Dialect) -> String {
    let refers = table.parents().find(|(name, _)| *name == column).and_then(|(_, entity)| tables.of_entity(entity));
    let Some((parent, key)) = refers.and_then(|parent| Some((parent, parent.key.as_ref()?))) else {
        return String::new();
    };
    format!(" references {} ({})", dialect.table(&parent.name), quoted(key))
}

fn alter(
    plan: &mut Plan,
    tables: &Tables,
    table: &Table,
    existing: &ExistingTable,
    catalog: &Catalog,
    dialect: &dyn Dialect,
) {
    let wanted = wanted(tables, table, catalog, dialect);
    for (column, typ) in &wanted {
        if existing.columns.contains_key(column) {
            continue;
        }
        if table.key.as_ref() == Some(column) {
            let reason = "is the table's identity and isn't there; add it, or name another column as `key`";
            refuse(plan, table, Some(column), reason.to_owned());
            continue;
        }
        let add = format!("alter table {} add column {} {typ}", dialect.table(&table.name), quoted(column));
        plan.statements.push(add);
    }
    if let Some(key) = table.generated()
        && existing.columns.get(key).is_some_and(|there| !there.has_default)
    {
        let reason = "no field fills it and it has no default; map a field, or let the database fill it";
        refuse(plan, table, Some(key), reason.to_owned());
    }
    for column in table.columns.iter().filter(|column| column.refers.is_none()) {
        let misfit = existing.columns.get(&column.name).and_then(|there| dialect.misfit(column.shape, there));
        if let Some(misfit) = misfit {
            refuse(plan, table, Some(&column.name), misfit);
        }
    }
    for (name, column) in &existing.columns {
        let is_filled = wanted.iter().any(|(wanted, _)| wanted == name);
        if !is_filled && !column.nullable && !column.has_default {
            let reason = "must not be null and has no default; map it or give it an `initial` value";
            refuse(plan, table, Some(name), reason.to_owned());
        }
    }
}

fn indexes(plan: &mut Plan, table: &Table, existing: Option<&ExistingTable>, dialect: &dyn Dialect) {
    let has_unique = |columns: &[&str]| {
        let same = |there: &Vec<String>| {
            there.len() == columns.len() && there.iter().all(|column| columns.contains(&column.as_str()))
        };
        existing.is_some_and(|existing| existing.uniques.values().any(same))
    };
    if existing.is_some_and(|existing| existing.is_other) {
        return;
    }
    let beside = table.versions == Versions::Side;
    if !beside && !has_unique(&[MUSTER_KEY]) {
        let name = index_name("key", &table.name, &[]);
        plan.statements.push(dialect.create_index(true, &name, &table.name, &[quoted(MUSTER_KEY)], None));
    }
    for columns in &table.unique {
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        if !has_unique(&columns) {
            let name = index_name("unique", &table.name, &columns);
            let columns: Vec<String> = columns.into_iter().map(quoted).collect();
            plan.statements.push(dialect.create_index(true, &name, &table.name, &columns, None));
        }
    }
    // Rows that aren't ours are looked up by these columns, and there are few or none: the index is as small.
    let columns: Vec<&str> = table.matching.iter().map(|place| &*table.columns[*place].name).collect();
    let name = index_name("match", &table.name, &columns);
    let is_there = existing.is_some_and(|existing| existing.indexes.contains(&name));
    // Where nothing in the table tells ours from others, any index that narrows the search down will do.
    let plain = |name: &str| table.columns.iter().any(|column| column.name == name && !column.folded);
    let narrows = |existing: &ExistingTable| {
        existing.indexed.iter().any(|first| columns.contains(&first.as_str()) && plain(first))
    };
    let is_there = is_there || (beside && existing.is_some_and(narrows));
    // The primary key of a table of our own making.
    let is_there = is_there || (beside && existing.is_none() && columns == table.key.as_deref().as_slice());
    if !columns.is_empty() && !is_there {
        let foreign = format!("{} is null", quoted(MUSTER_KEY));
        let only = (!beside).then_some(foreign.as_str());
        let terms: Vec<String> = table.matching.iter().map(|place| &table.columns[*place]).map(term(dialect)).collect();
        plan.statements.push(dialect.create_index(false, &name, &table.name, &terms, only));
    }
}

/// What says that a row is somebody else's must be there, or be made.
fn theirs(plan: &mut Plan, tables: &Tables, table: &Table, catalog: &Catalog, dialect: &dyn Dialect) {
    let wanted = wanted(tables, table, catalog, dialect);
    let existing = catalog.tables.get(&table.name);
    let is_there = |name: &String| {
        existing.is_some_and(|existing| existing.columns.contains_key(name))
            || wanted.iter().any(|(wanted, _)| wanted == name)
    };
    for (column, _) in table.theirs.iter().filter(|(column, _)| !is_there(column)) {
        refuse(plan, table, Some(column), "`theirs` names it, and it isn't there; correct the name".to_owned());
    }
}

/// A column as it is compared with.
fn term(dialect: &dyn Dialect) -> impl Fn(&Column) -> String {
    move |column| match column.folded {
        true => dialect.folded(&quoted(&column.name)),
        false => quoted(&column.name),
    }
}

/// PostgreSQL cuts names at 63 bytes, and two cut names can be the same.
fn index_name(what: &str, table: &str, columns: &[&str]) -> String {
    let name =
        format!("muster_{what}_{table}{}", columns.iter().map(|column| format!("_{column}")).collect::<String>());
    if name.len() <= 63 {
        return name;
    }
    let mut end = 54;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    // FNV-1a: stable for ever, and nobody attacks their own table names.
    let fnv = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    format!("{}_{:08x}", &name[..end], name.bytes().fold(0x811c_9dc5, fnv))
}

fn refuse(plan: &mut Plan, table: &Table, column: Option<&str>, reason: String) {
    plan.refused.push(Refusal { table: table.name.clone(), column: column.map(str::to_owned), reason });
}
