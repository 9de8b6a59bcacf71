//! A tree of content against a database: every fault is told with table, column and what to do; what would go is counted.

use faircopy_core::cascade::{Declared, Root, Target, Tree, tree};
use faircopy_store::{ContentCount, ContentFault};

use crate::db::Db;

on_both_engines!(
    a_whole_tree_has_no_fault,
    the_built_in_tables_may_be_missing,
    every_fault_is_told_alone,
    all_faults_are_told_at_once,
    rows_and_ids_are_counted_as_they_would_go,
);
on_postgres!(rights_and_policies_are_looked_at, types_are_compared_with_their_like, a_schema_of_ones_own_is_named);

/// `table key parent parent_key pattern…`, keys separated by commas; `!` before a pattern for a step.
fn tree_of(lines: &[&str]) -> Tree {
    let declared = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let external = |word: &&str| match word.strip_prefix('!') {
            Some(pattern) => (Target::Step("search".into()), pattern.to_owned()),
            None => (Target::Liveblocks, (*word).to_owned()),
        };
        Declared {
            table: words[0].into(),
            key: words[1].split(',').map(ToOwned::to_owned).collect(),
            parent: words[2].into(),
            parent_key: words[3].into(),
            external: words[4..].iter().map(external).collect(),
        }
    };
    Tree::build(&lines.iter().map(declared).collect::<Vec<_>>()).unwrap()
}

/// Boards with cards below them, and stars that hang on cards and on users.
const LINES: [&str; 4] = [
    "boards id workspace workspace_id board:{id} !board-{id}",
    "cards id boards board_id card:{id}",
    "stars card_id,user_id cards card_id",
    "stars card_id,user_id user user_id",
];
const TABLES: &str = "CREATE TABLE boards (id text NOT NULL PRIMARY KEY, workspace_id text, title text); \
    CREATE INDEX boards_workspace ON boards (workspace_id); \
    CREATE TABLE cards (id text NOT NULL PRIMARY KEY, board_id text REFERENCES boards (id)); \
    CREATE INDEX cards_board ON cards (board_id, id); \
    CREATE TABLE stars (card_id text NOT NULL REFERENCES cards (id), user_id text NOT NULL, PRIMARY KEY (card_id, user_id)); \
    CREATE INDEX stars_user ON stars (user_id)";

async fn faults(db: &Db, tree: &Tree) -> Vec<String> {
    db.store.content_faults(tree).await.unwrap().iter().map(ToString::to_string).collect()
}

async fn with_tables(db: &Db) {
    db.writer().await;
    db.sql(TABLES).await;
}

async fn a_whole_tree_has_no_fault(db: &Db) {
    with_tables(db).await;
    assert_eq!(faults(db, &tree_of(&LINES)).await, [""; 0]);
}

async fn the_built_in_tables_may_be_missing(db: &Db) {
    db.writer().await;
    assert_eq!(db.store.content_faults(&Tree::built_in()).await.unwrap(), []);
    let mut all = tree::built_in();
    all.push(Declared {
        table: "nowhere".into(),
        key: vec!["id".into()],
        parent: "rooms".into(),
        parent_key: "room_id".into(),
        external: vec![],
    });
    let told = faults(db, &Tree::build(&all).unwrap()).await;
    assert!(told.len() == 1 && told[0].starts_with("content table `nowhere` is not "), "{told:?}");
}

