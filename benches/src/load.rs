//! The load: connections that send deliveries, in a closed loop or at a fixed rate.
//!
//! All connections share one thread, so that the generator takes as little as possible of the machine that it measures.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, anyhow};
use hdrhistogram::Histogram;
use tokio::sync::{Mutex, mpsc};
use tokio::task::LocalSet;

use crate::http::Connection;
use crate::procfs;
use faircopy_bench::delivery::{Layout, Request, Subjects};

/// Svix waits 15 s for an answer; whoever takes twice as long is stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Arrivals that may wait for a connection at a fixed rate: some seconds' worth, after which the rate is too high.
const MAX_WAITING: usize = 100_000;

/// Latencies are kept to three digits, which is a thousandth.
const LATENCY_DIGITS: u8 = 3;

/// When deliveries are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Arrivals {
    /// Each connection sends its next delivery when the last one was answered.
    Closed,
    /// A fixed number a second, evenly spaced, however long the answers take. A latency counts from the planned moment.
    Fixed {
        /// How many.
        per_second: f64,
    },
}

/// What to send, where and when.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The servers; connections are spread over them.
    pub(crate) targets: Vec<SocketAddr>,
    /// How many connections there are in all.
    pub(crate) connections: usize,
    /// When deliveries are sent.
    pub(crate) arrivals: Arrivals,
    /// What is sent.
    pub(crate) work: Work,
}

/// What is sent.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// Deliveries about these.
    Deliveries(Subjects),
    /// These requests in turn.
    Requests(Arc<Vec<Vec<u8>>>),
}

/// What became of the deliveries.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Answered 200, from first to last.
    pub(crate) acknowledged: u64,
    /// Those of them that were measured, window by window; the first one is always there.
    pub(crate) windows: Vec<Window>,
    /// Other answers by status; 0 stands for a broken connection or no answer in time.
    pub(crate) refused: BTreeMap<u16, u64>,
}

/// What was answered 200 in a measured window.
#[derive(Debug)]
pub(crate) struct Window {
    /// How many.
    pub(crate) measured: u64,
    /// Their latencies, in microseconds.
    pub(crate) latencies: Histogram<u64>,
}

impl Window {
    fn new() -> Window {
        let longest_us = u64::try_from(2 * ANSWER_WITHIN.as_micros()).expect("a minute in microseconds");
        let latencies = Histogram::new_with_max(longest_us, LATENCY_DIGITS).expect("three digits are allowed");
        Window { measured: 0, latencies }
    }

    fn count(&mut self, latency: Duration) {
        self.measured += 1;
        self.latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }
}

impl Tally {
    fn new() -> Tally {
        Tally { acknowledged: 0, windows: vec![Window::new()], refused: BTreeMap::new() }
    }

    fn window(&mut self, number: usize) -> &mut Window {
        if self.windows.len() <= number {
            self.windows.resize_with(number + 1, Window::new);
        }
        &mut self.windows[number]
    }

    fn add(&mut self, other: &Tally) -> Result<()> {
        self.acknowledged += other.acknowledged;
        for (number, window) in other.windows.iter().enumerate() {
            let sum = self.window(number);
            sum.measured += window.measured;
            sum.latencies.add(&window.latencies).map_err(|error| anyhow!("{error}"))?;
        }
        for (status, count) in &other.refused {
            *self.refused.entry(*status).or_default() += count;
        }
        Ok(())
    }
}

/// The phases: nothing is measured, then one window after the other from 1 on, then nothing is sent any more.
const WARM_UP: u8 = 0;
const STOP: u8 = u8::MAX;

/// A load that runs on a thread of its own.
pub(crate) struct Load {
    phase: Arc<AtomicU8>,
    cpu_ticks: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<Tally>>>,
}

impl Load {
    /// Starts to send.
    pub(crate) fn start(plan: Plan) -> Load {
        let phase = Arc::new(AtomicU8::new(WARM_UP));
        let cpu_ticks = Arc::new(AtomicU64::new(0));
        let thread = {
            let phase = Arc::clone(&phase);
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(LocalSet::new().run_until(send_all(plan, phase)))
            })
        };
        Load { phase, cpu_ticks, thread: Some(thread) }
    }

    /// From now on answers are measured: in the first window, and in another one each time that this is called again.
    pub(crate) fn measure(&self) {
        self.cpu_ticks.store(procfs::own_ticks(), Ordering::Relaxed);
        self.phase.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends the measurement; what is in flight is still answered. Gives the CPU seconds of this program in the last window.
    pub(crate) fn stop(&self) -> f64 {
        self.phase.store(STOP, Ordering::Relaxed);
        procfs::seconds(procfs::own_ticks() - self.cpu_ticks.load(Ordering::Relaxed))
    }

    /// Whether it has ended by itself, which it does only when something is wrong.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the last answers.
    pub(crate) fn finish(mut self) -> Result<Tally> {
        self.phase.store(STOP, Ordering::Relaxed);
        let thread = self.thread.take().context("the load has been finished")?;
        thread.join().map_err(|_| anyhow!("the load generator panicked"))?
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Whoever fails meanwhile leaves nothing behind that sends to a server which is gone.
        self.phase.store(STOP, Ordering::Relaxed);
    }
}

