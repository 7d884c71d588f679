//! The source against a simulated ATS, over real sockets: [`paging`], [`answers`], [`masters`], [`settings`].

#![allow(clippy::unwrap_used, reason = "tests")]

mod answers;
mod masters;
mod paging;
mod settings;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use pipeline::change::Change;
use pipeline::clock::VirtualClock;
use pipeline::reject::Reject;
use pipeline::source::{Ask, Page, Position, SourceError};
use simulators::ats::{Ats, AtsOptions};
use simulators::server::Server;

use super::decode::{Decoder, split};
use super::*;

/// A simulated ATS on a socket, our settings for it, and the time.
struct Site {
    ats: Ats,
    server: Server,
    config: AtsConfig,
    clock: VirtualClock,
}

fn few(applicants: usize) -> AtsOptions {
    AtsOptions { applicants, oddities: false, ..AtsOptions::default() }
}

fn site(options: AtsOptions) -> Site {
    serve(Ats::generate(options))
}

fn serve(ats: Ats) -> Site {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = ats.serve(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let config = AtsConfig::new(server.url().parse().unwrap(), &*ats.options().api_key);
    let clock = VirtualClock::manual(ats.now());
    Site { ats, server, config, clock }
}

impl Site {
    fn source(&self, feed: AtsFeed) -> Box<dyn Source> {
        let feeds = sources(self.config.clone(), Arc::new(self.clock.clone())).unwrap();
        feeds.into_iter().find(|found| found.name == feed.name()).unwrap().source
    }

    fn applicants(&self) -> Box<dyn Source> {
        self.source(AtsFeed::Applicants)
    }

    /// The ids as they are listed.
    fn oracle_in_order(&self) -> Vec<String> {
        let rows = self.ats.applicants();
        rows.iter().map(|row| row["applicant_id"].as_str().unwrap().to_lowercase()).collect()
    }

    /// What a right reading of all applicants is at this moment.
    fn oracle(&self) -> BTreeMap<String, Bytes> {
        let rows = serde_json::to_vec(&self.ats.applicants()).unwrap();
        let decoder = Decoder::new(AtsFeed::Applicants, self.config.zone);
        let mut records = BTreeMap::new();
        for row in split::elements(&rows).unwrap() {
            if let Ok(Change::Put { key, body, .. }) = decoder.decode(row) {
                records.insert(key.as_str().to_owned(), body);
            }
        }
        records
    }
}

/// What a pass over all pages has brought.
#[derive(Default)]
struct Run {
    records: BTreeMap<String, Bytes>,
    rejects: Vec<Reject>,
    read: u64,
    superseded: u64,
    pages: usize,
    complete_to: Option<DateTime<Utc>>,
    position: Option<Position>,
}

impl Run {
    fn add(&mut self, page: Page) {
        assert_eq!(page.read, page.changes.len() as u64 + page.rejects.len() as u64 + page.superseded);
        for change in page.changes {
            let Change::Put { key, body, .. } = change else { panic!("a source of the ATS never deletes") };
            self.records.insert(key.as_str().to_owned(), body);
        }
        self.rejects.extend(page.rejects);
        self.read += page.read;
        self.superseded += page.superseded;
        self.pages += 1;
        self.complete_to = page.complete_to;
        self.position = Some(page.next);
    }

    async fn finish(&mut self, source: &mut dyn Source, ask: &Ask) -> Result<(), SourceError> {
        loop {
            let page = source.read(ask, self.position.as_ref()).await?;
            let end = page.end;
            self.add(page);
            if end {
                return Ok(());
            }
        }
    }
}

async fn run(source: &mut dyn Source, ask: &Ask, after: Option<&Position>) -> Result<Run, SourceError> {
    let mut run = Run { position: after.cloned(), ..Run::default() };
    run.finish(source, ask).await?;
    Ok(run)
}
