//! A small TCP proxy with weather: what stands between the instances and each broker.
//!
//! Two threads a connection. In a frozen network bytes are held, as by a router that has died: both ends believe that
//! they are connected, and what was sent before arrives long after, when nobody waits for it any more.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How often a thread that has nothing to do looks at the weather.
const LOOK: Duration = Duration::from_millis(20);
/// How long a slow network keeps each piece.
const SLOW: Duration = Duration::from_millis(150);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Weather {
    Clear,
    /// Connections are closed, and new ones too.
    Closed,
    /// Of every second connection nothing gets through.
    Frozen,
    /// Every piece is late.
    Slow,
}

/// One proxy; it ends when dropped.
pub struct Proxy {
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    weather: AtomicU8,
    ended: AtomicBool,
    accepted: AtomicUsize,
    /// Both ends of each connection, by its number.
    open: Mutex<BTreeMap<usize, [Arc<TcpStream>; 2]>>,
}

impl State {
    fn is(&self, weather: Weather) -> bool {
        self.weather.load(Ordering::SeqCst) == weather as u8
    }

    fn close(&self, number: usize) {
        if let Some(ends) = self.open.lock().unwrap().remove(&number) {
            shut(&ends);
        }
    }

    fn close_all(&self) {
        for ends in std::mem::take(&mut *self.open.lock().unwrap()).values() {
            shut(ends);
        }
    }
}

/// The other side may have closed it already.
fn shut(ends: &[Arc<TcpStream>; 2]) {
    for end in ends {
        let _ = end.shutdown(Shutdown::Both);
    }
}

impl Proxy {
    /// Listens on one port of this machine and connects to another for each client.
    pub fn start(front: u16, back: u16) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", front)).expect("the port is free");
        let state = Arc::new(State::default());
        let proxy = Proxy { state: Arc::clone(&state) };
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if state.ended.load(Ordering::SeqCst) {
                    return;
                }
                if state.is(Weather::Closed) {
                    continue;
                }
                // A broker that is down refuses: so does the proxy then.
                let Ok(client) = client else { continue };
                let Ok(server) = TcpStream::connect(("127.0.0.1", back)) else { continue };
                join(&state, client, server);
            }
        });
        proxy
    }

    pub fn set(&self, weather: Weather) {
        self.state.weather.store(weather as u8, Ordering::SeqCst);
        if weather == Weather::Closed {
            self.state.close_all();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        self.set(Weather::Closed);
        self.set(Weather::Clear); // threads that hold something let go of it
    }
}

fn join(state: &Arc<State>, client: TcpStream, server: TcpStream) {
    let number = state.accepted.fetch_add(1, Ordering::SeqCst);
    let ends = [Arc::new(client), Arc::new(server)];
    state.open.lock().unwrap().insert(number, ends.clone());
    let [client, server] = ends;
    for (from, to) in [(&client, &server), (&server, &client)] {
        from.set_nodelay(true).expect("a socket option");
        let (state, from, to) = (Arc::clone(state), Arc::clone(from), Arc::clone(to));
        let pump = std::thread::Builder::new().stack_size(128 << 10);
        pump.spawn(move || pass_on(&state, number, &from, &to)).expect("a thread");
    }
}

/// Copies until one side is gone.
fn pass_on(state: &State, number: usize, mut from: &TcpStream, mut to: &TcpStream) {
    let mut buffer = vec![0; 32 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if state.is(Weather::Slow) {
            std::thread::sleep(SLOW);
        }
        while number.is_multiple_of(2) && state.is(Weather::Frozen) {
            std::thread::sleep(LOOK);
        }
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    state.close(number);
}

#[test]
fn the_proxy_carries_holds_and_cuts() {
    let echo = TcpListener::bind("127.0.0.1:0").unwrap();
    let back = echo.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in echo.incoming() {
            let mut stream = stream.unwrap();
            let mut copy = stream.try_clone().unwrap();
            std::thread::spawn(move || std::io::copy(&mut copy, &mut stream));
        }
    });
    let front = {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let proxy = Proxy::start(front, back);
    let mut client = TcpStream::connect(("127.0.0.1", front)).unwrap();
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut said = [0; 5];
    client.write_all(b"hello").unwrap();
    client.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"hello");
    proxy.set(Weather::Frozen);
    client.write_all(b"again").unwrap();
    assert!(client.read_exact(&mut said).is_err(), "held");
    proxy.set(Weather::Clear);
    client.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"again");
    proxy.set(Weather::Closed);
    assert!(matches!(client.read(&mut said), Ok(0) | Err(_)), "closed");
}
