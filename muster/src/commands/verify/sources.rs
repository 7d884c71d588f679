//! What systems say against their topics: asked of whoever reads the system, since two processes never do.

use anyhow::Result;
use chrono::Utc;
use pipeline::state::{Answer, Request, RequestKind};
use pipeline::verify::EntityReport;

use super::{ComponentReport, Failed};
use crate::commands::ask_owners;
use crate::settings::Settings;

/// The feeds of all sources, or of the one that is named.
pub fn feeds(settings: &Settings, component: Option<&str>) -> Vec<String> {
    let mut feeds = Vec::new();
    for source in &settings.sources {
        let names = source.from.topics().into_iter();
        let wanted = |name: &String| component.is_none_or(|wanted| wanted == source.name || wanted == name);
        feeds.extend(names.filter(wanted));
    }
    feeds
}

/// Has feeds compared by their owners.
pub async fn compare(settings: &Settings, feeds: &[String], repair: bool) -> Result<Vec<ComponentReport>> {
    if feeds.is_empty() {
        return Ok(Vec::new());
    }
    let request = |feed: &String| Request {
        id: uuid::Uuid::new_v4().to_string(),
        target: feed.clone(),
        kind: RequestKind::Compare { repair },
        at: Utc::now(),
        answer: None,
    };
    let answers = ask_owners(settings, feeds.iter().map(request).collect()).await?;
    Ok(feeds.iter().zip(answers).map(|(feed, answer)| report(feed, answer)).collect())
}

fn report(feed: &str, answer: Answer) -> ComponentReport {
    let details = &answer.details[0];
    let entity: Option<EntityReport> = serde_json::from_value(details["report"].clone()).ok();
    let error = (!answer.done || entity.is_none())
        .then(|| Failed { text: answer.text.clone(), unreachable: details["unreachable"] == true });
    ComponentReport { component: feed.to_owned(), entities: entity.into_iter().collect(), error }
}
