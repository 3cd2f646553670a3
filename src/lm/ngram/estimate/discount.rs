//! The discounts of modified Kneser-Ney smoothing (Chen and Goodman 1998), in closed form.

use crate::{Error, Result};

/// How often the n-grams of one order have small adjusted counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Statistics {
    /// n-grams with the adjusted counts 1 to 4.
    pub with: [u64; 4],
}

/// What is taken off adjusted counts of 1, 2, and 3 or more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Discounts(pub [f64; 3]);

impl Statistics {
    pub fn add(&mut self, count: u64) {
        if let 1..=4 = count {
            self.with[count as usize - 1] += 1;
        }
    }

    /// The discounts of order `n`, and a message if they are `fallback`.
    ///
    /// # Errors
    /// If the counts of counts give none, and there is no `fallback`.
    pub fn discounts(&self, n: usize, fallback: Option<Discounts>) -> Result<(Discounts, Option<String>)> {
        let what = match self.closed_form() {
            Ok(discounts) => return Ok((discounts, None)),
            Err(what) => what,
        };
        let Some(fallback) = fallback else {
            return Err(Error::config(format!(
                "no Kneser-Ney discounts for {n}-grams: {what}. Is this little, repeated or artificial text? Train on \
                 more, remove repeated lines, lower the order, or take fixed discounts (--discount-fallback)"
            )));
        };
        let [one, two, three] = fallback.0;
        let message =
            format!("{n}-grams: {what}; the fallback discounts {one}, {two}, {three} are taken instead");
        Ok((fallback, Some(message)))
    }

    fn closed_form(&self) -> Result<Discounts, String> {
        if let Some(at) = self.with[..3].iter().position(|&count| count == 0) {
            return Err(format!("none has the adjusted count {}", at + 1));
        }
        let with = self.with.map(|count| count as f64);
        let y = with[0] / (with[0] + 2.0 * with[1]);
        let mut discounts = [0.0; 3];
        for (at, discount) in discounts.iter_mut().enumerate() {
            let count = at as f64 + 1.0;
            *discount = count - (count + 1.0) * y * with[at + 1] / with[at];
            if !(0.0..=count).contains(discount) {
                return Err(format!("the discount of adjusted count {count} would be {discount:.4}"));
            }
        }
        Ok(Discounts(discounts))
    }
}

impl Discounts {
    /// What is taken off an adjusted count.
    pub fn of(&self, count: u64) -> f64 {
        match count {
            0 => 0.0,
            1..=3 => self.0[count as usize - 1],
            _ => self.0[2],
        }
    }

    /// Whether they leave no count below zero.
    pub(super) fn valid(&self) -> bool {
        self.0.iter().zip(1..).all(|(discount, count)| (0.0..=f64::from(count)).contains(discount))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closed_form_by_hand() {
        // Y = 10 / (10 + 2 * 4) = 5/9; D1 = 1 - 2 * 5/9 * 4/10 = 5/9; D2 = 2 - 3 * 5/9 * 2/4 = 7/6;
        // D3 = 3 - 4 * 5/9 * 1/2 = 17/9.
        let statistics = Statistics { with: [10, 4, 2, 1] };
        let (Discounts([one, two, three]), message) = statistics.discounts(2, None).unwrap();
        assert!(message.is_none());
        for (got, want) in [(one, 5.0 / 9.0), (two, 7.0 / 6.0), (three, 17.0 / 9.0)] {
            assert!((got - want).abs() < 1e-15, "{got} for {want}");
        }
    }

    #[test]
    fn without_discounts_there_is_advice_or_the_fallback_with_a_message() {
        // Nothing counted twice; nothing counted three times; a discount below zero.
        for (with, what) in [
            ([5, 0, 1, 1], "adjusted count 2"),
            ([5, 3, 0, 1], "adjusted count 3"),
            // Y = 10/12; D2 = 2 - 3 * 10/12 * 9/1.
            ([10, 1, 9, 1], "adjusted count 2 would be -20.5"),
        ] {
            let statistics = Statistics { with };
            let error = statistics.discounts(3, None).unwrap_err().to_string();
            assert!(error.contains("3-grams") && error.contains("--discount-fallback"), "{error}");
            let fixed = Discounts([0.5, 1.0, 1.5]);
            let (discounts, message) = statistics.discounts(3, Some(fixed)).unwrap();
            assert_eq!(discounts, fixed);
            let message = message.unwrap();
            assert!(message.contains(what) && message.contains("0.5, 1, 1.5"), "{message}");
        }
    }

    #[test]
    fn counts_above_three_share_a_discount() {
        let discounts = Discounts([0.5, 1.0, 1.5]);
        assert_eq!(
            [0, 1, 2, 3, 4, 1_000_000].map(|count| discounts.of(count)),
            [0.0, 0.5, 1.0, 1.5, 1.5, 1.5]
        );
        assert!(
            discounts.valid()
                && !Discounts([1.1, 1.0, 1.5]).valid()
                && !Discounts([0.5, f64::NAN, 1.0]).valid()
        );
    }
}
