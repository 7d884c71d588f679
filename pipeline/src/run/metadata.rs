//! What a group's commit says beside its offset, for whoever goes on from it.

use std::fmt;

use crate::change::Incarnation;
use crate::state::Landmark;

/// As in `5f3c9e1a0b7d2468|1709539200000|false|41:9f86d081884c7d65`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Metadata {
    /// Which life of the partition the offset belongs to.
    pub life: Incarnation,
    /// When it was committed, in ms since 1970.
    pub at_ms: i64,
    /// A sweep isn't finished. Processors don't sweep.
    pub sweeping: bool,
    /// The last record below the offset, where one was seen.
    pub landmark: Option<Landmark>,
}

impl Metadata {
    /// What can't be read is left out, as what earlier versions didn't say: processors a sweep, all of them landmarks. `None`: it
    /// doesn't say of which life the offset is, or since when, and so nothing.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('|');
        let life = Incarnation(parts.next().filter(|life| !life.is_empty())?.to_owned());
        let at_ms = parts.next()?.parse().ok()?;
        let sweeping = parts.next() == Some("true");
        Some(Self { life, at_ms, sweeping, landmark: parts.next().and_then(|text| text.parse().ok()) })
    }
}

impl fmt::Display for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { life, at_ms, sweeping, landmark } = self;
        write!(f, "{life}|{at_ms}|{sweeping}|")?;
        landmark.map_or(Ok(()), |landmark| landmark.fmt(f))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Offset;

    #[test]
    fn what_is_written_is_read_and_what_earlier_versions_wrote_too() {
        let (life, at_ms) = (Incarnation("spring".to_owned()), 17);
        let landmark = Some(Landmark { offset: Offset(41), print: 0x9f86 });
        for (sweeping, landmark) in [(false, None), (true, landmark)] {
            let said = Metadata { life: life.clone(), at_ms, sweeping, landmark };
            assert_eq!(Metadata::parse(&said.to_string()), Some(said));
        }
        let earlier = |sweeping| Some(Metadata { life: life.clone(), at_ms, sweeping, landmark: None });
        assert_eq!(Metadata::parse("spring|17"), earlier(false));
        assert_eq!(Metadata::parse("spring|17|true"), earlier(true));
        assert_eq!(Metadata::parse("spring|17|false|41"), earlier(false), "half a landmark");
        for nothing in ["", "spring", "spring|soon", "|17"] {
            assert_eq!(Metadata::parse(nothing), None, "{nothing}");
        }
    }
}
