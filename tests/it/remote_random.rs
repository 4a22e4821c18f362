//! A random life of a link: messages are sent, carried, confirmed, cut off, given up and timed out, over restarts. Each of
//! them ends once: the peer has confirmed it, or its sender was told that it failed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use rookery_core::remote::Failure;
use rookery_xmpp::error::Condition;

use crate::remote::{Net, Stream, chat};
use crate::world::{Client, World, bodies, jid};

const ROMEO: &str = "romeo@localhost";

#[derive(Debug, Clone)]
enum Step {
    Send,
    Carry,
    /// Takes so many.
    Take(usize),
    Confirm,
    LetGo,
    Fail(bool),
    Pass(u64),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => Just(Step::Send),
        3 => Just(Step::Carry),
        6 => (1_usize..4).prop_map(Step::Take),
        3 => Just(Step::Confirm),
        1 => Just(Step::LetGo),
        1 => any::<bool>().prop_map(Step::Fail),
        2 => (0_u64..200).prop_map(Step::Pass),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..60)
}

/// What has become of the messages, by their texts.
#[derive(Default)]
struct Fates {
    sent: usize,
    confirmed: BTreeSet<usize>,
    bounced: BTreeMap<usize, usize>,
}

impl Fates {
    fn read(&mut self, romeo: &Client) {
        for body in bodies(&romeo.read()) {
            *self.bounced.entry(body.parse().unwrap()).or_default() += 1;
        }
    }
}

async fn live(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut world = World::without_archive(&[ROMEO]).await;
    let _net = Net::of(&world);
    let mut romeo = world.login(ROMEO, "orchard").await;
    let (mut stream, mut taken): (Option<Stream>, Vec<usize>) = (None, Vec::new());
    let mut fates = Fates::default();
    for step in steps {
        match step {
            Step::Send => {
                romeo.send(&chat("juliet@far.example", &fates.sent.to_string())).await;
                fates.sent += 1;
            }
            Step::Carry => {
                stream = Some(Stream::to(&world, "far.example"));
                taken.clear();
            }
            Step::Take(most) => {
                let Some(stream) = &stream else { continue };
                for body in bodies(&stream.take(most).concat()) {
                    let number = body.parse().unwrap();
                    prop_assert!(taken.last().is_none_or(|last| *last < number), "{taken:?} and then {number}");
                    prop_assert!(!fates.confirmed.contains(&number) && !fates.bounced.contains_key(&number));
                    taken.push(number);
                }
            }
            Step::Confirm => {
                let Some(stream) = stream.as_ref().filter(|stream| stream.link.is_current(stream.carrier)) else {
                    continue;
                };
                stream.confirm();
                fates.confirmed.extend(std::mem::take(&mut taken));
                // What has come so far is in order, and what comes now is behind it.
                taken.extend(fates.confirmed.last());
            }
            Step::LetGo => {
                if let Some(stream) = stream.take() {
                    stream.let_go();
                }
            }
            Step::Fail(definite) => {
                for link in world.server.links_to(&jid("far.example")) {
                    let condition = Condition::RemoteServerNotFound;
                    link.failed(Failure { definite, condition, text: "no".to_owned() });
                }
            }
            Step::Pass(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            Step::Restart => {
                world.settle().await;
                tokio::time::sleep(Duration::from_millis(200)).await;
                fates.read(&romeo);
                stream = None;
                world = world.restart().await;
                let _net = Net::of(&world);
                romeo = world.login(ROMEO, "orchard").await;
            }
        }
        world.settle().await;
        fates.read(&romeo);
    }
    drop(stream);
    for link in world.server.links_to(&jid("far.example")) {
        // A last carrier that takes nothing, so that the one before is past.
        link.let_go(link.carry());
    }
    // What may have arrived waits longest.
    tokio::time::sleep(Duration::from_secs(4200)).await;
    fates.read(&romeo);
    for number in 0..fates.sent {
        let (confirmed, bounced) = (fates.confirmed.contains(&number), fates.bounced.get(&number).copied());
        prop_assert!(
            matches!((confirmed, bounced), (true, None) | (false, Some(1))),
            "{number}: confirmed {confirmed}, sent back {bounced:?} times"
        );
    }
    prop_assert_eq!(crate::remote::on_disk(&world).await, 0);
    prop_assert!(world.server.remotes().iter().all(|remote| remote.links.iter().all(|link| link.bytes == 0)));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn t10_each_message_is_confirmed_or_sent_back_and_never_both(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(live(steps))?;
    }
}
