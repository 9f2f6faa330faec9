//! Desktop notifications (the Desktop Notifications Specification). A connection for each: a daemon that has nothing to
//! say is woken by nobody.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use zbus::zvariant::Value;

use rolekeeper::protocol::EndCause;

use crate::revocation::notifications::Notification;

/// What happens within this is told in one notification.
const TOGETHER: Duration = Duration::from_millis(300);
/// How long a desktop is waited for.
pub(super) const ANSWER: Duration = Duration::from_secs(5);
/// Where the desktop is to be found, and what it is called there.
pub(super) const PATH: &str = "/org/freedesktop/Notifications";
pub(super) const INTERFACE: &str = "org.freedesktop.Notifications";
/// The most profiles that are named in one.
const NAMED: usize = 5;
/// Shown until somebody has seen it.
const UNTIL_SEEN: i32 = 0;

pub(super) async fn show(mut notifications: Receiver<Notification>) {
    while let Some(first) = notifications.recv().await {
        tokio::time::sleep(TOGETHER).await;
        let mut all = vec![first];
        while let Ok(more) = notifications.try_recv() {
            all.push(more);
        }
        if let Err(error) = notify(&all).await {
            tracing::debug!(%error, "there is no desktop that shows it");
        }
    }
}

async fn notify(notifications: &[Notification]) -> zbus::Result<()> {
    let (title, body) = words(notifications);
    let hints = HashMap::from([
        ("urgency", Value::U8(2)),
        ("category", Value::from("security")),
    ]);
    let nothing_to_choose: &[&str] = &[];
    let arguments = (
        "rolekeeper",
        0_u32,
        "dialog-warning",
        title,
        body,
        nothing_to_choose,
        hints,
        UNTIL_SEEN,
    );
    let bus = zbus::connection::Builder::session()?
        .method_timeout(ANSWER)
        .build()
        .await?;
    bus.call_method(Some(INTERFACE), PATH, Some(INTERFACE), "Notify", &arguments)
        .await
        .map(|_| ())
}

fn words(notifications: &[Notification]) -> (String, String) {
    let title = match notifications {
        [one] => format!("Credentials of {} were revoked", one.profile),
        many => format!("Credentials of {} profiles were revoked", many.len()),
    };
    let mut body = String::new();
    for Notification {
        profile,
        ending,
        holds,
    } in notifications.iter().take(NAMED)
    {
        let then = match ending.cause {
            _ if *holds => format!(" To go on: rolekeeper resume {profile}"),
            EndCause::AccountDisabled => " It goes on once the account is enabled.".into(),
            _ => " The role is assumed again.".into(),
        };
        let _ = writeln!(body, "{profile}: {ending}.{then}");
    }
    if notifications.len() > NAMED {
        body += "rolekeeper status shows the others\n";
    }
    (title, escaped(body.trim_end()))
}

/// Servers may take a body for markup; what others wrote is to be read as it is.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rolekeeper::protocol::SessionEnded;

    #[test]
    fn many_are_told_at_once_and_what_others_wrote_is_no_markup() {
        let ending = SessionEnded {
            cause: EndCause::Revoked,
            session_id: Some("s-1".into()),
            by: Some("user/<b>admin</b>".into()),
            at: Some("2026-01-01T00:00:00.000Z".into()),
            reason: Some("lost & found".into()),
            noticed_at: "2026-01-01T00:00:09.000Z".into(),
        };
        let notice = Notification {
            profile: "dev".into(),
            ending,
            holds: true,
        };
        let (title, body) = words(std::slice::from_ref(&notice));
        assert_eq!(title, "Credentials of dev were revoked");
        let want = "dev: session s-1 was revoked by user/&lt;b&gt;admin&lt;/b&gt; at 2026-01-01T00:00:00.000Z, \
                    because: lost &amp; found. To go on: rolekeeper resume dev";
        assert_eq!(body, want);
        let (title, body) = words(&vec![notice; 12]);
        assert_eq!(
            (title.as_str(), body.lines().count()),
            ("Credentials of 12 profiles were revoked", 6)
        );
    }
}
