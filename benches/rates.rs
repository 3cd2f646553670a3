//! What reading and writing costs, format by format, and the whole filter without language models.
//!
//! `cargo bench --bench rates [FORMAT..]` prints a table: megabytes of lists per second of one core's time,
//! not of the clock's, so that a busy machine shows little. Reading is cutting the stream into records and
//! understanding them; writing is giving back each list in another order with new totals. `--test` makes
//! one short pass over each.

use std::fmt::Write;
use std::hint::black_box;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use secondpass::formats::{
    Answer, Chunk, Folder, Format, Gained, Given, Kept, Names, OwnNames, Reader, Record, Source,
};
use secondpass::stream::{Lists, Stop, StreamOptions, Streams, rescore};
use secondpass::{Name, Rescorer, Result, Status};

const HYPOTHESES: usize = 100;

/// What a language model adds to each hypothesis.
const GAINED: [&str; 3] = ["rnnlm", "words", "rnnlm.oov"];

fn main() -> Result<()> {
    let smoke = std::env::args().any(|argument| argument == "--test") || cfg!(debug_assertions);
    let asked: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let lists = if smoke { 2 } else { 200 };
    let least = if smoke { Duration::ZERO } else { Duration::from_millis(500) };
    let folder = tempfile::tempdir().expect("a folder for folders");

    println!("| format | bytes a hypothesis | in MB/s | out MB/s |\n|---|---|---|---|");
    let formats = Format::ALL.into_iter().filter(|format| format.is_input());
    for format in formats.filter(|format| asked.is_empty() || asked.contains(&format.to_string())) {
        let lists = if smoke && format == Format::Jsonl { 3 } else { lists };
        let input = Input::new(format, lists, folder.path());
        let mut reader = Reader::new(OwnNames::new(["rnnlm"]), Arc::new(given()), Arc::default());
        let read = rate(input.bytes, least, || {
            let mut hypotheses = 0;
            for chunk in input.open()?.filter(|chunk| !matches!(chunk, Ok(chunk) if !chunk.is_record())) {
                hypotheses += reader.read(&chunk?)?.utterance.hypotheses.len();
            }
            assert_eq!(hypotheses, lists * HYPOTHESES, "{format}");
            Ok(())
        })?;
        let mut records = input.records(&mut reader)?;
        let order: Vec<usize> = (0..HYPOTHESES).rev().collect();
        let features = GAINED.map(Name::from);
        let gained = Gained { order: &order, features: &features, ..Gained::default() };
        let mut out = Vec::new();
        let written = rate(input.bytes, least, || {
            for (chunk, record) in &mut records {
                out.clear();
                Answer::default().write(record, chunk, &gained, &mut out)?;
                black_box(out.len());
            }
            Ok(())
        })?;
        let each = input.bytes as f64 / (lists * HYPOTHESES) as f64;
        println!("| {format} | {each:.0} | {read:.0} | {written:.0} |");
    }
    if asked.is_empty() {
        filter(lists, smoke)?;
    }
    Ok(())
}

/// Lists as a recogniser leaves them.
struct Input {
    format: Format,
    text: Arc<[u8]>,
    folder: Option<PathBuf>,
    bytes: usize,
}

impl Input {
    fn new(format: Format, lists: usize, within: &Path) -> Self {
        let mut files: Vec<(String, String)> = Vec::new();
        for list in 0..lists {
            let record = |n: usize, text: &str, file: &str| {
                let (am, lm) = (-310.0 - n as f64 * 0.123_456, -60.0 - (n % 13) as f64 * 0.104_729);
                (file.to_owned(), row(format, (list, n), text, [am, lm]))
            };
            if let (Some(before), _) = around(format, list, lists) {
                append(&mut files, "", &before);
            }
            for n in 0..HYPOTHESES {
                let text = words(n);
                match format {
                    Format::Kaldi => {
                        append(&mut files, "words", &format!("1272-{list:04}-{} {text}\n", n + 1));
                        append(
                            &mut files,
                            "lm_cost",
                            &format!("1272-{list:04}-{} {}.{:04}\n", n + 1, 60 + n % 13, n),
                        );
                        append(
                            &mut files,
                            "ac_cost",
                            &format!("1272-{list:04}-{} {}.{:04}\n", n + 1, 3100 + n, n),
                        );
                    }
                    Format::Espnet => {
                        let place = format!("{}best_recog", n + 1);
                        append(&mut files, &format!("{place}/text"), &format!("1272-{list:04} {text}\n"));
                        append(
                            &mut files,
                            &format!("{place}/score"),
                            &format!("1272-{list:04} tensor(-{}.{n:04})\n", 31 + n),
                        );
                    }
                    _ => {
                        let (file, row) = record(n, &text, "");
                        append(&mut files, &file, &row);
                    }
                }
            }
            if let (_, Some(after)) = around(format, list, lists) {
                append(&mut files, "", &after);
            }
        }
        let bytes = files.iter().map(|(_, text)| text.len()).sum();
        if files.len() == 1 {
            return Self { format, text: files.remove(0).1.into_bytes().into(), folder: None, bytes };
        }
        let folder = within.join(format.name());
        for (name, text) in files {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap_or(&folder)).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        Self { format, text: Arc::default(), folder: Some(folder), bytes }
    }

