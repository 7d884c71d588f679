//! Reads messages of an older or newer schema version into the fields of the one a program was built with.

use std::sync::Arc;

use crate::{
    cursor::{Blocks, Cursor},
    decode::{read, skip},
    malformed::Malformed,
    schema::{Field, Kind, Record, Schema, SchemaError},
    value::Value,
};

/// A writer schema resolved against a reader schema, once; then reads any number of messages.
#[derive(Debug)]
pub struct Reader {
    writer: Arc<Schema>,
    reader: Arc<Schema>,
    plan: Plan,
}

/// How one record becomes another.
#[derive(Debug)]
struct Plan {
    /// One per field of the writer: its place in the reader and how it gets there; `None` skips it.
    steps: Vec<Option<(usize, How)>>,
    /// Reader fields the writer doesn't have.
    defaults: Vec<usize>,
}

#[derive(Debug)]
enum How {
    /// As written, after [`convert`].
    Scalar,
    Record(Plan),
    Array(Box<How>),
    Map(Box<How>),
}

impl Reader {
    /// Fails when some message of the writer schema couldn't be read, and says which field is to blame.
    pub fn new(writer: Arc<Schema>, reader: Arc<Schema>) -> Result<Reader, SchemaError> {
        let plan = plan(writer.record(), reader.record(), "")?;
        Ok(Reader { writer, reader, plan })
    }

    /// The values of a body written with the writer schema, one per field of the reader schema, in its order. Missing
    /// fields take the reader's default, extra ones are checked and skipped, numbers are widened.
    pub fn read<'a>(&'a self, body: &'a [u8]) -> Result<Vec<Value<'a>>, Malformed> {
        let mut cursor = Cursor::new(body);
        let fields = read_record(&mut cursor, &self.plan, self.writer.record(), self.reader.record())?;
        cursor.finish()?;
        Ok(fields)
    }
}

fn plan(writer: &Record, reader: &Record, path: &str) -> Result<Plan, SchemaError> {
    let mut steps = Vec::with_capacity(writer.fields.len());
    let mut found = vec![false; reader.fields.len()];
    for written in &writer.fields {
        let place = place_of(&written.name, reader).filter(|place| !found[*place]);
        let Some(place) = place else {
            steps.push(None);
            continue;
        };
        found[place] = true;
        let wanted = &reader.fields[place];
        let path = format!("{path}{}", wanted.name);
        steps.push(Some((place, how(&written.kind, &wanted.kind, &path)?)));
    }
    let defaults: Vec<usize> = (0..found.len()).filter(|place| !found[*place]).collect();
    for place in &defaults {
        let field = &reader.fields[*place];
        if field.default_avro.is_none() {
            let what = format!("isn't in the schema it was written with ({}), and has no default", writer.name);
            return Err(unreadable(&format!("{path}{}", field.name), what));
        }
    }
    Ok(Plan { steps, defaults })
}

/// A field of the reader by its name, else by a former one.
fn place_of(name: &str, reader: &Record) -> Option<usize> {
    let by_name = reader.fields.iter().position(|field| field.name == name);
    by_name.or_else(|| reader.fields.iter().position(|field| field.aliases.iter().any(|alias| alias == name)))
}

fn how(written: &Kind, wanted: &Kind, path: &str) -> Result<How, SchemaError> {
    use Kind::{
        Array, Bytes, Decimal, Double, Enum, Float, Int, Json, LocalTimestampMicros, LocalTimestampMillis, Long, Map,
        String, TimestampMicros, TimestampMillis, Uuid,
    };
    let readable = match (written, wanted) {
        (Kind::Record(written), Kind::Record(wanted)) => {
            return plan(written, wanted, &format!("{path}.")).map(How::Record);
        }
        (Array(written), Array(wanted)) => {
            return Ok(How::Array(Box::new(how(&written.kind, &wanted.kind, &format!("{path}[]"))?)));
        }
        (Map(written), Map(wanted)) => {
            return Ok(How::Map(Box::new(how(&written.kind, &wanted.kind, &format!("{path}[]"))?)));
        }
        (Decimal { precision: p1, scale: s1 }, Decimal { precision: p2, scale: s2 }) => s1 == s2 && p1 <= p2,
        (Enum(_), Enum(_))
        | (Int, Long | Float | Double)
        | (Long, Float | Double)
        | (Float, Double)
        | (String, Bytes | Uuid)
        | (Uuid, String | Bytes)
        | (Bytes, String)
        | (String, Json)
        | (Json, String)
        | (TimestampMillis, TimestampMicros)
        | (TimestampMicros, TimestampMillis)
        | (LocalTimestampMillis, LocalTimestampMicros)
        | (LocalTimestampMicros, LocalTimestampMillis) => true,
        (Array(_) | Map(_) | Kind::Record(_), _) => false,
        (written, wanted) => std::mem::discriminant(written) == std::mem::discriminant(wanted),
    };
    if readable { Ok(How::Scalar) } else { Err(unreadable(path, format!("a {written} can't be read as {wanted}"))) }
}

