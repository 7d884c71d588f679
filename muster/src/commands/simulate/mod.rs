//! `muster simulate`: stands in for a system Muster reads.

mod ats;
mod prm;

use anyhow::Result;

use crate::args::Simulated;

/// Goes on until told to stop, or until there is no more to do.
pub async fn run(system: &Simulated) -> Result<u8> {
    match system {
        Simulated::Ats(wanted) => ats::run(wanted).await,
        Simulated::Prm(wanted) => prm::run(wanted).await,
    }
}
