//! `muster token`: who may export.

use anyhow::{Context, Result, bail};
use api::export::new_key;
use chrono::{DateTime, TimeDelta, Utc};
use pipeline::config::Secret;
use pipeline::operations::{ExportRecord, NewToken, Operations, TokenRow};
use serde_json::json;

use super::serve::pepper;
use crate::args::TokenAction;
use crate::exit;
use crate::output::{Output, table};
use crate::process::open_operations;
use crate::settings::{ExportSettings, Settings};

/// Longer labels don't fit into tables and logs.
const LONGEST_LABEL: usize = 100;

/// Creates, lists, shows or revokes.
pub async fn run(settings: &Settings, action: &TokenAction, output: Output) -> Result<u8> {
    let Some(export) = &settings.export else { bail!("there is no section [export] in the configuration") };
    let operations = open_operations(settings).await?;
    match action {
        TokenAction::Create { label, scopes, resources, days } => {
            let scopes = allowed(export, scopes, resources)?;
            create(export, &operations, label, scopes, *days, output).await
        }
        TokenAction::List { all } => list(&operations, *all, output).await,
        TokenAction::Show { label, limit } => show(&operations, label, *limit, output).await,
        TokenAction::Revoke { label } => revoke(&operations, label, output).await,
    }
}

/// The scopes that were named, and those of the resources that were named.
fn allowed(export: &ExportSettings, scopes: &[String], resources: &[String]) -> Result<Vec<String>> {
    let known = &export.options.resources;
    let mut allowed = Vec::new();
    for name in resources {
        let Some(resource) = known.get(name) else {
            let names: Vec<&str> = known.keys().map(String::as_str).collect();
            bail!("there is no resource {name}; there are {}", names.join(", "));
        };
        allowed.push(resource.scope.clone());
    }
    for scope in scopes {
        if !known.values().any(|resource| resource.scope == *scope) {
            let scopes: Vec<&str> = known.values().map(|resource| resource.scope.as_str()).collect();
            bail!("no resource has the scope {scope}; there are {}", scopes.join(", "));
        }
        allowed.push(scope.clone());
    }
    allowed.sort();
    allowed.dedup();
    Ok(allowed)
}

/// A token that was created, and its key, which is kept nowhere.
pub struct Issued {
    token: NewToken,
    /// What its owner sends.
    pub key: Secret,
}

/// Creates a token, valid for so many days.
pub async fn issue(
    export: &ExportSettings,
    operations: &Operations,
    label: &str,
    scopes: Vec<String>,
    days: Option<u32>,
) -> Result<Issued> {
    let is_label = !label.is_empty() && label.chars().count() <= LONGEST_LABEL && !label.chars().any(char::is_control);
    if !is_label {
        bail!("a label has 1 to {LONGEST_LABEL} characters, all of them to be seen");
    }
    let created = Utc::now();
    let expires = match days {
        Some(days) => {
            let expires = created.checked_add_signed(TimeDelta::days(i64::from(days)));
            Some(expires.context("nobody knows what will be then")?)
        }
        None => None,
    };
    let key = new_key()?;
    let hash = pepper(export)?.hash(key.expose().as_bytes());
    let id = uuid::Uuid::new_v4().to_string();
    let token = NewToken { id, label: label.to_owned(), hash, scopes, created, expires };
    if !operations.create_token(&token).await? {
        bail!("there is, or was, a token with the label {label}: take another, for the audit names exports by it");
    }
    Ok(Issued { token, key })
}

async fn create(
    export: &ExportSettings,
    operations: &Operations,
    label: &str,
    scopes: Vec<String>,
    days: Option<u32>,
    output: Output,
) -> Result<u8> {
    let Issued { token, key } = issue(export, operations, label, scopes, days).await?;
    let object = json!({
        "id": token.id,
        "label": token.label,
        "key": key.expose(),
        "scopes": token.scopes,
        "expires": token.expires,
    });
    output.show(&object, || {
        let until = token.expires.map_or_else(|| "until it is revoked".to_owned(), |at| format!("until {}", time(at)));
        format!(
            "{}\n\nThis is the key of {}, valid {until}. It is shown this once.\nIt allows: {}",
            key.expose(),
            token.label,
            token.scopes.join(" ")
        )
    })?;
    Ok(exit::DONE)
}

async fn list(operations: &Operations, all: bool, output: Output) -> Result<u8> {
    let now = Utc::now();
    let mut tokens = operations.tokens().await?;
    tokens.retain(|token| all || token.revoked.is_none());
    output.show(&json!({ "tokens": tokens }), || {
        let rows: Vec<Vec<String>> = tokens.iter().map(|token| row(token, now)).collect();
        table(&["label", "state", "created (UTC)", "expires", "allows", "id"], &rows)
    })?;
    Ok(exit::DONE)
}

async fn show(operations: &Operations, label: &str, limit: u32, output: Output) -> Result<u8> {
    let token = found(operations, label).await?;
    let exports = operations.exports(&token.id, limit).await?;
    output.show(&json!({ "token": token, "exports": exports }), || {
        let head = table(&["label", "state", "created (UTC)", "expires", "allows", "id"], &[row(&token, Utc::now())]);
        let rows: Vec<Vec<String>> = exports.iter().map(export_row).collect();
        let columns =
            ["began (UTC)", "resource", "depth", "form", "coding", "snapshot", "bytes", "took", "status", "request"];
        format!("{head}\n\n{}", table(&columns, &rows))
    })?;
    Ok(exit::DONE)
}

async fn revoke(operations: &Operations, label: &str, output: Output) -> Result<u8> {
    let token = found(operations, label).await?;
    let revoked = operations.revoke_token(&token.id, Utc::now()).await?;
    output.show(&json!({ "label": token.label, "id": token.id, "revoked": revoked }), || match revoked {
        true => format!(
            "{} is revoked: within five seconds no instance that reaches this database takes it any more",
            token.label
        ),
        false => format!("{} was revoked before", token.label),
    })?;
    Ok(exit::DONE)
}

async fn found(operations: &Operations, label: &str) -> Result<TokenRow> {
    operations.token(label).await?.with_context(|| format!("there is no token with the label or id {label}"))
}

fn row(token: &TokenRow, now: DateTime<Utc>) -> Vec<String> {
    let state = match (token.revoked, token.expires) {
        (Some(at), _) => format!("revoked {}", time(at)),
        (None, Some(at)) if at <= now => "expired".to_owned(),
        (None, _) => "valid".to_owned(),
    };
    let expires = token.expires.map_or_else(|| "never".to_owned(), time);
    vec![token.label.clone(), state, time(token.created), expires, token.scopes.join(" "), token.id.clone()]
}

fn export_row(export: &ExportRecord) -> Vec<String> {
    let took =
        export.ended.map_or_else(String::new, |ended| format!("{} ms", (ended - export.began).num_milliseconds()));
    vec![
        time(export.began),
        export.resource.clone(),
        export.depth.map_or_else(|| "all".to_owned(), |depth| depth.to_string()),
        export.form.clone(),
        export.coding.clone(),
        export.generation.to_string(),
        format!("{} of {}", export.bytes.map_or_else(|| "?".to_owned(), |bytes| bytes.to_string()), export.expected),
        took,
        export.status.clone().unwrap_or_else(|| "under way, or killed".to_owned()),
        export.request.clone(),
    ]
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}
