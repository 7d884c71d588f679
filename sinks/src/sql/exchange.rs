//! Settles what waits for each other in a circle, by way of null: rows give up the values that only one may have, the
//! others are written, and where that doesn't come to an end everything is as it was. Called by [`super::write`].
//!
//! Columns that must not be null can't be given up, and only what one process has is seen here: such rows wait until
//! they are letters, and a person acts.

use super::failure::{Failure, reason};
use super::isolate::Care;
use super::table::Tables;
use super::transaction::{Pending, Transaction};
use super::write::{Fate, Fates, by_table, put, rounds};

/// A row that goes, and the one that comes in its place with the same unique value, while others refer to it: it can't
/// go before they refer to the new one, which can't come before the value is free. (Users, when another member of staff
/// comes to stand for an address.) It gives the value up, if it then really goes. Answers what must wait.
pub(super) async fn succeed(
    tx: &mut dyn Transaction,
    tables: &Tables,
    parked: Vec<Pending>,
    fates: &mut Fates,
) -> Result<Vec<Pending>, Failure> {
    let is_contested = |row: &Pending| tables.0[row.item.table].contested().next().is_some();
    let goes = |row: &&Pending| waits_for(row, reason::STILL_REFERRED_TO, fates) && is_contested(row);
    let mut going: Vec<Pending> = parked.iter().filter(goes).cloned().collect();
    if !parked.iter().any(|row| waits_for(row, reason::CONTRADICTION, fates)) {
        return Ok(parked);
    }
    // Whoever stays keeps its value: again without it.
    while !going.is_empty() {
        tx.savepoint().await?;
        let mut tried = fates.clone();
        let left = match vacate(tx, tables, &going).await? {
            true => rounds(tx, tables, parked.clone(), &mut tried).await?,
            false => return Ok(parked),
        };
        let is_gone = |row: &Pending| tried.get(&row.item.tag) == Some(&Fate::Delivered);
        if going.iter().all(is_gone) {
            tx.release().await?;
            *fates = tried;
            return Ok(left);
        }
        tx.rollback_to().await?;
        going.retain(is_gone);
    }
    Ok(parked)
}

/// Rows that hold each other's values: none can be written before the others. All give theirs up, and those that can be
/// written then are.
pub(super) async fn swap(
    tx: &mut dyn Transaction,
    tables: &Tables,
    parked: Vec<Pending>,
    fates: &mut Fates,
) -> Result<(), Failure> {
    // Only a row that is there has something to give up.
    let contradicts = |row: &Pending| waits_for(row, reason::CONTRADICTION, fates) && row.state.row.is_some();
    let parked: Vec<Pending> = parked.into_iter().filter(contradicts).collect();
    for (place, mut rows) in by_table(parked, |row| row.item.table) {
        let table = &tables.0[place];
        if table.contested().next().is_none() {
            continue;
        }
        // Whoever is refused keeps its value, which may be what another one needs: again without it.
        while rows.len() > 1 {
            tx.savepoint().await?;
            if !vacate(tx, tables, &rows).await? {
                break;
            }
            let mut tried = Fates::new();
            put(tx, tables, table, rows.clone(), Care::Careful, &mut tried).await?;
            if tried.values().all(|fate| *fate == Fate::Delivered) {
                tx.release().await?;
                fates.extend(tried);
                break;
            }
            tx.rollback_to().await?;
            rows.retain(|row| tried.get(&row.item.tag) == Some(&Fate::Delivered));
        }
    }
    Ok(())
}

fn waits_for(row: &Pending, code: &str, fates: &Fates) -> bool {
    matches!(fates.get(&row.item.tag), Some(Fate::Parked(because)) if because.code == code)
}

/// `false`: a column must not be null, and the savepoint is rolled back.
async fn vacate(tx: &mut dyn Transaction, tables: &Tables, rows: &[Pending]) -> Result<bool, Failure> {
    for (place, rows) in by_table(rows.to_vec(), |row| row.item.table) {
        match tx.vacate(&tables.0[place], &rows.iter().collect::<Vec<_>>()).await {
            Ok(()) => {}
            Err(Failure::Data(_)) => {
                tx.rollback_to().await?;
                return Ok(false);
            }
            Err(other) => return Err(other),
        }
    }
    Ok(true)
}
