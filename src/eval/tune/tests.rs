use super::super::bleu::Bleu;
use super::super::loss::Measured;
use super::*;
use proptest::prelude::*;

/// Lists in which ranking with `planted` is nearly right: errors grow with the distance
/// from the planted best, and the first pass puts noise on it.
fn planted(utterances: usize, hypotheses: usize, planted: &[f64], seed: u64) -> Problem {
    let mut features = vec![Feature::fixed("score", planted[0])];
    features.extend((1..planted.len()).map(|k| Feature::free(format!("lm{k}"))));
    let mut problem = Problem::new(features).unwrap();
    let mut random = Random::new(seed);
    for u in 0..utterances {
        let mut list: Vec<(Vec<f64>, u32)> = (0..hypotheses)
            .map(|_| {
                let values: Vec<f64> = planted.iter().map(|_| random.range(-3.0, 3.0)).collect();
                let truth: f64 = values.iter().zip(planted).map(|(v, w)| v * w).sum();
                (values, (10.0 - truth).clamp(0.0, 30.0) as u32)
            })
            .collect();
        list.sort_by(|a, b| b.0[0].total_cmp(&a.0[0]));
        let errors: Vec<u32> = list.iter().map(|l| l.1).collect();
        let values: Vec<f64> = list.into_iter().flat_map(|l| l.0).collect();
        problem.push(Some(&[(u % 20) as u8]), 30, &errors, &values).unwrap();
    }
    problem
}

#[test]
fn planted_weights_are_found() {
    let truth = [1.0, 1.5, -0.7, 0.4];
    let tuned = Tuner::default().run(&planted(300, 30, &truth, 3));
    for (found, truth) in tuned.weights.iter().zip(truth) {
        assert!((found - truth).abs() < 0.15, "{tuned:?}");
    }
    assert!(tuned.oracle <= tuned.train && tuned.train < tuned.held_out && tuned.held_out < tuned.first_pass);
    assert_eq!(tuned.verdict, Verdict::Use);
    assert_eq!(tuned.folds.len(), 5);
    assert_eq!(tuned.comparison.samples, 20);
    // Uniform in [-3, 3]: the standard deviation is the square root of 3.
    assert!(tuned.spreads.iter().all(|s| (1.6..1.8).contains(s)));
}

#[test]
fn bounds_hold() {
    let mut problem = planted(100, 20, &[1.0, 1.5, -0.7], 3);
    problem.features[1].max = 0.9;
    problem.features[2].min = 0.0;
    let tuned = Tuner::default().run(&problem);
    assert!(tuned.weights[1] <= 0.9 && tuned.weights[2] >= 0.0, "{:?}", tuned.weights);
}

/// A model that knows nothing must not be believed, though it fits the tuning data.
#[test]
fn noise_is_refused() {
    for seed in 0..4 {
        let mut random = Random::new(seed);
        let mut problem = Problem::new(vec![Feature::fixed("score", 1.0), Feature::free("lm")]).unwrap();
        for _ in 0..100 {
            let errors: Vec<u32> = (0..10).map(|i| i / 5 + random.below(4) as u32).collect();
            let values: Vec<f64> = (0..10).flat_map(|i| [-f64::from(i), random.range(-1.0, 1.0)]).collect();
            problem.push(None, 10, &errors, &values).unwrap();
        }
        let tuned = Tuner::default().run(&problem);
        assert!(tuned.train < tuned.first_pass);
        assert_eq!(tuned.verdict, Verdict::Keep, "{tuned:?}");
    }
}

#[test]
fn what_cannot_be_ranked_stays_first_pass() {
    let mut problem = planted(60, 10, &[1.0, 1.0], 5);
    let before = problem.loss(&[1.0, 1.0]);
    problem.push(None, 9, &[4, 0], &[-1.0, f64::NAN, -2.0, 0.0]).unwrap();
    problem.push(None, 7, &[], &[]).unwrap();
    assert!(problem.push(None, 7, &[1], &[1.0]).is_err());
    let tuned = Tuner::default().run(&problem);
    assert_eq!((tuned.left, tuned.utterances), (2, 62));
    assert_eq!(problem.loss(&[1.0, 1.0]), before + 11);
}

