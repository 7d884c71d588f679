//! The kinds of single values: how each is written, and what is said when it is written differently. No I/O.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use chrono::NaiveDate;
use chrono_tz::{TZ_VARIANTS, Tz};
use toml::de::DeValue;
use url::Url;

/// Schemes for [`super::Section::url`]: web services.
pub const HTTP: &[&str] = &["http", "https"];
/// Schemes for [`super::Section::url`]: databases.
pub const DATABASE: &[&str] = &["postgres", "postgresql", "sqlite"];

/// A kind of value: how to read it, and the words for what is expected.
pub struct Kind<'k, T> {
    pub(super) expected: String,
    pub(super) read: Box<Read<'k, T>>,
}

type Read<'k, T> = dyn Fn(&DeValue<'_>) -> Result<T, Wrong> + 'k;

/// Why a value isn't of its kind; what was expected is said by the kind.
#[derive(Default)]
pub(super) struct Wrong {
    /// Nothing: the value that was found is shown.
    pub(super) message: Option<String>,
    pub(super) nearest: Option<String>,
}

impl Wrong {
    fn because(message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), nearest: None }
    }
}

impl<'k, T> Kind<'k, T> {
    fn new(expected: impl Into<String>, read: impl Fn(&DeValue<'_>) -> Result<T, Wrong> + 'k) -> Self {
        Self { expected: expected.into(), read: Box::new(read) }
    }

    /// A kind written as a string; `None` when the string isn't of this kind.
    fn text(expected: impl Into<String>, read: impl Fn(&str) -> Option<T> + 'k) -> Self {
        Self::new(expected, move |value| value.as_str().and_then(&read).ok_or_else(Wrong::default))
    }
}

/// A value that is not shown in full, but well enough to be found again in the file.
pub(super) fn shown(value: &DeValue<'_>) -> String {
    /// Enough to recognise a value by.
    const LONGEST: usize = 40;

    match value {
        DeValue::String(text) if text.chars().count() > LONGEST => {
            format!("{:?}…", text.chars().take(LONGEST).collect::<String>())
        }
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// Text that isn't empty.
pub fn string() -> Kind<'static, String> {
    Kind::text("text in quotes, not empty", |text| (!text.is_empty()).then(|| text.to_owned()))
}

/// Several texts: an item of a list of lists.
pub fn strings() -> Kind<'static, Vec<String>> {
    Kind::new("a list of texts, not empty", |value| {
        let texts = value.as_array().filter(|items| !items.is_empty()).map(|items| {
            let text = |item: &DeValue<'_>| item.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
            items.iter().map(|item| text(item.get_ref())).collect::<Option<Vec<_>>>()
        });
        texts.flatten().ok_or_else(Wrong::default)
    })
}

/// Names of the user's own, each with a text: an entry of a table of tables.
pub fn string_table() -> Kind<'static, BTreeMap<String, String>> {
    Kind::new("a table of names, each with a text, not empty", |value| {
        let DeValue::Table(table) = value else { return Err(Wrong::default()) };
        let mut texts = BTreeMap::new();
        for (name, value) in table {
            let text = value.get_ref().as_str().filter(|text| !text.is_empty()).ok_or_else(Wrong::default)?;
            texts.insert(name.get_ref().to_string(), text.to_owned());
        }
        if texts.is_empty() { Err(Wrong::default()) } else { Ok(texts) }
    })
}

/// A value whose type its user decides: a constant for a column, say.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Scalar {
    Bool(bool),
    Integer(i64),
    Number(f64),
    Text(String),
}

/// A truth, a number or a text (which may be empty).
pub fn scalar() -> Kind<'static, Scalar> {
    Kind::new("true, false, a number or a text in quotes", |value| {
        let whole = |value: &DeValue<'_>| {
            value.as_integer().and_then(|number| i64::from_str_radix(number.as_str(), number.radix()).ok())
        };
        let found = match value {
            DeValue::Boolean(truth) => Some(Scalar::Bool(*truth)),
            DeValue::String(text) => Some(Scalar::Text(text.to_string())),
            DeValue::Integer(_) => whole(value).map(Scalar::Integer),
            DeValue::Float(_) => to_f64(value).map(Scalar::Number),
            _ => None,
        };
        found.ok_or_else(Wrong::default)
    })
}

