//! How the databases go about the statements that must stay fast: by which index, and that no table is read as a whole.

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, Row, SqliteConnection, query};

use super::postgres::inside;
use crate::testing::TempDir;
use crate::{Backend, Durability, StoreConf, open, postgres, rooms, sqlite};

/// What the plan of a statement of SQLite must say, in each line.
fn of_sqlite(name: &str) -> &'static str {
    match name {
        "ACCOUNT_UP" | "ACCOUNT_DOWN" | "ACCOUNT_COUNT" => {
            "messages_by_account (epoch=? AND account=? AND id>? AND id<?)"
        }
        "CONVERSATION_UP" | "CONVERSATION_DOWN" | "CONVERSATION_COUNT" => {
            "messages_by_conversation (epoch=? AND conversation=? AND rowid>? AND rowid<?)"
        }
        "ACCOUNT_COUNT_ALL" => "messages_by_account (epoch=? AND account=? AND id>? AND id<?)",
        "CONVERSATION_COUNT_ALL" => {
            "COVERING INDEX messages_by_conversation (epoch=? AND conversation=? AND rowid>? AND rowid<?)"
        }
        "FIRST" | "LAST" | "FINDABLE" => "messages_by_account (epoch=? AND account=?)",
        "OLDEST" | "WITH_OLD" => "messages_by_account (epoch=? AND account=? AND id<?)",
        "ARCHIVED_ID" => "messages_by_conversation (epoch=? AND conversation=?)",
        "CONVERSATIONS" | "BEHIND" => "messages_by_conversation (epoch=? AND conversation=? AND rowid>?)",
        "UNCOUNTED" => "messages_by_conversation (epoch=? AND conversation=? AND rowid>? AND rowid<?)",
        "ROOMS_WITH_OLD" => "rooms_by_service (service=? AND jid>?)",
        "HISTORY" => "messages_by_account (epoch=? AND account=?)",
        "LIST" => "rooms_by_service (service=? AND jid>?)",
        "VISITED" => "rooms_by_service (service=?)",
        "PARTS" => "SEARCH room_parts USING INDEX sqlite_autoindex_room_parts_1 (room=?)",
        "UNSET" => "SEARCH part USING COVERING INDEX sqlite_autoindex_room_parts_1 (room=? AND kind=? AND key=?)",
        "TRIM_MESSAGES" | "TRIM_TAIL" => "SEARCH tail USING PRIMARY KEY (account=? AND id<?)",
        "BESIDE" => "SEARCH t USING PRIMARY KEY (account=?)",
        "OLDEST_BESIDE" => "SEARCH tail USING PRIMARY KEY (account=? AND id<?)",
        "SEEN" => {
            "SEARCH m USING PRIMARY KEY (epoch=? AND account=? AND id>? AND id<?)\n\
             SEARCH m USING INDEX messages_by_account (epoch=? AND account=? AND id>? AND id<?)"
        }
        "STILL_SEEN" => "SEARCH messages USING INTEGER PRIMARY KEY (rowid=?)",
        "FORGET_ONE" => "SEARCH messages USING INTEGER PRIMARY KEY (rowid=?)",
        "FORGET" => "SEARCH seen USING PRIMARY KEY (epoch=? AND account=? AND id=?)",
        "LISTED" | "THERE" => "USING INTEGER PRIMARY KEY (rowid=?)",
        "SEARCHED" | "FIND_AGAIN" => "SEARCH searched USING INTEGER PRIMARY KEY (rowid=?)",
        "UNSEARCHED" => "messages_by_account (epoch=? AND account=? AND id>?)",
        "SENT" => "USING INTEGER PRIMARY KEY (rowid=?)",
        name if name.starts_with("WORDS") => "SEARCH m USING INTEGER PRIMARY KEY (rowid=?)",
        name => panic!("what should {name} do?"),
    }
}

