//! A proxy (Kamailio), phones and callers (sipp), and what they sent each other.

use std::fs;
use std::net::UdpSocket;
use std::process::{Child, Output, Stdio};
use std::time::Duration;

use contactd::clock;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::task::spawn_blocking;

use super::{Example, words};
use crate::support::outside::program;
use crate::support::ports::free_port;

/// A process that ends with the test, and gets the chance to end its children.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        let _ = kill(pid, Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// The example of Kamailio between a caller and a phone.
pub(super) struct Exchange {
    example: Example,
    ports: [u16; 2],
    _running: [Running; 2],
}

/// One INVITE that a phone received.
#[derive(Debug)]
pub(super) struct Invite {
    /// Seconds between sending it and receiving it.
    pub(super) took: f64,
    lines: Vec<String>,
}

impl Invite {
    /// The only header of this name, or none.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.lines.iter().filter_map(|line| {
            let (header, value) = line.split_once(": ")?;
            (header == name).then_some(value)
        });
        let value = values.next();
        assert!(values.next().is_none(), "one {name} in {self:?}");
        value
    }

    /// What a phone shows: the display name of `From`, read as RFC 3261 says.
    pub(super) fn shown(&self) -> String {
        let rest = self.header("From").unwrap().strip_prefix('"').unwrap();
        let (mut shown, mut characters) = (String::new(), rest.chars());
        loop {
            match characters.next().expect("a quoted string ends") {
                '"' => break,
                '\\' => shown.push(characters.next().unwrap()),
                other => shown.push(other),
            }
        }
        assert!(characters.as_str().starts_with(" <sip:"), "{self:?}");
        shown
    }
}

/// Waits until the proxy answers.
async fn answers(port: u16) {
    let ready = spawn_blocking(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let own = socket.local_addr().unwrap();
        let options = format!(
            "OPTIONS sip:agent@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK1\r\nMax-Forwards: 1\r\n\
             From: <sip:a@127.0.0.1>;tag=1\r\nTo: <sip:b@127.0.0.1>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n\
             Content-Length: 0\r\n\r\n"
        );
        (0..200).any(|_| {
            // While nobody listens, sending or receiving fails at once or later.
            let sent = socket.send_to(options.as_bytes(), ("127.0.0.1", port));
            sent.and_then(|_| socket.recv(&mut [0; 1500])).is_ok()
        })
    });
    assert!(ready.await.unwrap(), "kamailio does not answer");
}

impl Exchange {
    /// With this contactd, by the commands of the example's page.
    pub(super) async fn with(contactd: &str) -> Self {
        Self::from(Example::new("kamailio"), contactd).await
    }

