//! Sources: one folder per system read from.

use std::fmt;

use pipeline::source::Source;

pub mod ats;

/// One feed of a system, as it is wired: where its records go and what reads them.
pub struct Feed {
    /// The feed's name within its system, as in `applicants`.
    pub name: &'static str,
    /// The topic its records go to.
    pub topic: &'static str,
    /// What reads it.
    pub source: Box<dyn Source>,
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("name", &self.name).field("topic", &self.topic).finish_non_exhaustive()
    }
}
