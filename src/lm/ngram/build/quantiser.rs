//! Values of an order in as many steps as some bits can number.

/// A table of values, ascending behind the reserved ones.
pub(super) struct Steps {
    pub(super) values: Vec<f32>,
    reserved: usize,
}

impl Steps {
    /// 2^bits steps for log10 probabilities; sorts them.
    pub(super) fn probs(probs: &mut [f32], bits: u8) -> Self {
        Self::new(probs, bits, &[])
    }

    /// 2^bits steps for log10 backoffs, two of them for the two zeros, which stay as they are;
    /// sorts them. Give those that are not zero.
    pub(super) fn backoffs(backoffs: &mut [f32], bits: u8) -> Self {
        Self::new(backoffs, bits, &[-0.0, 0.0])
    }

    /// Buckets of equal size, each with the mean of what is in it; an empty one has its
    /// neighbour's.
    fn new(values: &mut [f32], bits: u8, reserved: &[f32]) -> Self {
        values.sort_unstable_by(f32::total_cmp);
        let buckets = (1u64 << bits) - reserved.len() as u64;
        let mut steps = reserved.to_vec();
        let mut last = f32::NEG_INFINITY;
        let mut start = 0;
        for bucket in 1..=buckets {
            let end = (u128::from(bucket) * values.len() as u128 / u128::from(buckets)) as usize;
            let inside = &values[start..end];
            if !inside.is_empty() {
                let sum: f64 = inside.iter().map(|&value| f64::from(value)).sum();
                // The number of values as an `f32`, too: the format's way.
                last = (sum / f64::from(inside.len() as f32)) as f32;
            }
            steps.push(last);
            start = end;
        }
        Self { values: steps, reserved: reserved.len() }
    }

    /// The number of the step nearest to a probability.
    pub(super) fn prob(&self, prob: f32) -> u64 {
        self.nearest(prob)
    }

    /// The number of the step nearest to a backoff; zeros keep their sign.
    pub(super) fn backoff(&self, backoff: f32) -> u64 {
        if backoff == 0.0 { u64::from(backoff.is_sign_positive()) } else { self.nearest(backoff) }
    }

    fn nearest(&self, value: f32) -> u64 {
        let steps = &self.values[self.reserved..];
        let above = steps.partition_point(|&step| step < value);
        let nearest = match above {
            0 => 0,
            above if above == steps.len() => above - 1,
            above if value - steps[above - 1] < steps[above] - value => above - 1,
            above => above,
        };
        (self.reserved + nearest) as u64
    }
}
