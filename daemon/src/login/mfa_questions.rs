//! A code of an MFA device is needed while a program waits for credentials: one question for each upstream, however many
//! programs wait. `rolekeeper login` answers it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::LoginService;
use crate::access::{AccessError, Interaction, Question};
use crate::clock::BootTime;
use crate::sync::{Mutex, lock};
use crate::upstream::handle::UpstreamHandle;

/// How long programs wait for a person.
const PATIENCE: Duration = Duration::from_secs(55);
/// How long no further question is asked after one without an answer.
const QUIET: Duration = Duration::from_secs(300);

/// By name of the upstream.
#[derive(Debug, Default)]
pub(super) struct MfaQuestions(Mutex<BTreeMap<Arc<str>, MfaQuestion>>);

#[derive(Debug)]
struct MfaQuestion {
    asked_at: BootTime,
    /// Dropped with the answer.
    open: watch::Sender<()>,
}

impl MfaQuestions {
    /// The question to wait for, and for how long. None if the last one had no answer.
    fn ask(
        &self,
        upstream: &UpstreamHandle,
        now: BootTime,
    ) -> Option<(watch::Receiver<()>, Duration)> {
        let mut questions = lock(&self.0);
        if let Some(asked) = questions.get(&upstream.name) {
            let waited = now.since(asked.asked_at);
            if waited < PATIENCE {
                return Some((asked.open.subscribe(), PATIENCE - waited));
            }
            if waited < PATIENCE + QUIET {
                return None;
            }
        }

        tracing::warn!(
            upstream = %upstream.name,
            "a code of the MFA device is needed: rolekeeper login {}", upstream.name
        );
        let (open, answer) = watch::channel(());
        let asked_at = now;
        questions.insert(Arc::clone(&upstream.name), MfaQuestion { asked_at, open });

        Some((answer, PATIENCE))
    }

    pub(super) fn answered(&self, upstream: &UpstreamHandle) {
        lock(&self.0).remove(&upstream.name);
    }
}

impl LoginService {
    /// The upstreams with an open question.
    pub(crate) fn awaiting_mfa(&self) -> Vec<String> {
        let now = self.clock.now().boot;
        let questions = lock(&self.mfa_questions.0);
        let open = questions
            .iter()
            .filter(|(_, question)| now.since(question.asked_at) < PATIENCE);

        open.map(|(upstream, _)| upstream.to_string()).collect()
    }

    /// Waits until a person has entered a code. Returns whether one has.
    pub(crate) async fn await_mfa_session(
        &self,
        upstream: &UpstreamHandle,
        interaction: &mut impl Interaction,
    ) -> Result<bool, AccessError> {
        let now = self.clock.now().boot;
        let Some((mut answer, left)) = self.mfa_questions.ask(upstream, now) else {
            return Ok(false);
        };

        let answered = tokio::time::timeout(left, async move {
            // It ends when the question is dropped.
            let _ = answer.changed().await;
        });
        let question = Question::MfaCode(&upstream.name);
        let answered = interaction.await_user(question, left, answered).await?;

        Ok(answered.is_ok())
    }
}
