//! The chart as users get it: linted and rendered by the real helm, taken by a real API server, its alerts by promtool, and no name in it that
//! the code does not know.

use anyhow::{Context, Result, bail, ensure};
use recording_tests::harness::cluster::api_server::ApiServer;
use recording_tests::harness::process::{Process, Spec, run};
use recording_tests::harness::{binary, ports, tool, workspace};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);
const RELEASE: &str = "recording-operator";
const SYSTEM: &str = "recording-system";
const ACCOUNT: &str = "system:serviceaccount:recording-system:recorder-control";

fn chart() -> String {
    workspace().join("charts/recording-operator").display().to_string()
}

fn full_values() -> String {
    workspace().join("tests/chart/full-values.yaml").display().to_string()
}

fn read(file: &str) -> Result<String> {
    std::fs::read_to_string(workspace().join(file)).with_context(|| file.to_owned())
}

fn helm(args: &[&str]) -> Result<String> {
    let home = tempfile::tempdir()?;
    let output = std::process::Command::new(tool("helm")?).args(args).env("HOME", home.path()).output()?;
    ensure!(
        output.status.success(),
        "helm {args:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

fn template(flags: &[&str]) -> Result<String> {
    helm(&[&["template", RELEASE, &chart(), "-n", SYSTEM], flags].concat())
}

fn documents(yaml: &str) -> Result<Vec<Value>> {
    let all: Result<Vec<Value>, _> = serde_yaml::Deserializer::from_str(yaml).map(serde::Deserialize::deserialize).collect();
    Ok(all?.into_iter().filter(|document: &Value| !document.is_null()).collect())
}

fn kinds(documents: &[Value]) -> BTreeMap<&str, usize> {
    let mut kinds = BTreeMap::new();
    for kind in documents.iter().filter_map(|document| document["kind"].as_str()) {
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
}

#[test]
fn it_is_linted_bare_and_with_everything_on() -> Result<()> {
    for flags in [vec![], vec!["-f".to_owned(), full_values()]] {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let said = helm(&[&["lint", "--strict", &chart()], &flags[..]].concat())?;
        ensure!(said.contains("0 chart(s) failed"), "{said}");
    }
    Ok(())
}

#[test]
fn the_default_is_two_controllers_that_watch_everything_and_nothing_that_needs_other_definitions() -> Result<()> {
    let documents = documents(&template(&[])?)?;
    let expected = [
        ("ClusterRole", 3),
        ("ClusterRoleBinding", 1),
        ("CustomResourceDefinition", 1),
        ("Deployment", 1),
        ("PodDisruptionBudget", 1),
        ("Role", 1),
        ("RoleBinding", 1),
        ("Service", 1),
        ("ServiceAccount", 1),
    ];
    ensure!(kinds(&documents) == BTreeMap::from(expected), "{:?}", kinds(&documents));
    let deployment = documents.iter().find(|d| d["kind"] == "Deployment").context("a Deployment")?;
    let pod = &deployment["spec"]["template"]["spec"];
    ensure!(deployment["spec"]["replicas"] == 2 && deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0);
    ensure!(pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"].is_array(), "{pod}");
    Ok(())
}

#[test]
fn every_value_reaches_what_it_is_for() -> Result<()> {
    let documents = documents(&template(&["-f", &full_values()])?)?;
    let kinds = kinds(&documents);
    for (kind, count) in [("PodMonitor", 2), ("PrometheusRule", 1), ("ConfigMap", 1), ("Role", 3), ("RoleBinding", 3), ("ClusterRole", 2)] {
        ensure!(kinds.get(kind) == Some(&count), "{kind}: {kinds:?}");
    }
    ensure!(!kinds.contains_key("ClusterRoleBinding"), "all namespaces are watched: {kinds:?}");
    let deployment = documents.iter().find(|d| d["kind"] == "Deployment").context("a Deployment")?;
    let pod = &deployment["spec"]["template"];
    let container = &pod["spec"]["containers"][0];
    let args: Vec<&str> = container["args"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for arg in [
        "--log-format=human",
        "--watch-namespace=team-a",
        "--watch-namespace=team-b",
        "--leader-elect=true",
        "--lease-name=recording-operator",
    ] {
        ensure!(args.contains(&arg), "{arg} is not among {args:?}");
    }
    ensure!(pod["spec"]["tolerations"][0]["key"] == "dedicated" && pod["spec"]["nodeSelector"]["kubernetes.io/os"] == "linux");
    ensure!(pod["spec"]["priorityClassName"] == "system-cluster-critical" && pod["spec"]["imagePullSecrets"][0]["name"] == "registry");
    ensure!(pod["spec"]["topologySpreadConstraints"][0]["maxSkew"] == 1 && pod["spec"]["affinity"]["nodeAffinity"].is_object());
    ensure!(pod["metadata"]["labels"]["example.com/team"] == "media" && pod["metadata"]["annotations"]["example.com/scrape"] == "no");
    ensure!(container["resources"]["limits"]["memory"] == "1Gi", "{container}");
    ensure!(container["env"].as_array().is_some_and(|env| env.iter().any(|e| e["name"] == "HTTPS_PROXY")), "{container}");
    let rule = documents.iter().find(|d| d["kind"] == "PrometheusRule").context("a PrometheusRule")?;
    let link = rule["spec"]["groups"][0]["rules"][0]["annotations"]["runbook_url"].as_str();
    ensure!(link == Some("https://wiki.example.com/recording#recordingfailed"), "{link:?}");
    Ok(())
}

#[test]
fn a_wrong_value_is_refused_by_name() -> Result<()> {
    let wrong = [
        ("replica=2", "replica"),
        ("replicas=two", "replicas"),
        ("watchNamespaces={Team_A}", "watchNamespaces"),
        ("log.format=xml", "format"),
        ("image.digest=sha256:abc", "digest"),
        ("image.repository=", "repository"),
        ("monitoring.podMonitors.interval=often", "interval"),
        ("podDisruptionBudget.maxUnavailable=0", "maxUnavailable"),
    ];
    for (value, names) in wrong {
        match template(&["--set", value]) {
            Ok(_) => bail!("{value} was accepted"),
            Err(error) => ensure!(format!("{error:#}").contains(names), "{value}: {error:#}"),
        }
    }
    Ok(())
}

#[test]
fn every_value_has_a_description_and_a_default() -> Result<()> {
    let schema: Value = serde_json::from_str(&read("charts/recording-operator/values.schema.json")?)?;
    let values: Value = serde_yaml::from_str(&read("charts/recording-operator/values.yaml")?)?;
    let mut complaints = Vec::new();
    describe("", &schema, Some(&values), &mut complaints);
    ensure!(complaints.is_empty(), "{complaints:?}");
    Ok(())
}

fn describe(path: &str, schema: &Value, values: Option<&Value>, complaints: &mut Vec<String>) {
    if schema["description"].as_str().is_none_or(|sentence| sentence.len() < 8) {
        complaints.push(format!("{path}: no description"));
    }
    if let Some(properties) = schema["properties"].as_object() {
        for (name, property) in properties {
            let path = format!("{path}.{name}");
            let value = values.and_then(|v| v.get(name));
            // A parent chart's are not ours to set.
            if values.is_some() && value.is_none() && !["global", "nameOverride", "fullnameOverride"].contains(&name.as_str()) {
                complaints.push(format!("{path}: not in values.yaml"));
            }
            describe(&path, property, value, complaints);
        }
    }
    if schema["items"].is_object() {
        describe(&format!("{path}[]"), &schema["items"], None, complaints);
    }
}

/// Server-side, strict, with the Prometheus operator's own definitions; then in earnest, for what the account may do.
#[test]
fn a_real_api_server_takes_it_and_grants_what_is_needed_and_no_more() -> Result<()> {
    let server = ApiServer::start()?;
    for file in ["podmonitors", "prometheusrules"] {
        let definition = workspace().join(format!("target/tools/crds/monitoring.coreos.com_{file}.yaml"));
        ensure!(definition.exists(), "{} is missing: run `make tools`", definition.display());
        server.kubectl(&["apply", "--server-side", "-f", &definition.display().to_string()])?;
    }
    server.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"])?;
    for namespace in [SYSTEM, "team-a", "team-b", "team-c"] {
        server.kubectl(&["create", "namespace", namespace])?;
    }
    let monitoring = ["podMonitors", "rules", "dashboard"].map(|part| format!("monitoring.{part}.create=true"));
    let all: Vec<&str> = monitoring.iter().flat_map(|value| ["--set", value.as_str()]).collect();
    let everything = template(&["-f", &full_values()])?;
    for rendered in [&template(&[])?, &template(&all)?, &everything] {
        let said = server.apply(rendered, &["--server-side", "--dry-run=server", "--validate=strict"])?;
        ensure!(said.lines().count() == documents(rendered)?.len() && !said.contains("Warning"), "{said}");
    }
    server.apply(&everything, &["--server-side", "--validate=strict"])?;
    let may = |verb: &str, resource: &str, namespace: &str| -> Result<bool> {
        let output = server.client("kubectl")?.args(["auth", "can-i", verb, resource, "-n", namespace, "--as", ACCOUNT]).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim() == "yes")
    };
    let recordings = "recordings.recording-operator.io";
    let leases = "leases.coordination.k8s.io";
    let mine = "leases.coordination.k8s.io/recording-operator";
    for (verb, resource, namespace, expected) in [
        ("watch", recordings, "team-a", true),
        ("create", "pods", "team-b", true),
        ("create", "pods", "team-c", false),
        ("list", recordings, "team-c", false),
        ("create", "pods", SYSTEM, false),
        ("get", "secrets", "team-a", false),
        ("get", "secrets", SYSTEM, false),
        ("create", leases, SYSTEM, true),
        ("update", mine, SYSTEM, true),
        ("update", "leases.coordination.k8s.io/another", SYSTEM, false),
        ("delete", mine, SYSTEM, false),
        ("create", leases, "team-a", false),
    ] {
        ensure!(may(verb, resource, namespace)? == expected, "{ACCOUNT} {verb} {resource} in {namespace}: expected {expected}");
    }
    // Deleting the definition would delete every Recording: it outlives the release.
    let definition = server.kubectl(&["get", "crd", recordings, "-o", "jsonpath={.metadata.annotations.helm\\.sh/resource-policy}"])?;
    ensure!(definition == "keep", "{definition}");
    Ok(())
}

/// The real controller as the chart's account: it leads, and gives a Recording of a watched namespace its pod, without one refusal.
#[test]
fn the_controller_works_with_the_rights_of_the_chart_alone() -> Result<()> {
    for (values, account, watched) in
        [(vec![], RELEASE, vec!["team-a", "team-c"]), (vec!["-f", "FULL"], "recorder-control", vec!["team-a"])]
    {
        let server = ApiServer::start()?;
        for namespace in [SYSTEM, "team-a", "team-b", "team-c"] {
            server.kubectl(&["create", "namespace", namespace])?;
        }
        let full = full_values();
        let flags: Vec<&str> = values.iter().map(|flag| if *flag == "FULL" { full.as_str() } else { flag }).collect();
        // What is of other definitions does not matter here.
        let off = ["--set", "monitoring.podMonitors.create=false", "--set", "monitoring.rules.create=false"];
        server.apply(&template(&[&flags[..], &off].concat())?, &["--server-side"])?;
        server.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"])?;
        for namespace in ["team-a", "team-c"] {
            server.apply(&pattern(namespace), &[])?;
        }
        let mut controller = controller(&server, account, &values)?;
        for namespace in &watched {
            controller.wait_until("the pod of the Recording", LIMIT, || {
                let pods =
                    server.kubectl(&["get", "pods", "-n", namespace, "-l", "recording-operator.io/recording=r", "-o", "name"]).ok()?;
                pods.contains("pod/").then_some(())
            })?;
            let phase = || server.kubectl(&["get", "recording", "r", "-n", namespace, "-o", "jsonpath={.status.phase}"]);
            controller.wait_until("its status", LIMIT, || phase().ok().filter(|phase| phase == "Pending"))?;
            let events = || server.kubectl(&["get", "events.events.k8s.io", "-n", namespace, "-o", "jsonpath={.items[*].reason}"]);
            controller.wait_until("its Event", LIMIT, || events().ok().filter(|reasons| reasons.contains("AttemptStarted")))?;
        }
        if !watched.contains(&"team-c") {
            let status = server.kubectl(&["get", "recording", "r", "-n", "team-c", "-o", "jsonpath={.status}{.metadata.finalizers}"])?;
            ensure!(status.is_empty(), "team-c is not watched: {status}");
        }
        controller.signal(libc::SIGTERM)?;
        let status = controller.wait(LIMIT)?;
        let log = controller.log();
        ensure!(status.success() && log.contains("released the Lease"), "{status}: {log}");
        ensure!(!log.to_lowercase().contains("forbidden") && !log.contains("WARN") && !log.contains("ERROR"), "{log}");
    }
    Ok(())
}

/// With the arguments that the chart gives it.
fn controller(server: &ApiServer, account: &str, values: &[&str]) -> Result<Process> {
    let full = full_values();
    let flags: Vec<&str> = values.iter().map(|flag| if *flag == "FULL" { full.as_str() } else { flag }).collect();
    let documents = documents(&template(&flags)?)?;
    let deployment = documents.iter().find(|d| d["kind"] == "Deployment").context("a Deployment")?;
    let args = deployment["spec"]["template"]["spec"]["containers"][0]["args"].as_array().context("args")?;
    let port = ports::free_port(Ipv4Addr::LOCALHOST.into())?;
    let spec = Spec::new(&format!("controller-{account}"), binary("recording-operator")?)?
        .args(args.iter().filter_map(Value::as_str))
        .args(["--metrics-addr", &format!("127.0.0.1:{port}")])
        .env("KUBECONFIG", server.kubeconfig_as(&format!("system:serviceaccount:{SYSTEM}:{account}"))?)
        .env("POD_NAMESPACE", SYSTEM)
        .env("POD_NAME", "controller");
    spec.spawn()
}

fn pattern(namespace: &str) -> String {
    format!(
        "apiVersion: recording-operator.io/v1alpha1\nkind: Recording\nmetadata: {{name: r, namespace: {namespace}}}\nspec:\n  \
         channel: {{name: r, testPattern: {{}}}}\n  mode: Individual\n  storage: {{volume: {{claimName: c}}}}\n"
    )
}

fn rules() -> Result<Vec<Value>> {
    let file: Value = serde_yaml::from_str(&read("charts/recording-operator/files/rules.yaml")?)?;
    Ok(file["groups"].as_array().into_iter().flatten().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect())
}

#[test]
fn every_alert_fires_for_its_cause_and_has_a_page() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("alerts.yaml");
    let rules_file = workspace().join("charts/recording-operator/files/rules.yaml");
    let cases = read("tests/chart/alerts.yaml")?;
    std::fs::write(&file, cases.replace("[RULES]", &format!("[{}]", rules_file.display())))?;
    run("promtool", ["check", "rules", "--lint-fatal", &rules_file.display().to_string()])?;
    run("promtool", ["test", "rules", &file.display().to_string()])?;

    let cases: Value = serde_yaml::from_str(&cases)?;
    let tests =
        cases["tests"].as_array().into_iter().flatten().flat_map(|test| test["alert_rule_test"].as_array().cloned().unwrap_or_default());
    let (mut fires, mut holds) = (BTreeSet::new(), BTreeSet::new());
    for test in tests {
        let alert = test["alertname"].as_str().context("alertname")?.to_owned();
        let expected = test["exp_alerts"].as_array().is_some_and(|alerts| !alerts.is_empty());
        if expected {
            fires.insert(alert)
        } else {
            holds.insert(alert)
        };
    }
    let page = read("docs/alerting.md")?;
    for rule in rules()? {
        let alert = rule["alert"].as_str().context("only alerts are here")?;
        ensure!(fires.contains(alert) && holds.contains(alert), "{alert} is not tested both ways");
        ensure!(page.contains(&format!("\n## {alert}\n")), "docs/alerting.md has no section {alert}");
        let link = rule["annotations"]["runbook_url"].as_str();
        ensure!(link == Some(&format!("docs/alerting.md#{}", alert.to_lowercase())), "{alert}: {link:?}");
    }
    Ok(())
}

/// Names between quotes in the two files that make metrics.
fn metrics_in_code() -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for file in ["controller/src/metrics.rs", "controller/src/metrics/scrape.rs", "recorder/src/metrics.rs"] {
        for (before, text) in quoted(&read(file)?) {
            let helper = before.ends_with("gauge(") || before.ends_with("counter(");
            if text.starts_with("recorder_") || text.starts_with("recording_operator_") && !text.contains('{') {
                names.insert(text);
            } else if helper {
                names.insert(format!("recording_operator_{text}"));
            }
        }
    }
    Ok(names)
}

/// Each string literal, and what stands before it.
fn quoted(source: &str) -> Vec<(String, String)> {
    let parts: Vec<&str> = source.split('"').collect();
    parts.chunks(2).filter(|pair| pair.len() == 2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect()
}

/// Names in a text; a histogram's series count as the histogram.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = words.filter(|word| word.starts_with("recorder_") || word.starts_with("recording_operator_") && !word.contains("_io_"));
    ours.map(|word| ["_bucket", "_count", "_sum"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word).to_owned()).collect()
}

#[test]
fn rules_and_dashboard_name_what_the_code_exports_and_the_dashboard_shows_all_of_it() -> Result<()> {
    let code = metrics_in_code()?;
    ensure!(code.len() >= 20 && code.contains("recording_operator_leader") && code.contains("recorder_spool_bytes"), "{code:?}");
    let rules = metrics_in(&rules()?.iter().filter_map(|rule| rule["expr"].as_str()).collect::<Vec<_>>().join("\n"));
    ensure!(rules.is_subset(&code), "rules name {:?}", rules.difference(&code).collect::<Vec<_>>());
    let dashboard: Value = serde_json::from_str(&read("charts/recording-operator/files/dashboard.json")?)?;
    let panels = dashboard["panels"].as_array().context("panels")?;
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    let shown = metrics_in(&targets.filter_map(|target| target["expr"].as_str().map(str::to_owned)).collect::<Vec<_>>().join("\n"));
    ensure!(shown == code, "only in code: {:?}; only shown: {:?}", code.difference(&shown), shown.difference(&code));
    let page = metrics_in(&read("docs/alerting.md")?);
    ensure!(page == code, "docs/alerting.md, only in code: {:?}; only there: {:?}", code.difference(&page), page.difference(&code));
    Ok(())
}

/// A dashboard's expressions are as Prometheus reads them; Grafana's variables are put in.
#[test]
fn every_expression_of_the_dashboard_is_one() -> Result<()> {
    let dashboard: Value = serde_json::from_str(&read("charts/recording-operator/files/dashboard.json")?)?;
    let mut records = String::from("groups:\n- name: dashboard\n  rules:\n");
    let mut count = 0;
    for panel in dashboard["panels"].as_array().context("panels")? {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().context("expr")?.replace("$__rate_interval", "2m").replace("$namespace", ".*");
            records += &format!("  - {{record: 'panel:{count}', expr: {}}}\n", serde_json::to_string(&expression)?);
            count += 1;
        }
    }
    let folder = tempfile::tempdir()?;
    let file: PathBuf = folder.path().join("dashboard.yaml");
    std::fs::write(&file, records)?;
    let said = run("promtool", ["check", "rules", &file.display().to_string()])?;
    ensure!(said.contains(&format!("{count} rules found")), "{said}");
    Ok(())
}
