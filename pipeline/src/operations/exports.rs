//! One record for each export: who, what, when, and how it ended.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::database::{Row, Statement};
use super::{Operations, OperationsError, counted, or_kept, stored};

/// An export as it begins.
#[derive(Debug, Clone)]
pub struct ExportStart {
    /// Its id.
    pub id: String,
    /// The token's id.
    pub token: String,
    /// The token's label.
    pub label: String,
    /// What was asked for.
    pub resource: String,
    /// How many days of it; `None`: all.
    pub depth: Option<u32>,
    /// `json`, `ndjson` or `parquet`.
    pub form: &'static str,
    /// As in `Content-Encoding`.
    pub coding: &'static str,
    /// Of which snapshot.
    pub generation: u64,
    /// How many bytes the answer has.
    pub expected: u64,
    /// When it began.
    pub began: DateTime<Utc>,
    /// The request's id.
    pub request: String,
}

/// How an export ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExportEnd {
    /// All of it was handed to the network.
    Complete,
    /// The client went away, or this process was told to stop.
    CutOff,
    /// The client took too little for too long.
    Slow,
    /// The store failed.
    Failed,
}

impl ExportEnd {
    /// As it is stored and counted.
    pub fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::CutOff => "cut_off",
            Self::Slow => "slow",
            Self::Failed => "failed",
        }
    }
}

/// An export as the audit tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportRecord {
    /// Its id.
    pub id: String,
    /// The token's id.
    pub token: String,
    /// The token's label.
    pub label: String,
    /// What was asked for.
    pub resource: String,
    /// How many days of it; `None`: all.
    pub depth: Option<u64>,
    /// `json`, `ndjson` or `parquet`.
    pub form: String,
    /// As in `Content-Encoding`.
    pub coding: String,
    /// Of which snapshot.
    pub generation: u64,
    /// How many bytes the answer has.
    pub expected: u64,
    /// When it began.
    pub began: DateTime<Utc>,
    /// When it ended; `None`: it is under way, or its process was killed.
    pub ended: Option<DateTime<Utc>>,
    /// How many bytes were handed to the network.
    pub bytes: Option<u64>,
    /// `complete`, `cut_off`, `slow` or `failed`.
    pub status: Option<String>,
    /// The request's id.
    pub request: String,
}

impl Operations {
    /// Notes that an export begins, now or when the database is back.
    pub async fn begin_export(&self, export: &ExportStart) {
        or_kept!(self, |kept| kept.keeps_no_exports());
        let statement = Statement::new(
            "insert into exports (id, token, label, resource, depth, form, coding, generation, expected, began, request) \
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) on conflict (id) do nothing",
        )
        .bind(export.id.as_str())
        .bind(export.token.as_str())
        .bind(export.label.as_str())
        .bind(export.resource.as_str())
        .bind(export.depth.map(i64::from))
        .bind(export.form)
        .bind(export.coding)
        .bind(stored(export.generation))
        .bind(stored(export.expected))
        .bind(export.began)
        .bind(export.request.as_str());
        self.note(None, statement).await;
    }

    /// Notes how an export ended, now or when the database is back.
    pub async fn end_export(&self, id: &str, ended: DateTime<Utc>, bytes: u64, end: ExportEnd) {
        or_kept!(self, |kept| kept.keeps_no_exports());
        let statement = Statement::new("update exports set ended = $1, bytes = $2, status = $3 where id = $4")
            .bind(ended)
            .bind(stored(bytes))
            .bind(end.name())
            .bind(id);
        self.note(None, statement).await;
    }

    /// The newest exports with a token, by the token's id; newest first.
    pub async fn exports(&self, token: &str, limit: u32) -> Result<Vec<ExportRecord>, OperationsError> {
        or_kept!(self, |_kept| Ok(Vec::new()));
        self.catch_up().await;
        let sql = "select * from exports where token = $1 order by began desc, id limit $2";
        let rows = self.rows(Statement::new(sql).bind(token).bind(i64::from(limit))).await?;
        rows.iter().map(|row| Ok(export_record(row)?)).collect()
    }
}

fn export_record(row: &Row) -> Result<ExportRecord, sqlx::Error> {
    Ok(ExportRecord {
        id: row.get("id")?,
        token: row.get("token")?,
        label: row.get("label")?,
        resource: row.get("resource")?,
        depth: row.get::<Option<i64>>("depth")?.map(counted),
        form: row.get("form")?,
        coding: row.get("coding")?,
        generation: counted(row.get("generation")?),
        expected: counted(row.get("expected")?),
        began: row.get("began")?,
        ended: row.get("ended")?,
        bytes: row.get::<Option<i64>>("bytes")?.map(counted),
        status: row.get("status")?,
        request: row.get("request")?,
    })
}
