//! What the passes over one window have brought so far, so that a pass that brings nothing new can be told. No I/O.
//!
//! Per record the hash of its id and the hash of its bytes: 24 bytes, whatever its size. The same page may be asked
//! for again when it was not stored, so what a page brought is only *noted* until the page after it is asked for.

use std::collections::HashMap;

use pipeline::source::Position;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// Two words, not a `u128`: that would be aligned to 16 bytes and cost 8 more per record.
type Id = [u64; 2];

/// The records of the passes up to a position.
pub(super) struct Memory {
    kept: HashMap<Id, u64>,
    noted: HashMap<Id, u64>,
    /// What `kept` stands for.
    at: Option<Position>,
    /// What `kept` stands for together with `noted`.
    next: Option<Position>,
    /// Records beyond this are not remembered, so that no pass is without news.
    capacity: usize,
}

/// How a read follows on the reads before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resumed {
    /// It is for the page after the last one.
    GoesOn,
    /// It is for the last page again.
    Again,
    /// It is for some other page: everything is forgotten.
    Elsewhere,
}

/// What the memory says about a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// The id is new, or its last record was another one.
    New,
    /// An earlier page of this window brought exactly this last.
    Before,
    /// The page at hand brought exactly this last.
    OnThisPage,
}

impl Memory {
    pub(super) fn new(capacity: usize) -> Self {
        Self { kept: HashMap::new(), noted: HashMap::new(), at: None, next: None, capacity }
    }

    /// Makes ready for the page after `after`.
    pub(super) fn resume(&mut self, after: Option<&Position>) -> Resumed {
        if self.next.is_some() && self.next.as_ref() == after {
            self.kept.extend(self.noted.drain());
            self.at = self.next.take();
            return Resumed::GoesOn;
        }
        self.noted.clear();
        self.next = None;
        if self.at.is_some() && self.at.as_ref() == after {
            return Resumed::Again;
        }
        self.forget();
        Resumed::Elsewhere
    }

    /// The memory of a window that begins.
    pub(super) fn forget(&mut self) {
        // Not `clear`: between two windows nobody needs the room.
        *self = Self::new(self.capacity);
    }

    /// Notes a record of the page at hand, and says whether it was there already.
    pub(super) fn note(&mut self, id: &[u8], raw: &[u8]) -> Seen {
        let wide = xxh3_128(id);
        #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
        let id = [(wide >> 64) as u64, wide as u64];
        let record = xxh3_64(raw);
        match (self.noted.get(&id), self.kept.get(&id)) {
            (Some(noted), _) if *noted == record => return Seen::OnThisPage,
            (None, Some(kept)) if *kept == record => return Seen::Before,
            (None, None) if self.kept.len() + self.noted.len() >= self.capacity => return Seen::New,
            _ => {}
        }
        self.noted.insert(id, record);
        Seen::New
    }

    /// The page at hand ends at `next`.
    pub(super) fn page_ends(&mut self, after: Option<&Position>, next: &Position) {
        // The first page of a window follows whatever position it followed: it can be asked for again, too.
        self.at = after.cloned();
        self.next = Some(next.clone());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(offset: u32) -> Position {
        Position(json!({ "offset": offset }))
    }

    #[test]
    fn a_page_that_is_asked_for_again_is_new_again() {
        let mut memory = Memory::new(10);
        assert_eq!(memory.note(b"ada", b"1"), Seen::New);
        assert_eq!(memory.note(b"ada", b"1"), Seen::OnThisPage);
        memory.page_ends(None, &at(1));
        assert_eq!(memory.resume(Some(&at(1))), Resumed::GoesOn);
        assert_eq!(memory.note(b"ada", b"1"), Seen::Before);
        assert_eq!(memory.note(b"bob", b"1"), Seen::New);
        memory.page_ends(Some(&at(1)), &at(2));
        assert_eq!(memory.resume(Some(&at(1))), Resumed::Again);
        assert_eq!(memory.note(b"bob", b"1"), Seen::New);
        assert_eq!(memory.note(b"ada", b"1"), Seen::Before);
    }

    #[test]
    fn a_record_that_goes_back_to_what_it_was_is_news() {
        let mut memory = Memory::new(10);
        assert_eq!(memory.note(b"ada", b"1"), Seen::New);
        assert_eq!(memory.note(b"ada", b"2"), Seen::New);
        assert_eq!(memory.note(b"ada", b"1"), Seen::New);
    }

    #[test]
    fn another_position_finds_nothing_remembered() {
        let mut memory = Memory::new(10);
        memory.note(b"ada", b"1");
        memory.page_ends(None, &at(1));
        assert_eq!(memory.resume(Some(&at(7))), Resumed::Elsewhere);
        assert_eq!(memory.note(b"ada", b"1"), Seen::New);
    }

    #[test]
    fn what_does_not_fit_stays_news() {
        let mut memory = Memory::new(1);
        memory.note(b"ada", b"1");
        memory.page_ends(None, &at(1));
        for _ in 0..2 {
            memory.resume(Some(&at(1)));
            assert_eq!(memory.note(b"ada", b"1"), Seen::Before);
            assert_eq!(memory.note(b"bob", b"1"), Seen::New);
            memory.page_ends(Some(&at(1)), &at(1));
        }
    }
}
