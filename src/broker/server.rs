//! The thin network face: a listener, a thread per connection, one mutex and one condition variable.
//!
//! A connection reads a frame, has it served, and writes the answer; a request which waits sleeps on the condition
//! variable until the state has changed, or the next deadline of the request or of the state. There is no timer
//! thread: time passes in the state whenever a request touches it, and nobody else could see that it had not.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::handlers::{self, Host, Pending, Step};
use super::state::State;

/// Greatest request, as Kafka's `socket.request.max.bytes`.
const FRAME_BYTES_MAX: usize = 100 * 1024 * 1024;
/// A claimed length is believed so far; beyond it memory is taken as bytes arrive.
const FRAME_BYTES_TRUSTED: usize = 64 * 1024;
/// Most connections at one time: each has a thread.
const CONNECTIONS_MAX: usize = 1_024;
/// Pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// Shortest sleep of a waiting request, so that a deadline of this very millisecond is not spun for.
const SLEEP_MS_MIN: i64 = 1;
/// Longest sleep of a waiting request, a guard against clocks that jump.
const SLEEP_MS_MAX: i64 = 1_000;

/// Wall-clock time that never goes back: read once, then advanced by the monotonic clock.
#[derive(Debug)]
struct Clock {
    began: Instant,
    began_ms: i64,
}

impl Clock {
    #[allow(clippy::disallowed_methods, reason = "a broker is the clock its clients see")]
    fn new() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock {
            began: Instant::now(),
            began_ms: i64::try_from(since_epoch.as_millis()).unwrap_or(0),
        }
    }

    fn now_ms(&self) -> i64 {
        let elapsed = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.began_ms.saturating_add(elapsed)
    }
}

/// What the threads share.
#[derive(Debug)]
pub struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    clock: Clock,
    stopping: AtomicBool,
}

impl Host for Shared {
    fn with<T>(&self, work: impl FnOnce(&mut State, i64) -> T) -> T {
        let mut state = self.lock();
        let before = state.changes();
        let now_ms = self.clock.now_ms();
        state.tick(now_ms);
        let result = work(&mut state, now_ms);
        let changed = state.changes() != before;
        drop(state);
        if changed {
            self.changed.notify_all();
        }
        result
    }
}

impl Shared {
    /// The state stays whole even if a thread died with the lock: its methods do not panic.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Sleeps until the state differs from what it was at `seen`, a deadline passes, or the broker stops.
    fn sleep(&self, seen: u64, deadline_ms: i64) {
        let state = self.lock();
        if state.changes() != seen || self.is_stopping() {
            return;
        }
        let next = state.next_deadline_ms().unwrap_or(i64::MAX).min(deadline_ms);
        let sleep_ms = next.saturating_sub(self.clock.now_ms()).clamp(SLEEP_MS_MIN, SLEEP_MS_MAX);
        let sleep = Duration::from_millis(sleep_ms.unsigned_abs());
        drop(self.changed.wait_timeout(state, sleep));
    }
}

