//! What is wrong with a tree, from what the database knows of its tables. Pure.

use faircopy_core::cascade::tree::{BUILT_IN_SCHEMA, Hang};
use faircopy_core::cascade::{Name, Node, Parent, Tree};

use super::catalog::{Column, Found, Kind, Table};
use super::{ContentFault, quoted};
use crate::engine::Dialect;

/// `tables` are in the order of the tree's nodes.
pub(super) fn judge(tree: &Tree, tables: &[Found], dialect: Dialect) -> Vec<ContentFault> {
    let judged: Vec<(&Node, &Found)> = tree.order().iter().zip(tables).collect();
    let mut judge = Judge { judged: &judged, dialect, faults: Vec::new() };
    for (at, (node, found)) in judged.iter().enumerate() {
        match found {
            Found::Nothing => judge.absent(node),
            Found::Internal => {
                let says = "is one of Faircopy's own tables, and no content; name a table of the application's";
                judge.table(node, says);
            }
            Found::Other(kind) => judge.table(node, format!("is a {kind}; name the ordinary table behind it")),
            Found::Table(table) => {
                judge.alone(at, node);
                judge.ready(node, table);
            }
        }
    }
    judge.faults
}

struct Judge<'a> {
    judged: &'a [(&'a Node, &'a Found)],
    dialect: Dialect,
    faults: Vec<ContentFault>,
}

