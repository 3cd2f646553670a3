//! [`Session`]: one utterance whose list grows while it is spoken.

use std::time::Instant;

use super::flight::Flight;
use super::{Finished, Request, Worker};
use crate::nbest::{Status, Utterance};
use crate::{Error, Result};

/// One utterance under way: each partial n-best list costs the neural models only the histories that the
/// list before it did not have.
///
/// Results are those of rescoring each list alone (within 1e-6 a word; equal bits where a model's rows do
/// not depend on their batch). With [`Builder::deterministic`](super::Builder::deterministic) nothing is
/// kept from list to list. Made by [`Worker::session`]; a dropped session gives everything back.
///
/// ```
/// use secondpass::lm::ngram::Ngram;
/// use secondpass::{Rescorer, Utterance};
/// # fn main() -> secondpass::Result<()> {
/// # let folder = std::env::temp_dir().join(format!("secondpass-session-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).unwrap();
/// # let arpa = folder.join("tiny.arpa");
/// # std::fs::write(&arpa, "\\data\\\nngram 1=6\n\n\\1-grams:\n-99\t<s>\n-1\t</s>\n-1\t<unk>\n\
/// #     -0.5\ta\n-0.6\tcat\n-0.9\tsat\n\n\\end\\\n").unwrap();
/// let rescorer = Rescorer::builder().ngram(&arpa, 1.0)?.build()?;
/// let mut worker = rescorer.worker()?;
/// let mut session = worker.session();
/// for partial in [&[("a cat", -1.0), ("a cad", -1.1)][..], &[("a cad sat", -1.9), ("a cat sat", -2.0)]] {
///     let mut utterance = Utterance::new("utt1", partial.iter().copied());
///     session.update(&mut utterance)?;
///     assert!(utterance.best().unwrap().text().starts_with("a cat"));
/// }
/// session.finish();
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok(())
/// # }
/// ```
pub struct Session<'w> {
    worker: &'w mut Worker,
    /// The list before, whose histories are kept.
    last: Option<Flight>,
}

impl Worker {
    /// A session for one utterance. The worker is the session's until it ends; what was in flight must
    /// be finished before.
    ///
    /// # Panics
    /// If utterances are in flight.
    pub fn session(&mut self) -> Session<'_> {
        assert!(self.is_idle(), "a session begins when nothing is in flight");
        Session { worker: self, last: None }
    }
}

impl Session<'_> {
    /// Rescores the utterance's list as it is now: features, totals, best first.
    ///
    /// # Errors
    /// As [`Worker::rescore`]; the session goes on.
    pub fn update(&mut self, utterance: &mut Utterance) -> Result<()> {
        let request = Request { utterance: std::mem::take(utterance), ..Request::default() };
        let (finished, result) = self.run(request);
        *utterance = finished.utterance;
        result?;
        match &utterance.status {
            Status::Passed(reason) => Err(Error::record(reason.clone())),
            _ => Ok(()),
        }
    }

    /// The same for a whole [`Request`]: with a start, a deadline, or states to keep.
    ///
    /// # Errors
    /// Only if a model cannot go on at all.
    pub fn submit(&mut self, request: Request) -> Result<Finished> {
        let (finished, result) = self.run(request);
        result.map(|()| finished)
    }

    /// Ends the session: the worker is free, with what its models remember of it.
    pub fn finish(self) {}

    fn run(&mut self, request: Request) -> (Finished, Result<()>) {
        let worker = &mut *self.worker;
        let mut flight = Flight::start(request, &worker.shared, &mut worker.members, true);
        // Only now: what both lists have is in use all the time.
        if let Some(mut last) = self.last.take() {
            last.release(&mut worker.members);
        }
        let mut result = Ok(());
        while result.is_ok() && !flight.poll(Instant::now(), &worker.shared, &mut worker.members) {
            result = worker.run();
        }
        let (finished, flight) = match &result {
            Ok(()) => flight.finish_held(&worker.shared, &mut worker.members),
            Err(error) => flight.give_up_held(&error.to_string()),
        };
        self.last = Some(flight);
        (finished, result)
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if let Some(mut last) = self.last.take() {
            last.release(&mut self.worker.members);
        }
    }
}
