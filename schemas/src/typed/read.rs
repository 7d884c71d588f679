//! A serde deserializer straight over the bytes of a message and the plan of its schema: every byte is checked, text
//! and bytes are borrowed. Called by [`super::from_avro`].

use std::slice;

use serde::{
    Deserializer,
    de::{DeserializeSeed, MapAccess, SeqAccess, Visitor, value::BorrowedStrDeserializer},
    forward_to_deserialize_any,
};

use super::fault::Fault;
use crate::{
    cursor::{Blocks, Cursor},
    decode::skip,
    schema::{Field, Item, Kind, Record},
    value::Value,
};

pub(super) struct Input<'de> {
    pub(super) cursor: Cursor<'de>,
    /// Whether the value asked for last was read to its end. A type may ignore its deserializer, or the error of a
    /// part; what follows would then be read from the wrong byte.
    finished: bool,
}

struct ValueReader<'i, 'de> {
    input: &'i mut Input<'de>,
    kind: &'de Kind,
    null_branch: Option<u8>,
}

/// A record's fields as the entries of a serde map.
struct Fields<'i, 'de> {
    input: &'i mut Input<'de>,
    left: slice::Iter<'de, Field>,
    /// The field whose name was handed out and whose value wasn't.
    pending: Option<&'de Field>,
}

/// The items of an array, or the entries of a map.
struct Items<'i, 'de> {
    input: &'i mut Input<'de>,
    item: &'de Item,
    blocks: Blocks,
    ended: bool,
    /// The entry whose key was handed out and whose value wasn't.
    pending: Option<usize>,
}

impl<'de> Input<'de> {
    pub(super) fn new(body: &'de [u8]) -> Input<'de> {
        Input { cursor: Cursor::new(body), finished: false }
    }

    /// Reads one value, to its end.
    pub(super) fn value<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
        kind: &'de Kind,
        null_branch: Option<u8>,
    ) -> Result<T::Value, Fault> {
        self.finished = false;
        let value = seed.deserialize(ValueReader { input: self, kind, null_branch })?;
        if self.finished { Ok(value) } else { Err(Fault::misfit("isn't read to its end")) }
    }

    fn is_null(&mut self, null_branch: Option<u8>) -> Result<bool, Fault> {
        let null = self.cursor.is_null(null_branch)?;
        self.finished = null;
        Ok(null)
    }

    fn scalar(&mut self, kind: &'de Kind) -> Result<Value<'de>, Fault> {
        let value = self.cursor.scalar(kind)?;
        self.finished = true;
        Ok(value)
    }

    fn record<V: Visitor<'de>>(&mut self, record: &'de Record, visitor: V) -> Result<V::Value, Fault> {
        let mut fields = Fields { input: self, left: record.fields.iter(), pending: None };
        let value = visitor.visit_map(&mut fields)?;
        let unread = fields.pending.is_some() || fields.left.next().is_some();
        if unread { Err(Fault::misfit("takes fewer fields than there are")) } else { Ok(value) }
    }

    fn items<V: Visitor<'de>>(&mut self, item: &'de Item, keyed: bool, visitor: V) -> Result<V::Value, Fault> {
        let mut items = Items { input: self, item, blocks: Blocks::new(), ended: false, pending: None };
        let value = if keyed { visitor.visit_map(&mut items)? } else { visitor.visit_seq(&mut items)? };
        let unread = items.pending.is_some() || items.next()?.is_some();
        if unread { Err(Fault::misfit("takes fewer items than there are")) } else { Ok(value) }
    }
}

impl<'de> ValueReader<'_, 'de> {
    fn not_null<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let value = match self.kind {
            Kind::Record(record) => self.input.record(record, visitor),
            Kind::Array(item) => self.input.items(item, false, visitor),
            Kind::Map(item) => self.input.items(item, true, visitor),
            scalar => return visit(self.input.scalar(scalar)?, visitor),
        };
        self.input.finished = value.is_ok();
        value
    }
}

