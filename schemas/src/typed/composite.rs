//! Records, arrays and maps for [`super::write`]: fields in any order, and counts that are known at the end only.

use std::ops::Range;

use serde::{
    Serialize,
    ser::{SerializeMap, SerializeSeq, SerializeStruct, SerializeTuple, SerializeTupleStruct},
};

use super::{fault::Fault, write::ValueWriter};
use crate::{
    cursor::Cursor,
    encode::put_long,
    schema::{Item, Kind, Record},
};

/// The fields of a record, in whatever order the struct hands them out.
pub(super) struct Fields<'a> {
    out: &'a mut Vec<u8>,
    record: &'a Record,
    /// How many fields, from the first, stand where they belong.
    in_place: usize,
    /// Where they end.
    in_place_end: usize,
    /// Where the other fields were written; empty as long as there are none.
    elsewhere: Vec<Option<Range<usize>>>,
}

/// The items of an array, or the entries of a map.
pub(super) struct Items<'a> {
    out: &'a mut Vec<u8>,
    item: &'a Item,
    /// The byte kept for the count.
    count_at: usize,
    count: usize,
}

/// What serde calls a map: a map, or a record whose names are known at run time only.
pub(super) enum Entries<'a> {
    Map {
        items: Items<'a>,
        /// Whether a key was written that still waits for its value.
        keyed: bool,
    },
    Record {
        fields: Fields<'a>,
        seen: usize,
        /// The field that was named and still waits for its value.
        index: Option<usize>,
    },
}

impl<'a> Fields<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>, record: &'a Record) -> Fields<'a> {
        let in_place_end = out.len();
        Fields { out, record, in_place: 0, in_place_end, elsewhere: Vec::new() }
    }

    fn index_of(&self, name: &str) -> Option<usize> {
        let named = |index: &usize| self.record.fields.get(*index).is_some_and(|field| field.name == name);
        // Structs mostly have the schema's order.
        let expected = Some(self.in_place).filter(named);
        expected.or_else(|| (0..self.record.fields.len()).find(named))
    }

    fn write<T: Serialize + ?Sized>(&mut self, index: usize, value: &T) -> Result<(), Fault> {
        let field = &self.record.fields[index];
        let written_before = index < self.in_place || self.elsewhere.get(index).is_some_and(Option::is_some);
        if written_before {
            return Err(Fault::misfit("given twice").in_field(&field.name));
        }
        let start = self.out.len();
        let writer = ValueWriter { out: self.out, kind: &field.kind, null_branch: field.null_branch };
        if let Err(fault) = value.serialize(writer) {
            // The struct may carry on without the field.
            self.out.truncate(start);
            return Err(fault.in_field(&field.name));
        }
        if index == self.in_place && self.elsewhere.is_empty() {
            self.in_place += 1;
            self.in_place_end = self.out.len();
            return Ok(());
        }
        self.elsewhere.resize(self.record.fields.len(), None);
        self.elsewhere[index] = Some(start..self.out.len());
        Ok(())
    }

    /// Puts the fields where they belong, with defaults for those that weren't given.
    fn finish(self) -> Result<(), Fault> {
        let moved = self.out.split_off(self.in_place_end);
        for (index, field) in self.record.fields.iter().enumerate().skip(self.in_place) {
            let given = self.elsewhere.get(index).and_then(Option::as_ref);
            match (given, &field.default_avro, field.null_branch) {
                (Some(at), _, _) => {
                    self.out.extend_from_slice(&moved[at.start - self.in_place_end..at.end - self.in_place_end]);
                }
                (None, Some(default), _) => self.out.extend_from_slice(default),
                (None, None, Some(null_branch)) => put_long(self.out, i64::from(null_branch)),
                (None, None, None) => return Err(Fault::misfit("not given, and has no default").in_field(&field.name)),
            }
        }
        Ok(())
    }
}

