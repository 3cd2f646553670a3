//! How near the best total rivals have to be scored again, from lists with totals of both kinds.
//!
//! A winner is lost only where the error of the best total exceeds that of the right one's by more than the
//! margin. So what is counted is not the few lists that happened to have a rival so near, but all in which
//! some hypothesis was that far off: a distribution-free tolerance limit (Wilks, Annals of Mathematical
//! Statistics 1941), the largest such difference but for as many lists as the risk allows. That winners
//! stay is then seen on lists that were held out.

use std::collections::BTreeSet;

use super::Rescorer;
use super::confirm::contenders;
use super::fit::at_most;
use crate::nbest::Utterance;

/// What [`Rescorer::fit_confirm`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfirmFit {
    /// For [`Builder::confirm`](super::Builder::confirm); `None` where the lists are too few to show the risk.
    pub margin: Option<f64>,
    /// The share of lists whose winner differs with it, at most, with 95 % confidence; without one, the least
    /// share that so many lists can show.
    pub share: f64,
    /// Lists that it was learnt from.
    pub lists: usize,
    /// Lists with another winner where nothing is confirmed.
    pub unconfirmed: usize,
    /// Lists with another winner when they were held out, and confirmed with the margin of the others.
    pub wrong: usize,
    /// Hypotheses of a list that are scored again, on average.
    pub again: f64,
}

/// One list's totals, inexact and exact.
struct Totals {
    inexact: Vec<f64>,
    exact: Vec<f64>,
    fold: usize,
}

impl Rescorer {
    /// Learns the margin of [`Builder::confirm`](super::Builder::confirm) from lists with features of both
    /// kinds, inexact ones first, hypotheses in first-pass order. `risk` is the accepted share of lists whose
    /// winner differs; `folds` says for each list with which others it is held out.
    ///
    /// `None` where there is nothing to confirm: no list can be ranked, or no model counts.
    pub fn fit_confirm(
        &self,
        lists: &[(Utterance, Utterance)],
        folds: &[usize],
        risk: f64,
    ) -> Option<ConfirmFit> {
        let combination = &self.shared.combination;
        let totals = |utterance: &Utterance| {
            let formula = combination.formula(utterance, &[]);
            let totals = combination.totals(utterance, &formula, &|_| false).ok()?;
            let ranked = !formula.first_pass_only && totals.iter().all(|total| total.is_finite());
            (ranked && !totals.is_empty()).then_some(totals)
        };
        let list = |((inexact, exact), &fold): (&(Utterance, Utterance), &usize)| {
            let (inexact, exact) = (totals(inexact)?, totals(exact)?);
            (inexact.len() == exact.len()).then_some(Totals { inexact, exact, fold })
        };
        let lists: Vec<Totals> = lists.iter().zip(folds).filter_map(list).collect();
        (!lists.is_empty()).then(|| fit(&lists, risk))
    }
}

fn fit(lists: &[Totals], risk: f64) -> ConfirmFit {
    let all: Vec<f64> = lists.iter().map(Totals::needed).collect();
    let (margin, share) = match limit(all, risk) {
        Ok((margin, share)) => (Some(margin), share),
        Err(least) => (None, least),
    };
    let changed = |list: &Totals, margin| usize::from(list.confirmed(margin).0 != first(&list.exact));
    let mut wrong = 0;
    for fold in lists.iter().map(|list| list.fold).collect::<BTreeSet<_>>() {
        let others = lists.iter().filter(|list| list.fold != fold).map(Totals::needed);
        // Fewer lists show less: then all of them count.
        let of_others = limit(others.collect(), risk.max(at_most(0, lists.len()))).map_or_else(
            |_| lists.iter().filter(|list| list.fold != fold).map(Totals::needed).fold(0.0, f64::max),
            |(margin, _)| margin,
        );
        wrong += lists.iter().filter(|list| list.fold == fold).map(|l| changed(l, of_others)).sum::<usize>();
    }
    let again = margin.map(|margin| lists.iter().map(|list| list.confirmed(margin).1).sum::<usize>());
    ConfirmFit {
        margin,
        share,
        lists: lists.len(),
        unconfirmed: lists.iter().filter(|list| first(&list.inexact) != first(&list.exact)).count(),
        wrong,
        again: again.map_or(0.0, |again| again as f64 / lists.len() as f64),
    }
}

