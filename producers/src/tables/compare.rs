//! Finds what differs from the last pass over everything, and what has gone, without reading what is unchanged.
//!
//! A first pass after the load reads every row and remembers, range by range, what their hashes come to. Later ones have
//! the database work the hashes out, and read only ranges that differ. Keys that went out of such a range are gone; so
//! are those that changes had brought and that aren't there any more, which are looked up one by one. What is remembered
//! rests on the position that names it, and is worth nothing once another process has read the table.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use pipeline::source::{Page, SourceError};
use schemas::Key;

use super::config::Compare;
use super::engine::{Engine, Gather};
use super::plan::Plan;
use super::position::{At, Cursor, Reading, Row, What};
use super::postgres::Asked;
use super::ranges::{Bound, Range, Ranges, RangesError};
use super::read::{Read, TableSource};
use super::sql::{Bounds, Extra, Statements};
use super::sums::MOST_RANGES;

/// A page is handed over at least this often, so that a position is saved.
const HAND_OVER: Duration = Duration::from_secs(1);

/// Keys that are looked up with one statement.
const LOOKED_UP: usize = 500;

/// With more keys gone than this, none is named: every row is read the next time, which forgets them and shows what is
/// absent.
const MOST_GONE: usize = 100_000;

/// What is remembered of one table, where it can be.
pub struct Remembered {
    path: Option<PathBuf>,
    ranges: Option<Ranges>,
    /// The pass under way that this process began, and the next range it will note.
    under_way: Option<(DateTime<Utc>, u64)>,
}

impl Remembered {
    /// In a file below this folder, made when it is first needed.
    pub fn below(folder: &Path, topic: &str) -> Self {
        let path = (!folder.as_os_str().is_empty()).then(|| Ranges::path(folder, topic));
        Self { path, ranges: None, under_way: None }
    }

    /// Nowhere: every pass over everything reads every row.
    pub fn nothing() -> Self {
        Self { path: None, ranges: None, under_way: None }
    }

    /// What a pass over everything does that begins now.
    pub(super) fn begins(&mut self, id: Option<&str>, plan: &Plan) -> What {
        let shape = shape(plan);
        match self.open() {
            None => What::Rows,
            Some(ranges) if ranges.goes_with(id, &shape) => What::Comparing,
            Some(_) => What::Remembering,
        }
    }

    /// Notes keys that changes have brought. `false`: nothing here goes with that position.
    pub(super) fn touch<'k>(&mut self, id: Option<&str>, keys: impl Iterator<Item = &'k Key>) -> bool {
        if id.is_none() {
            return false;
        }
        let mut keys = keys.peekable();
        match self.open() {
            Some(ranges) if ranges.is(id) => {
                let touched = if keys.peek().is_some() { ranges.touch(keys) } else { Ok(()) };
                self.kept(touched).is_some()
            }
            _ => false,
        }
    }

    /// Of all ranges, unless there are too many.
    pub(super) fn bounds(&mut self) -> Option<Vec<Bound>> {
        self.with(|ranges| ranges.bounds(MOST_RANGES)).flatten()
    }

    fn open(&mut self) -> Option<&mut Ranges> {
        if self.ranges.is_none() {
            let opened = Ranges::open(self.path.as_deref()?);
            self.ranges = self.kept(opened);
        }
        self.ranges.as_mut()
    }

    /// A file that can't be used is as good as none.
    fn kept<T>(&mut self, done: Result<T, RangesError>) -> Option<T> {
        match done {
            Ok(done) => Some(done),
            Err(error) => {
                let file = self.path.as_deref().unwrap_or(Path::new("")).display().to_string();
                tracing::warn!(file, error = %error, "what was remembered of a table can't be used, every row is read");
                (self.ranges, self.under_way) = (None, None);
                None
            }
        }
    }

    fn with<T>(&mut self, work: impl FnOnce(&mut Ranges) -> Result<T, RangesError>) -> Option<T> {
        let done = work(self.open()?);
        self.kept(done)
    }

    /// Whether a pass under way can go on: it is this process's own, and has got at least that far.
    fn goes_on(&self, reading: &Reading) -> bool {
        let cursor = reading.ranges.unwrap_or_default();
        self.under_way.is_some_and(|(began, new)| began == reading.began && cursor.new <= new)
    }
}