/// Each statement damages a whole tree in one way.
async fn every_fault_is_told_alone(db: &Db) {
    let check = async |lines: &[&str], damage: &str, expected: &[&str]| {
        db.sql(TABLES).await;
        db.sql(damage).await;
        let told = faults(db, &tree_of(lines)).await;
        assert_eq!(told.len(), 1, "{damage}: {told:#?}");
        for part in expected {
            assert!(told[0].contains(part), "{damage}: {told:#?} lacks {part}");
        }
        db.sql("DROP TABLE IF EXISTS extra").await;
        db.sql("DROP VIEW IF EXISTS view_of_cards").await;
        for table in ["stars", "cards", "boards"] {
            db.sql(&format!("DROP TABLE IF EXISTS {table}")).await;
        }
    };
    db.writer().await;
    let cards = if db.is_sqlite() { "\"cards\"" } else { "\"public\".\"cards\"" };
    let index = format!("CREATE INDEX \"cards_board_id\" ON {cards} (\"board_id\")");
    check(&LINES, "DROP INDEX cards_board", &["`cards`: column `board_id` leads no index", &index]).await;
    let partial = "DROP INDEX cards_board; CREATE INDEX cards_board ON cards (board_id) WHERE board_id <> ''";
    check(&LINES, partial, &["`board_id` leads no index"]).await;
    check(&LINES, "DROP INDEX cards_board; CREATE INDEX cards_board ON cards (id, board_id)", &["leads no index"])
        .await;
    check(&LINES, "DROP INDEX cards_board; CREATE INDEX cards_board ON cards (lower(board_id))", &["leads no index"])
        .await;
    check(&LINES, "DROP TABLE stars", &["content table `stars` is not"]).await;
    check(&LINES, "ALTER TABLE stars RENAME COLUMN user_id TO person", &["`user_id` is not there", "card_id, person"])
        .await;
    check(
        &LINES[..2],
        "DROP TABLE stars; CREATE TABLE extra (card text REFERENCES cards (id))",
        &["`cards` is referenced by `extra.card`", "declare `extra` with parent = \"cards\" and parent_key = \"card\""],
    )
    .await;
    let kept = "CREATE TABLE extra (id text PRIMARY KEY, card text REFERENCES cards (id) ON DELETE SET NULL); \
        DROP INDEX cards_board";
    check(&LINES, kept, &["leads no index"]).await;
    let view = "CREATE VIEW view_of_cards AS SELECT * FROM cards";
    check(&["view_of_cards id workspace board_id"], view, &["`view_of_cards` is a view"]).await;
    let nested = "ALTER TABLE cards ADD COLUMN above text REFERENCES cards (id)";
    check(&LINES, nested, &["`cards` references itself by `above`", "ON DELETE SET NULL"]).await;
    check(
        &["boards id workspace workspace_id {title}"],
        "DROP TABLE stars; DROP TABLE cards",
        &["column `title` leads no index, and whoever has the id `{title}`"],
    )
    .await;
}

async fn all_faults_are_told_at_once(db: &Db) {
    with_tables(db).await;
    let own = if db.is_sqlite() { "users" } else { "faircopy.users" };
    let tree = tree_of(&[
        "boards title workspace workspace_id",
        &format!("{own} clerk_user_id organization clerk_org_id"),
        "nowhere id boards board_id",
        "cards id user missing",
    ]);
    let told = faults(db, &tree).await;
    let expected = [
        format!("content table `{own}` is one of Faircopy's own tables"),
        "content table `nowhere` is not ".to_owned(),
        "content table `boards`: column `title` is not unique".to_owned(),
        "content table `boards`: column `title` may be null".to_owned(),
        "content table `boards` is referenced by `cards.board_id`".to_owned(),
        "content table `cards`: column `missing` is not there; the table has id, board_id".to_owned(),
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, expected) in told.iter().zip(&expected) {
        assert!(told.starts_with(expected), "{told}: {expected}");
    }
}

fn count(table: &str, rows: i64, external: &[(&str, &str, i64)]) -> ContentCount {
    let external = external.iter().map(|(target, pattern, ids)| faircopy_store::ExternalCount {
        target: (*target).into(),
        pattern: (*pattern).into(),
        ids: *ids,
    });
    ContentCount { table: table.into(), rows, is_at_least: false, external: external.collect() }
}

async fn rows_and_ids_are_counted_as_they_would_go(db: &Db) {
    with_tables(db).await;
    let long = "x".repeat(125);
    db.sql(&format!(
        "INSERT INTO boards (id, workspace_id) VALUES ('b1', 'w1'), ('b2', 'w1'), ('b3', 'w2'), ('{long}', 'w1'); \
         INSERT INTO cards VALUES ('c1', 'b1'), ('c2', 'b1'), ('c3', 'b2'), ('c4', 'b3'), ('', 'b1'); \
         INSERT INTO stars VALUES ('c1', 'u1'), ('c1', 'u2'), ('c4', 'u1')"
    ))
    .await;
    let tree = tree_of(&LINES);
    let counts = async |root, id| db.store.content_counts(&tree, root, id).await.unwrap();
    let expected = [
        count("stars", 2, &[]),
        count("cards", 4, &[("liveblocks", "card:{id}", 3)]),
        // A room's id is not that long; a step's may be.
        count("boards", 3, &[("liveblocks", "board:{id}", 2), ("search", "board-{id}", 3)]),
    ];
    assert_eq!(counts(Root::Workspace, "w1").await, expected);
    assert_eq!(counts(Root::User, "u1").await, [count("stars", 2, &[])]);
    assert_eq!(counts(Root::User, "u'1; --").await, [count("stars", 0, &[])]);
    assert_eq!(counts(Root::Organization, "w1").await, []);
    // A row that hangs on the workspace in two ways is one row.
    let twice = tree_of(&[
        "boards id workspace workspace_id",
        "cards id boards board_id",
        "stars card_id,user_id cards card_id",
        "stars card_id,user_id workspace user_id",
    ]);
    db.sql("INSERT INTO stars VALUES ('c2', 'w1'), ('c4', 'w1')").await;
    assert_eq!(db.store.content_counts(&twice, Root::Workspace, "w1").await.unwrap()[0], count("stars", 4, &[]));
    // Nothing hangs on a workspace that nobody has.
    let built_in = db.store.content_counts(&Tree::built_in(), Root::Workspace, "w1").await.unwrap();
    assert_eq!(built_in.len(), 8);
    assert!(built_in.iter().all(|count| count.rows == 0), "{built_in:?}");
}

