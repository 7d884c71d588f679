//! Who may export. The keys themselves are nowhere: what is stored is what [`NewToken::hash`] makes of them with a secret of
//! the site, so that whoever reads the table can't export.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::database::{Row, Statement};
use super::{Operations, OperationsError, or_kept};

/// More tokens than this can't be valid at the same time: every instance of the export keeps them all in memory.
pub const MOST_TOKENS: u32 = 10_000;

/// A token as it is made.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Its public name, which says nothing about the key.
    pub id: String,
    /// What people call it; no two have the same, not even revoked ones: the audit names it.
    pub label: String,
    /// The keyed hash of the key, in hexadecimal digits.
    pub hash: String,
    /// What it allows.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created: DateTime<Utc>,
    /// From when on it is no longer valid.
    pub expires: Option<DateTime<Utc>>,
}

/// A token as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenRow {
    /// Its public name.
    pub id: String,
    /// What people call it.
    pub label: String,
    /// What it allows.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created: DateTime<Utc>,
    /// From when on it is no longer valid.
    pub expires: Option<DateTime<Utc>>,
    /// Since when it is no longer valid, whatever its expiry.
    pub revoked: Option<DateTime<Utc>>,
}

/// A token that wasn't revoked, for those who check keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveToken {
    /// Its public name.
    pub id: String,
    /// What people call it.
    pub label: String,
    /// The keyed hash of the key, in hexadecimal digits.
    pub hash: String,
    /// What it allows.
    pub scopes: Vec<String>,
    /// From when on it is no longer valid.
    pub expires: Option<DateTime<Utc>>,
}

impl Operations {
    /// Stores a token; `false`: there is one with this label.
    pub async fn create_token(&self, token: &NewToken) -> Result<bool, OperationsError> {
        or_kept!(self, |_kept| Err(no_tokens()));
        let sql = "select count(*) as live from tokens where revoked is null and (expires is null or expires > $1)";
        let live = self.row(Statement::new(sql).bind(token.created)).await?;
        let live: i64 = live.map(|row| row.get("live")).transpose()?.unwrap_or(0);
        if live >= i64::from(MOST_TOKENS) {
            return Err(OperationsError::Refused(format!("{live} tokens are valid already: revoke some")));
        }
        let statement = Statement::new(
            "insert into tokens (id, label, hash, scopes, created, expires) values ($1, $2, $3, $4, $5, $6) \
             on conflict (label) do nothing",
        )
        .bind(token.id.as_str())
        .bind(token.label.as_str())
        .bind(token.hash.as_str())
        .bind(token.scopes.join(" "))
        .bind(token.created)
        .bind(token.expires);
        Ok(self.execute(statement).await? > 0)
    }

    /// All tokens, the newest first.
    pub async fn tokens(&self) -> Result<Vec<TokenRow>, OperationsError> {
        or_kept!(self, |_kept| Ok(Vec::new()));
        let rows = self.rows(Statement::new("select * from tokens order by created desc, id")).await?;
        rows.iter().map(|row| Ok(token_row(row)?)).collect()
    }

    /// The token with this label or id.
    pub async fn token(&self, name: &str) -> Result<Option<TokenRow>, OperationsError> {
        or_kept!(self, |_kept| Ok(None));
        let sql = "select * from tokens where label = $1 or id = $1 order by (label = $1) desc limit 1";
        let row = self.row(Statement::new(sql).bind(name)).await?;
        Ok(row.as_ref().map(token_row).transpose()?)
    }

    /// Tokens that weren't revoked and haven't expired: those that have would take the places of others.
    pub async fn live_tokens(&self, now: DateTime<Utc>) -> Result<Vec<LiveToken>, OperationsError> {
        or_kept!(self, |_kept| Ok(Vec::new()));
        let sql = "select id, label, hash, scopes, expires from tokens \
            where revoked is null and (expires is null or expires > $1) order by created desc limit $2";
        let rows = self.rows(Statement::new(sql).bind(now).bind(i64::from(MOST_TOKENS))).await?;
        let live = |row: &Row| {
            Ok::<_, sqlx::Error>(LiveToken {
                id: row.get("id")?,
                label: row.get("label")?,
                hash: row.get("hash")?,
                scopes: scopes(row)?,
                expires: row.get("expires")?,
            })
        };
        rows.iter().map(|row| Ok(live(row)?)).collect()
    }

