//! `muster simulate prm`: fills a database with an invented provider registry, and changes it if asked to.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use chrono::{NaiveTime, Utc};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use simulators::prm::{Changer, Database, Existing, Late, Options, Prm, Progress, Table, fill};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::super::stop_on_signals;
use crate::args::SimulatedPrm;
use crate::exit;
use crate::output::line;
use crate::process::environment;

/// Where there is no terminal, one line in so long is enough.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// One transaction in so many is committed late.
const LATE_EVERY: u64 = 15;

/// So many seconds late: longer than a poll takes, shorter than a sensible overlap.
const LATE_BY: u64 = 8;

/// A database that refuses for so many seconds on end won't take changes again.
const PATIENCE: u64 = 120;

/// Fills, then changes until told to stop.
pub async fn run(wanted: &SimulatedPrm) -> Result<u8> {
    let password = environment("MUSTER_SIMULATED_PRM_PASSWORD").or_else(|| environment("PGPASSWORD"));
    let prm = Prm::new(Options {
        seed: wanted.seed,
        employees: wanted.rows,
        // Not this very moment, so that a second run gives the same rows.
        now: Utc::now().date_naive().and_time(NaiveTime::MIN).and_utc(),
        ..Options::default()
    });
    let stop = stop_on_signals()?;
    let database = Database::connect(&wanted.into, wanted.schema.as_deref(), password.as_deref()).await?;
    let existing = if wanted.replace { Existing::Replace } else { Existing::Refuse };
    let started = Instant::now();
    let mut shown = Shown::new();
    let mut tell = |progress| shown.tell(progress);
    tokio::select! {
        filled = fill(&prm, &database, existing, &mut tell) => filled?,
        // Without its connection the transaction is rolled back.
        () = stop.cancelled() => bail!("stopped before all rows were in; nothing was changed"),
    }
    shown.end();
    let counts = Table::ALL.map(|table| format!("{} {table}", HumanCount(prm.rows(table))));
    line(&format!(
        "a simulated provider registry, in {:.1} s: {}",
        started.elapsed().as_secs_f64(),
        counts.join(", ")
    ))?;
    if wanted.changes > 0 {
        line(&format!("{} changes a second from now on, until stopped", wanted.changes))?;
        keep_changing(Changer::new(prm, database), wanted.changes as usize, &stop).await?;
    }
    Ok(exit::DONE)
}

/// One transaction a second; some stay open while others pass them.
async fn keep_changing(mut changer: Changer, changes: usize, stop: &CancellationToken) -> Result<()> {
    let mut every_second = tokio::time::interval(Duration::from_secs(1));
    every_second.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut open: VecDeque<(u64, Late)> = VecDeque::new();
    let mut failed = 0;
    for second in 0.. {
        tokio::select! {
            _ = every_second.tick() => {}
            () = stop.cancelled() => break,
        }
        let changed = change(&mut changer, changes, second, &mut open).await;
        failed = if changed.is_ok() { 0 } else { failed + 1 };
        match changed {
            Err(error) if failed > PATIENCE => return Err(error).context("the database has refused for too long"),
            Err(error) => tracing::warn!(error = format!("{error:#}"), "changes failed, more in a second"),
            Ok(()) => {}
        }
    }
    for (_, late) in open {
        changer.commit(late).await?;
    }
    Ok(())
}

async fn change(changer: &mut Changer, changes: usize, second: u64, open: &mut VecDeque<(u64, Late)>) -> Result<()> {
    if second % LATE_EVERY == LATE_EVERY - 1 {
        open.push_back((second + LATE_BY, changer.begin(changes, None).await?));
    } else {
        let rows = changer.change(changes, None).await?.writes.len();
        tracing::debug!(rows, "changed");
    }
    while let Some((_, late)) = open.pop_front_if(|(due, _)| *due <= second) {
        let rows = changer.commit(late).await?.writes.len();
        tracing::debug!(rows, late_by_s = LATE_BY, "changed, late");
    }
    Ok(())
}

/// A bar on a terminal, lines elsewhere.
struct Shown {
    bar: Option<ProgressBar>,
    said: Instant,
}

impl Shown {
    fn new() -> Shown {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = "{bar:30} {percent:>3} % {human_pos} of {human_len} rows, {msg:<20} {eta}";
            let style = ProgressStyle::with_template(style);
            ProgressBar::new(1).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Shown { bar, said: Instant::now() }
    }

    fn tell(&mut self, progress: Progress) {
        let doing = progress.table.map_or("keys and indexes", Table::name);
        if let Some(bar) = &self.bar {
            bar.set_length(progress.of);
            bar.set_message(doing);
            bar.set_position(progress.rows);
        } else if self.said.elapsed() >= SAY_EVERY || progress.table.is_none() {
            self.said = Instant::now();
            tracing::info!(rows = progress.rows, of = progress.of, doing, "filling");
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
