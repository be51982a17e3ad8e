//! A TCP proxy before Redis, a CRM or a daemon, whose faults are switched while it runs.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use contactd::clock::{self, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream, tcp};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

/// What happens to connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Bytes pass.
    Pass,
    /// As if nothing listened: new connections are refused, and the open ones are reset.
    Refuse,
    /// As if the server were stopped or its packets got lost: connections are accepted and read,
    /// nothing comes out at the other side. What was held back is delivered late, once this is
    /// over.
    Stall,
    /// Each connection is reset in the middle of the next reply: half of what was read of it
    /// passes.
    Cut,
    /// Each part of a reply is delayed by this much. Any number of parts may be delayed at the same
    /// time.
    Slow(Duration),
}

#[derive(Debug, Clone, Copy)]
struct State {
    mode: Mode,
    /// Connections that were there when this was counted up are reset.
    hang_ups: usize,
    /// Where new connections lead.
    target: SocketAddr,
}

/// The proxy; it and its connections end when it is dropped.
pub(crate) struct ChaosProxy {
    pub(crate) addr: SocketAddr,
    state: watch::Sender<State>,
    applied: watch::Receiver<Mode>,
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicUsize,
    open: AtomicUsize,
}

/// The port, which is kept while nothing listens on it.
enum CrmClient {
    Open(TcpListener),
    Shut(TcpSocket),
}

impl Drop for ChaosProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ChaosProxy {
    /// A proxy on a free loopback port that passes everything on to `target`.
    pub(crate) async fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (state, states) = watch::channel(State {
            mode: Mode::Pass,
            hang_ups: 0,
            target,
        });
        let (apply, applied) = watch::channel(Mode::Pass);
        let counts = Arc::<Counts>::default();
        let serving = serve(
            CrmClient::Open(listener),
            addr,
            states,
            apply,
            Arc::clone(&counts),
        );
        #[expect(clippy::disallowed_methods, reason = "ends with the test")]
        let task = tokio::spawn(serving);
        Self {
            addr,
            state,
            applied,
            counts,
            task,
        }
    }

    /// Behaves so from now on, towards open connections as well.
    pub(crate) async fn becomes(&self, mode: Mode) {
        self.state.send_modify(|state| state.mode = mode);
        self.applied
            .clone()
            .wait_for(|applied| *applied == mode)
            .await
            .unwrap();
    }

    /// Passes everything again.
    pub(crate) async fn restore(&self) {
        self.becomes(Mode::Pass).await;
    }

    /// Resets the connections that are open now; new ones are treated as before.
    pub(crate) fn hang_up(&self) {
        self.state.send_modify(|state| state.hang_ups += 1);
    }

    /// New connections lead there from now on, as if the name had another address; the open ones
    /// stay where they are.
    pub(crate) fn leads_to(&self, target: SocketAddr) {
        self.state.send_modify(|state| state.target = target);
    }

    /// How many connections were accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.counts.accepted.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.counts.open.load(Ordering::SeqCst)
    }
}

