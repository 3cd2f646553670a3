//! `secondpass tune`: learns the weights on lists with references.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use super::End;
use super::formats::FormatArgs;
use super::lists::{self, Scoring};
use super::messages::Messages;
use super::models::ModelArgs;
use crate::combine::{RANK, SCORE, WORDS};
use crate::config::Config;
use crate::eval::{Bootstrap, Comparison, Estimate, Feature, Problem, Tuned, Tuner, Verdict};
use crate::formats::OwnNames;
use crate::nbest::{Hypothesis, Name, Utterance};
use crate::rescorer::Rescorer;
use crate::{Error, Result};

/// Learn the weights on lists with references
///
/// The error of held-out sessions says what to expect. Where it is not significantly below the
/// first pass's, nothing is written unless --force.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Lists with references: a file, plain or gzip, or a folder; - for standard input
    #[arg(value_name = "DEV", default_value = "-")]
    dev: PathBuf,
    #[command(flatten)]
    formats: FormatArgs,
    #[command(flatten)]
    models: ModelArgs,
    #[command(flatten)]
    scoring: Scoring,
    /// Write the models with the weights found, a configuration for --config
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    write: Option<PathBuf>,
    /// Write the weights even if they do no significant good
    #[arg(long, help_heading = "Output")]
    force: bool,
    /// First-pass features to weigh (all that the lists have, if not given)
    #[arg(long, value_name = "NAME,..", value_delimiter = ',', help_heading = "Scoring")]
    features: Vec<String>,
    /// Do not weigh the number of words
    ///
    /// One weight less carries over better to lists of another kind of text.
    #[arg(long, overrides_with = "words", help_heading = "Scoring")]
    no_words: bool,
    #[arg(long, hide = true)]
    words: bool,
    /// Also weigh the counts of unknown words
    #[arg(long, help_heading = "Scoring")]
    oov: bool,
    /// Parts of the data for the held-out error
    #[arg(long, value_name = "NUM", default_value_t = 5, help_heading = "Scoring")]
    folds: usize,
    /// Random starts of the search
    #[arg(long, value_name = "NUM", default_value_t = 20, help_heading = "Scoring")]
    restarts: usize,
    /// Start of the random sequence
    #[arg(long, value_name = "NUM", default_value_t = 1, help_heading = "Scoring")]
    seed: u64,
}

