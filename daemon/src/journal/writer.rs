//! The journal's thread: it completes, writes and forwards records until the journal is dropped.

use std::collections::VecDeque;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::Message;
use super::file::{JournalFile, RETAINED};
use super::rate_limit::SessionUseLimiter;
use super::record::{Process, Record};
use super::retention::retained;
use super::syslog::Forwarder;
use crate::config::AlsoTo;
use crate::sync::lock;

/// The delay before the thread handles a record. Without it, the thread takes the core that writes the reply.
const DELAY: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(super) struct Writer {
    /// The newest records that the daemon itself reads.
    records: Arc<Mutex<VecDeque<Record>>>,
    file: Option<JournalFile>,
    /// Records that could not be written yet, oldest first.
    unwritten: VecDeque<Record>,
    /// The failure is in the daemon's log.
    is_failing: bool,
    forwarders: Vec<Forwarder>,
    limiter: SessionUseLimiter,
}

impl Writer {
    pub(super) fn new(
        records: Arc<Mutex<VecDeque<Record>>>,
        file: Option<JournalFile>,
        also_to: &[AlsoTo],
    ) -> Self {
        Self {
            records,
            file,
            unwritten: VecDeque::new(),
            is_failing: false,
            forwarders: also_to.iter().map(|to| Forwarder::new(*to)).collect(),
            limiter: SessionUseLimiter::default(),
        }
    }

    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        while let Ok(first) = messages.recv() {
            thread::sleep(DELAY);
            for message in std::iter::once(first).chain(messages.try_iter()) {
                self.handle(message);
            }
        }
    }

    fn handle(&mut self, message: Message) {
        let (mut record, inspection) = match message {
            Message::Record(record, inspection) => (record, inspection),
            Message::Flush(done) => {
                let _ = done.send(());
                return;
            }
        };

        if let Some(caller) = record.caller_mut()
            && let Some(inspection) = inspection
        {
            let processes = inspection.processes().into_iter();
            caller.processes = processes.map(Process::from).collect();
        }

        match record {
            Record::Issued(usage) | Record::Called(usage) => {
                for usage in self.limiter.admit(usage) {
                    self.write(usage.into());
                }
            }
            other => self.write(other),
        }
    }

    fn write(&mut self, record: Record) {
        for forwarder in &mut self.forwarders {
            forwarder.send(&record);
        }

        if self.file.is_some() {
            push_bounded(&mut self.unwritten, record.clone());
            self.write_to_file();
        }

        if record.is_read() {
            push_bounded(&mut lock(&self.records), record);
        }
    }

    /// Logs a failure once. The next record tries again.
    fn write_to_file(&mut self) {
        let Some(file) = &mut self.file else { return };
        while let Some(record) = self.unwritten.front() {
            if let Err(error) = file.append(record) {
                if !self.is_failing {
                    tracing::warn!(path = %file.path().display(), %error, "cannot write the journal");
                }
                self.is_failing = true;
                return;
            }
            self.is_failing = false;
            self.unwritten.pop_front();
        }
    }
}

/// If there are too many, drops the oldest ones of the users that have most.
pub(super) fn push_bounded(records: &mut VecDeque<Record>, record: Record) {
    records.push_back(record);
    if records.len() <= RETAINED {
        return;
    }

    // A tenth at once, because each time costs a look at all.
    let owners: Vec<_> = records.iter().map(|record| (record.uid(), 1)).collect();
    let mut retained = retained(&owners, RETAINED / 10 * 9).into_iter();
    records.retain(|_| retained.next().unwrap_or(true));
}