impl SerializeStruct for Fields<'_> {
    type Ok = ();
    type Error = Fault;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Fault> {
        match self.index_of(name) {
            Some(index) => self.write(index, value),
            None => Err(Fault::misfit(format!("no such field in {}", self.record.name)).in_field(name)),
        }
    }

    fn end(self) -> Result<(), Fault> {
        self.finish()
    }
}

impl<'a> Items<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>, item: &'a Item) -> Items<'a> {
        let count_at = out.len();
        out.push(0);
        Items { out, item, count_at, count: 0 }
    }

    fn write<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        let start = self.out.len();
        let writer = ValueWriter { out: self.out, kind: &self.item.kind, null_branch: self.item.null_branch };
        if let Err(fault) = value.serialize(writer) {
            // The list may carry on without the item.
            self.out.truncate(start);
            return Err(fault.in_item(self.count));
        }
        self.count += 1;
        Ok(())
    }

    fn key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Fault> {
        let writer = ValueWriter { out: self.out, kind: &Kind::String, null_branch: None };
        key.serialize(writer).map_err(|fault| fault.in_item(self.count))
    }

    /// One block, then the end: the byte that was kept is both when there are no items.
    fn finish(self) -> Result<(), Fault> {
        if self.count > 0 {
            let mut count = Vec::new();
            put_long(&mut count, self.count as i64);
            self.out.splice(self.count_at..=self.count_at, count);
            self.out.push(0);
        }
        Ok(())
    }
}

impl SerializeSeq for Items<'_> {
    type Ok = ();
    type Error = Fault;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        self.write(value)
    }

    fn end(self) -> Result<(), Fault> {
        self.finish()
    }
}

impl SerializeTuple for Items<'_> {
    type Ok = ();
    type Error = Fault;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        self.write(value)
    }

    fn end(self) -> Result<(), Fault> {
        self.finish()
    }
}

impl SerializeTupleStruct for Items<'_> {
    type Ok = ();
    type Error = Fault;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        self.write(value)
    }

    fn end(self) -> Result<(), Fault> {
        self.finish()
    }
}

impl<'a> Entries<'a> {
    pub(super) fn of_map(out: &'a mut Vec<u8>, item: &'a Item) -> Entries<'a> {
        Entries::Map { items: Items::new(out, item), keyed: false }
    }

    pub(super) fn of_record(out: &'a mut Vec<u8>, record: &'a Record) -> Entries<'a> {
        Entries::Record { fields: Fields::new(out, record), seen: 0, index: None }
    }
}

impl SerializeMap for Entries<'_> {
    type Ok = ();
    type Error = Fault;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Fault> {
        let (fields, seen, index) = match self {
            Entries::Map { keyed: true, .. } => return Err(Fault::misfit("a key without its value")),
            Entries::Map { items, keyed } => {
                items.key(key)?;
                *keyed = true;
                return Ok(());
            }
            Entries::Record { fields, seen, index } => (fields, seen, index),
        };
        let mut name = Vec::new();
        key.serialize(ValueWriter { out: &mut name, kind: &Kind::String, null_branch: None })?;
        *index = fields.index_of(Cursor::new(&name).string()?);
        if index.is_none() {
            // By number: keys may be contents.
            return Err(Fault::misfit(format!("entry {seen} isn't a field of {}", fields.record.name)));
        }
        *seen += 1;
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        match self {
            Entries::Map { items, keyed: keyed @ true } => {
                items.write(value)?;
                *keyed = false;
                Ok(())
            }
            Entries::Map { .. } => Err(Fault::misfit("a value without its key")),
            Entries::Record { fields, index, .. } => match index.take() {
                Some(index) => fields.write(index, value),
                None => Err(Fault::misfit("a value without its name")),
            },
        }
    }

    fn end(self) -> Result<(), Fault> {
        match self {
            Entries::Map { keyed: true, .. } => Err(Fault::misfit("a key without its value")),
            Entries::Map { items, .. } => items.finish(),
            Entries::Record { fields, .. } => fields.finish(),
        }
    }
}
