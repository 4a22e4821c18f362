//! What a chat message costs to frame, parse and write: nanoseconds per message, to be run with `--release`.

use std::hint::black_box;
use std::time::Instant;

use rookery_xmpp::framer::{Frame, Framer};
use rookery_xmpp::limits::Limits;
use rookery_xmpp::parser::{self, Parsed};

const HEADER: &[u8] = b"<?xml version='1.0'?><stream:stream to='example.org' version='1.0' xml:lang='en' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
const SHORT: &str = "<message to='bob@example.org' type='chat' id='a1b2c3d4'><body>Hello, how are you today?</body></message>";
const USUAL: &str = "<message to='bob@example.org/phone' type='chat' id='5f4dcc3b-5aa7-65d6' xml:lang='en'><body>Hello, how are you today?</body><active xmlns='http://jabber.org/protocol/chatstates'/><request xmlns='urn:xmpp:receipts'/><origin-id xmlns='urn:xmpp:sid:0' id='5f4dcc3b-5aa7-65d6'/></message>";
const ROUNDS: u32 = 200_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut framer = Framer::new(Limits::c2s());
    let Some(Frame::Header(header)) = framer.next(&mut &*HEADER)? else {
        return Err("no header".into());
    };
    for (name, text) in [("short", SHORT), ("usual", USUAL)] {
        // The second time counts: the first fills caches and the allocator.
        let (mut frame, mut parse, mut write, mut size) = (0, 0, 0, 0);
        for _ in 0..2 {
            let start = Instant::now();
            for _ in 0..ROUNDS {
                black_box(framer.next(&mut black_box(text.as_bytes()))?);
            }
            frame = start.elapsed().as_nanos() / u128::from(ROUNDS);

            let start = Instant::now();
            for _ in 0..ROUNDS {
                let Some(Frame::Element(bytes)) = framer.next(&mut black_box(text.as_bytes()))?
                else {
                    continue;
                };
                black_box(parser::parse(bytes, &header.namespaces)?);
            }
            parse = start.elapsed().as_nanos() / u128::from(ROUNDS);

            let Parsed::Stanza(stanza) =
                parser::parse(text.as_bytes().to_vec().into(), &header.namespaces)?
            else {
                continue;
            };
            let mut out = Vec::new();
            let start = Instant::now();
            for _ in 0..ROUNDS {
                out.clear();
                black_box(&stanza).write(&mut out, None);
            }
            write = start.elapsed().as_nanos() / u128::from(ROUNDS);
            size = out.len();
        }
        println!(
            "{name}: {} bytes, frame {frame} ns, frame+parse {parse} ns, write {write} ns ({size} bytes)",
            text.len()
        );
    }
    Ok(())
}
