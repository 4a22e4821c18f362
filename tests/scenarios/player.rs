//! Plays a script: one step after the other, each with what it may have to wait for.

use std::collections::BTreeMap;

use rookery_xmpp::element::Element;
use rookery_xmpp::jid::Jid;
use rookery_xmpp::ns;

use crate::connection::{Connection, Incoming};
use crate::matching::{Captures, compare, elements};
use crate::script::{Action, Character, Kind, Script};
use crate::world::{Database, World};

/// Plays the script against a server of its own.
pub(crate) async fn play(text: &str, database: &Database) -> Result<(), String> {
    let script = Script::parse(text)?;
    let world = World::start(&script, database).await?;
    let mut player = Player { script: &script, world: &world, connections: BTreeMap::new(), captures: Captures::new() };
    let mut result = Ok(());
    for step in &script.steps {
        let done = match step.who {
            Some(who) => player.act(who, &step.action).await,
            None => player.between(&step.action).await,
        };
        if let Err(why) = done {
            let who = step.who.and_then(|who| script.characters.get(who)).map_or("", |who| who.name.as_str());
            let waiting = step.who.map(|who| player.waiting(who)).unwrap_or_default();
            result = Err(format!("line {}: {who}: {why}{waiting}", step.line));
            break;
        }
    }
    drop(player);
    let stopped = world.stop().await;
    result.and(stopped)
}

struct Player<'a> {
    script: &'a Script,
    world: &'a World,
    connections: BTreeMap<usize, Connection>,
    captures: Captures,
}

