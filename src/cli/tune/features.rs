//! Every list with the features of all models, computed once; and what mixing learns from references.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;

use super::super::formats::FormatArgs;
use super::super::lists::{self, Listed, Scoring};
use super::super::messages::Messages;
use crate::config::Config;
use crate::eval::mixture;
use crate::formats::OwnNames;
use crate::nbest::{Hypothesis, Utterance};
use crate::rescorer::{Builder, Request, Rescorer, Tail, WordScore, WordTrie, Worker};
use crate::{Error, Result};

/// Lists handed to a worker at once: enough to fill its batches.
const SHARE: usize = 64;

/// Reads the lists; gives them and how many could not be read.
pub fn read(
    path: &Path,
    formats: &FormatArgs,
    own: OwnNames,
    messages: &Messages,
) -> Result<(Vec<Utterance>, u64)> {
    let mut utterances = Vec::new();
    let left_out = lists::each(path, formats, Some(own), messages, &mut |Listed { record, .. }| {
        utterances.push(record.utterance);
        Ok(())
    })?;
    Ok((utterances, left_out))
}

/// Sets the features of all models, in first-pass order; gives the words of each list.
pub fn score(
    utterances: &mut [Utterance],
    rescorer: &Rescorer,
    workers: usize,
) -> Result<Vec<Option<WordTrie>>> {
    let bar = super::super::progress("scoring", utterances.len() as u64);
    let workers = (0..workers.clamp(1, utterances.len().div_ceil(SHARE).max(1)))
        .map(|_| rescorer.worker())
        .collect::<Result<Vec<_>>>()?;
    let mut tries: Vec<Option<WordTrie>> = utterances.iter().map(|_| None).collect();
    // Words matter to models alone.
    let words = rescorer.names().next().is_some();
    let shares = Mutex::new(utterances.chunks_mut(SHARE).zip(tries.chunks_mut(SHARE)));
    let next = || shares.lock().ok()?.next();
    std::thread::scope(|scope| {
        let run = |mut worker: Worker| {
            let (next, bar) = (&next, &bar);
            scope.spawn(move || -> Result<()> {
                while let Some((share, tries)) = next() {
                    whole(&mut worker, share, tries, words)?;
                    bar.inc(share.len() as u64);
                }
                Ok(())
            })
        };
        let threads: Vec<_> = workers.into_iter().map(run).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err(Error::Internal("a worker panicked".into())))
        })
    })?;
    bar.finish_and_clear();
    for utterance in utterances {
        utterance.hypotheses.sort_by_key(|hypothesis| hypothesis.rank);
    }
    Ok(tries)
}

/// Rescores a share of the lists, in one worker.
fn whole(
    worker: &mut Worker,
    share: &mut [Utterance],
    tries: &mut [Option<WordTrie>],
    words: bool,
) -> Result<()> {
    let mut done = Vec::new();
    let (mut next, mut left) = (0, share.len());
    while left > 0 {
        while next < share.len() && worker.room() {
            let utterance = std::mem::take(&mut share[next]);
            worker.submit(Request { ticket: next as u64, utterance, words, ..Request::default() });
            next += 1;
        }
        let stepped = worker.step(&mut done);
        if let Err(error) = &stepped {
            worker.abandon(&error.to_string(), &mut done);
        }
        left -= done.len();
        for finished in done.drain(..) {
            let at = finished.ticket as usize;
            (share[at], tries[at]) = (finished.utterance, finished.words);
        }
        stepped?;
    }
    Ok(())
}

/// With which others each list is held out: those of one speaker together.
pub fn folds<'a>(lists: impl Iterator<Item = &'a Utterance>, scoring: &Scoring, folds: usize) -> Vec<usize> {
    let mut speakers = HashMap::new();
    let fold = |(at, utterance): (usize, &Utterance)| {
        let fresh = speakers.len();
        let speaker = scoring.speaker(utterance).map(<[u8]>::to_vec).ok_or(at);
        *speakers.entry(speaker).or_insert(fresh) % folds.max(2)
    };
    lists.enumerate().map(fold).collect()
}

