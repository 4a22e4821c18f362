//! Two servers: what their users say to each other and see of each other.

use crate::verona::{JULIET, ROMEO, Verona};

#[tokio::test(start_paused = true)]
async fn a_message_goes_to_another_server_and_is_answered() {
    let verona = Verona::new().await;
    let (romeo, juliet) = (verona.login(ROMEO, "orchard").await, verona.login(JULIET, "balcony").await);
    verona.send(&romeo, &format!("<message type='chat' to='{JULIET}'><body>By love</body></message>")).await;
    assert_eq!(juliet.bodies(), ["By love"]);
    verona.send(&juliet, &format!("<message type='chat' to='{ROMEO}/orchard'><body>Ay me</body></message>")).await;
    assert_eq!(romeo.bodies(), ["Ay me"]);
    assert_eq!(verona.wire.refused(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn friends_see_each_other_come_and_go() {
    let verona = Verona::new().await;
    let (romeo, juliet) = (verona.login(ROMEO, "orchard").await, verona.login(JULIET, "balcony").await);
    verona.befriend(&romeo, &juliet).await;
    verona.send(&romeo, "<presence><show>away</show></presence>").await;
    assert_eq!(juliet.told(), [format!("available {ROMEO}/orchard -> {JULIET} away")]);
    romeo.leave().await;
    verona.settle().await;
    assert_eq!(juliet.told(), [format!("unavailable {ROMEO}/orchard -> {JULIET}")]);
}
