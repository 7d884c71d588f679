//! Clients that read answers over HTTP/1.1 and throw them away: a thread each, with a buffer of its own, for a client that
//! does more would be what is measured.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

/// An answer that doesn't come within so long is a failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is read at once.
const BUFFER: usize = 256 << 10;

/// What is asked for, as it goes over the network.
#[derive(Debug, Clone)]
pub struct Request {
    /// Of the server.
    pub address: SocketAddr,
    /// Request line and headers.
    pub head: String,
}

impl Request {
    /// `headers`: each with its line end.
    pub fn get(address: SocketAddr, path: &str, headers: &str) -> Self {
        Self { address, head: format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n{headers}\r\n") }
    }
}

/// A client with its connection.
pub struct Reader<'r> {
    request: &'r Request,
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl<'r> Reader<'r> {
    /// Connects.
    pub fn connect(request: &'r Request) -> Result<Self> {
        let stream = TcpStream::connect(request.address).context("connecting")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { request, stream, buffer: vec![0; BUFFER] })
    }

    /// Asks once and reads the answer to its end, or until `until`. Answers when the first byte came, and how many of the body there
    /// were; `None`: time was up before the end.
    pub fn read(&mut self, until: Option<Instant>, bytes: &AtomicU64) -> Result<Option<Instant>> {
        self.stream.write_all(self.request.head.as_bytes())?;
        let mut held = 0;
        let mut first = None;
        let (end, length) = loop {
            ensure!(held < self.buffer.len(), "headers without an end");
            let read = self.stream.read(&mut self.buffer[held..])?;
            ensure!(read > 0, "the server has closed the connection");
            first.get_or_insert_with(Instant::now);
            held += read;
            if let Some(end) = find(&self.buffer[..held], b"\r\n\r\n") {
                break (end + 4, length(&self.buffer[..end])?);
            }
        };
        let mut left = length.saturating_sub((held - end) as u64);
        bytes.fetch_add((held - end) as u64, Ordering::Relaxed);
        while left > 0 {
            if until.is_some_and(|until| Instant::now() > until) {
                return Ok(None);
            }
            let most = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
            let read = self.stream.read(&mut self.buffer[..most])?;
            ensure!(read > 0, "the answer has broken off");
            bytes.fetch_add(read as u64, Ordering::Relaxed);
            left -= read as u64;
        }
        Ok(first)
    }
}

fn length(head: &[u8]) -> Result<u64> {
    let head = std::str::from_utf8(head)?;
    let (line, headers) = head.split_once("\r\n").context("an answer without headers")?;
    ensure!(line.contains(" 200 "), "{line}");
    let mut fields = headers.split("\r\n").filter_map(|field| field.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    Ok(length.context("an answer without its length")?.1.trim().parse()?)
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// How much was read.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Of bodies, whole or not.
    pub bytes: f64,
    /// Answers that were read to their end.
    pub answers: f64,
    /// How long it took.
    pub seconds: f64,
}

/// So many clients ask again and again for so long.
pub fn load(request: &Request, clients: usize, within: Duration) -> Result<Load> {
    let (bytes, answers) = (AtomicU64::new(0), AtomicU64::new(0));
    let began = Instant::now();
    let until = began + within;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    let mut reader = Reader::connect(request)?;
                    while Instant::now() < until && reader.read(Some(until), &bytes)?.is_some() {
                        answers.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a client has failed"))?)
    })?;
    let seconds = began.elapsed().as_secs_f64();
    let count = |of: &AtomicU64| of.load(Ordering::Relaxed) as f64;
    Ok(Load { bytes: count(&bytes), answers: count(&answers), seconds })
}

/// So many clients ask at a fixed rate, whatever the answers take, each when it is free. Answers how long after the time at
/// which it was to be asked each answer's first byte came, in ms.
pub fn at_rate(request: &Request, clients: usize, a_second: f64, within: Duration) -> Result<Vec<f64>> {
    let count = (a_second * within.as_secs_f64()).ceil() as u64;
    let (next, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    // When all are connected.
    let began = Instant::now() + Duration::from_millis(200);
    let times: Result<Vec<Vec<f64>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(|| -> Result<Vec<f64>> {
                    let mut reader = Reader::connect(request)?;
                    let mut times = Vec::new();
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return Ok(times);
                        }
                        let due = began + Duration::from_secs_f64(number as f64 / a_second);
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                        let first = reader.read(None, &bytes)?.context("an answer")?;
                        times.push(first.duration_since(due).as_secs_f64() * 1e3);
                    }
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a client has failed"))?).collect()
    });
    Ok(times?.concat())
}
