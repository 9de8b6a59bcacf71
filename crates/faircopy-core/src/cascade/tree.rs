//! Which rows hang on which, and in which order they go.
//!
//! A table is declared once for each thing that it hangs on: entries of the same table are one node. A row goes with the first of
//! its parents that goes. So `last_reads` hangs on channels, and with them on a workspace, and on a user.

use std::collections::BTreeSet;
use std::fmt;

use super::pattern::{Pattern, Reading, Unrendered};

/// Tables in a tree: more than any application has, and few enough that each is looked for in each pass.
pub const MAX_NODES: usize = 64;
/// What one table may hang on.
pub const MAX_HANGS: usize = 8;
/// Patterns of one table.
pub const MAX_EXTERNAL: usize = 8;
/// Columns of one key.
pub const MAX_KEY_COLUMNS: usize = 4;
/// The longest name of a schema, a table or a column: PostgreSQL's own limit.
pub const MAX_IDENTIFIER: usize = 63;
/// The longest id of a Liveblocks room (clerk-facts.md, section 5).
pub const MAX_ROOM_ID: usize = 128;
/// The longest id that a `[[step]]` is called with.
pub const MAX_STEP_ID: usize = 512;
/// The schema of the built-in tables, where the database has schemas.
pub const BUILT_IN_SCHEMA: &str = "faircopy";
/// The schema of tables that name none.
pub const DEFAULT_SCHEMA: &str = "public";

/// Whether a text may stand for a schema, a table or a column: letters, digits and underscores, not a digit first.
#[must_use]
pub fn is_identifier(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_IDENTIFIER
        && !text.starts_with(|first: char| first.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A table: `schema.table`, or `table` in the default schema.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    schema: Option<String>,
    table: String,
}

impl Name {
    /// Reads a name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (schema, table) = text.split_once('.').map_or((None, text), |(schema, table)| (Some(schema), table));
        let is_name = is_identifier(table) && schema.is_none_or(is_identifier);
        // One table has one name.
        let schema = schema.filter(|schema| *schema != DEFAULT_SCHEMA).map(ToOwned::to_owned);
        is_name.then(|| Self { schema, table: table.to_owned() })
    }

    fn built_in(table: &str) -> Self {
        Self { schema: Some(BUILT_IN_SCHEMA.to_owned()), table: table.to_owned() }
    }

    /// The schema, if it is not the default one.
    #[must_use]
    pub fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// The table.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(out, "{schema}.")?;
        }
        out.write_str(&self.table)
    }
}

/// What a whole tree hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Root {
    /// By `workspaces.id`.
    Workspace,
    /// By `clerk_org_id`.
    Organization,
    /// By `clerk_user_id`.
    User,
}

/// Every root.
pub const ROOTS: [Root; 3] = [Root::Workspace, Root::Organization, Root::User];

impl Root {
    /// As it is declared.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Workspace => "workspace",
            Self::Organization => "organization",
            Self::User => "user",
        }
    }
}

/// What a row hangs on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Parent {
    /// A workspace, an organization or a user.
    Root(Root),
    /// A row of another table of the tree.
    Table(Name),
}

impl Parent {
    /// Reads `workspace`, `organization`, `user`, or the name of a table: one that is called like a root is named with its schema.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let root = ROOTS.into_iter().find(|root| root.name() == text);
        root.map(Self::Root).or_else(|| Name::parse(text).map(Self::Table))
    }
}

impl fmt::Display for Parent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(root) => out.write_str(root.name()),
            Self::Table(name) => write!(out, "{name}"),
        }
    }
}

/// Who is told that a row is gone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Liveblocks: the id is a room's.
    Liveblocks,
    /// A `[[step]]` by its name.
    Step(String),
}

impl Target {
    /// As tables and settings name it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Liveblocks => "liveblocks",
            Self::Step(name) => name,
        }
    }

    /// The longest id that it knows, in characters.
    #[must_use]
    pub fn longest_id(&self) -> usize {
        match self {
            Self::Liveblocks => MAX_ROOM_ID,
            Self::Step(_) => MAX_STEP_ID,
        }
    }
}

