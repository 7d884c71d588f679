//! When so many records are bad for one reason that the configuration must be wrong.

use std::collections::BTreeMap;

use super::RunError;

/// How many rejects of one reason in one batch are too many.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RejectLimit {
    /// More than this.
    pub count: u64,
    /// Or more than this share of a batch, once there are ten: one bad record of five is no pattern.
    pub share: f64,
}

/// Below this a share says nothing.
const A_PATTERN: u64 = 10;

impl Default for RejectLimit {
    fn default() -> Self {
        Self { count: 100, share: 0.2 }
    }
}

impl RejectLimit {
    /// `Err` when one reason stands too often among the rejects of a batch of `of` records.
    pub fn check<'a>(
        &self,
        component: &str,
        of: u64,
        codes: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), RunError> {
        let mut by_code: BTreeMap<&str, u64> = BTreeMap::new();
        for code in codes {
            *by_code.entry(code).or_default() += 1;
        }
        for (code, rejected) in by_code {
            let share = rejected as f64 / of.max(1) as f64;
            if rejected > self.count || (rejected >= A_PATTERN && share > self.share) {
                return Err(RunError::TooManyRejects {
                    component: component.to_owned(),
                    rejected,
                    of,
                    reason: code.to_owned(),
                    limit: format!("{} records or {} % of a batch", self.count, self.share * 100.0),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_stops_and_a_few_bad_records_do_not() {
        let limit = RejectLimit::default();
        assert!(limit.check("ats", 5, ["a"; 5]).is_ok());
        assert!(limit.check("ats", 1000, ["a"; 100]).is_ok());
        assert!(limit.check("ats", 1000, ["a"; 101]).is_err());
        assert!(limit.check("ats", 40, ["a"; 10]).is_err());
        assert!(limit.check("ats", 40, ["a", "b"].repeat(5)).is_ok());
    }
}
