//! The table of RFC 6121's requirements names tests that exist.

use std::fs;
use std::path::Path;

#[test]
fn every_test_that_the_table_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = fs::read_to_string(root.join("tests/rfc6121.md")).unwrap();
    let mut named = 0;
    for row in table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| § ")) {
        let tests: Vec<&str> = row.split('`').filter(|word| word.contains(".rs::")).collect();
        assert!(!tests.is_empty(), "no test: {row}");
        for test in tests {
            let (file, name) = test.split_once("::").unwrap();
            let source = fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            let (head, _) =
                source.split_once(&format!("fn {name}() ")).unwrap_or_else(|| panic!("no such test: {test}"));
            let attribute = head.trim_end().lines().rev().find(|line| line.trim_start().starts_with("#["));
            assert!(attribute.is_some_and(|line| line.contains("test")), "not a test: {test}");
            assert!(!head.trim_end().ends_with("#[ignore]"), "ignored: {test}");
            named += 1;
        }
    }
    assert!(named > 100, "{named}");
    for section in ["## §2 ", "## §3 ", "## §4 ", "## §5 ", "## §8 ", "## Appendix A"] {
        assert!(table.contains(section), "{section}");
    }
}
