//! What a column's type becomes in Avro: wide types, so that a column which is widened keeps its field. No I/O.

use std::fmt;

use chrono_tz::Tz;
use serde_json::{Value as Json, json};

/// What a column holds, as far as the topic is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnKind {
    /// Whole numbers of any width.
    Long,
    /// Floating-point numbers of any width.
    Double,
    /// True or false.
    Boolean,
    /// Text, and whatever has no other place here, as its text.
    String,
    /// Bytes.
    Bytes,
    /// A uuid.
    Uuid,
    /// A day.
    Date,
    /// A moment: a timestamp with time zone.
    Moment,
    /// A timestamp without time zone.
    Local,
    /// A decimal of at most so many digits.
    Decimal {
        /// All digits.
        precision: u32,
        /// Those behind the point.
        scale: u32,
    },
    /// A JSON value, as its text.
    Json,
    /// A list of such, each of which may be null.
    Array(Box<ColumnKind>),
}

/// The names that `types` takes.
pub const NAMES: [(&str, ColumnKind); 11] = [
    ("long", ColumnKind::Long),
    ("double", ColumnKind::Double),
    ("boolean", ColumnKind::Boolean),
    ("string", ColumnKind::String),
    ("bytes", ColumnKind::Bytes),
    ("uuid", ColumnKind::Uuid),
    ("date", ColumnKind::Date),
    ("timestamp", ColumnKind::Local),
    ("timestamptz", ColumnKind::Moment),
    ("json", ColumnKind::Json),
    ("decimal", ColumnKind::Decimal { precision: 38, scale: 10 }),
];

/// The most digits that a decimal may have.
const DIGITS: u32 = 38;

