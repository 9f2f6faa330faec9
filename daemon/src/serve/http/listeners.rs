//! The open endpoints and their ports. The ports are stored in a file beside the socket, so that programs that use an endpoint
//! find it again after a restart of the daemon.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock};

use ring::hmac;
use tokio::net::TcpListener;

use super::tokens::{Tokens, read_or_create};
use crate::cache::Cache;
use crate::clock::Now;
use crate::config::ProfileName;
use crate::platform::private_file;
use crate::platform::private_file::create_folder;
use crate::serve::limits::ConnectionLimit;
use crate::sync::lock;

/// The most connections to an endpoint.
const MAX_CONNECTIONS: usize = 256;

/// The most endpoints in `rolekeeper status`, so that it fits a frame.
const MAX_ADDRESSES: usize = 50;

const PORTS_FILE: &str = "ports.json";
const KEY_FILE: &str = "imds.key";

/// An endpoint has its own port. All profiles share the one for container credentials. Instance metadata has one role, so
/// each profile has its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum HttpEndpoint {
    Container,
    Imds(ProfileName),
}

/// All endpoints of the daemon.
#[derive(Debug)]
pub(crate) struct Endpoints {
    folder: PathBuf,
    /// The configured port for container credentials.
    port: Option<u16>,
    state: Mutex<State>,
    pub(super) tokens: Tokens,
    /// The key that signs the tokens of instance metadata.
    key: OnceLock<hmac::Key>,
}

#[derive(Debug, Default)]
struct State {
    listeners: BTreeMap<HttpEndpoint, Listener>,
    /// The ports of all endpoints since the folder was created, open or closed.
    ports: BTreeMap<HttpEndpoint, u16>,
}

/// An open endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    pub(super) socket: Arc<TcpListener>,
    pub(super) connections: ConnectionLimit,
    /// The number of connections that were refused because of the limit.
    pub(super) refused: Arc<AtomicU64>,
}

/// The name in files and for service managers.
impl fmt::Display for HttpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container => f.write_str("container"),
            Self::Imds(profile) => write!(f, "imds.{profile}"),
        }
    }
}

impl HttpEndpoint {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("imds.") {
            Some(profile) => ProfileName::parse(profile).map(Self::Imds),
            None => (text == "container").then_some(Self::Container),
        }
    }

    /// Whether its profile still exists.
    fn is_known(&self, cache: &Cache) -> bool {
        match self {
            Self::Container => true,
            Self::Imds(profile) => cache.find(profile.as_str()).is_some(),
        }
    }
}

impl Listener {
    fn new(socket: std::net::TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;

        Ok(Self {
            socket: Arc::new(TcpListener::from_std(socket)?),
            connections: ConnectionLimit::new(MAX_CONNECTIONS),
            refused: Arc::default(),
        })
    }

    /// Whether more than half of the connections are open.
    pub(super) fn is_half_used(&self) -> bool {
        self.connections.open() > MAX_CONNECTIONS / 2
    }
}

impl State {
    /// The stored ports, and the sockets that an earlier process or a service manager passed in.
    fn load(folder: &Path, inherited: Vec<(HttpEndpoint, OwnedFd)>) -> Self {
        let mut state = Self {
            ports: read_ports(folder),
            ..Self::default()
        };

        for (endpoint, descriptor) in inherited {
            match adopt(descriptor) {
                Ok((port, listener)) => {
                    state.ports.insert(endpoint.clone(), port);
                    if state.listeners.insert(endpoint.clone(), listener).is_some() {
                        tracing::warn!(%endpoint, "two sockets were passed in; the last one is used");
                    }
                }
                Err(error) => {
                    tracing::warn!(%endpoint, %error, "the socket that was passed in is ignored");
                }
            }
        }

        state
    }

    /// Sets the configured port. A listener on another port is closed.
    fn set_port(&mut self, port: u16) {
        if self.ports.insert(HttpEndpoint::Container, port) != Some(port) {
            self.listeners.remove(&HttpEndpoint::Container);
        }
    }

    fn remove_unknown(&mut self, cache: &Cache) {
        self.ports.retain(|endpoint, _| endpoint.is_known(cache));
        self.listeners
            .retain(|endpoint, _| endpoint.is_known(cache));
    }
}

impl Endpoints {
    /// Opens the endpoints of earlier daemons and the configured one. A port that is in use is an error of the request
    /// for the endpoint. At the first start, [`Endpoints::open_configured`] makes it one of the start.
    pub(crate) fn start(
        socket: &Path,
        inherited: Vec<(HttpEndpoint, OwnedFd)>,
        port: Option<u16>,
        cache: &Cache,
        now: &Now,
    ) -> Self {
        let folder = folder(socket);
        let mut state = State::load(&folder, inherited);
        if let Some(port) = port {
            state.set_port(port);
        }

        state.remove_unknown(cache);

        // While a port is closed, another program can listen on it, and clients send it their tokens.
        let stayed_open = state.listeners.contains_key(&HttpEndpoint::Container);
        let profiles = cache.entries().iter().map(|entry| &entry.profile.name);
        let tokens = Tokens::open(&folder, profiles, stayed_open, now);

        let to_open: Vec<HttpEndpoint> = state.ports.keys().cloned().collect();
        let endpoints = Self {
            folder,
            port,
            state: Mutex::new(state),
            tokens,
            key: OnceLock::new(),
        };

        for endpoint in to_open {
            if let Err(error) = endpoints.open(&endpoint) {
                tracing::warn!(%endpoint, %error, "the endpoint cannot be opened");
            }
        }

        endpoints
    }