/// What is to be expected of unscored words, under the weights of `config`.
pub fn tail(
    config: &Config,
    utterances: &[Utterance],
    tries: Vec<Option<WordTrie>>,
    folds: usize,
    scoring: &Scoring,
    builder: &dyn Fn(&Config) -> Result<Builder>,
    messages: &Messages,
) -> Result<Option<Tail>> {
    let rescorer = builder(config)?.build()?;
    let lists: Vec<_> = utterances.iter().cloned().zip(tries).filter_map(|(u, s)| Some((u, s?))).collect();
    let parts = self::folds(lists.iter().map(|(utterance, _)| utterance), scoring, folds);
    let Some(fitted) = rescorer.fit_tail(&lists, &parts) else { return Ok(None) };
    let all = fitted.scored.last().copied().unwrap_or(1.0);
    messages.say(&format!(
        "best only    {:.1} % of the histories must be run for certainty ({} lists)",
        100.0 * all,
        fitted.lists
    ));
    let margins = fitted.tail.margins.iter().zip(&fitted.scored).zip(&fitted.wrong);
    for (([margin, risk], scored), wrong) in margins {
        messages.say(&format!(
            "             {:.1} % at --risk {risk} (margin {margin}: {wrong} other winners on held-out lists)",
            100.0 * scored
        ));
    }
    Ok(Some(fitted.tail))
}

/// Learns the shares of a linear mix by expectation maximisation over the references: no hypothesis has
/// a say in it, so that weights learnt on the lists afterwards are learnt on something else.
pub fn shares(
    config: &mut Config,
    utterances: &[Utterance],
    builder: &dyn Fn(&Config) -> Result<Builder>,
    messages: &Messages,
) -> Result<()> {
    if config.lm.iter().all(|lm| lm.lambda.is_none()) {
        let equal = 1.0 / config.lm.len().max(1) as f64;
        config.lm.iter_mut().for_each(|lm| lm.lambda = Some(equal));
    }
    let members: Vec<usize> =
        config.lm.iter().enumerate().filter(|(_, lm)| lm.lambda.is_some()).map(|(at, _)| at).collect();
    let eos = config.eos.unwrap_or(true);
    let rescorer = builder(config)?.build()?;
    let references = utterances.iter().filter_map(|utterance| utterance.reference.as_deref());
    let rows = rows(&rescorer, references, &members, eos)?;
    let known = rows.iter().filter(|row| row.iter().all(|ln| ln.is_finite())).count();
    if known == 0 {
        return Err(Error::config(
            "no word of the references is known to all members of the mix: say their shares with --lambda",
        ));
    }
    let mut shares = mixture::shares(&rows);
    shares.iter_mut().for_each(|share| *share = (*share * 1e4).round() / 1e4);
    if let Some((last, others)) = shares.split_last_mut() {
        *last = ((1.0 - others.iter().sum::<f64>()) * 1e4).round() / 1e4;
    }
    let mut said = Vec::new();
    for (&at, share) in members.iter().zip(shares) {
        config.lm[at].lambda = Some(share);
        said.push(format!("{} {share}", config.lm[at].name));
    }
    messages.say(&format!("shares of the mix, from {known} words of the references: {}", said.join(", ")));
    Ok(())
}

/// For each word, the natural log probability under each member; `NaN` where others score it alone.
fn rows<'a>(
    rescorer: &Rescorer,
    references: impl Iterator<Item = &'a [u8]>,
    members: &[usize],
    eos: bool,
) -> Result<Vec<Vec<f64>>> {
    let mut worker = rescorer.worker()?;
    let mut references = references.peekable();
    let (mut rows, mut done) = (Vec::new(), Vec::new());
    while references.peek().is_some() || !worker.is_idle() {
        while worker.room() {
            let Some(reference) = references.next() else { break };
            let hypotheses = vec![Hypothesis::new(reference, 1)];
            let utterance = Utterance { hypotheses, ..Utterance::default() };
            worker.submit(Request { utterance, detail: true, ..Request::default() });
        }
        worker.step(&mut done)?;
        for finished in done.drain(..) {
            let details: Vec<_> = members.iter().filter_map(|&at| finished.details.get(at)).collect();
            let words = details.first().map_or(0, |words| words.len());
            let scored = if eos { words } else { words.saturating_sub(1) };
            for word in 0..scored {
                // As the mixture scores it: by those who know the word, or by all if nobody does.
                let scores = details.iter().map(|words| words.get(word));
                let known = scores.clone().flatten().any(|score| score.known);
                let ln = |score: Option<&WordScore>| match score {
                    Some(score) if score.tokens > 0 && (score.known || !known) => score.ln + score.boundary,
                    _ => f64::NAN,
                };
                rows.push(scores.map(ln).collect());
            }
        }
    }
    Ok(rows)
}
