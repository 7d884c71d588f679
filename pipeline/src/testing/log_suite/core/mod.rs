//! What every log does: order, durability, reading to the end and on, commits, compaction, limits, lost places.

mod append;
mod kept;
mod members;
mod reading;

pub use self::append::*;
pub use self::kept::*;
pub use self::members::*;
pub use self::reading::*;