fn unreadable(path: &str, what: String) -> SchemaError {
    SchemaError::Unreadable { path: path.to_owned(), what }
}

fn read_record<'s, 'a: 's>(
    cursor: &mut Cursor<'a>,
    plan: &'s Plan,
    writer: &'s Record,
    reader: &'s Record,
) -> Result<Vec<Value<'s>>, Malformed> {
    let mut fields = vec![Value::Null; reader.fields.len()];
    for (written, step) in writer.fields.iter().zip(&plan.steps) {
        let in_field = |fault: Malformed| fault.in_field(&written.name);
        let Some((place, how)) = step else {
            skip(cursor, &written.kind, written.null_branch).map_err(in_field)?;
            continue;
        };
        let wanted = &reader.fields[*place];
        let from = (&written.kind, written.null_branch);
        fields[*place] = read_value(cursor, how, from, (&wanted.kind, wanted.nullable)).map_err(in_field)?;
    }
    for place in &plan.defaults {
        fields[*place] = default_of(&reader.fields[*place])?;
    }
    Ok(fields)
}

fn default_of(field: &Field) -> Result<Value<'_>, Malformed> {
    let avro = field.default_avro.as_deref().unwrap_or_default();
    read(&mut Cursor::new(avro), &field.kind, field.null_branch)
}

/// `from`: kind and null branch as written; `to`: kind and nullability as wanted.
fn read_value<'s, 'a: 's>(
    cursor: &mut Cursor<'a>,
    how: &'s How,
    from: (&'s Kind, Option<u8>),
    to: (&'s Kind, bool),
) -> Result<Value<'s>, Malformed> {
    let start = cursor.at();
    if cursor.is_null(from.1)? {
        return if to.1 { Ok(Value::Null) } else { Err(Malformed::new(start, "null, where the reader needs a value")) };
    }
    match (how, from.0, to.0) {
        (How::Record(plan), Kind::Record(writer), Kind::Record(reader)) => {
            read_record(cursor, plan, writer, reader).map(Value::Record)
        }
        (How::Array(how), Kind::Array(written), Kind::Array(wanted)) => {
            let (from, to) = ((&written.kind, written.null_branch), (&wanted.kind, wanted.nullable));
            let mut items = Vec::new();
            let mut blocks = Blocks::new();
            while let Some(index) = blocks.next(cursor)? {
                items.push(read_value(cursor, how, from, to).map_err(|fault| fault.in_item(index))?);
            }
            Ok(Value::Array(items))
        }
        (How::Map(how), Kind::Map(written), Kind::Map(wanted)) => {
            let (from, to) = ((&written.kind, written.null_branch), (&wanted.kind, wanted.nullable));
            let mut entries = Vec::new();
            let mut blocks = Blocks::new();
            while let Some(index) = blocks.next(cursor)? {
                let key = cursor.string().map_err(|fault| fault.in_item(index))?;
                entries.push((key, read_value(cursor, how, from, to).map_err(|fault| fault.in_item(index))?));
            }
            Ok(Value::Map(entries))
        }
        _ => convert(cursor.scalar(from.0)?, to.0, start),
    }
}

/// Widens a scalar to the reader's kind. What needs no widening is passed on.
#[expect(clippy::cast_precision_loss, reason = "long to float is one of Avro's promotions")]
fn convert<'s>(value: Value<'s>, to: &Kind, start: usize) -> Result<Value<'s>, Malformed> {
    let fault = |reason: &str| Err(Malformed::new(start, reason));
    Ok(match (value, to) {
        (Value::Int(n), Kind::Long) => Value::Long(i64::from(n)),
        (Value::Int(n), Kind::Float) => Value::Float(n as f32),
        (Value::Int(n), Kind::Double) => Value::Double(f64::from(n)),
        (Value::Long(n), Kind::Float) => Value::Float(n as f32),
        (Value::Long(n), Kind::Double) => Value::Double(n as f64),
        (Value::Float(x), Kind::Double) => Value::Double(f64::from(x)),
        (Value::String(text), Kind::Bytes) => Value::Bytes(text.as_bytes()),
        (Value::String(text), Kind::Uuid) if !crate::cursor::is_uuid(text) => return fault("not a uuid"),
        (Value::Bytes(bytes), Kind::String) => match std::str::from_utf8(bytes) {
            Ok(text) => Value::String(text),
            Err(_) => return fault("not UTF-8"),
        },
        (Value::String(symbol), Kind::Enum(symbols)) if !symbols.iter().any(|known| known == symbol) => {
            return fault("a symbol the reader's enum doesn't have");
        }
        (value, _) => value,
    })
}

#[cfg(test)]
mod tests;
