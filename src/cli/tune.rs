//! `secondpass tune`: learns the weights on lists with references.

mod confirm;
mod decision;
mod features;
mod outcome;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use super::End;
use super::formats::FormatArgs;
use super::lists::Scoring;
use super::messages::Messages;
use super::models::ModelArgs;
use super::rescore::jobs;
use crate::combine::{Combination, MIX, RANK, WORDS};
use crate::config::{Config, Interpolate};
use crate::eval::bleu::{Bleu, tokens};
use crate::eval::{Bootstrap, Feature, Measure, Measured, Problem, Tuner, Verdict};
use crate::formats::OwnNames;
use crate::nbest::{Hypothesis, Name, Utterance};
use crate::rescorer::Rescorer;
use crate::{Error, Result};

/// Learn the weights on lists with references
///
/// The error of held-out sessions says what to expect. Where it is not significantly below the
/// first pass's, the first pass's weights are kept unless --force; MBR is judged on the same held-out
/// lists, and decides in `rescore` only where it is better. Features are computed once. To
/// compute them once for many runs, rescore the lists and tune on the output with --no-models.
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
    /// What to make good: few word errors, few character errors, much BLEU
    #[arg(long, value_name = "WHAT", default_value = "wer", help_heading = "Scoring")]
    measure: Goal,
    /// Write the models with the weights found, a configuration for --config
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    write: Option<PathBuf>,
    /// Use the weights found even if they do no significant good
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
    /// With --precision or --output-rank: share of lists whose winner may differ from that of f32
    ///
    /// The margin for it (`confirm` of the file: hypotheses so near the best are scored again in f32) holds
    /// with 95 % confidence, on lists like these. 0.01 takes 299 lists.
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, help_heading = "Scoring")]
    confirm_risk: f64,
    /// Also weigh the counts of unknown words
    #[arg(long, help_heading = "Scoring")]
    oov: bool,
    /// Learn the shares of a linear mix from the references (EM)
    ///
    /// Done anyway where --interpolate linear comes without --lambda.
    #[arg(long, help_heading = "Scoring")]
    em: bool,
    /// Worker threads that compute features (0: one per core)
    #[arg(short, long, value_name = "NUM", default_value_t = 0, value_parser = jobs(), help_heading = "Limits")]
    jobs: usize,
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

/// `--measure`.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    /// Word error rate
    Wer,
    /// Character error rate, as --cer
    Cer,
    /// Corpus BLEU, sacrebleu's
    Bleu,
}

/// Tunes the weights.
pub fn run(arguments: &Args, messages: &Messages) -> Result<End> {
    let mut config = Config { confirm: None, ..arguments.models.config()? };
    if !(0.0..1.0).contains(&arguments.confirm_risk) {
        return Err(Error::config("--confirm-risk: expected a share, from 0 to below 1"));
    }
    // Features are wanted as they are: nothing is ranked here, so nothing may fail for its weight.
    let bare =
        |config: &Config| arguments.models.builder(&Config { weights: BTreeMap::new(), ..config.clone() });
    let mixed = config.interpolate == Some(Interpolate::Linear);
    let own = OwnNames::new(config.lm.iter().map(|lm| lm.name.as_str())).mixed(mixed);
    let (mut utterances, unread) = features::read(&arguments.dev, &arguments.formats, own, messages)?;
    if arguments.em && !mixed {
        return Err(Error::config("--em is about mixing: add --interpolate linear"));
    }
    if mixed && (arguments.em || config.lm.iter().all(|lm| lm.lambda.is_none())) {
        features::shares(&mut config, &utterances, &bare, messages)?;
    }
    let rescorer = bare(&config)?.build()?;
    let workers = arguments.models.workers(arguments.jobs, &config, messages)?;
    let tries = features::score(&mut utterances, &rescorer, workers)?;
    let names = arguments.names(&utterances, &rescorer)?;
    messages.say(&format!("{} lists; weighing {}", utterances.len(), names.join(", ")));
    let (problem, errors, skipped) =
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
    outcome::report(&tuned, &names, arguments.unit(), messages);
    let good = tuned.verdict == Verdict::Use;
    if !good {
        let what = match arguments.force {
            true => "no significant gain on held-out data; --force: the weights found are used all the same",
            false => {
                "no significant gain on held-out data: the first pass's weights are kept; tune on more lists, or --force"
            }
        };
        messages.say(what);
    }
    let models = rescorer.combination().models.clone();
    outcome::set(&mut config, &tuned, &names, &models, good || arguments.force);
    config.tuned = outcome::facts(&tuned, arguments.unit(), good || arguments.force);
    // Before anything ranks the lists: their words are known in first-pass order.
    if !config.lm.is_empty() {
        let (weighted, scoring) = (|config: &Config| arguments.models.builder(config), &arguments.scoring);
        config.tail =
            features::tail(&config, &utterances, tries, arguments.folds, scoring, &weighted, messages)?;
        if let Some(exact) = config.in_f32() {
            let exact = bare(&exact)?.build()?;
            let folds = features::folds(utterances.iter(), scoring, arguments.folds);
            let fitted = confirm::fit(
                &weighted(&config)?.build()?,
                &exact,
                &utterances,
                workers,
                &folds,
                arguments.confirm_risk,
            )?;
            config.confirm = confirm::report(fitted.as_ref(), arguments.confirm_risk, messages);
        }
    }
    let tuning = decision::Tuning {
        tuner: &tuner,
        problem: &problem,
        tuned: &tuned,
        names: &names,
        combination: rescorer.combination(),
        markers: rescorer.markers(),
        errors: &errors,
        found: good || arguments.force,
    };
    let mut judged: Vec<_> = utterances.iter_mut().filter(|u| u.reference.is_some()).collect();
    // Where nothing can be judged, what the configuration says stands.
    if let Some(mbr) = tuning.mbr(&mut judged) {
        outcome::decide(&mut config, &mbr, arguments.unit(), messages);
    }
    // Confidences belong to the totals that these weights give.
    let combination = Combination { weights: config.all_weights(), ..rescorer.combination().clone() };
    let mut scorer = arguments.scoring.words()?;
    let markers = rescorer.markers();
    config.confidence = Some(outcome::calibrate(&mut utterances, &combination, markers, &mut scorer));
    outcome::confidence(&config, messages);
    if let Some(path) = &arguments.write {
        config.save(path)?;
        messages.say(&format!("wrote {}", path.display()));
    }
    Ok(if unread > 0 { End::Passed } else { End::Done })
}

