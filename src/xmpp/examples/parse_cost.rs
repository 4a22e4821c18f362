//! What a chat message costs to frame, parse and write: nanoseconds per message, to be run with `--release`.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use rookery_xmpp::framer::{Frame, Framer};
use rookery_xmpp::limits::Limits;
use rookery_xmpp::parser::{self, Parsed};

const HEADER: &[u8] = b"<?xml version='1.0'?><stream:stream to='example.org' version='1.0' xml:lang='en' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
const SHORT: &str =
    "<message to='bob@example.org' type='chat' id='a1b2c3d4'><body>Hello, how are you today?</body></message>";
const USUAL: &str = "<message to='bob@example.org/phone' type='chat' id='5f4dcc3b-5aa7-65d6' xml:lang='en'><body>Hello, how are you today?</body><active xmlns='http://jabber.org/protocol/chatstates'/><request xmlns='urn:xmpp:receipts'/><origin-id xmlns='urn:xmpp:sid:0' id='5f4dcc3b-5aa7-65d6'/></message>";

const BATCHES: u32 = 200;
const ROUNDS: u32 = 1000;

/// The best of many batches: what the work costs when nothing else disturbs it.
fn nanoseconds(mut work: impl FnMut() -> Result<(), Box<dyn Error>>) -> Result<u128, Box<dyn Error>> {
    let mut best = u128::MAX;
    for _ in 0..BATCHES {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            work()?;
        }
        best = best.min(start.elapsed().as_nanos() / u128::from(ROUNDS));
    }
    Ok(best)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut framer = Framer::new(Limits::c2s());
    let Some(Frame::Header(header)) = framer.next(&mut &*HEADER)? else {
        return Err("no header".into());
    };
    for (name, text) in [("short", SHORT), ("usual", USUAL)] {
        let Parsed::Stanza(stanza) = parser::parse(text.as_bytes().to_vec().into(), &header.namespaces)? else {
            return Err("no stanza".into());
        };
        let frame = nanoseconds(|| {
            black_box(framer.next(&mut black_box(text.as_bytes()))?);
            Ok(())
        })?;
        let parse = nanoseconds(|| {
            if let Some(Frame::Element(bytes)) = framer.next(&mut black_box(text.as_bytes()))? {
                black_box(parser::parse(bytes, &header.namespaces)?);
            }
            Ok(())
        })?;
        let mut out = Vec::new();
        let write = nanoseconds(|| {
            out.clear();
            black_box(&stanza).write(&mut out, None);
            Ok(())
        })?;
        println!("{name}: {} bytes, frame {frame} ns, frame and parse {parse} ns, write {write} ns", text.len());
    }
    Ok(())
}
