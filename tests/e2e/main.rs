//! The real programs against the sandbox: a file a promise. Nothing here needs anything but cargo.

mod audit;
mod autostart;
mod clocks;
mod completions;
mod configuration;
mod connections;
mod endpoints;
mod exec;
mod explain;
mod frames;
mod iam;
mod iam_story;
mod login;
mod main_job;
mod metadata;
mod revocation;
mod revocation_random;
mod revocation_running;
mod sandbox_durability;
mod sandbox_program;
mod socket;
mod succession;
mod tls;
mod tls_door;
mod upstream_failures;
mod upstream_refusals;
