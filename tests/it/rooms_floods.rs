//! What one can do to the others of a room, or from outside of it, by sending much (security.md B14, B16).

use crate::rooms::{ROOM, garden};
use crate::world::World;

const TWO: &[&str] = &["romeo@localhost", "juliet@localhost"];
const ENTERED: &str = "<status code='110'/>";

#[tokio::test(start_paused = true)]
async fn b14_presence_of_a_room_ends_no_session_that_does_not_read() {
    let conf = "[host.localhost]\n[limits]\noutbox = \"16 KiB\"\n";
    let world = World::with_conf(conf, TWO).await;
    let romeo = garden(&world, "romeo@localhost", "orchard").await;
    let juliet = world.login_resumable("juliet@localhost", "balcony").await;
    juliet.enter("juliet").await;
    let id = juliet.id();
    juliet.cut().await;
    let status = "x".repeat(4000);
    let mut told = 0;
    for number in 0..50 {
        romeo.send(&format!("<presence to='{ROOM}/host'><status>{number} {status}</status></presence>")).await;
        told += romeo.read().matches("<status code='333'/>").count();
    }
    assert_eq!(told, 1, "who lacks a presence is out of the room, and all know it");
    let juliet = world.resume("juliet@localhost", &id, 0).await.expect("the session goes on");
    assert!(juliet.read().contains("<status code='110'/><status code='333'/>"));
    assert!(juliet.enter("juliet").await.contains(ENTERED));
}
