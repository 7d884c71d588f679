//! `muster simulate ats`: a server that behaves like a recruiting system.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use chrono::Utc;
use simulators::ats::{Ats, AtsOptions};

use super::super::stop_on_signals;
use crate::args::SimulatedAts;
use crate::exit;
use crate::output::line;

/// The largest feed that is served from a file.
const LARGEST_FEED: u64 = 256 << 20;

/// Serves until told to stop.
pub async fn run(wanted: &SimulatedAts) -> Result<u8> {
    let SimulatedAts { port, applicants, seed, api_key, feed, changes, pace } = wanted;
    let options = AtsOptions {
        seed: *seed,
        applicants: *applicants as usize,
        api_key: api_key.clone(),
        now: Utc::now(),
        ticking: true,
        pace: *pace,
        ..AtsOptions::default()
    };
    let ats = match feed {
        Some(path) => {
            let size = std::fs::metadata(path).with_context(|| format!("{} can't be read", path.display()))?.len();
            if size > LARGEST_FEED {
                bail!("{} has {size} bytes, more than {LARGEST_FEED}", path.display());
            }
            let text = std::fs::read_to_string(path).with_context(|| format!("{} can't be read", path.display()))?;
            let feed = serde_json::from_str(&text).with_context(|| format!("{} isn't a JSON array", path.display()))?;
            Ats::from_feed(feed, options)
        }
        None => Ats::generate(options),
    };
    let address = SocketAddr::from(([127, 0, 0, 1], *port));
    let server = ats.serve(address).with_context(|| format!("{address} can't be listened on"))?;
    line(&format!(
        "a simulated ATS with {} applicants: {}/applicants (header ApiKey), {}/milestones; faults at {}/__admin/faults",
        ats.len(),
        server.url(),
        server.url(),
        server.url()
    ))?;
    let stop = stop_on_signals()?;
    while !stop.is_cancelled() {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {
                if *changes > 0 {
                    ats.change_some(*changes as usize);
                }
            }
            () = stop.cancelled() => {}
        }
    }
    server.stop().await;
    Ok(exit::DONE)
}
