//! What must hold in any registry, filled or changed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::{NaiveDate, NaiveDateTime};
use serde_json::Value;
use simulators::prm::{Cell, Kind, Prm, Row, Table};
use uuid::Uuid;

/// All rows of all tables.
pub type Rows = BTreeMap<Table, Vec<Row>>;

/// The registry as it is filled.
pub fn filled(prm: &Prm) -> Rows {
    let rows = |table| (0..prm.rows(table)).map(|number| prm.row(table, number, 0)).collect();
    Table::ALL.into_iter().map(|table| (table, rows(table))).collect()
}

pub fn id(row: &Row, column: &str) -> Option<Uuid> {
    match row.get(column).unwrap() {
        Cell::Uuid(id) => Some(*id),
        Cell::Null => None,
        other => panic!("{column} holds {other:?}"),
    }
}

pub fn text<'a>(row: &'a Row, column: &str) -> &'a str {
    match row.get(column).unwrap() {
        Cell::Text(text) => text,
        Cell::Null => "",
        other => panic!("{column} holds {other:?}"),
    }
}

pub fn time(row: &Row, column: &str) -> NaiveDateTime {
    match row.get(column).unwrap() {
        Cell::Time(time) | Cell::Instant(time) => *time,
        other => panic!("{column} holds {other:?}"),
    }
}

fn date(row: &Row, column: &str) -> Option<NaiveDate> {
    match row.get(column).unwrap() {
        Cell::Date(date) => Some(*date),
        Cell::Null => None,
        other => panic!("{column} holds {other:?}"),
    }
}

fn json(row: &Row, column: &str) -> Value {
    match row.get(column).unwrap() {
        Cell::Json(json) => serde_json::from_str(json).unwrap(),
        Cell::Null => Value::Null,
        other => panic!("{column} holds {other:?}"),
    }
}

/// Fails where rows contradict each other.
pub fn assert_coherent(rows: &Rows) {
    for (table, rows) in rows {
        let mut keys = HashSet::new();
        for row in rows {
            assert_eq!(row.cells.len(), table.columns().len(), "{table}");
            for (cell, column) in row.cells.iter().zip(table.columns()) {
                assert!(cell.is(column.kind), "{table}.{} holds {cell:?}", column.name);
                assert!(!column.required || *cell != Cell::Null, "{table}.{} is null", column.name);
                if column.kind == Kind::Jsonb {
                    json(row, column.name);
                }
            }
            let key: Vec<Option<String>> = row.cells[..table.key().len()].iter().map(Cell::text).collect();
            assert!(keys.insert(key), "{table} has a key twice");
            assert!(
                time(row, "inserted_at") <= time(row, "updated_at"),
                "{table} was changed before it was made: {row:?}"
            );
        }
    }
    for (table, all) in rows {
        for reference in table.references() {
            let there: HashSet<Uuid> = rows[&reference.to].iter().filter_map(|row| id(row, "id")).collect();
            for row in all {
                let refers = id(row, reference.column);
                assert!(refers.is_none_or(|id| there.contains(&id)), "{table}.{} refers to nothing", reference.column);
            }
        }
    }
    people(rows);
    places(rows);
}

fn people(rows: &Rows) {
    let divisions: HashMap<Uuid, &Row> =
        rows[&Table::Divisions].iter().map(|row| (id(row, "id").unwrap(), row)).collect();
    let mut doctors = BTreeSet::new();
    let mut dismissed = HashSet::new();
    for employee in &rows[&Table::Employees] {
        let is_dismissed = text(employee, "status") == "DISMISSED";
        if is_dismissed {
            dismissed.insert(id(employee, "id").unwrap());
        }
        assert_eq!(*employee.get("is_active").unwrap() == Cell::Bool(true), !is_dismissed);
        assert_eq!(date(employee, "end_date").is_some(), is_dismissed);
        assert!(
            date(employee, "end_date").is_none_or(|end| date(employee, "start_date").unwrap() <= end),
            "{employee:?}"
        );
        if let Some(division) = id(employee, "division_id") {
            assert_eq!(id(divisions[&division], "legal_entity_id"), id(employee, "legal_entity_id"));
        }
        let info = json(employee, "additional_info");
        let main = json(employee, "speciality");
        let kind = text(employee, "employee_type");
        if ["DOCTOR", "SPECIALIST", "SURGEON", "ASSISTANT", "PHARMACIST", "PHARMACY_OWNER"].contains(&kind) {
            let listed = info["specialities"].as_array().unwrap();
            let mains: Vec<&Value> = listed.iter().filter(|one| one["speciality_officio"] == true).collect();
            assert_eq!(mains, [&main], "{kind}");
            assert!(!info["educations"].as_array().unwrap().is_empty());
        } else {
            assert_eq!((info, main), (serde_json::json!({}), Value::Null), "{kind}");
        }
        if kind == "DOCTOR" {
            doctors.insert(id(employee, "party_id").unwrap());
        }
    }
    let limited: BTreeSet<Uuid> =
        rows[&Table::DeclarationsLimit].iter().map(|row| id(row, "party_id").unwrap()).collect();
    assert_eq!(limited, doctors, "one limit for each doctor");
    let tax_ids: Vec<&str> =
        rows[&Table::Parties].iter().map(|row| text(row, "tax_id")).filter(|id| !id.is_empty()).collect();
    assert!(tax_ids.iter().all(|id| id.len() == 10 && id.starts_with('9')));
    assert_eq!(tax_ids.iter().collect::<HashSet<_>>().len(), tax_ids.len());
    for role in &rows[&Table::EmployeeRoles] {
        let has_left = dismissed.contains(&id(role, "employee_id").unwrap());
        assert_eq!(text(role, "status") == "INACTIVE", has_left);
        assert_eq!(*role.get("end_date").unwrap() != Cell::Null, has_left);
        assert!(!has_left || time(role, "start_date") <= time(role, "end_date"));
    }
}

fn places(rows: &Rows) {
    let services: HashMap<Uuid, &Row> =
        rows[&Table::HealthcareServices].iter().map(|row| (id(row, "id").unwrap(), row)).collect();
    let divisions: HashMap<Uuid, &Row> =
        rows[&Table::Divisions].iter().map(|row| (id(row, "id").unwrap(), row)).collect();
    let employees: HashMap<Uuid, &Row> =
        rows[&Table::Employees].iter().map(|row| (id(row, "id").unwrap(), row)).collect();
    for role in &rows[&Table::EmployeeRoles] {
        let service = services[&id(role, "healthcare_service_id").unwrap()];
        let employee = employees[&id(role, "employee_id").unwrap()];
        assert_eq!(id(service, "division_id"), id(employee, "division_id"), "nobody provides what others offer");
    }
    for service in services.values() {
        let division = divisions[&id(service, "division_id").unwrap()];
        assert_eq!(id(service, "legal_entity_id"), id(division, "legal_entity_id"));
    }
    // A contract is one legal entity's.
    let mut owners: HashMap<&str, Uuid> = HashMap::new();
    for covered in &rows[&Table::ContractDivisions] {
        let owner = id(divisions[&id(covered, "division_id").unwrap()], "legal_entity_id").unwrap();
        assert_eq!(*owners.entry(text(covered, "contract_id")).or_insert(owner), owner);
        assert_eq!(time(covered, "changed_at"), time(covered, "updated_at"));
    }
}
