//! Resident memory of `muster run`: with nothing to do, and while it loads 200,000 applicants at full rate. The simulated
//! ATS, Kafka and PostgreSQL are processes of their own.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::rounds::Spread;
use crate::site::{REGISTER, Site, recruiters};
use crate::table::{Finding, Goal};
use crate::{Bench, Setting};

/// See the file.
pub const BENCH: Bench =
    Bench { name: "resident", about: "resident memory, idle and at full rate", run: |setting| Box::pin(run(setting)) };

/// What is there after the start stays; longer shows nothing new.
const IDLE: Duration = Duration::from_secs(20);

async fn run(setting: Setting) -> Result<Vec<Finding>> {
    let mut findings = vec![idle(&setting).await?];
    findings.extend(at_full_rate(&setting).await?);
    Ok(findings)
}

async fn idle(setting: &Setting) -> Result<Finding> {
    let site = Site::new(setting, "idle", "")?;
    let mut muster = site.start(&["run"])?;
    let began = Instant::now();
    let wait = if setting.quick { Duration::from_secs(1) } else { IDLE };
    muster.until(wait * 2, Duration::from_millis(100), async || Ok((began.elapsed() > wait).then_some(()))).await?;
    let (now, most) = muster.memory()?;
    muster.kill().await?;
    let note = format!("{now:.1} MB in the end");
    let what = "resident memory of `muster run`, idle, empty configuration, at most";
    Ok(Finding::alone(what, Spread::exactly(most), "MB").wants(Goal::AtMost(30.0)).noting(note))
}

async fn at_full_rate(setting: &Setting) -> Result<Vec<Finding>> {
    let Some(kafka) = services::Kafka::measured().await? else { bail!("there is no Kafka") };
    let Some(postgres) = services::Postgres::measured().await? else { bail!("there is no PostgreSQL") };
    let applicants = setting.amount(200_000, 1_000);
    let (_ats, url) = recruiters(setting, applicants, 0).await?;
    let site = Site::new(
        setting,
        "load",
        &format!(
            "[log.kafka]\nbootstrap = [\"{}\"]\nreplication = 1\n{}{}",
            kafka.bootstrap(),
            source(&url, "1h"),
            REGISTER.replace("DATABASE", &postgres.url())
        ),
    )?;
    let mut muster = site.start(&["run", "--once"])?;
    let began = Instant::now();
    let mut seen: Vec<f64> = Vec::new();
    let mut most = 0.0;
    while !muster.has_ended()? {
        if let Ok((now, at_most)) = muster.memory() {
            seen.push(now);
            most = at_most;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let took = began.elapsed().as_secs_f64();
    let rate = applicants as f64 / took;
    let what = format!(
        "resident memory of `muster run` while {applicants} applicants go from the ATS to the register, at most"
    );
    let note = format!("{rate:.0} applicants/s; {:.0} MB in the middle of the time", Spread::of(&seen).median);
    Ok(vec![Finding::alone(what, Spread::exactly(most), "MB").wants(Goal::AtMost(128.0)).noting(note)])
}

/// The section of the source.
pub fn source(url: &str, every: &str) -> String {
    format!(
        "[sources.ats]\nevery = \"{every}\"\n\
         from.ats = {{ url = \"{url}\", api_key = {{ env = \"API_KEY\" }}, page_size = 500 }}\n"
    )
}
