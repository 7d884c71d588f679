//! Runs what is measured and what it is measured against in turn, so that both meet the same machine.

use std::time::Instant;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::machine;

/// A figure with what it varied by.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// In the middle.
    pub median: f64,
    /// The least.
    pub low: f64,
    /// The most.
    pub high: f64,
}

impl Spread {
    /// Of several measurements of one thing; none are 0.
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |place: usize| sorted.get(place).copied().unwrap_or_default();
        let last = sorted.len().saturating_sub(1);
        let median = if sorted.len().is_multiple_of(2) && !sorted.is_empty() {
            (at(sorted.len() / 2 - 1) + at(sorted.len() / 2)) / 2.0
        } else {
            at(sorted.len() / 2)
        };
        Self { median, low: at(0), high: at(last) }
    }

    /// One measurement.
    pub fn exactly(value: f64) -> Self {
        Self { median: value, low: value, high: value }
    }
}

/// How long each round took, in seconds. Same place, same round.
#[derive(Debug, Clone, Default)]
pub struct Rounds {
    /// What is measured.
    pub ours: Vec<f64>,
    /// What it is measured against.
    pub theirs: Vec<f64>,
}

impl Rounds {
    /// Runs both `rounds` times, after one time each that doesn't count, and changes who begins. Each answers how long
    /// it took, in seconds: what it prepares and clears up doesn't count.
    pub async fn in_turn(
        rounds: usize,
        mut ours: impl AsyncFnMut() -> Result<f64>,
        mut theirs: impl AsyncFnMut() -> Result<f64>,
    ) -> Result<Self> {
        ours().await?;
        theirs().await?;
        let mut all = Self::default();
        for round in 0..rounds {
            if round % 2 == 0 {
                all.ours.push(ours().await?);
                all.theirs.push(theirs().await?);
            } else {
                all.theirs.push(theirs().await?);
                all.ours.push(ours().await?);
            }
        }
        Ok(all)
    }

    /// How many times as fast ours is: of each round, then in the middle.
    pub fn ratio(&self) -> Spread {
        let each: Vec<f64> = self.ours.iter().zip(&self.theirs).map(|(ours, theirs)| theirs / ours).collect();
        Spread::of(&each)
    }
}

/// So many a second.
pub fn rate(count: usize, seconds: &[f64]) -> Spread {
    Spread::of(&seconds.iter().map(|seconds| count as f64 / seconds).collect::<Vec<_>>())
}

/// The seconds of this thread's own work on the core, or by the clock on the wall where the system doesn't say.
pub fn own_seconds<T>(work: impl FnOnce() -> Result<T>) -> Result<f64> {
    let (wall, before) = (Instant::now(), machine::thread_seconds());
    std::hint::black_box(work()?);
    let wall = wall.elapsed().as_secs_f64();
    Ok(match (before, machine::thread_seconds()) {
        (Some(before), Some(after)) if after > before => after - before,
        _ => wall,
    })
}
