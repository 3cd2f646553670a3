//! `secondpass ngram train`: an n-gram model from text.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;

use crate::cli::End;
use crate::cli::files;
use crate::cli::memory::{Amount, shown};
use crate::cli::messages::Messages;
use crate::cli::rescore::jobs;
use crate::cli::signals;
use crate::lm::ngram::estimate::{Discounts, Estimator, Options, Phase, Plan, Progress, Summary, Vocabulary};
use crate::stream::Stop;
use crate::{Error, Result};

/// Make an n-gram model from text
///
/// Interpolated modified Kneser-Ney smoothing, defined as by KenLM's lmplz. Text has a sentence a
/// line, words separated by white space, and is taken as it is: bring it into the form that the
/// model will meet (case, punctuation, numbers) before.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Texts, plain or packed (gzip, bzip2, xz, zstd); - for standard input
    #[arg(value_name = "TEXT", default_value = "-")]
    texts: Vec<PathBuf>,
    /// Leave <s>, </s> and <unk> in the texts out (else they are errors)
    #[arg(long, overrides_with = "no_skip_symbols", help_heading = "Input")]
    skip_symbols: bool,
    #[arg(long, hide = true)]
    no_skip_symbols: bool,
    /// Length of the longest n-grams
    #[arg(short = 'n', long, value_name = "NUM", default_value_t = 3, help_heading = "Model")]
    order: usize,
    /// Leave out n-grams that occur NUM times or less, by order from 1
    ///
    /// The last one counts for all longer n-grams. The first must be 0, and they must not fall:
    /// `--prune 0 0 1` leaves out what occurs once, from 3 words on.
    #[arg(long, value_name = "NUM", num_args = 1.., value_delimiter = ',', value_parser = threshold, help_heading = "Model")]
    prune: Vec<u64>,
    /// Keep only words of this list, separated by white space
    ///
    /// n-grams with other words are left out after counting, and leave their probability to
    /// shorter contexts.
    #[arg(long, value_name = "FILE", conflicts_with = "vocab_limit", help_heading = "Model")]
    limit_vocab_file: Option<PathBuf>,
    /// Keep only the NUM most frequent words
    #[arg(long, value_name = "NUM", help_heading = "Model")]
    vocab_limit: Option<usize>,
    /// 1: discounts of words go to all words; 0: to <unk> alone
    #[arg(long, value_name = "0|1", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=1), help_heading = "Model")]
    interpolate_unigrams: u8,
    /// Discounts where the text gives none: for counts of 1, 2, and 3 or more
    ///
    /// For little or artificial text. Without values: 0.5 1 1.5.
    #[arg(long, value_name = "NUM", num_args = 0..=3, value_delimiter = ',', value_parser = discount, help_heading = "Model")]
    discount_fallback: Option<Vec<f64>>,
    /// The model, ARPA text; - for standard output, compressed if it ends in .gz
    ///
    /// It appears when it is complete, in place of an old one.
    #[arg(short, long, value_name = "FILE", default_value = "-", help_heading = "Output")]
    output: PathBuf,
    /// Memory to use: BYTES, 500M, 2G, or a part of what is free
    #[arg(short, long, value_name = "BYTES", default_value = "80%", help_heading = "Limits")]
    memory: Amount,
    /// Folder for temporary files, which is what does not fit into memory
    #[arg(long, value_name = "FOLDER", help_heading = "Limits")]
    temp: Option<PathBuf>,
    /// Threads (0: one per core)
    #[arg(short, long, value_name = "NUM", default_value_t = 0, value_parser = jobs(), help_heading = "Limits")]
    jobs: usize,
}

/// Trains.
pub fn run(arguments: &Args, messages: &Messages) -> Result<End> {
    let options = arguments.options()?;
    let temporary = options.temporary.clone();
    let limit = options.memory;
    let mut estimator = Estimator::new(options)?;
    let stop = Stop::default();
    let caught = signals::listen(stop.clone())?;
    let mut bar = Bar::new(&stop);
    let made = arguments.read(&mut estimator, &mut bar).and_then(|()| {
        bar.clear();
        announce(&estimator.plan(), limit, &temporary, messages);
        arguments.write(estimator, &mut bar)
    });
    bar.clear();
    if let Some(number) = caught.number() {
        messages.say("stopped; no model was written");
        return Ok(End::Signal(number));
    }
    report(&made?, arguments, messages);
    Ok(End::Done)
}

