//! XEP-0092: Software Version. The server says what it is; on what it runs is told only if the conf says so (§5).

use std::sync::Arc;

use rookery_core::module::{Call, Fault, Hooks, IqResult, Module, Setup, Target, Xep};
use rookery_xmpp::element::Element;
use rookery_xmpp::ns;
use rookery_xmpp::stanza::IqType;
use serde::Deserialize;

/// Says which software this is.
pub struct Version {
    show_os: bool,
}

/// `[modules.version]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VersionConf {
    /// Whether the operating system is named too.
    pub show_os: bool,
}

impl Module for Version {
    const NAME: &'static str = "version";
    const XEPS: &'static [Xep] = &[Xep(92, "1.1")];
    type Config = VersionConf;

    fn new(config: VersionConf, _: &Setup<'_>) -> Result<Self, Fault> {
        Ok(Self { show_os: config.show_os })
    }

    fn hooks(on: &mut Hooks<'_, Self>) {
        on.disco(ns::VERSION).iq(IqType::Get, Target::Server, ns::VERSION, "query", Self::version);
    }
}

impl Version {
    async fn version(self: Arc<Self>, _: Call) -> IqResult {
        let says = |name: &'static str, text: &str| Element::new(name, ns::VERSION).text(text);
        let query = Element::new("query", ns::VERSION)
            .child(says("name", "Rookery"))
            .child(says("version", env!("CARGO_PKG_VERSION")))
            .children(self.show_os.then(|| says("os", std::env::consts::OS)));
        Ok(Some(query))
    }
}
