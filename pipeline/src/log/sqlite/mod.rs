//! The embedded log: topics in one SQLite file, for one machine and one process. Durable, compacted, restartable.
//! Neighbours: `kafka` for more than one process, `memory` for tests.
//!
//! One `writer` gathers concurrent appends into one transaction; readers have a small pool of connections and are
//! woken by the writer. Topics and ends are kept in memory: this process is the only one that changes them.

mod compaction;
mod error;
mod headers;
mod lock;
mod reader;
mod schema;
mod statements;
mod subscription;
#[cfg(test)]
mod tests;
mod topics;
mod writer;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::SqlitePool;
use sqlx::sqlite::SqlitePoolOptions;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

pub use self::compaction::Compacted;
use self::error::{classify, closed};
use self::lock::Lock;
pub use self::lock::{Holder, holder};
use self::reader::{Cursor, SqliteReader};
use self::subscription::SqliteSubscription;
use self::topics::{Topic, Topics};
use self::writer::{Job, Writer};
use super::{
    Append, Committed, Ends, Log, LogError, NewTopic, Offset, Reader, Subscription, TopicInfo, TopicPartition, settings,
};
use crate::clock::{Clock, SystemClock};

/// What a [`SqliteLog`] may take and how often it cleans up.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// The most records handed out at once.
    pub chunk_records: usize,
    /// The most bytes handed out at once; a single larger record still passes.
    pub chunk_bytes: usize,
    /// The most bytes of appends that wait for the writer; callers beyond wait.
    pub queue_bytes: usize,
    /// How often topics are looked at for compaction; `None`: only when asked.
    pub compact_every: Option<Duration>,
    /// What compaction may hold in memory.
    pub compaction_bytes: usize,
    /// The most the file may take; beyond it appends are refused.
    pub max_bytes: Option<u64>,
    /// Stamps records and wakes the compaction.
    pub clock: Arc<dyn Clock>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            chunk_records: 1000,
            chunk_bytes: 2 << 20,
            queue_bytes: 16 << 20,
            compact_every: Some(Duration::from_secs(300)),
            compaction_bytes: 32 << 20,
            max_bytes: None,
            clock: Arc::new(SystemClock),
        }
    }
}

/// A log in one SQLite file. Clones share it; the file is released by [`Self::close`], or soon after the last clone,
/// reader and subscription are gone.
#[derive(Clone)]
pub struct SqliteLog {
    shared: Arc<Shared>,
}

/// What users hold. When the last of them is gone, the writer ends.
struct Shared {
    core: Arc<Core>,
    pool: SqlitePool,
    /// Groups that have a member.
    members: Mutex<BTreeSet<String>>,
    jobs: mpsc::Sender<Job>,
    /// KiB of appends that may still wait for the writer.
    room: Arc<Semaphore>,
    fetched: AtomicU64,
}

/// What the writer and its users share.
struct Core {
    path: PathBuf,
    options: SqliteOptions,
    topics: Mutex<Topics>,
    /// Changes when something was appended, and when the log closes.
    news: watch::Sender<u64>,
    closed: AtomicBool,
    /// Given back by the writer when it has ended.
    lock: Mutex<Option<Lock>>,
}

/// Calls that may wait for the writer; more wait to be let in.
const QUEUE: usize = 1024;

/// Readers beyond this wait for each other.
const READ_CONNECTIONS: u32 = 4;

impl SqliteLog {
    /// Opens the log at `path`, or makes it. [`LogError::Refused`] when another process has it (it is named), when the
    /// file is damaged, of another program, or of a newer muster.
    pub async fn open(path: &Path, options: SqliteOptions) -> Result<Self, LogError> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|err| LogError::Refused {
                reason: format!("{} can't be made: {err}", folder.display()),
                hint: "give the embedded log a folder that muster may write".into(),
            })?;
        }
        let lock = Lock::take(path)?;
        let mut connection = schema::connect_writer(path, &options).await?;
        let topics = Topics::load(&mut connection).await.map_err(|err| classify(path, &err))?;
        let pool = SqlitePoolOptions::new()
            .max_connections(READ_CONNECTIONS)
            .test_before_acquire(false)
            .connect_lazy_with(schema::readers(path));
        let (jobs, inbox) = mpsc::channel(QUEUE);
        let room = Arc::new(Semaphore::new(options.queue_kib() as usize));
        let compact_every = options.compact_every;
        let core = Arc::new(Core {
            path: path.to_owned(),
            options,
            topics: Mutex::new(topics),
            news: watch::Sender::new(0),
            closed: AtomicBool::new(false),
            lock: Mutex::new(Some(lock)),
        });
        tokio::spawn(Writer::new(core.clone(), connection).run(inbox));
        let shared = Arc::new(Shared { core, pool, members: Mutex::default(), jobs, room, fetched: AtomicU64::new(0) });
        if let Some(every) = compact_every {
            let clock = shared.core.options.clock.clone();
            tokio::spawn(compaction::keep_compact(Arc::downgrade(&shared), clock, every));
        }
        Ok(Self { shared })
    }

    /// Writes where this process takes commands into the lock file, for [`holder`] to find.
    pub fn set_contact(&self, socket: &Path) -> Result<(), LogError> {
        let mut lock = self.shared.core.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = lock.as_mut().ok_or_else(closed)?;
        lock.write(Some(socket)).map_err(|err| LogError::Refused {
            reason: format!("the lock file of {} can't be written: {err}", self.shared.core.path.display()),
            hint: "make room on the disk".into(),
        })
    }

    /// Ends the writer after what is queued, and lets go of the file. Everybody who still reads is told
    /// [`LogError::Unavailable`].
    pub async fn close(&self) {
        self.shared.core.closed.store(true, Ordering::Relaxed);
        self.shared.core.tell();
        let (reply, ended) = oneshot::channel();
        if self.shared.jobs.send(Job::Close { reply }).await.is_ok() {
            // The writer answers by dropping it, when it has let go.
            drop(ended.await);
        }
        self.shared.pool.close().await;
    }

    /// Deletes a topic and makes it anew, empty. What groups had committed for it goes with it. Readers behind its
    /// start are told [`LogError::OutOfRange`].
    pub async fn recreate_topic(&self, topic: &str, partitions: u32) -> Result<(), LogError> {
        self.shared.core.topic(topic)?;
        let (reply, answer) = oneshot::channel();
        self.shared.send(Job::Recreate { topic: topic.into(), partitions, reply }, answer).await
    }

    /// Removes superseded records and old tombstones of all topics, by their settings `min.compaction.lag.ms` and
    /// `delete.retention.ms` as of `now`, in small transactions. The last record of a partition stays, so that its end
    /// never steps back.
    pub async fn compact(&self, now: chrono::DateTime<chrono::Utc>) -> Result<Compacted, LogError> {
        compaction::compact(&self.shared, now, compaction::Eagerness::All).await
    }

    /// How many records were read from the file for readers and members since it was opened.
    pub fn fetched(&self) -> u64 {
        self.shared.fetched.load(Ordering::Relaxed)
    }
}

