//! The records of the contract with any contents: they come back, and another Avro library writes the same bytes.

use apache_avro::{Uuid, types::Value as Avro, writer::datum::GenericDatumWriter};
use proptest::{collection, prelude::*, test_runner::TestRunner};

use crate::{
    Entity, catalogue, check, from_avro,
    records::{ats, register},
    schema::{Kind, Record},
    time::{DAY_RANGE, MICRO_RANGE},
    to_avro,
};

fn any_record(record: &Record) -> BoxedStrategy<Avro> {
    let fields: Vec<_> = record
        .fields
        .iter()
        .map(|field| {
            any_value(&field.kind, field.null_branch).prop_map({
                let name = field.name.clone();
                move |value| (name.clone(), value)
            })
        })
        .collect();
    fields.prop_map(Avro::Record).boxed()
}

fn any_value(kind: &Kind, null_branch: Option<u8>) -> BoxedStrategy<Avro> {
    let value = match kind {
        Kind::Boolean => any::<bool>().prop_map(Avro::Boolean).boxed(),
        Kind::Int => any::<i32>().prop_map(Avro::Int).boxed(),
        Kind::Long => any::<i64>().prop_map(Avro::Long).boxed(),
        Kind::String | Kind::Json => any::<String>().prop_map(Avro::String).boxed(),
        Kind::Uuid => any::<u128>().prop_map(|bits| Avro::Uuid(Uuid::from_u128(bits))).boxed(),
        Kind::Date => DAY_RANGE.prop_map(Avro::Date).boxed(),
        Kind::TimestampMicros => MICRO_RANGE.prop_map(Avro::TimestampMicros).boxed(),
        Kind::LocalTimestampMicros => MICRO_RANGE.prop_map(Avro::LocalTimestampMicros).boxed(),
        Kind::Array(item) => {
            collection::vec(any_value(&item.kind, item.null_branch), 0..4).prop_map(Avro::Array).boxed()
        }
        Kind::Record(record) => any_record(record),
        other => unreachable!("no record of the contract holds a {other}"),
    };
    let Some(null_branch) = null_branch else { return value };
    let null = Just(Avro::Union(u32::from(null_branch), Box::new(Avro::Null)));
    let value = value.prop_map(move |value| Avro::Union(u32::from(1 - null_branch), Box::new(value)));
    prop_oneof![1 => null, 2 => value].boxed()
}

/// Written elsewhere, read here, and written here: the same bytes and the same record.
fn agrees<T: Entity>() {
    let schema = &catalogue().entity(T::TOPIC).unwrap().schema;
    let writer = GenericDatumWriter::builder(schema.avro()).build().unwrap();
    let case = |value: Avro| {
        let elsewhere = writer.write_value_to_vec(value).unwrap();
        let record: T = from_avro(schema, &elsewhere).unwrap();
        let mut here = Vec::new();
        to_avro(schema, &record, &mut here).unwrap();
        prop_assert_eq!(check(schema, &here), Ok(()));
        prop_assert_eq!(&here, &elsewhere);
        prop_assert!(from_avro::<T>(schema, &here).unwrap() == record);
        Ok(())
    };
    TestRunner::default().run(&any_record(schema.record()), case).unwrap();
}

#[test]
fn all_records_agree_with_another_library() {
    agrees::<ats::Staff>();
    agrees::<ats::HealthAuthority>();
    agrees::<ats::Reason>();
    agrees::<ats::Milestone>();
    agrees::<ats::Applicant>();
    agrees::<register::User>();
    agrees::<register::HealthAuthority>();
    agrees::<register::Reason>();
    agrees::<register::Status>();
    agrees::<register::Applicant>();
    agrees::<register::Milestone>();
}
