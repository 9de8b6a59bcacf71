//! The tree of content against the database: are its tables there, can their rows be found and deleted, and how many are there?
//!
//! [`Store::content_faults`] is asked before the service starts: whatever it finds would make a deletion incomplete, slow or
//! impossible, and is told with table, column and what to do. [`Store::content_counts`] is a dry read for `cascade plan`.

mod catalog;
mod counts;
mod judge;

use faircopy_core::cascade::tree::DEFAULT_SCHEMA;
use faircopy_core::cascade::{Name, Tree};

pub use counts::{ContentCount, ExternalCount};

use crate::engine::Dialect;
use crate::error::Result;
use crate::{Address, Store};

/// What keeps a table from being deleted from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentFault {
    /// The table as a whole.
    #[error("content table `{table}` {says}")]
    Table {
        /// Which.
        table: String,
        /// What is wrong, and what to do.
        says: String,
    },
    /// One column.
    #[error("content table `{table}`: column `{column}` {says}")]
    Column {
        /// Of which table.
        table: String,
        /// Which.
        column: String,
        /// What is wrong, and what to do.
        says: String,
    },
}

impl Store {
    /// Everything that is wrong with the tree here. A built-in table that is not there yet is no fault: its migration is pending,
    /// and readiness says so.
    pub async fn content_faults(&self, tree: &Tree) -> Result<Vec<ContentFault>> {
        let mut tables = Vec::with_capacity(tree.order().len());
        for node in tree.order() {
            tables.push(catalog::look(self, &node.name).await?);
        }
        Ok(judge::judge(tree, &tables, dialect_of(&self.address)))
    }
}

fn dialect_of(address: &Address) -> Dialect {
    match address {
        Address::Sqlite(_) => Dialect::Sqlite,
        Address::Postgres(_) => Dialect::Postgres,
    }
}

/// A table as SQL names it. All of its parts are identifiers (`faircopy_core::cascade::tree::is_identifier`), and are quoted
/// because an identifier may be a word of SQL, or have letters of both cases.
pub(crate) fn quoted(name: &Name, dialect: Dialect) -> String {
    match dialect {
        Dialect::Sqlite => format!("\"{}\"", name.table()),
        Dialect::Postgres => format!("\"{}\".\"{}\"", name.schema().unwrap_or(DEFAULT_SCHEMA), name.table()),
    }
}
