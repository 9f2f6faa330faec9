//! For each line on standard input: calls `GetCallerIdentity` at `STS_ENDPOINT` with the AWS SDK for Rust, one client
//! and the default credential chain. Prints the account or the error.

use std::error::Error;
use std::io::{BufRead, Write};

use aws_config::{BehaviorVersion, SdkConfig, retry::RetryConfig};
use aws_sdk_sts::Client;
use aws_smithy_http_client::{Builder, Connector, proxy::ProxyConfig};
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let client = client(&runtime.block_on(settings()), std::env::var("STS_ENDPOINT")?);
    let mut out = std::io::stdout();

    for line in std::io::stdin().lock().lines() {
        line?;

        let result = match runtime.block_on(client.get_caller_identity().send()) {
            Ok(identity) => json!({ "account": identity.account() }),
            Err(error) => json!({ "error": chain(&error) }),
        };
        writeln!(out, "{result}")?;
        out.flush()?;
    }

    Ok(())
}

/// As the SDK's default client, but without TLS: the proxies of the environment, and the time limits of each request.
async fn settings() -> SdkConfig {
    let http = Builder::new().build_with_connector_fn(|settings, components| {
        let mut connector = Connector::builder().proxy_config(ProxyConfig::from_env());
        connector.set_connector_settings(settings.cloned());
        if let Some(components) = components {
            connector.set_sleep_impl(components.sleep_impl());
        }
        connector.build_http()
    });

    aws_config::defaults(BehaviorVersion::latest()).http_client(http).load().await
}

fn client(settings: &SdkConfig, endpoint: String) -> Client {
    let settings =
        aws_sdk_sts::config::Builder::from(settings).endpoint_url(endpoint).retry_config(RetryConfig::disabled());

    Client::from_conf(settings.build())
}

/// An error and its causes in one line.
fn chain(error: &dyn Error) -> String {
    let mut messages = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        messages.push(error.to_string());
        cause = error.source();
    }

    messages.join(": ").split_whitespace().collect::<Vec<_>>().join(" ")
}
