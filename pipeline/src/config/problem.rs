//! What is wrong with a configuration, and where: one [`Problem`] per mistake, collected in [`Problems`].

use std::fmt;
use std::sync::Arc;

/// Where a key stands: kept by values that can turn out wrong only later (a secret, a name that must exist elsewhere).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file's name, as it was given to [`super::read`].
    pub file: Arc<str>,
    /// Counted from 1; 0 when the problem concerns the file as a whole.
    pub line: u32,
    /// In characters, counted from 1.
    pub column: u32,
    /// The dotted path of the key, such as `sources.ats.every`; empty for the file as a whole.
    pub path: String,
}

impl Place {
    /// The problem that the value here has: `message` says what it is, in lower case without a full stop.
    pub fn problem(&self, message: impl Into<String>) -> Problem {
        Problem {
            file: self.file.clone(),
            line: self.line,
            column: self.column,
            path: self.path.clone(),
            message: message.into(),
            expected: None,
            nearest: None,
        }
    }
}

/// One mistake in the configuration, with all that is needed to mend it.
///
/// Reads as `docker/muster.toml:12:9: sources.ats.evry: unknown key; did you mean `every`?`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file's name, as it was given to [`super::read`].
    pub file: Arc<str>,
    /// Counted from 1; 0 when the problem concerns the file as a whole.
    pub line: u32,
    /// In characters, counted from 1.
    pub column: u32,
    /// The dotted path of the key; empty when there is none (a syntax error).
    pub path: String,
    /// What is wrong. Never holds the value of a secret.
    pub message: String,
    /// What would have been right.
    pub expected: Option<String>,
    /// The valid name that comes nearest to the one found.
    pub nearest: Option<String>,
}

impl Problem {
    /// Says what would have been right.
    #[must_use]
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// Looks among the valid names for the one that was probably meant.
    #[must_use]
    pub fn nearest_of<'n>(mut self, found: &str, valid: impl IntoIterator<Item = &'n str>) -> Self {
        self.nearest = super::nearest(found, valid);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(expected) = &self.expected {
            write!(f, "; expected {expected}")?;
        }
        if let Some(nearest) = &self.nearest {
            write!(f, "; did you mean `{nearest}`?")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

/// Every mistake that was found, in the order of the file. Displays as one line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one, in its place.
    pub fn push(&mut self, problem: Problem) {
        let key = |p: &Problem| (p.file.clone(), p.line, p.column);
        let at = self.0.partition_point(|p| key(p) <= key(&problem));
        self.0.insert(at, problem);
    }

    /// Keeps the problem of a failed step and goes on, so that the next step's problem is told too.
    pub fn keep<T>(&mut self, result: Result<T, Problem>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(problem) => {
                self.push(problem);
                None
            }
        }
    }

    /// `Err` with all of them if there are any.
    pub fn into_result(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// In the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }
}

impl FromIterator<Problem> for Problems {
    fn from_iter<I: IntoIterator<Item = Problem>>(problems: I) -> Self {
        let mut all = Self::new();
        for problem in problems {
            all.push(problem);
        }
        all
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
