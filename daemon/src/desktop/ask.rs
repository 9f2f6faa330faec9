//! A question on the desktop: a notification with a button for each answer (the Desktop Notifications Specification).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::mpsc::Receiver;
use zbus::message::Type;
use zbus::names::MemberName;
use zbus::zvariant::Value;
use zbus::{MatchRule, MessageStream};

use super::notify::{ANSWER, INTERFACE, PATH, escaped};
use crate::access::approvals::{ApprovalRequest, Decision, PATIENCE};
use crate::access::peer::Peer;
use crate::credentials::Broker;

const YES: &str = "allow";
const NO: &str = "refuse";

/// Shows each question until it is answered, here or elsewhere.
pub(super) async fn show(broker: Arc<Broker>, mut questions: Receiver<Arc<ApprovalRequest>>) {
    while let Some(question) = questions.recv().await {
        let broker = Arc::clone(&broker);
        tokio::spawn(async move {
            // It can be answered in a terminal all the same.
            match tokio::time::timeout(PATIENCE, ask(&question)).await {
                Ok(Ok(Some(word))) => {
                    // The desktop is that of the daemon's own user.
                    broker.answer(&Peer::new(broker.policy.owner, None), question.id, word);
                }
                Ok(Err(error)) => tracing::debug!(%error, "there is no desktop that asks"),
                Ok(Ok(None)) | Err(_) => {}
            }
        });
    }
}

/// What a person chose; nothing, if they put the question away.
async fn ask(question: &ApprovalRequest) -> zbus::Result<Option<Decision>> {
    let bus = zbus::connection::Builder::session()?
        .method_timeout(ANSWER)
        .build()
        .await?;
    let rule = MatchRule::builder()
        .msg_type(Type::Signal)
        .interface(INTERFACE)?
        .path(PATH)?
        .build();
    let mut signals = MessageStream::for_match_rule(rule, &bus, None).await?;
    let title = format!("Give credentials of {}?", question.profile);
    let body = escaped(&format!(
        "{} of user {} asks for them.",
        question.program, question.uid
    ));
    let hints = HashMap::from([
        ("urgency", Value::U8(2)),
        ("category", Value::from("security")),
    ]);
    let patience = i32::try_from(PATIENCE.as_millis()).unwrap_or(i32::MAX);
    let choices = [YES, "Allow", NO, "Refuse"].as_slice();
    let arguments = (
        "rolekeeper",
        0_u32,
        "dialog-question",
        title,
        body,
        choices,
        hints,
        patience,
    );
    let shown = bus
        .call_method(Some(INTERFACE), PATH, Some(INTERFACE), "Notify", &arguments)
        .await?;
    let id: u32 = shown.body().deserialize()?;
    // Whoever shows it is whoever answered that call: others may send signals, too.
    let server = shown.header().sender().map(ToOwned::to_owned);
    let answer = async {
        while let Some(signal) = signals.next().await {
            let signal = signal?;
            let header = signal.header();
            if header.sender().map(ToOwned::to_owned) != server {
                continue;
            }
            match header.member().map(MemberName::as_str) {
                Some("ActionInvoked") => match signal.body().deserialize::<(u32, &str)>()? {
                    (of, YES) if of == id => return Ok(Some(Decision::Allow)),
                    (of, NO) if of == id => return Ok(Some(Decision::Deny)),
                    _ => {}
                },
                // A click beside the buttons closes it after the action was told.
                Some("NotificationClosed")
                    if signal.body().deserialize::<(u32, u32)>()?.0 == id =>
                {
                    return Ok(None);
                }
                _ => {}
            }
        }
        Ok(None)
    };
    let outcome = tokio::select! {
        answer = answer => answer,
        () = question.settled() => Ok(None),
    };
    let closing = bus.call_method(
        Some(INTERFACE),
        PATH,
        Some(INTERFACE),
        "CloseNotification",
        &(id),
    );
    let _ = tokio::time::timeout(Duration::from_secs(1), closing).await;
    outcome
}
