//! A rota's table, and what becomes of it.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn column(name: &str, kind: ColumnKind) -> Column {
    let shown = kind.to_string();
    Column { name: name.to_owned(), required: name == "id", cast: shown.clone(), shown, hidden_in: None, kind }
}

fn table(columns: &[(&str, ColumnKind)]) -> Look {
    let columns = columns.iter().map(|(name, kind)| column(name, kind.clone())).collect();
    Look { columns, print: String::new(), unique: Some(true) }
}

fn nurses() -> TableConfig {
    TableConfig::new("rota", "nurse", "nurses", &["id"])
}

fn text(plan: &Plan) -> String {
    let fields = plan.schema.fields().iter().zip(&plan.origins);
    let shown = fields.map(|(field, origin)| {
        let from = match origin {
            Origin::Column(at) => plan.select[*at].name.clone(),
            Origin::Derived(at, _) => format!("in {}", plan.select[*at].name),
            Origin::Gone => "gone".to_owned(),
        };
        format!("{} {}{} <- {from}", field.name, field.kind, if field.nullable { "?" } else { "" })
    });
    shown.collect::<Vec<_>>().join("\n")
}

fn refusal(made: Result<Plan, SourceError>) -> String {
    match made.unwrap_err() {
        SourceError::Refused { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

#[test]
fn every_column_but_the_keys_may_be_null() {
    let look = table(&[
        ("id", ColumnKind::Uuid),
        ("name", ColumnKind::String),
        ("select", ColumnKind::Array(Box::new(ColumnKind::Long))),
        ("Date of birth", ColumnKind::Date),
        ("about", ColumnKind::Json),
    ]);
    let plan = plan(&nurses(), None, &look, &[]).unwrap();
    insta::assert_snapshot!(text(&plan), @r"
    id uuid <- id
    name string? <- name
    select array of long? <- select
    Date_of_birth date? <- Date of birth
    about json? <- about
    ");
}

#[test]
fn a_column_that_comes_is_added_and_one_that_goes_stays_as_null() {
    let first = plan(&nurses(), None, &table(&[("id", ColumnKind::Long), ("name", ColumnKind::String)]), &[]).unwrap();
    let look = table(&[("ward", ColumnKind::String), ("id", ColumnKind::Long)]);
    let second = plan(&nurses(), None, &look, std::slice::from_ref(&first.schema)).unwrap();
    assert_eq!(text(&second), "id long <- id\nname string? <- gone\nward string? <- ward");
    let announced = [first.schema, second.schema];
    let back = table(&[("id", ColumnKind::Long), ("name", ColumnKind::String), ("ward", ColumnKind::String)]);
    assert_eq!(
        text(&plan(&nurses(), None, &back, &announced).unwrap()),
        "id long <- id\nname string? <- name\nward string? <- ward"
    );
}

#[test]
fn a_column_of_another_type_is_refused_and_so_is_one_that_had_it_long_ago() {
    let with = |kind| table(&[("id", ColumnKind::Long), ("pay", kind)]);
    let first = plan(&nurses(), None, &with(ColumnKind::Long), &[]).unwrap();
    let retyped = plan(&nurses(), None, &with(ColumnKind::String), std::slice::from_ref(&first.schema));
    assert!(refusal(retyped).contains("pay was long and is string"));
    let gone = plan(&nurses(), None, &table(&[("id", ColumnKind::Long)]), std::slice::from_ref(&first.schema)).unwrap();
    let retyped = plan(&nurses(), None, &with(ColumnKind::String), &[first.schema.clone(), gone.schema]);
    assert!(refusal(retyped).contains("pay was long and is string"));
    let left_out = TableConfig { leave_out: vec!["pay".into()], ..nurses() };
    assert!(plan(&left_out, None, &with(ColumnKind::String), &[first.schema]).is_ok());
}

#[test]
fn a_derived_field_takes_the_place_of_a_column_and_may_come_from_one_that_is_left_out() {
    let derived = Derived {
        name: "speciality".into(),
        from: "additional_info".into(),
        path: vec!["specialities".into()],
        conditions: BTreeMap::new(),
    };
    let config = TableConfig {
        derived: vec![derived],
        leave_out: vec!["additional_info".into()],
        change: Some("updated_at".into()),
        ..nurses()
    };
    let look = table(&[
        ("id", ColumnKind::Uuid),
        ("speciality", ColumnKind::Json),
        ("additional_info", ColumnKind::Json),
        ("updated_at", ColumnKind::Local),
    ]);
    let made = plan(&config, Some(Tz::UTC), &look, &[]).unwrap();
    assert_eq!(
        text(&made),
        "id uuid <- id\nupdated_at timestamp-micros? <- updated_at\nspeciality json? <- in additional_info"
    );
    assert_eq!(made.change, Some((1, ChangeKind::Time(Some(Tz::UTC)))));
    assert!(refusal(plan(&config, None, &look, &[])).contains("has no time zone"));
}

#[test]
fn what_a_key_must_be() {
    let nullable = Look { columns: vec![Column { required: false, ..column("id", ColumnKind::Long) }], ..table(&[]) };
    assert!(refusal(plan(&nurses(), None, &nullable, &[])).contains("may be null"));
    assert!(plan(&nurses(), None, &Look { unique: None, ..nullable }, &[]).is_ok(), "a view doesn't know");
    let twice = Look { unique: Some(false), ..table(&[("id", ColumnKind::Long)]) };
    assert!(refusal(plan(&nurses(), None, &twice, &[])).contains("two rows"));
    assert!(refusal(plan(&nurses(), None, &table(&[("id", ColumnKind::Double)]), &[])).contains("can't be part"));
    assert!(refusal(plan(&nurses(), None, &table(&[("no", ColumnKind::Long)]), &[])).contains("no column \"id\""));
}
