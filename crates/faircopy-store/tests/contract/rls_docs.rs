//! The policies of docs/row-level-security.md, run as they stand there.

use faircopy_store::{Address, Store};
use faircopy_testkit::postgres::Postgres;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::db::{deliver, run};
use crate::rls::{people, under, v1, v2};
use crate::say::{NOW, event, gone, user};

const DOCUMENT: &str = include_str!("../../../../docs/row-level-security.md");

/// What stands between "```sql" and "```".
fn blocks() -> Vec<&'static str> {
    DOCUMENT.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// A cluster of its own, for the document names its roles, which belong to the whole server.
#[test]
fn the_documents_policies_hold() {
    run(async {
        let cluster = Postgres::start().await;
        let url = cluster.create_database("app").await;
        let address_of = |role: &str| url.replacen("postgres@", &format!("{role}@"), 1);
        let mut administrator = PgConnection::connect(&url).await.unwrap();
        let prepare = "CREATE ROLE holder LOGIN CREATEROLE; CREATE ROLE authenticated NOLOGIN; \
            GRANT CREATE ON DATABASE app TO holder; GRANT CREATE ON SCHEMA public TO holder";
        sqlx::raw_sql(prepare).execute(&mut administrator).await.unwrap();
        let store = Store::new(Address::parse(&address_of("holder")).unwrap());
        let mut writer = store.writer();
        writer.migrate(NOW).await.unwrap();
        people(&mut writer).await;
        let mut holder = PgConnection::connect(&address_of("holder")).await.unwrap();
        assert_eq!(blocks().len(), 6, "the document has other blocks");
        for block in blocks() {
            sqlx::raw_sql(AssertSqlSafe(block)).execute(&mut holder).await.unwrap_or_else(|e| panic!("{e}:\n{block}"));
        }
        let force = "ALTER TABLE public.notes FORCE ROW LEVEL SECURITY; INSERT INTO public.boards VALUES \
            ('of_a', 'ws_org_a', 'org_a', 'A'), ('of_b', 'ws_org_b', 'org_b', 'B')";
        sqlx::raw_sql(force).execute(&mut holder).await.unwrap();
        let mut app = PgConnection::connect(&address_of("app")).await.unwrap();
        let [grant, write, _] = crate::workspaces::DOCUMENT.split("```sql\n").skip(1).collect::<Vec<_>>()[..] else {
            panic!("docs/workspaces.md has other blocks")
        };
        for (connection, block) in [(&mut holder, grant), (&mut app, write)] {
            let block = block.split("```").next().unwrap();
            sqlx::raw_sql(AssertSqlSafe(block)).execute(connection).await.unwrap_or_else(|e| panic!("{e}:\n{block}"));
        }
        let kept = "SELECT workspace_id FROM faircopy.rooms";
        let found = under(&mut app, Some(&v2("user_ben", "org_a")), kept).await.unwrap();
        assert_eq!(found, [Some("org_a".to_owned())]);
        assert_eq!(under(&mut app, Some(&v1("user_cyd", "org_b")), kept).await.unwrap(), []);
        let ada = v2("user_ada", "org_a");
        let (ben, cyd, dan) = (v2("user_ben", "org_a"), v1("user_cyd", "org_b"), v1("user_dan", "org_b"));

        // Written by three people of two organizations.
        for (claims, id) in [(&ada, "of_ada"), (&ben, "of_ben"), (&dan, "of_dan")] {
            keep(&mut app, claims, &format!("INSERT INTO public.notes (id, body) VALUES ('{id}', 'x')")).await.unwrap();
        }
        let notes = "SELECT id FROM public.notes ORDER BY 1";
        let mut check = async |claims: Option<&str>, statement: &str, expected: &[&str]| {
            let found: Vec<_> = under(&mut app, claims, statement).await.unwrap().into_iter().flatten().collect();
            assert_eq!(found, expected, "{claims:?} {statement}");
        };
        check(Some(&ada), notes, &["of_ada", "of_ben"]).await;
        check(Some(&cyd), notes, &["of_dan"]).await;
        check(Some(&v1("user_cyd", "org_a")), notes, &[]).await;
        check(Some("{"), notes, &[]).await;
        check(None, notes, &[]).await;
        check(Some(&ben), "DELETE FROM public.notes RETURNING id", &["of_ben"]).await;
        check(Some(&ada), "DELETE FROM public.notes RETURNING id", &["of_ada", "of_ben"]).await;
        check(Some(&ada), "UPDATE public.notes SET body = 'y' RETURNING id", &["of_ada"]).await;
        // An id that is taken in another organization is free in this one: no oracle.
        check(Some(&cyd), "INSERT INTO public.notes (id, body) VALUES ('of_ada', 'x') RETURNING id", &["of_ada"]).await;
        let boards = "SELECT id FROM public.boards ORDER BY 1";
        check(Some(&ada), boards, &["of_a"]).await;
        check(Some(&dan), boards, &["of_a", "of_b"]).await;
        check(None, boards, &[]).await;
        for (claims, statement) in [
            (&cyd, "INSERT INTO public.notes (org_id, body) VALUES ('org_a', 'x')"),
            (&cyd, "INSERT INTO public.notes (author_id, body) VALUES ('user_dan', 'x')"),
            (&ada, "UPDATE public.notes SET org_id = 'org_b' WHERE id = 'of_ada'"),
            (&ada, "INSERT INTO public.boards VALUES ('x', 'ws_org_a', 'org_a', 'x')"),
            (&ada, "TRUNCATE public.notes"),
        ] {
            let error = under(&mut app, Some(claims), statement).await.unwrap_err();
            let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned();
            assert_eq!(code, "42501", "{statement}: {error}");
        }
        // A role that reads through Supabase, and the report that sees everybody.
        let mut request = administrator.begin().await.unwrap();
        sqlx::raw_sql("SET LOCAL ROLE authenticated").execute(&mut *request).await.unwrap();
        sqlx::query("SELECT set_config('request.jwt.claims', $1, true)")
            .bind(&ben)
            .execute(&mut *request)
            .await
            .unwrap();
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM faircopy.user_profiles").fetch_one(&mut *request).await.unwrap();
        assert_eq!(count, 3);
        request.rollback().await.unwrap();
        let mut report = PgConnection::connect(&address_of("report")).await.unwrap();
        let everybody = under(&mut report, None, "SELECT clerk_user_id FROM faircopy.users").await.unwrap();
        assert_eq!(everybody.len(), 4);

        // The copy's own deletions take an application's rows along, forced policies or not.
        deliver(&mut writer, event("msg_dan", "user.updated", 2, &user("user_dan", 2, "Dan", &json!({})))).await;
        deliver(&mut writer, event("msg_gone", "user.deleted", 3, &gone("user", "user_ben"))).await;
        let count = "SELECT id FROM public.notes ORDER BY 1";
        assert_eq!(under(&mut administrator, None, count).await.unwrap().len(), 2);
        deliver(&mut writer, event("msg_org", "organization.deleted", 3, &gone("organization", "org_a"))).await;
        assert_eq!(under(&mut administrator, None, count).await.unwrap(), [Some("of_dan".to_owned())]);
        store.close().await;
    });
}

/// Runs a statement under some claims and commits it.
async fn keep(connection: &mut PgConnection, claims: &str, statement: &str) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query("SELECT set_config('request.jwt.claims', $1, true)").bind(claims).execute(&mut *transaction).await?;
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut *transaction).await?;
    transaction.commit().await
}
