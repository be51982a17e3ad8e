//! Who calls: phones that ring, batches, people who edit their contacts, and clients without
//! manners.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use contactd::clock;
use contactd::grpc::client::ContactServiceClient;
use contactd::pb::v1 as pb;
use contactd::pb::v1::invalidate_contacts_request::Scope;
use fastrand::Rng;
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tonic::Status;

use super::Soak;
use super::check::Asked;
use super::in_time::{CUT_OFF, NO_REASON};
use super::truth::{Forgotten, NUMBERS, Owner, PEOPLE};
use super::verdicts::Wrong;
use crate::support::fleet::number;
use crate::support::wire::{FIND, head};

/// Unlike tonic's own, it does not end a call by the caller's timer when the deadline passes, which
/// would hide what the daemon answers.
type Client = ContactServiceClient<Http<HttpConnector, tonic::body::Body>>;

/// Calls of one connection before it is replaced.
const CALLS: usize = 300;
/// Nobody waits longer for an answer that does not come.
const GIVEN_UP: Duration = Duration::from_secs(10);
/// The usual deadline.
const AMPLE: Duration = Duration::from_secs(2);

fn client(soak: &Soak, replica: usize) -> anyhow::Result<Client> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let http = Http::builder(TokioExecutor::new())
        .http2_only(true)
        .build(connector);
    let doors = soak.replicas[replica]
        .doors()
        .unwrap_or_else(super::nowhere);
    Ok(ContactServiceClient::with_origin(http, doors.grpc.parse()?))
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

/// A person; most calls are of a few of them.
fn a_person(rng: &mut Rng) -> usize {
    if rng.bool() {
        rng.usize(..5)
    } else {
        rng.usize(..PEOPLE)
    }
}

/// One caller after the other, each at one replica.
pub(crate) async fn ring(soak: Arc<Soak>, mut rng: Rng) -> anyhow::Result<()> {
    loop {
        let replica = rng.usize(..soak.replicas.len());
        let client = client(&soak, replica)?;
        for _ in 0..CALLS {
            let pause = Duration::from_millis(rng.u64(..2 * soak.load.pause_ms));
            if !soak.goes_on_after(pause).await {
                return Ok(());
            }
            if !look_up(&soak, client.clone(), replica, &mut rng).await {
                break;
            }
        }
    }
}

/// One look-up. Returns whether the replica answered.
async fn look_up(soak: &Soak, mut client: Client, replica: usize, rng: &mut Rng) -> bool {
    let person = a_person(rng);
    let token = soak.truth.token(person, rng);
    let was_good = matches!(soak.truth.owner(&token), Owner::Person(_));
    let asked = Asked {
        replica,
        token,
        user: if rng.u8(..20) == 0 {
            rng.usize(..PEOPLE)
        } else {
            person
        },
        number: a_number(rng),
        began: clock::now(),
    };
    soak.replicas[replica].sent.sent(&asked.token, asked.began);
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
        0 => (Duration::from_millis(rng.u64(1..50)), GIVEN_UP),
        1 => (AMPLE, Duration::from_millis(rng.u64(..30))),
        _ => (AMPLE, GIVEN_UP),
    };
    let may_be_hit = was_good && trigger != pb::Trigger::ManualRefresh && deadline == AMPLE;
    let is_repeat = may_be_hit && soak.repeats.repeats(&asked);
    request.set_timeout(deadline);
    let answer = clock::timeout(patience, client.find_contact(request)).await;
    let received = clock::now();
    if answer.is_none() && patience != GIVEN_UP {
        soak.verdicts.count("hung up");
        return true;
    }
    soak.check_deadline(replica, asked.began, received, deadline);
    match answer {
        None => false,
        Some(Ok(answer)) => {
            let answer = answer.into_inner();
            soak.check(&asked, &answer, received);
            let how = answer.lookup.unwrap_or_default();
            let is_hit = how.source() != pb::Source::Crm;
            soak.figures.answered(is_hit, received - asked.began);
            if is_repeat {
                soak.figures.repeated(is_hit);
            }
            true
        }
        Some(Err(status)) => {
            let reason = soak.refused(replica, asked.began, &status);
            if is_repeat {
                soak.figures.repeated(false);
            }
            if reason == CUT_OFF {
                soak.check_cut_off(replica, asked.began, received, deadline);
            }
            let is_good = matches!(soak.truth.owner(&asked.token), Owner::Person(_));
            if reason == "CRM_UNAUTHENTICATED" && was_good && is_good {
                soak.verdicts
                    .wrong(Wrong::TrueTokenRefused, Some(replica), format!("{asked:?}"));
            }
            reason != NO_REASON
        }
    }
}

