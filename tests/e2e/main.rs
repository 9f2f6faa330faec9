//! End-to-end tests: the real programs against the sandbox, one file for each feature.
//!
//! They need cargo and the usual programs of a Linux machine. Tests that need more are ignored,
//! with what they need as the reason.

mod approve;
mod audit;
mod autostart;
mod aws;
mod aws_config;
mod callers;
mod clocks;
mod completions;
mod configuration;
mod connections;
mod endpoints;
mod exec;
mod explain;
mod floods;
mod frames;
mod hardening;
mod hints;
mod iam;
mod iam_methods;
mod journal;
mod lease_basics;
mod login;
mod metadata;
mod multi_user;
mod one_daemon;
mod peer_spoofing;
mod reload;
mod revocation;
mod revocation_stress;
mod running_commands;
mod sandbox_durability;
mod sandbox_program;
mod security_document;
mod setup;
mod socket;
mod status;
mod system_files;
mod tls;
mod tls_door;
mod token_command;
mod token_destination;
mod upstream_failures;
mod upstream_refusals;

use std::path::Path;

/// The program with the attacks of these tests.
const ATTACKER: &str = env!("CARGO_BIN_EXE_attacker");

fn attacker() -> &'static Path {
    Path::new(ATTACKER)
}
