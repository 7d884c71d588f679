//! The first load of the register: applicants from the simulated ATS, which is paced at 4,000 a second, through Kafka into
//! PostgreSQL, each a process of its own. Once with a tenth of the applicants, to see what grows with them.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::rounds::Spread;
use crate::site::{REGISTER, Ran, Site, recruiters, source};
use crate::table::{Finding, Goal};
use crate::{Bench, Setting};

/// See the file.
pub const BENCH: Bench =
    Bench { name: "load", about: "from the ATS to the register, whole", run: |setting| Box::pin(run(setting)) };

const PACE: f64 = 4_000.0;

const OFTEN: Duration = Duration::from_millis(250);

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
    let note = format!("{few} applicants: {:.0}/s; from an empty cluster, one pass, to its end", rate(few, &tenth));
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

/// One pass over everything, on services of its own.
async fn loaded(setting: &Setting, applicants: usize) -> Result<Loaded> {
    let Some(kafka) = services::Kafka::measured().await? else { bail!("there is no Kafka") };
    let Some(postgres) = services::Postgres::measured().await? else { bail!("there is no PostgreSQL") };
    let (_ats, url) = recruiters(setting, applicants, &["--pace", "4000"]).await?;
    let log = format!("[log.kafka]\nbootstrap = [\"{}\"]\nreplication = 1\n", kafka.bootstrap());
    let register = REGISTER.replace("DATABASE", &postgres.url());
    let configuration = format!("{log}{}{register}", source(&url, "1h"));
    let site = Site::new(setting, &format!("load-{applicants}"), &configuration)?;
    let mut muster = site.start(&["run", "--once"])?;
    let began = Instant::now();
    let mut memory = 0.0;
    while !muster.has_ended()? {
        if let Ok((_, at_most)) = muster.memory() {
            memory = at_most;
        }
        tokio::time::sleep(OFTEN).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    Ok(Loaded { seconds, memory, verified: site.timed(&["verify", "register"]).await? })
}
