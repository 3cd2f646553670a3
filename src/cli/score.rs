//! `secondpass score`: log probabilities of lines of text.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::End;
use super::files::{self, Sink};
use super::messages::Messages;
use super::models::ModelArgs;
use super::rescore::jobs;
use crate::combine::MIX;
use crate::config::{Config, Interpolate};
use crate::lines::{Decoded, Lines, MAX_LINE_BYTES};
use crate::nbest::{Hypothesis, Name, Status, Utterance};
use crate::pool::{Outcome, Pool, PoolOptions, Stage, Ticket};
use crate::rescorer::{Finished, Request, Rescorer, WordScore, Worker};
use crate::{Error, Result};

/// Log probability of each line of text: natural log, `</s>` included
///
/// One column per model. An empty line is the empty sentence. Perplexities go to standard error.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Text, one sentence a line, plain or gzip; - for standard input
    #[arg(value_name = "TEXT", default_value = "-")]
    text: PathBuf,
    #[command(flatten)]
    models: ModelArgs,
    /// One row per word instead, an empty row between sentences
    #[arg(long, overrides_with = "no_words", help_heading = "Output")]
    words: bool,
    #[arg(long, hide = true)]
    no_words: bool,
    /// One JSON object per line
    #[arg(long, overrides_with = "no_json", help_heading = "Output")]
    json: bool,
    #[arg(long, hide = true)]
    no_json: bool,
    /// Worker threads (0: one per core)
    #[arg(short, long, value_name = "NUM", default_value_t = 0, value_parser = jobs(), help_heading = "Limits")]
    jobs: usize,
}

/// What was scored so far under one model.
#[derive(Default)]
struct Tally {
    ln: f64,
    oov: u64,
}

/// Scores text.
pub fn run(arguments: &Args, messages: &Messages) -> Result<End> {
    if arguments.models.weights.is_some() || !arguments.models.weight.is_empty() {
        return Err(Error::config(
            "score gives what each model says, which no weight changes: leave out --weight and --weights (shares of a \
             mix are --lambda)",
        ));
    }
    let config = unweighted(arguments.models.config()?);
    let rescorer = arguments.models.builder(&config)?.build()?;
    for warning in rescorer.warnings() {
        messages.say(&format!("warning: {warning}"));
    }
    let io = |source| Error::Io { what: arguments.text.display().to_string(), source };
    let text = Decoded::open(files::input(&arguments.text)?).map_err(io)?;
    let workers = arguments.models.workers(arguments.jobs, &config, messages)?;
    let made = rescorer.clone();
    let options = PoolOptions { name: "secondpass".into(), ..PoolOptions::new(workers) };
    let Pool { mut submitter, mut outputs } =
        Pool::new(options, move |_| Ok(Scores { worker: made.worker()?, done: Vec::new() }))?;
    let mut sink = Sink::open("-".as_ref(), false)?;
    let mut report = Report::new(arguments, &rescorer, &config);
    // Reading on its own thread: the pool's window is the only bound it needs.
    let written = std::thread::scope(|scope| {
        let reader = scope.spawn(move || -> Result<()> {
            for line in Lines::new(text, MAX_LINE_BYTES) {
                let line = line.map_err(io)?;
                if let Some(got) = line.over {
                    let what = format!("line {}", line.number);
                    return Err(Error::Limit { what, limit: MAX_LINE_BYTES as u64, got });
                }
                let weight = line.bytes.len() + 64;
                if submitter.submit(line.bytes, weight, None).is_err() {
                    return Ok(());
                }
            }
            Ok(())
        });
        let mut number = 0;
        while let Some((_, outcome)) = outputs.recv() {
            number += 1;
            let finished = match outcome {
                Outcome::Done(finished) => finished,
                Outcome::Panicked(what) | Outcome::Failed(what) => return Err(Error::Internal(what)),
            };
            if let Status::Passed(reason) = &finished.utterance.status {
                return Err(Error::Record { what: format!("line {number}: {reason}") });
            }
            report.one(&finished, &mut sink)?;
        }
        drop(outputs);
        reader.join().unwrap_or_else(|_| Err(Error::Internal("the reader panicked".into())))
    });
    sink.finish().map_err(|source| Error::Io { what: "output".into(), source })?;
    written?;
    report.summary(messages);
    Ok(End::Done)
}

