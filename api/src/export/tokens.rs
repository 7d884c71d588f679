//! Which keys are valid. All live tokens are kept in memory and read again every second, so that a token that is revoked stops
//! working everywhere within five seconds, a new one works within two, and somebody who guesses keys never reaches the
//! database.
//!
//! Keys are looked up by their keyed hash. How long a look-up takes may depend on the hash, but whoever doesn't know the secret
//! can't choose a hash, nor learn from one how near its key is to another: there is nothing to time.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use hmac::{Hmac, Mac};
use pipeline::config::Secret;
use pipeline::operations::{LiveToken, Operations};
use sha2::Sha256;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often the tokens are read again.
const EVERY: Duration = Duration::from_secs(1);

/// What all keys begin with, so that they are found where they were left lying about.
const BEGINS: &str = "mst_";

/// A shorter secret could be guessed.
pub const SHORTEST_PEPPER: usize = 16;

/// Makes keyed hashes of keys, with a secret of the site.
#[derive(Clone)]
pub struct Pepper(Secret);

/// The secret is too short, or no key can be made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The secret is too short.
    #[error(
        "the secret in `export.pepper` has less than {SHORTEST_PEPPER} bytes: make one with `openssl rand -base64 32`"
    )]
    ShortPepper,
    /// The system has no randomness.
    #[error("the system gives no random bytes: {0}")]
    NoRandomness(String),
}

impl Pepper {
    /// Takes the secret.
    pub fn new(secret: Secret) -> Result<Self, KeyError> {
        if secret.expose().len() < SHORTEST_PEPPER { Err(KeyError::ShortPepper) } else { Ok(Self(secret)) }
    }

    /// What is stored of a key: HMAC-SHA-256, in hexadecimal digits.
    pub fn hash(&self, key: &[u8]) -> String {
        self.digest(key).iter().fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a string doesn't fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    pub(super) fn digest(&self, key: &[u8]) -> Digest {
        // HMAC takes keys of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.expose().as_bytes()).expect("a key of any length");
        mac.update(key);
        mac.finalize().into_bytes().into()
    }
}

/// A new key: 32 random bytes. It is shown once, and stored nowhere.
pub fn new_key() -> Result<Secret, KeyError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| KeyError::NoRandomness(error.to_string()))?;
    Ok(Secret::new(format!("{BEGINS}{}", URL_SAFE_NO_PAD.encode(bytes))))
}

/// The keyed hash of a key.
pub(super) type Digest = [u8; 32];

/// Whoever has a valid key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) id: String,
    pub(super) label: String,
    scopes: BTreeSet<String>,
    expires: Option<DateTime<Utc>>,
}

impl Caller {
    pub(super) fn may(&self, scope: &str) -> bool {
        self.scopes.contains(scope)
    }
}

/// What is known of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Valid(Arc<Caller>),
    Invalid,
    /// The operations database is away for too long to know.
    Unknown,
}

/// All live tokens.
pub(super) struct Tokens {
    operations: Operations,
    grace: Duration,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    callers: Arc<HashMap<Digest, Arc<Caller>>>,
    refreshed: Option<Instant>,
    failing: bool,
}

impl Tokens {
    /// `grace`: for so long after the database was last heard of, what was known holds.
    pub(super) fn new(operations: Operations, grace: Duration) -> Self {
        Self { operations, grace, known: Mutex::default() }
    }

    pub(super) fn check(&self, digest: &Digest, now: DateTime<Utc>) -> Verdict {
        let known = self.known();
        if known.refreshed.is_none_or(|at| at.elapsed() > self.grace) {
            return Verdict::Unknown;
        }
        match known.callers.get(digest) {
            Some(caller) if caller.expires.is_none_or(|at| now < at) => Verdict::Valid(Arc::clone(caller)),
            _ => Verdict::Invalid,
        }
    }

    /// Whether what is known holds.
    pub(super) fn hold(&self) -> bool {
        self.known().refreshed.is_some_and(|at| at.elapsed() <= self.grace)
    }

    /// Reads them again every second, until told to stop.
    pub(super) async fn follow(&self, stop: CancellationToken) {
        loop {
            let refresh = async {
                self.refresh().await;
                tokio::time::sleep(EVERY).await;
            };
            tokio::select! {
                () = refresh => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Reads them again.
    pub(super) async fn refresh(&self) {
        // What is read was true when it was asked for.
        let asked = Instant::now();
        let live = self.operations.live_tokens(Utc::now()).await;
        let mut known = self.known();
        match live {
            Ok(live) => {
                known.callers = Arc::new(live.into_iter().filter_map(caller).collect());
                known.refreshed = Some(asked);
                if std::mem::take(&mut known.failing) {
                    tracing::info!("tokens can be read again");
                }
            }
            Err(error) if !std::mem::replace(&mut known.failing, true) => {
                let grace_s = self.grace.as_secs();
                tracing::warn!(error = %error, grace_s, "tokens can't be read: those that are known hold for a while");
            }
            Err(_) => {}
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn caller(token: LiveToken) -> Option<(Digest, Arc<Caller>)> {
    let digest = bytes_of(&token.hash);
    if digest.is_none() {
        tracing::warn!(token = token.id, "the hash of a token can't be one: it isn't valid");
    }
    let scopes = token.scopes.into_iter().collect();
    Some((digest?, Arc::new(Caller { id: token.id, label: token.label, scopes, expires: token.expires })))
}

fn bytes_of(hash: &str) -> Option<Digest> {
    let mut digest = [0; 32];
    if hash.len() != 64 || !hash.is_ascii() {
        return None;
    }
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hash[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn keys_are_long_differ_and_are_hashed_with_the_secret() {
        let (one, other) = (new_key().unwrap(), new_key().unwrap());
        assert_ne!(one.expose(), other.expose());
        assert!(one.expose().starts_with("mst_") && one.expose().len() == 4 + 43, "{}", one.expose().len());
        let pepper = |secret: &str| Pepper::new(Secret::new(secret)).unwrap();
        let hash = pepper("a secret of this site").hash(one.expose().as_bytes());
        assert_ne!(hash, pepper("another secret of it").hash(one.expose().as_bytes()));
        assert_eq!(bytes_of(&hash), Some(pepper("a secret of this site").digest(one.expose().as_bytes())));
        assert!(Pepper::new(Secret::new("short")).is_err());
        // RFC 4231, test case 2, with a longer secret of our own: `printf key | openssl dgst -sha256 -hmac …`.
        assert_eq!(
            pepper("0123456789abcdef").hash(b"what do ya want for nothing?"),
            "e9265dc1bf18d4ec36915d9e82226c7ea0fa4e7f8077f611515bd5e29ec9988c"
        );
    }
}
