//! Resident memory of `muster run` with nothing to do. While it loads, `load.rs` looks.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::rounds::Spread;
use crate::site::Site;
use crate::table::{Finding, Goal};
use crate::{Bench, Setting};

/// See the file.
pub const BENCH: Bench =
    Bench { name: "resident", about: "resident memory, idle", run: |setting| Box::pin(run(setting)) };

/// What is there after the start stays; longer shows nothing new.
const IDLE: Duration = Duration::from_secs(20);

async fn run(setting: Setting) -> Result<Vec<Finding>> {
    let site = Site::new(&setting, "idle", "")?;
    let mut muster = site.start(&["run"])?;
    let began = Instant::now();
    let wait = if setting.quick { Duration::from_secs(1) } else { IDLE };
    muster.until(wait * 2, Duration::from_millis(100), async || Ok((began.elapsed() > wait).then_some(()))).await?;
    let (now, most) = muster.memory()?;
    muster.kill().await?;
    let note = format!("{now:.1} MB in the end");
    let what = "resident memory of `muster run`, idle, empty configuration, at most";
    Ok(vec![Finding::alone(what, Spread::exactly(most), "MB").wants(Goal::AtMost(30.0)).noting(note)])
}
