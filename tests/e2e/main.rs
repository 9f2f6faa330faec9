//! The real programs against the sandbox: a file a promise. Nothing here needs anything but cargo.

mod autostart;
mod configuration;
mod connections;
mod frames;
mod main_job;
mod sandbox_durability;
mod sandbox_program;
mod socket;
mod tls;
mod upstream_failures;
mod upstream_refusals;