async fn send_all(plan: Plan, phase: Arc<AtomicU8>) -> Result<Tally> {
    let layout = Arc::new(Layout::default());
    let numbers = Arc::new(AtomicU64::new(0));
    let schedule = match plan.arrivals {
        Arrivals::Closed => None,
        Arrivals::Fixed { per_second } => Some(schedule(per_second, Arc::clone(&phase))),
    };
    let schedule = schedule.map(|receiver| Rc::new(Mutex::new(receiver)));
    let mut workers = Vec::new();
    for (index, target) in (0..plan.connections).zip(plan.targets.iter().copied().cycle()) {
        let worker = Worker {
            target,
            connection: Connection::open(target).await.with_context(|| format!("connection {index}"))?,
            requests: match &plan.work {
                Work::Deliveries(subjects) => Requests::Deliveries(Request::new(Arc::clone(&layout), *subjects)),
                Work::Requests(requests) => Requests::Given(Arc::clone(requests)),
            },
            numbers: Arc::clone(&numbers),
            phase: Arc::clone(&phase),
            schedule: schedule.clone(),
            tally: Tally::new(),
        };
        workers.push(tokio::task::spawn_local(worker.run()));
    }
    let mut tally = Tally::new();
    for worker in workers {
        tally.add(&worker.await.context("a connection's task panicked")??)?;
    }
    Ok(tally)
}

/// Plans arrivals on a thread of its own, because the runtime's timers are a millisecond coarse.
fn schedule(per_second: f64, phase: Arc<AtomicU8>) -> mpsc::Receiver<Instant> {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    std::thread::spawn(move || {
        let interval = Duration::from_secs_f64(1.0 / per_second);
        let mut due = Instant::now();
        while phase.load(Ordering::Relaxed) != STOP {
            due += interval;
            let now = Instant::now();
            if due > now {
                std::thread::sleep(due - now);
            }
            // A full queue drops the sender, which ends the load; the round then fails and says so.
            if sender.try_send(due).is_err() {
                return;
            }
        }
    });
    receiver
}

enum Requests {
    Deliveries(Request),
    Given(Arc<Vec<Vec<u8>>>),
}

impl Requests {
    fn write(&mut self, number: u64) -> &[u8] {
        match self {
            Requests::Deliveries(request) => request.write(number, SystemTime::now()),
            Requests::Given(requests) => {
                let at = number % requests.len() as u64;
                &requests[usize::try_from(at).expect("it is less than a length")]
            }
        }
    }
}

struct Worker {
    target: SocketAddr,
    connection: Connection,
    requests: Requests,
    numbers: Arc<AtomicU64>,
    phase: Arc<AtomicU8>,
    schedule: Option<Rc<Mutex<mpsc::Receiver<Instant>>>>,
    tally: Tally,
}

impl Worker {
    async fn run(mut self) -> Result<Tally> {
        while self.phase.load(Ordering::Relaxed) != STOP {
            let planned = match &self.schedule {
                None => None,
                Some(schedule) => match schedule.lock().await.recv().await {
                    Some(due) => Some(due),
                    None => break,
                },
            };
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            let request = self.requests.write(number);
            let from = planned.unwrap_or_else(Instant::now);
            let answer = tokio::time::timeout(ANSWER_WITHIN, self.connection.exchange(request)).await;
            match answer {
                Ok(Ok(200)) => self.count(from.elapsed()),
                Ok(Ok(status)) => *self.tally.refused.entry(status).or_default() += 1,
                Ok(Err(_)) | Err(_) => {
                    eprintln!(
                        "  a request got no answer: {}",
                        answer.map_or("late".into(), |error| format!("{error:?}"))
                    );
                    *self.tally.refused.entry(0).or_default() += 1;
                    self.connection = reconnect(self.target).await?;
                }
            }
        }
        Ok(self.tally)
    }

    fn count(&mut self, latency: Duration) {
        self.tally.acknowledged += 1;
        match self.phase.load(Ordering::Relaxed) {
            WARM_UP | STOP => {}
            window => self.tally.window(usize::from(window) - 1).count(latency),
        }
    }
}

async fn reconnect(target: SocketAddr) -> io::Result<Connection> {
    tokio::time::sleep(Duration::from_millis(10)).await;
    Connection::open(target).await
}
