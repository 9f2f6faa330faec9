use super::{Options, start};

async fn check_refused(options: Options, reason: &str) {
    let error = start(options).await.unwrap_err();

    assert!(error.to_string().contains(reason), "{error}");
    assert!(!error.hint().is_empty(), "{error}");
}

#[tokio::test]
async fn public_address_is_refused() {
    let address = "192.0.2.1:0".parse().unwrap();
    let reason = "192.0.2.1:0 is not a loopback address";

    check_refused(
        Options {
            listen: address,
            ..Options::default()
        },
        reason,
    )
    .await;
    check_refused(
        Options {
            control: address,
            ..Options::default()
        },
        reason,
    )
    .await;
    check_refused(
        Options {
            s3: address,
            ..Options::default()
        },
        reason,
    )
    .await;
    check_refused(
        Options {
            aws: address,
            ..Options::default()
        },
        reason,
    )
    .await;
}

#[tokio::test]
async fn unusable_data_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        data: Some(folder.path().into()),
        ..Options::default()
    };

    check_refused(options, "cannot open the data file").await;
}

#[tokio::test]
async fn unusable_fixture_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = folder.path().join("fixture.json");
    let text =
        r#"{"organization":"o","users":[{"name":"a","email":"a@example.test","policies":["P"]}]}"#;
    std::fs::write(&fixture, text).unwrap();

    let invalid = Options {
        fixture: Some(fixture),
        ..Options::default()
    };
    check_refused(invalid, "unknown policy P").await;

    let missing = Options {
        fixture: Some("/nonexistent".into()),
        ..Options::default()
    };
    check_refused(missing, "/nonexistent").await;
}
