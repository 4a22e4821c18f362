//! security.md C5, through the whole service: in a semi-anonymous room nobody who is no moderator learns a real address or a
//! resource, on any path: presence, messages, errors, lists, forms, the archive, vCards, avatars, queries between occupants,
//! invitations; as occupant, as member, from outside, and banned.

use std::time::Duration;

use crate::rooms::{ROOM, garden};
use crate::world::{Client, World};

/// Nobody's business: who is in the room, or on its lists. The resources are like nothing else.
const SECRETS: &[&str] = &["owner", "admin", "member", "guest", "banned"];

fn address(name: &str) -> String {
    format!("{name}@localhost")
}

fn resource(name: &str) -> String {
    format!("{name}secret")
}

struct Cast {
    owner: Client,
    /// Everybody else, by name. None of them is a moderator.
    people: Vec<(&'static str, Client)>,
    looked_at: usize,
    /// How often a client has answered another's question.
    relayed: usize,
    /// The moderator sees who is in the room.
    owner_knows: bool,
}

impl Cast {
    fn client(&self, name: &str) -> &Client {
        if name == "owner" {
            return &self.owner;
        }
        &self.people.iter().find(|(person, _)| *person == name).unwrap().1
    }

    /// Answers what occupants ask a client, with its address wherever servers and clients put it.
    async fn answer(client: &Client, own: &str, got: &str) -> usize {
        let mut answered = 0;
        for query in got.split("<iq ").skip(1) {
            let attribute =
                |name: &str| query.split_once(&format!("{name}='"))?.1.split('\'').next().map(str::to_owned);
            let (Some(id), Some(from)) = (attribute("id"), attribute("from")) else { continue };
            if id.starts_with("room-") && from.starts_with(ROOM) {
                client
                    .send(&format!(
                        "<iq type='error' id='{id}' to='{from}'><error type='cancel' by='{own}'>\
                         <gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>xmpp:{own}</gone>\
                         <text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>{own}</text></error></iq>"
                    ))
                    .await;
                answered += 1;
            }
        }
        answered
    }

    /// Reads what everybody got, and finds no secret in it.
    async fn check(&mut self, what: &str, told: Option<(&str, &str)>) {
        for _ in 0..3 {
            // Archives answer at their own pace.
            tokio::time::sleep(Duration::from_secs(1)).await;
            let got = self.owner.read();
            self.owner_knows |= got.contains("jid='guest@localhost/guestsecret'");
            self.relayed += Self::answer(&self.owner, "owner@localhost/ownersecret", &got).await;
            for (name, client) in &self.people {
                let got = client.read();
                self.looked_at += got.matches("xmlns").count();
                // What somebody has sent comes back with an error, and is no news.
                let knows =
                    |secret: &str| told.is_some_and(|(who, path)| who == *name && path.contains(&address(secret)));
                for secret in SECRETS.iter().filter(|secret| *secret != name && !knows(secret)) {
                    let leaks = |stanza: &&str| stanza.contains(&address(secret)) || stanza.contains(&resource(secret));
                    let leak = got.split_inclusive('>').find(leaks);
                    assert_eq!(leak, None, "{name} learns of {secret} by {what}");
                }
                let own = format!("{}/{}", address(name), resource(name));
                self.relayed += Self::answer(client, &own, &got).await;
            }
        }
    }

