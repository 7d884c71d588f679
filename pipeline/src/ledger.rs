//! Accounts for every record: nothing is dropped without a reason that can be queried.

use std::fmt;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// What became of the records of a batch, a run or a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Records that came in.
    pub read: u64,
    /// Written to the next hop.
    pub delivered: u64,
    /// Equal to what the next hop holds.
    pub unchanged: u64,
    /// Followed by a newer record of the same key in the same batch.
    pub superseded: u64,
    /// Older than what the next hop holds.
    pub stale: u64,
    /// In the dead letters.
    pub rejected: u64,
    /// Waiting for another row.
    pub parked: u64,
}

impl Counts {
    /// Everything that is accounted for.
    pub fn accounted(&self) -> u64 {
        self.delivered + self.unchanged + self.superseded + self.stale + self.rejected + self.parked
    }

    /// `Err` when a record came in and isn't accounted for, or the other way round.
    pub fn balanced(&self) -> Result<(), Unbalanced> {
        if self.read == self.accounted() { Ok(()) } else { Err(Unbalanced { counts: *self }) }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.read += other.read;
        self.delivered += other.delivered;
        self.unchanged += other.unchanged;
        self.superseded += other.superseded;
        self.stale += other.stale;
        self.rejected += other.rejected;
        self.parked += other.parked;
    }
}

/// The ledger doesn't balance: a record was lost or counted twice. Always a bug in Muster, never in the data.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub struct Unbalanced {
    counts: Counts,
}

impl fmt::Display for Unbalanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { read, delivered, unchanged, superseded, stale, rejected, parked } = self.counts;
        write!(
            f,
            "ledger out of balance: read {read}, but delivered {delivered} + unchanged {unchanged} + superseded {superseded} \
             + stale {stale} + rejected {rejected} + parked {parked}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_nowhere_is_a_breach() {
        let counts = Counts { read: 3, delivered: 1, rejected: 1, ..Counts::default() };
        assert!(counts.balanced().is_err());
        assert!(Counts { parked: 1, ..counts }.balanced().is_ok());
    }
}
