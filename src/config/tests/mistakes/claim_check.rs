//! Mistakes in what becomes of events that are too large.

use super::*;

#[test]
fn object_store_is_checked() {
    let nats = "destinations: {n: {url: 'nats://h', oversize: claim-check}}\n";
    let with = |settings: &str| format!("{nats}claim_check: {settings}");
    for (text, expected) in [
        (with("{url: 's3://bucket/pre/fix'}"), "no mistake"),
        (with("{url: 'file:objects'}"), "no mistake"),
        (
            with(
                "{url: 's3://bucket', endpoint: 'http://h:9000', region: r, access_key_id: hunter2, secret_access_key: hunter3}",
            ),
            "no mistake",
        ),
        (
            nats.to_owned(),
            "f:2:47: `oversize: claim-check` needs an object store: set `claim_check.url` to s3://BUCKET or file:DIR",
        ),
        (
            with("{region: r}"),
            "f:2:47: `oversize: claim-check` needs an object store: set `claim_check.url` to s3://BUCKET or file:DIR\n\
             f:3:23: `claim_check.url` is missing: set it to s3://BUCKET or file:DIR",
        ),
        (with("{url: 'http://hunter2'}"), "f:3:20: expected s3://BUCKET, s3://BUCKET/PREFIX or file:DIR"),
        (
            with("{url: 's3://b'}"),
            "f:3:20: the bucket must be 3 to 255 letters, digits, `.`, `-` and `_`: expected s3://BUCKET, s3://BUCKET/PREFIX or file:DIR",
        ),
        (
            with("{url: 's3://bucket/../x'}"),
            "f:3:20: the prefix must be letters, digits, `.`, `-` and `_`, in parts between `/`",
        ),
        (with("{url: 's3://bucket', access_key_id: hunter2}"), "f:3:50: `access_key_id` requires `secret_access_key`"),
        (
            with("{url: 's3://bucket', endpoint: 'http://u:hunter2@h'}"),
            "f:3:45: expected http:// or https:// and a host, without a user",
        ),
        (
            with("{url: 'file:d', region: r}"),
            "f:3:38: this setting applies only to s3://, and claim_check.url is a directory",
        ),
        (
            "destinations: {n: {url: 'nats://h', oversize: gzipp}}".to_owned(),
            "f:2:47: `gzipp`: expected `dead-letter` or `gzip` or `claim-check`; did you mean `gzip`?",
        ),
        (
            "destinations: {n: {url: 'file:d', oversize: gzip}}".to_owned(),
            "f:2:45: `oversize` applies only to brokers; this destination is of kind file",
        ),
    ] {
        expect(SOURCE, &[(text.as_str(), expected)]);
    }
}