    /// Opens the endpoint of the configured port, if there is one. Programs may already use the port, and what another
    /// program answers there.
    pub(crate) fn open_configured(&self) -> io::Result<()> {
        match self.port {
            Some(_) => self.open(&HttpEndpoint::Container).map(drop),
            None => Ok(()),
        }
    }

    /// The open endpoint, and whether this call opened it.
    pub(super) fn open(&self, endpoint: &HttpEndpoint) -> io::Result<(Listener, bool)> {
        let State { listeners, ports } = &mut *lock(&self.state);
        if let Some(listener) = listeners.get(endpoint) {
            return Ok((listener.clone(), false));
        }

        let port_before = ports.get(endpoint).copied().unwrap_or(0);
        let is_configured = *endpoint == HttpEndpoint::Container && self.port.is_some();
        let listener = match listen(port_before) {
            Err(error) if port_before != 0 && !is_configured => {
                tracing::warn!(%endpoint, %error, "the endpoint gets another port; restart the programs that use it");
                listen(0)?
            }
            listener => listener?,
        };

        let address = listener.socket.local_addr()?;

        ports.insert(endpoint.clone(), address.port());
        write_ports(&self.folder, ports)?;

        tracing::info!(%endpoint, %address, "the endpoint is open");
        listeners.insert(endpoint.clone(), listener.clone());

        Ok((listener, true))
    }

    /// The signing key. It is stored in a file, so that tokens stay valid after a restart of the daemon.
    pub(super) fn key(&self) -> io::Result<&hmac::Key> {
        if let Some(key) = self.key.get() {
            return Ok(key);
        }

        let secret = read_or_create(&self.folder.join(KEY_FILE))?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        Ok(self.key.get_or_init(|| key))
    }

    pub(crate) fn all(&self) -> Vec<(HttpEndpoint, Listener)> {
        lock(&self.state)
            .listeners
            .iter()
            .map(|(endpoint, listener)| (endpoint.clone(), listener.clone()))
            .collect()
    }

    /// The addresses of open endpoints by name, for `rolekeeper status`.
    pub(crate) fn addresses(&self) -> BTreeMap<String, String> {
        let mut addresses = BTreeMap::new();
        for (endpoint, listener) in self.all().into_iter().take(MAX_ADDRESSES) {
            if let Ok(address) = listener.socket.local_addr() {
                addresses.insert(endpoint.to_string(), address.to_string());
            }
        }

        addresses
    }

    /// Closes all endpoints. Open connections continue.
    pub(crate) fn close(&self) {
        lock(&self.state).listeners.clear();
    }

    /// Duplicates each socket for the next process.
    pub(crate) fn leave_open(&self) -> io::Result<Vec<(HttpEndpoint, OwnedFd)>> {
        let mut descriptors = Vec::new();
        for (endpoint, listener) in self.all() {
            descriptors.push((endpoint, listener.socket.as_fd().try_clone_to_owned()?));
        }

        Ok(descriptors)
    }
}

/// Beside the socket, in a folder that is private.
fn folder(socket: &Path) -> PathBuf {
    let mut name = socket.as_os_str().to_owned();
    name.push(".http");
    name.into()
}

fn listen(port: u16) -> io::Result<Listener> {
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);

    std::net::TcpListener::bind(address)
        .and_then(Listener::new)
        .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))
}

/// A socket that already listens, and its port.
///
/// # Errors
/// When other machines can connect to it.
fn adopt(descriptor: OwnedFd) -> io::Result<(u16, Listener)> {
    let socket = std::net::TcpListener::from(descriptor);
    let address = socket.local_addr()?;
    if address.ip() != Ipv4Addr::LOCALHOST {
        return Err(io::Error::other(format!(
            "it listens on {address}, and not on 127.0.0.1"
        )));
    }

    Ok((address.port(), Listener::new(socket)?))
}

fn read_ports(folder: &Path) -> BTreeMap<HttpEndpoint, u16> {
    let text = private_file::read(&folder.join(PORTS_FILE)).unwrap_or_default();
    let ports: BTreeMap<String, u16> = serde_json::from_str(&text).unwrap_or_default();

    ports
        .into_iter()
        .filter_map(|(name, port)| Some((HttpEndpoint::parse(&name)?, port)))
        .collect()
}

fn write_ports(folder: &Path, ports: &BTreeMap<HttpEndpoint, u16>) -> io::Result<()> {
    let ports: BTreeMap<String, u16> = ports
        .iter()
        .map(|(endpoint, port)| (endpoint.to_string(), *port))
        .collect();

    create_folder(folder)?;
    private_file::replace(&folder.join(PORTS_FILE), &serde_json::to_vec(&ports)?)
}