/// Batches, each in its own time; some are left in the middle.
pub(crate) async fn warm_up(soak: Arc<Soak>, mut rng: Rng) -> anyhow::Result<()> {
    while soak
        .goes_on_after(Duration::from_millis(rng.u64(..2_000)))
        .await
    {
        let (person, replica) = (a_person(&mut rng), rng.usize(..soak.replicas.len()));
        let (auth_header, began) = (soak.truth.token(person, &mut rng), clock::now());
        soak.replicas[replica].sent.sent(&auth_header, began);
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
            None => soak.verdicts.count("batch left"),
            Some(Ok(())) => soak.verdicts.count("batch done"),
            Some(Err(status)) => drop(soak.refused(replica, began, &status)),
        }
    }
    Ok(())
}

/// Edits contacts, each with the invalidation that belongs to it, and renews tokens.
pub(crate) async fn edit(soak: Arc<Soak>, mut rng: Rng) -> anyhow::Result<()> {
    while soak
        .goes_on_after(Duration::from_millis(rng.u64(..200)))
        .await
    {
        if rng.u8(..40) == 0 {
            soak.truth.rotate(rng.usize(..PEOPLE));
        }
        let (replica, person) = (rng.usize(..soak.replicas.len()), a_person(&mut rng));
        let edited: Vec<_> = if rng.u8(..100) == 0 {
            (0..NUMBERS).collect()
        } else {
            vec![a_number(&mut rng)]
        };
        edited.iter().for_each(|n| soak.truth.edit(*n, &mut rng));
        // Some change without a word; what is stored lives until its end.
        if rng.u8(..4) == 0 {
            continue;
        }
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
        let asked = clock::now();
        soak.repeats.invalidates(person, &edited);
        let call = client(&soak, replica)?.invalidate_contacts(request).await;
        soak.repeats.invalidates(person, &edited);
        match call {
            Ok(_) => {
                let confirmed = clock::now();
                let forgotten = Forgotten {
                    replica,
                    asked,
                    confirmed,
                };
                soak.truth.forgot(person, &edited, forgotten);
                soak.verdicts.count("invalidated");
            }
            Err(status) => drop(soak.refused(replica, asked, &status)),
        }
    }
    Ok(())
}

/// Look-ups in a CRM that sends early hints without end.
pub(crate) async fn take_hints(soak: Arc<Soak>, mut rng: Rng) -> anyhow::Result<()> {
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
        let (replica, began) = (rng.usize(..soak.replicas.len()), clock::now());
        match client(&soak, replica)?.find_contact(request).await {
            Ok(_) => soak
                .verdicts
                .wrong(Wrong::HintsAnswered, Some(replica), "an answer"),
            Err(status) => drop(soak.refused(replica, began, &status)),
        }
    }
    Ok(())
}

/// Connections that say nothing, stop in the middle, reset what they began, or hold what they
/// opened.
pub(crate) async fn misbehave(soak: Arc<Soak>, mut rng: Rng) -> anyhow::Result<()> {
    while soak
        .goes_on_after(Duration::from_millis(rng.u64(..400)))
        .await
    {
        let replica = &soak.replicas[rng.usize(..soak.replicas.len())];
        let Some(doors) = replica.doors() else {
            continue;
        };
        let addr = |url: &str| url.trim_start_matches("http://").parse().ok();
        let (Some(grpc), Some(ops)) = (addr(&doors.grpc), addr(&doors.ops)) else {
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
            for _ in 0..5 {
                super::figures::page(&format!("http://{ops}"), "/").await?;
                super::figures::page(&format!("http://{ops}"), "/status.json").await?;
            }
        }
    }
    Ok(())
}
