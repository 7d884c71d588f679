//! Compares what the system says with what the topic holds: passes over everything that emit nothing.
//!
//! Changes in flight are no differences. What differs in a first pass is looked at again in a second one, after the
//! feed's changes were read as they always are: only what the system says the same way both times, and the topic still
//! doesn't, differs.

use std::collections::BTreeMap;

use schemas::{ContentHash, Key};
use tokio_util::sync::CancellationToken;

use super::pass::Pass;
use super::{Vanished, Working};
use crate::change::{Asked, Change};
use crate::emitter::Stamp;
use crate::run::{RunError, Runtime};
use crate::source::{Ask, Page, Position};
use crate::state::Answer;
use crate::verify::{Difference, Differing, EntityReport, Entry, Index, VerifyError};

/// So many keys are looked at again.
const CANDIDATES: usize = 10_000;

/// So many keys are named: an answer is a record of a topic.
const NAMED: usize = 2_000;

/// Keys that are listed at once.
const AT_ONCE: usize = 4_096;

/// What the system says of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Claim {
    Is(ContentHash),
    Gone,
}

/// What one pass has shown.
#[derive(Default)]
struct Looked {
    /// Of the keys where the topic says something else.
    claims: BTreeMap<String, Claim>,
    /// What isn't in `claims` any more, for there are too many.
    beyond: u64,
    records: u64,
    rejected: u64,
    edited: u64,
    mended: u64,
    /// Told to stop meanwhile.
    cut_off: bool,
}

/// What is to be done in a pass.
struct Look<'a> {
    number: u64,
    /// Only these keys, with what was said of them before.
    again: Option<&'a BTreeMap<String, Claim>>,
    repair: bool,
}

impl Working<'_> {
    /// Compares, and with `repair` emits what the system says of what differs. `None`: told to stop meanwhile.
    pub(super) async fn compare(
        &mut self,
        repair: bool,
        runtime: &Runtime,
        stop: &CancellationToken,
    ) -> Result<Option<Answer>, RunError> {
        let log = runtime.log.as_ref();
        let mut index = Index::open(log, &self.feed.topic, runtime.scratch()).await.map_err(run_error)?;
        index.catch_up(log, |_| {}).await.map_err(run_error)?;
        let first = Look { number: 1, again: None, repair: false };
        let mut looked = self.look(&index, &first, runtime, stop).await?;
        let mut report = EntityReport { topic: self.feed.name().to_owned(), ..EntityReport::default() };
        let mut mended = 0;
        if !looked.cut_off && !looked.claims.is_empty() {
            let changes = self.pass(&Ask::Changes, runtime, stop).await?;
            if !changes.ended {
                return Ok(None);
            }
            index.catch_up(log, |_| {}).await.map_err(run_error)?;
            let before = std::mem::take(&mut looked.claims);
            let second = Look { number: 2, again: Some(&before), repair };
            let again = self.look(&index, &second, runtime, stop).await?;
            mended = again.mended;
            looked.cut_off |= again.cut_off;
            for (key, claim) in again.claims {
                if before.get(&key) == Some(&claim) {
                    looked.claims.insert(key, claim);
                } else {
                    report.tally.in_flight += 1;
                }
            }
        }
        if looked.cut_off {
            return Ok(None);
        }
        mended += self.account(&index, looked, repair, &mut report, runtime).await?;
        Ok(Some(answer(&report, mended)))
    }

    /// One pass over everything.
    async fn look(
        &mut self,
        index: &Index,
        look: &Look<'_>,
        runtime: &Runtime,
        stop: &CancellationToken,
    ) -> Result<Looked, RunError> {
        let pass = Pass::looking(runtime);
        let mut looked = Looked::default();
        let mut position: Option<Position> = None;
        // A record without a key could be any.
        let mut all_have_keys = true;
        loop {
            let Some(page) = self.read_page(&pass, position.as_ref(), None, stop).await? else {
                looked.cut_off = true;
                return Ok(looked);
            };
            let (next, end, vouched) = (page.next.clone(), page.end, page.complete_to.is_some());
            all_have_keys &= page.rejects.iter().all(|reject| reject.key.is_some());
            self.look_at(page, index, look, &mut looked).await?;
            runtime.health.progressed(self.system, runtime.clock.now());
            if end {
                if vouched && all_have_keys {
                    absent(index, look, &mut looked)?;
                }
                return Ok(looked);
            }
            position = Some(next);
        }
    }

    async fn look_at(
        &mut self,
        page: Page,
        index: &Index,
        look: &Look<'_>,
        looked: &mut Looked,
    ) -> Result<(), RunError> {
        looked.records += page.changes.len() as u64;
        looked.rejected += page.rejects.len() as u64;
        let keys: Vec<&str> = page.changes.iter().map(|change| change.key().as_str()).collect();
        let rejected = page.rejects.iter().filter_map(|reject| reject.key.as_ref()).map(Key::as_str);
        index.see(keys.iter().copied().chain(rejected), look.number).map_err(run_error)?;
        let entries = index.get(keys.into_iter()).map_err(run_error)?;
        let mut right = Vec::new();
        for (change, entry) in page.changes.iter().zip(entries) {
            let key = change.key().as_str();
            if look.again.is_some_and(|again| !again.contains_key(key)) {
                continue;
            }
            let claim = match change {
                Change::Delete { .. } => Claim::Gone,
                Change::Put { body, .. } => match self.emitter.hash(body) {
                    Ok(hash) => Claim::Is(hash),
                    // The topic can't take it: it is in the dead letters.
                    Err(_) => {
                        looked.rejected += 1;
                        continue;
                    }
                },
            };
            match agreement(&claim, entry) {
                Agreement::Same => {
                    looked.claims.remove(key);
                }
                Agreement::Edited => {
                    looked.claims.remove(key);
                    looked.edited += 1;
                }
                Agreement::Other => {
                    let same_as_before = look.again.and_then(|again| again.get(key)) == Some(&claim);
                    if look.repair && same_as_before && matches!(claim, Claim::Is(_)) {
                        right.push(change.clone());
                    }
                    looked.note(key, claim);
                }
            }
        }
        if !right.is_empty() {
            let stamp = Stamp { captured: page.captured, asked: Asked::Everything, run: "repair".into() };
            looked.mended += self.state(right, &stamp).await?;
        }
        Ok(())
    }

    async fn state(&mut self, changes: Vec<Change>, stamp: &Stamp) -> Result<u64, RunError> {
        let emitted = self.emitter.emit(changes, stamp).await?;
        self.account.book(&emitted.counts)?;
        Ok(emitted.counts.delivered)
    }

    /// Puts what was found into the report. With `repair`, what has gone is deleted where the feed may delete at all.
    async fn account(
        &mut self,
        index: &Index,
        looked: Looked,
        repair: bool,
        report: &mut EntityReport,
        runtime: &Runtime,
    ) -> Result<u64, RunError> {
        report.tally.compared = looked.records;
        report.tally.set_aside = looked.rejected;
        report.tally.edited = looked.edited;
        report.tally.different += looked.beyond;
        report.tally.seen_once += looked.beyond;
        let mut gone = Vec::new();
        let entries = index.get(looked.claims.keys().map(String::as_str)).map_err(run_error)?;
        for ((key, claim), entry) in looked.claims.into_iter().zip(entries) {
            let live = entry.filter(|entry| entry.live);
            let difference = match (claim, live) {
                (Claim::Is(_), None) => Difference::Missing,
                (Claim::Is(_), Some(_)) => Difference::Columns { columns: Vec::new() },
                (Claim::Gone, None) => continue,
                (Claim::Gone, Some(_)) if self.feed.vanished == Vanished::Report => {
                    report.tally.kept += 1;
                    continue;
                }
                (Claim::Gone, Some(entry)) => {
                    gone.push(Change::Delete { key: Key::from(key.as_str()), time: None });
                    Difference::Extra { held: entry.version }
                }
            };
            report.tally.count(&difference);
            if report.keys.len() < NAMED {
                let partition = self.emitter.partition_of(&Key::from(key.as_str()));
                report.keys.push(Differing { key, partition, difference });
            }
        }
        let known: u64 = self.emitter.owned().iter().filter_map(|p| Some(self.emitter.memory(*p)?.live())).sum();
        let few = match self.feed.vanished {
            Vanished::Delete { max_share } => gone.len() as f64 <= known as f64 * max_share,
            Vanished::Report => false,
        };
        if !repair || gone.is_empty() || !few {
            return Ok(0);
        }
        let stamp = Stamp { captured: runtime.clock.now(), asked: Asked::Everything, run: "repair".into() };
        self.state(gone, &stamp).await
    }
}

