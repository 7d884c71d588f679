//! Everything that reads bytes which somebody else wrote, as functions that take any bytes: none may panic, hang or take
//! memory without bound, and each states what must hold besides. libFuzzer drives them (`cargo xtask fuzz`), and so does
//! `tests/corpus.rs`, on every run, with what fuzzing has kept and with changes to it.

mod avro;
mod configuration;
mod feed;
mod times;

pub use avro::{avro, replay, schema};
pub use configuration::config;
pub use feed::{ats_page, letter};
pub use times::{cron, dates, retry_after};

/// Takes any bytes.
pub type Target = fn(&[u8]);

/// Every target, by the name of its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("ats_page", ats_page),
    ("avro", avro),
    ("config", config),
    ("cron", cron),
    ("dates", dates),
    ("letter", letter),
    ("replay", replay),
    ("retry_after", retry_after),
    ("schema", schema),
];

/// One of several things, chosen by the first byte; the rest is for what was chosen.
fn choose<'t, 'd, T>(from: &'t [T], data: &'d [u8]) -> Option<(&'t T, &'d [u8])> {
    let (first, rest) = data.split_first()?;
    Some((from.get(usize::from(*first) % from.len())?, rest))
}
