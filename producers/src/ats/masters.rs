//! Reads a master list: one request, the whole list, each time.
//!
//! A list that is empty, or an answer that is JSON but no list, is skipped (ATS contract, "What a run does", 1): the
//! page has no records and no `complete_to`, which says that nothing may be taken for absent, and the log says so.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::SubsecRound;
use pipeline::change::Change;
use pipeline::clock::Clock;
use pipeline::reject::Reject;
use pipeline::source::{Ask, Page, Position, Source, SourceError};
use tracing::warn;

use super::AtsFeed;
use super::client::Client;
use super::config::AtsConfig;
use super::decode::Decoder;
use super::decode::split::{self, Element, NotAList};
use super::page::Builder;
use super::position::At;

/// The source of one master list.
pub(super) struct Master {
    feed: AtsFeed,
    client: Arc<Client>,
    clock: Arc<dyn Clock>,
    decoder: Decoder,
}

impl Master {
    pub(super) fn new(feed: AtsFeed, client: Arc<Client>, config: Arc<AtsConfig>, clock: Arc<dyn Clock>) -> Self {
        Self { feed, client, clock, decoder: Decoder::new(feed, config.zone) }
    }

    fn skipped(&self, why: &str, captured: chrono::DateTime<chrono::Utc>, after: Option<&Position>) -> Page {
        warn!(source = "ats", feed = self.feed.name(), why, "master list skipped, what is known stays");
        // The position stays what it was: nothing has been read up to now.
        let next = At { reading: None, ..At::of(after) }.position();
        Builder::default().page(next, true, captured, None)
    }
}

#[async_trait]
impl Source for Master {
    async fn read(&mut self, ask: &Ask, after: Option<&Position>) -> Result<Page, SourceError> {
        // Milliseconds are enough, and cut off they are never too late.
        let captured = self.clock.now().trunc_subsecs(3);
        let body = self.client.get(self.feed, &[]).await?;
        let elements = match split::elements(&body) {
            Ok(elements) if elements.is_empty() => return Ok(self.skipped("it is empty", captured, after)),
            Ok(elements) => elements,
            Err(NotAList::OtherJson) => return Ok(self.skipped("it is no list", captured, after)),
            Err(why) => return Err(self.client.not_a_list(self.feed, why)),
        };
        let mut page = Builder::default();
        for element in elements {
            page.add(self.decoder.decode(element));
        }
        let complete_to = match ask {
            Ask::Changes | Ask::Everything => Some(captured),
            Ask::Window { .. } => None,
        };
        let at = match complete_to {
            Some(_) => At { complete_to, reading: None },
            None => At::of(after),
        };
        Ok(page.page(at.position(), true, captured, complete_to))
    }

    fn decode(&self, raw: &[u8]) -> Result<Change, Reject> {
        self.decoder.decode(Element::alone(raw))
    }
}
