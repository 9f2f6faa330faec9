//! The daemon's parts and services, each constructed with what it uses.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::stores::Stores;
use crate::access::Access;
use crate::access::policy::Policy;
use crate::audit::AuditService;
use crate::cache::Cache;
use crate::clock::timer_queue::TimerQueue;
use crate::clock::{Clock, Timer};
use crate::config::{Profile, UpstreamConfig};
use crate::credentials::CredentialService;
use crate::iam::IamService;
use crate::journal::Journal;
use crate::login::LoginService;
use crate::model::UpstreamId;
use crate::refresh::RefreshService;
use crate::revocation::RevocationService;
use crate::sandbox::helper::command_runner::CommandRunner;
use crate::serve::Services;
use crate::sessions::SessionService;
use crate::status::StatusService;
use crate::upstream::handle::UpstreamHandle;
use crate::upstream::{SetupError, Upstreams};

/// What runs while the daemon serves.
#[derive(Debug)]
pub struct Daemon {
    pub clock: Clock,
    pub cache: Arc<Cache>,
    pub(crate) upstreams: Arc<Upstreams>,
    pub timers: Arc<TimerQueue>,
    pub journal: Arc<Journal>,
    pub services: Services,
}

impl Daemon {
    /// Upstreams are called in the runtime that this is called in.
    pub fn new(
        policy: Policy,
        profiles: Vec<(Profile, Arc<UpstreamHandle>)>,
        upstreams: Vec<Arc<UpstreamHandle>>,
        stores: Stores,
        clock: Clock,
    ) -> Self {
        let runtime = Handle::current();
        let cache = Arc::new(Cache::new(profiles));
        let upstreams = Arc::new(Upstreams::new(upstreams));
        let timers = Arc::new(TimerQueue::default());
        let journal = Arc::new(stores.journal);

        let access = Arc::new(Access::new(
            policy,
            Arc::clone(&cache),
            Arc::clone(&journal),
            clock.clone(),
        ));

        let revocation = RevocationService::new(
            Arc::clone(&cache),
            Arc::clone(&upstreams),
            clock.clone(),
            Arc::clone(&timers),
            Arc::clone(&journal),
            stores.revocations,
            runtime.clone(),
        );

        let refresh = RefreshService::new(
            Arc::clone(&cache),
            Arc::clone(&upstreams),
            clock.clone(),
            Arc::clone(&timers),
            Arc::clone(&revocation),
            runtime.clone(),
        );

        let credentials = CredentialService::new(
            clock.clone(),
            Arc::clone(&journal),
            Arc::clone(&refresh),
            Arc::clone(&revocation),
        );

        let iam = IamService::new(
            Arc::clone(&access),
            Arc::clone(&cache),
            Arc::clone(&upstreams),
            clock.clone(),
            Arc::clone(&journal),
            Arc::clone(&credentials),
            Arc::clone(&revocation),
        );

        let login = LoginService::new(
            Arc::clone(&cache),
            Arc::clone(&upstreams),
            clock.clone(),
            Arc::clone(&journal),
            Arc::clone(&refresh),
            stores.rotations,
            runtime,
        );

        let status = StatusService::new(
            Arc::clone(&access),
            Arc::clone(&cache),
            Arc::clone(&upstreams),
            clock.clone(),
            Arc::clone(&revocation),
        );

        let sessions = SessionService::new(
            Arc::clone(&cache),
            Arc::clone(&upstreams),
            Arc::clone(&journal),
            Arc::clone(&revocation),
        );

        let audit = AuditService::new(clock.clone(), Arc::clone(&journal));

        Self {
            services: Services {
                clock: clock.clone(),
                access,
                credentials,
                refresh,
                revocation,
                iam,
                login,
                status,
                sessions,
                audit,
            },
            clock,
            cache,
            upstreams,
            timers,
            journal,
        }
    }

    /// Starts the task that keeps sessions fresh.
    pub fn start_scheduler(&self, timer: Timer) {
        tokio::spawn(Arc::clone(&self.services.refresh).run(timer));
    }
}

type ProfilesAndUpstreams = (
    Vec<(Profile, Arc<UpstreamHandle>)>,
    Vec<Arc<UpstreamHandle>>,
);

/// An upstream and its profiles, as configured.
pub(super) fn upstream_handles(
    mut configured: Vec<UpstreamConfig>,
    command_runner: Option<&Arc<CommandRunner>>,
) -> Result<ProfilesAndUpstreams, SetupError> {
    configured.sort_by(|one, other| one.name.cmp(&other.name));

    let mut profiles = Vec::new();
    let mut upstreams = Vec::new();
    for (mut config, number) in configured.into_iter().zip(0..) {
        let of_upstream = std::mem::take(&mut config.profiles);
        let name = Arc::clone(&config.name);
        let client = crate::upstream::client(&config, command_runner)?;
        let handle = UpstreamHandle::new(name, UpstreamId::new(number), client, config.check_every);

        for profile in of_upstream {
            profiles.push((profile, Arc::clone(&handle)));
        }
        upstreams.push(handle);
    }

    Ok((profiles, upstreams))
}
