//! `cargo demo`: runs the real daemon, the client and AWS tools against the sandbox, and prints
//! each step.

use std::path::PathBuf;

use clap::Parser;
use rolekeeper_tests::demo::{self, Options};

/// Run the daemon, the client, the AWS CLI and boto3 against a local fake cloud, step by step
#[derive(Parser)]
#[command(name = "demo")]
struct Cli {
    /// Save an SVG picture of the output
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
}

fn main() {
    let cli = Cli::parse();

    demo::run(&Options {
        picture: cli.picture,
    });
}
