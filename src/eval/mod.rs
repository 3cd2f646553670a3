//! How good the lists are: errors, oracle, significance and weights.
//!
//! Nothing here reads files or knows formats: it works on texts, counts and feature values.

mod align;
pub mod bleu;
pub mod changes;
pub mod confidence;
mod decision;
mod envelope;
mod lists;
mod loss;
pub mod matched_pairs;
pub mod mixture;
pub mod normalise;
pub mod oracle;
pub mod problem;
pub mod report;
mod search;
pub mod significance;
pub mod tune;
pub mod wer;

pub use align::Alignment;
pub use bleu::Bleu;
pub use changes::Changes;
pub use loss::Measured;
pub use matched_pairs::MatchedPairs;
pub use normalise::Normaliser;
pub use oracle::Oracle;
pub use problem::{Feature, Measure, Problem};
pub use significance::{Bootstrap, Comparison, Estimate, Sample};
pub use tune::{Tuned, Tuner, Verdict};
pub use wer::{Counts, Edit, Scorer, Tally};

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// The figures of the data's own description, from real recogniser lists.
    #[test]
    fn recogniser_lists() {
        let Some(folder) = crate::testing::data_or_skip("recogniser_lists") else { return };
        let folder = folder.join("nbest");
        let percent = |counts: Counts| (1000.0 * counts.rate()).round() / 10.0;
        let (first, oracle, tuned) = measure(&folder.join("flite-librispeech.dev.jsonl"), &["score"]);
        println!("{first}\n{tuned:?}");
        oracle.depths().for_each(|(n, counts)| println!("oracle {n}: {:.2} %", 100.0 * counts.rate()));
        assert_eq!((percent(first.counts), percent(oracle.all())), (25.3, 15.6));

        let (first, oracle, tuned) = measure(&folder.join("kaldi-indonesian-mono.jsonl"), &["am", "lm"]);
        println!("{first}\n{tuned:?}");
        assert!(tuned.train <= first.counts.errors() && oracle.all().errors() <= tuned.train);
    }

    /// First pass, oracle, and tuning of the features named and the number of words.
    fn measure(path: &std::path::Path, names: &[&str]) -> (Tally, Oracle, Tuned) {
        let mut features = vec![Feature::fixed(names[0], 1.0)];
        features.extend(names[1..].iter().map(|&name| Feature::free(name).at_least(0.0)));
        features.push(Feature::free("words"));
        let mut problem = Problem::new(features).unwrap();
        let (mut scorer, mut first, mut oracle) = (Scorer::words(), Tally::default(), Oracle::default());
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            let reference = scorer.reference(record["ref"].as_str().unwrap().as_bytes());
            let (mut counts, mut values) = (Vec::new(), Vec::new());
            for hypothesis in record["hyps"].as_array().unwrap() {
                let text = hypothesis["text"].as_str().unwrap();
                counts.push(scorer.counts(text.as_bytes()));
                values.extend(names.iter().map(|&name| hypothesis[name].as_f64().unwrap_or(f64::NAN)));
                values.push(text.split_ascii_whitespace().count() as f64);
            }
            first.add(counts[0]);
            oracle.add(&counts);
            let errors: Vec<u32> = counts.iter().map(|c| c.errors() as u32).collect();
            let key = record["session"].as_str().map(str::as_bytes);
            problem.push(key, reference, &errors, &values).unwrap();
        }
        (first, oracle, Tuner::default().run(&problem))
    }
}
