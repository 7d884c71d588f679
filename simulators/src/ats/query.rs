//! What a request for applicants asks: windows at day precision, and a page. Pure.

use super::dates::{LocalMs, day, parse_day};

/// The server's own page size (ATS contract).
const DEFAULT_PAGE: usize = 40;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApplicantsQuery {
    pub(crate) filter: Filter,
    pub(crate) offset: usize,
    /// Page size, already cut to the largest allowed.
    pub(crate) size: usize,
}

/// Days, inclusive; all that are given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// `from`/`to`: created or updated in it.
    either: Window,
    /// `cfrom`/`cto`.
    created: Window,
    /// `ufrom`/`uto`.
    updated: Window,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Window {
    from: Option<i64>,
    to: Option<i64>,
}

impl Window {
    fn holds(&self, at: LocalMs) -> bool {
        let day = day(at);
        self.from.is_none_or(|from| from <= day) && self.to.is_none_or(|to| day <= to)
    }
}

impl Filter {
    pub(crate) fn holds(&self, created: LocalMs, updated: LocalMs) -> bool {
        (self.either.holds(created) || self.either.holds(updated))
            && self.created.holds(created)
            && self.updated.holds(updated)
    }
}

/// Reads the parameters; unknown ones are ignored, the last of a repeated one counts.
///
/// # Errors
/// The name of the parameter that makes no sense and what was expected.
pub(crate) fn parse(parameters: &[(String, String)], max_page: usize) -> Result<ApplicantsQuery, String> {
    let mut query = ApplicantsQuery { filter: Filter::default(), offset: 0, size: DEFAULT_PAGE.min(max_page) };
    for (name, value) in parameters {
        let date = || match value.as_str() {
            "" => Ok(None),
            text => parse_day(text).map(Some).ok_or_else(|| format!("{name} must be a date, yyyy-mm-dd")),
        };
        let number = || value.parse::<usize>().map_err(|_| format!("{name} must be a whole number"));
        match name.as_str() {
            "from" => query.filter.either.from = date()?,
            "to" => query.filter.either.to = date()?,
            "cfrom" => query.filter.created.from = date()?,
            "cto" => query.filter.created.to = date()?,
            "ufrom" => query.filter.updated.from = date()?,
            "uto" => query.filter.updated.to = date()?,
            "offset" => query.offset = number()?,
            "next" => query.size = number()?.min(max_page),
            _ => {}
        }
    }
    Ok(query)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::dates;
    use super::*;

    fn ask(parameters: &[(&str, &str)]) -> Result<ApplicantsQuery, String> {
        let owned: Vec<_> = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        parse(&owned, 50)
    }

    #[test]
    fn pages_have_40_rows_unless_asked_and_never_more_than_50() {
        assert_eq!(ask(&[]).unwrap().size, 40);
        assert_eq!(ask(&[("next", "50")]).unwrap().size, 50);
        assert_eq!(ask(&[("next", "5000")]).unwrap().size, 50);
        assert!(ask(&[("next", "-1")]).is_err());
        assert!(ask(&[("offset", "many")]).is_err());
    }

    #[test]
    fn created_or_updated_is_enough_for_from_and_to() {
        let at = |text: &str| dates::parse(text).unwrap();
        let (created, updated) = (at("2024-03-01T23:59:59.999"), at("2024-05-01T00:00:00"));
        let holds = |parameters| ask(parameters).unwrap().filter.holds(created, updated);

        assert!(holds(&[("from", "2024-03-01"), ("to", "2024-03-01")]));
        assert!(holds(&[("from", "2024-05-01"), ("to", "2024-05-01")]));
        assert!(!holds(&[("from", "2024-03-02"), ("to", "2024-04-30")]));
        assert!(!holds(&[("ufrom", "2024-03-01"), ("uto", "2024-03-31")]));
        assert!(holds(&[("cfrom", "2024-03-01"), ("ufrom", "2024-05-01")]));
        assert!(!holds(&[("cto", "2024-02-29")]));
    }

    #[test]
    fn dates_that_are_none_are_refused() {
        for date in ["yesterday", "2024-02-30", "2024-1-1", "2024-01-01T00:00:00", "01/02/2024"] {
            assert!(ask(&[("from", date)]).is_err(), "{date}");
        }
    }
}
