//! The table of RFC 6121's requirements names tests that exist.

use crate::tables;

#[test]
fn every_test_that_the_table_names_exists() {
    let named = tables::check("tests/rfc6121.md");
    assert!(named > 100, "{named}");
    let table = tables::read("tests/rfc6121.md");
    for section in ["## §2 ", "## §3 ", "## §4 ", "## §5 ", "## §8 ", "## Appendix A"] {
        assert!(table.contains(section), "{section}");
    }
}
