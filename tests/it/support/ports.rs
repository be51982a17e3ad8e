//! Free ports, for the programs that tests start, and for addresses where nobody listens.

use std::net::{Ipv4Addr, SocketAddr};
#[cfg(test)]
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};
#[cfg(test)]
use std::sync::{Arc, atomic::AtomicBool};
#[cfg(test)]
use std::thread::JoinHandle;

use tokio::net::TcpSocket;

/// Ports of these tests: below those that the system gives to connections, one of which would be
/// taken again at once while thousands are opened.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// A port that nobody uses at the moment, and no test was given before.
pub(crate) fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(fastrand::u16(PORTS)));
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        if !PORTS.contains(&port) {
            NEXT.store(PORTS.start, Ordering::Relaxed);
        } else if is_free(port) {
            return port;
        }
    }
}

/// A loopback address with a free port.
pub(crate) fn free_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

/// Returns whether nobody uses the port. The socket never listens. If another thread starts a
/// process at this moment, that process has the socket too until its own program begins. A socket
/// that listens would keep the port and accept connections for so long.
fn is_free(port: u16) -> bool {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, port).into()).is_ok()
}

/// Threads that start processes, one after the other, until this is dropped.
#[cfg(test)]
pub(super) struct StartingProcesses {
    is_done: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

#[cfg(test)]
impl StartingProcesses {
    pub(super) fn on_threads(threads: usize) -> Self {
        let is_done = Arc::<AtomicBool>::default();
        let start = || {
            let is_done = Arc::clone(&is_done);
            std::thread::spawn(move || {
                while !is_done.load(Ordering::Relaxed) {
                    Command::new("true").status().unwrap();
                }
            })
        };
        Self {
            threads: (0..threads).map(|_| start()).collect(),
            is_done,
        }
    }
}

#[cfg(test)]
impl Drop for StartingProcesses {
    fn drop(&mut self) {
        self.is_done.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_free_port_can_be_used_at_once_although_other_threads_start_processes() {
        let starting = StartingProcesses::on_threads(3);
        let kept: Vec<u16> = (0..2_000).map(|_| free_port()).filter(is_kept).collect();
        drop(starting);
        assert!(kept.is_empty(), "{kept:?}");
    }

    /// Returns whether somebody listens on the port, or nobody else can.
    fn is_kept(port: &u16) -> bool {
        let answers = TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_ok();
        answers || TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_err()
    }

    #[test]
    fn a_port_where_somebody_listens_is_not_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(!is_free(listener.local_addr().unwrap().port()));
    }
}
