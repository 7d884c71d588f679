//! Comparing a table with what is remembered of it: what is unchanged isn't transferred, and what has gone is found.

use std::time::Duration;

use tempfile::TempDir;

use super::*;

/// A rota whose ranges are remembered.
struct Rota {
    server: Server,
    folder: TempDir,
    follower: Follower,
}

impl Rota {
    /// Loaded, and read once more by a pass that remembers.
    async fn new(table: TableConfig) -> Option<Self> {
        let server = Server::new().await?;
        server
            .execute(
                "create table nurses (id int primary key, name text, updated_at timestamptz default now());
                 insert into nurses select n, 'nurse ' || n, '2024-01-01' from generate_series(1, 23) n",
            )
            .await;
        let folder = TempDir::new().unwrap();
        let mut follower = Follower::begin(server.config(vec![table]), folder.path()).await.unwrap();
        follower.pass(&Ask::Everything).await;
        assert_eq!((follower.read, follower.gone.clone()), (23, None));
        follower.pass(&Ask::Everything).await;
        assert_eq!((follower.read, follower.changed, follower.gone.clone()), (23, 0, None));
        Some(Self { server, folder, follower })
    }

    /// Another process, or the same after a crash, with a folder of its own or not.
    async fn taken_over(&mut self, folder: &Path) {
        let mut next = Follower::begin(self.server.config(vec![nurses()]), folder).await.unwrap();
        next.position = self.follower.position.clone();
        next.topic = std::mem::take(&mut self.follower.topic);
        self.follower = next;
    }

    async fn compare(&mut self) -> (u64, Vec<String>) {
        self.follower.pass(&Ask::Everything).await;
        (self.follower.read, self.follower.gone.clone().unwrap())
    }
}

#[tokio::test]
async fn what_is_unchanged_is_not_transferred() {
    let Some(mut rota) = Rota::new(nurses()).await else { return };
    assert_eq!(rota.compare().await, (0, vec![]));
    // The time moved, so the change would have been found anyway; here it is found without a pass over changes.
    rota.server.execute("update nurses set name = 'Grace', updated_at = '2024-02-02' where id = 7").await;
    rota.server.execute("insert into nurses values (70, 'Ada', '2023-01-01')").await;
    assert_eq!(rota.compare().await, (5 + 4, vec![]));
    assert_eq!(rota.follower.field("7", "name"), "Grace");
    assert_eq!(rota.follower.field("70", "name"), "Ada");
    assert_eq!(rota.compare().await, (0, vec![]));
}

#[tokio::test]
async fn a_row_that_changed_in_silence_is_found_by_whole_rows() {
    let Some(mut rota) = Rota::new(nurses()).await else { return };
    rota.server.execute("update nurses set name = 'in silence' where id = 7").await;
    assert_eq!(rota.compare().await, (0, vec![]));
    let often = TableConfig { compare_rows_every: Duration::ZERO, ..nurses() };
    let mut other = Rota::new(often).await.unwrap();
    other.server.execute("update nurses set name = 'in silence' where id = 7").await;
    assert_eq!(other.compare().await, (5, vec![]));
    assert_eq!(other.follower.field("7", "name"), "in silence");
    let without = TableConfig { change: None, ..nurses() };
    let mut other = Rota::new(without).await.unwrap();
    other.server.execute("update nurses set name = 'in silence' where id = 7").await;
    other.follower.pass(&Ask::Changes).await;
    assert_eq!((other.follower.read, other.follower.changed), (5, 1));
}

