//! Reads a table: whole, in the order of its key, or what has changed, in the order of its change column.
//!
//! Each page is one short statement, and its last row says where the next one begins, so that a pass can go on after
//! a crash and no transaction stays open. What a pass promises is told in `docs/tables.md`.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Offset, SubsecRound, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use pipeline::change::Change;
use pipeline::clock::Clock;
use pipeline::reject::{Reason, Reject};
use pipeline::source::{Ask, Page, Position, Source, SourceError};
use schemas::{Key, Schema, Topic};
use serde_json::Value as Json;
use tokio::sync::Mutex;

use super::compare::Remembered;
use super::config::{Compare, TableConfig, TablesConfig};
use super::engine::{Engine, Gather, Pace};
use super::plan::{self, ChangeKind, Plan};
use super::position::{At, Reading, What};
use super::postgres::failure::is_of_a_value;
use super::postgres::{Asked, Moment, binary};
use super::sql::{Bounds, Dialect, Extra, Name, Statements};
use super::sums::Sums;
use super::types::ColumnKind;
use super::unsendable::Span;

/// One table's feed.
pub struct TableSource {
    pub(super) config: Arc<TablesConfig>,
    pub(super) table: TableConfig,
    pub(super) name: Name,
    /// All tables of a source share it: they are read one after another.
    pub(super) engine: Arc<Mutex<Engine>>,
    clock: Arc<dyn Clock>,
    pub(super) plan: Option<Arc<Plan>>,
    pub(super) pace: Pace,
    pub(super) remembered: Remembered,
    /// Of the comparison under way.
    pub(super) sums: Option<Sums>,
    /// They couldn't be had: that isn't tried again.
    pub(super) sums_failed: bool,
    /// Rows of this pass that the database couldn't send.
    pub(super) unsendable: u32,
}

/// One statement's rows, and when it was asked.
pub(super) struct Read<'p> {
    pub(super) gather: Gather<'p>,
    /// The database's time before it.
    pub(super) now: DateTime<Utc>,
    /// Ours.
    pub(super) captured: DateTime<Utc>,
}

impl TableSource {
    /// Reads `table` of the source's database.
    pub fn new(
        config: Arc<TablesConfig>,
        table: TableConfig,
        engine: Arc<Mutex<Engine>>,
        clock: Arc<dyn Clock>,
        remembered: Remembered,
    ) -> Self {
        let name = Name { schema: table.schema.clone(), table: table.table.clone() };
        let pace = Pace::new(&config);
        Self {
            config,
            table,
            name,
            engine,
            clock,
            plan: None,
            pace,
            remembered,
            sums: None,
            sums_failed: false,
            unsendable: 0,
        }
    }

    /// Looks at the table and makes the plan for it.
    pub(super) async fn look(&mut self, announced: &[Arc<Schema>]) -> Result<Arc<Plan>, SourceError> {
        self.plan = None;
        let looked = self.engine.lock().await.look(&self.name, &self.table.key).await?;
        let mut look = looked.ok_or_else(|| self.no_table())?;
        for column in &mut look.columns {
            if let Some(kind) = self.table.types.get(&column.name) {
                let fits = self.config.url.is_sqlite() || matches!(column.kind, ColumnKind::String | ColumnKind::Json);
                if !fits {
                    let reason = format!("{:?} is {}, not text that could hold JSON", column.name, column.shown);
                    return Err(self.refused(&reason, "correct `types`"));
                }
                column.kind = kind.clone();
            }
        }
        let plan = Arc::new(plan::plan(&self.table, self.config.zone, &look, announced)?);
        self.plan = Some(Arc::clone(&plan));
        Ok(plan)
    }

    fn no_table(&self) -> SourceError {
        let (dialect, hint) = if self.config.url.is_sqlite() {
            (Dialect::Sqlite, "correct `table`")
        } else {
            (Dialect::Postgres, "correct `table` or `schema`, or grant usage on the schema")
        };
        self.refused(&format!("there is no table {}", self.name.sql(dialect)), hint)
    }

    fn refused(&self, reason: &str, hint: &str) -> SourceError {
        let (reason, hint) = (reason.to_owned(), hint.to_owned());
        SourceError::Refused { system: self.table.topic.name.clone(), reason, hint }
    }

    pub(super) fn evolved(&self) -> SourceError {
        let reason = format!("the columns of {} aren't what they were", self.table.table);
        SourceError::Evolved { system: self.table.topic.name.clone(), reason }
    }

