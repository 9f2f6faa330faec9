//! The calling process: is it the one that connected, and does a caller rule allow its program?

use super::error::AccessError;
use super::interaction::Interaction;
use super::peer::{Peer, describe, file_id};
use super::policy;
use crate::config::Profile;
use crate::platform::random::random_token;
use crate::sandbox::helper::peer_inspector::{Inspection, ProcessPin};

/// The inspection of the calling process. It is `None` where the kernel does not name the process, as over HTTP, and no
/// rule needs it; the approval request then marks the program as uncertain.
pub(super) async fn identify<'a>(
    peer: &'a Peer,
    profile: &Profile,
) -> Result<Option<&'a Inspection>, AccessError> {
    if !peer.has_process() && !profile.callers.asks_for_process() {
        return Ok(None);
    }

    match peer.handle().inspection().result().await {
        // A process of another PID namespace can send messages in the name of any process there.
        Some(process) if !process.programs.is_empty() && process.in_pid_namespace => {
            Ok(Some(process))
        }
        _ if peer.handle().is_inspector_gone() => Err(AccessError::InspectorUnavailable),
        _ => Err(AccessError::UnknownCaller {
            profile: profile.name.clone(),
        }),
    }
}

/// Sends a nonce once the inspection is complete. A process that called `exec` before the
/// inspection cannot know it, and one that the connection was passed to answers in its own name.
pub(super) async fn challenge(
    peer: &Peer,
    profile: &Profile,
    interaction: &mut impl Interaction,
) -> Result<(), AccessError> {
    if !peer.has_passed_challenge() {
        match random_token() {
            Ok(nonce) => {
                let answer = interaction.challenge(&nonce).await?;
                if answer.is_some_and(|answer| answer == *nonce) {
                    peer.set_challenge_passed();
                }
            }
            Err(error) => tracing::error!(%error, "no nonce for a challenge"),
        }
    }

    let profile = || profile.name.clone();
    if peer.is_passed_on() {
        Err(AccessError::ConnectionPassedOn { profile: profile() })
    } else if !peer.has_passed_challenge() {
        Err(AccessError::ChallengeFailed { profile: profile() })
    } else {
        Ok(())
    }
}

/// The program as it was at the inspection fits one of the profile's rules.
pub(super) async fn check_program(
    peer: &Peer,
    profile: &Profile,
    process: &Inspection,
) -> Result<(), AccessError> {
    let callers = &profile.callers;
    let hashed = if callers.asks_for_hash() {
        peer.handle().inspection_with_hashes().result().await
    } else {
        None
    };

    let inspected = hashed.unwrap_or(process);
    if callers.rules.is_empty() || policy::fits_any(&callers.rules, inspected, file_id) {
        return Ok(());
    }

    Err(AccessError::ProgramNotAllowed {
        profile: profile.name.clone(),
        program: describe(&process.programs),
    })
}

/// The process that connected still runs, and runs the program that was inspected.
pub(super) fn check_unchanged(
    peer: &Peer,
    profile: &Profile,
    process: &Inspection,
) -> Result<(), AccessError> {
    let runs_same_program = process.pin.as_ref().is_some_and(ProcessPin::is_valid);
    if runs_same_program && peer.is_alive() {
        return Ok(());
    }
    Err(AccessError::ProcessReplaced {
        profile: profile.name.clone(),
    })
}