async fn rights_and_policies_are_looked_at(db: &Db) {
    with_tables(db).await;
    let tree = tree_of(&["boards id workspace workspace_id"]);
    db.sql("DROP TABLE stars; DROP TABLE cards").await;
    let role = format!("content_{}", std::process::id());
    db.sql(&format!("CREATE ROLE {role} LOGIN; GRANT SELECT ON boards TO {role}")).await;
    let store = faircopy_store::Store::new(faircopy_store::Address::parse(&db.url_of(&role)).unwrap());
    let told = async || {
        let faults: Vec<ContentFault> = store.content_faults(&tree).await.unwrap();
        faults.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let lacks = told().await;
    assert!(lacks.len() == 1 && lacks[0].contains("GRANT DELETE, UPDATE ON \"public\".\"boards\""), "{lacks:?}");
    db.sql(&format!("GRANT DELETE, UPDATE ON boards TO {role}")).await;
    assert_eq!(told().await, [""; 0]);
    db.sql("ALTER TABLE boards ENABLE ROW LEVEL SECURITY").await;
    let hidden = told().await;
    assert!(hidden.len() == 1 && hidden[0].contains("row-level security that may hide rows"), "{hidden:?}");
    db.sql(&format!("CREATE POLICY service ON boards TO {role} USING (true)")).await;
    assert_eq!(told().await, [""; 0]);
    db.sql("CREATE POLICY odd ON boards AS RESTRICTIVE USING (id <> 'b1')").await;
    assert_eq!(told().await, hidden);
    store.close().await;
    db.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

async fn types_are_compared_with_their_like(db: &Db) {
    db.writer().await;
    let check = async |boards: &str, cards: &str, expected: &[&str]| {
        db.sql(&format!(
            "CREATE TABLE boards (id {boards} PRIMARY KEY, workspace_id text); CREATE INDEX ON boards (workspace_id); \
             CREATE TABLE cards (id bigint PRIMARY KEY, board_id {cards}); CREATE INDEX ON cards (board_id)"
        ))
        .await;
        let told = faults(db, &tree_of(&LINES[..2])).await;
        db.sql("DROP TABLE cards; DROP TABLE boards").await;
        assert_eq!(told.len(), expected.len(), "{boards} {cards}: {told:?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.contains(expected), "{told}");
        }
    };
    check("text", "varchar(40)", &[]).await;
    check("uuid", "uuid", &[]).await;
    check("bigint", "integer", &[]).await;
    check("uuid", "text", &["`board_id` is of another type than the key of `boards` (uuid)"]).await;
    check("text", "bigint", &["`board_id` is of another type"]).await;
    check("numeric", "text", &["`boards`: column `id` has numeric"]).await;
    db.sql("CREATE TABLE boards (id text PRIMARY KEY, workspace_id uuid); CREATE INDEX ON boards (workspace_id)").await;
    let told = faults(db, &tree_of(&LINES[..1])).await;
    assert!(told.len() == 1 && told[0].contains("than the key of `workspace` (text)"), "{told:?}");
}

async fn a_schema_of_ones_own_is_named(db: &Db) {
    db.writer().await;
    db.sql(
        "CREATE SCHEMA \"App\"; CREATE TABLE \"App\".\"Select\" (id text PRIMARY KEY, \"workspaceId\" text); \
         CREATE INDEX ON \"App\".\"Select\" (\"workspaceId\"); INSERT INTO \"App\".\"Select\" VALUES ('1', 'w')",
    )
    .await;
    let tree = tree_of(&["App.Select id workspace workspaceId"]);
    assert_eq!(faults(db, &tree).await, [""; 0]);
    let counts = db.store.content_counts(&tree, Root::Workspace, "w").await.unwrap();
    assert_eq!(counts, [count("App.Select", 1, &[])]);
    assert_eq!(faults(db, &tree_of(&["app.select id workspace workspaceId"])).await.len(), 1);
}