/// What a row has outside the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// Where.
    pub target: Target,
    /// Under which id.
    pub pattern: Pattern,
}

impl External {
    /// The id of a row whose columns are these.
    pub fn render<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> Result<String, Unrendered> {
        self.pattern.render(self.target.longest_id(), value)
    }
}

/// One entry of what is declared, as it was read: nothing is checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// `schema.table`, or `table`.
    pub table: String,
    /// The columns that name a row.
    pub key: Vec<String>,
    /// `workspace`, `organization`, `user`, or another table of the tree.
    pub parent: String,
    /// The column that holds the parent's key.
    pub parent_key: String,
    /// What rows have outside the database: target, and the text of a pattern.
    pub external: Vec<(Target, String)>,
}

/// One table of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Which.
    pub name: Name,
    /// The columns that name a row: one, where anything hangs on this table.
    pub key: Vec<String>,
    /// What its rows hang on, each another thing.
    pub hangs: Vec<Hang>,
    /// What its rows have outside the database.
    pub external: Vec<External>,
}

/// How a row hangs on another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hang {
    /// On what.
    pub parent: Parent,
    /// The column that holds the parent's key.
    pub column: String,
}

impl Node {
    /// Every column that a cascade reads, each once.
    #[must_use]
    pub fn columns(&self) -> Vec<&str> {
        let mut columns: Vec<&str> = Vec::new();
        let named = self.key.iter().map(String::as_str);
        let hangs = self.hangs.iter().map(|hang| hang.column.as_str());
        let external = self.external.iter().flat_map(|external| external.pattern.columns());
        for column in named.chain(hangs).chain(external) {
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
        columns
    }

    /// Whether it is one of Faircopy's own content tables.
    #[must_use]
    pub fn is_built_in(&self) -> bool {
        self.name.schema() == Some(BUILT_IN_SCHEMA)
    }
}

/// A row that could have an id outside, by the columns of a pattern: whether it is there, the database knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim<'a> {
    /// Its table.
    pub node: &'a Node,
    /// The columns and what they would hold.
    pub reading: Reading<'a>,
}

/// What is wrong with a declaration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("content table `{table}`: `{key}` {what}")]
pub struct Fault {
    /// The table, as it was declared.
    pub table: String,
    /// The key of its declaration.
    pub key: &'static str,
    /// What is wrong.
    pub what: FaultKind,
}

/// See [`Fault`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultKind {
    /// No name that could be quoted safely.
    #[error(
        "is not a name; expected letters, digits and underscores, at most 63, not a digit first, for a table perhaps \
         with its schema: `notes`, `app.notes`"
    )]
    Identifier,
    /// No column, or too many.
    #[error("must be 1 to 4 different columns")]
    Key,
    /// Another entry of the table says otherwise.
    #[error("is `{0}` in another entry of this table; a table has one key")]
    OtherKey(String),
    /// The same entry twice.
    #[error("says `{0}` twice: once with the same column is enough")]
    Double(String),
    /// No such table.
    #[error("is `{0}`, which is neither `workspace`, `organization` or `user` nor a table that is declared")]
    UnknownParent(String),
    /// It hangs on itself, by whatever way.
    #[error("leads back to this table ({0}); hang one of them on something else, such as the workspace")]
    Circular(String),
    /// Its parents lead nowhere.
    #[error("leads to no workspace, organization or user, because what it hangs on does not")]
    HangsOnNothing,
    /// A row of the parent cannot be named by one column.
    #[error("is `{0}`, whose key has several columns, so that nothing can hang on it")]
    CompositeParent(String),
    /// A pattern that is none.
    #[error("{0}: {1}")]
    Pattern(String, super::PatternFault),
    /// More than a bound allows.
    #[error("exceeds what is possible: at most {0}")]
    TooMany(usize),
}

