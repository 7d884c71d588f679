//! How long it takes from a kill -9 until the work goes on, with a million keys in the memories.
//!
//! The embedded log, so that one partition's memory has them all: 200,000 applicants, and the 1.1 million rows derived of
//! them. The simulated ATS goes on changing. Work goes on when an offset in the register moves that stood still when the
//! process was killed: log, state and memories are open, the source has read, the processor derived, the sink written.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use sqlx::{Connection, PgConnection};

use crate::resident::source;
use crate::rounds::Spread;
use crate::site::{REGISTER, Site, recruiters};
use crate::table::{Finding, Goal};
use crate::{Bench, Setting};

/// See the file.
pub const BENCH: Bench =
    Bench { name: "restart", about: "from kill -9 to progress", run: |setting| Box::pin(run(setting)) };

const OFTEN: Duration = Duration::from_millis(20);

async fn run(setting: Setting) -> Result<Vec<Finding>> {
    let Some(postgres) = services::Postgres::measured().await? else { bail!("there is no PostgreSQL") };
    let (applicants, rounds) = (setting.amount(200_000, 1_000), setting.amount(7, 1));
    let (_ats, url) = recruiters(&setting, applicants, 20).await?;
    let register = REGISTER.replace("DATABASE", &postgres.url());
    let site = Site::new(&setting, "restart", &format!("{}{register}", source(&url, "1s")))?;
    site.give(&["run", "--once"]).await?;

    let mut database = PgConnection::connect(&postgres.url()).await?;
    let mut muster = site.start(&["run"])?;
    let mut before = moved(&mut database).await?;
    let mut took = Vec::new();
    for _ in 0..=rounds {
        // At work before it is killed.
        for _ in 0..3 {
            before =
                muster.until(Duration::from_secs(120), OFTEN, async || beyond(&mut database, before).await).await?;
        }
        muster.kill().await?;
        let began = Instant::now();
        before = moved(&mut database).await?;
        muster = site.start(&["run"])?;
        before = muster.until(Duration::from_secs(120), OFTEN, async || beyond(&mut database, before).await).await?;
        took.push(began.elapsed().as_secs_f64());
    }
    muster.kill().await?;
    let rows: i64 = sqlx::query_scalar("select sum(next)::bigint from muster.offsets").fetch_one(&mut database).await?;
    let keys = format!("{:.1} million changes in the register's topics", rows as f64 / 1e6);
    let what = "kill -9 -> progress again, embedded log, 1,000,000 keys in the memories";
    Ok(vec![Finding::alone(what, Spread::of(&took), "s").wants(Goal::AtMost(5.0)).noting(keys)])
}

/// How far the register is, all in all.
async fn moved(database: &mut PgConnection) -> Result<i64> {
    let sum = sqlx::query_scalar("select coalesce(sum(next), 0)::bigint from muster.offsets");
    Ok(sum.fetch_one(database).await?)
}

async fn beyond(database: &mut PgConnection, before: i64) -> Result<Option<i64>> {
    let now = moved(database).await?;
    Ok((now > before).then_some(now))
}
