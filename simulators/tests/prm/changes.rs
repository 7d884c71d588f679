//! Changes: the database holds what the changer says, and it holds together.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use simulators::prm::{Action, Changer, Existing, Options, Prm, PrmError, Table, fill};

use super::coherence::{Rows, assert_coherent, text, time};
use super::databases::{Site, assert_holds, line_of};

async fn started(site: &Site, employees: u64) -> Changer {
    let prm = Prm::new(Options { seed: 3, employees, ..Options::default() });
    fill(&prm, &site.database, Existing::Refuse, &mut |_| {}).await.unwrap();
    Changer::new(prm, site.database.clone())
}

fn expected(changer: &Changer) -> Rows {
    Table::ALL.into_iter().map(|table| (table, changer.expected(table).collect())).collect()
}

async fn a_thousand_changes_are_as_told_and_hold_together(site: &Site) {
    let mut changer = started(site, 600).await;
    let mut done: BTreeMap<(Table, &str), usize> = BTreeMap::new();
    let mut statuses = BTreeSet::new();
    for _ in 0..40 {
        let late = changer.begin(5, None).await.unwrap();
        let changed = changer.change(20, None).await.unwrap();
        for change in [changed, changer.commit(late).await.unwrap()] {
            for write in change.writes {
                assert_eq!(time(&write.row, "updated_at"), change.at.naive_utc());
                let action = match write.action {
                    Action::Insert => "insert",
                    Action::Update => "update",
                    Action::Delete => "delete",
                };
                *done.entry((write.row.table, action)).or_default() += 1;
                if write.row.table == Table::Employees {
                    statuses.insert(text(&write.row, "status").to_owned());
                }
            }
        }
    }
    assert_coherent(&expected(&changer));
    assert_holds(site, |table| changer.expected(table).collect()).await;
    assert_eq!(statuses, ["APPROVED", "DISMISSED", "NEW"].map(str::to_owned).into());
    let done: BTreeSet<(Table, &str)> = done.into_keys().collect();
    for must in [
        (Table::Employees, "update"),
        (Table::Employees, "insert"),
        (Table::Parties, "insert"),
        (Table::EmployeeRoles, "insert"),
        (Table::EmployeeRoles, "update"),
        (Table::DeclarationsLimit, "insert"),
        (Table::LegalEntities, "update"),
        (Table::ContractDivisions, "delete"),
    ] {
        assert!(done.contains(&must), "no {must:?} among {done:?}");
    }
    let deleted: BTreeSet<Table> = done.iter().filter(|(_, what)| *what == "delete").map(|(table, _)| *table).collect();
    assert_eq!(deleted, [Table::ContractDivisions].into(), "nothing else is ever deleted");
}

#[tokio::test]
async fn a_thousand_changes_in_sqlite_are_as_told_and_hold_together() {
    a_thousand_changes_are_as_told_and_hold_together(&Site::sqlite().await).await;
}

#[tokio::test]
async fn a_thousand_changes_in_postgres_are_as_told_and_hold_together() {
    let Some(site) = Site::postgres().await else { return };
    a_thousand_changes_are_as_told_and_hold_together(&site).await;
}

async fn a_late_transaction_appears_behind_newer_ones(site: &Site) {
    let mut changer = started(site, 200).await;
    let before = site.lines(Table::Employees).await;
    let late = changer.begin(3, None).await.unwrap();
    assert_eq!(site.lines(Table::Employees).await, before, "nobody sees it yet");
    let newer = changer.change(3, None).await.unwrap();
    let older = changer.commit(late).await.unwrap();
    assert!(older.at < newer.at, "{} isn't before {}", older.at, newer.at);
    for changed in [older, newer] {
        let times: BTreeSet<_> = changed.writes.iter().map(|write| time(&write.row, "updated_at")).collect();
        assert_eq!(times, [changed.at.naive_utc()].into(), "one transaction, one time");
    }
    assert_holds(site, |table| changer.expected(table).collect()).await;
}

#[tokio::test]
async fn a_late_transaction_appears_behind_newer_ones_in_sqlite() {
    a_late_transaction_appears_behind_newer_ones(&Site::sqlite().await).await;
}

#[tokio::test]
async fn a_late_transaction_appears_behind_newer_ones_in_postgres() {
    let Some(site) = Site::postgres().await else { return };
    a_late_transaction_appears_behind_newer_ones(&site).await;
}

#[tokio::test]
async fn what_is_rolled_back_is_not_expected() {
    let Some(site) = Site::postgres().await else { return };
    let mut changer = started(&site, 200).await;
    drop(changer.begin(30, None).await.unwrap());
    changer.change(30, None).await.unwrap();
    assert_holds(&site, |table| changer.expected(table).collect()).await;
    assert_coherent(&expected(&changer));
}

#[tokio::test]
async fn the_same_seed_makes_the_same_changes_at_any_time_that_is_asked_for() {
    let (one, other) = (Site::sqlite().await, Site::sqlite().await);
    let (mut one, mut other) = (started(&one, 300).await, started(&other, 300).await);
    let tomorrow = Options::default().now + TimeDelta::days(1);
    for day in 0..30 {
        let at = tomorrow + TimeDelta::days(day);
        let changed = one.change(10, Some(at)).await.unwrap();
        assert_eq!(changed.at, at);
        assert_eq!(changed, other.change(10, Some(at)).await.unwrap());
    }
    assert_eq!(expected(&one), expected(&other));
}

#[tokio::test]
async fn rows_that_somebody_else_deleted_are_noticed() {
    let site = Site::sqlite().await;
    let mut changer = started(&site, 50).await;
    let prm = Prm::new(Options { seed: 4, employees: 50, ..Options::default() });
    fill(&prm, &site.database, Existing::Replace, &mut |_| {}).await.unwrap();
    let changed = changer.change(10, None).await;
    assert!(matches!(changed, Err(PrmError::Gone(_))), "{changed:?}");
    let held = site.lines(Table::Employees).await;
    let filled: BTreeSet<_> = (0..50).map(|number| line_of(&prm.row(Table::Employees, number, 0))).collect();
    assert_eq!(held, filled, "nothing has changed");
}
