//! `muster sync`: read a system, or one of its feeds, now.

use anyhow::Result;
use chrono::Utc;
use pipeline::state::{Request, RequestKind};

use super::ask_owner;
use crate::exit;
use crate::output::Output;
use crate::settings::Settings;

/// Asks the owner of the feed and shows what came of it.
pub async fn run(settings: &Settings, target: &str, kind: RequestKind, output: Output) -> Result<u8> {
    if let RequestKind::Sync { window: Some((from, to)), .. } = &kind
        && to < from
    {
        anyhow::bail!("--to {to} lies before --from {from}");
    }
    known(settings, target)?;
    let request =
        Request { id: uuid::Uuid::new_v4().to_string(), target: target.to_owned(), kind, at: Utc::now(), answer: None };
    let answer = ask_owner(settings, request).await?;
    output.show(&answer, || answer.text.clone())?;
    Ok(if answer.done { exit::DONE } else { exit::FAILED })
}

fn known(settings: &Settings, target: &str) -> Result<()> {
    let mut names: Vec<String> = settings.sources.iter().map(|source| source.name.clone()).collect();
    names.extend(settings.sources.iter().flat_map(|source| source.from.topics()));
    if names.iter().any(|name| name == target) {
        return Ok(());
    }
    let nearest = pipeline::config::nearest(target, names.iter().map(String::as_str));
    let nearest = nearest.map(|name| format!(" Did you mean `{name}`?")).unwrap_or_default();
    anyhow::bail!("the configuration has no source or feed called `{target}`.{nearest} There are: {}", names.join(", "))
}
