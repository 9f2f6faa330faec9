//! Step 3: the AWS CLI and boto3 with leases of the daemon.

use std::path::Path;

use super::Demo;
use super::screen::Style;
use crate::harness::{Run, programs};

const BOTO3_SCRIPT: &str = "\
import boto3
credentials = boto3.Session(profile_name='dev').get_credentials()
print('boto3 has', credentials.get_frozen_credentials().access_key, 'from', credentials.method)";

impl Demo<'_> {
    /// Skipped without the folder of the tools.
    pub(super) fn use_tools(&mut self, folder: Option<&Path>) {
        self.next_title("3. AWS tools need one line of configuration");

        let Some(folder) = folder else {
            self.print(
                Style::Dim,
                "skipped: cannot install the AWS CLI and boto3 with python3",
            );
            return;
        };

        self.write_aws_config();
        self.use_aws_cli(&folder.join("aws"));
        self.use_boto3(&folder.join("python"));
        self.use_exec(&folder.join("aws"));

        self.print(Style::Good, &self.count_of_assume_role());
    }

    fn write_aws_config(&mut self) {
        let client = programs()
            .rolekeeper
            .canonicalize()
            .expect("the client is built");
        let text = format!(
            "[profile dev]\nregion = eu-central-1\ncredential_process = {} credential-process dev\n",
            client.display()
        );
        std::fs::create_dir(self.home.path().join(".aws")).expect("a folder");
        self.home.private_file(".aws/config", &text);

        self.print(
            Style::Dim,
            "  ~/.aws/config: [profile dev] credential_process = /path/to/rolekeeper credential-process dev",
        );
    }

    fn use_aws_cli(&mut self, aws: &Path) {
        self.print(Style::Command, "$ aws configure list --profile dev");
        let mut command = self.home.command(aws);
        command.args(["configure", "list", "--profile", "dev"]);

        let run = self.home.run(command);
        self.print_lines_with(&run, &["access_key", "secret_key"]);
    }

    fn use_boto3(&mut self, python: &Path) {
        let line = "$ python -c \"boto3.Session(profile_name='dev').get_credentials() ...\"";
        self.print(Style::Command, line);
        let mut command = self.home.command(python);
        command.args(["-c", BOTO3_SCRIPT]);

        let run = self.home.run(command);
        self.print_lines_with(&run, &["boto3 has"]);
    }

    fn use_exec(&mut self, aws: &Path) {
        self.print(
            Style::Command,
            "$ rolekeeper exec --mode http dev -- aws configure list",
        );
        let mut command = self.home.client();
        command
            .args(["exec", "--mode", "http", "dev", "--"])
            .arg(aws)
            .args(["configure", "list"]);

        let run = self.home.run(command);
        self.print_lines_with(&run, &["access_key"]);
    }

    pub(super) fn print_lines_with(&mut self, run: &Run, words: &[&str]) {
        assert_eq!(run.code, 0, "{run:?}");

        for line in run
            .stdout
            .lines()
            .filter(|line| words.iter().any(|word| line.contains(word)))
        {
            self.print(Style::Plain, line.trim_end());
        }
    }
}
