//! Desktop notifications (the Desktop Notifications Specification). Each opens a connection of its own, so that the bus
//! does not wake an idle daemon.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use zbus::zvariant::Value;

use crate::model::EndCause;
use crate::report;
use crate::revocation::notifications::Notification;

/// Sessions that end within this time are shown in one notification.
const MERGE_WINDOW: Duration = Duration::from_millis(300);
/// How long the desktop may take to reply.
pub(super) const REPLY_LIMIT: Duration = Duration::from_secs(5);
pub(super) const PATH: &str = "/org/freedesktop/Notifications";
pub(super) const INTERFACE: &str = "org.freedesktop.Notifications";
/// The most profiles that one notification lists.
const MAX_PROFILES: usize = 5;
/// The notification stays until the user closes it.
const NO_TIMEOUT: i32 = 0;

pub(super) async fn show_all(mut notifications: Receiver<Notification>) {
    while let Some(first) = notifications.recv().await {
        tokio::time::sleep(MERGE_WINDOW).await;

        let mut merged = vec![first];
        while let Ok(more) = notifications.try_recv() {
            merged.push(more);
        }

        if let Err(error) = show(&merged).await {
            tracing::debug!(%error, "no desktop shows the notification");
        }
    }
}

async fn show(notifications: &[Notification]) -> zbus::Result<()> {
    let hints = HashMap::from([
        ("urgency", Value::U8(2)),
        ("category", Value::from("security")),
    ]);

    let no_actions: &[&str] = &[];
    let arguments = (
        "rolekeeper",
        0_u32,
        "dialog-warning",
        title(notifications),
        body(notifications),
        no_actions,
        hints,
        NO_TIMEOUT,
    );

    let bus = zbus::connection::Builder::session()?
        .method_timeout(REPLY_LIMIT)
        .build()
        .await?;
    bus.call_method(Some(INTERFACE), PATH, Some(INTERFACE), "Notify", &arguments)
        .await?;

    Ok(())
}

fn title(notifications: &[Notification]) -> String {
    match notifications {
        [one] => format!("Credentials of {} were revoked", one.profile),
        many => format!("Credentials of {} profiles were revoked", many.len()),
    }
}

fn body(notifications: &[Notification]) -> String {
    let mut lines: Vec<_> = notifications.iter().take(MAX_PROFILES).map(line).collect();

    if notifications.len() > MAX_PROFILES {
        lines.push("Run rolekeeper status to list the others.".into());
    }

    escape(&lines.join("\n"))
}

fn line(notification: &Notification) -> String {
    let Notification {
        profile,
        ended,
        is_held,
    } = notification;

    let next = if *is_held {
        format!("To continue, run rolekeeper resume {profile}")
    } else if ended.cause == EndCause::AccountDisabled {
        "It continues once the account is enabled.".into()
    } else {
        "The role is assumed again.".into()
    };

    format!("{profile}: {}. {next}", report::session_ended(ended))
}

/// Notification servers may interpret markup, and the text contains names that other people chose.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SessionEnded;

    fn notification() -> Notification {
        Notification {
            profile: "dev".into(),
            ended: SessionEnded {
                session_id: Some("s-1".into()),
                by: Some("user/<b>admin</b>".into()),
                at: Some("2026-01-01T00:00:00Z".parse().unwrap()),
                reason: Some("lost & found".into()),
                ..SessionEnded::new(EndCause::Revoked, "2026-01-01T00:00:09Z".parse().unwrap())
            },
            is_held: true,
        }
    }

    #[test]
    fn notification_escapes_markup_and_names_the_next_command() {
        let one = [notification()];

        assert_eq!(title(&one), "Credentials of dev were revoked");
        assert_eq!(
            body(&one),
            "dev: session s-1 was revoked by user/&lt;b&gt;admin&lt;/b&gt; at 2026-01-01T00:00:00Z, \
             reason: lost &amp; found. To continue, run rolekeeper resume dev"
        );
    }

    #[test]
    fn twelve_notifications_are_merged_into_one() {
        let many = vec![notification(); 12];

        assert_eq!(title(&many), "Credentials of 12 profiles were revoked");
        assert_eq!(body(&many).lines().count(), 6);
    }
}
