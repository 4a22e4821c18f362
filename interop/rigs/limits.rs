//! later
/// o
#[derive(Debug, clap::Args)]
pub struct Options {}
/// r
pub async fn run(_: &Options) -> crate::Verdict {
    Ok(true)
}
