//! PostgreSQL: one client that pipelines for the writer, a pool of them for reading.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, PoolError, QueueMode, RecyclingMethod, Runtime};
use futures_util::future::{OptionFuture, join_all};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{AsyncMessage, Config, Socket, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::text::{Call, Column, Dialect, Given, Moment, Value};
use super::tls::{self, Trust};
use super::{Begun, Opening, Row};
use crate::error::{Error, Result};

/// Connections for reading. Reads are short; the writer has a connection of its own.
const READERS: usize = 6;
/// How long a read waits for a connection, and for a new one to be made.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long one read may take: a server that hangs must not hold readiness beyond the 10 s of its askers.
const READ_DEADLINE: Duration = Duration::from_secs(5);
/// How long connections for reading are kept idle: where connections are few, another replica's writer may be waiting for
/// one.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long reaching the server may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may take to be ready for use: reached, encrypted and let in.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// After how long without an answer of its host a connection is lost, where the URL says nothing else: a host that vanished says nothing, and
/// the system's own patience is hours.
const SILENCE: Duration = Duration::from_secs(30);
/// How long a connection rests before its host is asked whether it is there, and between two such questions.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
/// Each row is looked up by its key, with one plan for any number of rows.
macro_rules! by_key {
    () => {
        "SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; \
         SET LOCAL jit = off; SET LOCAL plan_cache_mode = force_generic_plan"
    };
}
/// How every write transaction begins. What it sets is for itself alone: poolers share connections. Whoever has waited for the pen must
/// see what was committed before, whatever isolation the role or the database has by default. The timeouts keep one held
/// lock from holding everyone; the planner is told to use the indexes, because a plan made while a table was empty would be kept.
/// One text in one message: a prepared statement that sets the same takes four times as long.
const BEGIN: &str = concat!(
    "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '1s'; SET LOCAL statement_timeout = '6s'; \
     SET LOCAL idle_in_transaction_session_timeout = '10s'; SET LOCAL synchronous_commit = on; ",
    by_key!()
);
/// Tells the other replicas, once the transaction that it is sent in is committed. A message of its own: a text ends at its first
/// failure, and the commit, which undoes what has failed, is to be sent all the same.
const ANNOUNCE: &str = "NOTIFY faircopy_changes";
/// Asks to hear what replicas announce. A hint, which may be lost.
const LISTEN: &str = "LISTEN faircopy_changes";
/// Undoes for one transaction that its commit waits for the disk.
const LAZILY: &str = "SET LOCAL synchronous_commit = off";
/// How a read over many rows begins: each row is looked up by its key, with one plan for any number of rows. Left to itself the
/// planner goes through whole tables while they are small, and plans anew for each small number.
const BEGIN_READ: &str = concat!("BEGIN READ ONLY; ", by_key!());
/// Takes the pen.
const PEN: &str = "SELECT sequence FROM {s}feed FOR UPDATE";
/// The URL's parameters that the client library reads. Others are for other libraries, and are ignored as those do.
const PARAMETERS: [&str; 17] = [
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "sslnegotiation",
    "host",
    "hostaddr",
    "port",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
    "channel_binding",
];

/// Where the server is, and how to talk to it.
#[derive(Clone)]
pub(crate) struct Target {
    config: Config,
    tls: MakeRustlsConnect,
    /// Whether statements are prepared once and kept. Not behind a pooler that gives each transaction another connection
    /// and does not follow prepared statements: `pgbouncer=true` in the URL.
    keeps_statements: bool,
}

impl Target {
    /// Reads a URL. `sslmode` means what it means to libpq: `prefer` by default; `require` encrypts and trusts anyone;
    /// `verify-ca` and `verify-full` trust the authorities of `sslrootcert`, or the public ones.
    pub(super) fn parse(url: &str) -> Result<Self> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut kept, mut mode, mut roots, mut keeps_statements) = (Vec::new(), "prefer", None, true);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=').unwrap_or((pair, "")) {
                ("sslmode", value) => mode = value,
                ("sslrootcert", value) => roots = Some(value),
                ("pgbouncer", value) => keeps_statements = value != "true",
                (name, _) if PARAMETERS.contains(&name) => kept.push(pair),
                _ => {}
            }
        }
        let (mode, trust) = match mode {
            "disable" => (SslMode::Disable, Trust::Anyone),
            "allow" | "prefer" => (SslMode::Prefer, Trust::Anyone),
            "require" if roots.is_none() => (SslMode::Require, Trust::Anyone),
            "require" | "verify-ca" => (SslMode::Require, Trust::Authority),
            "verify-full" => (SslMode::Require, Trust::AuthorityAndName),
            _ => return Err(Error::Address("has an unknown sslmode")),
        };
        let text = if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) };
        let mut config: Config = text.parse().map_err(|_| Error::Address("is not a PostgreSQL address"))?;
        config.ssl_mode(mode);
        if config.get_application_name().is_none() {
            config.application_name("faircopy");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(SILENCE);
        }
        if !kept.iter().any(|pair| pair.starts_with("keepalives_idle=")) {
            config.keepalives_idle(KEEPALIVE_IDLE);
        }
        if config.get_keepalives_interval().is_none() {
            config.keepalives_interval(KEEPALIVE_INTERVAL);
        }
        if config.get_keepalives_retries().is_none() {
            config.keepalives_retries(KEEPALIVE_RETRIES);
        }
        Ok(Self { config, tls: tls::connector(trust, roots)?, keeps_statements })
    }
}

