//! Who calls: phones that ring, batches, people who edit their contacts, and clients without
//! manners.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use contactd::clock::{self, Stopwatch};
use contactd::grpc::client::ContactServiceClient;
use contactd::pb::v1 as pb;
use contactd::pb::v1::invalidate_contacts_request::Scope;
use fastrand::Rng;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::Soak;
use crate::support::fleet::number;
use crate::support::wire::{FIND, head};
use crate::world::{Asked, NUMBERS, PEOPLE};

type Client = ContactServiceClient<Channel>;

/// Calls of one connection before it is replaced.
const CALLS: usize = 500;

fn client(soak: &Soak, replica: usize) -> anyhow::Result<Client> {
    Ok(ContactServiceClient::new(
        Endpoint::from_shared(soak.replicas[replica].grpc.clone())?.connect_lazy(),
    ))
}

fn user(id: usize) -> pb::User {
    pb::User {
        id: format!("user-{id}"),
        platform: "example".to_owned(),
        ..Default::default()
    }
}

/// A number; most calls are about a few of them.
fn a_number(rng: &mut Rng) -> usize {
    if rng.u8(..10) < 8 {
        rng.usize(..10)
    } else {
        rng.usize(..NUMBERS)
    }
}

/// One caller after the other, each at one replica.
pub(super) async fn ring(soak: Arc<Soak>, mut rng: Rng) -> anyhow::Result<()> {
    loop {
        let replica = rng.usize(..soak.replicas.len());
        let client = client(&soak, replica)?;
        for _ in 0..CALLS {
            if !soak
                .goes_on_after(Duration::from_millis(rng.u64(..40)))
                .await
            {
                return Ok(());
            }
            look_up(&soak, client.clone(), replica, &mut rng).await;
        }
    }
}

async fn look_up(soak: &Soak, mut client: Client, replica: usize, rng: &mut Rng) {
    let person = rng.usize(..PEOPLE);
    let asked = Asked {
        replica,
        token: soak.world.token(person, rng),
        user: if rng.u8(..20) == 0 {
            rng.usize(..PEOPLE)
        } else {
            person
        },
        number: a_number(rng),
        began: clock::now(),
    };
    soak.sent[replica].sent(&asked.token, asked.began);
    let trigger = match rng.u8(..20) {
        0 => pb::Trigger::ManualRefresh,
        1 => pb::Trigger::InitialMatch,
        _ => pb::Trigger::IncomingCall,
    };
    let mut request = tonic::Request::new(pb::FindContactRequest {
        user: Some(user(asked.user)),
        auth_header: asked.token.clone(),
        phone_number: number(asked.number),
        trigger: trigger.into(),
        only_if_cached: trigger != pb::Trigger::ManualRefresh && rng.u8(..20) == 0,
        ..Default::default()
    });
    // Some have little time, and some hang up.
    let (deadline, patience) = match rng.u8(..20) {
        0 => (rng.u64(1..50), 5_000),
        1 => (2_000, rng.u64(..30)),
        _ => (2_000, 5_000),
    };
    request.set_timeout(Duration::from_millis(deadline));
    let stopwatch = Stopwatch::start();
    match clock::timeout(
        Duration::from_millis(patience),
        client.find_contact(request),
    )
    .await
    {
        None => soak.figures.count("hung up"),
        Some(Ok(answer)) => {
            let answer = answer.into_inner();
            soak.world.check(&asked, &answer);
            let how = answer.lookup.unwrap_or_default();
            let is_hit =
                how.source() == pb::Source::Memory && how.freshness() == pb::Freshness::Fresh;
            soak.figures.answered(is_hit.then(|| stopwatch.elapsed()));
        }
        Some(Err(status)) => {
            let reason = reason(&status);
            if matches!(reason.as_str(), "CRM_UNAUTHENTICATED" | "CRM_FORBIDDEN") {
                soak.world.refused(&asked);
            }
            soak.figures.count(&reason);
        }
    }
}

fn reason(status: &Status) -> String {
    use tonic_types::StatusExt as _;
    status
        .get_details_error_info()
        .map_or_else(|| format!("{:?}", status.code()), |info| info.reason)
}

/// Batches, each in its own time; some are left in the middle.
pub(super) async fn warm_up(soak: Arc<Soak>, mut rng: Rng) -> anyhow::Result<()> {
    while soak
        .goes_on_after(Duration::from_millis(rng.u64(..2_000)))
        .await
    {
        let person = rng.usize(..PEOPLE);
        let auth_header = soak.world.token(person, &mut rng);
        let replica = rng.usize(..soak.replicas.len());
        soak.sent[replica].sent(&auth_header, clock::now());
        let phone_numbers = (0..rng.usize(1..60))
            .map(|_| number(rng.usize(..NUMBERS)))
            .collect();
        let request = pb::PrefetchContactsRequest {
            user: Some(user(person)),
            auth_header,
            phone_numbers,
            ..Default::default()
        };
        let mut client = client(&soak, replica)?;
        let patience = Duration::from_millis(rng.choice([50, 500, 30_000]).unwrap_or(500));
        let run = async {
            let mut events = client.prefetch_contacts(request).await?.into_inner();
            while events.message().await?.is_some() {}
            Ok::<_, Status>(())
        };
        match clock::timeout(patience, run).await {
            None => soak.figures.count("batch left"),
            Some(Ok(())) => soak.figures.count("batch done"),
            Some(Err(status)) => soak.figures.count(&format!("batch {}", reason(&status))),
        }
    }
    Ok(())
}

