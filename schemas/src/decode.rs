//! The checking decoder: says whether a message follows its schema, and where it doesn't. Nothing downstream decodes
//! bytes that didn't pass here first.

use crate::{
    cursor::{Blocks, Cursor},
    malformed::Malformed,
    schema::{Item, Kind, Record, Schema},
    value::Value,
};

/// Walks the whole body and says what is wrong with it, if anything. Doesn't allocate.
///
/// What passes decodes with any Avro library: lengths and counts hold, text is UTF-8, uuids are uuids, dates and times
/// lie within the years 1 to 9999, decimals fit their precision, and nothing follows the last field.
pub fn check(schema: &Schema, body: &[u8]) -> Result<(), Malformed> {
    let mut cursor = Cursor::new(body);
    skip_record(&mut cursor, schema.record())?;
    cursor.finish()
}

/// Decodes the body into one value per field, in the order of the schema. Text and bytes are borrowed.
pub fn values<'a>(schema: &'a Schema, body: &'a [u8]) -> Result<Vec<Value<'a>>, Malformed> {
    let mut cursor = Cursor::new(body);
    let fields = read_record(&mut cursor, schema.record())?;
    cursor.finish()?;
    Ok(fields)
}

fn skip_record(cursor: &mut Cursor<'_>, record: &Record) -> Result<(), Malformed> {
    for field in &record.fields {
        skip(cursor, &field.kind, field.null_branch).map_err(|fault| fault.in_field(&field.name))?;
    }
    Ok(())
}

/// Checks one value and moves past it.
pub(crate) fn skip(cursor: &mut Cursor<'_>, kind: &Kind, null_branch: Option<u8>) -> Result<(), Malformed> {
    if cursor.is_null(null_branch)? {
        return Ok(());
    }
    match kind {
        Kind::Record(record) => skip_record(cursor, record),
        Kind::Array(item) => skip_items(cursor, item, false),
        Kind::Map(item) => skip_items(cursor, item, true),
        scalar => cursor.scalar(scalar).map(|_| ()),
    }
}

fn skip_items(cursor: &mut Cursor<'_>, item: &Item, keyed: bool) -> Result<(), Malformed> {
    let mut blocks = Blocks::new();
    while let Some(index) = blocks.next(cursor)? {
        if keyed {
            cursor.string().map_err(|fault| fault.in_item(index))?;
        }
        skip(cursor, &item.kind, item.null_branch).map_err(|fault| fault.in_item(index))?;
    }
    Ok(())
}

fn read_record<'s, 'a: 's>(cursor: &mut Cursor<'a>, record: &'s Record) -> Result<Vec<Value<'s>>, Malformed> {
    let mut fields = Vec::with_capacity(record.fields.len());
    for field in &record.fields {
        let value = read(cursor, &field.kind, field.null_branch).map_err(|fault| fault.in_field(&field.name))?;
        fields.push(value);
    }
    Ok(fields)
}

/// Checks and decodes one value.
pub(crate) fn read<'s, 'a: 's>(
    cursor: &mut Cursor<'a>,
    kind: &'s Kind,
    null_branch: Option<u8>,
) -> Result<Value<'s>, Malformed> {
    if cursor.is_null(null_branch)? {
        return Ok(Value::Null);
    }
    match kind {
        Kind::Record(record) => read_record(cursor, record).map(Value::Record),
        Kind::Array(item) => {
            let mut items = Vec::new();
            let mut blocks = Blocks::new();
            while let Some(index) = blocks.next(cursor)? {
                items.push(read(cursor, &item.kind, item.null_branch).map_err(|fault| fault.in_item(index))?);
            }
            Ok(Value::Array(items))
        }
        Kind::Map(item) => {
            let mut entries = Vec::new();
            let mut blocks = Blocks::new();
            while let Some(index) = blocks.next(cursor)? {
                let key = cursor.string().map_err(|fault| fault.in_item(index))?;
                let value = read(cursor, &item.kind, item.null_branch).map_err(|fault| fault.in_item(index))?;
                entries.push((key, value));
            }
            Ok(Value::Map(entries))
        }
        scalar => cursor.scalar(scalar),
    }
}

#[cfg(test)]
pub(crate) mod tests;
