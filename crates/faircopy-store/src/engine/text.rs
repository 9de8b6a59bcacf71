//! One statement text for two databases, and the values that go with it.
//!
//! Filled in are `{s}`, the schema, `{rows}`, a table made of [`Rows`], `{values …}`, what is inserted of them, and the words
//! of [`Dialect`]. Scalars are `$1`, `$2`, …

use std::borrow::Cow;

use faircopy_core::Millis;

/// A statement and its parameters.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(super) statement: &'a str,
    pub(super) given: Given<'a>,
    pub(super) returning: Option<Returning<'a>>,
}

/// Which columns of the rows that it wrote a statement answers with: see [`Call::returning`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Returning<'a> {
    pub(crate) table: &'a str,
    /// What a row is found by. The given rows begin with the same.
    pub(crate) keys: &'a [&'a str],
    pub(crate) columns: &'a str,
}

#[derive(Debug)]
pub(super) enum Given<'a> {
    Scalars(Vec<Value>),
    Rows(Rows<'a>),
}

impl<'a> Call<'a> {
    /// A statement with scalars.
    pub(crate) fn new(statement: &'a str, scalars: Vec<Value>) -> Self {
        Self { statement, given: Given::Scalars(scalars), returning: None }
    }

    /// A statement over many rows: run once on PostgreSQL, whatever the number, and once a row on SQLite, where a statement
    /// costs no round trip. So it must mean the same for each row whatever the others are. The same text always comes with
    /// the same columns.
    pub(crate) fn over(statement: &'a str, rows: Rows<'a>) -> Self {
        Self { statement, given: Given::Rows(rows), returning: None }
    }

    /// Has a statement over rows, which puts one row of a table for each, answer with columns of those that it really wrote. PostgreSQL is
    /// told to in the statement; SQLite would keep the answer in a table of its own, made and dropped for each row, and a journal to
    /// undo the statement alone: there the row is read once it is written.
    pub(crate) fn returning(self, returning: Returning<'a>) -> Self {
        Self { returning: Some(returning), ..self }
    }

    /// Whether there is anything to do.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(&self.given, Given::Rows(rows) if rows.length == 0)
    }

    /// The statement in the words of a database.
    pub(super) fn text(&self, dialect: Dialect) -> String {
        let text = self.given.text(self.statement, dialect);
        match (dialect, &self.returning) {
            (Dialect::Postgres, Some(returning)) => format!("{text} RETURNING {}", returning.columns),
            (Dialect::Sqlite, _) | (_, None) => text,
        }
    }

    /// What this statement is kept as once it is prepared: with and without [`Rows::seldom`] columns it is not the same.
    pub(super) fn name(&self) -> Cow<'a, str> {
        match &self.given {
            Given::Rows(rows) if rows.sent().len() < rows.columns.len() => format!("{} (bare)", self.statement).into(),
            _ => self.statement.into(),
        }
    }
}

impl Given<'_> {
    /// A statement over these in the words of a database.
    pub(super) fn text(&self, statement: &str, dialect: Dialect) -> String {
        match self {
            Self::Scalars(_) => dialect.fill(statement),
            Self::Rows(rows) => dialect.fill(&rows.fill(statement, dialect)),
        }
    }
}

impl Returning<'_> {
    /// The statement that reads a row by its keys, as parameters in their order. In SQLite's words.
    pub(super) fn reading(&self) -> String {
        let keys: Vec<String> = self.keys.iter().enumerate().map(|(at, key)| format!("{key} = ?{}", at + 1)).collect();
        format!("SELECT {} FROM {} WHERE {}", self.columns, self.table, keys.join(" AND "))
    }
}

