//! Columns that come, widen, go and change their type while a table is followed.

use super::*;

async fn rota() -> Option<(Server, Follower)> {
    let server = Server::new().await?;
    server
        .execute(
            "create table nurses (id int primary key, name varchar(20), grade smallint, updated_at timestamptz default now());
             insert into nurses select n, 'nurse ' || n, n from generate_series(1, 12) n",
        )
        .await;
    let mut follower = Follower::of(server.config(vec![nurses()])).await;
    follower.pass(&Ask::Everything).await;
    Some((server, follower))
}

#[tokio::test]
async fn a_column_that_comes_flows_on_and_changes_no_hash_while_it_is_null() {
    let Some((server, mut follower)) = rota().await else { return };
    let hash = |follower: &Follower| {
        let schema = follower.announced.last().unwrap();
        let body = schemas::from_json(schema, &follower.topic["3"]).unwrap();
        schemas::content_hash(schema, &body).unwrap()
    };
    let before = hash(&follower);
    server.execute("alter table nurses add ward text").await;
    follower.pass(&Ask::Changes).await;
    assert_eq!(follower.announced.len(), 2);
    assert_eq!(hash(&follower), before);
    server.execute("update nurses set ward = 'surgery', updated_at = now() where id = 3").await;
    follower.pass(&Ask::Changes).await;
    assert_eq!(follower.field("3", "ward"), "surgery");
    assert_ne!(hash(&follower), before);
}

#[tokio::test]
async fn it_may_come_in_the_middle_of_a_load() {
    let Some((server, mut follower)) = rota().await else { return };
    follower.position = None;
    assert!(!follower.step(&Ask::Everything).await.unwrap());
    server.execute("alter table nurses add ward text default 'surgery'").await;
    follower.pass(&Ask::Everything).await;
    assert_eq!(follower.field("12", "ward"), "surgery");
}

#[tokio::test]
async fn a_wider_column_is_the_same_field() {
    let Some((server, mut follower)) = rota().await else { return };
    server.execute("alter table nurses alter grade type bigint, alter name type text").await;
    server.execute("update nurses set grade = 5000000000, updated_at = now() where id = 1").await;
    follower.pass(&Ask::Changes).await;
    assert_eq!(follower.announced.len(), 1);
    assert_eq!(follower.field("1", "grade"), 5_000_000_000_i64);
}

#[tokio::test]
async fn a_column_that_goes_leaves_null_behind_and_may_come_back() {
    let Some((server, mut follower)) = rota().await else { return };
    server.execute("alter table nurses drop grade").await;
    server.execute("update nurses set updated_at = now() where id = 1").await;
    follower.pass(&Ask::Changes).await;
    assert_eq!(follower.field("1", "grade"), &Json::Null);
    assert_eq!(follower.announced.len(), 1);
    server.execute("alter table nurses add grade int").await;
    server.execute("update nurses set grade = 7, updated_at = now() where id = 1").await;
    follower.pass(&Ask::Changes).await;
    assert_eq!(follower.field("1", "grade"), 7);
}

#[tokio::test]
async fn a_column_of_another_type_stops_the_table_with_both_types_and_the_way_out() {
    let Some((server, mut follower)) = rota().await else { return };
    server.execute("alter table nurses alter grade type text").await;
    let Err(SourceError::Refused { reason, hint, .. }) = follower.try_pass(&Ask::Changes).await else {
        panic!("it was read")
    };
    assert_eq!(reason, "nurses no longer fits topic rota.nurse: grade was long and is string");
    assert!(hint.contains("leave_out") && hint.contains(".v2"), "{hint}");

    // Either way out.
    let left_out = TableConfig { leave_out: vec!["grade".into()], ..nurses() };
    let mut elsewhere = nurses();
    elsewhere.topic.name = "rota.nurse.v2".into();
    for (config, announced) in [(left_out, follower.announced.clone()), (elsewhere, Vec::new())] {
        let mut again = Follower::of(server.config(vec![config])).await;
        again.announced = announced;
        again.look().await.unwrap();
        again.pass(&Ask::Everything).await;
        assert_eq!(again.topic.len(), 12);
    }
}

#[tokio::test]
async fn a_table_that_goes_or_loses_its_key_must_be_looked_after() {
    let Some((server, mut follower)) = rota().await else { return };
    server.execute("alter table nurses drop constraint nurses_pkey, alter id drop not null").await;
    let Err(SourceError::Refused { reason, .. }) = follower.try_pass(&Ask::Changes).await else {
        panic!("it was read")
    };
    assert!(reason.contains("two rows of nurses may have the same id"), "{reason}");
    server.execute("drop table nurses").await;
    let Err(SourceError::Refused { reason, .. }) = follower.try_pass(&Ask::Changes).await else {
        panic!("it was read")
    };
    assert!(reason.contains("there is no table"), "{reason}");
}
