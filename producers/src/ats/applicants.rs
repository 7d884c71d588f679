//! Reads the applicants of a window of days: pages in waves, in passes that are repeated until one brings nothing new.
//!
//! Offset paging over rows that change while one pages skips and repeats them. So a window counts as read only after
//! a pass that brought nothing new and was as long as the one before it, and `complete_to` is the moment before that
//! pass's first request. (Day precision takes nothing from it: a window begins with a whole day and ends tomorrow.)
//! After `max_passes` the run ends without moving `complete_to`, and the log says why.
//!
//! A page is one wave. Only an empty answer is the end of the data. A short one isn't: rows are taken in order, each
//! wave begins right after the last row received, and when the server turns out to serve smaller pages than were
//! asked for, smaller ones are asked for. Rows that an earlier pass brought just as they are now are not made into
//! changes again, and not counted.
//!
//! A process that starts again in the middle of a window goes on at its offset. What the passes have brought is
//! forgotten then, so whatever else the interrupted pass brings is new, and another pass follows.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, SubsecRound, Utc};
use futures::future::try_join_all;
use pipeline::change::Change;
use pipeline::clock::Clock;
use pipeline::reject::Reject;
use pipeline::source::{Ask, Page, Position, Source, SourceError};
use tracing::{debug, warn};
use xxhash_rust::xxh3::xxh3_64;

use super::AtsFeed;
use super::client::Client;
use super::config::AtsConfig;
use super::decode::split::{self, Element};
use super::decode::{self, Decoder};
use super::memory::{Memory, Resumed, Seen};
use super::page::Builder;
use super::position::{At, Reading};

/// The source of the applicants.
pub(super) struct Applicants {
    client: Arc<Client>,
    config: Arc<AtsConfig>,
    clock: Arc<dyn Clock>,
    decoder: Decoder,
    memory: Memory,
    server: Server,
}

/// What this window has shown of the server's paging. Forgetting it costs requests, no rows.
#[derive(Debug, Clone)]
struct Server {
    /// Rows to ask for per page.
    page_size: u64,
    /// Rows of the last page taken, when it was a short one: the end is near, or pages are smaller than we think.
    short: Option<u64>,
    /// The last page taken that had several rows.
    last_page: Option<u64>,
}

impl Server {
    fn new(config: &AtsConfig) -> Self {
        Self { page_size: config.page_size.max(1).into(), short: None, last_page: None }
    }
}

/// What follows on a wave.
enum After {
    /// Another one, of this pass or the next.
    Pass(Reading),
    /// Nothing: the window has been read, and with it all changes up to this moment.
    Complete(Option<DateTime<Utc>>),
    /// Nothing: no pass was without news.
    GaveUp,
}

/// The rows of a wave that follow each other without a gap.
struct Wave<'a> {
    rows: Vec<Element<'a>>,
    /// Nothing lies behind them.
    end: bool,
}

impl Applicants {
    pub(super) fn new(client: Arc<Client>, config: Arc<AtsConfig>, clock: Arc<dyn Clock>) -> Self {
        let decoder = Decoder::new(AtsFeed::Applicants, config.zone);
        let memory = Memory::new(usize::try_from(config.max_records).unwrap_or(usize::MAX));
        let server = Server::new(&config);
        Self { client, config, clock, decoder, memory, server }
    }

    async fn fetch(&self, reading: &Reading) -> Result<Vec<Vec<u8>>, SourceError> {
        // After a short page the next one is most likely empty: one request is enough to know.
        let pages = if self.server.short.is_some() { 1 } else { u64::from(self.config.concurrency.max(1)) };
        let size = self.server.page_size;
        let page = |number: u64| {
            let mut query = vec![
                ("next", size.to_string()),
                ("offset", (reading.skip + reading.offset + number * size).to_string()),
            ];
            if let Some(window) = reading.window {
                query.push(("from", window.from.to_string()));
                query.push(("to", window.to.to_string()));
            }
            async move { self.client.get(AtsFeed::Applicants, &query).await }
        };
        try_join_all((0..pages).map(page)).await
    }

