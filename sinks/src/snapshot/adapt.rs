//! Brings rows of the previous generation into the columns of a newer schema: fields that were added since take their
//! defaults, widened ones are widened. What can't be done so is read from the topic again.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::SchemaRef;
use schemas::{Field, Reader, Schema, Value};

use super::SnapshotError;
use super::columns;

/// What becomes of the columns of older rows.
pub(super) struct Adapter {
    columns: SchemaRef,
    steps: Vec<Step>,
}

enum Step {
    /// The column under this name, as it is or widened.
    Take(String),
    /// One row with the default, for as many as there are.
    Default(ArrayRef),
    /// No value.
    Null,
}

impl Adapter {
    /// From the schema of the previous generation to this one; `None`: the rows must be read from the topic again.
    pub fn new(former: &Schema, schema: &Schema) -> Option<Self> {
        let columns = columns::columns(schema);
        let mut steps = Vec::with_capacity(schema.fields().len());
        for (place, field) in schema.fields().iter().enumerate() {
            let mut names = std::iter::once(&field.name).chain(&field.aliases);
            let Some((_, known)) = names.find_map(|name| former.field(name)) else {
                steps.push(default_of(schema, place, field)?);
                continue;
            };
            let wanted = columns.field(place).data_type();
            let has = columns::columns(former).field_with_name(&known.name).ok()?.data_type().clone();
            let nulls_fit = field.nullable || !known.nullable;
            if !nulls_fit || !(has == *wanted || widens(former, &known.name, schema, &field.name)) {
                return None;
            }
            steps.push(Step::Take(known.name.clone()));
        }
        Some(Self { columns, steps })
    }

    /// The fields of the new schema, in its order, without the snapshot's own columns.
    pub fn adapt(&self, rows: &RecordBatch) -> Result<Vec<ArrayRef>, SnapshotError> {
        let mut arrays = Vec::with_capacity(self.steps.len());
        for (step, column) in self.steps.iter().zip(self.columns.fields()) {
            arrays.push(match step {
                Step::Take(name) => {
                    let found = super::merge::named(rows, name)?;
                    if found.data_type() == column.data_type() {
                        Arc::clone(found)
                    } else {
                        let exact = CastOptions { safe: false, ..CastOptions::default() };
                        cast_with_options(found, column.data_type(), &exact)
                            .map_err(|error| SnapshotError::Damaged { path: name.clone(), reason: error.to_string() })?
                    }
                }
                Step::Default(one) => take(one.as_ref(), &UInt32Array::from(vec![0; rows.num_rows()]), None)?,
                Step::Null => new_null_array(column.data_type(), rows.num_rows()),
            });
        }
        Ok(arrays)
    }
}

/// Whether values of a scalar field can be read as those of another, as readers of Avro do.
fn widens(former: &Schema, from: &str, schema: &Schema, to: &str) -> bool {
    let written = single(former, from);
    let wanted = single(schema, to).and_then(|schema| renamed(&schema, from));
    let (Some(written), Some(wanted)) = (written, wanted) else { return false };
    let is_nested = columns::columns(&wanted).field(0).data_type().is_nested();
    !is_nested && Reader::new(written, wanted).is_ok()
}

fn default_of(schema: &Schema, place: usize, field: &Field) -> Option<Step> {
    if field.default == Some(serde_json::Value::Null) {
        return Some(Step::Null);
    }
    // A reader with this field alone says what its default is, of a record that has another field.
    let wanted = single(schema, &field.name)?;
    let other = r#"{"type":"record","name":"other","fields":[{"name":"__none","type":"int"}]}"#;
    let reader = Reader::new(Arc::new(Schema::parse(other).ok()?), wanted).ok()?;
    let values = reader.read(&[0]).ok()?;
    let one: Vec<Option<&Value<'_>>> = values.iter().map(columns::present).collect();
    let array = columns::array(&schema.fields().get(place)?.kind, &one).ok()?;
    Some(Step::Default(array))
}

/// A schema with this field alone. `None`: its type is named elsewhere in the schema.
fn single(schema: &Schema, field: &str) -> Option<Arc<Schema>> {
    let mut json: serde_json::Value = serde_json::from_str(schema.text()).ok()?;
    let fields = json.get_mut("fields")?.as_array_mut()?;
    fields.retain(|known| known.get("name").and_then(serde_json::Value::as_str) == Some(field));
    Schema::parse(&json.to_string()).ok().map(Arc::new)
}

/// The same with its field under another name.
fn renamed(schema: &Schema, name: &str) -> Option<Arc<Schema>> {
    let mut json: serde_json::Value = serde_json::from_str(schema.text()).ok()?;
    let field = json.get_mut("fields")?.as_array_mut()?.first_mut()?;
    *field.get_mut("name")? = name.into();
    Schema::parse(&json.to_string()).ok().map(Arc::new)
}