    /// Our time. Milliseconds are enough, and cut off they are never too late.
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.clock.now().trunc_subsecs(3)
    }

    /// Runs one statement. The table must still be what the plan was made for.
    pub(super) async fn run<'p>(
        &mut self,
        engine: &mut Engine,
        asked: &Asked,
        mut gather: Gather<'p>,
    ) -> Result<Read<'p>, SourceError> {
        let captured = self.now();
        let mut now = captured;
        let print = gather.plan.print.clone();
        let first = |moment: &Moment| {
            now = moment.now;
            self.is_as_planned(moment, &print)
        };
        engine.read(&self.name, asked, first, &mut gather).await?;
        self.pace.learn(gather.rows.read, gather.rows.bytes());
        Ok(Read { gather, now, captured })
    }

    /// Whether the table is still what the plan was made for.
    pub(super) fn is_as_planned(&self, moment: &Moment, print: &str) -> Result<(), SourceError> {
        match () {
            () if moment.print.is_empty() => Err(self.no_table()),
            () if moment.print != print => Err(self.evolved()),
            () => Ok(()),
        }
    }

    /// What a pass that begins now reads.
    fn begins(&mut self, ask: &Ask, at: &At, plan: &Plan, dialect: Dialect) -> Result<What, SourceError> {
        match ask {
            Ask::Window { .. } if !matches!(plan.change, Some((_, ChangeKind::Time(_)))) => Err(self.refused(
                "it has no column that says when a row changed",
                "ask for everything instead, or name a timestamp as `change`",
            )),
            Ask::Window { .. } => Ok(What::Window),
            Ask::Changes if plan.change.is_some() => Ok(What::Changes),
            // The first load is to be quick; and what lies in a file here isn't far away.
            _ if !at.has_ended() || dialect == Dialect::Sqlite || self.table.compare == Compare::No => Ok(What::Rows),
            _ => Ok(self.remembered.begins(at.ranges.as_deref(), plan)),
        }
    }

    /// The highest number of the change column when the pass began: what comes later is for the next one to find.
    pub(super) async fn high(&self, engine: &mut Engine, plan: &Plan, at: &At) -> Result<Option<i64>, SourceError> {
        let statements = Statements { dialect: engine.dialect(), name: &self.name, plan };
        match (&at.reading, plan.change, statements.highest()) {
            (Some(reading), ..) => Ok(reading.high),
            (None, Some((_, ChangeKind::Number)), Some(sql)) => engine.highest(sql).await,
            _ => Ok(None),
        }
    }

    /// The next page of a pass over all rows.
    pub(super) async fn rows(&mut self, engine: &mut Engine, plan: &Plan, at: At) -> Result<Page, SourceError> {
        // Whatever is remembered doesn't know of what this pass brings.
        let at = At { ranges: None, ..at };
        let high = self.high(engine, plan, &at).await?;
        let statements = Statements { dialect: engine.dialect(), name: &self.name, plan };
        let after = at.reading.as_ref().and_then(|reading| reading.after.clone());
        let bounds = Bounds { after: after.is_some(), ..Bounds::default() };
        let limit = self.pace.rows();
        let sql = statements.by_key(bounds, Extra::default(), Some(limit));
        let asked = Asked { sql, parameters: after.map(|row| row.key).unwrap_or_default() };
        let gather = Gather::new(plan, false, Some(limit), self.pace.most_bytes());
        let read = match self.run(engine, &asked, gather).await {
            Err(error) if is_of_a_value(&error) => {
                self.around(engine, plan, Span { by_change: false, bounds, limit }, asked.parameters).await?
            }
            read => read?,
        };
        let began = at.reading.as_ref().map_or(read.now, |reading| reading.began);
        let reading = Reading { began, high, after: None, what: What::Rows, ranges: None };
        Ok(self.page(plan, at, reading, read))
    }

    /// The next page of what has changed, or what did in a window.
    async fn changes(&mut self, engine: &mut Engine, plan: &Plan, at: At, ask: &Ask) -> Result<Page, SourceError> {
        let statements = Statements { dialect: engine.dialect(), name: &self.name, plan };
        let mut bounds = Bounds::default();
        let mut parameters = Vec::new();
        let after = at.reading.as_ref().and_then(|reading| reading.after.clone());
        let mut skip = 0;
        let limit = self.pace.rows();
        let (what, high) = match ask {
            Ask::Window { from, to, page } => {
                bounds = Bounds { from: true, below: true, ..bounds };
                let (behind, dialect) = (to.succ_opt().unwrap_or(*to), engine.dialect());
                parameters = vec![self.day(*from, EARLIER, plan, dialect), self.day(behind, LATER, plan, dialect)];
                if after.is_none() {
                    skip = page.map_or(0, |page| u64::from(page.get()) - 1) * u64::from(self.config.page_rows);
                }
                (What::Window, None)
            }
            _ => {
                if after.is_none()
                    && let Some(from) = self.from(&at, plan, engine.dialect())
                {
                    bounds.from = true;
                    parameters.push(from);
                }
                (What::Changes, at.reading.as_ref().map_or(at.high, |reading| reading.high))
            }
        };
        if let Some(row) = after {
            bounds.after = true;
            parameters.extend(row.parameters(true));
        }
        let asked = Asked { sql: statements.by_change(bounds, limit, skip), parameters };
        let gather = Gather::new(plan, true, Some(limit), self.pace.most_bytes());
        let read = match self.run(engine, &asked, gather).await {
            // What is left out at the beginning can't be named.
            Err(error) if is_of_a_value(&error) && skip == 0 => {
                self.around(engine, plan, Span { by_change: true, bounds, limit }, asked.parameters).await?
            }
            read => read?,
        };
        let began = at.reading.as_ref().map_or(read.now, |reading| reading.began);
        let high = high.max(read.gather.rows.high);
        let mut page = self.page(plan, at.clone(), Reading { began, high, after: None, what, ranges: None }, read);
        let brought = page.changes.iter().map(Change::key);
        let brought = brought.chain(page.rejects.iter().filter_map(|reject| reject.key.as_ref()));
        if !self.remembered.touch(at.ranges.as_deref(), brought) {
            page.next = At { ranges: None, ..At::of(Some(&page.next)) }.position();
        }
        Ok(page)
    }

    /// Makes the page, and the position behind it.
    pub(super) fn page(&self, plan: &Plan, at: At, reading: Reading, read: Read<'_>) -> Page {
        let Read { gather, captured, .. } = read;
        let end = !gather.more;
        let next = match (end, reading.what) {
            // A window leaves the feed where it was.
            (true, What::Window) => At { reading: None, ..at },
            (true, _) => At { began: Some(reading.began), high: reading.high, reading: None, ..at },
            (false, _) => At { reading: Some(Reading { after: gather.rows.last.clone(), ..reading.clone() }), ..at },
        };
        let complete_to = (end && reading.what != What::Window).then(|| self.complete_to(plan, reading.began));
        let read = gather.rows.read;
        let (changes, rejects) = gather.rows.finish();
        Page { changes, rejects, read, superseded: 0, next: next.position(), end, captured, complete_to, gone: None }
    }

    /// What may still be committed with an earlier time isn't promised.
    pub(super) fn complete_to(&self, plan: &Plan, began: DateTime<Utc>) -> DateTime<Utc> {
        let overlap = TimeDelta::from_std(self.table.overlap).unwrap_or(TimeDelta::MAX);
        match plan.change {
            Some((_, ChangeKind::Time(_))) => began.checked_sub_signed(overlap).unwrap_or(DateTime::<Utc>::MIN_UTC),
            _ => began,
        }
    }

    /// Where reading changes begins: behind the last success by the overlap. `None`: at the beginning.
    fn from(&self, at: &At, plan: &Plan, dialect: Dialect) -> Option<String> {
        match plan.change?.1 {
            ChangeKind::Number => Some(at.high?.saturating_sub(self.table.overlap_count).to_string()),
            ChangeKind::Time(zone) => {
                let overlap = TimeDelta::from_std(self.table.overlap).unwrap_or(TimeDelta::MAX);
                let from = at.began?.checked_sub_signed(overlap)?;
                // Where clocks went back meanwhile, rows are found under the times of either.
                let ahead = zone.map_or(0, |zone| ahead_of_utc(zone, from).min(ahead_of_utc(zone, self.clock.now())));
                Some(moment(from + TimeDelta::seconds(ahead), zone.is_none(), EARLIER, dialect))
            }
        }
    }

    /// The beginning of a day in the source's zone. `days`: as for [`moment`].
    fn day(&self, day: NaiveDate, days: i64, plan: &Plan, dialect: Dialect) -> String {
        let midnight = day.and_hms_opt(0, 0, 0).unwrap_or_default().and_utc();
        let with_zone = matches!(plan.change, Some((_, ChangeKind::Time(None))));
        let zone = self.config.zone.filter(|_| with_zone).unwrap_or(Tz::UTC);
        let began = super::rows::utc(midnight.timestamp_micros(), zone).and_then(DateTime::from_timestamp_micros);
        moment(began.unwrap_or(midnight), with_zone, days, dialect)
    }
}