impl Args {
    /// What is counted, for people.
    fn unit(&self) -> &'static str {
        match self.measure {
            Goal::Bleu => "BLEU",
            Goal::Cer => "CER",
            Goal::Wer => self.scoring.unit(),
        }
    }

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
            // What an earlier run made of features that stand beside it, and its counts of unknown words,
            // are weighed where they are named.
            let first = first.iter().map(|(name, _)| name);
            let first =
                first.filter(|name| !own.contains(name) && &***name != MIX && !name.ends_with(".oov"));
            names = first.map(|name| name.to_string()).collect();
            // A total and the parts it is made of would be counted twice. Without models, though, the
            // features of the lists are all there is.
            if names.iter().any(|name| name == "score") && !self.models.no_models {
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

/// What is searched, the errors of every list's hypotheses (none for BLEU, which is no matter of single
/// lists), and how many records were left out.
fn problem(
    arguments: &Args,
    config: &Config,
    models: &[Name],
    utterances: &[Utterance],
    names: &[String],
) -> Result<(Problem, Vec<Vec<u32>>, u64)> {
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
    let bleu = arguments.measure == Goal::Bleu;
    let measure = if bleu { Measure::Bleu } else { Measure::Errors };
    let mut problem = Problem::of(names.iter().enumerate().map(feature).collect(), measure)?;
    let mut scoring = arguments.scoring.clone();
    scoring.cer |= arguments.measure == Goal::Cer;
    let mut scorer = scoring.scorer()?;
    let (mut skipped, mut all) = (0, Vec::new());
    for utterance in utterances {
        let Some(reference) = &utterance.reference else {
            skipped += 1;
            continue;
        };
        let mut values = Vec::with_capacity(utterance.hypotheses.len() * names.len());
        for hypothesis in &utterance.hypotheses {
            values.extend(names.iter().map(|name| match hypothesis.feature(name) {
                None if name == RANK => -f64::from(hypothesis.rank).ln(),
                value => value.unwrap_or(f64::NAN),
            }));
        }
        let key = arguments.scoring.speaker(utterance);
        if bleu {
            let said = tokens(&String::from_utf8_lossy(reference));
            let counts: Vec<Bleu> =
                utterance.hypotheses.iter().map(|h| Bleu::of(&said, &tokens(&h.text()))).collect();
            problem.add(key, said.len() as u64, Measured::Bleu(&counts), &values)?;
        } else {
            let length = scorer.reference(reference);
            let errors: Vec<u32> =
                utterance.hypotheses.iter().map(|h| scorer.counts(&h.bytes).errors() as u32).collect();
            problem.push(key, length, &errors, &values)?;
            all.push(errors);
        }
    }
    if problem.features().is_empty() || skipped == utterances.len() as u64 {
        return Err(Error::config(
            "no record has a reference (`ref`; see --references): there is nothing to learn from",
        ));
    }
    Ok((problem, all, skipped))
}
