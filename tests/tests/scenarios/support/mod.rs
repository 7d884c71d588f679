//! What scenarios share: the binary, a place for it to run in, the register, and what the register must hold.

pub mod another_hand;
pub mod chaos;
pub mod kafka;
pub mod oracle;
pub mod program;
pub mod register;
pub mod site;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use chrono::Utc;
use simulators::ats::{Ats, AtsOptions};
use simulators::server::Server;

use self::site::API_KEY;

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

/// A recruiting system whose clock goes on.
pub fn recruiters(applicants: usize) -> Result<(Ats, Server)> {
    let ats = Ats::generate(AtsOptions {
        applicants,
        api_key: API_KEY.into(),
        now: Utc::now(),
        ticking: true,
        ..AtsOptions::default()
    });
    let server = ats.serve(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    Ok((ats, server))
}
