//! `rolekeeper watch PROFILE`: how things are with a profile, and again whenever they have changed, one line of JSON each.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};

use rolekeeper::connect;
use rolekeeper::protocol::{Code, Failure, Reply, Request, Watched};

use crate::{autostart, command};

pub(crate) fn run(profile: &str, socket: Option<PathBuf>) -> Result<(), Failure> {
    let mut last = None;
    follow(&connect::socket_path(socket)?, profile, |watched, _| {
        // A daemon that follows another one tells everything again.
        if last.as_ref() == Some(&watched) {
            return Ok(true);
        }
        let line = serde_json::to_string(&watched).map_err(|_| connect::out_of_place())? + "\n";
        last = Some(watched);
        command::print_some(&command::for_standard_output(line))
    })
}

/// Tells how things are with a profile, and again whenever they have changed, until `tell` has heard enough. It hears, too,
/// whether that is the first word of a daemon: one that goes away is followed by the next, whose generations begin anew.
pub(crate) fn follow(
    socket: &Path,
    profile: &str,
    tell: impl FnMut(Watched, bool) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let tell = RefCell::new(tell);
    let heard = Cell::new(true);
    loop {
        // Time to find the next daemon is given anew each time that one has been found.
        heard.set(false);
        let followed = autostart::ask(socket, |stream| {
            let mut is_first = true;
            connect::subscribe(stream, Request::Watch { profile: profile.into() }, |reply| {
                let Reply::Watched(watched) = reply else { return Err(connect::out_of_place()) };
                heard.set(true);
                (tell.borrow_mut())(watched, std::mem::replace(&mut is_first, false))
            })
        });
        match followed {
            Err(Failure { code: Code::ShuttingDown, .. }) if heard.get() => {}
            ended => return ended,
        }
    }
}
