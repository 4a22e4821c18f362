//! What a client that never reads costs while others write to it: a binary of its own, so that the resident memory is
//! that client's.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::string_slice, reason = "tests")]

mod common;

use common::world::*;

fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("statm");
    pages.split_whitespace().nth(1).expect("a number").parse::<usize>().expect("a number") * 4096
}

#[tokio::test]
async fn b14_a_client_that_never_reads_takes_no_more_memory_than_its_limits() {
    let rates = ["connection", "account"].map(|who| format!("{who}_rate = '1 GiB'\n{who}_burst = '1 GiB'\n")).concat();
    let conf = format!(
        "[limits]\noffline_size = '1 MiB'\nwrite_stall = '1 hour'\n{rates}[modules.archive]\nenabled = false\n"
    );
    let world = World::with_conf("flood", &conf).await;
    let mut romeo = world.login("romeo", "orchard").await;
    let mut deaf = world.login("juliet", "balcony").await;
    deaf.say("<presence/><enable xmlns='urn:xmpp:sm:3' resume='true'/>").await;
    deaf.hear("<enabled").await;
    let body = "x".repeat(20_000);
    let mut flood = async |messages: usize| {
        let mut refused = 0;
        for n in 0..messages {
            romeo.say(&format!("<message to='juliet@chat.example' type='chat'><body>{body}</body></message>")).await;
            if n % 10 == 9 {
                romeo.say("<iq id='p' type='get'><ping xmlns='urn:xmpp:ping'/></iq>").await;
                let heard = romeo.hear("id='p'").await;
                refused += heard.matches("<error").count();
            }
        }
        refused
    };
    // Up to the limits, ...
    flood(200).await;
    let before = resident();
    // ... and far beyond: each is refused, its sender told.
    assert_eq!(flood(2000).await, 2000);
    let grown = resident().saturating_sub(before);
    println!("after 40 MB to a client that does not read: {grown} bytes more");
    assert!(grown < 4 << 20, "grew by {grown}");
}