#[test]
fn no_data_no_weights() {
    let mut problem = Problem::new(vec![Feature::fixed("score", 1.0), Feature::free("lm")]).unwrap();
    let nothing = Tuner::default().run(&problem);
    assert_eq!((nothing.verdict, &nothing.weights[..]), (Verdict::Keep, &[1.0, 0.0][..]));
    problem.push(None, 3, &[], &[]).unwrap();
    assert_eq!(Tuner::default().run(&problem).weights, [1.0, 0.0]);
    // One utterance may be learnt by heart, but proves nothing.
    problem.push(None, 3, &[1, 0], &[-1.0, -9.0, -2.0, -3.0]).unwrap();
    let one = Tuner::default().run(&problem);
    assert_eq!((one.train, one.held_out, one.verdict), (3, 4, Verdict::Keep));
    assert!(Problem::new(Vec::new()).is_err());
    assert!(Problem::new(vec![Feature::free("x").at_least(1.0).at_most(0.0)]).is_err());
    assert!(Problem::new(vec![Feature::fixed("x", f64::NAN)]).is_err());
}

#[test]
fn a_speaker_is_held_out_whole() {
    let problem = planted(200, 3, &[1.0, 1.0], 1);
    let parts = Tuner::default().parts(&problem);
    for speaker in 0..20 {
        assert!((speaker..200).step_by(20).all(|u| parts[u] == parts[speaker]));
    }
    assert!((0..5).all(|fold| parts.iter().filter(|p| **p == fold).count() == 40));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn never_worse_than_the_first_pass_on_the_data_tuned_on(
        lists in prop::collection::vec(prop::collection::vec((-9i32..0, -3i32..4, 0i32..3, 0u32..5), 0..6), 0..12),
        seed in 0u64..4,
    ) {
        let features = vec![Feature::fixed("score", 1.0), Feature::free("lm"), Feature::free("words").at_least(0.0)];
        let mut problem = Problem::new(features).unwrap();
        for mut list in lists {
            list.sort_by_key(|h| std::cmp::Reverse(h.0));
            let errors: Vec<u32> = list.iter().map(|h| h.3).collect();
            let values: Vec<f64> = list.iter().flat_map(|h| [h.0, h.1, h.2].map(f64::from)).collect();
            problem.push(None, 5, &errors, &values).unwrap();
        }
        let bootstrap = Bootstrap { resamples: 20, ..Bootstrap::default() };
        let tuned = Tuner { seed, restarts: 2, bootstrap, ..Tuner::default() }.run(&problem);
        prop_assert!(tuned.oracle <= tuned.train && tuned.train <= tuned.first_pass);
        prop_assert_eq!(problem.loss(&tuned.weights), tuned.train);
    }
}

/// BLEU is no sum over lists: the weights must be right for all of them together.
#[test]
fn bleu_is_tuned_as_a_whole() {
    let truth = [1.0, 1.2];
    let features = vec![Feature::fixed("score", 1.0), Feature::free("lm")];
    let mut problem = Problem::of(features.clone(), Measure::Bleu).unwrap();
    let mut random = Random::new(9);
    for u in 0..200 {
        let list: Vec<(f64, f64, Bleu)> = (0..20)
            .map(|_| {
                let (a, b) = (random.range(-3.0, 3.0), random.range(-3.0, 3.0));
                let wrong = ((6.0 - a - truth[1] * b) / 2.0).clamp(0.0, 9.0) as u64;
                let correct = [20, 19, 18, 17].map(|all: u64| all.saturating_sub(2 * wrong));
                (a, b, Bleu { correct, total: [20, 19, 18, 17], length: 20, reference: 20 })
            })
            .collect();
        let counts: Vec<Bleu> = list.iter().map(|l| l.2).collect();
        let values: Vec<f64> = list.iter().flat_map(|l| [l.0, l.1]).collect();
        problem.add(Some(&[u % 10]), 20, Measured::Bleu(&counts), &values).unwrap();
    }
    problem.add(None, 20, Measured::Bleu(&[]), &[]).unwrap();
    assert!(problem.add(None, 20, Measured::Errors(&[1]), &[0.0, 0.0]).is_err());
    let tuned = Tuner::default().run(&problem);
    assert!((tuned.weights[1] - truth[1]).abs() < 0.3, "{tuned:?}");
    assert_eq!(tuned.verdict, Verdict::Use);
    assert!(tuned.train < tuned.first_pass && tuned.oracle <= tuned.train);
    // No weight on a fine grid does better than the search says is best, but for the valley's width.
    let least = (-300..300).map(|n| problem.loss(&[1.0, f64::from(n) / 50.0])).min().unwrap();
    assert!(tuned.train as f64 <= 1.003 * least as f64, "{} {least}", tuned.train);
    assert!((tuned.rate(tuned.train) - tuned.train as f64 / 1e9).abs() < 1e-12);
}
