//! The object store that snapshots are kept in: a folder of this machine, or a bucket that is reached by S3's protocol.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::StreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ClientOptions, Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig};

use super::manifest::{FORMAT, Generation, Manifest};
use crate::config::{self, Problem, SecretRef, Section, Url};

/// Larger manifests are somebody else's files: ours have some hundred bytes for each object.
const LARGEST_MANIFEST: u64 = 64 << 20;

const WRITABLE: &str = "give a folder that may be written, in `store.local.path`";

/// A list of generations is asked for so often while the newest of it isn't there: nobody prunes as fast as that.
const LISTED_IN_VAIN: u32 = 5;

/// Where snapshots are kept, as the file has it.
#[derive(Debug, Clone)]
pub enum StoreSettings {
    /// `store.local`
    Local {
        /// The folder.
        path: PathBuf,
    },
    /// `store.s3`
    S3(Box<S3Settings>),
}

/// A bucket, as the file has it.
#[derive(Debug, Clone)]
pub struct S3Settings {
    bucket: String,
    prefix: String,
    endpoint: Option<Url>,
    region: String,
    access_key: SecretRef,
    secret_key: SecretRef,
    virtual_hosts: bool,
    timeout: Duration,
}

impl StoreSettings {
    /// Reads `store.local` or `store.s3` of a section.
    pub fn read(section: &Section<'_>) -> Option<Self> {
        section.tagged("store", &["local", "s3"]).map(|(kind, s)| match kind {
            "local" => Self::Local { path: s.path("path").required() },
            _ => Self::S3(Box::new(S3Settings {
                bucket: s.string("bucket").required(),
                prefix: s.text_or("prefix", "muster"),
                endpoint: s.url("endpoint", config::HTTP).optional(),
                region: s.text_or("region", "us-east-1"),
                access_key: s.secret("access_key").required(),
                secret_key: s.secret("secret_key").required(),
                virtual_hosts: s.bool("virtual_hosts").or(false),
                timeout: s.duration("timeout").or(Duration::from_secs(60)),
            })),
        })
    }

    /// The secrets it needs.
    pub fn secrets(&self) -> Vec<&SecretRef> {
        match self {
            Self::Local { .. } => Vec::new(),
            Self::S3(s3) => vec![&s3.access_key, &s3.secret_key],
        }
    }
}

/// Why the store didn't do it. Named by what the caller does.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Wait and try again.
    #[error("the store of the snapshots is unavailable: {reason}")]
    Unavailable {
        /// What was tried and what came back.
        reason: String,
    },
    /// A person must act.
    #[error("the store of the snapshots refused: {reason} ({hint})")]
    Refused {
        /// What was tried and what came back.
        reason: String,
        /// The way out.
        hint: String,
    },
    /// A secret can't be had.
    #[error("{0}")]
    Secret(Problem),
    /// Something that a manifest names isn't there.
    #[error("{path} isn't in the store of the snapshots")]
    Missing {
        /// The object, from the prefix on.
        path: String,
    },
    /// A manifest isn't what this version of Muster writes.
    #[error("the manifest {path} isn't understood: {reason} (was it written by a newer muster?)")]
    NotUnderstood {
        /// The object, from the prefix on.
        path: String,
        /// What the decoder says.
        reason: String,
    },
}

/// What became of a manifest that was to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// The generation is this one.
    Ours,
    /// Somebody else was first: what was written for it is an orphan.
    Taken,
}

/// The store. Cheap to share.
#[derive(Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
    /// Where they are on this machine.
    folder: Option<PathBuf>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({}, {})", self.objects, self.prefix)
    }
}

impl Store {
    /// Any store of objects, below a prefix.
    pub fn new(objects: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        Self { objects, prefix, folder: None }
    }