/// Everything that hangs on workspaces, organizations and users, in the order in which it goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    /// Children before parents.
    nodes: Vec<Node>,
}

impl Tree {
    /// Makes a tree of entries, or says everything that is wrong with them.
    pub fn build(declared: &[Declared]) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut nodes: Vec<Node> = Vec::new();
        for entry in declared {
            add(entry, &mut nodes, &mut faults);
        }
        if nodes.len() > MAX_NODES {
            let last = nodes[MAX_NODES].name.to_string();
            faults.push(Fault { table: last, key: "table", what: FaultKind::TooMany(MAX_NODES) });
            return Err(faults);
        }
        resolve(&mut nodes, declared, &mut faults);
        circles(&nodes, &mut faults);
        if faults.is_empty() { Ok(Self { nodes: in_order(nodes) }) } else { Err(faults) }
    }

    /// The tables that Faircopy brings, alone.
    #[must_use]
    pub fn built_in() -> Self {
        Self::build(&built_in()).unwrap_or_default()
    }

    /// Every table, children before parents; else in the order in which they were declared.
    #[must_use]
    pub fn order(&self) -> &[Node] {
        &self.nodes
    }

    /// The tables below a root, children before parents.
    pub fn below(&self, root: Root) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| self.roots(node).contains(&root))
    }

    /// What a table's rows go with in the end.
    #[must_use]
    pub fn roots(&self, node: &Node) -> BTreeSet<Root> {
        roots(&self.nodes, node)
    }

    /// A table by its name.
    #[must_use]
    pub fn node(&self, name: &Name) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == *name)
    }

    /// The tables whose rows hang on this, and by which column.
    pub fn hanging_on<'a>(&'a self, parent: &'a Parent) -> impl Iterator<Item = (&'a Node, &'a Hang)> {
        let hangs = move |node: &'a Node| {
            node.hangs.iter().filter(move |hang| hang.parent == *parent).map(move |hang| (node, hang))
        };
        self.nodes.iter().flat_map(hangs)
    }

    /// Every row that could have this id at a target: if one of them is live, the id is its.
    #[must_use]
    pub fn claims<'a>(&'a self, target: &Target, id: &'a str) -> Vec<Claim<'a>> {
        let of_target = |node: &'a Node| {
            node.external.iter().filter(|external| external.target == *target).map(move |external| (node, external))
        };
        let pairs = self.nodes.iter().flat_map(of_target);
        let claims = pairs.flat_map(|(node, external)| {
            external.pattern.readings(id).into_iter().map(move |reading| Claim { node, reading })
        });
        claims.collect()
    }

    /// Everybody who is told of rows that are gone.
    #[must_use]
    pub fn targets(&self) -> BTreeSet<&Target> {
        self.nodes.iter().flat_map(|node| &node.external).map(|external| &external.target).collect()
    }
}

/// The content tables of contract.md, section 4, as they would be declared.
#[must_use]
pub fn built_in() -> Vec<Declared> {
    const ID: &[&str] = &["id"];
    let tables: [(&str, &[&str], &str, &str, &str); 9] = [
        ("channels", ID, "workspace", "workspace_id", ""),
        ("messages", ID, "faircopy.channels", "channel_id", ""),
        ("last_reads", &["channel_id", "clerk_user_id"], "faircopy.channels", "channel_id", ""),
        ("last_reads", &["channel_id", "clerk_user_id"], "user", "clerk_user_id", ""),
        ("rooms", ID, "workspace", "workspace_id", "room:{id}"),
        ("documents", ID, "faircopy.rooms", "room_id", "doc:{id}"),
        ("code_files", ID, "faircopy.rooms", "room_id", "code:{id}"),
        ("whiteboards", ID, "faircopy.rooms", "room_id", "whiteboard:{id}"),
        ("meetings", ID, "faircopy.rooms", "room_id", ""),
    ];
    tables
        .iter()
        .map(|(table, key, parent, parent_key, room)| Declared {
            table: Name::built_in(table).to_string(),
            key: key.iter().map(|column| (*column).to_owned()).collect(),
            parent: (*parent).to_owned(),
            parent_key: (*parent_key).to_owned(),
            external: if room.is_empty() { vec![] } else { vec![(Target::Liveblocks, (*room).to_owned())] },
        })
        .collect()
}

