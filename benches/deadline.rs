//! How late answers are when lists come with a deadline (promise N7): a model that takes a known
//! time for each history, lists that arrive at their own pace, some far too large to be scored in
//! time. Everything else is the program's own: reader, pool, scheduler, writer.
//!
//! `cargo bench --bench deadline [LISTS]` prints the lateness of the answers, from the arrival of a
//! line plus the deadline to the writing of its answer. The model sleeps, so that the machine's
//! arithmetic plays no part; its scheduler does, and a busy machine shows.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use secondpass::formats::{Format, Names};
use secondpass::lm::schedule::Scheduler;
use secondpass::lm::{Carry, Grain, LanguageModel, Limits, Rows, Scorer, Spec, StepKernel, Wanted};
use secondpass::stream::{Lists, Stop, StreamOptions, Streams, rescore};
use secondpass::tokens::{Known, TextMap, Vocab};
use secondpass::{Rescorer, Result};

const DEADLINE: Duration = Duration::from_millis(20);
const PER_ROW: Duration = Duration::from_micros(10);
const PACE: Duration = Duration::from_micros(1_250);
const WORDS: u32 = 50;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let smoke = std::env::args().any(|argument| argument == "--test") || cfg!(debug_assertions);
    let lists = arguments.next().and_then(|count| count.parse().ok());
    let lists: usize = lists.unwrap_or(if smoke { 50 } else { 100_000 });

    let rescorer = Rescorer::builder()
        .lm("slow", Arc::new(Slow(spec())), TextMap::default())
        .weight("slow", 1.0)
        .deadline(Some(DEADLINE))
        .build()?;
    let options = StreamOptions { workers: 2, deadline: Some(DEADLINE), ..StreamOptions::default() };
    let arrivals = Arc::new(Mutex::new(Vec::with_capacity(lists)));
    let source = Source { left: lists, random: 1, began: None, arrivals: arrivals.clone(), line: Vec::new() };
    let mut sink = Sink::default();
    let input = Lists::Stream {
        input: Box::new(source),
        format: Some(Format::Jsonl),
        given: Arc::default(),
        names: Names::default(),
    };
    let streams = Streams { input, earlier: None, output: &mut sink, output_name: "the sink".into() };
    let summary = rescore(&rescorer, streams, &options, &Stop::default(), &|_| {})?;

    let arrivals = arrivals.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    assert_eq!(sink.written.len(), lists, "one answer for each list");
    let mut late: Vec<f64> = (arrivals.iter().zip(&sink.written))
        .map(|(&arrived, &written)| (written - arrived).saturating_sub(DEADLINE).as_secs_f64() * 1e3)
        .collect();
    late.sort_by(f64::total_cmp);
    let at = |share: f64| late[((late.len() - 1) as f64 * share) as usize];
    println!(
        "{lists} lists, deadline {DEADLINE:?}: {} rescored, {} partial, {} passed; late by (ms): \
         p50 {:.2}, p99 {:.2}, p99.9 {:.2}, most {:.2}",
        summary.rescored,
        summary.partial,
        summary.passed,
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
    Ok(())
}

/// Lists of ten hypotheses of six words, one in fifty of a hundred of sixty, each on its time.
struct Source {
    left: usize,
    random: u64,
    began: Option<Instant>,
    arrivals: Arc<Mutex<Vec<Instant>>>,
    line: Vec<u8>,
}

impl Source {
    fn below(&mut self, end: u64) -> u64 {
        // xorshift (Marsaglia 2003)
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % end
    }

    fn list(&mut self) -> Vec<u8> {
        let (hypotheses, words) = if self.below(50) == 0 { (100, 60) } else { (10, 6) };
        let mut line = b"{\"hyps\":[".to_vec();
        for rank in 0..hypotheses {
            line.extend(if rank == 0 { &b"{\"text\":\""[..] } else { b",{\"text\":\"" });
            for _ in 0..words {
                line.extend(format!("w{} ", self.below(u64::from(WORDS))).bytes());
            }
            line.extend(format!("\",\"score\":{}}}", -rank).bytes());
        }
        line.extend(b"]}\n");
        line
    }
}

impl Read for Source {
    /// One line at a time, or what is left of it.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.line.is_empty() {
            if self.left == 0 {
                return Ok(0);
            }
            self.left -= 1;
            self.line = self.list();
            let began = *self.began.get_or_insert_with(Instant::now);
            let mut arrivals = self.arrivals.lock().map_err(|_| io::ErrorKind::Other)?;
            let due = began + PACE * arrivals.len() as u32;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            // A list that was not asked for in time counts from when it was: reading is held back
            // while the window is full.
            arrivals.push(Instant::now());
        }
        let count = self.line.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.line[..count]);
        self.line.drain(..count);
        Ok(count)
    }
}

/// Notes when each line was written.
#[derive(Default)]
struct Sink {
    written: Vec<Instant>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let now = Instant::now();
        self.written.extend(bytes.iter().filter(|byte| **byte == b'\n').map(|_| now));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A model without states that sleeps for each history.
struct Slow(Spec);

struct SlowKernel;

struct Numbered;

fn spec() -> Spec {
    Spec {
        vocab: Arc::new(Numbered),
        grain: Grain::Token,
        backward: false,
        carries: false,
        carries_bos: true,
        context: Vec::new(),
        warnings: Vec::new(),
    }
}

impl LanguageModel for Slow {
    fn spec(&self) -> &Spec {
        &self.0
    }

    fn scorer(&self, limits: &Limits) -> Result<Box<dyn Scorer>> {
        Ok(Box::new(Scheduler::new(SlowKernel, "slow", limits)))
    }
}

impl StepKernel for SlowKernel {
    fn window(&self) -> Option<usize> {
        None
    }

    fn reserve(&mut self, _: usize) -> Result<()> {
        Ok(())
    }

    fn reset(&mut self, _: u32) {}

    fn load(&mut self, _: u32, _: &Carry) -> Result<()> {
        Ok(())
    }

    fn save(&self, _: u32) -> Carry {
        Carry(Arc::new(()))
    }

    fn run(&mut self, rows: Rows<'_>, _: Wanted<'_>, out: &mut [f32]) -> Result<()> {
        std::thread::sleep(PER_ROW * rows.tokens.len() as u32);
        out.fill(-1.0);
        Ok(())
    }
}

impl Vocab for Numbered {
    fn size(&self) -> usize {
        WORDS as usize + 3
    }

    fn bos(&self) -> u32 {
        0
    }

    fn eos(&self) -> u32 {
        1
    }

    fn unk(&self) -> Option<u32> {
        Some(2)
    }

    fn encode(&self, word: &[u8], ids: &mut Vec<u32>) -> Known {
        let number = std::str::from_utf8(&word[1..]).ok().and_then(|digits| digits.parse::<u32>().ok());
        ids.push(number.map_or(2, |number| number + 3));
        if number.is_some() { Known::Yes } else { Known::No }
    }

    fn starts_word(&self, _: u32) -> bool {
        true
    }

    fn words(&self) -> bool {
        true
    }

    fn symbol(&self, _: u32) -> Option<Vec<u8>> {
        None
    }

    fn hash(&self) -> u64 {
        1
    }
}
