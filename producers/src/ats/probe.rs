//! A look at an ATS, for people: does each feed answer, and can its records be used? Saves and emits nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::SubsecRound;
use futures::future::join_all;
use pipeline::clock::Clock;
use pipeline::source::SourceError;

use super::client::Client;
use super::config::AtsConfig;
use super::decode::Decoder;
use super::decode::split::{self, NotAList};
use super::{AtsError, AtsFeed};
use crate::{Probe, Probed};

/// Applicants asked for: enough to see their shape.
const ROWS: u32 = 5;

/// Asks each feed for one small page, all at once.
pub(crate) async fn probe(config: &AtsConfig, clock: Arc<dyn Clock>) -> Result<Vec<Probe>, AtsError> {
    let client = Client::new(config, Arc::clone(&clock))?;
    let probe = |feed: AtsFeed| {
        let (client, clock) = (&client, &clock);
        async move { Probe { feed: feed.name().to_owned(), outcome: look(feed, config, client, &**clock).await } }
    };
    Ok(join_all(AtsFeed::ALL.map(probe)).await)
}

async fn look(feed: AtsFeed, config: &AtsConfig, client: &Client, clock: &dyn Clock) -> Result<Probed, SourceError> {
    let query = match feed {
        AtsFeed::Applicants => vec![("next", ROWS.min(config.page_size).to_string()), ("offset", "0".to_owned())],
        _ => Vec::new(),
    };
    let asked = clock.now();
    let (body, date) = client.get_dated(feed, &query).await?;
    let answered = clock.now();
    // The header has whole seconds, and was written some time between the question and the end of the answer.
    let ahead = date.map(|date| match () {
        () if date < asked.trunc_subsecs(0) => date - asked,
        () if date > answered => date - answered,
        () => chrono::TimeDelta::zero(),
    });
    let elements = match split::elements(&body) {
        Ok(elements) => elements,
        // Such a master list is skipped by runs.
        Err(NotAList::OtherJson) if feed != AtsFeed::Applicants => Vec::new(),
        Err(why) => return Err(client.not_a_list(feed, why)),
    };
    let decoder = Decoder::new(feed, config.zone);
    let mut rejects: BTreeMap<&'static str, (usize, String)> = BTreeMap::new();
    for element in &elements {
        if let Err(reject) = decoder.decode(*element) {
            let (count, _) = rejects.entry(reject.reason.code).or_insert_with(|| (0, reject.reason.text.clone()));
            *count += 1;
        }
    }
    let rejects = rejects.into_iter().map(|(code, (count, text))| (count, format!("{code}: {text}"))).collect();
    Ok(Probed { records: elements.len(), rejects, ahead })
}
