//! One decision against another over the utterances that weights were learnt on.

use super::problem::Problem;
use super::significance::{Comparison, FEWEST, Sample, group};
use super::tune::{RUNS, Tuner};

impl Tuner {
    /// Compares two decisions by the errors that each makes in every utterance, in the order in which
    /// they were added; `None` for what neither could decide, where the first hypothesis stands.
    /// Utterances of a speaker or session are resampled together, as for [`Tuner::run`].
    pub fn judge(&self, problem: &Problem, errors: &[Option<[u64; 2]>]) -> Comparison {
        let samples = problem.plain().zip(errors).map(|((reference, first), errors)| {
            let [before, after] = errors.unwrap_or([first; 2]);
            Sample { before, after, reference }
        });
        self.bootstrap.compare(&group(problem.groups(FEWEST, RUNS).into_iter().zip(samples)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::problem::Feature;
    use super::*;

    #[test]
    fn a_decision_that_mends_is_better_and_one_that_breaks_is_not() {
        let mut problem = Problem::new(vec![Feature::fixed("score", 1.0)]).unwrap();
        for speaker in 0..40u8 {
            problem.push(Some(&[speaker]), 10, &[2, 1], &[-1.0, -2.0]).unwrap();
        }
        let tuner = Tuner::default();
        let judge = |pair: [u64; 2]| tuner.judge(&problem, &[Some(pair); 40]);
        assert!(judge([2, 1]).is_better() && (judge([2, 1]).delta.value + 0.1).abs() < 1e-12);
        assert!(!judge([1, 2]).is_better() && !judge([2, 2]).is_better());
        // What was not decided stays as it was.
        let left = tuner.judge(&problem, &[None; 40]);
        assert_eq!((left.before.value, left.after.value), (0.2, 0.2));
    }
}
