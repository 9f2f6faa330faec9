//! `rolekeeper login`: a token is shown to the upstream before it is kept, and it is said whose it is.

mod record;
mod rotate;

use std::sync::Arc;
use std::time::Duration;

use rolekeeper::protocol::{KeyPlace, LoggedIn};
use secrecy::SecretString;

use crate::broker::{Broker, Refusal, WAIT};
use crate::iam::no_call::NoCall;
use crate::iam::whose::{Probed, probe};
use crate::journal::What;
use crate::keys::{KeyError, Why};
use crate::serve::peer::Peer;
use crate::upstream::bycloud::{ByCloud, IamError, ListStsSessions, Method, Said};
use crate::upstream::gate::Gate;
use crate::upstream::{Upstream, UpstreamError};

pub use record::Records;
pub use rotate::NotRotated;

/// How long a session may last that is only to say whose it is: the shortest that there is.
const SHORT: Duration = crate::config::SHORTEST_SESSION;

impl Broker {
    /// Where an upstream's token lives, so that a person knows before typing one.
    pub fn key_place(&self, peer: &Peer, upstream: Option<&str>) -> Result<KeyPlace, Refusal> {
        let (gate, client) = self.owned(peer, upstream)?;
        let key = client.key();
        Ok(KeyPlace {
            upstream: gate.name.to_string(),
            endpoint: client.endpoint().to_string(),
            place: key.source().to_string(),
            is_writable: key.is_writable(),
            has_passphrase: key.has_passphrase(),
        })
    }

    pub async fn login(
        self: &Arc<Self>,
        peer: &Peer,
        upstream: Option<&str>,
        token: SecretString,
        passphrase: Option<SecretString>,
    ) -> Result<LoggedIn, Refusal> {
        let (gate, client) = self.owned(peer, upstream)?;
        let key = client.key();
        if !key.is_writable() {
            return Err(no_key(key.fails(Why::ReadOnly)));
        }
        let token = key.parse(&token).map_err(no_key)?;
        let principal = self.check(gate, client, &token).await?;
        key.ask_again();
        key.store(&token, passphrase).await.map_err(no_key)?;
        tracing::info!(upstream = %gate.name, principal, pid = ?peer.pid, "logged in");
        self.journal.event(
            peer,
            What::LoggedIn,
            &gate.name,
            None,
            principal.clone(),
            self.clock.now().wall,
        );
        self.try_again(gate);
        Ok(LoggedIn {
            upstream: gate.name.to_string(),
            place: key.source().to_string(),
            principal,
        })
    }

    /// Opens what a person has to open, and looks whether the token is good.
    pub async fn unlock(
        self: &Arc<Self>,
        peer: &Peer,
        upstream: Option<&str>,
        passphrase: Option<SecretString>,
    ) -> Result<LoggedIn, Refusal> {
        let (gate, client) = self.owned(peer, upstream)?;
        let key = client.key();
        key.ask_again();
        if let Some(passphrase) = passphrase {
            key.unlock(passphrase).await.map_err(no_key)?;
        }
        let token = key.token().await.map_err(no_key)?;
        let principal = self.check(gate, client, &token).await?;
        self.try_again(gate);
        Ok(LoggedIn {
            upstream: gate.name.to_string(),
            place: key.source().to_string(),
            principal,
        })
    }

    /// The upstream and its client, for the user whose daemon this is.
    fn owned(
        &self,
        peer: &Peer,
        upstream: Option<&str>,
    ) -> Result<(&Arc<Gate>, &ByCloud), Refusal> {
        self.policy.admit_owner(peer).map_err(Refusal::Denied)?;
        let gate = self.gate_named(upstream)?;
        Ok((gate, crate::iam::client_of(gate)?))
    }

    /// Whose a token is that the upstream takes. Nobody's word but the upstream's counts: an answer of something in between
    /// is no answer.
    async fn check(
        &self,
        gate: &Arc<Gate>,
        client: &ByCloud,
        token: &SecretString,
    ) -> Result<Option<String>, Refusal> {
        let as_holder = client.holding(token.clone());
        let checking = async {
            let Probed {
                refused,
                principal,
                is_of_session,
            } = probe(&as_holder).await;
            if is_of_session {
                return Err(Refusal::OfSession);
            }
            match refused {
                // Not being allowed to list is no flaw of a token.
                None
                | Some(IamError::Said {
                    said: Said::AccessDenied,
                    ..
                }) => {}
                Some(error) => return Err(NoCall::failed(error, &ListStsSessions::ROUTE).into()),
            }
            let id = match principal {
                Some((_, id)) => Some(id),
                None => self.by_assuming(gate, &as_holder).await,
            };
            match id {
                Some(id) => Ok(as_holder.name_of(&id).await.or(Some(id))),
                None => Ok(None),
            }
        };
        tokio::time::timeout(WAIT, checking)
            .await
            .map_err(|_| Refusal::TooSlow)?
    }

    /// Who may read nothing of that kind may still assume a role, whose session says who assumed it. It is ended at once.
    async fn by_assuming(&self, gate: &Arc<Gate>, client: &ByCloud) -> Option<String> {
        let slot = self
            .cache
            .slots()
            .iter()
            .find(|slot| Arc::ptr_eq(&slot.gate, gate))?;
        let role = crate::config::RoleRequest {
            role_id: slot.profile.role.role_id.clone(),
            duration: SHORT,
        };
        let granted = client.assume(&role).await.ok()?;
        if let Err(error) = client
            .withdraw(&granted.session_id, Some("assumed to see whose a token is"))
            .await
        {
            tracing::info!(session = %granted.session_id, %error, "the session of a login is left to expire");
        }
        granted
            .principal
            .split_once('/')
            .map(|(_, id)| id.to_owned())
    }

    /// What failed for want of a token need not wait any longer.
    fn try_again(self: &Arc<Self>, gate: &Arc<Gate>) {
        for slot in self
            .cache
            .slots()
            .iter()
            .filter(|slot| Arc::ptr_eq(&slot.gate, gate))
        {
            slot.health(|health| {
                if health.failing().is_some_and(|failing| {
                    matches!(failing.error, UpstreamError::LoginNeeded { .. })
                }) {
                    health.succeeded();
                }
            });
            // Whoever is served by it need not ask first.
            if slot.is_wanted(&self.clock.now()) {
                self.timetable.set_by(&slot.plan, self.clock.now().boot);
            }
        }
        gate.answered(self.clock.now().boot);
        self.timetable
            .set_by(&gate.feed.plan, self.clock.now().boot);
    }
}

fn no_key(error: KeyError) -> Refusal {
    NoCall::failed(IamError::NoToken(error), &ListStsSessions::ROUTE).into()
}
