//! Invitations (A12).

use jiff::Timestamp;
use serde::Deserialize;

use super::wire::{methods, open_enum, paged};
use super::{GroupId, InvitationId, Marker, Page};

open_enum! {
    InvitationStatus { Pending = "pending", Accepted = "accepted", Cancelled = "cancelled" }
}

#[derive(Debug, Clone, Deserialize)]
pub struct Invitation {
    pub id: InvitationId,
    pub email: String,
    pub status: InvitationStatus,
    #[serde(default)]
    pub group_ids: Vec<GroupId>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

methods! {
    #[derive(Default)]
    Get "/invitations" "listInvitations" list_invitations(ListInvitations {
        limit: Option<u32>,
        marker: Option<Marker>,
        status: Option<InvitationStatus>,
    }) -> Page<Invitation>;
    Get "/invitations/{invitation_id}" "getInvitation" get_invitation(GetInvitation {
        invitation_id: InvitationId,
    }) -> Invitation;
    Delete "/invitations/{invitation_id}" "cancelInvitation" cancel_invitation(CancelInvitation {
        invitation_id: InvitationId,
    }) -> ();
}

paged! { ListInvitations => Invitation }
