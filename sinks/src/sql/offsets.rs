//! The offsets kept in the target: who may write a partition, and what has been written.

use pipeline::change::Incarnation;
use pipeline::log::Offset;
use pipeline::sink::{Part, SinkError};

use super::failure::Failure;
use super::transaction::{OffsetRow, Step, Transaction};

/// Whether a part is still to be written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Its offset has moved in this transaction; nobody else can move it until the end.
    Ours,
    /// It was written before, and the answer was lost.
    Written,
}

/// Compares and sets the offsets of parts, each of another partition. The time is the target's.
pub(super) async fn claim_all(tx: &mut dyn Transaction, parts: &[Part]) -> Result<Vec<Claim>, Failure> {
    let steps: Vec<Step> = parts.iter().map(step).collect();
    let moved = tx.advance(&steps).await?;
    let mut claims = Vec::with_capacity(steps.len());
    for step in steps {
        let is_moved = moved.contains(&step.at);
        claims.push(if is_moved { Claim::Ours } else { look_at(tx, step).await? });
    }
    Ok(claims)
}

fn step(part: &Part) -> Step {
    let Incarnation(incarnation) = part.of.incarnation.clone();
    let Offset(next) = part.next;
    let right_below = part.landmark.filter(|landmark| landmark.offset.next() == part.next);
    let print = right_below.map(|landmark| landmark.print.cast_signed());
    let to = OffsetRow { incarnation, next, print, epoch: part.of.epoch.0, at_ms: 0, sweeping: part.sweeping };
    Step { at: part.of.at(), expected: part.expected.0, to }
}

/// What it means that the offset didn't stand where it was expected.
async fn look_at(tx: &mut dyn Transaction, step: Step) -> Result<Claim, Failure> {
    let Step { at, to, .. } = step;
    let fenced = || Failure::Stop(SinkError::Fenced { at: at.clone() });
    let row = tx.offset(&at).await?.ok_or_else(fenced)?;
    if row.epoch != to.epoch {
        return Err(fenced());
    }
    let same_life = row.incarnation == to.incarnation && row.sweeping == to.sweeping;
    if same_life && row.next == to.next {
        return Ok(Claim::Written);
    }
    let never_written = row.incarnation.is_empty();
    // The topic was made anew, or was out of sight for too long: what was stored counts for nothing.
    let begins_a_sweep = to.sweeping && (!same_life || row.next < 0);
    if never_written || begins_a_sweep {
        tx.place(&at, &to).await?;
        tx.forget_life(&at).await?;
        return Ok(Claim::Ours);
    }
    Err(fenced())
}