/// What is read of each row: where that changes, hashes are of something else.
fn shape(plan: &Plan) -> String {
    let columns: Vec<_> = plan.select.iter().map(|column| (&column.name, &column.kind)).collect();
    let text = format!("{columns:?} {:?} {:?} {:?} {:?}", plan.origins, plan.key, plan.change, plan.zone);
    // Ranges of an earlier version go on being known where there is nothing new to say.
    let text = if plan.only.is_empty() { text } else { format!("{text} {:?}", plan.only) };
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(text.as_bytes()))
}

impl TableSource {
    /// The next page of a pass that reads every row, and remembers what they come to.
    pub(super) async fn remembering(&mut self, engine: &mut Engine, plan: &Plan, at: At) -> Result<Page, SourceError> {
        let goes_on = at.reading.as_ref().map(|reading| self.remembered.goes_on(reading));
        if goes_on == Some(false) {
            // Another process began it, or this one before a crash: it goes on without remembering.
            return self.rows_from(engine, plan, at).await;
        }
        let high = self.high(engine, plan, &at).await?;
        let (after, cursor) = match &at.reading {
            Some(reading) => (reading.after.clone(), reading.ranges.unwrap_or_default()),
            None => (None, Cursor::default()),
        };
        let id = match &at.reading {
            Some(_) => at.ranges.clone(),
            None => {
                let id = uuid::Uuid::new_v4().to_string();
                self.remembered.with(|ranges| ranges.begin(&id, &shape(plan))).map(|()| id)
            }
        };
        let statements = Statements { dialect: engine.dialect(), name: &self.name, plan };
        let bounds = Bounds { after: after.is_some(), ..Bounds::default() };
        let limit = self.pace.rows();
        let sql = statements.by_key(bounds, Extra { hashes: true }, Some(limit));
        let asked = Asked { sql, parameters: after.map(|row| row.key).unwrap_or_default() };
        let gather = Gather::new(plan, false, Some(limit), self.pace.most_bytes());
        let read = self.run(engine, &asked, gather).await?;
        let began = at.reading.as_ref().map_or(read.now, |reading| reading.began);
        let more = read.gather.more;
        let range = range(&read, None);
        let next = Cursor { new: cursor.new + 1, ..cursor };
        let noted = self.remembered.with(|ranges| ranges.put(cursor.new, &range));
        let ended = noted.and_then(|()| match more {
            true => Some(()),
            false => self.remembered.with(|ranges| ranges.finish(Some(began), MOST_GONE).map(|_| ())),
        });
        // The last page, asked for again, doesn't finish once more what is finished.
        self.remembered.under_way = more.then_some((began, next.new));
        let at = At { ranges: ended.and(id), ..at };
        let reading = Reading { began, high, after: None, what: What::Remembering, ranges: Some(next) };
        Ok(self.page(plan, at, reading, read))
    }

    /// Goes on as a plain pass over all rows.
    async fn rows_from(&mut self, engine: &mut Engine, plan: &Plan, at: At) -> Result<Page, SourceError> {
        let reading = at.reading.map(|reading| Reading { what: What::Rows, ranges: None, ..reading });
        self.rows(engine, plan, At { reading, ranges: None, ..at }).await
    }

    /// The next page of a pass that reads only ranges that differ.
    pub(super) async fn comparing(&mut self, engine: &mut Engine, plan: &Plan, at: At) -> Result<Page, SourceError> {
        let moment = engine.moment(&self.name).await?;
        self.is_as_planned(&moment, &plan.print)?;
        let goes_with = self.remembered.begins(at.ranges.as_deref(), plan) == What::Comparing;
        if !goes_with {
            // The columns have changed since, or the file has gone: everything again, from the beginning.
            return self.remembering(engine, plan, At { reading: None, ..at }).await;
        }
        let high = self.high(engine, plan, &at).await?;
        let mut reading = match at.reading.clone().filter(|reading| self.remembered.goes_on(reading)) {
            Some(reading) => reading,
            None => {
                let began = at.reading.as_ref().map_or(moment.now, |reading| reading.began);
                Reading { began, high, after: None, what: What::Comparing, ranges: None }
            }
        };
        let whole = self.compares_rows(plan, reading.began);
        let mut cursor = reading.ranges.unwrap_or_default();
        let started = Instant::now();
        if self.sums.as_ref().is_none_or(|sums| sums.began != reading.began) {
            self.sum_up(engine, plan, reading.began, whole).await;
        }
        loop {
            let Some((old, from)) =
                self.remembered.with(|ranges| Ok((ranges.get(cursor.next)?, before(ranges, cursor)?)))
            else {
                return self.remembering(engine, plan, At { reading: None, ..at }).await;
            };
            let Some(old) = old else {
                // The last range has no end: one that has is followed by another, or the file is damaged.
                if cursor.next == 0 || from.is_some() {
                    return self.remembering(engine, plan, At { reading: None, ..at }).await;
                }
                reading = Reading { what: What::Looking, after: None, ranges: Some(cursor), ..reading };
                return Ok(self.nothing_yet(at, reading));
            };
            if reading.after.is_none() {
                if self.is_same(engine, plan, (cursor.next, &old), from.as_deref(), whole).await? {
                    if self.remembered.with(|ranges| ranges.put(cursor.new, &old)).is_none() {
                        return self.remembering(engine, plan, At { reading: None, ..at }).await;
                    }
                    cursor = Cursor { next: cursor.next + 1, first: cursor.new + 1, new: cursor.new + 1 };
                    if started.elapsed() < HAND_OVER {
                        continue;
                    }
                    reading = Reading { ranges: Some(cursor), ..reading };
                    return Ok(self.nothing_yet(at, reading));
                }
                cursor.first = cursor.new;
            }
            let page = self.differing(engine, plan, at, reading, (old, from, cursor)).await?;
            return Ok(page);
        }
    }

