//! The index of the dead letters: what `muster dead-letters` lists, filters and shows.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::database::{Row, Statement};
use super::{Operations, OperationsError, or_kept};
use crate::log::Offset;

/// What has become of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LetterState {
    /// Nobody has settled it.
    Open,
    /// It was replayed and delivered.
    Replayed,
    /// A newer version of the same key was delivered.
    Superseded,
    /// A person decided that it isn't wanted.
    Dropped,
}

impl LetterState {
    /// As the index and the command line write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Replayed => "replayed",
            Self::Superseded => "superseded",
            Self::Dropped => "dropped",
        }
    }

    pub(crate) fn parse(text: &str) -> Self {
        match text {
            "replayed" => Self::Replayed,
            "superseded" => Self::Superseded,
            "dropped" => Self::Dropped,
            _ => Self::Open,
        }
    }
}

/// A letter as the index has it, without its contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LetterRow {
    /// Its id.
    pub id: String,
    /// What has become of it.
    pub state: LetterState,
    /// Who set it aside.
    pub component: String,
    /// The topic it was to go to, or came from.
    pub topic: Option<String>,
    /// The record's key.
    pub key: Option<String>,
    /// The record's version.
    pub version: Option<i64>,
    /// Groups letters of one kind.
    pub code: String,
    /// Why, without contents.
    pub reason: String,
    /// When it was written.
    pub at: DateTime<Utc>,
    /// When it was settled.
    pub settled: Option<DateTime<Utc>>,
}

/// Which letters.
#[derive(Debug, Clone, Default)]
pub struct LetterFilter {
    /// In this state.
    pub state: Option<LetterState>,
    /// Of this component.
    pub component: Option<String>,
    /// Of this topic.
    pub topic: Option<String>,
    /// With this reason code.
    pub code: Option<String>,
    /// With this key.
    pub key: Option<String>,
    /// Written at or after.
    pub since: Option<DateTime<Utc>>,
    /// Written before.
    pub until: Option<DateTime<Utc>>,
}

/// What a record of the letters' topic tells the index.
pub(crate) enum Indexed {
    /// A letter was written.
    Entered {
        /// As the index has it.
        row: Box<LetterRow>,
        /// The run it came up in.
        run: Option<String>,
        /// The whole of it, as the log has it.
        letter: String,
    },
    /// A letter was settled.
    Settled {
        /// Its id.
        id: String,
        /// What has become of it.
        state: LetterState,
        /// When.
        at: DateTime<Utc>,
    },
}

impl Indexed {
    fn statement(self) -> Statement {
        match self {
            // One that is there already keeps its state, unless it is a topic's record that was replayed or superseded:
            // whoever set it aside again holds something else, so it is open again.
            Self::Entered { row, run, letter } => Statement::new(
                "insert into letters (id, state, component, topic, key, version, code, reason, at, run, letter) \
                 values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) on conflict (id) do update set state = 'open', \
                 settled = null, code = excluded.code, reason = excluded.reason, at = excluded.at, \
                 letter = excluded.letter where letters.version is not null \
                 and letters.state in ('replayed', 'superseded')",
            )
            .bind(row.id)
            .bind(row.state.as_str())
            .bind(row.component)
            .bind(row.topic)
            .bind(row.key)
            .bind(row.version)
            .bind(row.code)
            .bind(row.reason)
            .bind(row.at)
            .bind(run)
            .bind(letter),
            // Superseded is only what is still open: a replay may be delivered before it is noted as such.
            Self::Settled { id, state, at } => Statement::new(match state {
                LetterState::Superseded => {
                    "update letters set state = $1, settled = $2 where id = $3 and state = 'open'"
                }
                _ => "update letters set state = $1, settled = $2 where id = $3",
            })
            .bind(state.as_str())
            .bind(at)
            .bind(id),
        }
    }
}

/// Keys that are asked for at once.
const KEYS_AT_ONCE: usize = 1_000;

impl Operations {
    /// Up to where the index has followed a partition of the letters' topic. In another life of it: from its start.
    pub(crate) async fn letters_read(&self, partition: u32, life: &str) -> Result<Offset, OperationsError> {
        or_kept!(self, |kept| Ok(kept.letters_read(partition, life)));
        let begin = "insert into letters_read (partition, life, next) values ($1, $2, 0) on conflict (partition) \
                     do update set life = excluded.life, next = 0 where letters_read.life <> excluded.life";
        self.execute(Statement::new(begin).bind(i64::from(partition)).bind(life)).await?;
        let sql = "select next from letters_read where partition = $1";
        let row = self.row(Statement::new(sql).bind(i64::from(partition))).await?;
        Ok(Offset(row.map(|row| row.get("next")).transpose()?.unwrap_or(0)))
    }