/// The running server.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    /// Binds loopback, on any free port for 0, and serves the state `make` gives for the address.
    ///
    /// # Errors
    /// What the system says if the port cannot be bound or the thread not begun.
    pub fn start(port: u16, make: impl FnOnce(SocketAddr) -> State) -> io::Result<Server> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            state: Mutex::new(make(address)),
            changed: Condvar::new(),
            clock: Clock::new(),
            stopping: AtomicBool::new(false),
        });
        let for_thread = Arc::clone(&shared);
        let acceptor = Builder::new()
            .name(format!("kb{}-accept", address.port()))
            .spawn(move || accept_all(&listener, &for_thread))?;
        Ok(Server { shared, address, acceptor: Some(acceptor) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Runs `work` with the state and the present time.
    pub fn with<T>(&self, work: impl FnOnce(&mut State, i64) -> T) -> T {
        self.shared.with(work)
    }

    /// Closes every connection and waits for every thread.
    pub fn stop(&mut self) {
        let Some(acceptor) = self.acceptor.take() else {
            return;
        };
        // Under the lock, or a request about to sleep could miss it.
        let state = self.shared.lock();
        self.shared.stopping.store(true, Ordering::Release);
        drop(state);
        self.shared.changed.notify_all();
        // The acceptor sleeps in accept: one more connection wakes it.
        drop(TcpStream::connect(self.address));
        if acceptor.join().is_err() {
            tracing::error!("embedded broker's accept thread panicked");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A connection's thread, and its socket to close it by.
struct Connection {
    thread: JoinHandle<()>,
    socket: TcpStream,
}

fn accept_all(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut connections: BTreeMap<u64, Connection> = BTreeMap::new();
    let mut next = 0;
    loop {
        let accepted = listener.accept();
        if shared.is_stopping() {
            break;
        }
        let Ok((socket, _)) = accepted else {
            // Too many open files, or a client that has gone already: neither is for ever.
            tracing::warn!("embedded broker cannot accept a connection");
            std::thread::sleep(ACCEPT_PAUSE);
            continue;
        };
        connections.retain(|_, connection| !connection.thread.is_finished());
        if connections.len() >= CONNECTIONS_MAX {
            tracing::warn!(
                limit = CONNECTIONS_MAX,
                "embedded broker refuses a connection: too many"
            );
            continue;
        }
        match spawn_connection(socket, Arc::clone(shared), next) {
            Ok(connection) => drop(connections.insert(next, connection)),
            Err(error) => tracing::warn!(%error, "embedded broker cannot serve a connection"),
        }
        next += 1;
    }
    for connection in connections.values() {
        // Fails if the client closed it first, which is as good.
        let _ = connection.socket.shutdown(Shutdown::Both);
    }
    for (_, connection) in connections {
        if connection.thread.join().is_err() {
            tracing::error!("an embedded broker's connection thread panicked");
        }
    }
}

fn spawn_connection(socket: TcpStream, shared: Arc<Shared>, number: u64) -> io::Result<Connection> {
    socket.set_nodelay(true)?;
    // Fifteen characters are what the system keeps of a name.
    let port = socket.local_addr()?.port();
    let mut for_thread = socket.try_clone()?;
    let thread = Builder::new().name(format!("kb{port}-{number}")).spawn(move || {
        if let Err(error) = serve_connection(&mut for_thread, &shared) {
            tracing::debug!(%error, number, "embedded broker closes a connection");
        }
        // The acceptor holds another handle on the socket, so dropping ours would not close it.
        let _ = for_thread.shutdown(Shutdown::Both);
    })?;
    Ok(Connection { thread, socket })
}

fn serve_connection(socket: &mut TcpStream, shared: &Shared) -> io::Result<()> {
    while let Some(frame) = read_frame(socket)? {
        let step = handlers::begin(shared, frame).map_err(invalid)?;
        match finish(shared, step)? {
            Step::Reply(response) => socket.write_all(&response)?,
            Step::Silent => {}
            Step::Wait(_) | Step::Close => break,
        }
    }
    Ok(())
}

/// Sees a request through its waits. Gives [`Step::Close`] when the broker stops.
fn finish(shared: &Shared, mut step: Step) -> io::Result<Step> {
    loop {
        let Step::Wait(pending) = step else {
            return Ok(step);
        };
        if shared.is_stopping() {
            return Ok(Step::Close);
        }
        // Read before the state is asked again, so a change in between ends the sleep at once.
        let seen = shared.lock().changes();
        let deadline_ms = pending.deadline_ms;
        step = resume(shared, *pending)?;
        if matches!(step, Step::Wait(_)) {
            shared.sleep(seen, deadline_ms);
        }
    }
}

fn resume(shared: &Shared, pending: Pending) -> io::Result<Step> {
    handlers::resume(shared, pending).map_err(invalid)
}

/// Reads one frame without its length; `None` if the client has closed.
fn read_frame(socket: &mut TcpStream) -> io::Result<Option<Bytes>> {
    let mut length = [0; 4];
    match socket.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let claimed = i32::from_be_bytes(length);
    let length = usize::try_from(claimed).ok().filter(|n| *n <= FRAME_BYTES_MAX);
    let Some(length) = length else {
        return Err(invalid(format!("request of {claimed} bytes, limit {FRAME_BYTES_MAX}")));
    };
    let mut frame = Vec::with_capacity(length.min(FRAME_BYTES_TRUSTED));
    let read = Read::take(&mut *socket, length as u64).read_to_end(&mut frame)?;
    Ok((read == length).then(|| Bytes::from(frame)))
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
