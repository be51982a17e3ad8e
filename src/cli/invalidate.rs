//! `contactd invalidate`: invalidates stored answers.

use std::process::ExitCode;

use super::client::ClientArgs;
use super::{Failure, show};
use crate::pb::v1 as pb;
use pb::invalidate_contacts_request::Scope;

#[derive(Debug, clap::Args)]
pub(super) struct InvalidateArgs {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct What {
    /// Invalidate the answers for these numbers.
    #[arg(value_name = "NUMBER")]
    numbers: Vec<String>,
    /// Invalidate all stored answers of the user.
    #[arg(long)]
    everything: bool,
}

pub(super) async fn run(args: InvalidateArgs) -> Result<ExitCode, Failure> {
    let user = args.client.user();
    let whose = format!("user {:?} on platform {:?}", user.id, user.platform);
    let (scope, done) = args.what.scope(&whose);
    let request = pb::InvalidateContactsRequest {
        user: Some(user),
        scope: Some(scope),
    };
    let mut client = args.client.connect().await?;
    client
        .invalidate_contacts(args.client.request(request)?)
        .await
        .map_err(|status| args.client.explain(&status))?;
    show(format_args!("{done}\n"))?;
    Ok(ExitCode::SUCCESS)
}

impl What {
    /// What the daemon is asked to invalidate, and the message after that.
    fn scope(self, whose: &str) -> (Scope, String) {
        if self.everything {
            let done = format!("Invalidated all stored answers of {whose}.");
            return (Scope::Everything(true), done);
        }
        let (count, s) = match self.numbers.len() {
            1 => (1, ""),
            count => (count, "s"),
        };
        let done = format!("Invalidated the stored answers for {count} number{s} of {whose}.");
        let phone_numbers = self.numbers;
        (Scope::Numbers(pb::PhoneNumbers { phone_numbers }), done)
    }
}
