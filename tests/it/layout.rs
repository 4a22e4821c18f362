//! What design asks of the tree: crates see each other one way, modules do not see each other and do no I/O of their own,
//! there is one XML parser, and README's table of extensions is what the modules say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use rookery_core::module::Xep;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The Rust files below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The names in one section of a Cargo.toml.
fn dependencies(manifest: &Path, section: &str) -> BTreeSet<String> {
    let text = read(manifest);
    let lines = text.lines().skip_while(|line| *line != section).skip(1).take_while(|line| !line.starts_with('['));
    let name = |line: &str| line.split(['.', ' ', '=']).next().unwrap_or_default().to_owned();
    lines.map(name).filter(|name| !name.is_empty() && !name.starts_with('#')).collect()
}

#[test]
fn crates_see_each_other_one_way() {
    for (crate_folder, may_see) in [
        ("src/xmpp", &[] as &[&str]),
        ("src/core", &["rookery-xmpp"]),
        ("src/store", &["rookery-core", "rookery-xmpp"]),
        ("src/net", &["rookery-core", "rookery-xmpp"]),
        ("modules", &["rookery-core", "rookery-xmpp"]),
    ] {
        let sees = dependencies(&root().join(crate_folder).join("Cargo.toml"), "[dependencies]");
        let ours: Vec<&String> = sees.iter().filter(|name| name.starts_with("rookery")).collect();
        assert!(ours.iter().all(|name| may_see.contains(&name.as_str())), "{crate_folder} sees {ours:?}");
        assert!(!sees.is_empty(), "{crate_folder}: no dependencies found");
    }
    let xmpp = dependencies(&root().join("src/xmpp/Cargo.toml"), "[dependencies]");
    assert!(!xmpp.contains("tokio") && !xmpp.contains("sqlx"), "{xmpp:?}");
}

#[test]
fn a_module_sees_no_other_module() {
    let folder = root().join("modules");
    let of = |path: &Path| {
        let first = path.strip_prefix(&folder).unwrap().components().next().unwrap();
        first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
    };
    let files: Vec<PathBuf> = sources(&folder).into_iter().filter(|path| of(path) != "lib").collect();
    let modules: BTreeSet<String> = files.iter().map(|path| of(path)).collect();
    assert!(modules.len() >= 10, "{modules:?}");
    for path in &files {
        let (own, text) = (of(path), read(path));
        let depth = path.strip_prefix(&folder).unwrap().components().count();
        for (number, line) in text.lines().enumerate() {
            let place = format!("{}:{}: {line}", path.display(), number + 1);
            for (_, after) in line.match_indices("crate::").map(|(at, found)| line.split_at(at + found.len())) {
                let name: String = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                assert!(name == own, "a module may see itself, and what is in core: {place}");
            }
            if depth == 1 {
                let other = modules.iter().find(|name| **name != own && line.contains(&format!("super::{name}::")));
                assert_eq!(other, None, "{place}");
            }
        }
    }
}

#[test]
fn modules_do_no_io() {
    let folder = root().join("modules");
    let sees = dependencies(&folder.join("Cargo.toml"), "[dependencies]");
    assert!(!sees.contains("sqlx") && !sees.contains("tokio"), "{sees:?}");
    for path in sources(&folder) {
        let text = read(&path);
        for word in ["tokio::", "sqlx::", "std::fs", "std::net::Tcp", "std::net::Udp", "std::process", "std::thread"] {
            assert!(!text.contains(word), "{} has {word}", path.display());
        }
    }
}

/// Crates that read XML.
const XML_PARSERS: &[&str] = &[
    "expat-sys",
    "hard-xml",
    "instant-xml",
    "libxml",
    "minidom",
    "quick-xml",
    "roxmltree",
    "rxml",
    "serde-xml-rs",
    "strong-xml",
    "sxd-document",
    "xml",
    "xml-rs",
    "xml5ever",
    "xmlparser",
    "xmltree",
    "xot",
    "yaserde",
];

#[test]
fn there_is_one_xml_parser() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none", "--target", "all"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    let packages: BTreeSet<&str> = tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    assert!(packages.len() > 100, "{packages:?}");
    let parsers: Vec<&str> = packages
        .into_iter()
        .filter(|package| package.split(' ').next().is_some_and(|name| XML_PARSERS.contains(&name)))
        .collect();
    assert!(matches!(parsers[..], [one] if one.starts_with("quick-xml ")), "{parsers:?}");
}

/// What the extensions are called.
const TITLES: &[(u16, &str)] = &[
    (12, "Last Activity"),
    (13, "Flexible Offline Message Retrieval"),
    (30, "Service Discovery"),
    (45, "Multi-User Chat"),
    (59, "Result Set Management"),
    (77, "In-Band Registration"),
    (82, "XMPP Date and Time Profiles"),
    (92, "Software Version"),
    (115, "Entity Capabilities"),
    (128, "Service Discovery Extensions"),
    (157, "Contact Addresses for XMPP Services"),
    (160, "Best Practices for Handling Offline Messages"),
    (191, "Blocking Command"),
    (198, "Stream Management"),
    (199, "XMPP Ping"),
    (202, "Entity Time"),
    (203, "Delayed Delivery"),
    (280, "Message Carbons"),
    (297, "Stanza Forwarding"),
    (313, "Message Archive Management"),
    (317, "Hats"),
    (334, "Message Processing Hints"),
    (359, "Unique and Stable Stanza IDs"),
    (410, "MUC Self-Ping (Schrödinger's Chat)"),
    (421, "Occupant identifiers for semi-anonymous MUCs"),
    (424, "Message Retraction"),
    (425, "Moderated Message Retraction"),
    (431, "Full Text Search in MAM"),
    (441, "Message Archive Management Preferences"),
    (463, "MUC Affiliations Versioning"),
    (478, "Stream Limits Advertisement"),
    (486, "MUC Avatars"),
    (488, "MUC Token Invite"),
    (500, "MUC Slow Mode"),
    (502, "MUC Activity Indicator"),
];

fn table() -> String {
    let mut rows = BTreeMap::new();
    for module in rookery_modules::ALL {
        for Xep(number, version) in module.xeps {
            let (_, modules): &mut (_, Vec<&str>) = rows.entry(*number).or_insert((*version, Vec::new()));
            modules.push(module.name);
        }
    }
    let mut table = "| Extension | Version | Module |\n|---|---|---|\n".to_owned();
    for (number, (version, modules)) in rows {
        let title = TITLES.iter().find(|(known, _)| *known == number).map(|(_, title)| *title);
        let title = title.unwrap_or_else(|| panic!("TITLES has no XEP-{number:04}"));
        let link = format!("[XEP-{number:04}](https://xmpp.org/extensions/xep-{number:04}.html)");
        table += &format!("| {link}: {title} | {version} | `{}` |\n", modules.join("`, `"));
    }
    table
}

/// `ROOKERY_UPDATE=1 cargo test --test it readme` writes the table anew.
#[test]
fn the_readme_names_the_extensions_that_the_modules_name() {
    let (path, begin, end) = (root().join("README.md"), "<!-- xeps -->\n", "<!-- /xeps -->");
    let text = read(&path);
    let (before, rest) = text.split_once(begin).unwrap();
    let (found, after) = rest.split_once(end).unwrap();
    let table = table();
    if std::env::var_os("ROOKERY_UPDATE").is_some() {
        std::fs::write(&path, format!("{before}{begin}{table}{end}{after}")).unwrap();
    } else {
        assert_eq!(found, table, "README.md is out of date: ROOKERY_UPDATE=1 cargo test --test it readme");
    }
}