/// The least number that no more of `values` exceed than the risk allows, and the share that may; the least
/// share that can be shown, where that is above the risk.
fn limit(mut values: Vec<f64>, risk: f64) -> Result<(f64, f64), f64> {
    values.sort_by(|a, b| b.total_cmp(a));
    let count = values.len();
    let beyond = (0..count).take_while(|&beyond| at_most(beyond, count) <= risk).last();
    let Some(beyond) = beyond else { return Err(at_most(0, count)) };
    // Nobody needs a fifth digit, and a little more is none too few.
    Ok(((values[beyond] * 1e4).ceil() / 1e4, at_most(beyond, count)))
}

impl Totals {
    /// How much further than any other hypothesis the best is above where it should be.
    fn needed(&self) -> f64 {
        let error = |at: usize| self.inexact[at] - self.exact[at];
        let best = error(first(&self.inexact));
        (0..self.exact.len()).map(|at| best - error(at)).fold(0.0, f64::max)
    }

    /// The winner with confirmation, and how many hypotheses that takes.
    fn confirmed(&self, margin: f64) -> (usize, usize) {
        let mut totals = self.inexact.clone();
        let mut exact = vec![false; totals.len()];
        loop {
            let next = contenders(&totals, &exact, margin);
            if next.is_empty() {
                return (first(&totals), exact.iter().filter(|&&exact| exact).count());
            }
            for at in next {
                (totals[at], exact[at]) = (self.exact[at], true);
            }
        }
    }
}

/// The first of the greatest totals.
fn first(totals: &[f64]) -> usize {
    (0..totals.len()).fold(0, |best, at| if totals[at] > totals[best] { at } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(count: usize, error: impl Fn(usize) -> f64) -> Vec<Totals> {
        let list = |at: usize| Totals {
            // The second is better by 0.3, and looks worse by the error less that.
            inexact: vec![-1.0 + error(at), -0.7, -9.0],
            exact: vec![-1.0, -0.7, -9.0],
            fold: at / 100 % 5,
        };
        (0..count).map(list).collect()
    }

    #[test]
    fn the_margin_covers_all_errors_but_those_that_the_risk_allows() {
        // 10 of 1,000 lists are off by 5, the others by at most 0.5. Clopper and Pearson: 10 of 1,000 show
        // 1.69 %, 0 show 0.3 %.
        let lists = lists(1000, |at| if at % 100 == 7 { 5.0 } else { 0.5 * (at as f64 + 0.5) / 1000.0 });
        let wide = fit(&lists, 0.02);
        assert!(wide.margin.unwrap() <= 0.5 && wide.margin.unwrap() > 0.49, "{wide:?}");
        assert!(wide.share <= 0.02 && wide.share >= 0.0169, "{wide:?}");
        // Errors above 0.3 change a winner; where the margin is 0.5, those of 5 still do.
        assert_eq!((wide.lists, wide.unconfirmed, wide.wrong), (1000, 406, 10));
        // Two each where the error is above 0.3 less a margin of 0.5: all but those of 5.
        assert_eq!(wide.again, 1.98);
        let sure = fit(&lists, 0.004);
        assert_eq!((sure.margin, sure.wrong), (Some(5.0), 0), "{sure:?}");
    }

    #[test]
    fn few_lists_show_little() {
        let few = fit(&lists(100, |_| 0.0), 0.01);
        assert_eq!(few.margin, None);
        // 1 - 0.05^(1/100)
        assert!((few.share - 0.0296).abs() < 1e-9, "{few:?}");
        assert!(fit(&lists(100, |_| 0.0), 0.03).margin.is_some());
        assert!(fit(&lists(299, |_| 0.0), 0.01).margin.is_some());
    }
}
