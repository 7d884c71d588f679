//! Finds the bad rows of a statement: those whose values others hold by asking, the rest by halves, under savepoints. Only errors of data get here: who lost a connection or
//! a lock learns nothing about rows.

use std::collections::BTreeMap;

use super::failure::{Failure, Fault};
use super::table::Table;
use super::transaction::{Alike, Operation, Pending, Transaction};

/// How a failing statement is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Care {
    /// As a failure of the whole: no savepoints.
    Brisk,
    /// The bad rows are found, the others are written.
    Careful,
}

/// Runs the operation on all rows, or, where care is asked for, on all but the bad ones, which it answers by tag.
pub(super) async fn isolated(
    tx: &mut dyn Transaction,
    operation: Operation,
    table: &Table,
    rows: &[&Pending],
    care: Care,
) -> Result<BTreeMap<usize, Fault>, Failure> {
    let mut faults = BTreeMap::new();
    if rows.is_empty() {
        return Ok(faults);
    }
    if care == Care::Brisk {
        tx.run(operation, table, rows).await?;
        return Ok(faults);
    }
    // Each would cost a dozen statements, and what they wrote would be thrown away.
    if operation == Operation::Upsert {
        faults = tx.contested(table, rows).await?;
    }
    let free: Vec<&Pending> = rows.iter().copied().filter(|row| !faults.contains_key(&row.item.tag)).collect();
    let mut parts = vec![&*free];
    while let Some(part) = parts.pop() {
        if part.is_empty() {
            continue;
        }
        tx.savepoint().await?;
        match tx.run(operation, table, part).await {
            Ok(()) => tx.release().await?,
            Err(Failure::Data(fault)) => {
                tx.rollback_to().await?;
                if let [row] = part {
                    let fault = tx.explain(table, row, fault).await?;
                    faults.insert(row.item.tag, fault);
                } else {
                    let (left, right) = part.split_at(part.len() / 2);
                    parts.extend([right, left]);
                }
            }
            Err(other) => return Err(other),
        }
    }
    Ok(faults)
}

/// By tag: what looks like each, or what is wrong with the values it would be recognised by.
pub(super) async fn alike(
    tx: &mut dyn Transaction,
    table: &Table,
    rows: &[&Pending],
    care: Care,
) -> Result<(BTreeMap<usize, Alike>, BTreeMap<usize, Fault>), Failure> {
    let mut found = BTreeMap::new();
    let mut faults = BTreeMap::new();
    let mut parts = vec![rows];
    while let Some(part) = parts.pop() {
        if part.is_empty() {
            continue;
        }
        if care == Care::Careful {
            tx.savepoint().await?;
        }
        match tx.alike(table, part).await {
            Ok(alike) => {
                found.extend(part.iter().map(|row| row.item.tag).zip(alike));
                if care == Care::Careful {
                    tx.release().await?;
                }
            }
            Err(Failure::Data(fault)) if care == Care::Careful => {
                tx.rollback_to().await?;
                if let [row] = part {
                    faults.insert(row.item.tag, tx.explain(table, row, fault).await?);
                } else {
                    let (left, right) = part.split_at(part.len() / 2);
                    parts.extend([right, left]);
                }
            }
            Err(other) => return Err(other),
        }
    }
    Ok((found, faults))
}

/// [Outdates](Transaction::outdate) rows. One that the database lets nobody touch as it is (it breaks a rule that came
/// later, a trigger refuses) keeps its version, which is told: a person must mend it.
pub(super) async fn outdate(tx: &mut dyn Transaction, table: &Table, keys: &[&str]) -> Result<(), Failure> {
    let mut untouchable = 0;
    let mut parts = vec![keys];
    while let Some(part) = parts.pop() {
        if part.is_empty() {
            continue;
        }
        tx.savepoint().await?;
        match tx.outdate(table, part).await {
            Ok(()) => tx.release().await?,
            Err(Failure::Data(_)) => {
                tx.rollback_to().await?;
                let (left, right) = part.split_at(part.len() / 2);
                match left {
                    [] => untouchable += 1,
                    _ => parts.extend([right, left]),
                }
            }
            Err(other) => return Err(other),
        }
    }
    if untouchable > 0 {
        tracing::warn!(
            table = table.name,
            rows = untouchable,
            "rows of a former life can't be touched: they keep their versions"
        );
    }
    Ok(())
}