/// Nothing is ranked here: first-pass features that weights name are not missed, and no score is
/// too low to be told.
fn unweighted(mut config: Config) -> Config {
    config.weights.clear();
    // Nobody wins, so that there is nobody to confirm.
    config.confirm = None;
    for lm in &mut config.lm {
        lm.weight = Some(0.0);
    }
    if config.interpolate == Some(Interpolate::Linear) {
        config.weights.insert(MIX.to_owned(), 0.0);
    }
    config
}

/// One worker: lines in, scores out.
struct Scores {
    worker: Worker,
    done: Vec<Finished>,
}

impl Stage for Scores {
    type In = Vec<u8>;
    type Out = Finished;

    fn room(&self) -> bool {
        self.worker.room()
    }

    fn submit(&mut self, ticket: Ticket, text: Arc<Vec<u8>>) {
        let utterance = Utterance { hypotheses: vec![Hypothesis::new(&text[..], 1)], ..Utterance::default() };
        self.worker.submit(Request { ticket: ticket.0, utterance, detail: true, ..Request::default() });
    }

    fn step(&mut self, done: &mut Vec<(Ticket, Finished)>) -> bool {
        if let Err(error) = self.worker.step(&mut self.done) {
            self.worker.abandon(&error.to_string(), &mut self.done);
        }
        done.extend(self.done.drain(..).map(|finished| (Ticket(finished.ticket), finished)));
        !self.worker.is_idle()
    }
}

/// Prints scores and keeps the sums.
struct Report<'a> {
    arguments: &'a Args,
    rescorer: &'a Rescorer,
    names: Vec<Name>,
    mixed: bool,
    /// Whether `</s>` is scored.
    eos: bool,
    /// Part of an unknown word's score.
    penalty: f64,
    tallies: HashMap<Name, Tally>,
    words: u64,
    sentences: u64,
}

impl<'a> Report<'a> {
    fn new(arguments: &'a Args, rescorer: &'a Rescorer, config: &Config) -> Self {
        let (eos, penalty) = (config.eos.unwrap_or(true), config.unk_penalty.unwrap_or(0.0));
        let mixed = rescorer.combination().models.iter().any(|name| &**name == MIX);
        let names = rescorer.names().cloned().collect();
        Self {
            arguments,
            rescorer,
            names,
            mixed,
            eos,
            penalty,
            tallies: HashMap::new(),
            words: 0,
            sentences: 0,
        }
    }

    fn one(&mut self, finished: &Finished, out: &mut impl Write) -> Result<()> {
        let Some(hypothesis) = finished.utterance.best() else { return Ok(()) };
        self.sentences += 1;
        let words: Vec<&[u8]> = self.rescorer.markers().words(&hypothesis.bytes);
        self.words += words.len() as u64;
        let mut columns = self.names.clone();
        columns.extend(self.mixed.then(|| Name::from(MIX)));
        let value = |name: &str| hypothesis.feature(name).unwrap_or(f64::NAN);
        for name in &columns {
            let tally = self.tallies.entry(name.clone()).or_default();
            tally.ln += value(name);
            tally.oov += hypothesis.feature(&format!("{name}.oov")).unwrap_or(0.0) as u64;
        }
        let io = |source| Error::Io { what: "output".into(), source };
        if self.arguments.json {
            let object = self.object(&columns, &words, &finished.details, &value);
            return writeln!(out, "{object}").map_err(io);
        }
        if self.arguments.words {
            for at in 0..words.len() + usize::from(self.eos) {
                out.write_all(words.get(at).copied().unwrap_or(b"</s>")).map_err(io)?;
                for detail in &finished.details {
                    write!(out, "\t{}", detail.get(at).map_or(f64::NAN, |word| self.ln(word))).map_err(io)?;
                }
                out.write_all(b"\n").map_err(io)?;
            }
            return out.write_all(b"\n").map_err(io);
        }
        let row: Vec<String> = columns.iter().map(|name| value(name).to_string()).collect();
        writeln!(out, "{}", row.join("\t")).map_err(io)
    }