    /// A page of a range that differs.
    async fn differing(
        &mut self,
        engine: &mut Engine,
        plan: &Plan,
        at: At,
        reading: Reading,
        (old, from, mut cursor): (Range, Option<Vec<String>>, Cursor),
    ) -> Result<Page, SourceError> {
        let after = reading.after.as_ref().map(|row| row.key.clone()).or(from);
        let statements = Statements { dialect: engine.dialect(), name: &self.name, plan };
        let limit = self.pace.rows();
        let bounds = Bounds { after: after.is_some(), up_to: old.up_to.is_some(), ..Bounds::default() };
        let sql = statements.by_key(bounds, Extra { hashes: true }, Some(limit));
        let parameters = after.into_iter().chain(old.up_to.clone()).flatten().collect();
        let gather = Gather::new(plan, false, Some(limit), self.pace.most_bytes());
        let read = self.run(engine, &Asked { sql, parameters }, gather).await?;
        let more = read.gather.more;
        let last = read.gather.rows.last.clone();
        let range = range(&read, old.up_to);
        // An empty range is part of its neighbour.
        let mut noted = Some(());
        if range.rows > 0 || range.up_to.is_none() {
            noted = self.remembered.with(|ranges| ranges.put(cursor.new, &range));
            cursor.new += 1;
        }
        if !more {
            let settled = self.remembered.with(|ranges| ranges.settle(cursor.next, cursor.first..cursor.new));
            noted = noted.and(settled.map(|_| ()));
            cursor = Cursor { next: cursor.next + 1, first: cursor.new, new: cursor.new };
        }
        let reading = Reading { after: last.filter(|_| more), ranges: Some(cursor), ..reading };
        // A file with a hole vouches for nothing: the next page begins to remember anew.
        let ranges = at.ranges.clone().filter(|_| noted.is_some());
        let mut page = self.nothing_yet(At { ranges, ..at }, reading);
        page.captured = read.captured;
        page.read = read.gather.rows.read;
        (page.changes, page.rejects) = read.gather.rows.finish();
        Ok(page)
    }

    /// The last part of a comparison: keys that no range vouches for are looked up.
    pub(super) async fn looking(&mut self, engine: &mut Engine, plan: &Plan, at: At) -> Result<Page, SourceError> {
        let Some(reading) = at.reading.clone().filter(|reading| self.remembered.goes_on(reading)) else {
            return self.comparing(engine, plan, at).await;
        };
        let after = reading.after.as_ref().and_then(|row| row.key.first().cloned());
        // A parameter for each part of each key.
        let at_once = LOOKED_UP / plan.key.len().max(1);
        let Some(doubtful) = self.remembered.with(|ranges| ranges.doubtful(after.as_deref(), at_once)) else {
            return self.remembering(engine, plan, At { reading: None, ..at }).await;
        };
        let Some(last) = doubtful.last().cloned() else { return Ok(self.compared(plan, at, reading)) };
        let parts = doubtful.iter().flat_map(|key| Key::from(key.as_str()).parts());
        let parameters = parts.map(Option::unwrap_or_default).collect();
        let statements = Statements { dialect: engine.dialect(), name: &self.name, plan };
        let asked = Asked { sql: statements.present(doubtful.len()), parameters };
        let print = &plan.print;
        let found: HashSet<Key> =
            engine.present(&self.name, &asked, |moment| self.is_as_planned(moment, print), plan).await?;
        self.remembered.with(|ranges| ranges.judge(&doubtful, |key| found.contains(&Key::from(key))));
        let reading = Reading { after: Some(Row { change: None, key: vec![last] }), ..reading };
        Ok(self.nothing_yet(at, reading))
    }