fn ahead_of_utc(zone: Tz, at: DateTime<Utc>) -> i64 {
    i64::from(zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc())
}

/// Where text with an offset shows the day before UTC's.
const EARLIER: i64 = -1;

/// Where it shows the next day; and a bound that cuts through a day of UTC leaves out none of it.
const LATER: i64 = 2;

/// A time as the database takes it. SQLite compares text, of which the day is the same in every form; where it has an
/// offset, the bound is moved by so many `days`: rows that are read for nothing are unchanged.
fn moment(at: DateTime<Utc>, with_zone: bool, days: i64, dialect: Dialect) -> String {
    /// PostgreSQL counts from 2000-01-01.
    const EPOCH: i64 = 946_684_800_000_000;
    match dialect {
        Dialect::Postgres => binary::time(at.timestamp_micros().saturating_sub(EPOCH), with_zone),
        Dialect::Sqlite => {
            let moved = TimeDelta::days(if with_zone { days } else { 0 });
            at.checked_add_signed(moved).unwrap_or(at).format("%Y-%m-%d").to_string()
        }
    }
}

#[async_trait]
impl Source for TableSource {
    async fn schema(&mut self, announced: &[Arc<Schema>]) -> Result<Option<Arc<Schema>>, SourceError> {
        Ok(Some(Arc::clone(&self.look(announced).await?.schema)))
    }

