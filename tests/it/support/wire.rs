//! Calls over bare HTTP/2, for what a gRPC library is too polite to do. tonic's client ends a call
//! by its own timer when the deadline passes, and so hides what the daemon answers.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use contactd::clock;
use contactd::pb::v1::FindContactRequest;
use h2::client::SendRequest;
use prost::Message;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tonic::Status;
use tonic::codegen::http::{HeaderMap, Request};

pub(crate) const FIND: &str = "/contactd.v1.ContactService/FindContact";

/// HTTP/2's greeting with empty settings, and the word that the server's are accepted.
pub(crate) const HELLO: &[u8] =
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0";

/// What has to be answered.
pub(crate) const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0contactd";

/// Requests that are written at once.
const REQUESTS: usize = 1_000;

/// Requests for a path that nobody serves, on streams from `first` on, and pings, which alone would
/// be read slowly.
fn requests_and_pings(first: u32) -> Vec<u8> {
    let streams = (first..).step_by(2).take(REQUESTS);
    streams
        .flat_map(|stream| {
            [
                b"\0\0\x03\x01\x05",
                &stream.to_be_bytes()[..],
                b"\x83\x86\x84",
                &PING.repeat(4),
            ]
            .concat()
        })
        .collect()
}

/// Takes nothing of what a daemon writes until that fills all buffers, and the daemon therefore
/// reads no further.
pub(crate) async fn stall(stream: &mut TcpStream) {
    stream.write_all(HELLO).await.unwrap();
    for first in (1..).step_by(2 * REQUESTS) {
        let bytes = requests_and_pings(first);
        let written = clock::timeout(Duration::from_secs(5), stream.write_all(&bytes)).await;
        let Some(written) = written else { break };
        written.expect("requests and pings are answered");
    }
}

/// An HTTP/2 connection to a daemon.
pub(crate) async fn connect(addr: SocketAddr) -> SendRequest<Bytes> {
    shake_hands(TcpStream::connect(addr).await.unwrap()).await
}

/// The same from an address of this machine.
pub(crate) async fn connect_from(from: &str, addr: SocketAddr) -> SendRequest<Bytes> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    shake_hands(socket.connect(addr).await.unwrap()).await
}

async fn shake_hands(stream: TcpStream) -> SendRequest<Bytes> {
    // Without it the second frame waits for the acknowledgement of the first one.
    stream.set_nodelay(true).unwrap();
    // A client that never reads replies: the library would end its connection after 131 small ones.
    let mut builder = h2::client::Builder::new();
    let (sender, connection) = builder
        .data_frame_budget(usize::MAX)
        .handshake(stream)
        .await
        .unwrap();
    #[expect(clippy::disallowed_methods, reason = "ends with the last sender")]
    drop(tokio::spawn(connection));
    sender
}

/// A gRPC frame with `message`, uncompressed.
pub(crate) fn frame(message: &impl Message) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.encoded_len()).unwrap());
    frame.put_slice(&message.encode_to_vec());
    frame.freeze()
}

/// The headers of a gRPC call.
pub(crate) fn head(addr: SocketAddr, path: &str) -> Request<()> {
    let request = Request::post(format!("http://{addr}{path}"));
    request
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .body(())
        .unwrap()
}

/// One call: `head` and `body` as they are. The status comes from the trailers, or from the headers
/// if the daemon refuses. A connection or stream that breaks off without one is `Aborted`.
pub(crate) async fn call(
    sender: &SendRequest<Bytes>,
    head: Request<()>,
    body: Bytes,
) -> Result<Bytes, Status> {
    let broken = |error: h2::Error| Status::aborted(format!("broken off: {error}"));
    let mut sender = sender.clone().ready().await.map_err(broken)?;
    let (response, mut upload) = sender.send_request(head, false).map_err(broken)?;
    // A daemon that refuses may have ended the stream by now. Its response says why.
    let _ = upload.send_data(body, true);
    let mut response = response.await.map_err(broken)?;
    if let Some(refusal) = Status::from_header_map(response.headers()) {
        return Err(refusal);
    }
    let mut answer = BytesMut::new();
    while let Some(part) = response.body_mut().data().await {
        let part = part.map_err(broken)?;
        response
            .body_mut()
            .flow_control()
            .release_capacity(part.len())
            .unwrap();
        answer.extend_from_slice(&part);
    }
    let trailers: Option<HeaderMap> = response.body_mut().trailers().await.map_err(broken)?;
    let status = Status::from_header_map(&trailers.unwrap_or_default()).expect("a gRPC status");
    if status.code() == tonic::Code::Ok {
        Ok(answer.freeze())
    } else {
        Err(status)
    }
}

/// A look-up whose deadline the daemon alone watches, and its failure.
pub(crate) async fn failure_within(
    addr: SocketAddr,
    request: &FindContactRequest,
    limit: Duration,
) -> Status {
    let mut head = head(addr, FIND);
    head.headers_mut().insert(
        "grpc-timeout",
        format!("{}m", limit.as_millis()).parse().unwrap(),
    );
    call(&connect(addr).await, head, frame(request))
        .await
        .expect_err("it fails")
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic::codegen::http::Response;

    use super::*;

    /// More than a daemon takes before it has given room for it.
    const LARGE: usize = 1 << 20;

    /// Answers one call after the other before its body is there: by a refusal, or not at all.
    async fn server(refuses: bool) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let serve = async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_request, mut respond))) = connection.accept().await {
                if !refuses {
                    return;
                }
                let refusal = Response::builder().header("grpc-status", "8");
                let refusal = refusal.body(()).unwrap();
                respond.send_response(refusal, true).unwrap();
            }
        };
        #[expect(clippy::disallowed_methods, reason = "ends with the test")]
        drop(tokio::spawn(serve));
        addr
    }

    async fn answer_of(addr: SocketAddr) -> Code {
        let body = Bytes::from(vec![0; LARGE]);
        let answer = call(&connect(addr).await, head(addr, FIND), body).await;
        answer.expect_err("it is refused or broken off").code()
    }

    #[tokio::test]
    async fn a_refusal_before_the_body_is_its_status_and_a_break_is_aborted() {
        assert_eq!(answer_of(server(true).await).await, Code::ResourceExhausted);
        assert_eq!(answer_of(server(false).await).await, Code::Aborted);
    }
}
