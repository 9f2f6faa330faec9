//! A private D-Bus session bus for one test. It activates no services.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

pub(crate) struct Bus {
    process: Child,
    pub(crate) address: String,
}

impl Bus {
    pub(crate) fn start(folder: &Path) -> Self {
        let configuration = folder.join("bus.conf");
        let text = format!(
            "<busconfig><type>session</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
             <policy context=\"default\"><allow send_destination=\"*\" eavesdrop=\"true\"/><allow eavesdrop=\"true\"/>\
             <allow own=\"*\"/></policy></busconfig>",
            folder.join("bus").display()
        );
        std::fs::write(&configuration, text).expect("the file is writable");

        let mut process = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", configuration.display()))
            .args(["--nofork", "--nopidfile", "--print-address"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("dbus-daemon is installed: run tests/consumers/setup");

        let mut address = String::new();
        BufReader::new(process.stdout.take().expect("stdout is piped"))
            .read_line(&mut address)
            .expect("an address");

        Self {
            process,
            address: address.trim().into(),
        }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