    /// A word's share of its sentence's score.
    fn ln(&self, word: &WordScore) -> f64 {
        let unknown = !word.known && word.tokens > 0;
        word.ln + if unknown { self.penalty } else { 0.0 }
    }

    fn object(
        &self,
        columns: &[Name],
        words: &[&[u8]],
        details: &[Vec<WordScore>],
        value: &dyn Fn(&str) -> f64,
    ) -> Value {
        let of = |make: &dyn Fn(usize, &Name) -> Value| -> Value {
            let members = self.names.iter().enumerate().map(|(at, name)| (name.to_string(), make(at, name)));
            Value::Object(members.collect())
        };
        let scores: Map<String, Value> =
            columns.iter().map(|name| (name.to_string(), json!(value(name)))).collect();
        let end = usize::from(self.eos);
        let tokens = of(&|at, _| {
            let scored = details.get(at).map_or(&[][..], |d| &d[..d.len().min(words.len() + end)]);
            json!(scored.iter().map(|word| word.tokens).sum::<u32>())
        });
        let oov = of(&|_, name| json!(value(&format!("{name}.oov")) as u64));
        let mut object = json!({"scores": scores, "tokens": tokens, "oov": oov, "words": words.len()});
        if self.arguments.words {
            let spelled = words.iter().copied().chain([&b"</s>"[..]]).take(words.len() + end);
            let rows: Vec<Value> = spelled
                .enumerate()
                .map(|(at, word)| {
                    let word = String::from_utf8_lossy(word);
                    let scores =
                        of(&|lm, _| json!(details.get(lm).and_then(|d| d.get(at)).map(|word| self.ln(word))));
                    json!({"word": word, "scores": scores})
                })
                .collect();
            object["by_word"] = Value::Array(rows);
        }
        object
    }

    fn summary(&self, messages: &Messages) {
        // Where `</s>` is scored, it counts.
        let scored = self.words + if self.eos { self.sentences } else { 0 };
        messages.say(&format!("{} sentences, {} words", self.sentences, self.words));
        let mut columns = self.names.clone();
        columns.extend(self.mixed.then(|| Name::from(MIX)));
        for name in &columns {
            let Some(tally) = self.tallies.get(name) else { continue };
            let perplexity = (-tally.ln / scored.max(1) as f64).exp();
            let mut line = format!("{name}: perplexity per word {perplexity:.2}, ln p {:.2}", tally.ln);
            if **name != *MIX {
                // Whom a mixture does not know is a question for its members.
                line += &format!(", {} unknown words", tally.oov);
            }
            messages.say(&line);
        }
        if self.mixed && self.arguments.models.fast_mix {
            messages.say("warning: with --fast-mix `mix` is no probability: its perplexity means nothing");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LmConfig;

    #[test]
    fn a_tuned_configuration_scores_text_that_has_no_first_pass() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.arpa");
        // A word that cannot follow anything: its score is told all the same.
        let arpa =
            "\\data\\\nngram 1=5\n\n\\1-grams:\n-1\t<unk>\n-99\t<s>\n-1\t</s>\n-0.5\ta\n-inf\tb\n\n\\end\\\n";
        std::fs::write(&path, arpa).unwrap();
        let lm = LmConfig { name: "ngram".into(), path, weight: Some(2.0), ..LmConfig::default() };
        let weights = [("score".to_owned(), 1.0), ("ngram".to_owned(), 2.0)].into();
        let config = Config { lm: vec![lm], weights, ..Config::default() };
        let rescorer =
            unweighted(config).builder(&Default::default(), &Default::default()).unwrap().build().unwrap();
        let mut worker = rescorer.worker().unwrap();
        for text in ["a", "a b"] {
            let hypotheses = vec![Hypothesis::new(text, 1)];
            let mut utterance = Utterance { hypotheses, ..Utterance::default() };
            worker.rescore(&mut utterance).unwrap();
            assert!(utterance.hypotheses[0].feature("ngram").unwrap() < 0.0);
        }
    }
}
