//! The commands. Exit codes: 0 answered, 1 failed, 2 used wrongly, 3 not found (`find`,
//! `explain --live`), 4 part of the batch failed (`prefetch`).

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::config;
use crate::lifecycle::Signals;
use crate::telemetry::{self, Level, LogFormat, LogLines, Volume};

mod check_config;
mod client;
mod connector;
mod demo;
mod embedded;
mod example_crm;
mod explain;
mod find;
mod invalidate;
mod manual;
mod out;
mod plan;
mod prefetch;
mod reload;
mod serve;
mod settings;
mod status;
mod tls;

#[cfg(any(test, fuzzing))]
pub(crate) use connector::connector_page;
use out::{numbers, printable, say, show, words};

/// How long the last log lines may take.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Whose number is this? A caching contact-resolution daemon for telephony services.
///
/// When a phone rings, a service asks contactd by gRPC or HTTP which contact of the user's CRM has
/// the number, and the answer is on the agent's screen before the second ring. New here? Run
/// `contactd demo`.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
pub(crate) struct CliArgs {
    #[command(subcommand)]
    command: Command,

    /// How log lines on standard error look; overrides log.format of the settings [default: auto].
    #[arg(long, global = true, value_enum, env = "CONTACTD_LOG_FORMAT")]
    log_format: Option<LogFormat>,

