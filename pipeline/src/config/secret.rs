//! Secrets: the configuration names where they are, never what they are.

use std::fmt;
use std::io::Read;
use std::path::PathBuf;

use super::problem::{Place, Problem};

/// Longer than any key or token; what is longer is the wrong file.
const LONGEST_SECRET: u64 = 64 * 1024;

/// Where a secret is: `{ env = "NAME" }` or `{ file = "/path" }`.
#[derive(Clone, Debug)]
pub struct SecretRef {
    pub(super) from: Origin,
    pub(super) place: Place,
}

#[derive(Clone, Debug)]
pub(super) enum Origin {
    Env(String),
    File(PathBuf),
}

impl SecretRef {
    /// Fetches the secret. `env` looks up a variable: only the binary reads the environment.
    ///
    /// A file may be up to 64 KiB of UTF-8; one line end at its end is taken off. The problem names the key and its line.
    pub fn resolve(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<Secret, Problem> {
        let secret = match &self.from {
            Origin::Env(name) => env(name).ok_or_else(|| {
                self.place
                    .problem(format!("the environment variable {name} isn't set"))
                    .expected("it to hold the secret")
            })?,
            Origin::File(path) => {
                self.read(path).map_err(|why| self.place.problem(format!("the file {}: {why}", path.display())))?
            }
        };
        if secret.is_empty() {
            let what = match &self.from {
                Origin::Env(name) => format!("the environment variable {name}"),
                Origin::File(path) => format!("the file {}", path.display()),
            };
            return Err(self.place.problem(format!("{what} is empty")).expected("it to hold the secret"));
        }
        Ok(Secret(secret))
    }

    /// Where the reference stands in the configuration.
    pub fn place(&self) -> &Place {
        &self.place
    }

    fn read(&self, path: &PathBuf) -> Result<String, String> {
        let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        file.take(LONGEST_SECRET + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        if bytes.len() as u64 > LONGEST_SECRET {
            return Err(format!("longer than {LONGEST_SECRET} bytes, so it can't be a secret"));
        }
        // Not the decoder's own error: it would hold the bytes.
        let text = String::from_utf8(bytes).map_err(|_| "isn't UTF-8 text".to_owned())?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
    }
}

/// A resolved secret. It can't be printed by accident: use [`Secret::expose`] where it is sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// For secrets that don't come from the configuration (tests, generated tokens).
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
