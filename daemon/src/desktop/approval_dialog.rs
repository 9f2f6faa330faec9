//! An approval dialog on the desktop: a notification with a button for each decision (the Desktop Notifications
//! Specification).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::mpsc::Receiver;
use zbus::message::Type;
use zbus::names::{MemberName, OwnedUniqueName};
use zbus::zvariant::Value;
use zbus::{Connection, MatchRule, MessageStream};

use super::notify::{INTERFACE, PATH, REPLY_LIMIT, escape};
use crate::access::Access;
use crate::access::approvals::{ApprovalRequest, Decision, PATIENCE};

const ALLOW: &str = "allow";
const DENY: &str = "deny";
/// How long closing the dialog may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// A dialog that is shown.
struct Dialog {
    bus: Connection,
    id: u32,
    /// The notification server that shows it. Other processes can send signals, too.
    server: Option<OwnedUniqueName>,
}

/// Shows each request until it is decided, here or in a terminal.
pub(super) async fn show_all(access: Arc<Access>, mut requests: Receiver<Arc<ApprovalRequest>>) {
    while let Some(request) = requests.recv().await {
        tokio::spawn(show(Arc::clone(&access), request));
    }
}

async fn show(access: Arc<Access>, request: Arc<ApprovalRequest>) {
    match tokio::time::timeout(PATIENCE, ask(&request)).await {
        Ok(Ok(Some(decision))) => access.decide_as_owner(request.id, decision),
        Ok(Err(error)) => tracing::debug!(%error, "no desktop shows the approval dialog"),
        // It was closed without a decision, or decided elsewhere.
        Ok(Ok(None)) | Err(_) => {}
    }
}

async fn ask(request: &ApprovalRequest) -> zbus::Result<Option<Decision>> {
    let bus = zbus::connection::Builder::session()?
        .method_timeout(REPLY_LIMIT)
        .build()
        .await?;
    let rule = MatchRule::builder()
        .msg_type(Type::Signal)
        .interface(INTERFACE)?
        .path(PATH)?
        .build();
    let mut signals = MessageStream::for_match_rule(rule, &bus, None).await?;
    let dialog = Dialog::open(bus, request).await?;

    let decision = tokio::select! {
        decision = dialog.decision(&mut signals) => decision,
        _ = request.decision() => Ok(None),
    };

    dialog.close().await;

    decision
}

/// The title and the text.
fn texts(request: &ApprovalRequest) -> (String, String) {
    let (program, uid, profile) = (&request.program, request.uid, &request.profile);

    match &request.call {
        None => (
            format!("Allow credentials of {profile}?"),
            format!("{program} of user {uid} requests them."),
        ),
        Some(call) => (
            "Allow a call with your token?".into(),
            format!(
                "{program} of user {uid} requests {call}. It could bypass the rules of {profile}."
            ),
        ),
    }
}

impl Dialog {
    async fn open(bus: Connection, request: &ApprovalRequest) -> zbus::Result<Self> {
        let (title, body) = texts(request);
        let buttons = [ALLOW, "Allow", DENY, "Deny"].as_slice();
        let hints = HashMap::from([
            ("urgency", Value::U8(2)),
            ("category", Value::from("security")),
        ]);

        let timeout = i32::try_from(PATIENCE.as_millis()).unwrap_or(i32::MAX);
        let arguments = (
            "rolekeeper",
            0_u32,
            "dialog-question",
            title,
            escape(&body),
            buttons,
            hints,
            timeout,
        );

        let reply = bus
            .call_method(Some(INTERFACE), PATH, Some(INTERFACE), "Notify", &arguments)
            .await?;
        let id = reply.body().deserialize()?;
        let server = reply
            .header()
            .sender()
            .map(|sender| sender.to_owned().into());

        Ok(Self { bus, id, server })
    }

    /// The button that the user pressed. Nothing if they closed the dialog.
    async fn decision(&self, signals: &mut MessageStream) -> zbus::Result<Option<Decision>> {
        while let Some(signal) = signals.next().await {
            let signal = signal?;
            let header = signal.header();
            let is_from_server = header.sender().map(zbus::names::UniqueName::as_str)
                == self.server.as_ref().map(|server| server.as_str());
            if !is_from_server {
                continue;
            }

            match header.member().map(MemberName::as_str) {
                Some("ActionInvoked") => match signal.body().deserialize::<(u32, &str)>()? {
                    (id, ALLOW) if id == self.id => return Ok(Some(Decision::Allow)),
                    (id, DENY) if id == self.id => return Ok(Some(Decision::Deny)),
                    _ => {}
                },
                // A click beside the buttons also closes it, after the signal of the action.
                Some("NotificationClosed") => {
                    let (id, _reason) = signal.body().deserialize::<(u32, u32)>()?;
                    if id == self.id {
                        return Ok(None);
                    }
                }
                _ => {}
            }
        }

        Ok(None)
    }

    async fn close(&self) {
        let closing = self.bus.call_method(
            Some(INTERFACE),
            PATH,
            Some(INTERFACE),
            "CloseNotification",
            &(self.id),
        );

        let _ = tokio::time::timeout(CLOSE_LIMIT, closing).await;
    }
}
