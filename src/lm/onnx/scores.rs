//! From what a model gives to natural log probabilities.

use super::signature::Kind;

/// The scores of all tokens after one history.
pub(super) struct Row<'a> {
    kind: Kind,
    values: &'a [f32],
    /// ln of the sum over all tokens of exp of the score; 0 where the model has seen to that.
    norm: f64,
}

impl<'a> Row<'a> {
    pub fn new(kind: Kind, values: &'a [f32]) -> Self {
        let norm = if kind == Kind::Logits { log_sum_exp(values) } else { 0.0 };
        Self { kind, values, norm }
    }

    /// ln p of a token.
    pub fn ln(&self, token: u32) -> f32 {
        self.exact(token) as f32
    }

    fn exact(&self, token: u32) -> f64 {
        let value = f64::from(self.values[token as usize]);
        match self.kind {
            Kind::LogProbs => value,
            Kind::Probabilities => value.ln(),
            Kind::Logits => value - self.norm,
            Kind::NegativeLog => -value,
        }
    }

    /// ln of the summed probability of `tokens`.
    pub fn mass(&self, tokens: &[u32]) -> f32 {
        tokens.iter().map(|&token| self.exact(token).exp()).sum::<f64>().ln() as f32
    }
}

/// ln of the sum of exp of all values; NaN if one is.
pub(super) fn log_sum_exp(values: &[f32]) -> f64 {
    let top = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !top.is_finite() {
        return f64::from(top);
    }
    let sum: f64 = values.iter().map(|&value| f64::from((value - top).exp())).sum();
    f64::from(top) + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_score_gives_the_same_logarithms() {
        let p = [0.25f32, 0.5, 0.125, 0.125];
        let logs = p.map(f32::ln);
        let logits = logs.map(|value| value + 30.0);
        for (kind, values) in [(Kind::Probabilities, p), (Kind::LogProbs, logs), (Kind::Logits, logits)] {
            let row = Row::new(kind, &values);
            for token in 0..4 {
                assert!((row.ln(token) - logs[token as usize]).abs() < 1e-5, "{kind}");
            }
            assert!((row.mass(&[0, 3]) - 0.375f32.ln()).abs() < 1e-5);
            assert_eq!(row.mass(&[]), f32::NEG_INFINITY);
        }
    }

    #[test]
    fn what_is_not_finite_does_not_panic() {
        assert_eq!(Row::new(Kind::LogProbs, &[f32::NEG_INFINITY]).mass(&[0]), f32::NEG_INFINITY);
        assert!(Row::new(Kind::LogProbs, &[f32::NAN, 0.0]).mass(&[0, 1]).is_nan());
        assert!(Row::new(Kind::Logits, &[f32::NAN, 0.0]).ln(1).is_nan());
        assert_eq!(Row::new(Kind::Logits, &[f32::NEG_INFINITY, 0.0]).ln(1), 0.0);
        assert_eq!(Row::new(Kind::Probabilities, &[0.0, 1.0]).ln(0), f32::NEG_INFINITY);
    }
}
