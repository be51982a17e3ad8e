//! A redis-server on a free port, without persistence.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;

/// It ends when it is dropped.
#[derive(Debug)]
pub(super) struct RedisServer {
    pub(super) url: String,
    server: Child,
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl RedisServer {
    /// Returns once it accepts connections.
    pub(super) fn start() -> anyhow::Result<Self> {
        let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let port = addr.port().to_string();
        let server = Command::new("redis-server")
            .args(["--port", &port, "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .context("this needs redis-server")?;
        let redis = Self {
            url: format!("redis://127.0.0.1:{port}"),
            server,
        };
        while TcpStream::connect(addr).is_err() {
            thread::sleep(Duration::from_millis(20));
        }
        Ok(redis)
    }
}