impl Target {
    /// A new connection, ready for use.
    async fn connect(&self) -> Result<(tokio_postgres::Client, Moving)> {
        let connecting = self.config.connect(self.tls.clone());
        let late = |_| Error::Unavailable("no connection was ready within 10 s".into());
        Ok(timeout(READY_TIMEOUT, connecting).await.map_err(late)??)
    }

    /// Whether a connection is this process's own for as long as it is open.
    pub(super) fn keeps_statements(&self) -> bool {
        self.keeps_statements
    }
}

/// Host, port and database.
impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.config.get_hosts().first() {
            Some(Host::Tcp(host)) => out.write_str(host)?,
            Some(Host::Unix(folder)) => write!(out, "{}", folder.display())?,
            None => out.write_str("localhost")?,
        }
        let port = self.config.get_ports().first().copied().unwrap_or(5432);
        let database = self.config.get_dbname().or(self.config.get_user()).unwrap_or_default();
        write!(out, ":{port}/{database}")
    }
}

/// A connection of one owner.
pub(crate) struct Client {
    client: tokio_postgres::Client,
    /// Moves the bytes; ends with this client.
    driver: JoinHandle<()>,
    /// Each statement of the store as prepared here.
    prepared: Mutex<HashMap<String, Arc<Prepared>>>,
    keeps_statements: bool,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// What moves the bytes of a connection.
type Moving = tokio_postgres::Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// What the server says to a statement that it may refuse.
pub(crate) type Attempt = std::result::Result<Vec<Row>, Refusal>;

/// Why the server did not run a statement.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// SQLSTATE.
    pub(crate) code: String,
    pub(crate) message: String,
}

/// A statement as the server knows it, or its text where the server cannot keep it.
enum Prepared {
    Kept(Statement),
    Text(String, Vec<Type>),
}

