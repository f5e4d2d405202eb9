//! Every object of every values file, judged by the server. Helm itself only warns of unknown fields.

use crate::rig::{Namespace, inside, run, values};

#[test]
fn the_server_accepts_every_object() {
    if !inside() {
        return;
    }
    let _namespace = Namespace::new("strict");
    let peers = r#"[{"namespaceSelector": {"matchLabels": {"a": "b"}}}]"#;
    let everything = [
        r#"ingress={"enabled": true, "className": "nginx", "hosts": ["a.example"], "annotations": {"a": "b"}, "tls": [{"secretName": "t", "hosts": ["a.example"]}]}"#,
        r#"httpRoute={"enabled": true, "parentRefs": [{"name": "public"}], "hostnames": ["a.example"], "annotations": {"a": "b"}}"#,
        r#"podDisruptionBudget={"enabled": true, "minAvailable": "50%"}"#,
        &format!(
            r#"networkPolicy={{"enabled": true, "webhooks": {{"from": {peers}}}, "metrics": {{"from": {peers}}}, "brokers": {{"to": {peers}}}, "extraEgress": [{{"ports": [{{"port": 443}}]}}]}}"#
        ),
        r#"serviceMonitor={"enabled": true, "labels": {"release": "prometheus"}}"#,
        r#"prometheusRule={"enabled": true, "labels": {"release": "prometheus"}}"#,
        r#"dashboard={"enabled": true, "annotations": {"a": "b"}}"#,
        r#"secrets={"existing": ["a", "b"], "values": {"c": "d"}}"#,
        r#"image={"digest": "sha256:0123456789012345678901234567890123456789012345678901234567890123"}"#,
        r#"imagePullSecrets=[{"name": "registry"}]"#,
        r#"env=[{"name": "A", "value": "b"}]"#,
        r#"extraVolumes=[{"name": "extra", "emptyDir": {}}]"#,
        r#"extraVolumeMounts=[{"name": "extra", "mountPath": "/extra"}]"#,
        r#"tolerations=[{"operator": "Exists"}]"#,
        r#"nodeSelector={"a": "b"}"#,
        r#"affinity={"nodeAffinity": {}}"#,
        r#"priorityClassName="system-cluster-critical""#,
        r#"commonLabels={"team": "media"}"#,
        r#"podLabels={"a": "b"}"#,
        r#"podAnnotations={"a": "b"}"#,
        r#"service={"type": "NodePort", "annotations": {"a": "b"}}"#,
        r#"serviceAccount={"annotations": {"a": "b"}}"#,
        r#"persistence={"storageClass": "local", "size": "1Gi"}"#,
        r#"logLevel="debug""#,
    ];
    let set = |settings: &[&str]| {
        settings.iter().flat_map(|setting| ["--set-json".to_owned(), (*setting).to_owned()]).collect::<Vec<_>>()
    };
    let shared = [r#"config.store="nats://nats:4222""#, r#"autoscaling={"enabled": true}"#];
    let mut renderings: Vec<_> = ["nats", "kafka", "rabbitmq", "minimal"].map(|name| (name, Vec::new())).into();
    renderings.push(("minimal", set(&everything)));
    renderings.push((
        "minimal",
        set(&[&everything[..], &[r#"config.store="memory""#, r#"strategy={"type": "Recreate"}"#]].concat()),
    ));
    renderings.push(("minimal", set(&[&everything[..], &shared].concat())));
    for (name, arguments) in renderings {
        let file = values(name);
        let fixed =
            ["template", "hb", "deploy/helm/hookbridge", "-n", "strict", "--skip-schema-validation", "-f", &file];
        let arguments: Vec<&str> = fixed.into_iter().chain(arguments.iter().map(String::as_str)).collect();
        let rendered = run("helm", &arguments, "").unwrap_or_else(|out| panic!("{out}"));
        let judge = ["-n", "strict", "apply", "--dry-run=server", "--validate=strict", "-f", "-"];
        let judged = run("kubectl", &judge, &rendered).unwrap_or_else(|out| panic!("{name}: {out}"));
        println!("{name}: {} objects", judged.lines().count());
        // It does judge.
        let wrong = rendered.replacen("  labels:", "  lables: {}\n  labels:", 1);
        let refused = run("kubectl", &judge, &wrong).expect_err("refused");
        assert!(refused.contains("unknown field \"metadata.lables\""), "{refused}");
    }
}
