//! A token command that asks this daemon for credentials, which need the command's own output, would wait for itself.

use std::sync::Mutex;
use std::time::Duration;

use super::RefreshService;
use crate::access::peer::Peer;
use crate::error::RequestError;
use crate::model::UpstreamId;
use crate::sync::lock;
use crate::upstream::handle::UpstreamHandle;

/// A command may send a request before the daemon learns its process id.
const PID_RETRIES: u32 = 10;
const PID_PAUSE: Duration = Duration::from_millis(20);

/// Which upstream's token command waits for which upstream.
#[derive(Debug, Default)]
pub(super) struct TokenWaits(Mutex<Vec<(UpstreamId, UpstreamId)>>);

/// A token command waits for an upstream until this is dropped.
#[derive(Debug)]
pub(crate) struct TokenWaitGuard<'a> {
    waits: &'a TokenWaits,
    wait: (UpstreamId, UpstreamId),
}

impl TokenWaits {
    /// None if `target` waits for `from`, directly or not.
    fn start(&self, from: UpstreamId, target: UpstreamId) -> Option<TokenWaitGuard<'_>> {
        let mut waits = lock(&self.0);
        let mut reached = vec![target];
        let mut next = 0;
        while let Some(upstream) = reached.get(next).copied() {
            if upstream == from {
                return None;
            }
            for (one, other) in &*waits {
                if *one == upstream && !reached.contains(other) {
                    reached.push(*other);
                }
            }
            next += 1;
        }

        let wait = (from, target);
        waits.push(wait);

        Some(TokenWaitGuard { waits: self, wait })
    }
}

impl Drop for TokenWaitGuard<'_> {
    fn drop(&mut self) {
        let mut waits = lock(&self.waits.0);
        if let Some(index) = waits.iter().position(|wait| *wait == self.wait) {
            waits.swap_remove(index);
        }
    }
}

impl RefreshService {
    /// Must be called before a request waits for an upstream. The guard has to live as long as the request waits.
    ///
    /// # Errors
    /// When the peer is a token command, or a process that it has started, and the upstream waits for this command.
    pub(crate) async fn start_token_wait(
        &self,
        peer: &Peer,
        target: &UpstreamHandle,
    ) -> Result<Option<TokenWaitGuard<'_>>, RequestError> {
        let Some(from) = self.upstream_of_token_command(peer).await else {
            return Ok(None);
        };

        if let Some(guard) = self.token_waits.start(from.id, target.id) {
            return Ok(Some(guard));
        }

        for upstream in [from, target] {
            if let Some(command) = upstream.client.token_command() {
                command.set_waits_for_itself();
            }
        }

        Err(RequestError::TokenRecursion {
            upstream: from.name.to_string(),
            target: target.name.to_string(),
        })
    }

    /// The upstream whose token command has started the peer, or is the peer.
    async fn upstream_of_token_command(&self, peer: &Peer) -> Option<&UpstreamHandle> {
        let mut running = self.running_commands();
        if running.is_empty() {
            return None;
        }

        for _ in 0..PID_RETRIES {
            if running.iter().all(|(_, pid)| pid.is_some()) {
                break;
            }
            tokio::time::sleep(PID_PAUSE).await;
            running = self.running_commands();
        }

        let inspection = peer.handle().inspection().result().await?;
        let pids: Vec<_> = inspection
            .programs
            .iter()
            .map(|program| program.process.pid)
            .collect();

        running
            .into_iter()
            .find(|(_, pid)| pid.is_some_and(|pid| pids.contains(&pid)))
            .map(|(upstream, _)| upstream)
    }

    fn running_commands(&self) -> Vec<(&UpstreamHandle, Option<i32>)> {
        let upstreams = self.upstreams.iter();
        upstreams
            .filter_map(|upstream| {
                let command = upstream.client.token_command()?;
                Some((&**upstream, command.pid()))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circle_of_waits_is_refused() {
        let [a, b, c] = [0, 1, 2].map(UpstreamId::new);
        let waits = TokenWaits::default();
        assert!(waits.start(a, a).is_none());

        let first = waits.start(a, b).unwrap();
        let second = waits.start(b, c).unwrap();
        assert!(waits.start(c, a).is_none() && waits.start(b, a).is_none());
        assert!(waits.start(a, c).is_some());

        drop(second);
        assert!(waits.start(c, a).is_some());
        drop(first);
        assert!(waits.start(b, a).is_some());
    }
}
