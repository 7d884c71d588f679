//! Rows alone, without a database.

use std::collections::{BTreeMap, BTreeSet};

use simulators::prm::{Options, Prm, Table};

use super::coherence::{assert_coherent, filled, text, time};

fn of(seed: u64, employees: u64) -> Prm {
    Prm::new(Options { seed, employees, ..Options::default() })
}

#[test]
fn whatever_its_size_a_registry_holds_together() {
    for employees in [1, 2, 4, 7, 49, 50, 99, 100, 333, 2_000] {
        assert_coherent(&filled(&of(employees, employees)));
    }
}

#[test]
fn the_seed_alone_makes_the_rows() {
    assert_eq!(filled(&of(7, 400)), filled(&of(7, 400)));
    let (one, other) = (filled(&of(7, 400)), filled(&of(8, 400)));
    for table in Table::ALL {
        assert!(one[&table].iter().zip(&other[&table]).all(|(one, other)| one != other), "{table}");
    }
}

#[test]
fn tables_are_in_proportion() {
    let prm = of(1, 1_000_000);
    let rows = Table::ALL.map(|table| prm.rows(table));
    assert_eq!(rows, [10_000, 50_000, 900_000, 1_000_000, 80_000, 600_000, 60_000, 360_000]);
}

#[test]
fn the_codes_of_the_contract_are_in_use() {
    let rows = filled(&of(3, 10_000));
    let codes = |table, column| -> BTreeSet<&str> { rows[&table].iter().map(|row| text(row, column)).collect() };
    assert_eq!(
        codes(Table::Employees, "employee_type"),
        [
            "ACCOUNTANT",
            "ADMIN",
            "ASSISTANT",
            "DOCTOR",
            "HR",
            "NHS ADMIN",
            "NHS ADMIN SIGNER",
            "NHS LE VERIFIER",
            "OWNER",
            "PHARMACIST",
            "PHARMACY_OWNER",
            "SPECIALIST",
            "SURGEON"
        ]
        .into()
    );
    assert_eq!(codes(Table::Employees, "status"), ["APPROVED", "DISMISSED", "NEW"].into());
    assert_eq!(
        codes(Table::Divisions, "type"),
        ["AMBULANT_CLINIC", "CLINIC", "DRUGSTORE", "DRUGSTORE_POINT", "FAP"].into()
    );
    assert_eq!(
        codes(Table::LegalEntities, "type"),
        ["MIS", "MSP", "MSP_PHARMACY", "NHS", "OUTPATIENT", "PHARMACY", "PRIMARY_CARE"].into()
    );
    assert_eq!(codes(Table::LegalEntities, "status"), ["ACTIVE", "CLOSED", "REORGANIZED", "SUSPENDED"].into());
}

#[test]
fn nothing_is_newer_than_the_history_and_a_fiftieth_changed_on_its_last_day() {
    let prm = of(5, 10_000);
    let rows = filled(&prm);
    let now = prm.options().now.naive_utc();
    for (table, rows) in &rows {
        assert!(rows.iter().all(|row| time(row, "updated_at") <= now), "{table}");
    }
    let yesterday = now - chrono::TimeDelta::days(1);
    let changed = rows[&Table::Employees].iter().filter(|row| time(row, "updated_at") > yesterday).count();
    assert!((140..280).contains(&changed), "{changed} of 10,000");
}

#[test]
fn every_edit_changes_the_row() {
    let prm = of(11, 500);
    for table in Table::ALL.into_iter().filter(|table| *table != Table::EmployeeRoles) {
        for number in 0..prm.rows(table).min(200) {
            for edit in 1..6 {
                assert_ne!(prm.row(table, number, edit), prm.row(table, number, edit - 1), "{table} {number} {edit}");
            }
        }
    }
}

#[test]
fn a_dismissal_is_for_good() {
    let prm = of(13, 300);
    let mut left = BTreeMap::new();
    for number in 0..300 {
        for edit in 0..20 {
            let row = prm.row(Table::Employees, number, edit);
            let end = row.get("end_date").cloned();
            if text(&row, "status") == "DISMISSED" {
                assert_eq!(left.entry(number).or_insert(end.clone()), &end);
            } else {
                assert!(!left.contains_key(&number));
            }
        }
    }
    assert!(left.len() > 100, "only {} were dismissed", left.len());
}
