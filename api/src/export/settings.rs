//! How exports are served.

use std::collections::BTreeMap;
use std::time::Duration;

use super::limits::LimitSettings;
use super::negotiate::{JSON, OCTETS};
use super::server::ConnectionSettings;

/// How exports are served.
#[derive(Debug, Clone)]
pub struct ExportOptions {
    /// What stands before the path in `meta.url`, without the last slash; `None`: what the request's `Host` says.
    pub url: Option<String>,
    /// By the name in the path.
    pub resources: BTreeMap<String, Resource>,
    /// What is answered where there is no snapshot.
    pub without_snapshot: WithoutSnapshot,
    /// With `Unavailable`: when to come again.
    pub snapshot_retry: Duration,
    /// What is answered to a depth beyond the deepest window.
    pub beyond_max_depth: BeyondMaxDepth,
    /// Whether the public manifest tells where objects are.
    pub show_paths: bool,
    /// How long tokens that are known hold while the operations database is away.
    pub grace: Duration,
    /// Limits of keys.
    pub limits: LimitSettings,
    /// Limits of connections.
    pub connections: ConnectionSettings,
    /// How much memory answers under way share.
    pub buffers: usize,
    /// A store that says nothing for so long is away: whoever asked is told so.
    pub opened_within: Duration,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self {
            url: None,
            resources: resources(),
            without_snapshot: WithoutSnapshot::NotFound,
            snapshot_retry: Duration::from_secs(60),
            beyond_max_depth: BeyondMaxDepth::Refuse,
            show_paths: false,
            grace: Duration::from_secs(60),
            limits: LimitSettings::default(),
            connections: ConnectionSettings::default(),
            buffers: 16 << 20,
            opened_within: Duration::from_secs(15),
        }
    }
}

/// Something that can be exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// The snapshots' dataset.
    pub dataset: String,
    /// What a token must allow.
    pub scope: String,
    /// Whether it takes a depth. Where it doesn't, the parameter is left alone, as any that isn't known.
    pub depth: bool,
    /// What its JSON is called.
    pub content_type: ContentType,
}

/// What JSON is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentType {
    /// `application/json`
    Json,
    /// `application/octet-stream`, as in the original's specification of two resources.
    OctetStream,
}

impl ContentType {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Json => JSON,
            Self::OctetStream => OCTETS,
        }
    }
}

/// What is answered where there is no snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithoutSnapshot {
    /// 404.
    NotFound,
    /// 503 with `Retry-After`.
    Unavailable,
}

/// What is answered to a depth beyond the deepest window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeyondMaxDepth {
    /// 422.
    Refuse,
    /// All records.
    Full,
}

/// The eight resources of the contract.
pub fn resources() -> BTreeMap<String, Resource> {
    let eight = [
        ("employees", "employee"),
        ("parties", "party"),
        ("divisions", "division"),
        ("legal_entities", "legal_entity"),
        ("employee_roles", "employee_role"),
        ("healthcare_services", "healthcare_service"),
        ("contract_divisions", "contract_division"),
        ("declarations_limit", "declarations_limit"),
    ];
    let resource = |(name, singular): (&str, &str)| {
        let content_type = match name {
            "contract_divisions" | "declarations_limit" => ContentType::OctetStream,
            _ => ContentType::Json,
        };
        let depth = name != "declarations_limit";
        (name.to_owned(), Resource { dataset: name.to_owned(), scope: scope(singular), depth, content_type })
    };
    eight.into_iter().map(resource).collect()
}

/// The scope of something, as the original builds them.
pub fn scope(singular: &str) -> String {
    format!("{singular}_bulk:read_pis")
}
