//! A connection that is cut off when its client takes too little for too long.
//!
//! The rule: of each stretch of time that is spent waiting for the client (by default a minute), it has to take at least
//! `bytes_per_second` on average. Time in which there is nothing to send, or in which the store is waited for, doesn't count. So
//! whoever has stopped reading is cut off after one such stretch.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How little is too little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaceSettings {
    /// On average.
    pub bytes_per_second: u64,
    /// Over so much time of waiting for the client.
    pub over: Duration,
}

impl Default for PaceSettings {
    fn default() -> Self {
        Self { bytes_per_second: 10 * 1024, over: Duration::from_secs(60) }
    }
}

/// What those who answer on a connection can know of it.
#[derive(Debug, Default)]
pub(super) struct Connection {
    cut_off: AtomicBool,
}

impl Connection {
    /// Whether it was cut off by the rule.
    pub(super) fn was_slow(&self) -> bool {
        self.cut_off.load(Ordering::Acquire)
    }
}

/// A stream that keeps the rule.
pub(super) struct Paced<S> {
    stream: S,
    settings: PaceSettings,
    connection: Arc<Connection>,
    /// In the present stretch: how long was waited, and how much was taken.
    waited: Duration,
    taken: u64,
    waiting: Option<Waiting>,
}

struct Waiting {
    since: Instant,
    /// When the present stretch is over.
    over: Pin<Box<Sleep>>,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S, settings: PaceSettings, connection: Arc<Connection>) -> Self {
        Self { stream, settings, connection, waited: Duration::ZERO, taken: 0, waiting: None }
    }

    /// Of a write that the client has no room for: waits, or gives up.
    fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let begins = self.waiting.is_none() && self.waited.is_zero();
        if begins {
            // What went into the systems' buffers before says nothing of the client.
            self.taken = 0;
        }
        loop {
            let left = self.settings.over.saturating_sub(self.waited);
            let waiting = self.waiting.get_or_insert_with(|| {
                let since = Instant::now();
                Waiting { since, over: Box::pin(tokio::time::sleep_until(since + left)) }
            });
            ready!(waiting.over.as_mut().poll(cx));
            self.waiting = None;
            let enough = u128::from(self.settings.bytes_per_second) * self.settings.over.as_millis() / 1_000;
            if u128::from(self.taken) < enough {
                self.connection.cut_off.store(true, Ordering::Release);
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads too slowly")));
            }
            (self.waited, self.taken) = (Duration::ZERO, 0);
        }
    }

    /// Of a write that the client had room for.
    fn took(&mut self, bytes: usize) {
        if let Some(waiting) = self.waiting.take() {
            self.waited += waiting.since.elapsed();
        }
        self.taken += bytes as u64;
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, bytes) {
            Poll::Pending => self.wait(cx),
            Poll::Ready(written) => {
                self.took(*written.as_ref().unwrap_or(&0));
                Poll::Ready(written)
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(cx, bytes) {
            Poll::Pending => self.wait(cx),
            Poll::Ready(written) => {
                self.took(*written.as_ref().unwrap_or(&0));
                Poll::Ready(written)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const RULE: PaceSettings = PaceSettings { bytes_per_second: 100, over: Duration::from_secs(60) };

    /// A client that takes so many bytes of 100,000 every second, until it is cut off or has all of them.
    async fn read(bytes_per_second: usize) -> (Duration, bool) {
        let (ours, mut theirs) = duplex(64);
        let connection = Arc::new(Connection::default());
        let mut paced = Paced::new(ours, RULE, Arc::clone(&connection));
        let client = tokio::spawn(async move {
            let mut buffer = vec![0; bytes_per_second];
            while theirs.read_exact(&mut buffer).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let began = Instant::now();
        let written = paced.write_all(&[7; 100_000]).await;
        assert_eq!(written.is_err(), connection.was_slow());
        drop(paced);
        client.await.unwrap();
        (began.elapsed(), connection.was_slow())
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_takes_too_little_for_a_minute_is_cut_off_and_whoever_takes_enough_is_not() {
        let (after, was_slow) = read(90).await;
        assert!(was_slow && after < Duration::from_secs(70), "{after:?}");
        let (after, was_slow) = read(120).await;
        assert!(!was_slow && after > Duration::from_secs(700), "{after:?}");
    }

    /// Breaks when what was taken before the first wait counts.
    #[tokio::test(start_paused = true)]
    async fn what_the_systems_buffers_took_at_once_does_not_count() {
        let (ours, _theirs) = duplex(1_000_000);
        let connection = Arc::new(Connection::default());
        let mut paced = Paced::new(ours, RULE, Arc::clone(&connection));
        let began = Instant::now();
        paced.write_all(&vec![7; 2_000_000]).await.unwrap_err();
        assert!(connection.was_slow() && began.elapsed() < Duration::from_secs(61), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nothing_is_to_be_sent_does_not_count() {
        let (ours, mut theirs) = duplex(1_000);
        let mut paced = Paced::new(ours, RULE, Arc::default());
        let mut buffer = [0; 500];
        for _ in 0..10 {
            paced.write_all(&[7; 500]).await.unwrap();
            // The store is slow; the client isn't.
            tokio::time::sleep(Duration::from_secs(300)).await;
            theirs.read_exact(&mut buffer).await.unwrap();
        }
    }
}