/// `true` or `false`.
pub fn boolean() -> Kind<'static, bool> {
    Kind::new("true or false", |value| value.as_bool().ok_or_else(Wrong::default))
}

/// A whole number inside the range.
pub fn integer<T>(range: RangeInclusive<T>) -> Kind<'static, T>
where
    T: TryFrom<i64> + PartialOrd + Display + Copy + 'static,
{
    Kind::new(format!("a whole number from {} to {}", range.start(), range.end()), move |value| {
        value
            .as_integer()
            .and_then(|number| i64::from_str_radix(number.as_str(), number.radix()).ok())
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(Wrong::default)
    })
}

/// A number inside the range, written with or without a fraction.
pub fn number(range: RangeInclusive<f64>) -> Kind<'static, f64> {
    Kind::new(format!("a number from {} to {}", range.start(), range.end()), move |value| {
        to_f64(value).filter(|number| range.contains(number)).ok_or_else(Wrong::default)
    })
}

/// A share of a whole, from 0 to 1, written as `0.2` or `"20%"`.
pub fn share() -> Kind<'static, f64> {
    Kind::new("a share such as 0.2 or \"20%\", at most the whole", |value| {
        let percent = value.as_str().and_then(|text| text.strip_suffix('%')).and_then(|number| number.parse().ok());
        percent
            .map(|percent: f64| percent / 100.0)
            .or_else(|| to_f64(value))
            .filter(|share| (0.0..=1.0).contains(share))
            .ok_or_else(Wrong::default)
    })
}

fn to_f64(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Float(number) => number.as_str().parse().ok(),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok(),
        _ => None,
    }
}

/// A length of time: a whole number and its unit, such as `"30s"`.
pub fn duration() -> Kind<'static, Duration> {
    Kind::text(
        "a whole number and its unit (ms, s, m, h or d), such as \"250ms\", \"30s\", \"5m\", \"2h\" or \"1d\"",
        |text| {
            let (number, unit) = number_and_unit(text)?;
            let milliseconds = match unit {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return None,
            };
            number.checked_mul(milliseconds).filter(|&length| length <= LONGEST_DURATION).map(Duration::from_millis)
        },
    )
}

/// A hundred years in milliseconds: longer times are mistakes, and adding one to a date could overflow.
const LONGEST_DURATION: u64 = 100 * 366 * 86_400_000;

/// A size: a whole number and its unit, such as `"4MiB"`. In bytes.
pub fn bytes() -> Kind<'static, u64> {
    Kind::text("a whole number and its unit (B, KiB, MiB or GiB), such as \"4MiB\"", |text| {
        let (number, unit) = number_and_unit(text)?;
        let bytes = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        number.checked_mul(bytes)
    })
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    Some((number.parse().ok()?, unit))
}

/// A time zone of the IANA database.
pub fn zone() -> Kind<'static, Tz> {
    let expected = "a time zone such as \"America/Vancouver\"";
    Kind::new(expected, |value| {
        let Some(name) = value.as_str() else { return Err(Wrong::default()) };
        name.parse().map_err(|_| Wrong {
            message: None,
            nearest: super::nearest(name, TZ_VARIANTS.iter().map(|zone| zone.name())),
        })
    })
}

/// A day, written as `2026-01-31` without quotes (or with them).
pub fn date() -> Kind<'static, NaiveDate> {
    Kind::new("a date such as 2026-01-31", |value| {
        let text = match value {
            DeValue::Datetime(date) => date.to_string(),
            DeValue::String(text) => text.to_string(),
            _ => return Err(Wrong::default()),
        };
        text.parse().map_err(|_| Wrong::default())
    })
}

