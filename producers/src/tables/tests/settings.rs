//! The settings of a tables source, right and wrong.

use pipeline::config;

use crate::tables::{Compare, TablesSettings};

fn read(text: &str) -> Result<TablesSettings, String> {
    config::read("muster.toml", text, TablesSettings::read).map_err(|problems| problems.to_string())
}

#[test]
fn a_source_is_read_key_by_key() {
    let settings = read(
        r#"
        url = "postgres://muster@db/prm"
        password = { env = "PRM" }
        system = "prm"
        schema = "registry"
        timestamp_zone = "UTC"
        [tables.employee]
        table = "employees"
        key = ["id"]
        change = "updated_at"
        overlap = "15m"
        leave_out = ["inserted_by", "updated_by"]
        derived.speciality = { from = "additional_info", path = "specialities", where = { speciality_officio = true } }
        [tables.contract_division]
        table = "contract_divisions"
        schema = "other"
        topic = "prm.contract_division.v2"
        key = ["contract_id", "division_id"]
        partition_key = ["contract_id"]
        spread = "one"
        compare = "row"
        "#,
    )
    .unwrap();
    let config = settings.resolve(&|name| (name == "PRM").then(|| "p@ss".to_owned())).unwrap();
    assert_eq!(config.url.expose(), "postgres://muster:p%40ss@db/prm");
    assert!(!format!("{config:?}").contains("p%40ss"));
    let topics: Vec<String> = settings
        .topics()
        .iter()
        .map(|topic| {
            let entity = topic.entity().unwrap();
            format!(
                "{} by {} of {}, {}",
                topic.name,
                entity.group_fields,
                entity.key_fields.join("|"),
                entity.schema.name()
            )
        })
        .collect();
    assert_eq!(
        topics,
        [
            "prm.contract_division.v2 by 1 of contract_id|division_id, muster.prm.contract_division_v2",
            "prm.employee by 1 of id, muster.prm.employee"
        ]
    );
    let [contract, employee] = settings.tables() else { panic!("two tables") };
    assert_eq!((contract.schema.as_deref(), employee.schema.as_deref()), (Some("other"), Some("registry")));
    assert_eq!((contract.compare, contract.topic.one_partition), (Compare::Row, true));
    assert_eq!(employee.derived[0].path, ["specialities"]);
}

#[test]
fn every_mistake_is_named() {
    let problems = read(
        r#"
        url = "sqlite:///prm.db"
        schema = "public"
        system = "my system"
        page_rows = 0
        [tables."employee list"]
        table = "employees"
        key = ["id", "id"]
        leave_out = ["id"]
        [tables.party]
        tabel = "parties"
        key = ["a", "b"]
        partition_key = ["b"]
        overlap = "10m"
        types = { x = "timestmp" }
        topic = "ats.applicant"
        columns = ["c"]
        leave_out = ["c"]
        derived.a = { path = "x" }
        "#,
    );
    insta::assert_snapshot!(problems.unwrap_err());
}
