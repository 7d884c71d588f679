//! Schemas: against what was released, and against what the registry has.

use std::sync::Arc;

use anyhow::Result;
use schemas::{Registry, RegistryError, Topic, Verdict};
use tokio::task::JoinSet;

use super::{Finding, ONE_QUESTION, Standing};
use crate::process::registry_config;
use crate::settings::{RegistrySettings, Settings};

/// What every subject is to be held to.
const LEVEL: &str = "FULL_TRANSITIVE";

/// The program's schemas against those of every version released so far.
pub(super) fn released() -> Finding {
    let found = schemas::compatibility::check_released();
    match found.first() {
        None => {
            let count = schemas::compatibility::released().len();
            Finding::ok("schemas", format!("compatible with all {count} released versions"))
        }
        Some(first) => {
            let more = if found.len() > 1 { format!(", and {} more", found.len() - 1) } else { String::new() };
            let remedy = "this program must not write: take one whose schemas were released";
            Finding::new("schemas", Standing::Wrong, format!("{first}{more}"), remedy)
        }
    }
}

/// What the registry says about one topic's schema.
struct Judged {
    subject: String,
    registered: bool,
    verdict: Verdict,
    /// Of subjects that have a version.
    level: Option<String>,
}

/// The registry: reachable, credentials, and each schema registered or compatible.
pub(super) async fn check(settings: Arc<Settings>) -> Vec<Finding> {
    let Some(registry) = &settings.registry else { return Vec::new() };
    match judge(&settings, registry).await {
        Ok(judged) => findings(registry, &judged),
        Err(error) => {
            let hint = error.downcast_ref::<RegistryError>().and_then(RegistryError::hint);
            let failed = Finding::failed("registry", &error);
            vec![Finding { remedy: hint.map(str::to_owned).or(failed.remedy.clone()), ..failed }]
        }
    }
}

async fn judge(all: &Settings, settings: &RegistrySettings) -> Result<Vec<Judged>> {
    let mut config = registry_config(settings)?;
    config.timeout = ONE_QUESTION;
    config.attempts = 1;
    let registry = Arc::new(Registry::new(config)?);
    let mut asked = JoinSet::new();
    // What a table's schema is shows when it is looked at.
    let released = |topic: &&Arc<Topic>| topic.entity().is_some_and(|entity| !entity.generated);
    for topic in all.catalogue.topics().iter().filter(released) {
        let (registry, topic) = (Arc::clone(&registry), Arc::clone(topic));
        asked.spawn(async move { one(&registry, &topic).await });
    }
    let mut judged = Vec::new();
    while let Some(answer) = asked.join_next().await {
        judged.extend(answer??);
    }
    judged.sort_by(|a, b| a.subject.cmp(&b.subject));
    Ok(judged)
}

async fn one(registry: &Registry, topic: &Topic) -> Result<Option<Judged>, RegistryError> {
    let Some(entity) = topic.entity() else { return Ok(None) };
    let subject = topic.subject();
    let registered = registry.registered(&subject, &entity.schema).await?.is_some();
    let verdict = match registered {
        true => Verdict::Compatible,
        false => registry.compatible(&subject, &entity.schema).await?,
    };
    let level = if registered { registry.level(&subject).await? } else { None };
    Ok(Some(Judged { subject, registered, verdict, level }))
}

fn findings(settings: &RegistrySettings, judged: &[Judged]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for one in judged {
        if let Verdict::Incompatible(reasons) = &one.verdict {
            let reason = reasons.first().map(|reason| format!(": {reason}")).unwrap_or_default();
            let found = format!("{} takes the schema for incompatible{reason}", one.subject);
            let remedy = "compare the subject's versions with this program's: a newer muster, or another writer?";
            findings.push(Finding::new("registry", Standing::Wrong, found, remedy));
        }
    }
    let loose: Vec<&str> = judged
        .iter()
        .filter(|one| one.level.as_deref().is_some_and(|level| level != LEVEL))
        .map(|one| one.subject.as_str())
        .collect();
    if !loose.is_empty() {
        let found = format!("{} held to less than {LEVEL}", loose.join(", "));
        findings.push(Finding::new("registry", Standing::Warning, found, "set the subjects' compatibility level"));
    }
    let registered = judged.iter().filter(|one| one.registered).count();
    let found = format!(
        "{} answers; {registered} of {} schemas registered, the others are when first written",
        settings.url.as_str().trim_end_matches('/'),
        judged.len()
    );
    findings.insert(0, Finding::ok("registry", found));
    findings
}
