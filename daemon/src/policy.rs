//! May this peer have this profile? Pure: no clock, no I/O.

use std::sync::Arc;

use crate::cache::Slot;
use crate::serve::peer::Peer;

/// Whom the daemon serves.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// The user the daemon runs as.
    pub owner: u32,
}

/// The proof that a peer may have a profile. Only [`Policy::authorize`] makes one.
#[derive(Debug, Clone)]
#[must_use]
pub struct Grant {
    slot: Arc<Slot>,
}

impl Grant {
    pub fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }
}

/// The peer runs as another user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denied {
    pub uid: u32,
}

impl Policy {
    /// May this peer talk to the daemon at all? Only the user whose tokens it holds may; root could read them anyway,
    /// but root's tools are not meant to use them by accident.
    pub fn admit(self, peer: &Peer) -> Result<(), Denied> {
        if peer.uid == self.owner { Ok(()) } else { Err(Denied { uid: peer.uid }) }
    }

    /// May this peer do what concerns all of the daemon, or what it holds?
    pub fn admit_owner(self, peer: &Peer) -> Result<(), Denied> {
        self.admit(peer)
    }

    pub fn authorize(self, peer: &Peer, slot: &Arc<Slot>) -> Result<Grant, Denied> {
        self.admit(peer)?;
        Ok(Grant { slot: Arc::clone(slot) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_is_admitted() {
        let policy = Policy { owner: 1000 };
        let peer = |uid| Peer::new(uid, None);
        assert_eq!(policy.admit(&peer(1000)), Ok(()));
        for uid in [0, 1, 999, 1001, u32::MAX] {
            assert_eq!(policy.admit(&peer(uid)), Err(Denied { uid }));
        }
    }
}
