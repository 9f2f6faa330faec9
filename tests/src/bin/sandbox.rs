//! `rolekeeper-sandbox`: a fake ByCloud IAM and AWS on loopback, for development and tests without a
//! cloud.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use rolekeeper_tests::sandbox::{self, Options, StartError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A fake ByCloud IAM and AWS on loopback, with policy evaluation and faults on demand
#[derive(Parser)]
#[command(name = "rolekeeper-sandbox", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT; print one line of JSON when ready
    Serve(Serve),
}

#[derive(Args)]
struct Serve {
    /// Loopback address of the IAM API; port 0 selects a free port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,

    /// Loopback address of the control interface (faults, call counts, clock)
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    control: SocketAddr,

    /// Loopback address of the S3 and STS API for AWS clients
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    s3: SocketAddr,

    /// Loopback address of AWS's STS and IAM
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    aws: SocketAddr,

    /// Store the data in this SQLite file [default: in memory]
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,

    /// Fill a new database from this JSON file [default: a small organization]
    #[arg(long, value_name = "FILE")]
    fixture: Option<PathBuf>,

    /// Shorten longer sessions to this duration
    #[arg(long, value_name = "SECONDS")]
    max_session: Option<u64>,
}

impl From<Serve> for Options {
    fn from(serve: Serve) -> Self {
        Self {
            listen: serve.listen,
            control: serve.control,
            s3: serve.s3,
            aws: serve.aws,
            data: serve.data,
            fixture: serve.fixture,
            max_session: serve.max_session,
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let Command::Serve(serve) = Cli::parse().command;

    raise_descriptor_limit();

    match run(serve.into()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rolekeeper-sandbox: {error}\n  try: {}", error.hint());
            ExitCode::from(error.exit_code())
        }
    }
}

async fn run(options: Options) -> Result<(), StartError> {
    let sandbox = sandbox::start(options).await?;

    // Before the ready line: its reader may send a signal at once.
    let mut terminate = handler(SignalKind::terminate())?;
    let mut interrupt = handler(SignalKind::interrupt())?;

    let _ = writeln!(io::stdout(), "{}", sandbox.ready);

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn handler(kind: SignalKind) -> Result<Signal, StartError> {
    signal(kind).map_err(StartError::Signals)
}

/// Each connection needs a descriptor, and tests open thousands.
fn raise_descriptor_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };

    let _ = setrlimit(Resource::Nofile, raised);
}