/// Which words to fill in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// Fills in the words of [`Dialect::word`].
    pub(crate) fn fill(self, statement: &str) -> String {
        let mut out = String::with_capacity(statement.len() + 64);
        let mut rest = statement;
        while let Some((before, after)) = rest.split_once('{') {
            out.push_str(before);
            let (word, after) = split_at_end(after);
            out.push_str(&self.word(&self.fill(word)));
            rest = after;
        }
        out.push_str(rest);
        out
    }

    fn word(self, word: &str) -> Cow<'_, str> {
        let (name, column) = word.split_once(' ').unwrap_or((word, ""));
        match (self, name) {
            (Self::Postgres, "s") => Cow::Borrowed("faircopy."),
            (Self::Postgres, "text") => format!("{column}::text").into(),
            (Self::Postgres, "time") => {
                format!(r#"to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"#).into()
            }
            // Parameters come as text; a comparison with a time column wants a time.
            (Self::Postgres, "as-time") => format!("({column})::timestamptz").into(),
            // The order of bytes, which is the same everywhere: a database's own may be that of a language.
            (Self::Postgres, "bytes") => format!("{column} COLLATE \"C\"").into(),
            // A text without regard to case, as far as ASCII goes, in the order of bytes: what both databases can say alike.
            (Self::Postgres, "fold") => format!("lower({column} COLLATE \"C\")").into(),
            (Self::Sqlite, "fold") => format!("lower({column})").into(),
            // Milliseconds since 1970 of a time column.
            (Self::Postgres, "ms") => format!("CAST(extract(epoch FROM {column}) * 1000 AS bigint)").into(),
            (Self::Sqlite, "ms") => {
                format!("(unixepoch({column}) * 1000 + CAST(substr({column}, 21, 3) AS integer))").into()
            }
            // The number that a list in JSON begins with.
            (Self::Postgres, "first") => format!("CAST({column}::jsonb ->> 0 AS bigint)").into(),
            (Self::Sqlite, "first") => format!("json_extract({column}, '$[0]')").into(),
            // The texts of a list in JSON, as rows.
            (Self::Postgres, "list") => format!("(SELECT jsonb_array_elements_text(({column})::jsonb))").into(),
            (Self::Sqlite, "list") => format!("(SELECT value FROM json_each({column}))").into(),
            // The rows of a table that belong to the row at hand, each looked up by itself: left to order the two, the planner goes
            // through a whole table that it knew as empty.
            (_, "find") => self.find("JOIN", column).into(),
            (_, "find-left") => self.find("LEFT JOIN", column).into(),
            // Whether a value is one of a query's: as an array, for the same reason.
            (Self::Postgres, "any-of") => format!("= ANY (ARRAY({column}))").into(),
            (Self::Sqlite, "any-of") => format!("IN ({column})").into(),
            // Rows that nobody else may change or hang anything on until the commit. SQLite has one writer.
            (Self::Postgres, "for-update") => Cow::Borrowed(" FOR UPDATE"),
            (Self::Postgres, "for-share") => Cow::Borrowed(" FOR SHARE"),
            (Self::Postgres, "bigint") => Cow::Borrowed("bigint"),
            (Self::Sqlite, "bigint") => Cow::Borrowed("integer"),
            (Self::Sqlite, "strict") => Cow::Borrowed(" STRICT"),
            (Self::Sqlite, "text" | "time" | "as-time" | "bytes") => Cow::Owned(column.to_owned()),
            _ => Cow::Borrowed(""),
        }
    }

    /// A join with a table, from `table alias condition`.
    fn find(self, join: &str, words: &str) -> String {
        let mut words = words.splitn(3, ' ');
        let [table, alias, condition] = std::array::from_fn(|_| words.next().unwrap_or_default());
        match self {
            Self::Sqlite => format!("{join} {table} AS {alias} ON {condition}"),
            Self::Postgres => format!(
                "{join} LATERAL (SELECT {alias}.* FROM faircopy.{table} AS {alias} WHERE {condition} OFFSET 0) AS {alias} ON true"
            ),
        }
    }
}

/// The word that ends with the `}` of its own, and what comes after it: there may be words within a word.
fn split_at_end(text: &str) -> (&str, &str) {
    let mut depth = 1;
    for (at, sign) in text.char_indices() {
        match sign {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return (&text[..at], &text[at + 1..]);
        }
    }
    (text, "")
}

/// One parameter.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Text(Option<String>),
    Int(Option<i64>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(Some(number))
    }
}

impl From<Millis> for Value {
    fn from(at: Millis) -> Self {
        Self::Text(Some(at.to_string()))
    }
}

/// One column of many rows.
#[derive(Debug, Clone)]
pub(super) enum Column<'a> {
    Text(Vec<Option<Cow<'a, str>>>),
    Json(Vec<Option<Cow<'a, str>>>),
    Int(Vec<Option<i64>>),
    Bool(Vec<Option<bool>>),
    Time(Vec<Option<Moment>>),
}

/// A time as the databases are given it: milliseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment(pub(super) i64);

impl Column<'_> {
    /// Whether it holds no value.
    fn is_void(&self) -> bool {
        match self {
            Self::Text(values) | Self::Json(values) => values.iter().all(Option::is_none),
            Self::Int(values) => values.iter().all(Option::is_none),
            Self::Bool(values) => values.iter().all(Option::is_none),
            Self::Time(values) => values.iter().all(Option::is_none),
        }
    }

    fn into_owned(self) -> Column<'static> {
        let texts = |texts: Vec<Option<Cow<'_, str>>>| {
            texts.into_iter().map(|text| text.map(|text| Cow::Owned(text.into_owned()))).collect()
        };
        match self {
            Self::Text(values) => Column::Text(texts(values)),
            Self::Json(values) => Column::Json(texts(values)),
            Self::Int(values) => Column::Int(values),
            Self::Bool(values) => Column::Bool(values),
            Self::Time(values) => Column::Time(values),
        }
    }
}