fn visit<'de, V: Visitor<'de>>(scalar: Value<'de>, visitor: V) -> Result<V::Value, Fault> {
    match scalar {
        Value::Boolean(b) => visitor.visit_bool(b),
        Value::Int(n) | Value::Date(n) => visitor.visit_i32(n),
        Value::Long(n) | Value::Timestamp { micros: n } | Value::LocalTimestamp { micros: n } => visitor.visit_i64(n),
        Value::Float(x) => visitor.visit_f32(x),
        Value::Double(x) => visitor.visit_f64(x),
        Value::String(text) => visitor.visit_borrowed_str(text),
        Value::Bytes(bytes) => visitor.visit_borrowed_bytes(bytes),
        Value::Decimal(decimal) => visitor.visit_string(decimal.to_string()),
        Value::Null => visitor.visit_unit(),
        Value::Array(_) | Value::Map(_) | Value::Record(_) => unreachable!("not a scalar"),
    }
}

impl<'de> Deserializer<'de> for ValueReader<'_, 'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let start = self.input.cursor.at();
        let value = if self.input.is_null(self.null_branch)? { visitor.visit_unit() } else { self.not_null(visitor) };
        value.map_err(|fault: Fault| fault.in_value_at(start))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.input.is_null(self.null_branch)? {
            return visitor.visit_none();
        }
        visitor.visit_some(ValueReader { null_branch: None, ..self })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        // A map's keys are contents, which serde would quote as unknown fields.
        if matches!(self.kind, Kind::Map(_)) {
            return Err(Fault::misfit("a map, where a struct is expected").in_value_at(self.input.cursor.at()));
        }
        self.deserialize_any(visitor)
    }

    /// Text is the name of a variant without contents.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if !matches!(self.kind, Kind::Enum(_) | Kind::String | Kind::Uuid | Kind::Json) {
            return self.deserialize_any(visitor);
        }
        let start = self.input.cursor.at();
        let value = if self.input.is_null(self.null_branch)? {
            visitor.visit_unit()
        } else {
            match self.input.scalar(self.kind)? {
                Value::String(text) => visitor.visit_enum(BorrowedStrDeserializer::new(text)),
                other => visit(other, visitor),
            }
        };
        value.map_err(|fault: Fault| fault.in_value_at(start))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        skip(&mut self.input.cursor, self.kind, self.null_branch)?;
        self.input.finished = true;
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier
    }
}

impl<'de> MapAccess<'de> for Fields<'_, 'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        if self.pending.is_some() {
            return Err(Fault::misfit("takes a name without its value"));
        }
        self.pending = self.left.next();
        let Some(field) = self.pending else { return Ok(None) };
        seed.deserialize(BorrowedStrDeserializer::new(&field.name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some(field) = self.pending.take() else { return Err(Fault::misfit("takes a value without its name")) };
        self.input.value(seed, &field.kind, field.null_branch).map_err(|fault| fault.in_field(&field.name))
    }
}

impl Items<'_, '_> {
    fn next(&mut self) -> Result<Option<usize>, Fault> {
        if self.ended {
            return Ok(None);
        }
        let index = self.blocks.next(&mut self.input.cursor)?;
        self.ended = index.is_none();
        Ok(index)
    }
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some(index) = self.next()? else { return Ok(None) };
        let item = self.input.value(seed, &self.item.kind, self.item.null_branch);
        item.map(Some).map_err(|fault| fault.in_item(index))
    }
}

impl<'de> MapAccess<'de> for Items<'_, 'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        if self.pending.is_some() {
            return Err(Fault::misfit("takes a key without its value"));
        }
        let Some(index) = self.next()? else { return Ok(None) };
        self.pending = Some(index);
        let key = self.input.cursor.string().map_err(|fault| fault.in_item(index))?;
        seed.deserialize(BorrowedStrDeserializer::new(key)).map(Some).map_err(|fault: Fault| fault.in_item(index))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some(index) = self.pending.take() else { return Err(Fault::misfit("takes a value without its key")) };
        self.input.value(seed, &self.item.kind, self.item.null_branch).map_err(|fault| fault.in_item(index))
    }
}