/// What SQLite may read as a whole: the epochs, what is given as a parameter, and what FTS5 finds (`M`: by a match).
fn may_be_scanned(step: &str) -> bool {
    matches!(step, "SCAN e" | "SCAN alone" | "SCAN archived" | "SCAN last" | "SCAN next" | "SCAN old" | "SCAN grown")
        || step.starts_with("SCAN json_each ")
        || step.starts_with("SCAN ") && (step.ends_with(" CONSTANT ROWS") || step == "SCAN CONSTANT ROW")
        || step.starts_with("SCAN words VIRTUAL TABLE INDEX") && step.contains(":M")
}

async fn sqlite_plan(on: &mut SqliteConnection, text: &str) -> Vec<String> {
    let rows = query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}"))).fetch_all(on).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>(3)).collect()
}

#[tokio::test]
async fn sqlite_reads_archives_by_their_indexes() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("rookery.db");
    let conf = StoreConf { backend: Backend::Sqlite { path: path.clone() }, durability: Durability::Full };
    open(&conf).await.unwrap().close().await;
    let mut on = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    // With and without statistics: as of a server with a few accounts and many messages.
    for statistics in [false, true] {
        if statistics {
            let rows = "ANALYZE; INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES \
                ('messages', 'messages_by_account', '10000000 30000 10000 1 1'), \
                ('messages', 'messages_by_conversation', '10000000 30000 100'), \
                ('tail', 'tail', '1000 100 1'), ('seen', 'seen', '100000 30000 100 1'), ('epochs', NULL, '300'), \
                ('rooms', 'rooms_by_service', '10000 5000 1'), ('room_parts', 'sqlite_autoindex_room_parts_1', '100000 5000 2500 1'); \
                ANALYZE sqlite_schema";
            sqlx::raw_sql(rows).execute(&mut on).await.unwrap();
        }
        for (name, text) in sqlite::texts::ALL.into_iter().chain(rooms::ALL).chain(sqlite::commits()) {
            let plan = sqlite_plan(&mut on, text).await;
            for wanted in of_sqlite(name).lines() {
                assert!(plan.iter().any(|step| step.contains(wanted)), "{name} {wanted}: {plan:#?}");
            }
            let scans = plan.iter().filter(|step| step.starts_with("SCAN ")).all(|step| may_be_scanned(step));
            assert!(scans && !plan.iter().any(|step| step.contains("TEMP B-TREE")), "{name}: {plan:#?}");
        }
    }
}