    async fn walk(&mut self, name: &str, path: &str) {
        let client = self.client(name);
        if client.session.is_closed() {
            return;
        }
        client.send(path).await;
        self.check(&format!("{name} sending {path}"), Some((name, path))).await;
    }
}

fn admin_query(inside: &str) -> String {
    format!("<query xmlns='http://jabber.org/protocol/muc#admin'>{inside}</query>")
}

fn archive_query(fields: &str) -> String {
    format!(
        "<query xmlns='urn:xmpp:mam:2'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'>\
         <value>urn:xmpp:mam:2</value></field>{fields}</x></query>"
    )
}

/// What anybody may try.
fn paths() -> Vec<String> {
    let mut paths = Vec::new();
    let nicks = ["host", "guest", "member", "nobody"];
    let mut gets: Vec<String> = [
        "<query xmlns='http://jabber.org/protocol/disco#info'/>",
        "<query xmlns='http://jabber.org/protocol/disco#info' node='x-roomuser-item'/>",
        "<query xmlns='http://jabber.org/protocol/disco#items'/>",
        "<query xmlns='http://jabber.org/protocol/disco#items' node='http://jabber.org/protocol/commands'/>",
        "<query xmlns='http://jabber.org/protocol/muc#owner'/>",
        "<query xmlns='jabber:iq:register'/>",
        "<query xmlns='jabber:iq:version'/>",
        "<query xmlns='jabber:iq:last'/>",
        "<query xmlns='jabber:iq:roster'/>",
        "<query xmlns='urn:xmpp:mam:2'/>",
        "<metadata xmlns='urn:xmpp:mam:2'/>",
        "<time xmlns='urn:xmpp:time'/>",
        "<vCard xmlns='vcard-temp'/>",
        "<ping xmlns='urn:xmpp:ping'/>",
        "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:xmpp:avatar:metadata'/></pubsub>",
        "<blocklist xmlns='urn:xmpp:blocking'/>",
    ]
    .map(str::to_owned)
    .to_vec();
    gets.extend(
        ["owner", "admin", "member", "outcast", "none"].map(|a| admin_query(&format!("<item affiliation='{a}'/>"))),
    );
    gets.extend(["moderator", "participant", "visitor", "none"].map(|r| admin_query(&format!("<item role='{r}'/>"))));
    for get in &gets {
        paths.push(format!("<iq type='get' id='g' to='{ROOM}'>{get}</iq>"));
        paths.push(format!("<iq type='get' id='g' to='conference.localhost'>{get}</iq>"));
        paths.extend(nicks.map(|nick| format!("<iq type='get' id='g' to='{ROOM}/{nick}'>{get}</iq>")));
    }
    let mut sets = vec![
        admin_query("<item nick='host' role='none'/>"),
        admin_query("<item nick='guest' affiliation='outcast'/>"),
        admin_query("<item jid='owner@localhost' affiliation='none'/>"),
        "<command xmlns='http://jabber.org/protocol/commands' node='urn:xmpp:hats:commands:list-assigned'/>".to_owned(),
        "<query xmlns='http://jabber.org/protocol/muc#owner'><destroy/></query>".to_owned(),
        archive_query(""),
        archive_query("<field var='{urn:xmpp:fulltext:0}fulltext'><value>word</value></field>"),
    ];
    for with in [ROOM, &format!("{ROOM}/host"), "owner@localhost", "guest@localhost/guestsecret", "admin@localhost"] {
        sets.push(archive_query(&format!("<field var='with'><value>{with}</value></field>")));
    }
    for set in &sets {
        paths.push(format!("<iq type='set' id='s' to='{ROOM}'>{set}</iq>"));
        paths.push(format!("<iq type='set' id='s' to='{ROOM}/host'>{set}</iq>"));
    }
    // The own archive has what came from the room, too.
    paths.push(format!("<iq type='set' id='s'>{}</iq>", archive_query("")));
    for to in ["", "/host", "/guest", "/member", "/nobody"] {
        for kind in ["probe", "subscribe", "unsubscribe"] {
            paths.push(format!("<presence type='{kind}' to='{ROOM}{to}'/>"));
        }
        for kind in ["chat", "normal", "groupchat", "headline"] {
            paths.push(format!("<message type='{kind}' id='m' to='{ROOM}{to}'><body>a word</body></message>"));
        }
        paths.push(format!(
            "<message type='error' id='m' to='{ROOM}{to}'><x xmlns='http://jabber.org/protocol/muc#user'/><error type='cancel'>\
             <feature-not-implemented xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"
        ));
    }
    paths.push(format!("<message type='groupchat' to='{ROOM}'><subject>Secrets</subject></message>"));
    let x = |inside: &str| {
        format!("<message id='x' to='{ROOM}'><x xmlns='http://jabber.org/protocol/muc#user'>{inside}</x></message>")
    };
    paths.push(x("<invite to='stranger@localhost'><reason>Come</reason></invite>"));
    paths.push(x("<invite to='nobody@localhost'/>"));
    paths.push(x("<decline to='nobody@localhost'><reason>No</reason></decline>"));
    let form = |fields: &str| {
        format!(
            "<message id='x' to='{ROOM}'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'>\
             <value>http://jabber.org/protocol/muc#request</value></field>{fields}</x></message>"
        )
    };
    paths.push(form("<field var='muc#role'><value>participant</value></field>"));
    paths.push(form(
        "<field var='muc#roomnick'><value>guest</value></field><field var='muc#request_allow'><value>1</value></field>",
    ));
    for nick in ["host", "HOST", "guest", "member", "another", " "] {
        paths.push(format!("<presence id='p' to='{ROOM}/{nick}'/>"));
        paths.push(format!(
            "<presence id='p' to='{ROOM}/{nick}'><x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='100'/>\
             <mav xmlns='urn:xmpp:muc:affiliations:1' since='0'/></x></presence>"
        ));
    }
    paths
}

#[tokio::test(start_paused = true)]
async fn c5_the_service_keeps_the_secrets_of_a_semi_anonymous_room() {
    let names = ["owner", "admin", "member", "guest", "banned", "stranger"];
    let accounts = names.map(address);
    let conf = "[host.localhost]\n[limits]\noutbox = \"8 MiB\"\n[modules.muc]\nrate = 0\nroom_rate = 0\n";
    let world = World::with_conf(conf, &accounts.each_ref().map(String::as_str)).await;
    let owner = garden(&world, "owner@localhost", "ownersecret").await;
    owner
        .configure(
            ROOM,
            &[("persistentroom", "1"), ("moderatedroom", "1"), ("changesubject", "1"), ("membersonly", "0")],
        )
        .await;
    for (name, affiliation) in [("admin", "admin"), ("member", "member"), ("banned", "outcast")] {
        let item = format!("<item jid='{name}@localhost' affiliation='{affiliation}'><reason>why</reason></item>");
        owner.send(&format!("<iq type='set' id='a' to='{ROOM}'>{}</iq>", admin_query(&item))).await;
        assert!(owner.read().contains("type='result'"));
    }
    let mut people = Vec::new();
    for name in ["member", "guest", "banned", "stranger"] {
        let client = world.login_resumable(&address(name), &resource(name)).await;
        client.send("<iq type='set' id='v'><vCard xmlns='vcard-temp'><FN>Somebody</FN></vCard></iq>").await;
        client.read();
        people.push((name, client));
    }
    let mut cast = Cast { owner, people, looked_at: 0, relayed: 0, owner_knows: false };
    for (name, nick) in [("guest", "guest"), ("member", "member")] {
        cast.walk(
            name,
            &format!("<presence to='{ROOM}/{nick}'><x xmlns='http://jabber.org/protocol/muc'/></presence>"),
        )
        .await;
    }
    cast.walk("owner", &format!("<message type='groupchat' id='1' to='{ROOM}'><body>a word</body></message>")).await;
    cast.walk("owner", &format!("<message type='chat' to='{ROOM}/guest'><body>a word</body></message>")).await;
    let paths = paths();
    for name in ["guest", "member", "stranger", "banned"] {
        for path in &paths {
            cast.walk(name, path).await;
        }
        // Whoever has got in or has another nickname by that is as before.
        if matches!(name, "stranger" | "banned") {
            cast.walk(name, &format!("<presence type='unavailable' to='{ROOM}/another'/>")).await;
        } else {
            cast.walk(name, &format!("<presence to='{ROOM}/{name}'/>")).await;
        }
    }
    // What is said of who is blocked, of who goes in any way, and of who is put out.
    let block = "<iq type='set' id='b'><block xmlns='urn:xmpp:blocking'><item jid='garden@conference.localhost/guest'/></block></iq>";
    cast.walk("member", block).await;
    for path in paths.iter().filter(|path| path.contains("/member")) {
        cast.walk("guest", path).await;
    }
    cast.walk("member", &block.replace("block ", "unblock ").replace("</block>", "</unblock>")).await;
    cast.walk("member", "<presence type='unavailable'><status>Bye</status></presence>").await;
    cast.walk("member", "<presence/>").await;
    let enter =
        |nick: &str| format!("<presence to='{ROOM}/{nick}'><x xmlns='http://jabber.org/protocol/muc'/></presence>");
    cast.walk("member", &enter("member")).await;
    let order = |item: &str| format!("<iq type='set' id='o' to='{ROOM}'>{}</iq>", admin_query(item));
    for item in [
        "<item nick='guest' role='participant'><reason>Speak</reason></item>",
        "<item nick='guest' role='visitor'/>",
        "<item nick='guest' role='none'><reason>Out</reason></item>",
        "<item jid='member@localhost' affiliation='none'/>",
        "<item jid='admin@localhost' affiliation='member'/>",
        "<item jid='admin@localhost' affiliation='none'/>",
        "<item jid='banned@localhost' affiliation='none'/>",
        "<item jid='banned@localhost' affiliation='member'/>",
        "<item jid='banned@localhost' affiliation='outcast'><reason>Again</reason></item>",
    ] {
        cast.walk("owner", &order(item)).await;
    }
    cast.walk("guest", &enter("guest")).await;
    cast.walk("owner", &order("<item jid='guest@localhost' affiliation='outcast'><reason>Out</reason></item>")).await;
    for name in ["guest", "member"] {
        for path in &paths {
            cast.walk(name, path).await;
        }
    }
    // A session that is cut, one that ends, and a restart.
    let member = &cast.client("member");
    member.leave().await;
    cast.check("the end of a session", None).await;
    let destroy = "<query xmlns='http://jabber.org/protocol/muc#owner'><destroy jid='other@conference.localhost'><reason>End</reason></destroy></query>";
    cast.walk("stranger", &enter("stranger")).await;
    cast.walk("owner", &format!("<iq type='set' id='d' to='{ROOM}'>{destroy}</iq>")).await;
    for path in &paths {
        cast.walk("stranger", path).await;
    }
    println!("{} elements looked at on {} paths, {} answers relayed", cast.looked_at, paths.len(), cast.relayed);
    assert!(cast.looked_at > 3000 && cast.relayed > 50 && cast.owner_knows);
}