impl ColumnKind {
    /// The Avro type. `zone`: what timestamps without zone mean, where that is known; they are moments then.
    pub fn avro(&self, zone: Option<Tz>) -> Json {
        match self {
            Self::Long => json!("long"),
            Self::Double => json!("double"),
            Self::Boolean => json!("boolean"),
            Self::String => json!("string"),
            Self::Bytes => json!("bytes"),
            Self::Uuid => json!({ "type": "string", "logicalType": "uuid" }),
            Self::Date => json!({ "type": "int", "logicalType": "date" }),
            Self::Local if zone.is_none() => json!({ "type": "long", "logicalType": "local-timestamp-micros" }),
            Self::Moment | Self::Local => json!({ "type": "long", "logicalType": "timestamp-micros" }),
            Self::Decimal { precision, scale } => {
                json!({ "type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale })
            }
            Self::Json => json!({ "type": "string", "logicalType": "json" }),
            Self::Array(item) => json!({ "type": "array", "items": ["null", item.avro(zone)] }),
        }
    }

    /// Whether it can be part of a key.
    pub fn is_key(&self) -> bool {
        !matches!(self, Self::Double | Self::Bytes | Self::Json | Self::Array(_))
    }

    /// A decimal where Avro can hold it, else text.
    pub fn decimal(precision: i64, scale: i64) -> Self {
        match (u32::try_from(precision), u32::try_from(scale)) {
            (Ok(precision @ 1..=DIGITS), Ok(scale)) if scale <= precision => Self::Decimal { precision, scale },
            _ => Self::String,
        }
    }

    /// What PostgreSQL's type of this name becomes. `modifier` as in `pg_attribute.atttypmod`.
    pub fn of_postgres(name: &str, modifier: i32) -> Self {
        match name {
            "int2" | "int4" | "int8" => Self::Long,
            "float4" | "float8" => Self::Double,
            "bool" => Self::Boolean,
            "bytea" => Self::Bytes,
            "uuid" => Self::Uuid,
            "date" => Self::Date,
            "timestamp" => Self::Local,
            "timestamptz" => Self::Moment,
            "json" | "jsonb" => Self::Json,
            "numeric" if modifier >= 4 => {
                let packed = i64::from(modifier - 4);
                // Eleven bits with a sign, since PostgreSQL 15.
                let scale = ((packed & 0x7ff) ^ 1024) - 1024;
                Self::decimal((packed >> 16) & 0xffff, scale)
            }
            _ => Self::String,
        }
    }

    /// The type that PostgreSQL is asked to send it as, so that what comes over the wire depends on us alone.
    pub fn sent_as(&self) -> String {
        match self {
            Self::Long => "int8".to_owned(),
            Self::Double => "float8".to_owned(),
            Self::Boolean => "bool".to_owned(),
            Self::String | Self::Json => "text".to_owned(),
            Self::Bytes => "bytea".to_owned(),
            Self::Uuid => "uuid".to_owned(),
            Self::Date => "date".to_owned(),
            Self::Moment => "timestamptz".to_owned(),
            Self::Local => "timestamp".to_owned(),
            Self::Decimal { precision, scale } => format!("numeric({precision},{scale})"),
            Self::Array(item) => format!("{}[]", item.sent_as()),
        }
    }

    /// What SQLite's declared type becomes: by its own rules of affinity, after the names that say more.
    pub fn of_sqlite(declared: &str) -> Self {
        let declared = declared.to_uppercase();
        let name = declared.split('(').next().unwrap_or_default().trim();
        match name {
            "BOOLEAN" | "BOOL" => return Self::Boolean,
            "UUID" => return Self::Uuid,
            "DATE" => return Self::Date,
            "DATETIME" | "TIMESTAMP" => return Self::Local,
            "TIMESTAMPTZ" => return Self::Moment,
            "JSON" | "JSONB" => return Self::Json,
            "NUMERIC" | "DECIMAL" => return declared_decimal(&declared),
            _ => {}
        }
        match () {
            () if name.contains("INT") => Self::Long,
            () if ["CHAR", "CLOB", "TEXT"].iter().any(|part| name.contains(part)) => Self::String,
            () if name.contains("BLOB") => Self::Bytes,
            () if ["REAL", "FLOA", "DOUB"].iter().any(|part| name.contains(part)) => Self::Double,
            // No type at all: anything may stand there, which has a text.
            () => Self::String,
        }
    }
}

/// `DECIMAL(10, 2)`; without its digits it is text.
fn declared_decimal(declared: &str) -> ColumnKind {
    let inside = declared.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|(inside, _)| inside);
    let mut digits = inside.unwrap_or_default().split(',').map(|digits| digits.trim().parse::<i64>());
    match (digits.next(), digits.next()) {
        (Some(Ok(precision)), Some(Ok(scale))) => ColumnKind::decimal(precision, scale),
        (Some(Ok(precision)), None) => ColumnKind::decimal(precision, 0),
        _ => ColumnKind::String,
    }
}

impl fmt::Display for ColumnKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            Self::Array(item) => write!(f, "array of {item}"),
            plain => {
                let name = NAMES.iter().find(|(_, kind)| kind == plain).map_or("?", |(name, _)| name);
                f.write_str(name)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widening_a_column_changes_nothing() {
        let of = |name| ColumnKind::of_postgres(name, -1);
        assert!(["int2", "int4", "int8"].iter().all(|name| of(name) == ColumnKind::Long));
        assert!(["varchar", "bpchar", "text", "citext", "mood"].iter().all(|name| of(name) == ColumnKind::String));
        assert!(["float4", "float8"].iter().all(|name| of(name) == ColumnKind::Double));
    }

    #[test]
    fn a_numeric_is_a_decimal_where_its_digits_are_known() {
        let numeric = |precision: i32, scale: i32| ((precision << 16) | (scale & 0x7ff)) + 4;
        let of = |modifier| ColumnKind::of_postgres("numeric", modifier).to_string();
        assert_eq!(of(numeric(10, 2)), "decimal(10,2)");
        assert_eq!(of(numeric(38, 38)), "decimal(38,38)");
        // Without digits, too many of them, behind none, before none.
        assert_eq!([-1, numeric(39, 2), numeric(5, -2), numeric(2, 5)].map(of), ["string"; 4]);
    }

    #[test]
    fn sqlite_says_what_it_holds_by_the_declared_name() {
        let of = |declared| ColumnKind::of_sqlite(declared).to_string();
        assert_eq!(
            ["BIGINT", "varchar(20)", "", "decimal(8, 2)", "numeric", "datetime", "DOUBLE PRECISION", "blob", "json"]
                .map(of),
            ["long", "string", "string", "decimal(8,2)", "string", "timestamp", "double", "bytes", "json"]
        );
    }
}