    /// Revokes a token, by its id; `false`: it was revoked before.
    pub async fn revoke_token(&self, id: &str, at: DateTime<Utc>) -> Result<bool, OperationsError> {
        or_kept!(self, |_kept| Ok(false));
        let sql = "update tokens set revoked = $1 where id = $2 and revoked is null";
        Ok(self.execute(Statement::new(sql).bind(at).bind(id)).await? > 0)
    }
}

fn token_row(row: &Row) -> Result<TokenRow, sqlx::Error> {
    Ok(TokenRow {
        id: row.get("id")?,
        label: row.get("label")?,
        scopes: scopes(row)?,
        created: row.get("created")?,
        expires: row.get("expires")?,
        revoked: row.get("revoked")?,
    })
}

fn scopes(row: &Row) -> Result<Vec<String>, sqlx::Error> {
    let scopes: String = row.get("scopes")?;
    Ok(scopes.split_ascii_whitespace().map(str::to_owned).collect())
}

#[cfg(any(test, feature = "testing"))]
fn no_tokens() -> OperationsError {
    OperationsError::Refused("a history in memory keeps no tokens".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn token(label: &str) -> NewToken {
        NewToken {
            id: format!("id-{label}"),
            label: label.into(),
            hash: format!("hash-{label}"),
            scopes: vec!["employee_bulk:read_pis".into(), "party_bulk:read_pis".into()],
            created: DateTime::UNIX_EPOCH,
            expires: None,
        }
    }

    /// Those that have expired took the places of others.
    #[tokio::test]
    async fn tokens_that_have_expired_arent_live() {
        let folder = tempfile::tempdir().unwrap();
        let operations = Operations::open(&folder.path().join("operations.sqlite")).await.unwrap();
        let at = |seconds| DateTime::from_timestamp(seconds, 0);
        for (label, expires) in [("lviv", None), ("odesa", at(100)), ("kyiv", at(300))] {
            assert!(operations.create_token(&NewToken { expires, ..token(label) }).await.unwrap());
        }
        let live = async |seconds| {
            let live = operations.live_tokens(at(seconds).unwrap()).await.unwrap();
            let mut labels: Vec<String> = live.into_iter().map(|token| token.label).collect();
            labels.sort();
            labels
        };
        assert_eq!(live(99).await, ["kyiv", "lviv", "odesa"]);
        assert_eq!(live(200).await, ["kyiv", "lviv"]);
        assert_eq!(live(300).await, ["lviv"]);
    }

    #[tokio::test]
    async fn a_label_is_given_once_even_when_its_token_was_revoked() {
        let folder = tempfile::tempdir().unwrap();
        let operations = Operations::open(&folder.path().join("operations.sqlite")).await.unwrap();
        assert!(operations.create_token(&token("lviv")).await.unwrap());
        assert!(
            !operations.create_token(&NewToken { id: "2".into(), hash: "2".into(), ..token("lviv") }).await.unwrap()
        );
        assert_eq!(operations.live_tokens(Utc::now()).await.unwrap()[0].scopes, token("lviv").scopes);
        assert!(operations.revoke_token("id-lviv", Utc::now()).await.unwrap());
        assert!(!operations.revoke_token("id-lviv", Utc::now()).await.unwrap(), "the first time stays");
        assert!(operations.live_tokens(Utc::now()).await.unwrap().is_empty());
        assert!(
            !operations.create_token(&NewToken { id: "3".into(), hash: "3".into(), ..token("lviv") }).await.unwrap()
        );
        assert!(operations.token("lviv").await.unwrap().unwrap().revoked.is_some());
        assert_eq!(operations.token("id-lviv").await.unwrap(), operations.token("lviv").await.unwrap());
    }
}
