//! What the documents say is true: the conf as shipped has every module and option, ARCHITECTURE.md's map every file, doap.xml
//! every extension.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rookery_core::config::Conf;
use rookery_core::module::Xep;
use rookery_core::server::Server;
use rookery_store::MemoryStore;

const CONF: &str = include_str!("../../conf/rookery.toml");

async fn start(conf: &str) -> Result<Arc<Server>, String> {
    let conf = Conf::parse(conf, "test.toml").map_err(|error| error.why)?;
    rookery::judge(&conf).map_err(|error| error.why)?;
    let started = Server::start(conf, Arc::new(MemoryStore::new()), rookery_modules::ALL).await;
    started.map_err(|error| error.to_string())
}

/// A module's part of the conf as shipped, with its options in force.
fn shipped(module: &str) -> String {
    let section = format!("#[modules.{module}]\n");
    let (_, after) = CONF.split_once(&section).unwrap_or_else(|| panic!("the conf has no {section}"));
    let options = after.lines().take_while(|line| line.starts_with('#')).filter(|line| !line.starts_with("# "));
    options.fold(format!("[modules.{module}]\n"), |text, line| text + line.trim_start_matches('#') + "\n")
}

#[tokio::test]
async fn the_conf_as_shipped_has_every_module_and_option() {
    for module in rookery_modules::ALL {
        let options = shipped(module.name);
        assert!(options.contains("\nenabled = true\n"), "{options}");
        start(&format!("[host.localhost]\n{options}")).await.map(drop).expect("a conf in force");
        // The error for an unknown option names those there are.
        let wrong =
            start(&format!("[host.localhost]\n[modules.{}]\nzzzz = 1\n", module.name)).await.err().expect("an error");
        let named = wrong.split_once("the options are ").map(|(_, named)| named).unwrap_or_default();
        assert_eq!(named.is_empty(), options.lines().count() == 2, "{wrong}");
        for option in named.split(", ").filter(|option| !option.is_empty()) {
            assert!(
                options.contains(&format!("\n{option} = ")),
                "{option} of {} is not in the conf as shipped",
                module.name
            );
        }
    }
}

/// All Rust files below a folder, but for tests.
fn sources(folder: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "tests") {
                sources(&path, found);
            }
        } else if path.extension().is_some_and(|end| end == "rs")
            && path.file_name().is_none_or(|name| name != "tests.rs")
        {
            found.insert(path);
        }
    }
}

#[test]
fn the_map_in_architecture_md_has_every_file_and_no_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let mut found = BTreeSet::new();
    sources(&root.join("src"), &mut found);
    sources(&root.join("modules"), &mut found);
    let found: BTreeSet<String> =
        found.iter().map(|path| path.strip_prefix(root).unwrap().to_str().unwrap().to_owned()).collect();
    // A line of the map: | `src/core/tail.rs` | ... |
    let named: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(path, _)| path.to_owned())
        .filter(|path| path.ends_with(".rs"))
        .collect();
    assert_eq!(found.difference(&named).collect::<Vec<_>>(), [""; 0], "not in the map");
    assert_eq!(named.difference(&found).collect::<Vec<_>>(), [""; 0], "in the map, but not there");
}

/// What the directories of XMPP software read (XEP-0453).
fn doap() -> String {
    let mut text = r#"<?xml version="1.0" encoding="UTF-8"?>
<!-- Written by a test: ROOKERY_UPDATE=1 cargo test names_the_extensions -->
<rdf:RDF xmlns="http://usefulinc.com/ns/doap#" xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:xmpp="https://linkmauve.fr/ns/xmpp-doap#">
  <Project>
    <name>Rookery</name>
    <shortdesc xml:lang="en">An XMPP server: nothing acknowledged is lost</shortdesc>
    <programming-language>Rust</programming-language>
    <os>Linux</os>
    <license rdf:resource="https://spdx.org/licenses/Apache-2.0"/>
    <license rdf:resource="https://spdx.org/licenses/MIT"/>
    <category rdf:resource="https://linkmauve.fr/ns/xmpp-doap#category-server"/>
    <implements rdf:resource="https://xmpp.org/rfcs/rfc6120.html"/>
    <implements rdf:resource="https://xmpp.org/rfcs/rfc6121.html"/>
    <implements rdf:resource="https://xmpp.org/rfcs/rfc7622.html"/>
"#
    .to_owned();
    let extensions: BTreeSet<(u16, &str)> = rookery_modules::ALL
        .iter()
        .flat_map(|module| module.xeps)
        .map(|Xep(number, version)| (*number, *version))
        .collect();
    for (number, version) in extensions {
        text += &format!(
            r#"    <implements>
      <xmpp:SupportedXep>
        <xmpp:xep rdf:resource="https://xmpp.org/extensions/xep-{number:04}.html"/>
        <xmpp:version>{version}</xmpp:version>
        <xmpp:status>complete</xmpp:status>
      </xmpp:SupportedXep>
    </implements>
"#
        );
    }
    text + "  </Project>\n</rdf:RDF>\n"
}

#[test]
fn doap_xml_names_the_extensions_that_the_modules_name() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("doap.xml");
    if std::env::var_os("ROOKERY_UPDATE").is_some() {
        std::fs::write(&path, doap()).unwrap();
    } else {
        let found = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            found,
            doap(),
            "doap.xml is out of date: ROOKERY_UPDATE=1 cargo test --test it names_the_extensions"
        );
    }
}