/// What the plan of a statement of PostgreSQL must say.
fn of_postgres(name: &str) -> &'static [&'static str] {
    match name {
        "ACCOUNT_UP" | "ACCOUNT_DOWN" | "ACCOUNT_COUNT" => {
            &["Index Cond: ((epoch = e.number) AND (account = $1) AND (id >= $2) AND (id <= $3))"]
        }
        "CONVERSATION_UP" | "CONVERSATION_DOWN" | "CONVERSATION_COUNT" => {
            &["Index Cond: ((epoch = e.number) AND (conversation = $1) AND (id >= $2) AND (id <= $3))"]
        }
        "ACCOUNT_COUNT_ALL" => &[
            "Index Only Scan using messages_by_account",
            "Index Cond: ((epoch = e.number) AND (account = $1) AND (id >= $2) AND (id <= $3))",
        ],
        "CONVERSATION_COUNT_ALL" => &[
            "Index Only Scan using messages_by_conversation",
            "Index Cond: ((epoch = e.number) AND (conversation = $1) AND (id >= $2) AND (id <= $3))",
        ],
        "FIRST" | "LAST" | "HISTORY" => &["Index Cond: ((epoch = e.number) AND (account = $1))"],
        "FINDABLE" => &["Index Only Scan Backward using messages_by_account", "searched_pkey"],
        "OLDEST" => &["Index Cond: ((epoch = e.number) AND (account = $1) AND (id <= $2))"],
        "WITH_OLD" => &[
            "Index Cond: ((domain = $1) AND (jid > $2))",
            "Index Cond: ((epoch = e.number) AND (account = a.number) AND (id <= $3))",
        ],
        "ARCHIVED_ID" => &["messages_by_conversation"],
        "CONVERSATIONS" | "BEHIND" => {
            &["Index Cond: ((epoch = e.number) AND (conversation = c.number) AND (id > c.counted))"]
        }
        "UNCOUNTED" => &["messages_by_conversation"],
        "ROOMS_WITH_OLD" => &[
            "Index Cond: ((service = $1) AND (jid > $2))",
            "Index Cond: ((epoch = e.number) AND (account = r.number) AND (id <= $3))",
        ],
        "LIST" => &["Index Cond: ((service = $1) AND (jid > $2))", "room_parts_pkey"],
        "VISITED" => &["rooms_by_service", "room_parts_pkey"],
        "PARTS" => &["Index Cond: (room = $1)"],
        "BESIDE" => &["Index Cond: (account = $1)", "messages_pkey"],
        "OLDEST_BESIDE" => &["Index Cond: ((account = $1) AND (id <= $2))"],
        "SEEN" => &[
            "Index Cond: ((epoch = e.number) AND (account = $1) AND (id > $2) AND (id <= $4)",
            "Index Scan Backward using messages_by_account",
            "Index Cond: ((epoch = e_1.number) AND (account = $1) AND (id > $2) AND (id <= $4)",
        ],
        "STILL_SEEN" => &["messages_pkey"],
        "FORGET" => &["seen_by_id"],
        "LISTED" | "THERE" => &["Index Cond: ((id = ANY ($2)) AND (account = $1))"],
        "SEARCHED" => &["searched_pkey"],
        "UNSEARCHED" => &["Index Cond: ((epoch = e.number) AND (account = $1) AND (id > $2))"],
        name if name.starts_with("WORDS") => &["words_by_term", "Index Cond: ((id = w.id) AND (account = w.account))"],
        name => panic!("what should {name} do?"),
    }
}

async fn postgres_plan(on: &mut PgConnection, text: &str) -> String {
    sqlx::raw_sql(AssertSqlSafe(format!("PREPARE looked_at AS {text}"))).execute(&mut *on).await.unwrap();
    let count = (1..=40).rev().find(|number| text.contains(&format!("${number}"))).unwrap_or(0);
    let nothing = vec!["NULL"; count].join(", ");
    let explain = format!("EXPLAIN (COSTS OFF) EXECUTE looked_at ({nothing})");
    let rows = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_all(&mut *on).await.unwrap();
    sqlx::raw_sql("DEALLOCATE looked_at").execute(on).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>(0)).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn postgres_reads_archives_by_their_indexes() {
    let Some(store) = inside().await else { return };
    let mut on = store.pool.acquire().await.unwrap();
    sqlx::raw_sql("SET plan_cache_mode = force_generic_plan").execute(&mut *on).await.unwrap();
    for (name, text) in postgres::texts::ALL.into_iter().chain(rooms::ALL) {
        let plan = postgres_plan(&mut on, text).await;
        for wanted in of_postgres(name) {
            assert!(plan.contains(wanted), "{name} {wanted}: {plan}");
        }
        assert!(!plan.contains("Seq Scan"), "{name}: {plan}");
        // What is sorted of a page is what one epoch gives it.
        let plan =
            plan.replace("Incremental Sort", "").replace("Sort Key: e.first", "").replace("Sort Key: e_1.first", "");
        assert!(!plan.contains("Sort") || name.starts_with("WORDS"), "{name}: {plan}");
    }
}

#[tokio::test]
async fn postgres_commits_by_its_indexes() {
    let Some(store) = inside().await else { return };
    let mut on = store.pool.acquire().await.unwrap();
    sqlx::raw_sql("SET plan_cache_mode = force_generic_plan").execute(&mut *on).await.unwrap();
    for (name, text) in postgres::commits() {
        let plan = postgres_plan(&mut on, text).await;
        // The marks are few, and all of them are wanted.
        let plan = plan.replace("Seq Scan on tail_marks", "");
        assert!(!plan.contains("Seq Scan") && !plan.contains("Sort"), "{name}: {plan}");
    }
}
