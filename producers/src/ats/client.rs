//! Asks the ATS for one answer and judges what comes back. Called by [`super::applicants`] and [`super::masters`].
//!
//! Nothing is tried twice in here: the runner waits and asks again. What each answer counts as:
//!
//! | answer | outcome | because |
//! |---|---|---|
//! | 200 with a JSON list | read | |
//! | 200, but truncated, HTML, empty or not JSON | unavailable | something before the ATS answered, or it broke off |
//! | 200 with JSON that isn't a list, applicants | unavailable | error messages come with 200, too, and pass; a feed that stays like this is seen as one without progress |
//! | 200 with JSON that isn't a list, masters | skipped | as the register has always done (ATS contract, "What a run does", 1) |
//! | an answer larger than `max_body`, or without end | unavailable | memory is bounded, and the time is, too |
//! | 401, 403 | refused | the key must be put right |
//! | 404, 410 | refused | the paths must be put right |
//! | 3xx | refused | never followed: a redirect would carry the key to another address |
//! | 408, 425, 429, 5xx | unavailable, for as long as `Retry-After` says | it passes |
//! | any other status below 500 | refused if 4xx, else unavailable | the contract knows only 200 |
//! | time-out, no bytes for a while, reset, refused connection, unknown host | unavailable | it passes |
//!
//! The header `ApiKey` is sent where the contract asks for it and nowhere else.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use pipeline::clock::Clock;
use pipeline::retry::{MOST_RETRY_AFTER, parse_retry_after};
use pipeline::source::SourceError;
use reqwest::header::{DATE, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url, redirect};

use super::config::AtsConfig;
use super::decode::split::NotAList;
use super::{AtsError, AtsFeed};

const API_KEY: HeaderName = HeaderName::from_static("apikey");

/// The way to one ATS. All its feeds share one, and with it the connections.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    urls: [Url; AtsFeed::ALL.len()],
    api_key: HeaderValue,
    max_body: u64,
    timeout: Duration,
    clock: Arc<dyn Clock>,
    system: String,
}

impl Client {
    pub(super) fn new(config: &AtsConfig, clock: Arc<dyn Clock>) -> Result<Self, AtsError> {
        let mut api_key = HeaderValue::from_str(config.api_key.expose()).map_err(|_| AtsError::ApiKey)?;
        api_key.set_sensitive(true);
        let http = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .timeout(config.timeout)
            .read_timeout(config.idle_timeout)
            // Settings come from the configuration, not from the environment.
            .no_proxy()
            .connect_timeout(config.idle_timeout)
            .user_agent(concat!("muster/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(AtsError::Client)?;
        let base = config.url.as_str().trim_end_matches('/');
        let mut urls = AtsFeed::ALL.map(|_| config.url.clone());
        for (feed, url) in AtsFeed::ALL.into_iter().zip(&mut urls) {
            let text = format!("{base}{}", config.paths.of_feed(feed));
            *url = text.parse().map_err(|_| AtsError::Path { feed, path: config.paths.of_feed(feed).to_owned() })?;
        }
        let system = format!("ATS at {base}");
        Ok(Self { http, urls, api_key, max_body: config.max_body, timeout: config.timeout, clock, system })
    }

    /// The body of the answer for one feed; only status and size have been judged.
    pub(super) async fn get(&self, feed: AtsFeed, query: &[(&str, String)]) -> Result<Vec<u8>, SourceError> {
        Ok(self.get_dated(feed, query).await?.0)
    }

    /// The same, with what the server's clock showed, where it says it.
    pub(super) async fn get_dated(
        &self,
        feed: AtsFeed,
        query: &[(&str, String)],
    ) -> Result<(Vec<u8>, Option<DateTime<Utc>>), SourceError> {
        let mut url = self.url(feed).clone();
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let asked = asked(&url);
        let mut request = self.http.get(url);
        if feed.needs_api_key() {
            request = request.header(API_KEY, self.api_key.clone());
        }
        let response = request.send().await.map_err(|error| self.failed(&asked, &error))?;
        if response.status() != StatusCode::OK {
            return Err(self.judge(feed, &asked, &response));
        }
        let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok()).map(|date| date.to_utc());
        Ok((self.body(&asked, response).await?, date))
    }

    /// What it means that the body isn't a list.
    pub(super) fn not_a_list(&self, feed: AtsFeed, why: NotAList) -> SourceError {
        self.unavailable(format!("GET {}: answered 200, but {why}", self.url(feed).path()), None)
    }

    pub(super) fn unavailable(&self, reason: String, retry_after: Option<Duration>) -> SourceError {
        SourceError::Unavailable { system: self.system.clone(), reason, retry_after }
    }

    pub(super) fn refused(&self, reason: String, hint: &str) -> SourceError {
        SourceError::Refused { system: self.system.clone(), reason, hint: hint.to_owned() }
    }

    fn url(&self, feed: AtsFeed) -> &Url {
        &self.urls[feed as usize]
    }

    async fn body(&self, asked: &str, mut response: Response) -> Result<Vec<u8>, SourceError> {
        let too_large =
            || self.unavailable(format!("{asked}: answered more than {} bytes (max_body)", self.max_body), None);
        // What is announced is only believed when it is too much.
        if response.content_length().is_some_and(|length| length > self.max_body) {
            return Err(too_large());
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failed(asked, &error))? {
            if (body.len() + chunk.len()) as u64 > self.max_body {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn judge(&self, feed: AtsFeed, asked: &str, response: &Response) -> SourceError {
        let status = response.status();
        let reason = format!("{asked}: answered {status}");
        if matches!(status.as_u16(), 408 | 425 | 429) || status.is_server_error() {
            let header = response.headers().get(RETRY_AFTER).and_then(|header| header.to_str().ok());
            let retry_after = header.and_then(|header| parse_retry_after(header, self.clock.now(), MOST_RETRY_AFTER));
            return self.unavailable(reason, retry_after);
        }
        match status.as_u16() {
            401 | 403 if feed.needs_api_key() => {
                self.refused(reason, "put a valid key into the setting `api_key`, or have it allowed to read this feed")
            }
            401 | 403 => self.refused(reason, "this feed needs no key by the contract: ask the ATS why it does"),
            404 | 410 => self.refused(
                reason,
                "check the settings `url` and `paths` (\"current\" or \"original\"), or the path of this feed alone",
            ),
            300..400 => self.refused(reason, "redirects aren't followed: put the address it points to into `url`"),
            400..500 => self.refused(reason, "the ATS doesn't take this request: check `url`, `paths` and `page_size`"),
            _ => self.unavailable(reason, None),
        }
    }

    fn failed(&self, asked: &str, error: &reqwest::Error) -> SourceError {
        let what = if error.is_connect() {
            "could not connect".to_owned()
        } else if error.is_timeout() {
            format!("no complete answer in {:?}, or it stood still", self.timeout)
        } else {
            "the connection broke in the middle".to_owned()
        };
        // The chain ends with the system's own words ("connection refused"); what stands before names the URL again.
        let mut cause = error.source();
        while let Some(deeper) = cause.and_then(std::error::Error::source) {
            cause = Some(deeper);
        }
        let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
        self.unavailable(format!("{asked}: {what}{cause}"), None)
    }
}

/// `GET /applicants?next=50&offset=0`: dates and numbers, nothing secret.
fn asked(url: &Url) -> String {
    match url.query() {
        Some(query) => format!("GET {}?{query}", url.path()),
        None => format!("GET {}", url.path()),
    }
}
