//! A bug in the handling of one thing must not take others along: panics end where that thing ends, and are counted.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

/// What was being done has panicked; the panic hook has logged where and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Panicked;

/// How many panics were caught since the start: `panics_total`. Anything above zero is a bug to report.
#[derive(Debug, Default)]
pub struct Panics(AtomicU64);

impl Panics {
    /// So many.
    pub fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Does something that may panic. What it leaves half done must be nobody else's: callers drop it.
    pub fn catch<T>(&self, act: impl FnOnce() -> T) -> Result<T, Panicked> {
        catch_unwind(AssertUnwindSafe(act)).map_err(|_| {
            self.0.fetch_add(1, Ordering::Relaxed);
            Panicked
        })
    }

    /// Awaits something that may panic. It is not polled again then.
    pub async fn caught<F: Future + Unpin>(&self, mut future: F) -> Result<F::Output, Panicked> {
        poll_fn(|context| match self.catch(|| Pin::new(&mut future).poll(context)) {
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(panicked) => Poll::Ready(Err(panicked)),
        })
        .await
    }
}