impl Player<'_> {
    fn character(&self, who: usize) -> Result<&Character, String> {
        self.script.characters.get(who).ok_or_else(|| "nobody".to_owned())
    }

    /// What happens between the servers. What was on its way before they are cut off has arrived, and is known to have.
    async fn between(&self, action: &Action) -> Result<(), String> {
        let wire = self.world.wire().ok_or("there is one server only")?;
        let is_cut = matches!(action, Action::CutOff);
        if is_cut {
            wire.quiet().await;
        }
        for domain in self.world.domains() {
            if is_cut { wire.cut(domain) } else { wire.mend(domain) }
        }
        Ok(())
    }

    async fn act(&mut self, who: usize, action: &Action) -> Result<(), String> {
        match action {
            Action::Connects => self.connect(who, true).await,
            Action::ConnectsUnbound => self.connect(who, false).await,
            Action::Binds => {
                let resource = resource(self.character(who)?);
                self.connection(who)?.bind(resource.as_deref()).await
            }
            Action::Sends(text) => {
                let text = self.fill_in(text)?;
                if let Some(connection) = self.connections.get_mut(&who) {
                    connection.send(&text).await;
                }
                Ok(())
            }
            Action::Receives(text) => {
                for wanted in elements(&self.fill_in(text)?)? {
                    self.receive(who, &wanted).await?;
                }
                Ok(())
            }
            Action::ReceivesInAnyOrder(text) => {
                let wanted = elements(&self.fill_in(text)?)?;
                self.receive_all(who, wanted).await
            }
            Action::ReceivesNothing => self.receive_nothing(who).await,
            Action::CutOff | Action::Joined => self.between(action).await,
            Action::Disconnects => match self.connections.remove(&who) {
                Some(mut connection) => connection.disconnect().await,
                None => Ok(()),
            },
            Action::Cuts => match self.connections.remove(&who) {
                Some(mut connection) => connection.cut().await,
                None => Ok(()),
            },
            Action::IsDisconnected => match self.connection(who)?.next().await? {
                Incoming::End => Ok(()),
                Incoming::Element(element) => {
                    Err(format!("expected the end of the stream, got\n  {}", element.to_xml()))
                }
            },
        }
    }

    async fn connect(&mut self, who: usize, bind: bool) -> Result<(), String> {
        let character = self.character(who)?;
        let address = self.world.port(character.server(), character.property("listener").unwrap_or("trusted"))?;
        let connection = match character.kind {
            Kind::Stream => Connection::bare(address).await?,
            Kind::Client => {
                let jid = Jid::new(character.property("jid").unwrap_or_default()).map_err(|error| error.to_string())?;
                let password = character.property("password").unwrap_or_default();
                Connection::login(address, &jid, password, resource(character).as_deref(), bind).await?
            }
        };
        self.connections.insert(who, connection);
        Ok(())
    }

    fn connection(&mut self, who: usize) -> Result<&mut Connection, String> {
        self.connections.get_mut(&who).ok_or_else(|| "is not connected".to_owned())
    }

    async fn receive(&mut self, who: usize, wanted: &Element) -> Result<(), String> {
        loop {
            let expected = || format!("expected\n  {}\n", wanted.to_xml());
            let incoming = self.connection(who)?.next().await.map_err(|why| format!("{}{why}", expected()))?;
            let Incoming::Element(got) = incoming else { return Err(format!("{}the stream has ended", expected())) };
            match compare(wanted, &got, &mut self.captures) {
                Ok(()) => return Ok(()),
                Err(_) if is_ack(&got) => {}
                Err(why) => return Err(format!("{why}\n{}got\n  {}", expected(), got.to_xml())),
            }
        }
    }

    async fn receive_all(&mut self, who: usize, mut wanted: Vec<Element>) -> Result<(), String> {
        while !wanted.is_empty() {
            let expected =
                || wanted.iter().fold("expected\n".to_owned(), |text, one| format!("{text}  {}\n", one.to_xml()));
            let connection = self.connections.get_mut(&who).ok_or("is not connected")?;
            let incoming = connection.next().await.map_err(|why| format!("{}{why}", expected()))?;
            let Incoming::Element(got) = incoming else { return Err(format!("{}the stream has ended", expected())) };
            let place = wanted.iter().position(|wanted| compare(wanted, &got, &mut self.captures).is_ok());
            match place {
                Some(place) => drop(wanted.remove(place)),
                None if is_ack(&got) => {}
                None => return Err(format!("{}got\n  {}", expected(), got.to_xml())),
            }
        }
        Ok(())
    }

    /// Everybody makes a round trip, so that what others have sent is on its way, and what goes from one server to another
    /// arrives, until nothing comes of it any more; then the one in question makes one.
    async fn receive_nothing(&mut self, who: usize) -> Result<(), String> {
        loop {
            let carried = self.world.wire().map(|wire| wire.carried());
            for connection in self.connections.values_mut() {
                connection.ping().await?;
            }
            let Some(wire) = self.world.wire() else { break };
            wire.quiet().await;
            if Some(wire.carried()) == carried {
                break;
            }
        }
        let connection = self.connection(who)?;
        connection.ping().await?;
        let got =
            connection.waiting().find(|incoming| !matches!(incoming, Incoming::Element(element) if is_ack(element)));
        match got {
            None => Ok(()),
            Some(Incoming::Element(element)) => Err(format!("expected nothing, got\n  {}", element.to_xml())),
            Some(Incoming::End) => Err("expected nothing, but the stream has ended".to_owned()),
        }
    }

    /// Puts in what `${...}` stands for.
    fn fill_in(&self, text: &str) -> Result<String, String> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}').ok_or("a \"${\" has no end")?;
            filled += before;
            filled += &self.variable(name)?;
            rest = after;
        }
        Ok(filled + rest)
    }

    fn variable(&self, name: &str) -> Result<String, String> {
        let of = |suffix: &str| {
            let owner = name.strip_suffix(suffix)?;
            self.script.characters.iter().position(|character| character.name == owner)
        };
        if let Some(who) = of("'s full JID") {
            let jid = self.connections.get(&who).and_then(|connection| connection.jid.clone());
            let known = self.captures.get(name).cloned();
            return jid.map(|jid| jid.to_string()).or(known).ok_or_else(|| format!("there is no {name} yet"));
        }
        if let Some(who) = of("'s JID") {
            let jid = self.character(who)?.property("jid").and_then(|jid| Jid::new(jid).ok());
            return jid.map(|jid| jid.bare_str().to_owned()).ok_or_else(|| format!("there is no {name}"));
        }
        self.captures.get(name).cloned().ok_or_else(|| format!("nothing was captured as {name}"))
    }

    /// What else had come, for those who look for the fault.
    fn waiting(&self, who: usize) -> String {
        let Some(connection) = self.connections.get(&who) else { return String::new() };
        connection.waiting().fold(String::new(), |text, incoming| match incoming {
            Incoming::Element(element) => format!("{text}\nthen\n  {}", element.to_xml()),
            Incoming::End => format!("{text}\nthen the end"),
        })
    }
}

/// The resource that a client asks for.
fn resource(character: &Character) -> Option<String> {
    let in_jid = || Jid::new(character.property("jid")?).ok()?.resourcepart().map(str::to_owned);
    character.property("resource").map(str::to_owned).or_else(in_jid)
}

/// Acknowledgements of XEP-0198 come when the server likes, and a later one replaces an earlier one.
fn is_ack(element: &Element) -> bool {
    element.is("a", ns::SM) || element.is("r", ns::SM)
}
