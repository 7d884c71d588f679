//! The changes stop, everything drains, and what is there is compared with what must be.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use super::super::kafka::latest;
use super::super::oracle;
use super::super::register::Register;
use super::world::World;

/// What was there when everything had drained.
pub struct Drained {
    /// Rows of the register.
    pub rows: usize,
    /// Rows that wait for a place in it.
    pub waiting: usize,
    /// Open dead letters.
    pub letters: usize,
    /// Edits so far.
    pub edits: u64,
}

/// How long everything may take to drain: stalls, rebalances and retries of all rounds before.
const DRAINED_WITHIN: Duration = Duration::from_secs(180);

impl World {
    /// Waits until the register equals the oracle, every process is ready, and the letters are those that were planned. A
    /// full reading must then find nothing, and no late write of a former owner may have undone anything.
    pub async fn drain(&mut self) -> Result<Drained> {
        self.clerk.rest().await?;
        let expected = oracle::expected(&self.clerk.readable(), &self.ats.masters())?;
        self.within("the register equals the oracle", async |world: &Self| {
            expected.compare(&Register::read(&world.register()).await?)
        })
        .await?;
        for site in 0..self.sites.len() {
            self.within("every process is ready", async |world: &Self| {
                let (code, why) = world.sites[site].get("/health/ready").await?;
                ensure!(code == 200, "process {site}: {why}");
                Ok(())
            })
            .await?;
        }
        let before: BTreeSet<String> = Register::versions(&self.register()).await?.into_iter().collect();
        self.within("everything is read again", async |world: &Self| {
            // Its owner may just be changing.
            let answer = world.sites[0].ask(&["sync", "ats", "--full"]).await?;
            ensure!(answer["done"] == true, "{answer:#}");
            Ok(())
        })
        .await?;
        let register = Register::read(&self.register()).await?;
        expected.compare(&register)?;
        let after = Register::versions(&self.register()).await?;
        let written: Vec<&String> = after.iter().filter(|row| !before.contains(*row)).collect();
        ensure!(written.is_empty(), "the full reading wrote {} rows again, {:?} …", written.len(), written.first());
        self.within("the dead letters are the planned ones", async |world: &Self| world.letters_are_as_planned())
            .await?;
        for site in &self.sites {
            site.ledger_balances().await?;
        }
        self.all_are_alive()?;
        Ok(Drained {
            rows: register.tables.values().map(|table| table.len()).sum(),
            waiting: register.waiting.len(),
            letters: self.clerk.unreadable().len(),
            edits: self.clerk.edits(),
        })
    }

    /// The letters that the log holds: not more applicants than planned, and not fewer.
    fn letters_are_as_planned(&self) -> Result<()> {
        let mut open = BTreeSet::new();
        for letter in latest(&self.brokers.bootstrap(), "muster.dead-letters")?.into_values() {
            let letter: Value = serde_json::from_slice(&letter)?;
            open.insert(letter["key"].as_str().unwrap_or_default().to_owned());
        }
        let planned: BTreeSet<String> = self.clerk.unreadable().into_iter().collect();
        ensure!(open == planned, "letters for {open:?}, planned {planned:?}");
        Ok(())
    }

    pub(super) async fn within(&mut self, what: &str, mut so: impl AsyncFnMut(&Self) -> Result<()>) -> Result<()> {
        let began = Instant::now();
        loop {
            let Err(why) = so(self).await else { return Ok(()) };
            self.all_are_alive()?;
            if began.elapsed() > DRAINED_WITHIN {
                bail!("{what}: not within {} s: {why:#}", DRAINED_WITHIN.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