    /// Follows a partition of the letters' topic again from its start: it ends before what had been read.
    pub(crate) async fn read_letters_again(&self, partition: u32) -> Result<(), OperationsError> {
        or_kept!(self, |kept| kept.read_letters_again(partition));
        let sql = "update letters_read set next = 0 where partition = $1";
        self.execute(Statement::new(sql).bind(i64::from(partition))).await?;
        Ok(())
    }

    /// Enters what the letters' topic holds between two offsets. `false`: somebody else has gone on from `from`; nothing
    /// was done.
    pub(crate) async fn index_letters(
        &self,
        partition: u32,
        life: &str,
        from: Offset,
        next: Offset,
        records: Vec<Indexed>,
    ) -> Result<bool, OperationsError> {
        or_kept!(self, |kept| kept.index_letters(partition, (life, from, next), records).await);
        self.prepare().await?;
        let guard = "update letters_read set next = $1 where partition = $2 and life = $3 and next = $4";
        let guard = Statement::new(guard).bind(next.0).bind(i64::from(partition)).bind(life).bind(from.0);
        let done = self.database.guarded(guard, records.into_iter().map(Indexed::statement).collect()).await?;
        self.notes.answered();
        Ok(done)
    }

    /// The letters that the filter lets through, newest first.
    pub async fn letters(&self, filter: &LetterFilter, limit: u32) -> Result<Vec<LetterRow>, OperationsError> {
        or_kept!(self, |kept| Ok(kept.letters(filter, limit)));
        let mut query = Statement::new("select * from letters where true");
        filtered(&mut query, filter);
        let limit = query.push(i64::from(limit));
        query.say(&format!(" order by at desc, id limit {limit}"));
        self.rows(query).await?.iter().map(|row| Ok(letter_row(row)?)).collect()
    }

    /// How many letters the filter lets through.
    pub async fn count_letters(&self, filter: &LetterFilter) -> Result<u64, OperationsError> {
        or_kept!(self, |kept| Ok(kept.count_letters(filter)));
        let mut query = Statement::new("select count(*) as letters from letters where true");
        filtered(&mut query, filter);
        let count = self.row(query).await?.map(|row| row.get::<i64>("letters")).transpose()?;
        Ok(super::counted(count.unwrap_or(0)))
    }

    /// One letter, whole, as the log has it. `None`: no such id.
    pub async fn letter(&self, id: &str) -> Result<Option<(LetterRow, String)>, OperationsError> {
        or_kept!(self, |kept| Ok(kept.letter(id)));
        let row = self.row(Statement::new("select * from letters where id = $1").bind(id)).await?;
        Ok(row.map(|row| Ok::<_, sqlx::Error>((letter_row(&row)?, row.get("letter")?))).transpose()?)
    }

    /// The open letters of a component for any of these keys.
    pub async fn open_letters_of(&self, component: &str, keys: &[&str]) -> Result<Vec<LetterRow>, OperationsError> {
        or_kept!(self, |kept| Ok(kept.open_letters_of(component, keys)));
        let mut letters = Vec::new();
        for keys in keys.chunks(KEYS_AT_ONCE) {
            let mut query =
                Statement::new("select * from letters where state = 'open' and component = $1 and key in (");
            query = query.bind(component);
            for (place, key) in keys.iter().enumerate() {
                let key = query.push(*key);
                query.say(if place == 0 { "" } else { ", " });
                query.say(&key);
            }
            query.say(")");
            for row in self.rows(query).await? {
                letters.push(letter_row(&row)?);
            }
        }
        Ok(letters)
    }
}

fn filtered(query: &mut Statement, filter: &LetterFilter) {
    let texts = [
        (" and state = ", filter.state.map(|state| state.as_str().to_owned())),
        (" and component = ", filter.component.clone()),
        (" and topic = ", filter.topic.clone()),
        (" and code = ", filter.code.clone()),
        (" and key = ", filter.key.clone()),
    ];
    for (condition, value) in texts {
        if let Some(value) = value {
            let value = query.push(value);
            query.say(&format!("{condition}{value}"));
        }
    }
    for (condition, time) in [(" and at >= ", filter.since), (" and at < ", filter.until)] {
        if let Some(time) = time {
            let time = query.push(time);
            query.say(&format!("{condition}{time}"));
        }
    }
}

fn letter_row(row: &Row) -> Result<LetterRow, sqlx::Error> {
    Ok(LetterRow {
        id: row.get("id")?,
        state: LetterState::parse(&row.get::<String>("state")?),
        component: row.get("component")?,
        topic: row.get("topic")?,
        key: row.get("key")?,
        version: row.get("version")?,
        code: row.get("code")?,
        reason: row.get("reason")?,
        at: row.get("at")?,
        settled: row.get("settled")?,
    })
}
