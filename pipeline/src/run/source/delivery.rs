//! What becomes of a page: its changes are appended, its rejects become dead letters, and what a complete pass didn't bring
//! has gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use schemas::Key;

use super::Vanished;
use super::pass::Pass;
use crate::change::Change;
use crate::emitter::{EmitError, Emitter, Stamp};
use crate::reject::Reject;
use crate::run::{Account, RunError};
use crate::source::{Ask, Page};
use crate::telemetry;

/// Deletes of vanished entities that are emitted with one append.
const DELETES_AT_ONCE: usize = 1_000;

/// A feed's side of the topic. Its source is read meanwhile.
pub(super) struct Delivery<'w> {
    pub(super) feed: &'w str,
    /// Whether its source compares.
    pub(super) compares: bool,
    pub(super) vanished: Vanished,
    pub(super) emitter: &'w mut Emitter,
    pub(super) account: &'w mut Account,
}

impl Delivery<'_> {
    /// Everything about a page but its position.
    pub(super) async fn settle(&mut self, pass: &mut Pass<'_>, mut page: Page) -> Result<(), RunError> {
        // A source that can't vouch for its pass (a list came empty, rows never came to rest) claims nothing.
        let vouched = page.end && page.complete_to.is_some();
        let gone = page.gone.take();
        self.page(pass, page, gone.is_none()).await?;
        if vouched && pass.complete {
            self.reconcile(pass, gone).await?;
        }
        pass.runtime.state.incarnations.reached_all(&self.emitter.reached()).await?;
        Ok(())
    }

    /// Appends a page's changes and writes its rejects to the dead letters. `brings_all`: as far as its pass has come, what
    /// it doesn't bring is absent.
    async fn page(&mut self, pass: &mut Pass<'_>, page: Page, brings_all: bool) -> Result<(), RunError> {
        let keyless = page.rejects.iter().any(|reject| reject.key.is_none());
        pass.complete &= !keyless;
        let rejected = page.rejects.iter().filter_map(|reject| reject.key.as_ref());
        let present: Vec<Key> = page.changes.iter().map(Change::key).chain(rejected).cloned().collect();
        // A pass that brings every record says what is absent; others only what is there.
        let lists_all = pass.ask == Ask::Everything && brings_all;
        self.mark_seen(present, lists_all)?;
        let read: Vec<Key> = page.changes.iter().map(|change| change.key().clone()).collect();
        let stamp = Stamp { captured: page.captured, asked: pass.asked, run: Arc::clone(&pass.run) };
        let emitted = self.emitter.emit(page.changes, &stamp).await?;
        telemetry::count_changes(self.feed, emitted.created, emitted.updated, emitted.deleted);
        let mut counts = emitted.counts;
        counts.read = page.read;
        counts.superseded += page.superseded;
        let mut rejects = page.rejects;
        rejects.extend(emitted.rejects);
        let refused: BTreeSet<&Key> = rejects.iter().filter_map(|reject| reject.key.as_ref()).collect();
        let readable: Vec<&str> = read.iter().filter(|key| !refused.contains(key)).map(Key::as_str).collect();
        pass.runtime.letters.readable(self.feed, &readable).await?;
        let (rejected, before) = self.reject(pass, page.read, rejects).await?;
        counts.rejected += rejected;
        counts.unchanged += before;
        self.account.book(&counts)?;
        pass.report.counts += counts;
        Ok(())
    }

    /// Writes letters for rejects that are new. Answers how many there were, and how many were rejected before.
    async fn reject(&mut self, pass: &Pass<'_>, of: u64, rejects: Vec<Reject>) -> Result<(u64, u64), RunError> {
        if rejects.is_empty() {
            return Ok((0, 0));
        }
        let hashes: Vec<[u8; 16]> = rejects.iter().map(raw_hash).collect();
        let before = match self.emitter.memory(0) {
            Some(memory) => memory.rejected_before(&hashes).map_err(EmitError::from)?,
            None => vec![false; hashes.len()],
        };
        let new: Vec<&Reject> = rejects.iter().zip(&before).filter(|(_, before)| !**before).map(|(r, _)| r).collect();
        pass.runtime.rejects.check(self.feed, of, new.iter().map(|reject| reject.reason.code))?;
        let letters: Vec<_> =
            new.iter().map(|reject| pass.runtime.letters.of_feed(self.feed, &pass.run, reject)).collect();
        if !letters.is_empty() {
            pass.runtime.letters.write(&letters).await?;
            tracing::warn!(source = self.feed, rejected = letters.len(), code = %letters[0].code,
                "records were set aside in the dead letters");
        }
        if let Some(memory) = self.emitter.memory(0) {
            memory.note_rejected(&hashes).map_err(EmitError::from)?;
        }
        let rejected = letters.len() as u64;
        Ok((rejected, rejects.len() as u64 - rejected))
    }

    fn by_partition(&self, keys: Vec<Key>) -> BTreeMap<u32, Vec<Key>> {
        let mut by_partition: BTreeMap<u32, Vec<Key>> = BTreeMap::new();
        for key in keys {
            by_partition.entry(self.emitter.partition_of(&key)).or_default().push(key);
        }
        by_partition
    }

    fn mark_seen(&mut self, keys: Vec<Key>, lists_all: bool) -> Result<(), RunError> {
        if !lists_all && !self.compares {
            return Ok(());
        }
        for (partition, keys) in self.by_partition(keys) {
            if let Some(memory) = self.emitter.memory(partition) {
                let marked = if lists_all { memory.mark_seen(&keys) } else { memory.back(&keys) };
                marked.map_err(EmitError::from)?;
            }
        }
        Ok(())
    }

    /// After a complete pass over everything: what was absent from it and from the one before has gone. `gone`: what a
    /// source that compares has found gone.
    async fn reconcile(&mut self, pass: &mut Pass<'_>, gone: Option<Vec<Key>>) -> Result<(), RunError> {
        let gone = gone.map(|gone| self.by_partition(gone));
        let mut absent = Vec::new();
        let mut known = 0;
        for partition in self.emitter.owned() {
            if let Some(memory) = self.emitter.memory(partition) {
                known += memory.live();
                let of_partition = match &gone {
                    None => memory.complete_pass(),
                    Some(gone) => memory.complete_comparison(gone.get(&partition).map_or(&[][..], Vec::as_slice)),
                };
                absent.extend(of_partition.map_err(EmitError::from)?);
            }
        }
        pass.report.vanished = absent.len() as u64;
        if absent.is_empty() {
            return Ok(());
        }
        let name = self.feed;
        let Vanished::Delete { max_share } = self.vanished else {
            tracing::warn!(
                source = name,
                vanished = absent.len(),
                "entities have gone from the system (they are kept)"
            );
            return Ok(());
        };
        if absent.len() as f64 > known as f64 * max_share {
            let withheld = format!(
                "{} of {known} entities have gone from the system, more than the share of {max_share}: nothing was deleted \
                 (if they really have gone, raise `vanished_max_share` for one run)",
                absent.len()
            );
            tracing::error!(
                source = name,
                vanished = absent.len(),
                known,
                "too many entities have gone, nothing is deleted"
            );
            pass.report.withheld = Some(withheld);
            return Ok(());
        }
        let stamp = Stamp { captured: pass.started, asked: pass.asked, run: Arc::clone(&pass.run) };
        for keys in absent.chunks(DELETES_AT_ONCE) {
            let deletes = keys.iter().map(|key| Change::Delete { key: key.clone(), time: None }).collect();
            let emitted = self.emitter.emit(deletes, &stamp).await?;
            telemetry::count_changes(name, emitted.created, emitted.updated, emitted.deleted);
            pass.report.deleted += emitted.deleted;
        }
        tracing::warn!(
            source = name,
            deleted = pass.report.deleted,
            "entities have gone from the system and were deleted"
        );
        Ok(())
    }
}

/// The same raw record is rejected once.
fn raw_hash(reject: &Reject) -> [u8; 16] {
    xxhash_rust::xxh3::xxh3_128(&reject.raw).to_le_bytes()
}
