//! The section `export`: how snapshots are served.

use std::net::SocketAddr;
use std::num::NonZeroU32;

use api::export::{
    BeyondMaxDepth, ConnectionSettings, ContentType, ExportOptions, LimitSettings, PaceSettings, Resource,
    WithoutSnapshot, scope,
};
use pipeline::config::{self, SecretRef, Section};

/// The bulk export.
#[derive(Debug)]
pub struct ExportSettings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The site's secret, which keys are hashed with.
    pub pepper: SecretRef,
    /// Everything else.
    pub options: ExportOptions,
}

pub(super) fn read(root: &Section<'_>) -> Option<ExportSettings> {
    let section = root.section("export")?;
    if !root.has("snapshots") {
        let problem = section.own_place().problem("there are no snapshots to be exported");
        section.report(problem.expected("a section [snapshots] with their store"));
    }
    let default = ExportOptions::default();
    let url = section.url("url", config::HTTP).optional().map(|url| url.as_str().trim_end_matches('/').to_owned());
    let mut resources = default.resources;
    for (name, section) in section.sections("resources") {
        let of_contract = resources.get(&name);
        let resource = resource(&section, &name, of_contract);
        resources.insert(name, resource);
    }
    let options = ExportOptions {
        url,
        resources,
        without_snapshot: section
            .one_of(
                "without_snapshot",
                &[("not_found", WithoutSnapshot::NotFound), ("unavailable", WithoutSnapshot::Unavailable)],
            )
            .or(default.without_snapshot),
        snapshot_retry: section.duration("snapshot_retry").or(default.snapshot_retry),
        beyond_max_depth: section
            .one_of("beyond_max_depth", &[("refuse", BeyondMaxDepth::Refuse), ("full", BeyondMaxDepth::Full)])
            .or(default.beyond_max_depth),
        show_paths: section.bool("show_paths").or(default.show_paths),
        grace: section.duration("grace").or(default.grace),
        limits: limits(&section, default.limits),
        connections: connections(&section, default.connections),
        buffers: section.bytes("buffers").or(default.buffers as u64).try_into().unwrap_or(default.buffers),
        opened_within: default.opened_within,
    };
    Some(ExportSettings {
        listen: section.socket_address("listen").or(SocketAddr::from(([127, 0, 0, 1], 8081))),
        pepper: section.secret("pepper").required(),
        options,
    })
}

/// One of the contract's, changed, or another.
fn resource(section: &Section<'_>, name: &str, of_contract: Option<&Resource>) -> Resource {
    let is_segment = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !is_segment {
        let problem = section.own_place().problem("can't be the name of a resource");
        section.report(problem.expected("lower-case letters, digits and underscores"));
    }
    let default = of_contract.cloned().unwrap_or_else(|| Resource {
        dataset: name.to_owned(),
        scope: scope(name),
        depth: true,
        content_type: ContentType::Json,
    });
    let scope = section.string("scope").check(|scope| match scope.chars().any(char::is_whitespace) {
        true => Err("a scope has no blanks: they stand between scopes".to_owned()),
        false => Ok(()),
    });
    Resource {
        dataset: section.text_or("dataset", &default.dataset),
        scope: scope.or(default.scope),
        depth: section.bool("depth").or(default.depth),
        content_type: section
            .one_of("content_type", &[("json", ContentType::Json), ("octet_stream", ContentType::OctetStream)])
            .or(default.content_type),
    }
}

fn limits(section: &Section<'_>, default: LimitSettings) -> LimitSettings {
    let requests = section.integer("requests_per_minute", 1..=1_000_000).or(default.requests_per_minute.get());
    LimitSettings {
        requests_per_minute: NonZeroU32::new(requests).unwrap_or(default.requests_per_minute),
        answers_per_key: section.integer("answers_per_key", 1..=10_000).or(default.answers_per_key),
        answers: section.integer("answers", 1..=100_000).or(default.answers),
    }
}

fn connections(section: &Section<'_>, default: ConnectionSettings) -> ConnectionSettings {
    let positive = |time: &std::time::Duration| match time.is_zero() {
        true => Err("nothing can be done within no time".to_owned()),
        false => Ok(()),
    };
    ConnectionSettings {
        most: section.integer("connections", 1..=100_000).or(default.most),
        headers_within: section.duration("headers_within").check(positive).or(default.headers_within),
        pace: PaceSettings {
            bytes_per_second: section.bytes("min_rate").or(default.pace.bytes_per_second),
            over: section.duration("min_rate_over").check(positive).or(default.pace.over),
        },
        stop_within: section.duration("stop_within").or(default.stop_within),
    }
}
