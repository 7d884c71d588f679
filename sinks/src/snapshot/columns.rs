//! From Avro to Arrow: the columns of a dataset, and the records that fill them.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int32Array,
    Int64Array, ListArray, MapArray, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field as Column, Fields, Schema as Columns, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use schemas::{Item, Kind, Record, Schema, Value};

/// The key's text.
pub(super) const KEY: &str = "_key";
/// The version of the change that the row is.
pub(super) const VERSION: &str = "_version";
/// When it changed.
pub(super) const CHANGED: &str = "_changed";
/// All of them.
pub(super) const OWN: [&str; 3] = [KEY, VERSION, CHANGED];

/// The columns of a dataset: the fields of its schema, and behind them those of the snapshot itself.
pub(super) fn columns(schema: &Schema) -> SchemaRef {
    let mut columns: Vec<Column> = schema.fields().iter().map(column).collect();
    columns.push(Column::new(KEY, DataType::Utf8, false));
    columns.push(Column::new(VERSION, DataType::Int64, false));
    columns.push(Column::new(CHANGED, moment(), false));
    Arc::new(Columns::new(columns))
}

/// Moments are UTC.
pub(super) fn moment() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn column(field: &schemas::Field) -> Column {
    Column::new(&field.name, data_type(&field.kind), field.nullable)
}

fn data_type(kind: &Kind) -> DataType {
    match kind {
        Kind::Boolean => DataType::Boolean,
        Kind::Int => DataType::Int32,
        Kind::Long => DataType::Int64,
        Kind::Float => DataType::Float32,
        Kind::Double => DataType::Float64,
        Kind::Bytes => DataType::Binary,
        Kind::Date => DataType::Date32,
        Kind::TimestampMillis | Kind::TimestampMicros => moment(),
        Kind::LocalTimestampMillis | Kind::LocalTimestampMicros => DataType::Timestamp(TimeUnit::Microsecond, None),
        Kind::Decimal { precision, scale } => decimal(*precision, *scale),
        Kind::Array(item) => DataType::List(item_of(item)),
        Kind::Map(item) => DataType::Map(entries_of(item), false),
        Kind::Record(record) => DataType::Struct(fields_of(record)),
        Kind::String | Kind::Uuid | Kind::Json | Kind::Enum(_) => DataType::Utf8,
    }
}

/// An unscaled value has 128 bits.
fn decimal(precision: u32, scale: u32) -> DataType {
    let precision = u8::try_from(precision.min(38)).unwrap_or(38);
    DataType::Decimal128(precision, i8::try_from(scale.min(38)).unwrap_or(38))
}

fn item_of(item: &Item) -> Arc<Column> {
    Arc::new(Column::new("item", data_type(&item.kind), item.nullable))
}

fn entries_of(item: &Item) -> Arc<Column> {
    let entry =
        vec![Column::new("keys", DataType::Utf8, false), Column::new("values", data_type(&item.kind), item.nullable)];
    Arc::new(Column::new("entries", DataType::Struct(entry.into()), false))
}

fn fields_of(record: &Record) -> Fields {
    record.fields.iter().map(column).collect()
}

/// A value that is there.
pub(super) fn present<'v, 'a>(value: &'v Value<'a>) -> Option<&'v Value<'a>> {
    (!matches!(value, Value::Null)).then_some(value)
}

/// The values of a column, in this order.
macro_rules! scalars {
    ($array:ty, $values:expr, $pattern:pat => $value:expr) => {
        $values.iter().map(|value| if let Some($pattern) = value { Some($value) } else { None }).collect::<$array>()
    };
}