    /// What is logged: error, warn, info, debug, trace, or directives such as contactd=debug;
    /// overrides log.level of the settings [default: info].
    #[arg(long, global = true, env = "CONTACTD_LOG", value_name = "LEVEL")]
    log_level: Option<Level>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon.
    ///
    /// Without --config it runs with built-in defaults: its only platform is "example", the
    /// built-in Example CRM (credential "Bearer demo"). It stores answers in memory, and in Redis
    /// only if CONTACTD__REDIS__URL is set.
    ///
    /// SIGTERM or ctrl-c shuts it down gracefully; a second signal stops it at once. SIGHUP reads
    /// --config again: clients, grpc.insecure, certificates, quotas (except their scope), ages,
    /// shared logins, log.level and log.lookups change at run time. The log lists the changes that
    /// wait for a restart.
    Serve {
        /// The settings, a TOML file. deploy/config.example.toml documents every key. Variables
        /// such as CONTACTD__GRPC__LISTEN override it.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Look up one number through a running daemon.
    ///
    /// Exit codes: 0 a contact was found, 1 failed, 2 wrong arguments, 3 nobody was found.
    Find(find::FindArgs),
    /// Explain the answer for a number: what is stored, and what a look-up would do now.
    ///
    /// With --live the CRM is asked, and each call and each record is shown, with the reason why it
    /// is or is not in the answer.
    ///
    /// Exit codes: 0 explained, 1 failed, 2 wrong arguments, and with --live 3 if nobody is found.
    Explain(explain::ExplainArgs),
    /// Look up many numbers through a running daemon before the next calls come.
    ///
    /// When a user signs in for the first time, pass the numbers of recent calls. If one of them
    /// calls again, the answer is there at once. Look-ups for ringing phones go first, and the
    /// CRM's rate limit is kept. Numbers with a fresh answer make no CRM call, so you can run an
    /// interrupted batch again.
    ///
    /// Exit codes: 0 every number has an answer ("not found" is one), 4 some numbers were invalid
    /// or failed, 1 the whole batch failed, 2 wrong arguments.
    #[command(after_help = PREFETCH_EXAMPLES)]
    Prefetch(prefetch::PrefetchArgs),
    /// Invalidate stored answers of a running daemon, on all replicas.
    ///
    /// After a contact was created or changed in the CRM, invalidate its number; the next call then
    /// asks the CRM again. When a user logs out or asks for erasure, use --everything. The command
    /// does not change the CRM and needs no credential for it.
    #[command(mut_arg("formats", |arg| arg.hide(true)), mut_arg("auth_header_file", |arg| arg.hide(true)))]
    Invalidate(invalidate::InvalidateArgs),
    /// Show the figures of a running daemon, as its status page does.
    ///
    /// Exit codes: 0 the daemon is ready for calls, 1 it is stopping or cannot be reached, 2 wrong
    /// arguments.
    Status(status::StatusArgs),
    /// Show on this machine what contactd does, with latencies: a miss, a hit, several contacts,
    /// nobody, a refresh, and a prefetch of recent calls while phones ring.
    Demo(demo::DemoArgs),
    /// Replay a call log through the policy of the daemon: hit rate, calls to the CRM, quota,
    /// memory.
    ///
    /// The log is a CSV with a time, a user and a number in each row. The settings decide what is
    /// kept for how long, and how often a CRM may be asked. Time is virtual: no CRM and no Redis is
    /// called, and a month takes seconds.
    ///
    /// Exit codes: 0 replayed, 1 failed, 2 wrong arguments, or no row of the log can be read.
    #[command(after_help = PLAN_EXAMPLES)]
    Plan(Box<plan::PlanArgs>),
    /// Run the Example CRM alone: a real HTTP server with generated contacts, to try contactd with.
    ExampleCrm(example_crm::ExampleCrmArgs),
    /// List, check, try and test connectors, without a daemon.
    Connector(connector::ConnectorArgs),
    /// Check a settings file: print every fault with its path, or the effective settings.
    CheckConfig {
        /// The settings, a TOML file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Print every setting with its default and its meaning, in Markdown.
    Settings,
    /// Make certificates and a token, to try encrypted connections.
    Tls(tls::TlsArgs),
    /// Print a completion script for a shell.
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(manual::CompletionsArgs),
    /// Write the manual pages.
    #[command(after_help = MAN_EXAMPLES)]
    Man(manual::ManArgs),
}

const PREFETCH_EXAMPLES: &str = "\
Examples:
  contactd prefetch recent-calls.csv --platform pipedrive --user-id 42 --auth-header-file ./header
  cut -d, -f3 calls.csv | contactd prefetch --region US --output json";

const PLAN_EXAMPLES: &str = "\
Examples:
  contactd plan calls.csv --config contactd.toml --replicas 1,3 --plot day.svg
  contactd plan generate --calls 100000 --users 500 | contactd plan - --output json";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  contactd completions bash > ~/.local/share/bash-completion/completions/contactd
  contactd completions zsh > ~/.zfunc/_contactd
  contactd completions fish > ~/.config/fish/completions/contactd.fish

The next shell loads it: bash with the package bash-completion, fish as it is, zsh if ~/.zshrc has
  fpath=(~/.zfunc $fpath) && autoload -Uz compinit && compinit
For the running shell: source <(contactd completions bash)";

const MAN_EXAMPLES: &str = "\
Example:
  contactd man ~/.local/share/man/man1 && man contactd-find";

/// Why a command did not do its job.
#[derive(Debug)]
enum Failure {
    /// Something outside went wrong: exit 1.
    Failed(anyhow::Error),
    /// The command was used wrongly: exit 2.
    Misused(String),
}

impl Failure {
    /// The message for a person.
    fn words(&self) -> String {
        match self {
            Self::Failed(error) => format!("{error:#}"),
            Self::Misused(message) => message.clone(),
        }
    }

    /// The same with one more line.
    fn with_note(self, note: &str) -> Self {
        let text = format!("{}\n  {note}", self.words());
        match self {
            Self::Failed(_) => Self::Failed(anyhow::anyhow!(text)),
            Self::Misused(_) => Self::Misused(text),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// Runs the command that the process was started for.
#[must_use]
pub fn run() -> ExitCode {
    let lines = LogLines::start();
    let code = match CliArgs::try_parse() {
        Ok(args) => exit_code(command(args, &lines), &lines),
        Err(other) => without_command(&other, &lines),
    };
    lines.finish(LAST_LINES);
    code
}

fn command(args: CliArgs, lines: &LogLines) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)?;
    let done = runtime.block_on(carry_out(args, lines));
    // The command is done. A thread that still waits, for example for DNS, must not delay the exit.
    runtime.shutdown_background();
    done
}

async fn carry_out(args: CliArgs, lines: &LogLines) -> Result<ExitCode, Failure> {
    let CliArgs {
        command,
        log_format,
        log_level,
    } = args;
    // What `connector` and `plan` print says what went wrong; log lines would only repeat it.
    let quiet =
        matches!(command, Command::Connector(_) | Command::Plan(_)).then(|| "error".parse().ok());
    let log = LogArgs {
        format: log_format,
        level: log_level.or_else(|| quiet.flatten()),
    };
    if !matches!(command, Command::Serve { .. }) {
        log.start(None, lines);
    }
    match command {
        Command::Serve { config } => serve(config, &log, lines).await,
        Command::Find(args) => find::run(args).await,
        Command::Explain(args) => explain::run(args).await,
        Command::Prefetch(args) => prefetch::run(args).await,
        Command::Plan(args) => plan::run(*args),
        Command::Invalidate(args) => invalidate::run(args).await,
        Command::Demo(args) => demo::run(args, lines).await,
        Command::ExampleCrm(args) => example_crm::run(args).await,
        Command::Connector(args) => Box::pin(connector::run(args)).await,
        Command::CheckConfig { config } => check_config::run(&config),
        Command::Settings => settings::run(),
        Command::Status(args) => status::run(args).await,
        Command::Tls(args) => tls::run(args),
        Command::Completions(args) => manual::completions(&args, CliArgs::command()),
        Command::Man(args) => manual::man(&args, CliArgs::command()),
    }
}

async fn serve(
    config: Option<PathBuf>,
    log: &LogArgs,
    lines: &LogLines,
) -> Result<ExitCode, Failure> {
    // First of all: an earlier signal would end the process immediately.
    let mut signals = Signals::watch().context("signals cannot be watched")?;
    let Some(settings) = serve::StartSettings::read_until(&mut signals.stops, config).await? else {
        lines.put(b"contactd: asked to stop before the settings were read\n");
        return Ok(ExitCode::SUCCESS);
    };
    // The settings contain the format of the lines.
    let volume = log.start(Some(settings.log()), lines);
    Box::pin(serve::run(settings, signals, volume, lines)).await
}

/// The log options of the command line.
struct LogArgs {
    format: Option<LogFormat>,
    level: Option<Level>,
}

impl LogArgs {
    /// Starts logging. Returns a handle that changes what is logged, but not a level that the
    /// command line has set.
    fn start(&self, settings: Option<&config::Log>, lines: &LogLines) -> Volume {
        let format = self.format.or(settings.map(|log| log.format));
        let level = self.level.as_ref().or(settings.map(|log| &log.level));
        let level = level.cloned().unwrap_or_default();
        let volume = telemetry::start(format.unwrap_or(LogFormat::Auto), &level, lines)
            .fixed_at(self.level.clone());
        if settings.is_some_and(|log| log.lookups) {
            volume.set(&level, true);
        }
        volume
    }
}

fn exit_code(done: Result<ExitCode, Failure>, lines: &LogLines) -> ExitCode {
    match done {
        Ok(code) => code,
        Err(failure) => {
            lines.put(format!("contactd: {}\n", failure.words()).as_bytes());
            ExitCode::from(if matches!(failure, Failure::Misused(_)) {
                2
            } else {
                1
            })
        }
    }
}

/// Prints help and version if they were requested, or the error in the arguments.
fn without_command(error: &clap::Error, lines: &LogLines) -> ExitCode {
    if error.use_stderr() {
        let words = error.render();
        let words = if io::stderr().is_terminal() {
            words.ansi().to_string()
        } else {
            words.to_string()
        };
        lines.put(words.as_bytes());
    } else {
        // The reader may have closed the pipe.
        let _ = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}
