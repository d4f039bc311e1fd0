//! The documentation says what the code does: its examples are accepted, its links lead somewhere, its lists are whole.

use anyhow::{Context, Result, ensure};
use recording_controller::{manifest, validate};
use recording_crds::codes::Code;
use recording_crds::conditions as c;
use recording_crds::status::Phase;
use recording_tests::harness::workspace;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// By its path below the workspace.
fn pages() -> Result<BTreeMap<String, String>> {
    let mut pages = BTreeMap::from([("README.md".to_owned(), std::fs::read_to_string(workspace().join("README.md"))?)]);
    for entry in std::fs::read_dir(workspace().join("docs"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".md") {
            pages.insert(format!("docs/{name}"), std::fs::read_to_string(workspace().join("docs").join(&name))?);
        }
    }
    ensure!(pages.len() >= 13, "{:?}", pages.keys());
    Ok(pages)
}

/// The fenced blocks of a page: language and text.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            let indent = line.len() - line.trim_start().len();
            let body: Vec<&str> =
                lines.by_ref().take_while(|line| line.trim() != "```").map(|line| line.get(indent..).unwrap_or("")).collect();
            blocks.push((language.to_owned(), body.join("\n")));
        }
    }
    blocks
}

#[test]
fn every_recording_in_the_documentation_is_accepted() -> Result<()> {
    let mut texts: Vec<(String, String)> = Vec::new();
    for (page, text) in pages()? {
        texts.extend(blocks(&text).into_iter().filter(|(language, _)| language == "yaml").map(|(_, block)| (page.clone(), block)));
    }
    let notes = std::fs::read_to_string(workspace().join("charts/recording-operator/templates/NOTES.txt"))?;
    let (_, notes) = notes.split_once("<<YAML\n").context("an example in NOTES.txt")?;
    texts.push(("NOTES.txt".into(), notes.split("  YAML").next().unwrap_or_default().to_owned()));
    let mut accepted = 0;
    for (page, text) in texts {
        for document in serde_yaml::Deserializer::from_str(&text) {
            let document = Value::deserialize(document).with_context(|| format!("{page}: no YAML: {text}"))?;
            if document["kind"] == "Recording" {
                recording_is_accepted(&document).with_context(|| format!("{page}: {text}"))?;
                accepted += 1;
            }
        }
    }
    ensure!(accepted >= 4, "only {accepted} were found");
    Ok(())
}

fn recording_is_accepted(document: &Value) -> Result<()> {
    let problems = manifest::check(document);
    ensure!(problems.is_empty(), "{problems:?}");
    let mut full = manifest::with_defaults(document);
    full["metadata"]["uid"] = "0f8c2a3b-1111-2222-3333-444455556666".into();
    validate::validate(&serde_json::from_value(full)?, "2026-11-21T10:00:00Z".parse()?)?;
    Ok(())
}

#[test]
fn every_page_is_indexed_and_every_link_leads_somewhere() -> Result<()> {
    let pages = pages()?;
    let index = &pages["docs/README.md"];
    for page in pages.keys().filter_map(|page| page.strip_prefix("docs/")).filter(|page| *page != "README.md") {
        ensure!(index.contains(&format!("({page})")), "docs/README.md does not name {page}");
    }
    ensure!(pages["README.md"].contains("(docs/README.md)"), "README.md does not name docs/README.md");
    for (page, text) in &pages {
        let folder = Path::new(page).parent().unwrap_or(Path::new(""));
        for link in links(text) {
            let (file, anchor) = link.split_once('#').unwrap_or((link.as_str(), ""));
            let path = if file.is_empty() { workspace().join(page) } else { workspace().join(folder).join(file) };
            ensure!(path.exists(), "{page} links to {link}, which is not there");
            if !anchor.is_empty() {
                let target = std::fs::read_to_string(&path)?;
                ensure!(target.lines().any(|line| line.starts_with('#') && slug(line) == anchor), "{page}: {link} has no such heading");
            }
        }
    }
    Ok(())
}

/// Relative ones.
fn links(text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target.to_owned()));
    targets.filter(|target| !target.contains("://")).collect()
}

