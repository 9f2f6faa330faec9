//! `cargo demo`: the main job on real programs, told as it happens.

use std::path::PathBuf;

use clap::Parser;
use rolekeeper_tests::demo::{self, Options};

/// Shows the main job on real programs: a cloud on loopback, the daemon, the client, the AWS CLI and boto3.
#[derive(Parser)]
#[command(name = "demo")]
struct Cli {
    /// Draw a picture of the terminal into this file (SVG)
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
}

fn main() {
    let Cli { picture } = Cli::parse();
    demo::tell(&Options { picture });
}
