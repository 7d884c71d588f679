//! Sends one request to a registry: bounded in time and size, tried again where that can help.

use std::time::Duration;

use reqwest::{
    Client, Method, RequestBuilder, Response, StatusCode, Url,
    header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER},
    redirect::Policy,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value as Json;
use tracing::warn;

use super::{RegistryAuth, RegistryConfig, RegistryError};

/// The largest schema met in the wild is some hundred kilobytes.
const MAX_ANSWER: usize = 4 << 20;
/// Of what a registry says, this much is passed on.
const MAX_REASON: usize = 500;
/// A registry may ask for a longer wait; then the caller waits, not this client.
const MAX_WAIT: Duration = Duration::from_secs(5);

const REGISTRY_JSON: &str = "application/vnd.schemaregistry.v1+json";

pub(super) struct Http {
    client: Client,
    base: Url,
    config: RegistryConfig,
}

/// A complete answer, of whatever status.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    body: Vec<u8>,
}

#[derive(Deserialize)]
struct Fault {
    error_code: u32,
    message: String,
}

/// Why one attempt failed in a way that may pass.
struct Passing {
    reason: String,
    retry_after: Option<Duration>,
    cause: Option<reqwest::Error>,
}

enum Failed {
    Passing(Passing),
    Lasting(RegistryError),
}

impl Http {
    pub(super) fn new(config: RegistryConfig) -> Result<Http, RegistryError> {
        let wrong = |reason: String, hint: &str| RegistryError::Refused {
            // Not the URL itself: it may hold a password.
            url: "(as configured)".to_owned(),
            reason,
            hint: hint.to_owned(),
        };
        let example = "write it as in https://registry.example.org, with the base path if there is one";
        let base = Url::parse(&config.url).map_err(|err| wrong(format!("its URL can't be read: {err}"), example))?;
        if !matches!(base.scheme(), "http" | "https") || base.query().is_some() {
            return Err(wrong("its URL isn't a plain http or https address".to_owned(), example));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(wrong(
                "its URL contains credentials".to_owned(),
                "give user and password as settings of their own",
            ));
        }
        // A redirected POST would become a GET.
        let client = Client::builder().timeout(config.timeout).redirect(Policy::none()).build();
        let client =
            client.map_err(|err| wrong(format!("no HTTP client: {err}"), "check the TLS set-up of this machine"))?;
        Ok(Http { client, base, config })
    }

    pub(super) fn url(&self) -> String {
        self.base.as_str().trim_end_matches('/').to_owned()
    }

    /// Sends and, while the registry is unreachable, busy or broken, sends again. Every request here may arrive twice.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Json>,
    ) -> Result<Answer, RegistryError> {
        let url = self.address(path, query);
        let mut wait = self.config.backoff;
        let mut attempt = 1;
        loop {
            let mut request = self.client.request(method.clone(), url.clone()).header(ACCEPT, REGISTRY_JSON);
            if let Some(body) = body {
                request = request.header(CONTENT_TYPE, REGISTRY_JSON).body(body.to_string());
            }
            let passing = match self.attempt(self.with_credentials(request)).await {
                Ok(answer) => return Ok(answer),
                Err(Failed::Lasting(err)) => return Err(err),
                Err(Failed::Passing(passing)) => passing,
            };
            let asked = passing.retry_after.unwrap_or_default();
            if attempt >= self.config.attempts || asked > MAX_WAIT {
                let Passing { reason, retry_after, cause } = passing;
                return Err(RegistryError::Unavailable { url: self.url(), reason, retry_after, cause });
            }
            let wait_ms = u64::try_from(wait.max(asked).as_millis()).unwrap_or(u64::MAX);
            warn!(url = self.url(), attempt, wait_ms, reason = passing.reason, "schema registry unavailable, retrying");
            tokio::time::sleep(wait.max(asked)).await;
            wait = (wait * 2).min(MAX_WAIT);
            attempt += 1;
        }
    }

    fn address(&self, path: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        // An http address always has segments.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    fn with_credentials(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.config.auth {
            None => request,
            Some(RegistryAuth::Basic { user, password }) => request.basic_auth(user, Some(password)),
            Some(RegistryAuth::Bearer(token)) => request.bearer_auth(token),
        }
    }

    async fn attempt(&self, request: RequestBuilder) -> Result<Answer, Failed> {
        let response = request.send().await.map_err(broken)?;
        let status = response.status();
        let retry_after = retry_after(&response);
        let busy = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        if busy || status.is_server_error() {
            return Err(Failed::Passing(Passing { reason: format!("it answered {status}"), retry_after, cause: None }));
        }
        let body = self.bounded_body(response).await?;
        Ok(Answer { status, body })
    }

    async fn bounded_body(&self, mut response: Response) -> Result<Vec<u8>, Failed> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(Failed::Lasting(RegistryError::Refused {
                    url: self.url(),
                    reason: format!("its answer is longer than {MAX_ANSWER} bytes"),
                    hint: "check that the URL is a schema registry's".to_owned(),
                }));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// The body of a successful answer.
    pub(super) fn json<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, RegistryError> {
        serde_json::from_slice(&answer.body).map_err(|_| RegistryError::Refused {
            url: self.url(),
            reason: format!("it answered {} with something that isn't a registry's JSON", answer.status),
            hint: "check the URL and its base path (Apicurio: /apis/ccompat/v7), and proxies on the way".to_owned(),
        })
    }

    pub(super) fn refused(&self, answer: &Answer, hint: String) -> RegistryError {
        let reason = match answer.fault() {
            Some(fault) => format!("{} ({})", shortened(&fault.message), fault.error_code),
            None => format!("it answered {}", answer.status),
        };
        RegistryError::Refused { url: self.url(), reason, hint }
    }

    /// What a status means that the request didn't provide for.
    pub(super) fn unexpected(&self, answer: &Answer) -> RegistryError {
        let hint = match answer.status {
            StatusCode::UNAUTHORIZED => "check the registry's credentials",
            StatusCode::FORBIDDEN => "grant this user read and write on the subject",
            StatusCode::NOT_FOUND => "check the URL and its base path (Apicurio: /apis/ccompat/v7)",
            StatusCode::UNPROCESSABLE_ENTITY => "the registry takes this schema for invalid: compare its Avro version",
            status if status.is_redirection() => "use the address it redirects to",
            _ => "check the URL, and proxies on the way",
        };
        self.refused(answer, hint.to_owned())
    }
}

impl Answer {
    fn fault(&self) -> Option<Fault> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The registry's own code, finer than the status.
    pub(super) fn error_code(&self) -> Option<u32> {
        self.fault().map(|fault| fault.error_code)
    }
}

fn broken(err: reqwest::Error) -> Failed {
    let reason = if err.is_timeout() {
        "it didn't answer in time"
    } else if err.is_connect() {
        "no connection"
    } else {
        "the connection broke"
    };
    Failed::Passing(Passing { reason: reason.to_owned(), retry_after: None, cause: Some(err.without_url()) })
}

/// Registries give seconds; a date is left to the usual backoff.
fn retry_after(response: &Response) -> Option<Duration> {
    response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

fn shortened(message: &str) -> String {
    let kept: String = message.chars().take(MAX_REASON).collect();
    if kept.len() < message.len() { format!("{kept}…") } else { kept }
}
