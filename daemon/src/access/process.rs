//! The calling process: is it the one that connected, and does a caller rule allow its program?

use super::error::AccessError;
use super::interaction::Interaction;
use super::peer::{Peer, describe, file_id, requesting_programs};
use super::policy;
use crate::config::Profile;
use crate::platform::random::random_token;
use crate::sandbox::helper::peer_inspector::Inspection;

/// The inspection of the calling process. It is `None` where the kernel does not name the process, as over HTTP, and no
/// rule needs it; the approval request then marks the program as uncertain.
pub(super) async fn identify<'a>(
    peer: &'a Peer,
    profile: &Profile,
) -> Result<Option<&'a Inspection>, AccessError> {
    if !peer.has_process() && !profile.callers.asks_for_process() {
        return Ok(None);
    }

    let inspection = peer.handle().inspection();
    match inspection.result().await {
        // A process of another PID namespace can send messages in the name of any process there.
        Some(process) if !process.programs.is_empty() && process.in_pid_namespace => {
            Ok(Some(process))
        }
        _ if peer.handle().is_inspector_gone() => Err(AccessError::InspectorUnavailable),
        None if inspection.is_overdue() => Err(overdue(peer).await),
        _ => Err(AccessError::UnknownCaller {
            profile: profile.name.clone(),
        }),
    }
}

/// Why an inspection has not come in time: too much is to be inspected, or the inspector does not work.
async fn overdue(peer: &Peer) -> AccessError {
    if peer.handle().is_inspector_responding().await {
        AccessError::InspectorBusy
    } else {
        AccessError::InspectorSilent
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
    if callers.rules.is_empty() {
        return Ok(());
    }

    let inspected = if callers.asks_for_hash() {
        hash(peer, process).await?
    } else {
        process
    };
    if policy::fits_any(&callers.rules, inspected, file_id) {
        return Ok(());
    }

    let profile = profile.name.clone();
    let program = describe(&process.programs);
    let requesting = requesting_programs(&inspected.programs);
    match requesting.iter().find_map(|program| program.not_hashed) {
        Some(reason) => Err(AccessError::ProgramNotHashed {
            profile,
            program,
            reason,
        }),
        None => Err(AccessError::ProgramNotAllowed { profile, program }),
    }
}

/// The inspection with hashes, or the one without if the process has exited.
async fn hash<'a>(peer: &'a Peer, process: &'a Inspection) -> Result<&'a Inspection, AccessError> {
    let hashed = peer.handle().inspection_with_hashes();
    match hashed.result_with_hashes().await {
        None if hashed.is_overdue() => Err(overdue(peer).await),
        inspected => Ok(inspected.unwrap_or(process)),
    }
}

/// The process that connected still runs, and runs the program that was inspected.
pub(super) async fn check_unchanged(peer: &Peer, profile: &Profile) -> Result<(), AccessError> {
    let again = peer.handle().check_again();
    match again.result().await {
        Some(process) if process.is_unchanged && peer.is_alive() => Ok(()),
        None if again.is_overdue() => Err(overdue(peer).await),
        _ => Err(AccessError::ProcessReplaced {
            profile: profile.name.clone(),
        }),
    }
}