    /// Opens the store to write; a local folder is created, a bucket isn't contacted. `env` looks up a variable of the
    /// environment.
    ///
    /// A TLS provider of rustls must have been installed.
    pub fn open(settings: &StoreSettings, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, StoreError> {
        if let StoreSettings::Local { path } = settings {
            private_folder(path).map_err(|error| StoreError::Refused {
                reason: format!("{} can't be created: {error}", path.display()),
                hint: WRITABLE.into(),
            })?;
        }
        Self::open_to_read(settings, env)
    }

    /// The same for those who only read: a folder that isn't there isn't made, for its name may be mistyped.
    pub fn open_to_read(settings: &StoreSettings, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, StoreError> {
        match settings {
            StoreSettings::Local { path } => {
                if !path.is_dir() {
                    return Err(StoreError::Refused {
                        reason: format!("there is no folder {}", path.display()),
                        hint: "correct `store.local.path`; whoever makes snapshots creates the folder".into(),
                    });
                }
                let refused = |reason: String| StoreError::Refused { reason, hint: WRITABLE.into() };
                let local = LocalFileSystem::new_with_prefix(path).map_err(|error| refused(error.to_string()))?;
                // A generation that was published is there after a power cut, too.
                let local = local.with_fsync(true).with_automatic_cleanup(false);
                Ok(Self { folder: Some(path.clone()), ..Self::new(Arc::new(local), Path::default()) })
            }
            StoreSettings::S3(s3) => s3.open(env),
        }
    }

    /// The objects themselves; paths are those of [`Self::path`].
    pub fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    /// Whether it is a folder of this machine.
    pub fn is_local(&self) -> bool {
        self.folder.is_some()
    }

    /// Where the object is that a manifest calls `path`.
    pub fn path(&self, path: &str) -> Result<Path, StoreError> {
        let below = Path::parse(path)
            .map_err(|error| StoreError::NotUnderstood { path: path.to_owned(), reason: error.to_string() })?;
        Ok(self.prefix.parts().chain(below.parts()).collect())
    }

    /// Deletes what killed writers have left of objects that they hadn't finished, and haven't touched since `before`: no list of a
    /// folder shows it. Answers how many. A bucket keeps unfinished uploads until a rule of its own ends them.
    pub async fn sweep_unfinished(&self, before: DateTime<Utc>) -> Result<u64, StoreError> {
        let Some(folder) = self.folder.clone() else { return Ok(0) };
        let both = move || {
            Ok(sweep(&folder.join("data"), before.into())? + sweep(&folder.join("generations"), before.into())?)
        };
        let swept = tokio::task::spawn_blocking(both).await;
        let swept = swept.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        swept.map_err(|error| StoreError::Unavailable { reason: format!("deleting what wasn't finished: {error}") })
    }

    /// The numbers of all generations, from the oldest on.
    pub async fn generations(&self) -> Result<Vec<Generation>, StoreError> {
        let folder = self.path("generations")?;
        let mut found = Vec::new();
        let mut listed = self.objects.list(Some(&folder));
        while let Some(object) = listed.next().await {
            let object = object.map_err(|error| failed("listing generations", &error))?;
            // A copy in a folder below, or under another name, is no generation: it would be asked for in vain.
            let number = object.location.filename().and_then(|name| name.strip_suffix(".json")?.parse().ok());
            let named = number
                .map(Generation)
                .filter(|generation| self.path(&manifest_path(*generation)).is_ok_and(|path| path == object.location));
            found.extend(named);
        }
        found.sort_unstable();
        Ok(found)
    }

    /// The manifest of a generation; `None`: there is no such generation.
    pub async fn manifest(&self, generation: Generation) -> Result<Option<Manifest>, StoreError> {
        let path = manifest_path(generation);
        let Some(bytes) = self.read(&path, LARGEST_MANIFEST).await? else { return Ok(None) };
        let not_understood = |reason: String| StoreError::NotUnderstood { path: path.clone(), reason };
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| not_understood(error.to_string()))?;
        if manifest.format != FORMAT || manifest.generation != generation {
            let (format, number) = (manifest.format, manifest.generation);
            return Err(not_understood(format!("it is of form {format}, and says it is generation {number}")));
        }
        Ok(Some(manifest))
    }

    /// The newest generation. Where the caller knows one, only those after it are looked for, and `None` says that there are
    /// none: two small requests. One that was pruned meanwhile is of no help: then all are listed.
    pub async fn latest(&self, known: Option<&Manifest>) -> Result<Option<Manifest>, StoreError> {
        let known = match known {
            Some(known) if self.is_there(known.generation).await? => Some(known),
            _ => None,
        };
        let mut latest = match known {
            Some(_) => None,
            // What is listed may be pruned meanwhile: then there are newer ones.
            None => {
                let mut tries = 0;
                loop {
                    let Some(last) = self.generations().await?.pop() else { return Ok(None) };
                    if let Some(manifest) = self.manifest(last).await? {
                        break Some(manifest);
                    }
                    tries += 1;
                    if tries >= LISTED_IN_VAIN {
                        let reason = format!("generation {last} is listed, and isn't there");
                        return Err(StoreError::Unavailable { reason });
                    }
                }
            }
        };
        while let Some(newest) = latest.as_ref().or(known) {
            let next = newest.generation.next();
            match self.manifest(next).await {
                Ok(Some(next)) => latest = Some(next),
                Ok(None) => break,
                // One that can't be used doesn't stand in the way of those behind it; whoever knows an older one takes what
                // is newer than that.
                Err(error @ StoreError::NotUnderstood { .. }) => {
                    let last = self.generations().await?.pop().filter(|last| *last > next);
                    let beyond = match last {
                        Some(last) => self.manifest(last).await?,
                        None => None,
                    };
                    match (beyond, latest.is_some() && known.is_some()) {
                        (Some(beyond), _) => latest = Some(beyond),
                        (None, true) => break,
                        (None, false) => return Err(error),
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(latest)
    }

    async fn is_there(&self, generation: Generation) -> Result<bool, StoreError> {
        let path = manifest_path(generation);
        match self.objects.head(&self.path(&path)?).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(failed(&path, &error)),
        }
    }

    /// Publishes a generation, whose objects must all be there, unless somebody else has published one of this number.
    pub async fn publish(&self, manifest: &Manifest) -> Result<Published, StoreError> {
        let path = manifest_path(manifest.generation);
        let bytes = serde_json::to_vec_pretty(manifest)
            .map_err(|error| StoreError::NotUnderstood { path: path.clone(), reason: error.to_string() })?;
        let options = PutOptions::from(PutMode::Create);
        match self.objects.put_opts(&self.path(&path)?, Bytes::from(bytes).into(), options).await {
            Ok(_) => Ok(Published::Ours),
            // An earlier try may have been ours, its answer lost.
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                let ours = self.manifest(manifest.generation).await?.as_ref() == Some(manifest);
                Ok(if ours { Published::Ours } else { Published::Taken })
            }
            Err(error) => Err(failed(&path, &error)),
        }
    }

    /// A whole small object, of at most `most` bytes; `None`: it isn't there.
    pub async fn read(&self, path: &str, most: u64) -> Result<Option<Bytes>, StoreError> {
        let found = match self.objects.get(&self.path(path)?).await {
            Ok(found) => found,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed(path, &error)),
        };
        if found.meta.size > most {
            let reason = format!("{} bytes, more than {most}", found.meta.size);
            return Err(StoreError::NotUnderstood { path: path.to_owned(), reason });
        }
        found.bytes().await.map(Some).map_err(|error| failed(path, &error))
    }
}

/// What a failure of the store means.
pub fn failed(what: &str, error: &Error) -> StoreError {
    let reason = format!("{what}: {error}");
    let hint = match error {
        Error::NotFound { .. } => return StoreError::Missing { path: what.to_owned() },
        Error::PermissionDenied { .. } => "give this key the right to list, read and write below the prefix",
        Error::Unauthenticated { .. } => "check `access_key` and `secret_key`",
        Error::InvalidPath { .. } | Error::NotSupported { .. } | Error::NotImplemented { .. } => {
            "use a store that has conditional puts"
        }
        Error::UnknownConfigurationKey { .. } => "this is a mistake in the program",
        _ => return StoreError::Unavailable { reason },
    };
    StoreError::Refused { reason, hint: hint.into() }
}

fn manifest_path(generation: Generation) -> String {
    format!("generations/{generation}.json")
}

/// Makes a folder, and those above it, for their owner alone: there are records in it.
pub fn private_folder(path: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

impl S3Settings {
    fn open(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<Store, StoreError> {
        let access_key = self.access_key.resolve(env).map_err(StoreError::Secret)?;
        let secret_key = self.secret_key.resolve(env).map_err(StoreError::Secret)?;
        let http = ClientOptions::new().with_timeout(self.timeout).with_connect_timeout(Duration::from_secs(10));
        // Whoever calls tries again, for longer and with its own reasons.
        let retry = RetryConfig { max_retries: 3, retry_timeout: self.timeout, ..RetryConfig::default() };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&self.bucket)
            .with_region(&self.region)
            .with_access_key_id(access_key.expose())
            .with_secret_access_key(secret_key.expose())
            .with_virtual_hosted_style_request(self.virtual_hosts)
            .with_client_options(http)
            .with_retry(retry);
        if let Some(endpoint) = &self.endpoint {
            let is_plain = endpoint.scheme() == "http";
            builder = builder.with_endpoint(endpoint.as_str().trim_end_matches('/')).with_allow_http(is_plain);
        }
        let refused = |reason: String| StoreError::Refused { reason, hint: "check `store.s3`".into() };
        let bucket = builder.build().map_err(|error| refused(error.to_string()))?;
        let prefix = Path::parse(&self.prefix).map_err(|error| refused(error.to_string()))?;
        Ok(Store::new(Arc::new(bucket), prefix))
    }
}

/// An object that is being written has its name and a number behind it, as in `full.json#1`: names of objects have no `#`.
fn sweep(folder: &std::path::Path, before: SystemTime) -> std::io::Result<u64> {
    let mut swept = 0;
    let Some(entries) = still_there(std::fs::read_dir(folder))? else { return Ok(0) };
    for entry in entries {
        let entry = entry?;
        if still_there(entry.file_type())?.is_some_and(|kind| kind.is_dir()) {
            swept += sweep(&entry.path(), before)?;
        }
        if !entry.file_name().to_string_lossy().contains('#') {
            continue;
        }
        let Some(found) = still_there(entry.metadata())? else { continue };
        if found.modified()? < before && still_there(std::fs::remove_file(entry.path()))?.is_some() {
            swept += 1;
        }
    }
    Ok(swept)
}

/// Its writer may have finished meanwhile, or somebody else have deleted it.
fn still_there<T>(found: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match found {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use object_store::PutPayload;
    use object_store::memory::InMemory;

    use super::*;
    use crate::snapshot::manifest::Days;

    fn generation(number: u64, published: i64) -> Manifest {
        Manifest {
            format: FORMAT,
            generation: Generation(number),
            nominal: DateTime::<Utc>::UNIX_EPOCH,
            published: DateTime::from_timestamp(published, 0).unwrap(),
            days: Days::Rolling,
            max_depth: 30,
            datasets: std::collections::BTreeMap::new(),
            history: Vec::new(),
        }
    }

    fn stores(folder: &tempfile::TempDir) -> [Store; 2] {
        let local = StoreSettings::Local { path: folder.path().join("snapshots") };
        let in_memory = Store::new(Arc::new(InMemory::new()), Path::from("site/muster"));
        [Store::open(&local, &|_| None).unwrap(), in_memory]
    }

    #[tokio::test]
    async fn of_two_writers_of_a_generation_one_wins_and_the_winner_may_ask_again() {
        let folder = tempfile::tempdir().unwrap();
        for store in stores(&folder) {
            assert_eq!(store.publish(&generation(1, 10)).await.unwrap(), Published::Ours);
            assert_eq!(store.publish(&generation(1, 20)).await.unwrap(), Published::Taken);
            assert_eq!(store.publish(&generation(1, 10)).await.unwrap(), Published::Ours);
            assert_eq!(store.manifest(Generation(1)).await.unwrap(), Some(generation(1, 10)));
        }
    }

    #[tokio::test]
    async fn the_latest_is_found_from_nothing_and_from_any_that_is_known() {
        let folder = tempfile::tempdir().unwrap();
        for store in stores(&folder) {
            assert_eq!(store.latest(None).await.unwrap(), None);
            for number in 1..=12 {
                store.publish(&generation(number, 0)).await.unwrap();
            }
            let latest = store.latest(None).await.unwrap().unwrap();
            assert_eq!(latest.generation, Generation(12));
            assert_eq!(store.latest(Some(&generation(3, 0))).await.unwrap(), Some(latest.clone()));
            assert_eq!(store.latest(Some(&latest)).await.unwrap(), None);
            assert_eq!(store.generations().await.unwrap().len(), 12);
            // Whoever slept while generations were pruned doesn't wait for one that will never come.
            for number in 1..=5 {
                let path = store.path(&manifest_path(Generation(number))).unwrap();
                store.objects().delete(&path).await.unwrap();
            }
            assert_eq!(store.latest(Some(&generation(3, 0))).await.unwrap(), Some(latest));
        }
    }

    #[tokio::test]
    async fn what_a_killed_writer_has_left_goes_when_it_is_old() {
        let folder = tempfile::tempdir().unwrap();
        let [store, _] = stores(&folder);
        let path = store.path("data/00000001-6f/employees/full.json").unwrap();
        let mut killed = store.objects().put_multipart(&path).await.unwrap();
        killed.put_part(PutPayload::from_static(b"[")).await.unwrap();
        std::mem::forget(killed);
        let finished = store.path("data/00000001-6f/employees/full.parquet").unwrap();
        store.objects().put(&finished, PutPayload::from_static(b"PAR1")).await.unwrap();
        let listed = async || store.objects().list(None).count().await;
        assert_eq!(listed().await, 1, "no list shows it");
        let (hour, now) = (chrono::TimeDelta::hours(1), Utc::now());
        assert_eq!(store.sweep_unfinished(now - hour).await.unwrap(), 0, "somebody may be at it");
        assert_eq!(store.sweep_unfinished(now + hour).await.unwrap(), 1);
        assert_eq!((store.sweep_unfinished(now + hour).await.unwrap(), listed().await), (0, 1));
    }

    /// Those who know the one before waited for ever at the one that is damaged.
    #[tokio::test]
    async fn a_manifest_that_cant_be_used_doesnt_stand_in_the_way_of_the_next() {
        let folder = tempfile::tempdir().unwrap();
        for store in stores(&folder) {
            for number in [1, 2] {
                store.publish(&generation(number, 0)).await.unwrap();
            }
            store.publish(&Manifest { format: 2, ..generation(3, 0) }).await.unwrap();
            assert!(store.latest(Some(&generation(2, 0))).await.is_err(), "it is told of");
            assert!(store.latest(None).await.is_err(), "nobody goes on behind it with the same number");
            assert_eq!(store.latest(Some(&generation(1, 0))).await.unwrap(), Some(generation(2, 0)));
            store.publish(&generation(4, 0)).await.unwrap();
            for known in [1, 2] {
                assert_eq!(store.latest(Some(&generation(known, 0))).await.unwrap(), Some(generation(4, 0)));
            }
        }
    }

    #[tokio::test]
    async fn a_copy_beside_the_manifests_is_no_generation() {
        let folder = tempfile::tempdir().unwrap();
        for store in stores(&folder) {
            store.publish(&generation(1, 0)).await.unwrap();
            for path in ["generations/old/00000007.json", "generations/8.json", "generations/00000009.json.bak"] {
                store.objects().put(&store.path(path).unwrap(), "{}".into()).await.unwrap();
            }
            assert_eq!(store.generations().await.unwrap(), [Generation(1)]);
        }
    }

    #[test]
    fn a_folder_that_isnt_there_is_made_by_those_who_write_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mistyped = StoreSettings::Local { path: folder.path().join("snapshts") };
        let told = Store::open_to_read(&mistyped, &|_| None).unwrap_err().to_string();
        assert!(told.contains("there is no folder") && told.contains("store.local.path"), "{told}");
        assert!(!folder.path().join("snapshts").exists());
        Store::open(&mistyped, &|_| None).unwrap();
        Store::open_to_read(&mistyped, &|_| None).unwrap();
    }

    #[tokio::test]
    async fn a_manifest_of_another_form_is_told_by_its_name() {
        let store = Store::new(Arc::new(InMemory::new()), Path::default());
        store.publish(&Manifest { format: 2, ..generation(1, 0) }).await.unwrap();
        let told = store.latest(None).await.unwrap_err().to_string();
        assert!(told.contains("generations/00000001.json") && told.contains("form 2"), "{told}");
    }

    #[tokio::test]
    async fn no_path_of_a_manifest_leads_out_of_the_prefix() {
        let store = Store::new(Arc::new(InMemory::new()), Path::from("site"));
        assert_eq!(store.path("data/1/full.json").unwrap().as_ref(), "site/data/1/full.json");
        for path in ["../lease.json", "data/../../x", "data/./x", "data//x"] {
            assert!(matches!(store.path(path), Err(StoreError::NotUnderstood { .. })), "{path}");
        }
    }
}
