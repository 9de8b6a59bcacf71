//! Rows: documents by id, and in the order of their times.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::document::{Document, Template};

/// An id; shared by the indexes that hold it.
pub(crate) type Id = Arc<str>;

/// A document and what is asked about it without reading it.
#[derive(Debug)]
pub(crate) struct Row<K> {
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
    /// What it belongs to.
    pub(crate) keys: K,
    /// The document without what its template, its id and its times say.
    pub(crate) text: Box<RawValue>,
}

/// Rows of one kind. A clone shares the rows: it costs a pointer for each.
#[derive(Debug, Clone)]
pub(crate) struct Table<K> {
    template: Template,
    rows: BTreeMap<Id, Arc<Row<K>>>,
    created: BTreeSet<(i64, Id)>,
    updated: BTreeSet<(i64, Id)>,
    /// What changed since somebody asked.
    touched: BTreeSet<Id>,
}

/// Which index a list follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Time {
    Created,
    Updated,
}

impl<K> Table<K> {
    pub(crate) fn new(template: Template) -> Self {
        Self {
            template,
            rows: BTreeMap::new(),
            created: BTreeSet::new(),
            updated: BTreeSet::new(),
            touched: BTreeSet::new(),
        }
    }

    pub(crate) fn template(&self) -> &Template {
        &self.template
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn row(&self, id: &str) -> Option<&Row<K>> {
        self.rows.get(id).map(|row| &**row)
    }

    /// The shared id and the row.
    pub(crate) fn entry(&self, id: &str) -> Option<(&Id, &Row<K>)> {
        self.rows.get_key_value(id).map(|(id, row)| (id, &**row))
    }

    pub(crate) fn has(&self, id: &str) -> bool {
        self.rows.contains_key(id)
    }

    /// The whole document.
    pub(crate) fn get(&self, id: &str) -> Option<Document> {
        let (id, row) = self.entry(id)?;
        Some(self.template.unpack(id, row.created_at, row.updated_at, &row.text))
    }

    /// Puts a document in the place of what has its id.
    pub(crate) fn put(&mut self, document: Document, keys: K) -> Id {
        let packed = self.template.pack(document);
        self.put_row(
            &packed.id,
            Row { created_at: packed.created_at, updated_at: packed.updated_at, keys, text: packed.text },
        )
    }

    pub(crate) fn put_row(&mut self, id: &str, row: Row<K>) -> Id {
        let id = match self.rows.get_key_value(id) {
            Some((id, old)) => {
                let (id, created, updated) = (id.clone(), old.created_at, old.updated_at);
                self.created.remove(&(created, id.clone()));
                self.updated.remove(&(updated, id.clone()));
                id
            }
            None => Id::from(id),
        };
        self.created.insert((row.created_at, id.clone()));
        self.updated.insert((row.updated_at, id.clone()));
        self.touched.insert(id.clone());
        self.rows.insert(id.clone(), Arc::new(row));
        id
    }

    pub(crate) fn remove(&mut self, id: &str) -> Option<Arc<Row<K>>> {
        let (id, row) = self.rows.remove_entry(id)?;
        self.created.remove(&(row.created_at, id.clone()));
        self.updated.remove(&(row.updated_at, id.clone()));
        self.touched.insert(id);
        Some(row)
    }

    fn index(&self, time: Time) -> &BTreeSet<(i64, Id)> {
        match time {
            Time::Created => &self.created,
            Time::Updated => &self.updated,
        }
    }

    /// All ids in the order of a time; equal ones in the order of their ids.
    pub(crate) fn by(&self, time: Time, descending: bool) -> Box<dyn Iterator<Item = &Id> + '_> {
        let ids = self.index(time).iter().map(|(_, id)| id);
        if descending { Box::new(ids.rev()) } else { Box::new(ids) }
    }

    /// The ids that follow this one in the order of creation.
    pub(crate) fn after<'a>(&'a self, id: &str, descending: bool) -> Option<Box<dyn Iterator<Item = &'a Id> + 'a>> {
        let (id, row) = self.entry(id)?;
        let place = (row.created_at, id.clone());
        Some(if descending {
            Box::new(self.created.range(..place).rev().map(|(_, id)| id))
        } else {
            Box::new(self.created.range((Bound::Excluded(place), Bound::Unbounded)).map(|(_, id)| id))
        })
    }

    pub(crate) fn is_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    /// The ids of what was put or removed since the last call.
    pub(crate) fn take_touched(&mut self) -> BTreeSet<Id> {
        std::mem::take(&mut self.touched)
    }
}

/// Ids in groups, each in the order of a time: the members of an organization.
#[derive(Debug, Clone, Default)]
pub(crate) struct Groups(BTreeMap<Id, BTreeSet<(i64, Id)>>);

impl Groups {
    pub(crate) fn add(&mut self, group: &Id, at: i64, id: &Id) {
        self.0.entry(group.clone()).or_default().insert((at, id.clone()));
    }

    pub(crate) fn remove(&mut self, group: &str, at: i64, id: &Id) {
        if let Some(of) = self.0.get_mut(group) {
            of.remove(&(at, id.clone()));
            if of.is_empty() {
                self.0.remove(group);
            }
        }
    }

    pub(crate) fn count(&self, group: &str) -> usize {
        self.0.get(group).map_or(0, BTreeSet::len)
    }

    pub(crate) fn of<'a>(&'a self, group: &str, descending: bool) -> Box<dyn Iterator<Item = &'a Id> + 'a> {
        let ids = self.0.get(group).into_iter().flatten().map(|(_, id)| id);
        if descending { Box::new(ids.rev()) } else { Box::new(ids) }
    }
}
