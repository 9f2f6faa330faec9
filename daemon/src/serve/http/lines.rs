//! Which endpoints are open, and on which ports. They are remembered beside the socket: a program that was told of one goes
//! on using it when another daemon follows this one.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use ring::hmac;
use tokio::net::TcpListener;

use super::CONNECTIONS;
use super::tokens::{Tokens, kept};
use crate::cache::Cache;
use crate::clock::Boot;
use crate::config::ProfileName;
use crate::private_file;
use crate::serve::Gauge;
use crate::serve::bind::create_folder;
use crate::sync::lock;

/// What listens on a port. Container credentials of all profiles share one; instance metadata has room for one role only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Line {
    Container,
    Imds(ProfileName),
}

/// As it is called in files and by service managers.
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container => f.write_str("container"),
            Self::Imds(profile) => write!(f, "imds.{profile}"),
        }
    }
}

impl Line {
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
    lines: Mutex<Lines>,
    pub(super) tokens: Tokens,
    /// What signs the tokens of instance metadata.
    key: OnceLock<hmac::Key>,
    pub(super) gauge: Gauge,
}

#[derive(Debug, Default)]
struct Lines {
    open: BTreeMap<Line, Arc<TcpListener>>,
    /// Those that were asked for since the socket's folder is there, open or not.
    ports: BTreeMap<Line, u16>,
}

impl Endpoints {
    /// Opens what earlier daemons had open, or passed to this one, and what the configuration wants. A port that is taken
    /// is an error for those who ask for it.
    pub fn start(
        socket: &Path,
        inherited: Vec<(Line, OwnedFd)>,
        port: Option<u16>,
        cache: &Cache,
        now: Boot,
    ) -> io::Result<Self> {
        let folder = folder(socket);
        let profiles = cache.slots().iter().map(|slot| &slot.profile.name);
        let tokens = Tokens::open(&folder, profiles, now);
        let mut lines = Lines { ports: remembered(&folder), ..Lines::default() };
        for (line, descriptor) in inherited {
            let listener = listen_on(descriptor.into())?;
            lines.ports.insert(line.clone(), listener.local_addr()?.port());
            lines.open.insert(line, listener);
        }
        if let Some(port) = port
            && lines.ports.insert(Line::Container, port) != Some(port)
        {
            lines.open.remove(&Line::Container);
        }
        lines.ports.retain(|line, _| line.is_known(cache));
        lines.open.retain(|line, _| line.is_known(cache));
        let wanted: Vec<Line> = lines.ports.keys().cloned().collect();
        let (lines, gauge) = (Mutex::new(lines), Gauge::new(CONNECTIONS));
        let endpoints = Self { folder, port, lines, tokens, key: OnceLock::new(), gauge };
        for line in wanted {
            if let Err(error) = endpoints.open(&line) {
                tracing::warn!(%line, %error, "the endpoint cannot be opened");
            }
        }
        Ok(endpoints)
    }

    /// The endpoint, and whether it is new.
    pub(super) fn open(&self, line: &Line) -> io::Result<(Arc<TcpListener>, bool)> {
        let Lines { open, ports } = &mut *lock(&self.lines);
        if let Some(listener) = open.get(line) {
            return Ok((Arc::clone(listener), false));
        }
        let before = ports.get(line).copied().unwrap_or(0);
        let is_fixed = *line == Line::Container && self.port.is_some();
        let listener = match listen(before) {
            // Programs that know it will not find it again; others need one all the same.
            Err(_) if before != 0 && !is_fixed => listen(0)?,
            listener => listener?,
        };
        let address = listener.local_addr()?;
        ports.insert(line.clone(), address.port());
        create_folder(&self.folder)?;
        let remembered: BTreeMap<String, u16> = ports.iter().map(|(line, port)| (line.to_string(), *port)).collect();
        private_file::replace(&self.folder.join(PORTS), &serde_json::to_vec(&remembered)?)?;
        tracing::info!(%line, %address, "an endpoint is open");
        open.insert(line.clone(), Arc::clone(&listener));
        Ok((listener, true))
    }

    /// It is kept in a file, so that what it signed is good when another daemon follows this one.
    pub(super) fn key(&self) -> io::Result<&hmac::Key> {
        if let Some(key) = self.key.get() {
            return Ok(key);
        }
        let text = kept(&self.folder.join(KEY))?;
        Ok(self.key.get_or_init(|| hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes())))
    }

    pub(crate) fn all(&self) -> Vec<(Line, Arc<TcpListener>)> {
        lock(&self.lines).open.iter().map(|(line, listener)| (line.clone(), Arc::clone(listener))).collect()
    }

    /// What is open, for people, as far as there is room for it in a frame.
    pub fn shown(&self) -> BTreeMap<String, String> {
        let address = |listener: &TcpListener| listener.local_addr().ok().map(|address| address.to_string());
        let shown = |(line, listener): (Line, Arc<TcpListener>)| Some((line.to_string(), address(&listener)?));
        self.all().into_iter().filter_map(shown).take(SHOWN).collect()
    }

    /// Nobody new may connect from here on.
    pub(crate) fn close(&self) {
        lock(&self.lines).open.clear();
    }

    /// Another hold on each, for the process that comes next.
    pub fn leave_open(&self) -> io::Result<Vec<(Line, OwnedFd)>> {
        self.all().into_iter().map(|(line, listener)| Ok((line, listener.as_fd().try_clone_to_owned()?))).collect()
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

fn listen(port: u16) -> io::Result<Arc<TcpListener>> {
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    std::net::TcpListener::bind(address)
        .and_then(listen_on)
        .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))
}

fn listen_on(listener: std::net::TcpListener) -> io::Result<Arc<TcpListener>> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener).map(Arc::new)
}

fn remembered(folder: &Path) -> BTreeMap<Line, u16> {
    let text = private_file::read(&folder.join(PORTS)).unwrap_or_default();
    let ports: BTreeMap<String, u16> = serde_json::from_str(&text).unwrap_or_default();
    ports.into_iter().filter_map(|(line, port)| Some((Line::parse(&line)?, port))).collect()
}