/// As GitHub and GitLab make anchors.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn status_page_names_every_phase_and_condition() -> Result<()> {
    let page = std::fs::read_to_string(workspace().join("docs/status.md"))?;
    let conditions = [c::ACCEPTED, c::RECORDING, c::UPLOADED, c::COMPLETE, c::FAILED, c::DEGRADED, c::BACKED_UP, c::READY, c::STALLED];
    for name in Phase::ALL.iter().map(|phase| phase.as_str()).chain(conditions) {
        ensure!(page.contains(&format!("\n| {name} |")), "docs/status.md has no row {name}");
    }
    // The reasons that are no codes stand in the code of conditions, between quotes.
    let code = std::fs::read_to_string(workspace().join("controller/src/status/conditions.rs"))?;
    let is_reason = |word: &&str| {
        let name = word.len() > 3 && word.starts_with(|c: char| c.is_ascii_uppercase()) && word.chars().all(|c| c.is_ascii_alphabetic());
        name && !["True", "False", "Unknown"].contains(word)
    };
    let reasons: Vec<&str> = code.split('"').skip(1).step_by(2).filter(is_reason).collect();
    ensure!(reasons.len() >= 15, "{reasons:?}");
    for reason in reasons {
        ensure!(page.contains(&format!("`{reason}`")), "docs/status.md does not name the reason {reason}");
    }
    Ok(())
}

#[test]
fn troubleshooting_names_every_code() -> Result<()> {
    let page = std::fs::read_to_string(workspace().join("docs/troubleshooting.md"))?;
    let words: Vec<&str> = page.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let missing: Vec<_> = Code::ALL.iter().filter(|code| !words.contains(&code.as_str())).collect();
    ensure!(missing.is_empty(), "docs/troubleshooting.md does not name {missing:?}");
    Ok(())
}

/// What a recorder writes is what its golden manifest has.
#[test]
fn every_field_of_the_manifest_has_its_place() -> Result<()> {
    let page = std::fs::read_to_string(workspace().join("docs/recording.md"))?;
    let manifest: Value = serde_json::from_str(&std::fs::read_to_string(workspace().join("recorder/tests/golden/manifest-v1.json"))?)?;
    let mut paths = BTreeSet::new();
    leaves("", &manifest, &mut paths);
    ensure!(paths.len() > 40, "{paths:?}");
    let missing: Vec<_> = paths.iter().filter(|path| !page.contains(&format!("`{path}`"))).collect();
    ensure!(missing.is_empty(), "docs/recording.md does not name {missing:?}");
    Ok(())
}

/// Paths of all that is no object; spans and pairs are values.
fn leaves(path: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                leaves(&if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, value, found);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => items.iter().for_each(|item| leaves(path, item, found)),
        _ => drop(found.insert(path.to_owned())),
    }
}

const BEGIN: &str = "<!-- fields -->\n";
const END: &str = "<!-- /fields -->\n";

#[test]
fn status_fields_are_the_generated_ones() -> Result<()> {
    let path = workspace().join("docs/status.md");
    let page = std::fs::read_to_string(&path)?;
    let (head, rest) = page.split_once(BEGIN).context("no beginning of the fields")?;
    let (_, tail) = rest.split_once(END).context("no end of the fields")?;
    let crd: Value = serde_yaml::from_str(&recording_crds::crd::yaml())?;
    let status = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"];
    let mut table = String::from("| field | meaning |\n|---|---|\n");
    fields("", status, &mut table);
    let generated = format!("{head}{BEGIN}{table}{END}{tail}");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &generated)?;
    }
    ensure!(generated == std::fs::read_to_string(&path)?, "docs/status.md is not what the types say: run UPDATE_GOLDEN=1 with this test");
    Ok(())
}

fn fields(path: &str, schema: &Value, table: &mut String) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let description = field["description"].as_str().unwrap_or("-").replace('\n', " ").replace('|', "\\|");
        *table += &format!("| `{path}` | {description} |\n");
        // Conditions are Kubernetes' own and above.
        fields(&path, field, table);
    }
}

/// What the controller may do, as the chart grants it and docs/rbac.md tells it.
#[test]
fn rbac_page_has_every_rule_of_the_chart() -> Result<()> {
    let page = std::fs::read_to_string(workspace().join("docs/rbac.md"))?;
    let helpers = std::fs::read_to_string(workspace().join("charts/recording-operator/templates/_helpers.tpl"))?;
    let between = |line: &str| line.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(inside, _)| inside.to_owned());
    let of = |key: &str| -> Vec<String> { helpers.lines().filter(|l| l.trim_start().starts_with(key)).filter_map(between).collect() };
    let (resources, verbs) = (of("resources:"), of("verbs:"));
    ensure!(resources.len() == verbs.len() && resources.len() >= 5, "{resources:?} {verbs:?}");
    for (resource, verbs) in resources.iter().zip(&verbs) {
        let row = page.lines().any(|line| line.starts_with(&format!("| {resource}")) && line.contains(&format!("| {verbs} |")));
        ensure!(row, "docs/rbac.md has no row of {resource} with {verbs}");
    }
    Ok(())
}
