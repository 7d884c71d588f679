//! The first load of the register: applicants from the simulated ATS, which is paced at 4,000 a second, through Kafka into
//! PostgreSQL, each a process of its own. Once with a tenth of the applicants, to see what grows with them.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use sqlx::{Connection, PgConnection};

use crate::rounds::Spread;
use crate::site::{REGISTER, Ran, Site, recruiters, source};
use crate::table::{Finding, Goal};
use crate::{Bench, Setting};

/// See the file.
pub const BENCH: Bench =
    Bench { name: "load", about: "from the ATS to the register, whole", run: |setting| Box::pin(run(setting)) };

const PACE: f64 = 4_000.0;

const OFTEN: Duration = Duration::from_millis(250);

/// Once the register has stood still for so long, it is filled: the source reads everything a second time, which changes nothing.
const QUIET: Duration = Duration::from_secs(20);

const AT_MOST: Duration = Duration::from_secs(1_200);

/// What a load came to.
struct Loaded {
    seconds: f64,
    /// Resident memory in MB, at most.
    memory: f64,
    /// Comparing the topics with the register afterwards.
    verified: Ran,
}

async fn run(setting: Setting) -> Result<Vec<Finding>> {
    let many = setting.amount(200_000, 2_000);
    let few = many / 10;
    let tenth = loaded(&setting, few).await?;
    let whole = loaded(&setting, many).await?;
    let rate = |applicants: usize, loaded: &Loaded| applicants as f64 / loaded.seconds;
    let what =
        format!("ATS paced at {PACE:.0} applicants/s -> Kafka -> register, {many} applicants (about 5.6 rows each)");
    let note =
        format!("{few} applicants: {:.0}/s; from an empty cluster until the last row; `muster run`", rate(few, &tenth));
    let rate = Finding::alone(what, Spread::exactly(rate(many, &whole)), "applicants/s");
    let times = Finding::alone(
        format!("the same: time, beside that of {few} applicants"),
        Spread::exactly(whole.seconds / tenth.seconds),
        "x",
    );
    let note_of_times = format!("{:.1} s and {:.1} s", whole.seconds, tenth.seconds);
    let memory =
        Finding::alone("the same: resident memory of `muster run`, at most", Spread::exactly(whole.memory), "MB");
    let note_of_memory = format!("{few} applicants: {:.0} MB", tenth.memory);
    let what = format!("`muster verify register` afterwards: all rows of {many} applicants");
    let verified = Finding::alone(what, Spread::exactly(whole.verified.seconds), "s");
    let note_of_verify = format!("{few} applicants: {:.1} s", tenth.verified.seconds);
    let what = "the same: resident memory of `muster verify`, at most";
    let memory_of_verify = Finding::alone(what, Spread::exactly(whole.verified.memory), "MB");
    let note_of_its_memory = format!("{few} applicants: {:.0} MB", tenth.verified.memory);
    Ok(vec![
        rate.wants(Goal::AtLeast(PACE * 0.95)).noting(note),
        times.wants(Goal::AtMost(10.5)).noting(note_of_times),
        memory.wants(Goal::AtMost(128.0)).noting(note_of_memory),
        verified.noting(note_of_verify),
        memory_of_verify.noting(note_of_its_memory),
    ])
}

/// How far the sink is, in all partitions together; its offsets move with the rows.
async fn delivered(register: &mut PgConnection) -> Result<i64> {
    let made: bool =
        sqlx::query_scalar("select to_regclass('muster.offsets') is not null").fetch_one(&mut *register).await?;
    if !made {
        return Ok(0);
    }
    let sum = "select coalesce(sum(next), 0)::bigint from muster.offsets";
    Ok(sqlx::query_scalar(sum).fetch_one(register).await?)
}

/// Everything once, on services of its own, until the register stands still.
async fn loaded(setting: &Setting, applicants: usize) -> Result<Loaded> {
    let Some(kafka) = services::Kafka::measured().await? else { bail!("there is no Kafka") };
    let Some(postgres) = services::Postgres::measured().await? else { bail!("there is no PostgreSQL") };
    let (_ats, url) = recruiters(setting, applicants, &["--pace", "4000"]).await?;
    let log = format!("[log.kafka]\nbootstrap = [\"{}\"]\nreplication = 1\n", kafka.bootstrap());
    let register = REGISTER.replace("DATABASE", &postgres.url());
    let configuration = format!("{log}{}{register}", source(&url, "1h"));
    let site = Site::new(setting, &format!("load-{applicants}"), &configuration)?;
    let mut register = PgConnection::connect(&postgres.url()).await?;
    let mut muster = site.start(&["run"])?;
    let began = Instant::now();
    let (mut reached, mut moved) = (0, began);
    while reached == 0 || moved.elapsed() < QUIET {
        tokio::time::sleep(OFTEN).await;
        ensure!(!muster.has_ended()?, "muster has ended");
        ensure!(began.elapsed() < AT_MOST, "the register isn't filled after {AT_MOST:?}");
        let now = delivered(&mut register).await?;
        if now != reached {
            (reached, moved) = (now, Instant::now());
        }
    }
    let (_, memory) = muster.memory()?;
    let verified = site.timed(&["verify", "register"]).await?;
    muster.kill().await?;
    let rows: i64 = sqlx::query_scalar("select count(*) from ien_applicants").fetch_one(&mut register).await?;
    // Some contradict others: the simulated system plants them, and they wait.
    ensure!(rows * 100 > applicants as i64 * 98, "only {rows} of {applicants} applicants are in the register");
    Ok(Loaded { seconds: (moved - began).as_secs_f64(), memory, verified })
}