    fn open(&self) -> Result<Source> {
        match &self.folder {
            Some(folder) => Ok(Folder::open(folder, Some(self.format), &given(), Kept::default())?.0),
            None => {
                let input = Box::new(Cursor::new(self.text.clone()));
                Source::open(input, Some(self.format), &given(), &Names::default(), Kept::default())
            }
        }
    }

    /// Every record, as if it had been rescored.
    fn records(&self, reader: &mut Reader) -> Result<Vec<(Chunk, Record)>> {
        let chunks = self.open()?.filter(|chunk| !matches!(chunk, Ok(chunk) if !chunk.is_record()));
        let record = |chunk: Result<Chunk>| {
            let chunk = chunk?;
            let mut record = reader.read(&chunk)?;
            record.utterance.status = Status::Ok;
            for (at, hypothesis) in record.utterance.hypotheses.iter_mut().enumerate() {
                hypothesis.total = -300.123_456_789 - at as f64;
                for (name, value) in GAINED.iter().zip([-11.234_567_890_123 * (at + 1) as f64, 19.0, 0.0]) {
                    hypothesis.set(&Name::from(*name), value);
                }
            }
            Ok((chunk, record))
        };
        chunks.map(record).collect()
    }
}

fn given() -> Given {
    Given { beam_size: Some(HYPOTHESES), ..Given::default() }
}

fn append(files: &mut Vec<(String, String)>, name: &str, text: &str) {
    match files.iter_mut().find(|(other, _)| other == name) {
        Some((_, file)) => file.push_str(text),
        None => files.push((name.to_owned(), text.to_owned())),
    }
}