impl SqliteOptions {
    fn queue_kib(&self) -> u32 {
        u32::try_from(self.queue_bytes.div_ceil(1024)).unwrap_or(u32::MAX).max(1)
    }
}

impl Core {
    fn topics(&self) -> MutexGuard<'_, Topics> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn topic(&self, name: &str) -> Result<Arc<Topic>, LogError> {
        self.topics().get(name).ok_or_else(|| LogError::UnknownTopic { topic: name.into() })
    }

    fn check_open(&self) -> Result<(), LogError> {
        if self.closed.load(Ordering::Relaxed) { Err(closed()) } else { Ok(()) }
    }

    fn error(&self, err: &sqlx::Error) -> LogError {
        classify(&self.path, err)
    }

    /// Wakes everybody who waits for something new.
    fn tell(&self) {
        self.news.send_modify(|count| *count += 1);
    }
}

impl Shared {
    /// Hands work to the writer and waits for its answer.
    async fn send<T>(&self, job: Job, answer: oneshot::Receiver<Result<T, LogError>>) -> Result<T, LogError> {
        self.core.check_open()?;
        self.jobs.send(job).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}

#[async_trait]
impl Log for SqliteLog {
    async fn create(&self, topics: &[NewTopic]) -> Result<(), LogError> {
        topics.iter().try_for_each(settings::check_topic)?;
        let (reply, answer) = oneshot::channel();
        self.shared.send(Job::Create { topics: topics.to_vec(), reply }, answer).await
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, LogError> {
        self.shared.core.check_open()?;
        Ok(self.shared.core.topics().iter().map(|topic| topic.info()).collect())
    }

    async fn append(&self, records: Vec<Append>) -> Result<Vec<Offset>, LogError> {
        let mut bytes = 0;
        {
            let topics = self.shared.core.topics();
            for (index, record) in records.iter().enumerate() {
                bytes += topics.check(record, index)?;
            }
        }
        // A call larger than the whole queue waits until it is alone.
        let share = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX).min(self.shared.core.options.queue_kib());
        let room = self.shared.room.clone().acquire_many_owned(share).await.map_err(|_| closed())?;
        let (reply, answer) = oneshot::channel();
        self.shared.send(Job::Append { records, bytes, _room: room, reply }, answer).await
    }

    async fn ends(&self, topic: &str) -> Result<Vec<Ends>, LogError> {
        self.shared.core.check_open()?;
        let topic = self.shared.core.topic(topic)?;
        Ok(topic.ends())
    }

    async fn read(&self, from: &[(TopicPartition, Offset)]) -> Result<Box<dyn Reader>, LogError> {
        let cursors: Result<Vec<_>, _> =
            from.iter().map(|(at, from)| Cursor::new(&self.shared.core, at, *from)).collect();
        Ok(Box::new(SqliteReader::new(self.shared.clone(), cursors?)))
    }

    async fn subscribe(&self, group: &str, topics: &[Arc<str>]) -> Result<Box<dyn Subscription>, LogError> {
        Ok(Box::new(SqliteSubscription::join(self.shared.clone(), group, topics)?))
    }

    async fn committed(&self, group: &str, of: &[TopicPartition]) -> Result<Vec<Option<Committed>>, LogError> {
        let mut all = Vec::with_capacity(of.len());
        for at in of {
            all.push(subscription::committed(&self.shared, group, at).await?);
        }
        Ok(all)
    }
}