    /// The same without the line of `caller-name.cfg` that has this word.
    pub(super) async fn without(word: &str, contactd: &str) -> Self {
        let example = Example::new("kamailio");
        let file = example.path().join("caller-name.cfg");
        let text = fs::read_to_string(&file).unwrap();
        let (out, kept): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.contains(word));
        assert_eq!(out.len(), 1, "one line has {word}");
        fs::write(&file, kept.join("\n")).unwrap();
        Self::from(example, contactd).await
    }

    async fn from(example: Example, contactd: &str) -> Self {
        let _ = [program("kamailio"), program("sipp")];
        let ports = [free_port(), free_port()];
        let blocks = example.blocks("sh");
        let start = |block: &str, log: &str| {
            let log = fs::File::create(example.path().join(log)).unwrap();
            let mut shell = example.shell(&at(&ports, contactd, block), &[]);
            shell.stdin(Stdio::null()).stdout(log.try_clone().unwrap());
            Running(shell.stderr(log).spawn().unwrap())
        };
        // A phone of a test takes many calls.
        let phone = start(&blocks[2].replace(" -m 1 ", " "), "phone.log");
        let proxy = start(&blocks[1], "kamailio.log");
        answers(ports[0]).await;
        Self {
            example,
            ports,
            _running: [phone, proxy],
        }
    }

    /// A call, by the command of the page. `more` are further arguments.
    pub(super) async fn call(&self, caller: &str, log: &str, more: &str) -> Output {
        let block = &self.example.blocks("sh")[3];
        let block = block
            .replace("sip:+15125373573@example.com", &format!("'{caller}'"))
            .replace("-p 5080", "-p 0 -timeout 20")
            .replace("caller.txt", log);
        let line = at(&self.ports, "", &format!("{} {more}", block.trim_end()));
        self.example.run(&line, &[]).await
    }

    /// A call that goes through. Returns the INVITE that the phone got.
    pub(super) async fn rings(&self, caller: &str) -> Invite {
        self.rings_as(caller, "").await
    }

    /// The same with more arguments.
    pub(super) async fn rings_as(&self, caller: &str, more: &str) -> Invite {
        let user = caller.trim_matches(|c: char| !c.is_ascii_digit() && c != '+');
        let log = format!(
            "caller-{}.txt",
            user.replace(|c: char| !c.is_ascii_digit(), "")
        );
        let output = self.call(caller, &log, more).await;
        let proxy = self.log();
        assert_eq!(output.status.code(), Some(0), "{}\n{proxy}", words(&output));
        let sent = self.messages(&log);
        let of_caller = format!("<{caller}>");
        let is_ours = |(_, lines): &&(f64, Vec<String>)| {
            lines[0].starts_with("INVITE ") && lines.iter().any(|line| line.contains(&of_caller))
        };
        let received = self.messages("phone.txt");
        let (arrived, lines) = received.iter().find(is_ours).expect("the phone rang");
        let (left, _) = sent.iter().find(is_ours).unwrap();
        Invite {
            took: arrived - left,
            lines: lines.clone(),
        }
    }

    /// All messages that somebody sent or received, with the second of the day.
    pub(super) fn messages(&self, log: &str) -> Vec<(f64, Vec<String>)> {
        let text = self.text(log);
        let blocks = text.split("----------------------------------------------- ");
        blocks
            .skip(1)
            .map(|block| {
                let (head, message) = block.split_once("\n\n").unwrap();
                let time = head.split_whitespace().nth(1).unwrap();
                let parts = time.split(':').map(|part| part.parse::<f64>().unwrap());
                let seconds = parts.fold(0.0, |sum, part| sum * 60.0 + part);
                let lines = message
                    .lines()
                    .map(|line| line.trim_end_matches('\r').to_owned());
                (seconds, lines.collect())
            })
            .collect()
    }

    pub(super) fn text(&self, file: &str) -> String {
        let bytes = fs::read(self.example.path().join(file)).unwrap_or_default();
        String::from_utf8(bytes).expect("messages are UTF-8")
    }

    /// What the proxy logged.
    pub(super) fn log(&self) -> String {
        self.text("kamailio.log")
    }

    pub(super) fn example(&self) -> &Example {
        &self.example
    }

    /// Waits until the phone has got so many INVITEs; fails after ten seconds.
    pub(super) async fn rang(&self, times: usize) {
        for _ in 0..200 {
            let messages = self.messages("phone.txt");
            let invites = messages
                .iter()
                .filter(|(_, lines)| lines[0].starts_with("INVITE"));
            if invites.count() >= times {
                return;
            }
            clock::sleep(Duration::from_millis(50)).await;
        }
        panic!("the phone did not ring {times} times");
    }
}

/// The command of the page, with free ports and this contactd.
fn at([proxy, phone]: &[u16; 2], contactd: &str, block: &str) -> String {
    // A free port may have the digits of another one of the page, so names go in first.
    block
        .replace("5060", "PROXY")
        .replace("5070", "PHONE_PORT")
        .replace(
            "kamailio -f",
            "exec kamailio -A 'CONTACTD=\"SERVER\"' -A 'PHONE=\"sip:127.0.0.1:PHONE_PORT\"' -f",
        )
        .replace("sipp -sf", "exec sipp -nostdin -sf")
        .replace("PROXY", &proxy.to_string())
        .replace("PHONE_PORT", &phone.to_string())
        .replace("SERVER", contactd)
}
