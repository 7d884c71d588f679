//! One key of a section, read but not yet judged: is it required, does it have a default, may it be missing?

use super::problem::Problem;
use super::section::Section;

/// What was found under a key. Every key is read as `section.kind("key")` followed by one of the three endings.
#[must_use = "say what happens when the key is missing: `required()`, `or(default)` or `optional()`"]
pub struct Field<'s, 'd, T> {
    section: &'s Section<'d>,
    key: &'static str,
    expected: String,
    state: State<T>,
    stand_in: T,
}

enum State<T> {
    Given(T),
    Absent,
    /// The problem has been reported.
    Wrong,
}

impl<'s, 'd, T> Field<'s, 'd, T> {
    pub(super) fn new(
        section: &'s Section<'d>,
        key: &'static str,
        expected: String,
        read: Option<Result<T, Problem>>,
        stand_in: T,
    ) -> Self {
        let state = match read {
            None => State::Absent,
            Some(Ok(value)) => State::Given(value),
            Some(Err(problem)) => {
                section.report(problem);
                State::Wrong
            }
        };
        Self { section, key, expected, state, stand_in }
    }

    /// The value; a missing key is a problem.
    pub fn required(self) -> T {
        match self.state {
            State::Given(value) => value,
            State::Wrong => self.stand_in,
            State::Absent => {
                self.section.report_missing(self.key, self.expected);
                self.stand_in
            }
        }
    }

    /// The value, or this one when the key is missing.
    pub fn or(self, default: T) -> T {
        match self.state {
            State::Given(value) => value,
            State::Wrong | State::Absent => default,
        }
    }

    /// The value, or its type's default when the key is missing.
    pub fn or_default(self) -> T
    where
        T: Default,
    {
        self.or(T::default())
    }

    /// The value, or `None` when the key is missing.
    pub fn optional(self) -> Option<T> {
        match self.state {
            State::Given(value) => Some(value),
            State::Wrong | State::Absent => None,
        }
    }

    /// A further demand on a value that is right in itself: `check` says what is wrong, without repeating a secret.
    pub fn check(mut self, check: impl FnOnce(&T) -> Result<(), String>) -> Self {
        if let State::Given(value) = &self.state
            && let Err(message) = check(value)
        {
            self.section.report(self.section.place(self.key).problem(message));
            self.state = State::Wrong;
        }
        self
    }
}
