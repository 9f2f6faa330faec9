//! For each line on standard input: one request for the caller's identity by the AWS SDK for Rust, at `STS_ENDPOINT`,
//! with one client and the SDK's default credential chain. Says the account, or why there was none.

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
        let said = match runtime.block_on(client.get_caller_identity().send()) {
            Ok(identity) => json!({ "account": identity.account() }),
            Err(error) => json!({ "error": chain(&error) }),
        };
        writeln!(out, "{said}")?;
        out.flush()?;
    }
    Ok(())
}

/// What the SDK's default client is but for TLS: proxies are of the environment, time limits are of whoever asks.
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
    let mut said = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        said.push(error.to_string());
        cause = error.source();
    }
    said.join(": ").split_whitespace().collect::<Vec<_>>().join(" ")
}
