//! What scenarios share: the binary, a place for it to run in, the register, and what the register must hold.

pub mod oracle;
pub mod program;
pub mod register;
pub mod site;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Longer than anything here takes on a busy machine.
pub const SOON: Duration = Duration::from_secs(90);

/// Tries until it is so; says what was last in the way.
pub async fn until<F: Future<Output = Result<()>>>(what: &str, mut so: impl FnMut() -> F) -> Result<()> {
    let began = Instant::now();
    loop {
        let Err(why) = so().await else { return Ok(()) };
        if began.elapsed() > SOON {
            bail!("{what}: not within {} s: {why:#}", SOON.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