/// Edits contacts, each with the invalidation that belongs to it, and renews tokens.
pub(super) async fn edit(soak: Arc<Soak>, mut rng: Rng) -> anyhow::Result<()> {
    while soak
        .goes_on_after(Duration::from_millis(rng.u64(..200)))
        .await
    {
        if rng.u8(..20) == 0 {
            soak.world.rotate(rng.usize(..PEOPLE));
        }
        let (replica, person) = (rng.usize(..soak.replicas.len()), rng.usize(..PEOPLE));
        let edited: Vec<_> = if rng.u8(..100) == 0 {
            (0..NUMBERS).collect()
        } else {
            vec![a_number(&mut rng)]
        };
        let oldest: Vec<_> = edited.iter().map(|n| (*n, soak.world.edit(*n))).collect();
        let scope = match edited.len() {
            1 => Scope::Numbers(pb::PhoneNumbers {
                phone_numbers: vec![number(edited[0])],
            }),
            _ => Scope::Everything(true),
        };
        let request = pb::InvalidateContactsRequest {
            user: Some(user(person)),
            scope: Some(scope),
        };
        match client(&soak, replica)?.invalidate_contacts(request).await {
            Ok(_) => {
                soak.world.forgot(replica, person, &oldest);
                soak.figures.count("forgotten");
            }
            Err(status) => soak
                .figures
                .count(&format!("invalidation {}", reason(&status))),
        }
    }
    Ok(())
}

/// Look-ups in a CRM that sends early hints without end.
pub(super) async fn take_hints(soak: Arc<Soak>, mut rng: Rng) -> anyhow::Result<()> {
    while soak.goes_on_after(Duration::from_secs(5)).await {
        let request = pb::FindContactRequest {
            user: Some(pb::User {
                platform: "hints".to_owned(),
                ..user(0)
            }),
            auth_header: "Bearer any".to_owned(),
            phone_number: number(a_number(&mut rng)),
            ..Default::default()
        };
        match client(&soak, rng.usize(..soak.replicas.len()))?
            .find_contact(request)
            .await
        {
            Ok(_) => soak.world.fault("an answer out of early hints".to_owned()),
            Err(status) => soak.figures.count(&format!("hints {}", reason(&status))),
        }
    }
    Ok(())
}

/// Connections that say nothing, stop in the middle, reset what they began, or hold what they
/// opened.
pub(super) async fn misbehave(soak: Arc<Soak>, mut rng: Rng) -> anyhow::Result<()> {
    while soak
        .goes_on_after(Duration::from_millis(rng.u64(..400)))
        .await
    {
        let replica = &soak.replicas[rng.usize(..soak.replicas.len())];
        let addr = |url: &str| url.trim_start_matches("http://").parse().ok();
        let (Some(grpc), Some(ops)) = (addr(&replica.grpc), addr(&replica.ops)) else {
            continue;
        };
        let (kind, hold) = (rng.u8(..6), Duration::from_millis(rng.u64(..4_000)));
        // That it is cut off is what they deserve.
        let _ = rude(kind, grpc, ops, hold).await;
    }
    Ok(())
}

async fn rude(kind: u8, grpc: SocketAddr, ops: SocketAddr, hold: Duration) -> anyhow::Result<()> {
    match kind {
        0..3 => {
            let (addr, words) = [
                (grpc, &b"PRI * HTTP/2.0\r\n"[..]),
                (grpc, b"GET / HTTP/1.1\r\n\r\n"),
                (ops, b"GET /metrics HTTP/1.1\r\nx: "),
            ][usize::from(kind)];
            let mut stream = TcpStream::connect(addr).await?;
            stream.write_all(words).await?;
            clock::sleep(hold).await;
        }
        3 | 4 => {
            let (sender, connection) =
                h2::client::handshake(TcpStream::connect(grpc).await?).await?;
            let calls = async {
                let mut open = Vec::new();
                for _ in 0..50 {
                    let (_, mut upload) = sender
                        .clone()
                        .ready()
                        .await?
                        .send_request(head(grpc, FIND), false)?;
                    upload.send_data(vec![0, 0, 0, 1, 0, 8].into(), false)?;
                    if kind == 3 {
                        upload.send_reset(h2::Reason::CANCEL);
                    }
                    open.push(upload);
                }
                clock::sleep(hold).await;
                anyhow::Ok(())
            };
            tokio::select! { _ = connection => {}, ended = calls => ended? }
        }
        _ => {
            for _ in 0..20 {
                crate::figures::page(&format!("http://{ops}"), "/").await?;
                crate::figures::page(&format!("http://{ops}"), "/status.json").await?;
            }
        }
    }
    Ok(())
}
