//! Tables in Markdown that say which test holds which promise: `| ... | \`path/to/file.rs::name_of_the_test\`, ... |`, or a
//! scenario's file.

use std::fs;
use std::path::Path;

/// A file of the project.
pub(crate) fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The rows of all tables in a file, without their heads: lines behind the `|---|` line.
pub(crate) fn rows(table: &str) -> Vec<&str> {
    let mut rows = Vec::new();
    let mut inside = false;
    for line in table.lines() {
        inside = line.starts_with("|---") || inside && line.starts_with('|');
        if inside && !line.starts_with("|---") {
            rows.push(line);
        }
    }
    rows
}

/// Panics unless each row names a test, and each test that is named exists and is run. How many there are.
pub(crate) fn check(file: &str) -> usize {
    let table = read(file);
    let mut named = 0;
    for row in rows(&table) {
        let tests: Vec<&str> = tests(row).collect();
        assert!(!tests.is_empty(), "no test: {row}");
        for test in tests {
            exists(test);
            named += 1;
        }
    }
    named
}

fn tests(row: &str) -> impl Iterator<Item = &str> {
    row.split('`').filter(|word| word.contains(".rs::") || word.ends_with(".scs"))
}

fn exists(test: &str) {
    let Some((file, name)) = test.split_once("::") else {
        assert!(!read(test).is_empty());
        return;
    };
    let source = read(file);
    let (head, _) = source.split_once(&format!("fn {name}(")).unwrap_or_else(|| panic!("no such test: {test}"));
    let attribute = head.trim_end().lines().rev().find(|line| line.trim_start().starts_with("#["));
    // The store's suites list their tests, which `suite!` makes one of for each database.
    let in_suite = head.contains("suite!(@") && head.contains(&format!(" {name},"));
    assert!(in_suite || attribute.is_some_and(|line| line.contains("test")), "not a test: {test}");
    assert!(!head.trim_end().ends_with("#[ignore]"), "ignored: {test}");
}