impl Args {
    fn options(&self) -> Result<Options> {
        let name = self.output.to_string_lossy();
        if name.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Error::config(format!(
                "-o {name} names the output file; the order is given with --order {name} (-n {name})"
            )));
        }
        super::packable(&self.output)?;
        if let Some(text) = self.texts.iter().find(|text| files::same(text, &self.output)) {
            return Err(Error::config(format!("{}: is both a text and the output", text.display())));
        }
        let mut options = Options::new(self.order);
        options.prune.clone_from(&self.prune);
        options.vocabulary = self.vocabulary()?;
        options.interpolate_unigrams = self.interpolate_unigrams == 1;
        options.fallback = self.fallback()?;
        options.skip_symbols = self.skip_symbols;
        options.memory = self.memory.bytes()?;
        if let Some(folder) = &self.temp {
            options.temporary.clone_from(folder);
        }
        options.threads = self.jobs;
        options.gzip = name.ends_with(".gz");
        Ok(options)
    }

    fn vocabulary(&self) -> Result<Vocabulary> {
        if let Some(count) = self.vocab_limit {
            return Ok(Vocabulary::MostFrequent(count));
        }
        let Some(path) = &self.limit_vocab_file else { return Ok(Vocabulary::All) };
        Vocabulary::listed(files::input(path)?).map_err(|error| Error::io(path, error))
    }

    fn fallback(&self) -> Result<Option<Discounts>> {
        match self.discount_fallback.as_deref() {
            None => Ok(None),
            Some([]) => Ok(Some(Discounts([0.5, 1.0, 1.5]))),
            Some(&[one, two, three]) => Ok(Some(Discounts([one, two, three]))),
            Some(some) => Err(Error::config(format!(
                "--discount-fallback takes three discounts or none, not {}",
                some.len()
            ))),
        }
    }

    fn read(&self, estimator: &mut Estimator, bar: &mut Bar<'_>) -> Result<()> {
        let size = |path: &PathBuf| {
            let data = std::fs::metadata(path).ok()?;
            data.is_file().then_some(data.len())
        };
        let sizes: Vec<Option<u64>> = self.texts.iter().map(size).collect();
        let total = sizes.iter().copied().sum::<Option<u64>>().unwrap_or(0);
        let mut before = 0;
        for (path, size) in self.texts.iter().zip(sizes) {
            let name = if path == Path::new("-") { "standard input".into() } else { path.to_string_lossy() };
            let reader = files::input(path)?;
            estimator.read_with(&name, reader, total, &mut |progress| {
                bar.show(Progress { done: before + progress.done, ..progress })
            })?;
            before += size.unwrap_or(0);
        }
        Ok(())
    }

    fn write(&self, estimator: Estimator, bar: &mut Bar<'_>) -> Result<Summary> {
        let mut observer = |progress| bar.show(progress);
        super::whole(&self.output, |out| estimator.finish_with(out, &mut observer))
    }
}

fn announce(plan: &Plan, limit: u64, temporary: &Path, messages: &Messages) {
    messages.say(&format!(
        "{} words in {} sentences, {} different; at most {} of memory (limit {})",
        plan.words,
        plan.sentences,
        plan.vocabulary,
        shown(plan.memory),
        shown(limit)
    ));
    if plan.disk > 0 {
        messages.say(&format!("at most {} of temporary files in {}", shown(plan.disk), temporary.display()));
    }
}

fn report(summary: &Summary, arguments: &Args, messages: &Messages) {
    for warning in &summary.warnings {
        messages.say(&format!("warning: {warning}"));
    }
    let orders = summary.counts.iter().zip(&summary.seen).zip(&summary.discounts).zip(1..);
    for (((kept, seen), discounts), n) in orders {
        let [one, two, three] = discounts.0;
        messages.say(&format!("{n}-grams: {kept} of {seen}; discounts {one:.4}, {two:.4}, {three:.4}"));
    }
    if summary.spilled > 0 {
        messages.say(&format!("{} were sorted on disk", shown(summary.spilled)));
    }
    if arguments.output != Path::new("-") {
        messages.say(&format!("wrote {}, {}", arguments.output.display(), shown(summary.bytes)));
    }
}

/// One progress bar after another, one for each step.
struct Bar<'a> {
    stop: &'a Stop,
    shown: Option<(Phase, ProgressBar)>,
}

impl<'a> Bar<'a> {
    fn new(stop: &'a Stop) -> Self {
        Self { stop, shown: None }
    }

    fn show(&mut self, progress: Progress) -> ControlFlow<()> {
        if self.shown.as_ref().is_none_or(|(phase, _)| *phase != progress.phase) {
            self.clear();
            let bar = crate::cli::progress(name(progress.phase), progress.total);
            self.shown = Some((progress.phase, bar));
        }
        if let Some((_, bar)) = &self.shown {
            bar.set_length(progress.total.max(progress.done));
            bar.set_position(progress.done);
        }
        if self.stop.asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn clear(&mut self) {
        if let Some((_, bar)) = self.shown.take() {
            bar.finish_and_clear();
        }
    }
}

fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Reading => "1/5 reading",
        Phase::Counting => "2/5 counting",
        Phase::Adjusting => "3/5 adjusting counts",
        Phase::Discounting => "4/5 discounting",
        Phase::Writing => "5/5 interpolating and writing",
    }
}

fn threshold(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| {
        format!("`{text}` is no count; give the texts before --prune, or separate its values by commas")
    })
}

fn discount(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| {
        format!("`{text}` is no discount; give the texts before --discount-fallback, or separate its values by commas")
    })
}