/// A file or folder; nothing is looked up.
pub fn path() -> Kind<'static, PathBuf> {
    Kind::text("a path", |text| (!text.is_empty() && !text.contains('\0')).then(|| PathBuf::from(text)))
}

/// An address to listen on.
pub fn socket_address() -> Kind<'static, SocketAddr> {
    Kind::text("an IP address and a port, such as \"127.0.0.1:8080\"", |text| text.parse().ok())
}

/// A server to connect to, as `host:port`.
pub fn host_port() -> Kind<'static, String> {
    Kind::text("a host and a port, such as \"kafka-1:9092\"", |text| {
        let (host, port) = text.rsplit_once(':')?;
        let port_is_valid = port.parse::<u16>().is_ok_and(|port| port > 0);
        let is_ipv6 = host.starts_with('[') && host.ends_with(']');
        let host_is_valid = !host.is_empty() && !host.contains(['/', '@', ' ']) && (is_ipv6 || !host.contains(':'));
        (port_is_valid && host_is_valid).then(|| text.to_owned())
    })
}

/// A URL with one of the schemes, without credentials: these belong in keys of their own.
///
/// A user name is allowed for databases. The URL found is never shown: it may hold a password.
pub fn url(schemes: &'static [&'static str]) -> Kind<'static, Url> {
    Kind::new(format!("a URL beginning with {}", alternatives(schemes.iter().map(|s| format!("{s}:")))), |value| {
        let Some(text) = value.as_str() else { return Err(Wrong::default()) };
        let url: Url = text.parse().map_err(|error| Wrong::because(format!("not a valid URL ({error})")))?;
        if !schemes.contains(&url.scheme()) {
            let mut wrong = Wrong::because("a URL of another kind");
            wrong.nearest = super::nearest(url.scheme(), schemes.iter().copied());
            return Err(wrong);
        }
        let is_web = HTTP.contains(&url.scheme());
        if url.password().is_some() || (is_web && !url.username().is_empty()) || has_secret_parameter(&url) {
            return Err(Wrong::because(
                "the URL holds credentials; take them out and give them as secrets, in keys of their own",
            ));
        }
        Ok(url)
    })
}

fn has_secret_parameter(url: &Url) -> bool {
    const SECRETS: [&str; 8] = ["password", "passwd", "pwd", "token", "access_token", "api_key", "apikey", "secret"];
    url.query_pairs().any(|(name, _)| SECRETS.contains(&name.to_lowercase().replace('-', "_").as_str()))
}

/// One of a few names, each standing for a value.
pub fn one_of<'k, T: Clone>(choices: &'k [(&'k str, T)]) -> Kind<'k, T> {
    Kind::new(alternatives(choices.iter().map(|(name, _)| format!("{name:?}"))), move |value| {
        let Some(name) = value.as_str() else { return Err(Wrong::default()) };
        match choices.iter().find(|(choice, _)| *choice == name) {
            Some((_, choice)) => Ok(choice.clone()),
            None => Err(Wrong { message: None, nearest: super::nearest(name, choices.iter().map(|(c, _)| *c)) }),
        }
    })
}

/// Text in a form that the caller checks; its error says what is wrong with the text.
pub(super) fn parsed<'k, T, E: Display>(expected: &str, parse: impl Fn(&str) -> Result<T, E> + 'k) -> Kind<'k, T> {
    Kind::new(expected, move |value| {
        let Some(text) = value.as_str() else { return Err(Wrong::default()) };
        parse(text).map_err(|error| Wrong::because(format!("found {}: {error}", shown(value))))
    })
}

/// `a, b or c`
pub(super) fn alternatives(names: impl IntoIterator<Item = String>) -> String {
    let mut names: Vec<String> = names.into_iter().collect();
    match names.pop() {
        None => "nothing".to_owned(),
        Some(last) if names.is_empty() => last,
        Some(last) => format!("{} or {last}", names.join(", ")),
    }
}
