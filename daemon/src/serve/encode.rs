//! Results as they cross the socket.

use rolekeeper::protocol::{self, Part};
use secrecy::ExposeSecret;

use crate::credentials::Lease;
use crate::model::to_rfc3339;

/// The text limit of one part, in bytes. The text is JSON, whose escapes at most double its length in the frame.
const MAX_PART: usize = 30 * 1024;

/// The lease with its expiry in whole seconds, rounded down.
pub(crate) fn lease(lease: &Lease) -> protocol::Lease<'_> {
    let issued = &lease.session.issued;
    let profile = &lease.entry.profile;

    protocol::Lease {
        access_key_id: (*issued.access_key_id).into(),
        secret_access_key: issued.secret_access_key.expose_secret().into(),
        session_token: issued.session_token.expose_secret().into(),
        expires_at: to_rfc3339(lease.expires_at).into(),
        session_id: (*issued.session_id).into(),
        session_expires_at: to_rfc3339(issued.expires_at).into(),
        generation: lease.session.generation.number(),
        view_age_seconds: lease.stale_view.map(|age| age.as_secs()),
        region: profile.region.as_ref().map(|region| region.as_str().into()),
        account_id: profile
            .account_id
            .as_ref()
            .map(|account| account.as_str().into()),
    }
}

/// A document in parts that fit frames.
pub(super) fn parts(document: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = Some(document);

    std::iter::from_fn(move || {
        let text = rest.take()?;
        let (part, after) = text.split_at(part_end(text));
        rest = Some(after).filter(|after| !after.is_empty());

        Some(Part {
            text: part.into(),
            more: rest.is_some(),
        })
    })
}

fn part_end(text: &str) -> usize {
    let limit = MAX_PART.min(text.len());
    let boundary = (0..=limit).rev().find(|end| text.is_char_boundary(*end));

    boundary.unwrap_or_default()
}