impl Looked {
    fn note(&mut self, key: &str, claim: Claim) {
        if self.claims.len() < CANDIDATES || self.claims.contains_key(key) {
            self.claims.insert(key.to_owned(), claim);
        } else {
            self.beyond += 1;
        }
    }
}

enum Agreement {
    Same,
    /// A person has repaired it by hand: the topic says that, on purpose.
    Edited,
    Other,
}

fn agreement(claim: &Claim, entry: Option<Entry>) -> Agreement {
    match (claim, entry.filter(|entry| entry.live)) {
        (Claim::Gone, None) => Agreement::Same,
        (Claim::Is(says), Some(entry)) if entry.edited.or(entry.stated) == Some(*says) => Agreement::Same,
        (Claim::Is(says), Some(entry)) if entry.edited.is_some() && entry.stated == Some(*says) => Agreement::Edited,
        _ => Agreement::Other,
    }
}

/// Keys that the topic holds and the pass hasn't met.
fn absent(index: &Index, look: &Look<'_>, looked: &mut Looked) -> Result<(), RunError> {
    let mut after: Option<String> = None;
    loop {
        let page = index.live_keys(after.as_deref(), AT_ONCE, look.number).map_err(run_error)?;
        for (key, seen) in page.keys {
            if !seen && look.again.is_none_or(|again| again.contains_key(&key)) {
                looked.note(&key, Claim::Gone);
            }
        }
        match page.last {
            Some(last) => after = Some(last),
            None => return Ok(()),
        }
    }
}

fn answer(report: &EntityReport, mended: u64) -> Answer {
    let tally = &report.tally;
    let text = format!(
        "{}: {} compared, {} missing, {} extra, {} different",
        report.topic, tally.compared, tally.missing, tally.extra, tally.different
    );
    Answer { done: true, text, details: serde_json::json!({ "report": report, "mended": mended }) }
}

fn run_error(error: VerifyError) -> RunError {
    match error {
        VerifyError::Log(error) => RunError::Log(error),
        VerifyError::Sink(error) => RunError::Sink(error),
        VerifyError::Operations(error) => RunError::Operations(error),
        VerifyError::Run(error) => error,
        VerifyError::Index(error) => RunError::Refused {
            component: "verify".into(),
            reason: error.to_string(),
            hint: "is there room on the disk?".into(),
        },
    }
}