/// Adds an entry to the node of its table.
fn add(entry: &Declared, nodes: &mut Vec<Node>, faults: &mut Vec<Fault>) {
    let before = faults.len();
    let mut fault = |key, what| faults.push(Fault { table: entry.table.clone(), key, what });
    let name = Name::parse(&entry.table);
    if name.is_none() {
        fault("table", FaultKind::Identifier);
    }
    let different: BTreeSet<&String> = entry.key.iter().collect();
    if !(1..=MAX_KEY_COLUMNS).contains(&entry.key.len()) || different.len() < entry.key.len() {
        fault("key", FaultKind::Key);
    }
    if !entry.key.iter().all(|column| is_identifier(column)) {
        fault("key", FaultKind::Identifier);
    }
    let parent = Parent::parse(&entry.parent);
    if parent.is_none() {
        fault("parent", FaultKind::Identifier);
    }
    if !is_identifier(&entry.parent_key) {
        fault("parent_key", FaultKind::Identifier);
    }
    let mut external = Vec::new();
    for (target, text) in &entry.external {
        match Pattern::parse(text) {
            Ok(pattern) => external.push(External { target: target.clone(), pattern }),
            Err(what) => fault("external", FaultKind::Pattern(text.clone(), what)),
        }
    }
    let (Some(name), Some(parent)) = (name, parent) else { return };
    let hang = Hang { parent, column: entry.parent_key.clone() };
    // What is wrong is in the tree all the same, so that what hangs on it is not wrong because of it.
    let Some(node) = nodes.iter_mut().find(|node| node.name == name) else {
        nodes.push(Node { name, key: entry.key.clone(), hangs: vec![hang], external: Vec::new() });
        let node = nodes.len() - 1;
        return add_external(&mut nodes[node], external, entry, faults);
    };
    if node.hangs.contains(&hang) {
        fault("parent", FaultKind::Double(entry.parent.clone()));
    } else if node.hangs.len() == MAX_HANGS {
        fault("parent", FaultKind::TooMany(MAX_HANGS));
    } else {
        node.hangs.push(hang);
    }
    if faults.len() == before && node.key != entry.key {
        let what = FaultKind::OtherKey(node.key.join(", "));
        faults.push(Fault { table: entry.table.clone(), key: "key", what });
    }
    add_external(node, external, entry, faults);
}

fn add_external(node: &mut Node, external: Vec<External>, entry: &Declared, faults: &mut Vec<Fault>) {
    for external in external {
        let mut fault = |what| faults.push(Fault { table: entry.table.clone(), key: "external", what });
        if node.external.contains(&external) {
            fault(FaultKind::Double(external.pattern.to_string()));
        } else if node.external.len() == MAX_EXTERNAL {
            fault(FaultKind::TooMany(MAX_EXTERNAL));
        } else {
            node.external.push(external);
        }
    }
}

/// Gives every parent the name of its node. A name without a schema that nobody declared is that of a built-in table.
fn resolve(nodes: &mut [Node], declared: &[Declared], faults: &mut Vec<Fault>) {
    let known: Vec<(Name, usize)> = nodes.iter().map(|node| (node.name.clone(), node.key.len())).collect();
    let find = |name: &Name| known.iter().find(|(known, _)| known == name);
    for node in nodes {
        let table = declared_as(declared, &node.name);
        for hang in &mut node.hangs {
            let Parent::Table(name) = &mut hang.parent else { continue };
            let built_in = || Some(Name::built_in(name.table())).filter(|_| name.schema().is_none());
            let found = find(name).or_else(|| built_in().and_then(|name| find(&name)));
            let fault = match found {
                None => Some(FaultKind::UnknownParent(name.to_string())),
                Some((_, columns)) if *columns > 1 => Some(FaultKind::CompositeParent(name.to_string())),
                Some((found, _)) => {
                    *name = found.clone();
                    None
                }
            };
            faults.extend(fault.map(|what| Fault { table: table.clone(), key: "parent", what }));
        }
    }
}

