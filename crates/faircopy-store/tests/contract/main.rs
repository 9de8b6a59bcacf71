//! The store's contract: what every copy must hold, on SQLite and on PostgreSQL alike.
//!
//! Each test is written once, as `async fn name(db: &Db)`, and runs as `…::sqlite::name` and `…::postgres::name`; what
//! only PostgreSQL has (foreign keys of an application, row locks) runs there alone.
//!
//! | module | asks |
//! | --- | --- |
//! | `migrations` | is the schema applied once, whoever is first, and is it what it promises to be? |
//! | `exact` | does any order, split and repetition of a history give the truth, and a feed without gaps? |
//! | `outcomes` | what is a delivery called, and does a duplicate heal? |
//! | `rules` | `users.workspace_id`, deletions, generations of a membership, expiry |
//! | `provisional` | are rows that only a token speaks for found, and do they go? |
//! | `rls` | who sees what on PostgreSQL? |
//! | `rls_check` | does `rls check` find what is wrong? |
//! | `rls_docs` | do the document's policies hold? |
//! | `standing` | what the copy knows of a session, asked by many at once |
//! | `explain` | what is stored of the past of a subject, and what an operator's lists and searches find |
//! | `sweeps` | leases and their fences, what differs from Clerk's records, what a sweep has seen |
//! | `text` | hostile text, and nothing personal in minimal mode |
//! | `turns` | what is durable while one batch is committed and the next has begun? |
//! | `cascades` | does what hangs on an organization or a user go, under the lease and the job's state alone? |
//! | `erasures` | do deleted users leave the stored deliveries, and is what is old forgotten? |
//! | `content` | is a tree of content held against the database, and counted? |
//! | `activity` | figures of time and of tables, and what they cost |
//! | `feed` | what whoever follows the change feed asks beside it, and whether replicas hear each other |
//! | `findings` | are troubles kept, cleared, and written under a fence alone? |
//! | `alerts` | what was told is remembered and forgotten, and replicas' counts add up |
//! | `destinations` | where destinations stand, who waits there, and the rows that they are told |
//! | `validate` | does `status --check` find each planted fault, and nothing else? |
//! | `workspaces` | whose a workspace is, in each mode and after a change of it, and what may be written below it |
//! | `faults` | dropped calls, an application's foreign keys, a lock held by somebody else |
//!
//! PostgreSQL is the cluster of `FAIRCOPY_TEST_POSTGRES_URL`, or one that this process starts.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

/// Makes each `async fn name(db: &Db)` a test on both engines, and with `in english` once more where PostgreSQL sorts text
/// as a language does.
macro_rules! on_both_engines {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[test] fn $name() { crate::db::on_sqlite(super::$name); })+
        }
        mod postgres {
            $(#[test] fn $name() { crate::db::on_postgres(super::$name); })+
        }
    };
    (in english; $($name:ident),+ $(,)?) => {
        on_both_engines!($($name),+);
        mod postgres_in_english {
            $(#[test] fn $name() { crate::db::on_postgres_in_english(super::$name); })+
        }
    };
}

/// Makes each `async fn name(db: &Db)` a test on PostgreSQL.
macro_rules! on_postgres {
    ($($name:ident),+ $(,)?) => {
        mod only_postgres {
            $(#[test] fn $name() { crate::db::on_postgres(super::$name); })+
        }
    };
}

mod activity;
mod alerts;
mod cascades;
mod content;
mod db;
mod destinations;
mod erasures;
mod exact;
mod explain;
mod faults;
mod feed;
mod findings;
mod migrations;
mod outcomes;
mod provisional;
mod rls;
mod rls_check;
mod rls_docs;
mod rules;
mod say;
mod standing;
mod sweeps;
mod text;
mod turns;
mod validate;
mod workspaces;