async fn serve(
    mut door: CrmClient,
    addr: SocketAddr,
    mut states: watch::Receiver<State>,
    apply: watch::Sender<Mode>,
    counts: Arc<Counts>,
) {
    let mut connections = JoinSet::new();
    loop {
        let client = tokio::select! {
            changed = states.changed() => {
                if changed.is_err() {
                    return;
                }
                let mode = states.borrow_and_update().mode;
                door = door.turned(mode, addr).await;
                apply.send_replace(mode);
                continue;
            }
            client = door.accept() => client,
            Some(_) = connections.join_next() => continue,
        };
        counts.accepted.fetch_add(1, Ordering::SeqCst);
        counts.open.fetch_add(1, Ordering::SeqCst);
        let (states, counts) = (states.clone(), Arc::clone(&counts));
        connections.spawn(async move {
            pass(client, states).await;
            counts.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

impl CrmClient {
    async fn turned(self, mode: Mode, addr: SocketAddr) -> Self {
        match (self, mode == Mode::Refuse) {
            (Self::Open(listener), true) => {
                drop(listener);
                let socket = clock::timeout(Duration::from_secs(10), shut(addr)).await;
                Self::Shut(socket.expect("nobody else listens"))
            }
            (Self::Shut(socket), false) => Self::Open(socket.listen(1024).unwrap()),
            (unchanged, _) => unchanged,
        }
    }

    async fn accept(&self) -> TcpStream {
        match self {
            Self::Open(listener) => listener.accept().await.unwrap().0,
            Self::Shut(_) => std::future::pending().await,
        }
    }
}

/// A socket that keeps the port and does not listen. If another thread has just started a process,
/// that process has the listening socket too until its own program begins.
async fn shut(addr: SocketAddr) -> TcpSocket {
    loop {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        if socket.bind(addr).is_ok() {
            return socket;
        }
        clock::sleep(Duration::from_millis(1)).await;
    }
}

/// Carries one connection until both sides have closed it, or resets it.
async fn pass(mut client: TcpStream, mut states: watch::Receiver<State>) {
    let State {
        hang_ups: before,
        target,
        ..
    } = *states.borrow();
    let Ok(mut server) = TcpStream::connect(target).await else {
        return client.set_zero_linger().unwrap();
    };
    for stream in [&client, &server] {
        stream.set_nodelay(true).unwrap();
    }
    let whole = {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let requests = pump(from_client, to_server, states.clone(), false);
        let replies = pump(from_server, to_client, states.clone(), true);
        tokio::select! {
            ended = async { tokio::try_join!(requests, replies) } => ended.is_ok(),
            _ = states.wait_for(|state| state.mode == Mode::Refuse || state.hang_ups != before) => false,
        }
    };
    if !whole {
        client.set_zero_linger().unwrap();
        server.set_zero_linger().unwrap();
    }
}

/// Carries one direction to its end. An error means that the connection must be reset.
async fn pump(
    from: tcp::ReadHalf<'_>,
    to: tcp::WriteHalf<'_>,
    states: watch::Receiver<State>,
    is_reply: bool,
) -> io::Result<()> {
    let (hand_on, parts) = mpsc::unbounded_channel();
    let reading = read(from, hand_on, states.clone(), is_reply);
    tokio::try_join!(reading, write(to, parts, states, is_reply)).map(|_| ())
}

/// What was read, and when it may go on.
type Part = (Instant, Vec<u8>);

async fn read(
    mut from: tcp::ReadHalf<'_>,
    hand_on: mpsc::UnboundedSender<Part>,
    states: watch::Receiver<State>,
    is_reply: bool,
) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = from.read(&mut buffer).await?;
        let delay = match states.borrow().mode {
            Mode::Slow(delay) if is_reply => delay,
            _ => Duration::ZERO,
        };
        let sent = hand_on.send((clock::now() + delay, buffer[..count].to_vec()));
        if count == 0 || sent.is_err() {
            return Ok(());
        }
    }
}

async fn write(
    mut to: tcp::WriteHalf<'_>,
    mut parts: mpsc::UnboundedReceiver<Part>,
    mut states: watch::Receiver<State>,
    is_reply: bool,
) -> io::Result<()> {
    while let Some((at, part)) = parts.recv().await {
        clock::sleep_until(at).await;
        let passing = states.wait_for(|state| state.mode != Mode::Stall).await;
        let mode = passing.map_err(|_| io::ErrorKind::BrokenPipe)?.mode;
        match part.len() {
            0 => return to.shutdown().await,
            count if mode == Mode::Cut && is_reply => {
                to.write_all(&part[..count / 2]).await?;
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            _ => to.write_all(&part).await?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use contactd::clock::{Stopwatch, timeout};

    use super::*;
    use crate::support::eventually;
    use crate::support::ports::StartingProcesses;

    /// A server that says everything twice.
    async fn twice() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        #[expect(clippy::disallowed_methods, reason = "ends with the test")]
        drop(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let mut buffer = [0; 64];
                    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                        let reply = [&buffer[..count], &buffer[..count]].concat();
                        stream.write_all(&reply).await.unwrap();
                    }
                });
            }
        }));
        addr
    }

    /// Sends `text`; what comes back before the connection breaks or is silent for a while.
    async fn say(stream: &mut TcpStream, text: &str) -> (String, io::Result<()>) {
        stream.write_all(text.as_bytes()).await.unwrap();
        hear(stream, text.len() * 2).await
    }

    async fn hear(stream: &mut TcpStream, expected: usize) -> (String, io::Result<()>) {
        let mut heard = Vec::new();
        while heard.len() < expected {
            match timeout(Duration::from_millis(300), stream.read_buf(&mut heard)).await {
                Some(Ok(1..)) => {}
                Some(Ok(_)) => {
                    return (
                        String::from_utf8(heard).unwrap(),
                        Err(io::ErrorKind::UnexpectedEof.into()),
                    );
                }
                Some(Err(error)) => return (String::from_utf8(heard).unwrap(), Err(error)),
                None => {
                    return (
                        String::from_utf8(heard).unwrap(),
                        Err(io::ErrorKind::TimedOut.into()),
                    );
                }
            }
        }
        (String::from_utf8(heard).unwrap(), Ok(()))
    }

    fn broken(said: (String, io::Result<()>)) -> (String, io::ErrorKind) {
        (said.0, said.1.unwrap_err().kind())
    }

    #[tokio::test]
    async fn each_fault_shows_and_passes() {
        let proxy = ChaosProxy::before(twice().await).await;
        let connect = || TcpStream::connect(proxy.addr);
        let mut old = connect().await.unwrap();
        assert_eq!(say(&mut old, "ab").await.0, "abab");

        proxy.becomes(Mode::Stall).await;
        let mut new = connect().await.unwrap();
        for stream in [&mut old, &mut new] {
            assert_eq!(
                broken(say(stream, "cd").await),
                (String::new(), io::ErrorKind::TimedOut)
            );
        }
        proxy.restore().await;
        for stream in [&mut old, &mut new] {
            assert_eq!(
                hear(stream, 4).await.0,
                "cdcd",
                "what was held back comes late"
            );
        }

        proxy.becomes(Mode::Cut).await;
        assert_eq!(
            broken(say(&mut old, "ef").await),
            ("ef".to_owned(), io::ErrorKind::ConnectionReset)
        );
        proxy.restore().await;
        assert_eq!(
            say(&mut new, "gh").await.0,
            "ghgh",
            "it had no reply under way"
        );

        proxy.hang_up();
        assert_eq!(
            broken(hear(&mut new, 1).await).1,
            io::ErrorKind::ConnectionReset
        );
        let mut newest = connect().await.unwrap();
        assert_eq!(say(&mut newest, "ij").await.0, "ijij");

        proxy.becomes(Mode::Refuse).await;
        assert_eq!(
            broken(hear(&mut newest, 1).await).1,
            io::ErrorKind::ConnectionReset
        );
        assert_eq!(
            connect().await.unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
        proxy.restore().await;
        assert_eq!(say(&mut connect().await.unwrap(), "kl").await.0, "klkl");
        assert_eq!(proxy.accepted(), 4);
        eventually("the last one closes", || proxy.open() == 0).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn connections_are_refused_at_once_although_other_threads_start_processes() {
        let proxy = ChaosProxy::before(twice().await).await;
        let starting = StartingProcesses::on_threads(3);
        for _ in 0..1_000 {
            proxy.becomes(Mode::Refuse).await;
            let refused = TcpStream::connect(proxy.addr).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            proxy.restore().await;
            TcpStream::connect(proxy.addr).await.unwrap();
        }
        drop(starting);
    }

    #[tokio::test]
    async fn slow_replies_are_on_their_way_together() {
        let proxy = ChaosProxy::before(twice().await).await;
        proxy.becomes(Mode::Slow(Duration::from_millis(200))).await;
        let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
        let stopwatch = Stopwatch::start();
        for _ in 0..20 {
            stream.write_all(b"ab").await.unwrap();
        }
        assert_eq!(hear(&mut stream, 80).await.0, "ab".repeat(40));
        let took = stopwatch.elapsed();
        assert!(
            took >= Duration::from_millis(200) && took < Duration::from_secs(3),
            "{took:?}"
        );
    }

    #[tokio::test]
    async fn a_target_that_is_not_there_resets_the_connection() {
        let proxy = ChaosProxy::before("127.0.0.1:1".parse().unwrap()).await;
        let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
        assert_eq!(
            broken(hear(&mut stream, 1).await).1,
            io::ErrorKind::ConnectionReset
        );
    }
}