    fn compares(&self) -> bool {
        self.table.compare != Compare::No
    }

    async fn read(&mut self, ask: &Ask, after: Option<&Position>) -> Result<Page, SourceError> {
        let Some(plan) = self.plan.clone() else { return Err(self.evolved()) };
        let at = At::of(after);
        let engine = Arc::clone(&self.engine);
        let engine = &mut *engine.lock().await;
        if at.reading.is_none() {
            self.unsendable = 0;
        }
        let what = match &at.reading {
            Some(reading) => reading.what,
            None => self.begins(ask, &at, &plan, engine.dialect())?,
        };
        let whole = At { reading: None, ranges: None, ..at.clone() };
        let compared = match what {
            What::Remembering => self.remembering(engine, &plan, at.clone()).await,
            What::Comparing => self.comparing(engine, &plan, at.clone()).await,
            What::Looking => self.looking(engine, &plan, at.clone()).await,
            _ => return self.plain(engine, &plan, what, at, ask).await,
        };
        match compared {
            // Ranges with such a row have no hash: every row is read.
            Err(error) if is_of_a_value(&error) => self.rows(engine, &plan, whole).await,
            compared => compared,
        }
    }

    fn decode(&self, raw: &[u8]) -> Result<Change, Reject> {
        let reject = |code, text: String| Reject::new(None, Reason::new(code, text), raw.to_vec());
        let Some(plan) = &self.plan else {
            return Err(reject("not_ready", "its table can't be looked at".to_owned()));
        };
        let json: Json = serde_json::from_slice(raw).map_err(|_| reject("not_json", "expected JSON".to_owned()))?;
        let body = schemas::from_json(&plan.schema, &json).map_err(|problems| {
            let problems = problems.iter().map(ToString::to_string).collect::<Vec<_>>();
            reject("bad_value", problems.join("; "))
        })?;
        let key = self.key_of(plan, &body).map_err(|text| reject("no_key", text))?;
        Ok(Change::Put { key, body: body.into(), time: None })
    }
}

impl TableSource {
    /// A page that compares nothing.
    async fn plain(
        &mut self,
        engine: &mut Engine,
        plan: &Plan,
        what: What,
        at: At,
        ask: &Ask,
    ) -> Result<Page, SourceError> {
        match what {
            What::Changes | What::Window if plan.change.is_some() => self.changes(engine, plan, at, ask).await,
            // The configuration lost its change column in the middle of a pass.
            What::Changes | What::Window => self.rows(engine, plan, At { reading: None, ..at }).await,
            _ => self.rows(engine, plan, at).await,
        }
    }

    fn key_of(&self, plan: &Plan, body: &[u8]) -> Result<Key, String> {
        let topic = Topic::of_table(self.table.topic.clone()).map_err(|error| error.to_string())?;
        let topic = topic.with_schema(Arc::clone(&plan.schema));
        let entity = topic.entity().ok_or("no topic of entities")?;
        entity.key_of(body).map_err(|malformed| malformed.to_string())
    }
}
