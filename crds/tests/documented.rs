//! docs/codes.md is generated from the codes. After a change: `UPDATE_GOLDEN=1 cargo test -p recording-crds`.

use recording_crds::codes::{Code, Ends, Who};
use std::fmt::Write;
use std::path::Path;

const HEAD: &str = "# Codes

<!-- Generated from crds/src/codes.rs; a test compares. Do not edit. -->

A code is the reason of a condition, `status.failure.code`, `status.result.reason`, the label of a metric and the reason of an event.
Numbers are those the field knows from earlier products.

";

#[test]
fn codes_page_is_the_generated_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/codes.md");
    let generated = page();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &generated).expect("docs/codes.md can be written");
    }
    let committed = std::fs::read_to_string(&path).expect("docs/codes.md");
    assert!(committed == generated, "docs/codes.md is not what the codes say: run UPDATE_GOLDEN=1 cargo test -p recording-crds");
}

fn page() -> String {
    let mut page = String::from(HEAD);
    page += "| code | number | component | ends the recording | meaning | who acts | what to do |\n|---|---|---|---|---|---|---|\n";
    for code in Code::ALL {
        let number = code.number().map_or("-".to_owned(), |n| n.to_string());
        let ends = match code.ends() {
            Ends::InOrder => "yes: Completed when media was stored, else Failed (NoRecordedData)",
            Ends::Failed => "yes: Failed",
            Ends::No => "no",
        };
        let (component, meaning, remedy) = (code.component(), code.meaning(), code.remedy());
        writeln!(page, "| {code} | {number} | {component} | {ends} | {meaning} | {} | {remedy} |", who(code.who()))
            .expect("a string takes everything");
    }
    page
}

fn who(who: Who) -> &'static str {
    match who {
        Who::Nobody => "-",
        Who::Author => "author of the Recording",
        Who::Platform => "cluster or network",
        Who::RoomOperator => "operator of the SFU",
        Who::StorageOperator => "operator of the storage",
        Who::Developers => "developers of recording-operator",
    }
}
