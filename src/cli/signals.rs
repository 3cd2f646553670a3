//! SIGINT and SIGTERM: finish what was read; a second one ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use signal_hook::consts::{SIGABRT, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

use crate::stream::Stop;
use crate::{Error, Result};

/// The first signal that came, if one did.
#[derive(Clone, Default)]
pub struct Caught(Arc<AtomicI32>);

impl Caught {
    /// Its number.
    pub fn number(&self) -> Option<i32> {
        Some(self.0.load(Ordering::SeqCst)).filter(|&number| number != 0)
    }
}

/// Turns signals that would end the process without a word into ordinary failures.
///
/// # Errors
/// If the system refuses the handlers.
pub fn tame() -> Result<()> {
    let io = |source| Error::Io { what: "signals".into(), source };
    // Unless somebody listens, a file that may not grow ends the process before it can say so.
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))).map_err(io)?;
    // Memory that the system refuses aborts, after a message: that is exit code 2 as well.
    signal_hook::flag::register_conditional_shutdown(SIGABRT, 2, Arc::new(AtomicBool::new(true)))
        .map_err(io)?;
    Ok(())
}

/// Lets the first signal ask `stop`, and the second end the process.
///
/// # Errors
/// If the system refuses the handlers.
pub fn listen(stop: Stop) -> Result<Caught> {
    let io = |source| Error::Io { what: "signals".into(), source };
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(io)?;
    let caught = Caught::default();
    let first = caught.clone();
    let wait = move || {
        for number in signals.forever() {
            if first.0.swap(number, Ordering::SeqCst) != 0 {
                std::process::exit(128 + number);
            }
            stop.ask();
        }
    };
    std::thread::Builder::new().name("secondpass-signals".into()).spawn(wait).map_err(io)?;
    Ok(caught)
}