/// Many rows as one parameter each column: what `{rows}` stands for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows<'a> {
    pub(super) length: usize,
    pub(super) columns: Vec<(&'static str, Column<'a>)>,
    /// The columns from this one on are seldom filled.
    seldom_from: Option<usize>,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(length: usize) -> Self {
        Self { length, columns: Vec::with_capacity(16), seldom_from: None }
    }

    /// Adds a column; its values are taken in row order.
    pub(crate) fn text<T: Into<Cow<'a, str>>>(
        self,
        name: &'static str,
        values: impl Iterator<Item = Option<T>>,
    ) -> Self {
        self.with(name, Column::Text(values.map(|value| value.map(Into::into)).collect()))
    }

    pub(crate) fn json<T: Into<Cow<'a, str>>>(
        self,
        name: &'static str,
        values: impl Iterator<Item = Option<T>>,
    ) -> Self {
        self.with(name, Column::Json(values.map(|value| value.map(Into::into)).collect()))
    }

    pub(crate) fn int(self, name: &'static str, values: impl Iterator<Item = Option<i64>>) -> Self {
        self.with(name, Column::Int(values.collect()))
    }

    pub(crate) fn bool(self, name: &'static str, values: impl Iterator<Item = Option<bool>>) -> Self {
        self.with(name, Column::Bool(values.collect()))
    }

    pub(crate) fn time(self, name: &'static str, values: impl Iterator<Item = Option<Millis>>) -> Self {
        self.with(name, Column::Time(values.map(|at| at.map(|at| Moment(at.0))).collect()))
    }

    fn with(mut self, name: &'static str, column: Column<'a>) -> Self {
        self.columns.push((name, column));
        self
    }

    /// The columns after this hold nothing in most calls. PostgreSQL is sent none of them then, and is told so by another statement: an
    /// array that is taken apart for each of them costs as much as a full one.
    pub(crate) fn seldom(mut self) -> Self {
        self.seldom_from = Some(self.columns.len());
        self
    }

    /// The columns that PostgreSQL is sent: all, or those before the seldom ones, if these hold nothing.
    pub(super) fn sent(&self) -> &[(&'static str, Column<'a>)] {
        match self.seldom_from {
            Some(from) if self.columns[from..].iter().all(|(_, column)| column.is_void()) => &self.columns[..from],
            _ => &self.columns,
        }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The same, holding all of their values.
    pub(crate) fn into_owned(self) -> Rows<'static> {
        let columns = self.columns.into_iter().map(|(name, column)| (name, column.into_owned())).collect();
        Rows { length: self.length, columns, seldom_from: self.seldom_from }
    }

    /// Fills in `{rows}` and `{values …}`.
    fn fill(&self, statement: &str, dialect: Dialect) -> String {
        let mut text = statement.replace("{rows}", &self.table(dialect));
        if let Some((before, after)) = text.split_once("{values ") {
            let (select, after) = split_at_end(after);
            text = format!("{before}{}{after}", self.values(select, dialect));
        }
        text
    }

    /// What an `INSERT` inserts of the rows, each called `v`. SQLite keeps a journal for a statement that inserts what it selects, so as
    /// to undo it alone: it is given values.
    fn values(&self, select: &str, dialect: Dialect) -> String {
        match dialect {
            Dialect::Postgres => format!("SELECT {select} FROM {} AS v WHERE true", self.arrays()),
            Dialect::Sqlite => format!("VALUES ({})", self.numbered(select)),
        }
    }

    /// `v.*` and `v.column` as the parameters that they are.
    fn numbered(&self, select: &str) -> String {
        let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let mut out = String::with_capacity(select.len());
        let mut rest = select;
        while let Some((before, after)) = rest.split_once("v.") {
            out.push_str(before);
            let name = after.split(|letter| !is_of_name(letter)).next().unwrap_or_default();
            let parameters = if before.ends_with(is_of_name) {
                None
            } else if let Some(after) = after.strip_prefix('*') {
                let all: Vec<String> = (1..=self.columns.len()).map(|place| format!("?{place}")).collect();
                Some((all.join(", "), after))
            } else {
                let place = self.columns.iter().position(|(column, _)| *column == name);
                place.map(|place| (format!("?{}", place + 1), &after[name.len()..]))
            };
            let (written, after) = parameters.unwrap_or_else(|| ("v.".to_owned(), after));
            out.push_str(&written);
            rest = after;
        }
        out.push_str(rest);
        out
    }

    fn table(&self, dialect: Dialect) -> String {
        match dialect {
            Dialect::Postgres => self.arrays(),
            Dialect::Sqlite => self.one_row(),
        }
    }

    /// All rows, from an array for each column. The arrays are taken apart side by side, where a row is made: `unnest` of all of
    /// them after `FROM` would copy each into a table of its own first, which for 16 deliveries takes longer than to insert them.
    fn arrays(&self) -> String {
        let sent = self.sent().len();
        let columns: Vec<String> = (self.columns.iter().enumerate())
            .map(|(at, (name, column))| {
                let (array, made) = match column {
                    Column::Text(_) => ("text", ""),
                    Column::Json(_) => ("text", "::jsonb"),
                    Column::Int(_) => ("bigint", ""),
                    Column::Bool(_) => ("boolean", ""),
                    Column::Time(_) => ("timestamptz", ""),
                };
                if at < sent {
                    format!("unnest(${}::{array}[]){made} AS {name}", at + 1)
                } else {
                    format!("NULL::{array}{made} AS {name}")
                }
            })
            .collect();
        format!("(SELECT {})", columns.join(", "))
    }

    /// The row at hand, from a parameter for each column.
    fn one_row(&self) -> String {
        let columns: Vec<String> =
            self.columns.iter().enumerate().map(|(at, (name, _))| format!("?{} AS {name}", at + 1)).collect();
        format!("(SELECT {})", columns.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inserted_is_selected_on_postgresql_and_values_on_sqlite() {
        const STATEMENT: &str = "INSERT INTO {s}t (a, id, name, n) \
            {values 0, v.*, (SELECT max(mv.id) FROM {s}m mv WHERE mv.id = v.id AND {bytes v.name} > 'v') } ON CONFLICT DO NOTHING";
        let rows = Rows::new(1).text("id", [Some("1")].into_iter()).text("name", [Some("ada")].into_iter());
        let returning = Returning { table: "t", keys: &["id", "name"], columns: "id, a" };
        let call = Call::over(STATEMENT, rows).returning(returning);
        assert_eq!(
            call.text(Dialect::Postgres),
            "INSERT INTO faircopy.t (a, id, name, n) SELECT 0, v.*, (SELECT max(mv.id) FROM faircopy.m mv WHERE mv.id = v.id \
             AND v.name COLLATE \"C\" > 'v')  FROM (SELECT unnest($1::text[]) AS id, unnest($2::text[]) AS name) AS v WHERE true \
             ON CONFLICT DO NOTHING RETURNING id, a"
        );
        assert_eq!(
            call.text(Dialect::Sqlite),
            "INSERT INTO t (a, id, name, n) VALUES (0, ?1, ?2, (SELECT max(mv.id) FROM m mv WHERE mv.id = ?1 AND ?2 > 'v') ) \
             ON CONFLICT DO NOTHING"
        );
        assert_eq!(returning.reading(), "SELECT id, a FROM t WHERE id = ?1 AND name = ?2");
    }

    #[test]
    fn seldom_columns_are_sent_when_one_of_them_holds_something() {
        let rows = |errors: [Option<&'static str>; 2]| {
            Rows::new(2)
                .int("n", [Some(1), Some(2)].into_iter())
                .seldom()
                .text("error", errors.into_iter())
                .time("at", [None, None].into_iter())
        };
        let call = |errors| Call::over("SELECT v.* FROM {rows} AS v", rows(errors));
        let (bare, full) = (call([None, None]), call([None, Some("broken")]));
        assert_eq!(
            bare.text(Dialect::Postgres),
            "SELECT v.* FROM (SELECT unnest($1::bigint[]) AS n, NULL::text AS error, NULL::timestamptz AS at) AS v"
        );
        assert_eq!(
            full.text(Dialect::Postgres),
            "SELECT v.* FROM (SELECT unnest($1::bigint[]) AS n, unnest($2::text[]) AS error, unnest($3::timestamptz[]) AS at) AS v"
        );
        assert_eq!(
            (bare.name().as_ref(), full.name().as_ref()),
            ("SELECT v.* FROM {rows} AS v (bare)", full.statement)
        );
        assert_eq!(rows([None, None]).sent().len(), 1);
        // A row of SQLite's binds all of them.
        assert_eq!(bare.text(Dialect::Sqlite), full.text(Dialect::Sqlite));
    }
}