    /// The end of a comparison.
    fn compared(&mut self, plan: &Plan, at: At, reading: Reading) -> Page {
        let rows_at = self.compares_rows(plan, reading.began).then_some(reading.began);
        let gone = self.remembered.with(|ranges| ranges.finish(rows_at, MOST_GONE)).flatten();
        let ranges = at.ranges.clone().filter(|_| gone.is_some());
        let next = At { began: Some(reading.began), high: reading.high, ranges, reading: None };
        let complete_to = self.complete_to(plan, reading.began);
        let page = self.nothing_yet(at, reading);
        // The last page, asked for again, compares again: what is finished isn't finished once more.
        (self.remembered.under_way, self.sums) = (None, None);
        // A file that failed just now can't say what has gone, and some of too many keys would pass for all of them:
        // nothing is taken for absent.
        Page { next: next.position(), end: true, complete_to: gone.is_some().then_some(complete_to), gone, ..page }
    }

    /// A page without records that takes the pass on.
    fn nothing_yet(&mut self, at: At, reading: Reading) -> Page {
        let new = reading.ranges.unwrap_or_default().new;
        self.remembered.under_way = Some((reading.began, new));
        Page {
            changes: Vec::new(),
            rejects: Vec::new(),
            read: 0,
            superseded: 0,
            next: At { reading: Some(reading), ..at }.position(),
            end: false,
            captured: self.now(),
            complete_to: None,
            gone: Some(Vec::new()),
        }
    }

    /// Whether whole rows are compared in the pass that began then.
    fn compares_rows(&mut self, plan: &Plan, began: DateTime<Utc>) -> bool {
        let every = TimeDelta::from_std(self.table.compare_rows_every).unwrap_or(TimeDelta::MAX);
        let last = self.remembered.open().and_then(|ranges| ranges.rows_at());
        let long_ago = last.is_none_or(|last| began - last >= every);
        plan.change.is_none() || self.table.compare == Compare::Row || long_ago
    }

    /// Whether the database's rows of a range come to what is remembered of it.
    async fn is_same(
        &self,
        engine: &mut Engine,
        plan: &Plan,
        (place, old): (u64, &Range),
        from: Option<&[String]>,
        whole: bool,
    ) -> Result<bool, SourceError> {
        if old.keyless {
            return Ok(false);
        }
        let remembered = (old.rows, if whole { old.row } else { old.change });
        if let Some(summed) = self.sums.as_ref().and_then(|sums| sums.of(place)) {
            return Ok(summed == remembered);
        }
        let bounds = Bounds { after: from.is_some(), up_to: old.up_to.is_some(), ..Bounds::default() };
        let statements = Statements { dialect: engine.dialect(), name: &self.name, plan };
        let parameters = from.into_iter().flatten().chain(old.up_to.iter().flatten()).cloned().collect();
        let asked = Asked { sql: statements.hash(bounds, whole), parameters };
        Ok(engine.hash(&asked).await? == remembered)
    }
}

/// The last key of the range before, behind which the next one begins.
fn before(ranges: &Ranges, cursor: Cursor) -> Result<Option<Vec<String>>, RangesError> {
    match cursor.next.checked_sub(1) {
        Some(before) => Ok(ranges.get(before)?.and_then(|range| range.up_to)),
        None => Ok(None),
    }
}

/// What a page comes to as a range. `end`: the last key of a range that it is the last page of.
fn range(read: &Read<'_>, end: Option<Vec<String>>) -> Range {
    let rows = &read.gather.rows;
    Range {
        up_to: if read.gather.more { rows.last.as_ref().map(|row| row.key.clone()) } else { end },
        rows: rows.read,
        change: read.gather.hashes[0],
        row: read.gather.hashes[1],
        keyless: rows.rejects.iter().any(|reject| reject.key.is_none()),
        keys: rows.keys().map(str::to_owned).collect(),
    }
}
