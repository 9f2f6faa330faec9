//! `rolekeeper-sandbox`: a ByCloud IAM on loopback, for people and tests without a cloud.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rolekeeper_tests::sandbox::{self, Options};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

/// A ByCloud IAM on loopback: real storage, real policy evaluation, faults on demand.
#[derive(Parser)]
#[command(name = "rolekeeper-sandbox", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT; prints one line of JSON when ready
    Serve {
        /// Where the API is served; port 0 takes a free one
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// Where faults, counts and time are controlled
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
        control: SocketAddr,
        /// Where S3 and STS are served, as AWS's clients know them
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
        s3: SocketAddr,
        /// Keep everything in this file [default: in memory]
        #[arg(long, value_name = "FILE")]
        data: Option<PathBuf>,
        /// Who and what there is in a new database [default: a small organisation]
        #[arg(long, value_name = "FILE")]
        fixture: Option<PathBuf>,
        /// The longest session that is granted; longer ones are cut
        #[arg(long, value_name = "SECONDS")]
        max_session: Option<u64>,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let Command::Serve {
        listen,
        control,
        s3,
        data,
        fixture,
        max_session,
    } = Cli::parse().command;
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    );
    let sandbox = match sandbox::start(Options {
        listen,
        control,
        s3,
        data,
        fixture,
        max_session,
    })
    .await
    {
        Ok(sandbox) => sandbox,
        Err(error) => {
            eprintln!("rolekeeper-sandbox: {error}\n  try: {}", error.hint());
            return ExitCode::from(error.exit_code());
        }
    };
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        eprintln!("rolekeeper-sandbox: signals cannot be handled\n  try: again");
        return ExitCode::FAILURE;
    };
    let _ = writeln!(std::io::stdout(), "{}", sandbox.ready);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    ExitCode::SUCCESS
}
