//! The journal's thread: completes, keeps and writes records until the journal is gone.

use std::collections::VecDeque;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rolekeeper::protocol::JournalReport;

use super::Note;
use super::file::{Chain, KEPT, Verified};
use super::rate_limit::Deduplicator;
use super::record::Record;
use super::syslog::Forward;
use crate::config::AlsoTo;
use crate::sync::lock;

/// How long a record waits for its thread. Wakeup at once, it would take the core on which an answer is being written.
const LATER: Duration = Duration::from_millis(10);
#[derive(Debug)]
pub(super) struct JournalWriter {
    records: Arc<Mutex<VecDeque<Record>>>,
    chain: Option<Chain>,
    /// What there was no room for yet.
    unwritten: VecDeque<Record>,
    is_failing: bool,
    forwards: Vec<Forward>,
    alike: Deduplicator,
}

impl JournalWriter {
    pub(super) fn new(
        records: Arc<Mutex<VecDeque<Record>>>,
        chain: Option<Chain>,
        also_to: &[AlsoTo],
    ) -> Self {
        let forwards = also_to.iter().map(|to| Forward::new(*to)).collect();
        let (unwritten, alike) = (VecDeque::new(), Deduplicator::default());
        Self {
            records,
            chain,
            unwritten,
            is_failing: false,
            forwards,
            alike,
        }
    }

    pub(super) fn write(mut self, notes: &Receiver<Note>) {
        while let Ok(first) = notes.recv() {
            // Not in the moment in which whoever it is about is to be answered.
            thread::sleep(LATER);
            for note in std::iter::once(first).chain(notes.try_iter()) {
                self.keep(note);
            }
        }
    }

    fn keep(&mut self, note: Note) {
        let record = match note {
            Note::Flush(done) => {
                let _ = done.send(());
                return;
            }
            Note::Verify(done) => {
                let _ = done.send(self.chain.as_ref().map(report));
                return;
            }
            Note::Issuance(mut holder, trace) => {
                holder.processes = trace.sight().processes();
                for holder in self.alike.admit(holder) {
                    self.record(Record::Issuance(holder));
                }
                return;
            }
            Note::Event(mut event, trace) => {
                event.processes = trace.sight().processes();
                Record::Event(event)
            }
            Note::Ended(record) => record,
        };
        self.record(record);
    }

    fn record(&mut self, record: Record) {
        self.forwards
            .iter_mut()
            .for_each(|forward| forward.send(&record));
        if self.chain.is_some() {
            self.unwritten.push_back(record.clone());
            if self.unwritten.len() > KEPT {
                self.unwritten.pop_front();
            }
            self.write_out();
        }
        if matches!(record, Record::Event(_)) {
            return;
        }
        let mut records = lock(&self.records);
        records.push_back(record);
        if records.len() > KEPT {
            records.pop_front();
        }
    }

    /// A failure is said once, and mended when there is room again.
    fn write_out(&mut self) {
        let Some(chain) = &mut self.chain else { return };
        while let Some(record) = self.unwritten.front() {
            if let Err(error) = chain.add(record) {
                if !self.is_failing {
                    tracing::warn!(path = %chain.path().display(), %error, "who is given credentials cannot be written");
                }
                self.is_failing = true;
                return;
            }
            self.is_failing = false;
            self.unwritten.pop_front();
        }
    }
}

fn report(chain: &Chain) -> JournalReport {
    let path = chain.path().to_owned();
    match chain.verify() {
        Ok(Verified {
            lines,
            first,
            last,
            problems,
            ..
        }) => JournalReport {
            path,
            lines,
            first,
            last,
            problems,
        },
        Err(error) => {
            let problems = vec![format!("it cannot be read: {error}")];
            JournalReport {
                path,
                lines: 0,
                first: 0,
                last: 0,
                problems,
            }
        }
    }
}