    /// Takes the pages of a wave in order, up to the first that doesn't follow on the rows before it.
    fn take<'a>(&mut self, bodies: &'a [Vec<u8>]) -> Result<Wave<'a>, SourceError> {
        let mut wave = Wave { rows: Vec::new(), end: false };
        let size = self.server.page_size;
        let mut follows = true;
        for body in bodies {
            let page = split::elements(body).map_err(|why| self.client.not_a_list(AtsFeed::Applicants, why))?;
            let length = page.len() as u64;
            if !follows {
                // This page begins behind a gap; rows in it prove that the gap isn't the end.
                if length > 0 {
                    self.server.page_size = self.server.short.take().unwrap_or(size).max(length).min(size);
                    break;
                }
                continue;
            }
            if length == 0 {
                wave.end = true;
                break;
            }
            self.check_moves_on(body, length)?;
            if let Some(short) = self.server.short.take() {
                self.server.page_size = short.max(length).min(size);
            }
            wave.rows.extend(page);
            follows = length == size;
            self.server.short = (length < size).then_some(length);
            if length > size {
                self.server.page_size = length;
                break;
            }
        }
        Ok(wave)
    }

    /// A server that ignores `offset` would be read for ever.
    fn check_moves_on(&mut self, body: &[u8], length: u64) -> Result<(), SourceError> {
        // One row can come twice when another is inserted before it.
        let hash = (length > 1).then(|| xxh3_64(body));
        let stands_still = hash.is_some() && hash == self.server.last_page;
        self.server.last_page = hash;
        if stands_still {
            let reason =
                format!("pages at different offsets are the same, {length} rows each: `offset` seems to be ignored");
            return Err(self.client.unavailable(reason, None));
        }
        Ok(())
    }

    fn check_bound(&self, reading: &Reading) -> Result<(), SourceError> {
        let most = self.config.max_records;
        if reading.offset <= most {
            return Ok(());
        }
        let reason = format!("GET {}: more than {most} rows and no end", self.config.paths.applicants);
        Err(self.client.refused(reason, "raise `max_records` if there really are so many applicants"))
    }

    /// What follows on a pass.
    fn pass_ends(&self, reading: Reading) -> After {
        let stable = reading.is_stable();
        let (pass, rows) = (reading.pass, reading.offset);
        debug!(source = "ats", feed = "applicants", pass, rows, stable, "pass complete");
        if stable {
            return After::Complete((!matches!(reading.ask, Ask::Window { .. })).then_some(reading.began));
        }
        if pass >= self.config.max_passes {
            warn!(
                source = "ats",
                feed = "applicants",
                passes = pass,
                rows,
                "every pass brought something new, so rows may be missing: the window is not complete and will be read again"
            );
            return After::GaveUp;
        }
        After::Pass(reading.next_pass())
    }
}

#[async_trait]
impl Source for Applicants {
    async fn read(&mut self, ask: &Ask, after: Option<&Position>) -> Result<Page, SourceError> {
        // Milliseconds are enough, and cut off they are never too late.
        let captured = self.clock.now().trunc_subsecs(3);
        let at = At::of(after);
        let mut reading = at.reading(ask, captured, &self.config);
        let is_first_page = reading.pass == 1 && reading.offset == 0;
        let resumed = self.memory.resume(after);
        if is_first_page {
            self.memory.forget();
        }
        if reading.offset == 0 {
            reading.begin_pass(captured, &self.config);
        }
        if reading.offset == 0 || resumed != Resumed::GoesOn {
            self.server = Server::new(&self.config);
        }
        // Whoever drops this future, or gets an error, asks again and finds the same.
        let bodies = self.fetch(&reading).await?;
        let wave = self.take(&bodies)?;

        let mut page = Builder::default();
        for row in &wave.rows {
            // A row without a readable id is known by its bytes.
            let key = decode::applicant_key(row.raw);
            let id = key.as_ref().map_or(row.raw, |key| key.as_str().as_bytes());
            match self.memory.note(id, row.raw) {
                Seen::Before => {}
                Seen::OnThisPage => page.add_repeated(),
                Seen::New => {
                    reading.news = true;
                    page.add(self.decoder.decode(*row));
                }
            }
        }
        reading.offset += wave.rows.len() as u64;
        self.check_bound(&reading)?;

        let after_this = if wave.end { self.pass_ends(reading) } else { After::Pass(reading) };
        let (reading, complete_to) = match after_this {
            After::Pass(reading) => (Some(reading), None),
            After::Complete(complete_to) => (None, complete_to),
            After::GaveUp => (None, None),
        };
        let end = reading.is_none();
        let next = At { complete_to: complete_to.or(at.complete_to), reading };
        let next = next.position();
        match end {
            true => self.memory.forget(),
            false => self.memory.page_ends(after, &next),
        }
        Ok(page.page(next, end, captured, complete_to))
    }

    fn decode(&self, raw: &[u8]) -> Result<Change, Reject> {
        self.decoder.decode(Element::alone(raw))
    }
}
