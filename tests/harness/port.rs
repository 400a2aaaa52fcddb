//! Free ports on loopback.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::net::TcpStream;
use std::sync::Mutex;

/// Below what Linux gives to outgoing connections (32768 and up), so that nobody takes the port of a broker or a receiver while
/// it is stopped and means to come back to the same one.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// Those given out by this process.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port on 127.0.0.1 that nobody listens on, never given out twice by one process.
pub fn free_port() -> u16 {
    let mut given = GIVEN.lock().unwrap();
    for n in 0..1000_u32 {
        let random = RandomState::new().hash_one(n) % u64::from(PORTS.end - PORTS.start);
        let port = PORTS.start + u16::try_from(random).expect("smaller than the range");
        // Asked by connecting, not by listening: a child that is being forked elsewhere would hold the listening socket for a moment.
        if !given.contains(&port) && TcpStream::connect(("127.0.0.1", port)).is_err() {
            given.insert(port);
            return port;
        }
    }
    panic!("no free port on 127.0.0.1 in {PORTS:?}");
}