impl Prepared {
    /// Sends the statement when it is first polled, and waits for the answer.
    async fn query(&self, client: &tokio_postgres::Client, values: &[Parameter<'_>]) -> Result<Vec<Row>> {
        let rows = match self {
            Self::Kept(statement) => client.query(statement, values).await?,
            Self::Text(text, types) => {
                let typed: Vec<_> = values.iter().copied().zip(types.iter().cloned()).collect();
                client.query_typed(text, &typed).await?
            }
        };
        Ok(rows.into_iter().map(Row::Postgres).collect())
    }
}

impl Client {
    pub(super) async fn connect(target: &Target) -> Result<Self> {
        let (client, connection) = target.connect().await?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to PostgreSQL ended");
            }
        });
        Ok(Self { client, driver, prepared: Mutex::default(), keeps_statements: target.keeps_statements })
    }

    pub(super) async fn begin(&self, before_pen: &[Call<'_>], under_pen: &[Call<'_>]) -> Result<Begun> {
        let pen = Call::new(PEN, vec![]);
        for call in before_pen.iter().chain([&pen]).chain(under_pen) {
            self.prepare(call).await?;
        }
        // Sent together, in this order.
        let (begun, before_pen, pen, under_pen) = tokio::join!(
            biased;
            self.client.batch_execute(BEGIN),
            self.send(before_pen),
            self.answer(&pen),
            self.send(under_pen),
        );
        // The first failure is the cause; those after it only say that the transaction is lost.
        begun?;
        let (before_pen, pen) = (before_pen?, pen?);
        let pen = pen.first().ok_or_else(|| Error::Refused("the change feed has no counter".into()))?;
        Ok(Begun { last: pen.int(0)?.unwrap_or_default(), before_pen, under_pen: under_pen? })
    }

    pub(super) async fn begin_beside_pen(&self, calls: &[Call<'_>]) -> Result<Vec<Vec<Row>>> {
        self.prepare_all(calls).await?;
        let (begun, found) = tokio::join!(biased; self.client.batch_execute(BEGIN), self.send(calls));
        begun?;
        found
    }

    pub(super) async fn commit_lazily(&self) -> Result<()> {
        self.script(LAZILY).await
    }

    pub(super) async fn run_all(&self, calls: &[Call<'_>]) -> Result<Vec<Vec<Row>>> {
        self.prepare_all(calls).await?;
        self.send(calls).await
    }

    /// The last statements, as one, and the commit in one round trip; returns what the last of them found. They must not touch the
    /// same rows. The first that is over any rows is `part_0` to those after it, the next `part_1`. After a failure the server has
    /// rolled back, whatever its answer to the commit was.
    pub(super) async fn finish(&self, calls: &[Call<'_>]) -> Result<Vec<Row>> {
        let calls = worthwhile(calls);
        let last = self.prepare_as_one(&calls).await?;
        self.send_last(&calls, last.as_deref(), false, || ()).await
    }

    /// The server is given the next transaction while it is still committing this one. Should this one fail, the next is
    /// open all the same, and is to be rolled back.
    pub(super) async fn finish_and_begin<O: Opening>(
        &self,
        calls: &[Call<'_>],
        announce: bool,
        committed: impl FnOnce(Vec<Row>),
        next: impl FnOnce() -> Option<O>,
    ) -> Result<Option<(O, Begun)>> {
        let calls = worthwhile(calls);
        // From here on the first poll sends: nothing of the next transaction may come before the commit.
        let last = self.prepare_as_one(&calls).await?;
        let (written, is_written) = oneshot::channel();
        let finishing = async {
            // Whoever waits may have been dropped with this.
            let written = || {
                let _ = written.send(());
            };
            committed(self.send_last(&calls, last.as_deref(), announce, written).await?);
            Ok(())
        };
        let beginning = async {
            // Only the disk is waited for then: that is time enough to make the next one ready, and the later it is asked for, the
            // more is in it.
            let _ = is_written.await;
            let Some(next) = next() else { return Ok(None) };
            let begun = self.begin(&next.before_pen(), &next.under_pen()).await?;
            Ok(Some((next, begun)))
        };
        let (finished, begun) = tokio::join!(biased; finishing, beginning);
        finished.and(begun)
    }

    /// Sends the last statement and the commit when it is first polled, and waits for both answers. `written` is called after the
    /// first.
    async fn send_last(
        &self,
        calls: &[&Call<'_>],
        last: Option<&Prepared>,
        announce: bool,
        written: impl FnOnce(),
    ) -> Result<Vec<Row>> {
        let values: Vec<Parameter<'_>> = calls.iter().flat_map(|call| values(&call.given)).collect();
        let last = async {
            let found = match last {
                Some(statement) => statement.query(&self.client, &values).await,
                None => Ok(Vec::new()),
            };
            written();
            found
        };
        let announced = OptionFuture::from(announce.then(|| self.client.batch_execute(ANNOUNCE)));
        let (found, announced, committed) = tokio::join!(biased; last, announced, self.client.batch_execute("COMMIT"));
        // After a failure the server has rolled back, and says that all is well.
        let found = found?;
        announced.transpose()?;
        committed?;
        Ok(found)
    }

    pub(super) async fn script(&self, text: &str) -> Result<()> {
        Ok(self.client.batch_execute(text).await?)
    }

    /// Runs one statement inside a savepoint of the open transaction and undoes what it did.
    pub(super) async fn attempt(&self, statement: &str, scalars: Vec<Value>) -> Result<Attempt> {
        let given = Given::Scalars(scalars);
        let typed: Vec<_> = values(&given).into_iter().zip(types(&given)).collect();
        // One round trip, in this order.
        let (saved, answer, undone) = tokio::join!(
            biased;
            self.client.batch_execute("SAVEPOINT attempt"),
            self.client.query_typed(statement, &typed),
            self.client.batch_execute("ROLLBACK TO SAVEPOINT attempt; RELEASE SAVEPOINT attempt"),
        );
        saved?;
        undone?;
        match answer {
            Ok(rows) => Ok(Ok(rows.into_iter().map(Row::Postgres).collect())),
            Err(error) => match error.as_db_error() {
                Some(refusal) => {
                    Ok(Err(Refusal { code: refusal.code().code().to_owned(), message: refusal.message().to_owned() }))
                }
                None => Err(error.into()),
            },
        }
    }

    async fn prepare_all(&self, calls: &[Call<'_>]) -> Result<()> {
        for call in calls {
            self.prepare(call).await?;
        }
        Ok(())
    }

    /// Prepares what is new.
    async fn prepare(&self, call: &Call<'_>) -> Result<()> {
        if call.is_empty() {
            return Ok(());
        }
        let name = call.name();
        if self.prepared(&name).is_some() {
            return Ok(());
        }
        self.prepare_text(name.into_owned(), call.text(Dialect::Postgres), types(&call.given)).await.map(drop)
    }

    /// Prepares several calls whose answers nobody needs as one statement: each costs the server a message and this
    /// process a wake-up.
    async fn prepare_as_one(&self, calls: &[&Call<'_>]) -> Result<Option<Arc<Prepared>>> {
        let Some((last, others)) = calls.split_last() else { return Ok(None) };
        let name = calls.iter().map(|call| call.name()).collect::<Vec<_>>().join(";");
        if let Some(prepared) = self.prepared(&name) {
            return Ok(Some(prepared));
        }
        let (mut text, mut all_types) = (String::new(), Vec::new());
        for (at, call) in others.iter().enumerate() {
            let with = if at == 0 { "WITH" } else { "," };
            let part = renumbered(&call.text(Dialect::Postgres), all_types.len());
            let _ = write!(text, "{with} part_{at} AS ({part}) ");
            all_types.extend(types(&call.given));
        }
        text.push_str(&renumbered(&last.text(Dialect::Postgres), all_types.len()));
        all_types.extend(types(&last.given));
        self.prepare_text(name, text, all_types).await.map(Some)
    }

    async fn prepare_text(&self, name: String, text: String, types: Vec<Type>) -> Result<Arc<Prepared>> {
        let prepared = Arc::new(if self.keeps_statements {
            Prepared::Kept(self.client.prepare_typed(&text, &types).await?)
        } else {
            Prepared::Text(text, types)
        });
        self.statements().insert(name, prepared.clone());
        Ok(prepared)
    }

    fn prepared(&self, statement: &str) -> Option<Arc<Prepared>> {
        self.statements().get(statement).cloned()
    }

    fn statements(&self) -> MutexGuard<'_, HashMap<String, Arc<Prepared>>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends every call before the first answer is awaited; they must have been prepared.
    async fn send(&self, calls: &[Call<'_>]) -> Result<Vec<Vec<Row>>> {
        let mut answers = Vec::with_capacity(calls.len());
        for call in calls {
            answers.push(self.answer(call));
        }
        // The first failure is the cause; those after it only say that the transaction is lost.
        join_all(answers).await.into_iter().collect()
    }

    /// Sends a call when it is first polled, and waits for the answer.
    async fn answer(&self, call: &Call<'_>) -> Result<Vec<Row>> {
        if call.is_empty() {
            return Ok(Vec::new());
        }
        let unknown = || Error::Refused("a statement was not prepared; this is a bug".into());
        self.prepared(&call.name()).ok_or_else(unknown)?.query(&self.client, &values(&call.given)).await
    }
}

/// A connection that hears what replicas tell, until this is dropped.
pub(crate) struct Hearing(JoinHandle<()>);

impl Hearing {
    /// Tells `heard` whenever a replica says that the change feed has gone on.
    pub(super) async fn begin(target: &Target, heard: Arc<Notify>) -> Result<Self> {
        let (client, mut connection) = target.connect().await?;
        Ok(Self(tokio::spawn(async move {
            let mut message = std::future::poll_fn(move |context| connection.poll_message(context));
            let hearing = async {
                while let Some(Ok(message)) = (&mut message).await {
                    if let AsyncMessage::Notification(_) = message {
                        heard.notify_one();
                    }
                }
            };
            let asking = async {
                if client.batch_execute(LISTEN).await.is_ok() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = hearing => {}
                () = asking => {}
            }
        })))
    }

    /// Whether the connection was lost.
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The connections for reading, made when they are needed.
#[derive(Clone)]
pub(crate) struct Readers {
    /// Without a pool, the reason why.
    pool: std::result::Result<Pool, Arc<str>>,
    keeps_statements: bool,
    reaping: Arc<AtomicBool>,
}

/// The answer, or what is to be said of one that did not come in time.
fn in_time(client: Object, answer: std::result::Result<Result<Vec<Row>>, Elapsed>) -> Result<Vec<Row>> {
    answer.unwrap_or_else(|_| Err(late(client)))
}

/// Asks on a connection of the pool. One that was lost while nobody used it shows that only when it is asked: then a new one is,
/// once. Reads may be asked twice. (A function over closures would give futures that cannot be sent to another thread.)
macro_rules! asked {
    ($readers:expr, $client:ident => $ask:expr) => {{
        let mut is_first = true;
        loop {
            let $client = $readers.client().await?;
            let answer = timeout(READ_DEADLINE, $ask).await;
            if !is_first || !matches!(answer, Ok(Err(_))) || !$client.is_closed() {
                return in_time($client, answer);
            }
            is_first = false;
            $readers.drop_idle();
        }
    }};
}

/// Sends a whole transaction before it waits for the first answer.
async fn in_transaction(
    client: &Object,
    begin: &str,
    rows: impl Future<Output = Result<Vec<Row>>>,
) -> Result<Vec<Row>> {
    let (begun, rows, _) = tokio::join!(biased; client.batch_execute(begin), rows, client.batch_execute("COMMIT"));
    // The first failure is the cause. Where something cannot be set, nothing was read: the transaction was lost.
    begun?;
    rows
}

impl Readers {
    pub(super) fn new(target: &Target) -> Self {
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(target.config.clone(), target.tls.clone(), recycling);
        let pool = Pool::builder(manager)
            .max_size(READERS)
            // The one that was used last comes first: where there is little to read, the others fall idle.
            .queue_mode(QueueMode::Lifo)
            .wait_timeout(Some(ACQUIRE_TIMEOUT))
            .create_timeout(Some(ACQUIRE_TIMEOUT))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| error.to_string().into());
        Self { pool, keeps_statements: target.keeps_statements, reaping: Arc::default() }
    }

    async fn client(&self) -> Result<Object> {
        let pool = self.pool.as_ref().map_err(|reason| Error::Unavailable(reason.to_string()))?;
        let client = pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => error.into(),
            error => Error::Unavailable(error.to_string()),
        })?;
        self.reap(pool);
        Ok(client)
    }

    /// Reads in a transaction that has stepped down to a role and set the claims for itself alone. All of it is sent before
    /// the first answer is awaited, the end too: a caller that is dropped leaves no open transaction in the pool, and no
    /// role and no claims to the next borrower.
    pub(super) async fn read_as(
        &self,
        role: &str,
        claims: &str,
        statement: &str,
        scalars: Vec<Value>,
    ) -> Result<Vec<Row>> {
        let given = Given::Scalars(scalars);
        asked!(self, client => self.ask_as(&client, role, claims, statement, &given))
    }

    async fn ask_as(
        &self,
        client: &Object,
        role: &str,
        claims: &str,
        statement: &str,
        given: &Given<'_>,
    ) -> Result<Vec<Row>> {
        let (prepared, values) =
            (self.prepare(client, &Dialect::Postgres.fill(statement), given).await?, values(given));
        let begin = format!("BEGIN READ ONLY; SET LOCAL ROLE \"{}\"", role.replace('"', "\"\""));
        let (set, claims) =
            ("SELECT set_config('request.jwt.claims', $1, true)", [(&claims as Parameter<'_>, Type::TEXT)]);
        let read = async {
            let (set, rows) = tokio::join!(biased; client.query_typed(set, &claims), prepared.query(client, &values));
            set?;
            rows
        };
        in_transaction(client, &begin, read).await
    }

    /// Reads with the plan of [`BEGIN_READ`], in one round trip.
    pub(super) async fn read_over(&self, text: &str, given: &Given<'_>) -> Result<Vec<Row>> {
        asked!(self, client => self.ask_over(&client, text, given))
    }

    async fn ask_over(&self, client: &Object, text: &str, given: &Given<'_>) -> Result<Vec<Row>> {
        let (prepared, values) = (self.prepare(client, text, given).await?, values(given));
        in_transaction(client, BEGIN_READ, prepared.query(client, &values)).await
    }

    pub(super) async fn read(&self, text: &str, given: &Given<'_>) -> Result<Vec<Row>> {
        asked!(self, client => self.ask(&client, text, given))
    }

    async fn ask(&self, client: &Object, text: &str, given: &Given<'_>) -> Result<Vec<Row>> {
        self.prepare(client, text, given).await?.query(client, &values(given)).await
    }

    async fn prepare(&self, client: &Object, text: &str, given: &Given<'_>) -> Result<Prepared> {
        let types = types(given);
        Ok(if self.keeps_statements {
            Prepared::Kept(client.prepare_typed_cached(text, &types).await?)
        } else {
            Prepared::Text(text.to_owned(), types)
        })
    }

    /// Lets all idle connections go: where one was lost while nobody used it, the others were most likely, too.
    fn drop_idle(&self) {
        if let Ok(pool) = &self.pool {
            pool.retain(|_, _| false);
        }
    }

    /// Lets idle connections go, for as long as there are any.
    fn reap(&self, pool: &Pool) {
        if self.reaping.swap(true, Ordering::AcqRel) {
            return;
        }
        let (pool, reaping) = (pool.clone(), self.reaping.clone());
        tokio::spawn(async move {
            while !pool.is_closed() && pool.status().size > 0 {
                tokio::time::sleep(IDLE_TIMEOUT).await;
                pool.retain(|_, use_of_it| use_of_it.last_used() < IDLE_TIMEOUT);
            }
            reaping.store(false, Ordering::Release);
        });
    }

    /// Tells the other replicas that the change feed has gone on.
    pub(super) async fn announce(&self) -> Result<()> {
        self.read(ANNOUNCE, &Given::Scalars(vec![])).await.map(drop)
    }

    pub(super) fn close(&self) {
        if let Ok(pool) = &self.pool {
            pool.close();
        }
    }
}

/// Gives up a connection whose answer may still come: nobody else may get it.
fn late(client: Object) -> Error {
    drop(Object::take(client));
    Error::Unavailable("no answer to a read in time".into())
}

fn worthwhile<'c, 'a>(calls: &'c [Call<'a>]) -> Vec<&'c Call<'a>> {
    calls.iter().filter(|call| !call.is_empty()).collect()
}

/// The statement with its parameters counted from `first` instead of 0.
fn renumbered(statement: &str, first: usize) -> String {
    let mut parts = statement.split('$');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let number: usize = part[..digits].parse().unwrap_or_default();
        let _ = write!(text, "${}{}", number + first, &part[digits..]);
    }
    text
}

fn types(given: &Given<'_>) -> Vec<Type> {
    match given {
        Given::Scalars(scalars) => scalars
            .iter()
            .map(|scalar| match scalar {
                Value::Text(_) => Type::TEXT,
                Value::Int(_) => Type::INT8,
            })
            .collect(),
        Given::Rows(rows) => rows
            .sent()
            .iter()
            .map(|(_, column)| match column {
                Column::Text(_) | Column::Json(_) => Type::TEXT_ARRAY,
                Column::Int(_) => Type::INT8_ARRAY,
                Column::Time(_) => Type::TIMESTAMPTZ_ARRAY,
                Column::Bool(_) => Type::BOOL_ARRAY,
            })
            .collect(),
    }
}

type Parameter<'a> = &'a (dyn ToSql + Sync);

/// 2000-01-01 in milliseconds since 1970: where PostgreSQL counts its times from, in microseconds.
const POSTGRES_EPOCH_MS: i64 = 946_684_800_000;

impl ToSql for Moment {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        // The two largest numbers mean `infinity`: a time beyond them is none that anybody sent.
        let micros = self.0.saturating_sub(POSTGRES_EPOCH_MS).saturating_mul(1000);
        out.put_i64(micros);
        Ok(IsNull::No)
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::TIMESTAMPTZ
    }

    to_sql_checked!();
}

fn values<'a>(given: &'a Given<'a>) -> Vec<Parameter<'a>> {
    match given {
        Given::Scalars(scalars) => scalars
            .iter()
            .map(|scalar| match scalar {
                Value::Text(text) => text as Parameter<'a>,
                Value::Int(number) => number,
            })
            .collect(),
        Given::Rows(rows) => rows
            .sent()
            .iter()
            .map(|(_, column)| match column {
                Column::Text(values) | Column::Json(values) => values as Parameter<'a>,
                Column::Int(values) => values,
                Column::Time(values) => values,
                Column::Bool(values) => values,
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_credentials() {
        let check = |url: &str, shown: &str| assert_eq!(Target::parse(url).unwrap().to_string(), shown);
        check("postgres://app:secret@db.example:6432/app", "db.example:6432/app");
        check("postgresql://app:secret@db.example", "db.example:5432/app");
        check("postgres://app@db/app?sslmode=require&schema=public&connection_limit=1", "db:5432/app");
        check("postgres://app@%2Frun%2Fpostgresql/app", "/run/postgresql:5432/app");
    }

    #[test]
    fn parameters_of_the_url() {
        let mode = |url: &str| Target::parse(url).map(|target| target.config.get_ssl_mode()).map_err(|e| e.to_string());
        assert_eq!(mode("postgres://a@b/c"), Ok(SslMode::Prefer));
        assert_eq!(mode("postgres://a@b/c?sslmode=disable"), Ok(SslMode::Disable));
        assert_eq!(mode("postgres://a@b/c?sslmode=verify-full"), Ok(SslMode::Require));
        assert!(mode("postgres://a@b/c?sslmode=maybe").is_err());
        assert!(mode("postgres://a@b/c?sslmode=verify-full&sslrootcert=/nowhere").is_err());
        assert!(mode("postgres://a@b:x/c").is_err());
        assert!(Target::parse("postgres://a@b/c").unwrap().keeps_statements);
        assert!(!Target::parse("postgres://a@b/c?pgbouncer=true").unwrap().keeps_statements);
    }
}
