//! Reads one TOML file so that everything that is wrong with it is said at once.
//!
//! A component's configuration is a list of its keys, one line each:
//!
//! ```
//! use std::time::Duration;
//! use pipeline::config::{self, SecretRef, Section, Url};
//!
//! struct Ats { url: Url, api_key: SecretRef, every: Duration, page_size: u32, note: Option<String> }
//!
//! fn ats(s: &Section) -> Ats {
//!     Ats {
//!         url: s.url("url", config::HTTP).required(),
//!         api_key: s.secret("api_key").required(),
//!         every: s.duration("every").or(Duration::from_secs(300)),
//!         page_size: s.integer("page_size", 1..=50).or(50),
//!         note: s.string("note").optional(),
//!     }
//! }
//!
//! let problems = config::read("muster.toml", "[ats]\nurl = 'https://ats.example'\nevry = '5m'", |root| {
//!     root.section("ats").map(|s| ats(&s))
//! })
//! .map(|_| ())
//! .unwrap_err();
//! assert_eq!(
//!     problems.to_string(),
//!     "muster.toml:1:2: ats.api_key: missing; expected a secret as { env = \"NAME\" } or { file = \"/path\" }\n\
//!      muster.toml:3:1: ats.evry: unknown key; did you mean `every`?"
//! );
//! ```
//!
//! A component that comes in several kinds is read by its tag, after which the `?` no longer hides another problem:
//!
//! ```
//! # use pipeline::config::{self, Section};
//! enum From { File { folder: std::path::PathBuf }, Web { url: config::Url } }
//! struct Source { from: From, page_size: u32 }
//!
//! fn source(s: &Section) -> Option<Source> {
//!     let from = s.tagged("from", &["file", "web"]).map(|(tag, s)| match tag {
//!         "file" => From::File { folder: s.path("folder").required() },
//!         _ => From::Web { url: s.url("url", config::HTTP).required() },
//!     });
//!     Some(Source { page_size: s.integer("page_size", 1..=50).or(50), from: from? })
//! }
//!
//! let read = config::read("muster.toml", "from.file = { folder = '/in' }", source);
//! assert!(read.is_ok_and(|source| source.is_some()));
//! ```
//!
//! A key that is wrong yields a stand-in, so that reading goes on to the next key; the stand-in is never seen, because
//! [`read`] gives the value only when there was no problem. When a [`Section`] is dropped, the keys nobody asked for are
//! reported. Values of secrets appear in no message. The only I/O in here is reading the file and secret files.

mod compound;
mod document;
mod field;
mod kind;
mod nearest;
mod problem;
mod secret;
mod section;
mod tables;
#[cfg(test)]
mod tests;

pub use self::document::{keys, load, read};
pub use self::field::Field;
pub use self::kind::{DATABASE, HTTP, Kind, Scalar};
pub use self::nearest::nearest;
pub use self::problem::{Place, Problem, Problems};
pub use self::secret::{Secret, SecretRef};
pub use self::section::Section;
pub use url::Url;

/// What a single value can be, for [`Section::list`] and [`Section::get`].
pub mod kinds {
    pub use super::kind::{
        boolean, bytes, date, duration, host_port, integer, number, one_of, path, scalar, share, socket_address,
        string, strings, url, zone,
    };
}
