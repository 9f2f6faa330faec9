//! Notices that the files of AWS say something else, so that the daemon is reloaded without a person.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::{AwsFiles, file};
use crate::platform::removal::FolderWatch;

/// A program that writes a file is finished if there is no change for this long.
const QUIET: Duration = Duration::from_millis(500);
/// How long changes without such a pause are awaited.
const MAX_WAIT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct AwsWatch {
    /// The daemon's own configuration file.
    config: PathBuf,
    folders: FolderWatch,
    fingerprint: u64,
    /// A change that was not compared yet.
    is_pending: bool,
}

impl AwsWatch {
    /// None if nothing can be watched, which is logged.
    pub(super) fn new(config: PathBuf, files: &AwsFiles) -> Option<Self> {
        let targets = [&files.config, &files.credentials]
            .into_iter()
            .flat_map(|file| {
                // A link may be replaced, and so may the file that it leads to.
                [Some(file.clone()), file.canonicalize().ok()]
            });
        let targets: Vec<_> = targets.flatten().collect();
        match FolderWatch::of_changes(&targets) {
            Ok(folders) => Some(Self {
                config,
                folders,
                fingerprint: files.fingerprint,
                // They may have changed since they were read.
                is_pending: true,
            }),
            Err(error) => {
                tracing::warn!(%error, "cannot watch the files of AWS; reload rolekeeperd after a change of them");
                None
            }
        }
    }

    /// Returns once other profiles can be made of the files. If it is dropped before, the next call continues.
    pub(super) async fn changed(&mut self) {
        loop {
            if !self.is_pending && self.folders.changed().await.is_err() {
                return std::future::pending().await;
            }
            self.is_pending = true;
            let _ = tokio::time::timeout(MAX_WAIT, self.quiet()).await;
            self.is_pending = false;

            // An error in the daemon's own configuration is reported when that is reloaded.
            let files = file::load(&self.config).ok().and_then(|new| new.aws_files);
            if let Some(files) = files
                && files.fingerprint != self.fingerprint
            {
                self.fingerprint = files.fingerprint;
                tracing::info!("the files of AWS have changed");
                return;
            }
        }
    }

    async fn quiet(&self) {
        while let Ok(Ok(())) = tokio::time::timeout(QUIET, self.folders.changed()).await {}
    }
}