impl Judge<'_> {
    fn table(&mut self, node: &Node, says: impl Into<String>) {
        self.faults.push(ContentFault::Table { table: node.name.to_string(), says: says.into() });
    }

    fn column(&mut self, node: &Node, column: &str, says: impl Into<String>) {
        let (table, column) = (node.name.to_string(), column.to_owned());
        self.faults.push(ContentFault::Column { table, column, says: says.into() });
    }

    fn absent(&mut self, node: &Node) {
        let says = match (self.dialect, node.name.schema()) {
            // Its migration is pending, and that is told elsewhere; what is built in is what Faircopy itself declares.
            (_, Some(BUILT_IN_SCHEMA)) => return,
            (Dialect::Sqlite, Some(_)) => "is not there: SQLite knows no schemas; name the table alone".to_owned(),
            (Dialect::Sqlite, None) => {
                "is not in the file of DATABASE_URL; create it first, or correct its name".to_owned()
            }
            (Dialect::Postgres, _) => format!(
                "is not there: looked for as {}; create it first, or correct its name (schema, upper and lower case)",
                quoted(&node.name, self.dialect)
            ),
        };
        self.table(node, says);
    }

    /// SQLite has one table where PostgreSQL would have two.
    fn alone(&mut self, at: usize, node: &Node) {
        let is_same = |other: &Node| other.name.table().eq_ignore_ascii_case(node.name.table());
        let earlier = self.judged[..at].iter().find(|(other, _)| is_same(other));
        if let Some((other, _)) = earlier.filter(|_| self.dialect == Dialect::Sqlite) {
            self.table(node, format!("is the same table as `{}`; write the same name in both entries", other.name));
        }
    }

    fn ready(&mut self, node: &Node, table: &Table) {
        let mut are_there = true;
        for column in node.columns() {
            match table.column(column) {
                None => {
                    let known: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
                    self.column(node, column, format!("is not there; the table has {}", known.join(", ")));
                    are_there = false;
                }
                Some(Column { kind: None, written, .. }) => {
                    let types = match self.dialect {
                        Dialect::Sqlite => "TEXT or INTEGER",
                        Dialect::Postgres => "text, varchar (of a deterministic collation), uuid or a whole number",
                    };
                    let written = if written.is_empty() { "no type" } else { written.as_str() };
                    self.column(
                        node,
                        column,
                        format!("has {written}, which ids are not compared with; make it {types}"),
                    );
                }
                Some(_) => {}
            }
        }
        self.rights(node, table);
        if !are_there {
            return;
        }
        self.key(node, table);
        for hang in &node.hangs {
            self.hang(node, table, hang);
        }
        self.external(node, table);
        self.holders(node, table);
    }

    fn rights(&mut self, node: &Node, table: &Table) {
        let name = quoted(&node.name, self.dialect);
        let (schema, rights): (Vec<&String>, Vec<&String>) = table.lacks.iter().partition(|right| *right == "USAGE");
        if !schema.is_empty() {
            let (schema, _) = name.split_once('.').unwrap_or((&name, ""));
            let says =
                format!("is in a schema that the role of DATABASE_URL may not use; GRANT USAGE ON SCHEMA {schema}");
            self.table(node, says);
        }
        if !rights.is_empty() {
            let rights: Vec<&str> = rights.iter().map(|right| right.as_str()).collect();
            let rights = rights.join(", ");
            self.table(
                node,
                format!("cannot be read, locked and deleted from by the role of DATABASE_URL; GRANT {rights} ON {name} to it"),
            );
        }
        if table.is_hidden {
            let says = format!(
                "has row-level security that may hide rows from the role of DATABASE_URL, and they would stay; give it a policy \
                 for ALL with USING (true) on {name}, or BYPASSRLS"
            );
            self.table(node, says);
        }
    }

    fn key(&mut self, node: &Node, table: &Table) {
        let is_unique =
            table.indexes.iter().any(|index| index.is_unique && index.columns.iter().all(|c| node.key.contains(c)));
        if !is_unique {
            let (name, table) = (quoted(&node.name, self.dialect), node.name.table());
            let columns: Vec<String> = node.key.iter().map(|column| format!("\"{column}\"")).collect();
            let says = format!(
                "is not unique, so that a row cannot be named by it; CREATE UNIQUE INDEX \"{table}_key\" ON {name} ({})",
                columns.join(", ")
            );
            self.column(node, &node.key.join(", "), says);
        }
        for column in &node.key {
            if table.column(column).is_some_and(|column| !column.is_required) {
                self.column(node, column, "may be null, and such a row could not be named; make it NOT NULL");
            }
        }
    }

    fn hang(&mut self, node: &Node, table: &Table, hang: &Hang) {
        let above = match &hang.parent {
            Parent::Root(_) => Some(("text".to_owned(), Kind::Text)),
            Parent::Table(parent) => self.key_of(parent),
        };
        let kind = table.column(&hang.column).and_then(|column| column.kind);
        if let (Some((written, above)), Some(kind)) = (above, kind)
            && above != kind
        {
            let says = format!(
                "is of another type than the key of `{}` ({written}) that it names; make them alike",
                hang.parent
            );
            self.column(node, &hang.column, says);
        }
        self.leads(node, table, &hang.column, &format!("what hangs on a row of `{}`", hang.parent));
    }

    fn key_of(&self, parent: &Name) -> Option<(String, Kind)> {
        let (node, found) = self.judged.iter().find(|(node, _)| node.name == *parent)?;
        let Found::Table(table) = found else { return None };
        let column = table.column(node.key.first()?)?;
        Some((column.written.clone(), column.kind?))
    }

    fn leads(&mut self, node: &Node, table: &Table, column: &str, what: &str) {
        let leads = table.indexes.iter().any(|index| index.columns.first().is_some_and(|first| first == column));
        if !leads {
            let (index, name) = (format!("{}_{column}", node.name.table()), quoted(&node.name, self.dialect));
            let says = format!(
                "leads no index, and {what} could only be found by reading the whole table; \
                 CREATE INDEX \"{index}\" ON {name} (\"{column}\")"
            );
            self.column(node, column, says);
        }
    }

    /// Before a call, a live row that claims the id is looked for by the columns of its pattern.
    fn external(&mut self, node: &Node, table: &Table) {
        for external in &node.external {
            let leads =
                |column: &str| table.indexes.iter().any(|index| index.columns.first().is_some_and(|c| c == column));
            let first = external.pattern.columns().next().unwrap_or_default().to_owned();
            if !external.pattern.columns().any(leads) {
                self.leads(node, table, &first, &format!("whoever has the id `{}`", external.pattern));
            }
        }
    }

    /// Rows that point here and are not of the tree keep these from being deleted.
    fn holders(&mut self, node: &Node, table: &Table) {
        for (column, holder) in &table.held_by {
            let is_same = |known: &Name| match self.dialect {
                Dialect::Sqlite => known.table().eq_ignore_ascii_case(holder.table()),
                Dialect::Postgres => known == holder,
            };
            let hangs = |hang: &Hang| hang.column == *column && hang.parent == Parent::Table(node.name.clone());
            let known = self.judged.iter().find(|(known, _)| is_same(&known.name));
            if known.is_some_and(|(known, _)| known.hangs.iter().any(hangs)) {
                continue;
            }
            if is_same(&node.name) {
                let says = format!(
                    "references itself by `{column}`, and a row below would keep the one above from being deleted; let that \
                     foreign key be ON DELETE SET NULL or CASCADE"
                );
                self.table(node, says);
                continue;
            }
            let says = format!(
                "is referenced by `{holder}.{column}`, whose rows would keep these from being deleted; declare `{holder}` with \
                 parent = \"{}\" and parent_key = \"{column}\", or let its foreign key be ON DELETE SET NULL or CASCADE",
                node.name
            );
            self.table(node, says);
        }
    }
}