/// A table's name as it was first written.
fn declared_as(declared: &[Declared], name: &Name) -> String {
    let entry = declared.iter().find(|entry| Name::parse(&entry.table).as_ref() == Some(name));
    entry.map_or_else(|| name.to_string(), |entry| entry.table.clone())
}

/// Tables that lead back to themselves, and those that lead nowhere without a fault of their own.
fn circles(nodes: &[Node], faults: &mut Vec<Fault>) {
    for node in nodes {
        let way = way_back(nodes, node);
        let what = match way {
            Some(way) => FaultKind::Circular(way),
            None if is_lost(nodes, node) => FaultKind::HangsOnNothing,
            None => continue,
        };
        faults.push(Fault { table: node.name.to_string(), key: "parent", what });
    }
}

/// The tables that a table's rows hang on.
fn parents<'a>(nodes: &'a [Node], node: &'a Node) -> impl Iterator<Item = &'a Node> {
    node.hangs.iter().filter_map(|hang| match &hang.parent {
        Parent::Root(_) => None,
        Parent::Table(name) => nodes.iter().find(|node| node.name == *name),
    })
}

/// All tables above a table.
fn above<'a>(nodes: &'a [Node], node: &'a Node) -> Vec<&'a Node> {
    let mut found: Vec<&Node> = Vec::new();
    let mut next: Vec<&Node> = parents(nodes, node).collect();
    while let Some(parent) = next.pop() {
        if !found.contains(&parent) {
            found.push(parent);
            next.extend(parents(nodes, parent));
        }
    }
    found
}

/// The shortest way from a table to itself: `a, b, a`.
fn way_back(nodes: &[Node], node: &Node) -> Option<String> {
    let mut ways: Vec<Vec<&Node>> = vec![vec![node]];
    let mut seen: Vec<&Node> = Vec::new();
    for _ in 0..=nodes.len() {
        let mut longer = Vec::new();
        for way in ways {
            for parent in way.last().into_iter().flat_map(|last| parents(nodes, last)) {
                let way: Vec<&Node> = way.iter().copied().chain([parent]).collect();
                if parent == node {
                    let names: Vec<String> = way.iter().map(|node| node.name.to_string()).collect();
                    return Some(names.join(", "));
                }
                if !seen.contains(&parent) {
                    seen.push(parent);
                    longer.push(way);
                }
            }
        }
        ways = longer;
    }
    None
}

fn roots(nodes: &[Node], node: &Node) -> BTreeSet<Root> {
    let all = above(nodes, node).into_iter().chain([node]);
    let root = |hang: &Hang| if let Parent::Root(root) = hang.parent { Some(root) } else { None };
    all.flat_map(|node| node.hangs.iter().filter_map(root)).collect()
}

/// Whether it leads to no root because of tables that exist: a parent that does not is told of by itself.
fn is_lost(nodes: &[Node], node: &Node) -> bool {
    roots(nodes, node).is_empty() && parents(nodes, node).count() == node.hangs.len()
}

/// Children before parents: whoever has no child that is still to come is next.
fn in_order(mut nodes: Vec<Node>) -> Vec<Node> {
    let mut ordered = Vec::with_capacity(nodes.len());
    while !nodes.is_empty() {
        let is_parent = |candidate: &Node| {
            nodes.iter().any(|node| node.hangs.iter().any(|hang| hang.parent == Parent::Table(candidate.name.clone())))
        };
        // There is one: nothing is circular.
        let next = nodes.iter().position(|node| !is_parent(node)).unwrap_or_default();
        ordered.push(nodes.remove(next));
    }
    ordered
}

#[cfg(test)]
mod tests;
