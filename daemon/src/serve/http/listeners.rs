//! Which endpoints are open, and on which ports. They are remembered beside the socket: a program that was told of one goes
//! on using it when another daemon follows this one.

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

use super::tokens::{Tokens, kept};
use crate::cache::Cache;
use crate::clock::Now;
use crate::config::ProfileName;
use crate::platform::private_file;
use crate::platform::private_file::create_folder;
use crate::serve::limits::ConnectionLimit;
use crate::sync::lock;

/// What listens on a port. Container credentials of all profiles share one; instance metadata has room for one role only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum HttpEndpoint {
    Container,
    Imds(ProfileName),
}

/// As it is called in files and by service managers.
impl fmt::Display for HttpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container => f.write_str("container"),
            Self::Imds(profile) => write!(f, "imds.{profile}"),
        }
    }
}

impl HttpEndpoint {
    pub fn parse(text: &str) -> Option<Self> {
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

#[derive(Debug)]
pub struct Endpoints {
    folder: PathBuf,
    /// The port that the configuration wants for container credentials.
    port: Option<u16>,
    lines: Mutex<HttpEndpoints>,
    pub(super) tokens: Tokens,
    /// What signs the tokens of instance metadata.
    key: OnceLock<hmac::Key>,
}

/// The most connections of a line.
const CONNECTIONS: usize = 256;

/// A line that is open.
#[derive(Debug, Clone)]
pub(crate) struct Opened {
    pub(crate) listener: Arc<TcpListener>,
    pub(super) connections: ConnectionLimit,
    /// How many connections there was no place for.
    pub(super) refused: Arc<AtomicU64>,
}

impl Opened {
    fn new(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = Arc::new(TcpListener::from_std(listener)?);
        Ok(Self {
            listener,
            connections: ConnectionLimit::new(CONNECTIONS),
            refused: Arc::default(),
        })
    }

    /// By strangers, perhaps.
    pub(super) fn is_crowded(&self) -> bool {
        self.connections.open() > CONNECTIONS / 2
    }
}

#[derive(Debug, Default)]
struct HttpEndpoints {
    open: BTreeMap<HttpEndpoint, Opened>,
    /// Those that were asked for since the socket's folder is there, open or not.
    ports: BTreeMap<HttpEndpoint, u16>,
}

impl Endpoints {
    /// Opens what earlier daemons had open, or passed to this one, and what the configuration wants. A port that is taken
    /// is an error for those who ask for it.
    pub fn start(
        socket: &Path,
        inherited: Vec<(HttpEndpoint, OwnedFd)>,
        port: Option<u16>,
        cache: &Cache,
        now: &Now,
    ) -> Self {
        let folder = folder(socket);
        let mut lines = HttpEndpoints {
            ports: remembered(&folder),
            ..HttpEndpoints::default()
        };
        for (line, descriptor) in inherited {
            match passed(descriptor) {
                Ok((port, opened)) => {
                    lines.ports.insert(line.clone(), port);
                    if lines.open.insert(line.clone(), opened).is_some() {
                        tracing::warn!(%line, "two sockets were passed in for it; the last one is used");
                    }
                }
                Err(error) => {
                    tracing::warn!(%line, %error, "the socket that was passed in for it is not used")
                }
            }
        }
        if let Some(port) = port
            && lines.ports.insert(HttpEndpoint::Container, port) != Some(port)
        {
            lines.open.remove(&HttpEndpoint::Container);
        }
        lines.ports.retain(|line, _| line.is_known(cache));
        lines.open.retain(|line, _| line.is_known(cache));
        let profiles = cache.entries().iter().map(|entry| &entry.profile.name);
        // Nobody else can have listened on a port that was never let go of, and have been sent them.
        let is_kept = lines.open.contains_key(&HttpEndpoint::Container);
        let tokens = Tokens::open(&folder, profiles, is_kept, now);
        let wanted: Vec<HttpEndpoint> = lines.ports.keys().cloned().collect();
        let endpoints = Self {
            folder,
            port,
            lines: Mutex::new(lines),
            tokens,
            key: OnceLock::new(),
        };
        for line in wanted {
            if let Err(error) = endpoints.open(&line) {
                tracing::warn!(%line, %error, "the endpoint cannot be opened");
            }
        }
        endpoints
    }

    /// The endpoint, and whether it is new.
    pub(super) fn open(&self, line: &HttpEndpoint) -> io::Result<(Opened, bool)> {
        let HttpEndpoints { open, ports } = &mut *lock(&self.lines);
        if let Some(opened) = open.get(line) {
            return Ok((opened.clone(), false));
        }
        let before = ports.get(line).copied().unwrap_or(0);
        let is_fixed = *line == HttpEndpoint::Container && self.port.is_some();
        let opened = match listen(before) {
            Err(error) if before != 0 && !is_fixed => {
                tracing::warn!(%line, %error, "another port is used; programs that know this one will not find it");
                listen(0)?
            }
            opened => opened?,
        };
        let address = opened.listener.local_addr()?;
        ports.insert(line.clone(), address.port());
        create_folder(&self.folder)?;
        let remembered: BTreeMap<String, u16> = ports
            .iter()
            .map(|(line, port)| (line.to_string(), *port))
            .collect();
        private_file::replace(&self.folder.join(PORTS), &serde_json::to_vec(&remembered)?)?;
        tracing::info!(%line, %address, "an endpoint is open");
        open.insert(line.clone(), opened.clone());
        Ok((opened, true))
    }

    /// It is kept in a file, so that what it signed is good when another daemon follows this one.
    pub(super) fn key(&self) -> io::Result<&hmac::Key> {
        if let Some(key) = self.key.get() {
            return Ok(key);
        }
        let text = kept(&self.folder.join(KEY))?;
        Ok(self
            .key
            .get_or_init(|| hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes())))
    }

    pub(crate) fn all(&self) -> Vec<(HttpEndpoint, Opened)> {
        lock(&self.lines)
            .open
            .iter()
            .map(|(line, opened)| (line.clone(), opened.clone()))
            .collect()
    }

    /// What is open, for people, as far as there is room for it in a frame.
    pub fn shown(&self) -> BTreeMap<String, String> {
        let shown = |(line, opened): (HttpEndpoint, Opened)| {
            Some((
                line.to_string(),
                opened.listener.local_addr().ok()?.to_string(),
            ))
        };
        self.all()
            .into_iter()
            .filter_map(shown)
            .take(SHOWN)
            .collect()
    }

    /// Nobody new may connect from here on.
    pub(crate) fn close(&self) {
        lock(&self.lines).open.clear();
    }

    /// Another hold on each, for the process that comes next.
    pub fn leave_open(&self) -> io::Result<Vec<(HttpEndpoint, OwnedFd)>> {
        let hold = |opened: Opened| opened.listener.as_fd().try_clone_to_owned();
        self.all()
            .into_iter()
            .map(|(line, opened)| Ok((line, hold(opened)?)))
            .collect()
    }
}

/// The most that is shown of them.
const SHOWN: usize = 50;
const PORTS: &str = "ports.json";
const KEY: &str = "imds.key";

/// Beside the socket, whose folder is closed to others.
fn folder(socket: &Path) -> PathBuf {
    let mut name = socket.as_os_str().to_owned();
    name.push(".http");
    name.into()
}

fn listen(port: u16) -> io::Result<Opened> {
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    std::net::TcpListener::bind(address)
        .and_then(Opened::new)
        .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))
}

/// A socket that listens already, and its port. What is open to other machines is none of ours.
fn passed(descriptor: OwnedFd) -> io::Result<(u16, Opened)> {
    let listener = std::net::TcpListener::from(descriptor);
    let address = listener.local_addr()?;
    if address.ip() != Ipv4Addr::LOCALHOST {
        return Err(io::Error::other(format!(
            "it listens on {address}, and not on 127.0.0.1"
        )));
    }
    Ok((address.port(), Opened::new(listener)?))
}

fn remembered(folder: &Path) -> BTreeMap<HttpEndpoint, u16> {
    let text = private_file::read(&folder.join(PORTS)).unwrap_or_default();
    let ports: BTreeMap<String, u16> = serde_json::from_str(&text).unwrap_or_default();
    ports
        .into_iter()
        .filter_map(|(line, port)| Some((HttpEndpoint::parse(&line)?, port)))
        .collect()
}
