//! Steps 4 and 5: AWS with access keys, one MFA code, a chained role, and a wrong clock.

use std::path::Path;

use serde_json::json;

use super::Demo;
use super::screen::Style;
use crate::harness::{Run, programs};

const BOTO3_SCRIPT: &str = "\
import boto3
print('boto3 is', boto3.client('sts').get_caller_identity()['Arn'])";

impl Demo<'_> {
    /// The upstream and its profiles, for the end of the configuration.
    pub(super) fn aws_configuration(&self) -> String {
        let role = |name| self.sandbox.aws_fixture(&["roles", name]);
        format!(
            "[upstream.aws]\nkind = \"aws\"\nregion = \"eu-central-1\"\nendpoint = \"{}\"\n\
             keys = {{ age = \"aws.age\", identity = \"age.key\" }}\nmfa = {{ serial = \"{}\" }}\n\
             [profile.ops]\nupstream = \"aws\"\nrole_arn = \"{}\"\n\
             [profile.reader]\nupstream = \"aws\"\nrole_arn = \"{}\"\n\
             [profile.remote]\nfrom = \"reader\"\nrole_arn = \"{}\"\n",
            self.sandbox.aws(),
            self.sandbox.aws_fixture(&["mfa", "serial"]),
            role("admin"),
            role("reader"),
            role("target"),
        )
    }

    pub(super) fn use_aws(&mut self, folder: Option<&Path>) {
        self.next_title("4. AWS: access keys and one MFA code serve all roles and tools");

        let keys = self.sandbox.aws_key_file(self.home, "ada");
        let keys = std::fs::read_to_string(keys).expect("the keys");
        let (id, _) = keys.split_once(':').expect("an id and a secret");
        let code = self.sandbox.mfa_code();
        self.print(Style::Command, "$ rolekeeper login aws");
        let typed = format!("Access key (KEYID:SECRET): {id}:****\nCode of the MFA device: {code}");
        self.print(Style::Dim, &typed);
        let run = self.login(&format!("{keys}\n{code}\n"));
        let home = self.home.path().display().to_string();
        self.print(
            Style::Plain,
            run.stdout.trim_end().replace(&home, "~").as_str(),
        );

        for profile in ["ops", "reader"] {
            let run = self.rolekeeper(&["credential-process", profile]);
            self.print_lease(&run);
        }
        if let Some(folder) = folder {
            self.exec_with_aws("aws", &folder.join("aws"), &["sts", "get-caller-identity"]);
            self.exec_with_aws("python", &folder.join("python"), &["-c", BOTO3_SCRIPT]);
        }

        let calls = ["GetSessionToken", "AssumeRole"].map(|action| self.sandbox.aws_calls(action));
        assert_eq!(calls, [1, 2]);
        self.print(
            Style::Good,
            "GetSessionToken calls so far: 1; AssumeRole calls: 2",
        );
    }

    pub(super) fn chain_roles_with_a_wrong_clock(&mut self) {
        self.next_title("5. A role of another account, assumed by a session, with a clock 2 h off");
        let later = json!({ "advance_seconds": 7200 });
        self.sandbox.control("POST", "/aws/clock", Some(later));
        self.print(
            Style::Bad,
            "the sandbox's AWS is now two hours ahead of this machine",
        );

        let run = self.rolekeeper(&["credential-process", "remote"]);
        self.print_lease(&run);
        self.print(Style::Good, "signed again, for the time of the reply");
    }

    fn login(&self, input: &str) -> Run {
        let input = self.home.private_file("typed", input);
        let mut command = self.home.command(Path::new("sh"));
        command
            .args(["-c", "exec \"$1\" login aws < \"$2\"", "sh"])
            .arg(&programs().rolekeeper)
            .arg(&input);

        let run = self.home.run(command);
        assert_eq!(run.code, 0, "{run:?}");
        std::fs::remove_file(input).expect("it is removed");

        run
    }

    /// Runs a program as the role `ops`, and prints who it is.
    fn exec_with_aws(&mut self, name: &str, program: &Path, args: &[&str]) {
        let shown = match name {
            "aws" => args.join(" "),
            _ => "-c \"… boto3.client('sts').get_caller_identity()\"".into(),
        };
        self.print(
            Style::Command,
            &format!("$ rolekeeper exec ops -- {name} {shown}"),
        );
        let mut command = self.home.client();
        command
            .env("AWS_ENDPOINT_URL", self.sandbox.aws())
            .args(["exec", "ops", "--"])
            .arg(program)
            .args(args);

        let run = self.home.run(command);
        self.print_lines_with(&run, &["Arn", "boto3 is"]);
    }
}
