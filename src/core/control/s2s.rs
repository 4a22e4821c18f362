//! The commands on other servers: what is asked and answered. They are for a running server alone; the network fills in what
//! it knows ([`crate::remote::Federation`]).

use std::sync::Arc;

use rookery_xmpp::jid::BareJid;
use serde::{Deserialize, Serialize};

use super::{CommandCondition, CommandError};
use crate::remote::RemoteStatus;
use crate::server::Server;

/// A command on other servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", content = "args")]
pub enum S2sRequest {
    /// Lists those that have streams, or for which something waits.
    #[serde(rename = "s2s.list")]
    List {},
    /// Says what there is to know of one.
    #[serde(rename = "s2s.show")]
    Show {
        /// Its domain.
        domain: String,
    },
    /// Closes the streams to and from one.
    #[serde(rename = "s2s.close")]
    Close {
        /// Its domain.
        domain: String,
    },
}

/// The names of the commands.
pub(super) const COMMANDS: [&str; 3] = ["s2s.list", "s2s.show", "s2s.close"];

/// What a command on other servers says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum S2sReply {
    /// Servers, by domain.
    Servers {
        /// The servers.
        servers: Vec<RemoteStatus>,
    },
    /// How many streams were closed.
    Closed {
        /// The domain, as the server writes it.
        domain: String,
        /// Streams.
        closed: usize,
    },
    /// One server.
    Server(Box<RemoteStatus>),
}

impl Server {
    /// Carries out a command on other servers.
    pub fn command_remotes(self: &Arc<Self>, request: S2sRequest) -> Result<S2sReply, CommandError> {
        match request {
            S2sRequest::List {} => Ok(S2sReply::Servers { servers: self.remotes() }),
            S2sRequest::Show { domain } => {
                let domain = read_domain(&domain)?;
                let remote = self.remote(&domain).ok_or_else(|| {
                    let text = format!("there is no stream to {domain}, and nothing waits for it");
                    CommandError::new(CommandCondition::ItemNotFound, text)
                })?;
                Ok(S2sReply::Server(Box::new(remote)))
            }
            S2sRequest::Close { domain } => {
                let domain = read_domain(&domain)?;
                let closed = self.close_remote(&domain);
                Ok(S2sReply::Closed { domain: domain.to_string(), closed })
            }
        }
    }
}

fn read_domain(text: &str) -> Result<BareJid, CommandError> {
    match BareJid::new(text) {
        Ok(domain) if domain.localpart().is_none() => Ok(domain),
        _ => Err(CommandError::new(CommandCondition::BadRequest, format!("\"{text}\" is no domain"))),
    }
}