/// What stands before and after a list.
fn around(format: Format, list: usize, lists: usize) -> (Option<String>, Option<String>) {
    let id = format!("1272-{list:04}");
    let first = |text: &str| if list == 0 { text.to_owned() } else { String::new() };
    let last = |text: &str| if list + 1 == lists { text.to_owned() } else { ",\n".to_owned() };
    let pair = |before: String, after: String| (Some(before), Some(after));
    match format {
        Format::Jsonl => pair(format!(r#"{{"id":"{id}","hyps":["#), "]}\n".into()),
        Format::Json => {
            pair(first("[\n") + &format!(r#"{{"id":"{id}","hyps":["#), "]}".to_owned() + &last("\n]\n"))
        }
        Format::Espnet1 => pair(
            first("{\"utts\": {\n") + &format!(r#""{id}": {{"output":["#),
            "]}".to_owned() + &last("\n}}\n"),
        ),
        Format::Mlm => pair(first("{\n") + &format!(r#""{id}": {{"#), "}".to_owned() + &last("\n}\n")),
        Format::Hypo2trans => pair(
            first("[\n") + r#"{"input":["#,
            r#"],"output":"mister quilter is the apostle"}"#.to_owned() + &last("\n]\n"),
        ),
        Format::Nbest1 => (Some("NBestList1.0\n".into()), None),
        Format::Nbest2 => (Some("NBestList2.0\n".into()), None),
        Format::Wenet => (Some(format!("wav {id}\n")), None),
        Format::Srilm | Format::Pocketsphinx => (None, Some("\n".into())),
        _ => (None, None),
    }
}

/// One hypothesis of a list: the list's number and its own.
fn row(format: Format, (list, n): (usize, usize), text: &str, [am, lm]: [f64; 2]) -> String {
    let comma = if n > 0 { "," } else { "" };
    let score = am + lm;
    match format {
        Format::Jsonl | Format::Json => {
            format!(r#"{comma}{{"text":"{text}","scores":{{"am":{am:.6},"lm":{lm:.5}}}}}"#)
        }
        Format::Espnet1 => {
            let name = format!("target1[{}]", n + 1);
            format!(r#"{comma}{{"name":"{name}","rec_text":"{text}","score":{score:.4},"text":""}}"#)
        }
        Format::Mlm => format!(r#"{comma}"hyp_{}":{{"score":{score:.4},"text":"{text}"}}"#, n + 1),
        Format::Hypo2trans => format!(r#"{comma}"{text}""#),
        Format::Srilm => format!("{am:.4} {lm:.4} {} {text}\n", text.split(' ').count()),
        Format::Nbest1 => format!("({}) {text}\n", (score * 9.7) as i64),
        Format::Nbest2 => {
            let mut line = format!("({})", (score * 9.7) as i64);
            for (at, word) in text.split(' ').enumerate() {
                let start = at as f64 * 0.3;
                let _ = write!(
                    line,
                    " {word} ( st: {start:.2} et: {:.2} g: -{} a: -{} )",
                    start + 0.25,
                    12 + at,
                    800 + n
                );
            }
            line + "\n"
        }
        Format::Moses => format!("{list} ||| {text} ||| LM0= {lm:.4} AM0= {am:.4} ||| {score:.4}\n"),
        Format::Nemo => format!("{text}\t{score:.4}\n"),
        Format::Wenet => format!("candidate {score:.4} {text}\n"),
        Format::Cued => {
            format!("1272-{list:04} {am:.4} {lm:.4} {} <s> {text} </s>\n", text.split(' ').count())
        }
        Format::Pocketsphinx => format!("{text} {}\n", (score * 9.7) as i64),
        _ => String::new(),
    }
}

/// About 19 words a hypothesis, which differ in two places.
fn words(n: usize) -> String {
    let (class, gospel) = (["", "es"][n % 2], ["", "s", " here", " there"][n / 2 % 4]);
    format!(
        "mister quilter is the apostle of the middle class{class} and we are glad to welcome his gospel{gospel}"
    )
}

/// Passes until they have taken long enough to be told apart from the steps of the system's clock, in MB a
/// second of this thread's time.
fn rate(bytes: usize, least: Duration, mut pass: impl FnMut() -> Result<()>) -> Result<f64> {
    pass()?; // what is allocated once
    let (clock, began) = (Instant::now(), thread_time());
    for passes in 1.. {
        pass()?;
        let took = match (began, thread_time()) {
            (Some(began), Some(now)) => now.saturating_sub(began),
            _ => clock.elapsed(),
        };
        if took >= least {
            return Ok((bytes * passes) as f64 / 1e6 / took.as_secs_f64().max(1e-9));
        }
    }
    Ok(0.0)
}

/// Processor time of this thread, where the system tells.
fn thread_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

/// Processor time of all threads of this process, where the system tells.
fn process_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = text.rsplit(')').next()?.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

/// The whole filter without language models: JSON Lines in and out, one worker.
fn filter(lists: usize, smoke: bool) -> Result<()> {
    let input = Input::new(Format::Jsonl, lists, Path::new(""));
    let rescorer = Rescorer::builder().build()?;
    let (least, clock, began) = (Duration::from_secs(2), Instant::now(), process_time());
    let (mut hypotheses, mut bytes) = (0, 0);
    let took = loop {
        let streams = Streams {
            input: Lists::Stream {
                input: Box::new(Cursor::new(input.text.clone())),
                format: Some(Format::Jsonl),
                given: Arc::default(),
                names: Names::default(),
            },
            earlier: None,
            output: &mut std::io::sink(),
            output_name: "nowhere".into(),
        };
        let options = StreamOptions { workers: 1, ..StreamOptions::default() };
        let summary = rescore(&rescorer, streams, &options, &Stop::default(), &|_| {})?;
        hypotheses += summary.hypotheses;
        bytes += input.bytes;
        let took = match (began, process_time()) {
            (Some(began), Some(now)) => now.saturating_sub(began),
            _ => clock.elapsed(),
        };
        if smoke || took >= least {
            break took;
        }
    };
    let seconds = took.as_secs_f64().max(1e-2);
    println!(
        "\nfilter without language models, JSON Lines in and out: {:.0} hypotheses and {:.0} MB in a second of one core",
        hypotheses as f64 / seconds,
        bytes as f64 / 1e6 / seconds
    );
    Ok(())
}