/// One column of these values; they are of this kind, or missing.
pub(super) fn array(kind: &Kind, values: &[Option<&Value<'_>>]) -> Result<ArrayRef, ArrowError> {
    Ok(match kind {
        Kind::Boolean => Arc::new(scalars!(BooleanArray, values, Value::Boolean(v) => *v)),
        Kind::Int => Arc::new(scalars!(Int32Array, values, Value::Int(v) => *v)),
        Kind::Long => Arc::new(scalars!(Int64Array, values, Value::Long(v) => *v)),
        Kind::Float => Arc::new(scalars!(Float32Array, values, Value::Float(v) => *v)),
        Kind::Double => Arc::new(scalars!(Float64Array, values, Value::Double(v) => *v)),
        Kind::Bytes => Arc::new(scalars!(BinaryArray, values, Value::Bytes(v) => *v)),
        Kind::Date => Arc::new(scalars!(Date32Array, values, Value::Date(v) => *v)),
        Kind::TimestampMillis | Kind::TimestampMicros => {
            let moments = scalars!(TimestampMicrosecondArray, values, Value::Timestamp { micros } => *micros);
            Arc::new(moments.with_timezone("UTC"))
        }
        Kind::LocalTimestampMillis | Kind::LocalTimestampMicros => {
            Arc::new(scalars!(TimestampMicrosecondArray, values, Value::LocalTimestamp { micros } => *micros))
        }
        Kind::Decimal { .. } => {
            let unscaled = scalars!(Decimal128Array, values, Value::Decimal(v) => v.unscaled);
            Arc::new(unscaled.with_data_type(data_type(kind)))
        }
        Kind::Array(item) => list(item, values)?,
        Kind::Map(item) => map(item, values)?,
        Kind::Record(record) => {
            let nulls = there(values);
            let mut children = Vec::with_capacity(record.fields.len());
            for (place, field) in record.fields.iter().enumerate() {
                let mut child: Vec<Option<&Value<'_>>> = Vec::with_capacity(values.len());
                for value in values {
                    child.push(match value {
                        Some(Value::Record(fields)) => fields.get(place).and_then(present),
                        _ => None,
                    });
                }
                children.push(array(&field.kind, &child)?);
            }
            Arc::new(StructArray::try_new(fields_of(record), children, Some(nulls))?)
        }
        Kind::String | Kind::Uuid | Kind::Json | Kind::Enum(_) => {
            Arc::new(scalars!(StringArray, values, Value::String(v) => *v))
        }
    })
}

fn there(values: &[Option<&Value<'_>>]) -> NullBuffer {
    values.iter().map(Option::is_some).collect::<Vec<bool>>().into()
}

fn list(item: &Item, values: &[Option<&Value<'_>>]) -> Result<ArrayRef, ArrowError> {
    let mut lengths = Vec::with_capacity(values.len());
    let mut items: Vec<Option<&Value<'_>>> = Vec::new();
    for value in values {
        let Some(Value::Array(of)) = value else {
            lengths.push(0);
            continue;
        };
        lengths.push(of.len());
        items.extend(of.iter().map(present));
    }
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(ListArray::try_new(item_of(item), offsets, array(&item.kind, &items)?, Some(there(values)))?))
}

fn map(item: &Item, values: &[Option<&Value<'_>>]) -> Result<ArrayRef, ArrowError> {
    let mut lengths = Vec::with_capacity(values.len());
    let (mut keys, mut items): (Vec<&str>, Vec<Option<&Value<'_>>>) = Default::default();
    for value in values {
        let Some(Value::Map(of)) = value else {
            lengths.push(0);
            continue;
        };
        lengths.push(of.len());
        keys.extend(of.iter().map(|(key, _)| *key));
        items.extend(of.iter().map(|(_, value)| present(value)));
    }
    let entries = entries_of(item);
    let DataType::Struct(fields) = entries.data_type().clone() else {
        return Err(ArrowError::SchemaError("the entries of a map are records".into()));
    };
    let children: Vec<ArrayRef> = vec![Arc::new(StringArray::from(keys)), array(&item.kind, &items)?];
    let offsets = OffsetBuffer::from_lengths(lengths);
    let of = StructArray::try_new(fields, children, None)?;
    Ok(Arc::new(MapArray::try_new(entries, offsets, of, Some(there(values)), false)?))
}
