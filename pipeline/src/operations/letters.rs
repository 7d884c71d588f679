//! The index of the dead letters: what `muster dead-letters` lists, filters and shows.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite};

use super::{Operations, OperationsError, pool_or};

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

    fn parse(text: &str) -> Self {
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

impl Operations {
    /// Enters a letter. One that is there already keeps its state, unless it is a topic's record that was replayed or
    /// superseded: whoever set it aside again holds something else, so it is open again. `letter`: the whole of it, as
    /// the log has it.
    pub async fn enter_letter(&self, row: &LetterRow, run: Option<&str>, letter: &str) -> Result<(), OperationsError> {
        let pool = pool_or!(self, |kept| kept.enter_letter(row, letter).await);
        let query = "insert into letters (id, state, component, topic, key, version, code, reason, at, run, letter) \
                     values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict (id) do update set state = 'open', settled = null, \
                     code = excluded.code, reason = excluded.reason, at = excluded.at, letter = excluded.letter \
                     where version is not null and state in ('replayed', 'superseded')";
        sqlx::query(query)
            .bind(&row.id)
            .bind(row.state.as_str())
            .bind(&row.component)
            .bind(&row.topic)
            .bind(&row.key)
            .bind(row.version)
            .bind(&row.code)
            .bind(&row.reason)
            .bind(row.at)
            .bind(run)
            .bind(letter)
            .execute(pool)
            .await?;
        Ok(())
    }

    /// The letters that the filter lets through, newest first.
    pub async fn letters(&self, filter: &LetterFilter, limit: u32) -> Result<Vec<LetterRow>, OperationsError> {
        let pool = pool_or!(self, |kept| Ok(kept.letters(filter, limit)));
        let mut query = QueryBuilder::<Sqlite>::new("select * from letters where 1 = 1");
        filtered(&mut query, filter);
        query.push(" order by at desc, id limit ").push_bind(limit);
        let rows = query.build().fetch_all(pool).await?;
        rows.iter().map(|row| Ok(letter_row(row)?)).collect()
    }

    /// How many letters the filter lets through.
    pub async fn count_letters(&self, filter: &LetterFilter) -> Result<u64, OperationsError> {
        let pool = pool_or!(self, |kept| Ok(kept.count_letters(filter)));
        let mut query = QueryBuilder::<Sqlite>::new("select count(*) from letters where 1 = 1");
        filtered(&mut query, filter);
        let count: i64 = query.build_query_scalar().fetch_one(pool).await?;
        Ok(super::counted(count))
    }

    /// One letter, whole, as the log has it. `None`: no such id.
    pub async fn letter(&self, id: &str) -> Result<Option<(LetterRow, String)>, OperationsError> {
        let pool = pool_or!(self, |kept| Ok(kept.letter(id)));
        let row = sqlx::query("select * from letters where id = ?").bind(id).fetch_optional(pool).await?;
        Ok(row.map(|row| Ok::<_, sqlx::Error>((letter_row(&row)?, row.try_get("letter")?))).transpose()?)
    }

    /// Notes what has become of a letter. Superseded is only what is still open: a replay may be delivered before it is
    /// noted as such.
    pub async fn settle_letter(&self, id: &str, state: LetterState, at: DateTime<Utc>) -> Result<(), OperationsError> {
        let pool = pool_or!(self, |kept| kept.settle_letter(id, state, at).await);
        let query =
            "update letters set state = ?1, settled = ?2 where id = ?3 and (state = 'open' or ?1 <> 'superseded')";
        sqlx::query(query).bind(state.as_str()).bind(at).bind(id).execute(pool).await?;
        Ok(())
    }

    /// The open letters of a component for any of these keys.
    pub async fn open_letters_of(&self, component: &str, keys: &[&str]) -> Result<Vec<LetterRow>, OperationsError> {
        let pool = pool_or!(self, |kept| Ok(kept.open_letters_of(component, keys)));
        let keys = serde_json::to_string(keys).unwrap_or_default();
        let query = "select * from letters where state = 'open' and component = ? \
                     and key in (select value from json_each(?))";
        let rows = sqlx::query(query).bind(component).bind(keys).fetch_all(pool).await?;
        rows.iter().map(|row| Ok(letter_row(row)?)).collect()
    }
}

fn filtered(query: &mut QueryBuilder<Sqlite>, filter: &LetterFilter) {
    let texts = [
        (" and state = ", filter.state.map(|state| state.as_str().to_owned())),
        (" and component = ", filter.component.clone()),
        (" and topic = ", filter.topic.clone()),
        (" and code = ", filter.code.clone()),
        (" and key = ", filter.key.clone()),
    ];
    for (condition, value) in texts {
        if let Some(value) = value {
            query.push(condition).push_bind(value);
        }
    }
    if let Some(since) = filter.since {
        query.push(" and at >= ").push_bind(since);
    }
    if let Some(until) = filter.until {
        query.push(" and at < ").push_bind(until);
    }
}

fn letter_row(row: &SqliteRow) -> Result<LetterRow, sqlx::Error> {
    Ok(LetterRow {
        id: row.try_get("id")?,
        state: LetterState::parse(row.try_get("state")?),
        component: row.try_get("component")?,
        topic: row.try_get("topic")?,
        key: row.try_get("key")?,
        version: row.try_get("version")?,
        code: row.try_get("code")?,
        reason: row.try_get("reason")?,
        at: row.try_get("at")?,
        settled: row.try_get("settled")?,
    })
}