/// All ranges are compared with one statement, which places rows by the list of last keys.
#[tokio::test]
async fn keys_of_any_text_are_placed_in_their_ranges() {
    let Some(server) = Server::new().await else { return };
    server
        .execute(
            r#"create table nurses (id text primary key, name text, updated_at timestamptz default '2024-01-01');
             insert into nurses (id) values ('a,b'), ('A'), ('a'), ('b"'), ('{'), ('}'), ('NULL'), ('null'), ('.'), (' '), ('é'),
             ('e'), ('z\'), ('\\'), ('''quoted'''), ('ß'), ('ss'), ('100'), ('99'), ('_'), ('-'), ('日本')"#,
        )
        .await;
    let folder = TempDir::new().unwrap();
    let mut follower = Follower::begin(server.config(vec![nurses()]), folder.path()).await.unwrap();
    for _ in 0..3 {
        follower.pass(&Ask::Everything).await;
    }
    assert_eq!((follower.read, follower.gone.clone()), (0, Some(vec![])));
    server.execute("update nurses set updated_at = '2024-02-02'").await;
    follower.pass(&Ask::Everything).await;
    assert_eq!((follower.read, follower.changed), (22, 22));
    server.execute(r"update nurses set updated_at = '2024-02-03' where id = 'z\'").await;
    server.execute(r#"delete from nurses where id = 'b"'"#).await;
    follower.pass(&Ask::Everything).await;
    assert_eq!((follower.changed, follower.gone.clone()), (1, Some(vec!["b\"".to_owned()])));
    assert!(follower.read <= 10, "two ranges differ, {} rows were read", follower.read);
}

#[tokio::test]
async fn a_key_of_two_columns_is_compared_range_by_range() {
    let Some(server) = Server::new().await else { return };
    server
        .execute(
            "create table nurses (ward int, id int, updated_at timestamptz default '2024-01-01', primary key (ward, id));
             insert into nurses select n % 3, n from generate_series(1, 23) n",
        )
        .await;
    let two = TableConfig::new("rota", "nurse", "nurses", &["ward", "id"]);
    let table = TableConfig { change: Some("updated_at".into()), ..two };
    let folder = TempDir::new().unwrap();
    let mut follower = Follower::begin(server.config(vec![table]), folder.path()).await.unwrap();
    for _ in 0..3 {
        follower.pass(&Ask::Everything).await;
    }
    assert_eq!((follower.read, follower.gone.clone()), (0, Some(vec![])));
    server.execute("update nurses set updated_at = '2024-02-03' where id = 7; delete from nurses where id = 23").await;
    follower.pass(&Ask::Everything).await;
    assert_eq!((follower.changed, follower.gone.clone()), (1, Some(vec!["2|23".to_owned()])));
    assert!(follower.read <= 10, "two ranges differ, {} rows were read", follower.read);
}

#[tokio::test]
async fn what_went_out_of_a_range_is_gone_each_time_until_it_is_back() {
    let Some(mut rota) = Rota::new(nurses()).await else { return };
    rota.server.execute("delete from nurses where id in (3, 21, 22, 23)").await;
    let gone = || ["21", "22", "23", "3"].map(str::to_owned).to_vec();
    assert_eq!(rota.compare().await, (4, gone()));
    assert_eq!(rota.compare().await, (0, gone()));
    rota.server.execute("insert into nurses values (3, 'back', '2024-01-01')").await;
    assert_eq!(rota.compare().await, (5, gone()[..3].to_vec()));
    // A whole range, and at last all of them.
    rota.server.execute("delete from nurses where id between 6 and 10").await;
    assert_eq!(rota.compare().await.1.len(), 8);
    rota.server.execute("delete from nurses").await;
    assert_eq!(rota.compare().await.1.len(), 23);
    assert_eq!(rota.compare().await.1.len(), 23);
    rota.server.execute("insert into nurses select n, 'again', now() from generate_series(1, 23) n").await;
    assert_eq!(rota.compare().await, (23, vec![]));
}

/// With a pass that is still under way after its end, what is remembered would be finished a second time, and be gone: later
/// comparisons would find nothing, and vouch for it.
#[tokio::test]
async fn the_last_page_asked_for_again_forgets_nothing() {
    let Some(mut rota) = Rota::new(nurses()).await else { return };
    rota.server.execute("delete from nurses where id = 21").await;
    let before = loop {
        let before = rota.follower.position.clone();
        if rota.follower.step(&Ask::Everything).await.unwrap() {
            break before;
        }
    };
    // What came of it couldn't be appended.
    rota.follower.position = before;
    assert_eq!(rota.compare().await.1, ["21"]);
    rota.server.execute("update nurses set name = 'late', updated_at = '2024-01-02' where id = 3").await;
    assert_eq!(rota.compare().await, (5, vec!["21".to_owned()]));
    assert_eq!(rota.follower.field("3", "name"), "late");
}

/// Without `touch`, the range is as it was, and nobody asks for the row again.
#[tokio::test]
async fn a_row_that_came_and_went_between_two_comparisons_is_gone() {
    let Some(mut rota) = Rota::new(nurses()).await else { return };
    rota.server.execute("insert into nurses (id, name) values (8000, 'Brief'), (9000, 'Long')").await;
    rota.follower.pass(&Ask::Changes).await;
    assert_eq!(rota.follower.read, 2);
    rota.server.execute("delete from nurses where id = 8000").await;
    let (_, gone) = rota.compare().await;
    assert_eq!(gone, ["8000"]);
    rota.server.execute("delete from nurses where id = 9000").await;
    assert_eq!(rota.compare().await.1, ["8000", "9000"]);
}

#[tokio::test]
async fn a_comparison_that_was_broken_off_begins_again_and_goes_on_in_the_same_process() {
    let Some(mut rota) = Rota::new(nurses()).await else { return };
    rota.server.execute("delete from nurses where id in (3, 13)").await;
    assert!(!rota.follower.step(&Ask::Everything).await.unwrap());
    // The page of the second range that differs; asked for twice, as after an append that failed.
    let before = rota.follower.position.clone();
    assert!(!rota.follower.step(&Ask::Everything).await.unwrap());
    let position = rota.follower.position.clone();
    rota.follower.position = before;
    assert!(!rota.follower.step(&Ask::Everything).await.unwrap());
    assert_eq!(rota.follower.position, position);
    let folder = rota.folder.path().to_owned();
    drop(std::mem::replace(&mut rota.follower.source, nobody()));
    rota.taken_over(&folder).await;
    assert_eq!(rota.compare().await, (8, vec!["13".to_owned(), "3".to_owned()]));
}

/// A page is read while the one before it is appended: where that fails, in the same process or with it, reading goes on
/// before both, and nothing that was in them counts as known.
#[tokio::test]
async fn what_was_read_ahead_of_a_page_that_was_lost_comes_again() {
    for crashes in [false, true] {
        for lost in 0.. {
            let Some(mut rota) = Rota::new(nurses()).await else { return };
            rota.server
                .execute("update nurses set name = 'late', updated_at = '2024-02-02' where id in (2, 9, 23)")
                .await;
            rota.server.execute("delete from nurses where id in (3, 13)").await;
            for _ in 0..lost {
                rota.follower.step(&Ask::Everything).await.unwrap();
            }
            let before = rota.follower.position.clone();
            let page = rota.follower.page(&Ask::Everything).await.unwrap();
            if page.end {
                assert!(lost > 3, "three ranges differ, and keys are looked up");
                break;
            }
            rota.follower.position = Some(page.next);
            rota.follower.page(&Ask::Everything).await.unwrap();
            rota.follower.position = before;
            if crashes {
                let folder = rota.folder.path().to_owned();
                drop(std::mem::replace(&mut rota.follower.source, nobody()));
                rota.taken_over(&folder).await;
            }
            assert_eq!(rota.compare().await.1, ["13", "3"], "page {lost} was lost");
            for id in ["2", "9", "23"] {
                assert_eq!(rota.follower.field(id, "name"), "late", "page {lost} was lost");
            }
        }
    }
}

/// Holds no file open.
fn nobody() -> Box<dyn Source> {
    let config = TablesConfig::new(DatabaseUrl::new("sqlite://x"), "rota", vec![nurses()]);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    sources(config, Path::new(""), &clock).unwrap().remove(0).source
}

/// What the other process brought, this one's file doesn't know of.
#[tokio::test]
async fn what_another_process_remembers_is_worth_nothing_here() {
    let Some(mut rota) = Rota::new(nurses()).await else { return };
    let (folder, elsewhere) = (rota.folder.path().to_owned(), TempDir::new().unwrap());
    drop(std::mem::replace(&mut rota.follower.source, nobody()));
    rota.taken_over(elsewhere.path()).await;
    rota.server.execute("insert into nurses (id, name) values (8000, 'Brief')").await;
    rota.follower.pass(&Ask::Changes).await;
    rota.server.execute("delete from nurses where id = 8000").await;
    drop(std::mem::replace(&mut rota.follower.source, nobody()));
    rota.taken_over(&folder).await;
    rota.follower.pass(&Ask::Everything).await;
    assert_eq!(
        (rota.follower.read, rota.follower.gone.clone()),
        (23, None),
        "every row is read, and what doesn't come is absent"
    );
    assert_eq!(rota.compare().await, (0, vec![]));
}

#[tokio::test]
async fn another_shape_has_every_row_read() {
    let Some(mut rota) = Rota::new(nurses()).await else { return };
    rota.server.execute("alter table nurses add ward text default 'surgery'").await;
    rota.follower.pass(&Ask::Changes).await;
    assert_eq!(rota.follower.read, 0, "no time moved");
    rota.follower.pass(&Ask::Everything).await;
    assert_eq!((rota.follower.read, rota.follower.gone.clone()), (23, None));
    assert_eq!(rota.follower.field("23", "ward"), "surgery");
    assert_eq!(rota.compare().await, (0, vec![]));
}

#[tokio::test]
async fn a_file_that_is_lost_or_damaged_costs_one_reading() {
    let Some(mut rota) = Rota::new(nurses()).await else { return };
    let path = rota.folder.path().join("tables").join("rota.nurse.ranges.redb");
    let folder = rota.folder.path().to_owned();
    drop(std::mem::replace(&mut rota.follower.source, nobody()));
    std::fs::write(&path, b"garbage").unwrap();
    rota.taken_over(&folder).await;
    rota.follower.pass(&Ask::Everything).await;
    assert_eq!((rota.follower.read, rota.follower.gone.clone()), (23, None));
    assert_eq!(rota.compare().await, (0, vec![]));
}

#[tokio::test]
async fn keys_of_several_columns_and_of_text_are_looked_up_as_they_are() {
    let Some(server) = Server::new().await else { return };
    server
        .execute(
            r"create table shifts (ward text, day date, primary key (ward, day));
             insert into shifts select 'w|' || n || '\', date '2024-01-01' + n from generate_series(1, 12) n",
        )
        .await;
    let shifts = TableConfig::new("rota", "shift", "shifts", &["ward", "day"]);
    let folder = TempDir::new().unwrap();
    let mut follower = Follower::begin(server.config(vec![shifts]), folder.path()).await.unwrap();
    follower.pass(&Ask::Everything).await.pass(&Ask::Everything).await;
    server.execute(r"delete from shifts where ward in ('w|3\', 'w|12\')").await;
    follower.pass(&Ask::Everything).await;
    assert_eq!(follower.gone.clone().unwrap(), [r"w\|12\\|2024-01-13", r"w\|3\\|2024-01-04"]);
    server.execute(r"insert into shifts values ('w|3\', '2024-01-04')").await;
    follower.pass(&Ask::Everything).await;
    assert_eq!(follower.gone.clone().unwrap(), [r"w\|12\\|2024-01-13"]);
}

/// Somebody's spreadsheet writes some of a table's rows, and Muster the others.
#[tokio::test]
async fn only_rows_that_fit_are_followed_and_one_that_no_longer_does_is_gone() {
    let Some(server) = Server::new().await else { return };
    server
        .execute(
            "create table nurses (id int primary key, name text, notes text);
             insert into nurses select n, 'nurse ' || n, case when n <= 7 then 'from the sheet of May' end
             from generate_series(1, 23) n",
        )
        .await;
    let table = TableConfig {
        like: [("notes".to_owned(), "%the sheet of%".to_owned())].into(),
        // Not there yet: nobody has written it.
        null: vec!["muster_key".into()],
        columns: Some(vec!["name".into()]),
        ..TableConfig::new("rota", "nurse", "nurses", &["id"])
    };
    let folder = TempDir::new().unwrap();
    let mut follower = Follower::begin(server.config(vec![table]), folder.path()).await.unwrap();
    follower.pass(&Ask::Everything).await;
    follower.pass(&Ask::Everything).await;
    assert_eq!((follower.topic.len(), follower.gone.clone()), (7, None));
    server.execute("update nurses set notes = null where id = 2; delete from nurses where id = 3").await;
    server.execute("update nurses set notes = 'in the sheet of June' where id = 20").await;
    follower.pass(&Ask::Everything).await;
    assert_eq!(follower.gone.clone().unwrap(), ["2", "3"]);
    assert!(follower.topic.contains_key("20"));
    // Then Muster writes one of them, in a column that it has added.
    server.execute("alter table nurses add muster_key text; update nurses set muster_key = 'n' where id = 4").await;
    // Other conditions: what was remembered is of other rows, and every row is read once more.
    follower.pass(&Ask::Everything).await;
    assert_eq!(follower.gone, None);
    server.execute("update nurses set muster_key = 'n' where id = 5").await;
    follower.pass(&Ask::Everything).await;
    assert_eq!(follower.gone.clone().unwrap(), ["5"]);
}