/// Tunes the weights.
pub fn run(arguments: &Args, messages: &Messages) -> Result<End> {
    let mut config = arguments.models.config()?;
    // Features are wanted as they are: nothing is ranked here, so nothing may fail for its weight.
    let rescorer =
        arguments.models.builder(&Config { weights: BTreeMap::new(), ..config.clone() })?.build()?;
    let utterances = features(arguments, &rescorer, messages)?;
    let names = arguments.names(&utterances, &rescorer)?;
    messages.say(&format!("{} lists; weighing {}", utterances.len(), names.join(", ")));
    let (problem, skipped) =
        problem(arguments, &config, &rescorer.combination().models, &utterances, &names)?;
    if skipped > 0 {
        messages.say(&format!("{skipped} records without a reference were left out"));
    }
    let tuner = Tuner {
        restarts: arguments.restarts,
        folds: arguments.folds,
        seed: arguments.seed,
        bootstrap: Bootstrap { seed: arguments.seed, ..Bootstrap::default() },
        ..Tuner::default()
    };
    let bar = super::progress("tuning", 0);
    let tuned = tuner.run_with(&problem, &mut |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    report(&tuned, &names, arguments, messages);
    let good = tuned.verdict == Verdict::Use;
    if !good {
        messages.say("no significant gain on held-out data: keep the first pass, or tune on more lists");
    }
    let Some(path) = &arguments.write else { return Ok(End::Done) };
    if !good && !arguments.force {
        messages.say(&format!("{} was not written; --force writes it all the same", path.display()));
        return Ok(End::Done);
    }
    for lm in &mut config.lm {
        lm.weight = None;
    }
    config.weights = names.iter().cloned().zip(tuned.weights.iter().copied()).collect();
    // With weight 1 this is what counts anyhow; unsaid, the file also serves lists without it, with
    // a warning, since the spread says what it was tuned on.
    if matches!(names[0].as_str(), SCORE | RANK) {
        config.weights.remove(&names[0]);
    }
    config.spread = names.iter().cloned().zip(tuned.spreads.iter().copied()).collect();
    config.tuned = facts(&tuned, arguments);
    config.save(path)?;
    messages.say(&format!("wrote {}", path.display()));
    Ok(End::Done)
}

impl Args {
    /// The features to weigh: the first pass's first, the one whose weight is fixed at 1 in front.
    fn names(&self, utterances: &[Utterance], rescorer: &Rescorer) -> Result<Vec<String>> {
        let own = rescorer.gained();
        let mut names: Vec<String> = self.features.clone();
        if let Some(name) = names.iter().find(|name| own.iter().any(|own| **own == ***name)) {
            return Err(Error::Config(format!(
                "--features names `{name}`, which is no first-pass feature: models and `words` are weighed anyway, \
                 counts of unknown words with --oov"
            )));
        }
        let mut seen = HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
        let mut all = utterances.iter().flat_map(|utterance| &utterance.hypotheses);
        if let Some(name) =
            names.iter().find(|name| *name != RANK && !all.clone().any(|h| h.feature(name).is_some()))
        {
            let known =
                |h: &Hypothesis| h.features.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>();
            let mut first = all.next().map(known).unwrap_or_default();
            first.retain(|name| !own.iter().any(|own| **own == **name));
            return Err(Error::Config(format!(
                "--features names `{name}`, which no list has; known: {}",
                first.join(", ")
            )));
        }
        if names.is_empty() {
            let list = utterances.iter().flat_map(|utterance| &utterance.hypotheses).next();
            let first = list.map(|hypothesis| &hypothesis.features[..]).unwrap_or_default();
            let first = first.iter().map(|(name, _)| name).filter(|name| !own.contains(name));
            names = first.map(|name| name.to_string()).collect();
            // A total and the parts it is made of would be counted twice.
            if names.iter().any(|name| name == "score") {
                names.retain(|name| name == "score");
            }
            if names.is_empty() {
                names.push(RANK.to_owned());
            }
        }
        names.extend(rescorer.combination().models.iter().map(|name| name.to_string()));
        if !self.no_words {
            names.push(WORDS.to_owned());
        }
        if self.oov {
            names.extend(own.iter().filter(|name| name.ends_with(".oov")).map(|name| name.to_string()));
        }
        Ok(names)
    }
}

/// Every list with the features of all models.
fn features(arguments: &Args, rescorer: &Rescorer, messages: &Messages) -> Result<Vec<Utterance>> {
    let own = OwnNames::new(rescorer.names().cloned());
    let mut utterances = Vec::new();
    lists::each(&arguments.dev, &arguments.formats, own, messages, &mut |_, record| {
        utterances.push(record.utterance);
        Ok(())
    })?;
    let bar = super::progress("scoring", utterances.len() as u64);
    let mut worker = rescorer.worker()?;
    let mut done = Vec::with_capacity(utterances.len());
    for chunk in utterances.chunks_mut(64) {
        worker.rescore_batch(chunk)?;
        bar.inc(chunk.len() as u64);
    }
    bar.finish_and_clear();
    for mut utterance in utterances {
        utterance.hypotheses.sort_by_key(|hypothesis| hypothesis.rank);
        done.push(utterance);
    }
    Ok(done)
}

fn problem(
    arguments: &Args,
    config: &Config,
    models: &[Name],
    utterances: &[Utterance],
    names: &[String],
) -> Result<(Problem, u64)> {
    // A model with a negative weight is an old one to be taken out; nobody else's weight becomes
    // negative by tuning, which would only be noise.
    let weights = config.all_weights();
    let negative = |name: &str| weights.value(name).is_some_and(|weight| weight < 0.0);
    let feature = |(at, name): (usize, &String)| match at {
        0 => Feature::fixed(name, 1.0),
        _ if models.iter().any(|model| **model == **name) && !negative(name) => {
            Feature::free(name).at_least(0.0)
        }
        _ => Feature::free(name),
    };
    let mut problem = Problem::new(names.iter().enumerate().map(feature).collect())?;
    let mut scorer = arguments.scoring.scorer()?;
    let mut skipped = 0;
    for utterance in utterances {
        let Some(reference) = &utterance.reference else {
            skipped += 1;
            continue;
        };
        let length = scorer.reference(reference);
        let errors: Vec<u32> =
            utterance.hypotheses.iter().map(|h| scorer.counts(&h.bytes).errors() as u32).collect();
        let mut values = Vec::with_capacity(errors.len() * names.len());
        for hypothesis in &utterance.hypotheses {
            values.extend(names.iter().map(|name| match hypothesis.feature(name) {
                None if name == RANK => -f64::from(hypothesis.rank).ln(),
                value => value.unwrap_or(f64::NAN),
            }));
        }
        problem.push(utterance.session.as_deref(), length, &errors, &values)?;
    }
    if problem.features().is_empty() || skipped == utterances.len() as u64 {
        return Err(Error::config(
            "no record has a reference (`ref`; see --references): there is nothing to learn from",
        ));
    }
    Ok((problem, skipped))
}

fn report(tuned: &Tuned, names: &[String], arguments: &Args, messages: &Messages) {
    let unit = if arguments.scoring.cer { "CER" } else { "WER" };
    let percent = |errors: u64| 100.0 * errors as f64 / tuned.reference.max(1) as f64;
    let Comparison { before, after, delta, improvement, .. } = tuned.comparison;
    let interval = |e: Estimate| format!("{:.2} to {:.2}", 100.0 * e.low, 100.0 * e.high);
    messages.say(&format!("first pass  {unit} {:.2} % ({})", percent(tuned.first_pass), interval(before)));
    messages.say(&format!("held out    {unit} {:.2} % ({})", percent(tuned.held_out), interval(after)));
    messages.say(&format!(
        "difference  {:.2} ({}); better in {:.1} % of the resamples",
        100.0 * delta.value,
        interval(delta),
        100.0 * improvement
    ));
    messages.say(&format!(
        "tuned on    {unit} {:.2} %, the oracle {:.2} %",
        percent(tuned.train),
        percent(tuned.oracle)
    ));
    if tuned.left > 0 {
        messages.say(&format!(
            "{} of {} lists lack a feature and stayed as they were",
            tuned.left, tuned.utterances
        ));
    }
    for (name, weight) in names.iter().zip(&tuned.weights) {
        messages.say(&format!("weight      {name} = {weight}"));
    }
}

/// What was measured, for people who read the file later.
fn facts(tuned: &Tuned, arguments: &Args) -> BTreeMap<String, toml::Value> {
    let percent =
        |errors: u64| toml::Value::Float((1e4 * errors as f64 / tuned.reference.max(1) as f64).round() / 1e2);
    let unit = if arguments.scoring.cer { "cer" } else { "wer" };
    [
        ("lists".to_owned(), toml::Value::Integer(tuned.utterances as i64)),
        (format!("first_pass_{unit}"), percent(tuned.first_pass)),
        (format!("held_out_{unit}"), percent(tuned.held_out)),
        (format!("oracle_{unit}"), percent(tuned.oracle)),
        ("significant".to_owned(), toml::Value::Boolean(tuned.verdict == Verdict::Use)),
    ]
    .into()
}
