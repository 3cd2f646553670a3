//! A confusion network: positions, each with the words heard there and how likely they are.

/// Positions in order. Each hypothesis passes through every position once, with a word or with none.
pub(super) struct Network {
    bins: Vec<Bin>,
    /// Where the pivot's words stand.
    pivot: Vec<(usize, u32)>,
    mass: f64,
}

/// The words of one position with their masses; [`NONE`] stands for no word.
#[derive(Debug, Clone, Default)]
struct Bin(Vec<(u32, f64)>);

#[derive(Clone, Copy, PartialEq)]
enum Step {
    Into,
    Past,
    Between,
}

impl Network {
    /// One position for each word of the pivot.
    pub fn new(text: &[u32], mass: f64) -> Self {
        let bins = text.iter().map(|&word| Bin(vec![(word, mass)])).collect();
        Self { bins, pivot: text.iter().copied().enumerate().collect(), mass }
    }

    /// Aligns a text so that it adds the fewest expected errors; words that fit nowhere get positions
    /// of their own.
    pub fn add(&mut self, text: &[u32], mass: f64) {
        let steps = self.align(text);
        let width = text.len() + 1;
        let (mut bin, mut word) = (self.bins.len(), text.len());
        let mut path = Vec::with_capacity(bin.max(word));
        while bin > 0 || word > 0 {
            let step = steps[bin * width + word];
            bin -= usize::from(step != Step::Between);
            word -= usize::from(step != Step::Past);
            path.push((step, word));
        }
        let mut bins = Vec::with_capacity(path.len());
        let mut old = std::mem::take(&mut self.bins).into_iter();
        let mut places = Vec::new();
        for (step, word) in path.into_iter().rev() {
            let mut bin = match step {
                Step::Between => Bin(vec![(NONE, self.mass)]),
                _ => {
                    places.push(bins.len());
                    old.next().unwrap_or_default()
                }
            };
            bin.add(if step == Step::Past { NONE } else { text[word] }, mass);
            bins.push(bin);
        }
        self.bins = bins;
        self.pivot.iter_mut().for_each(|(place, _)| *place = places.get(*place).copied().unwrap_or(*place));
        self.mass += mass;
    }

    /// The pivot's words with their posteriors.
    pub fn pivot(&self) -> Vec<(u32, f64)> {
        self.pivot.iter().map(|&(place, word)| (word, self.bins[place].share(word, self.mass))).collect()
    }

    /// The likeliest of each position, without those where that is no word. On a tie what was heard
    /// first stays.
    pub fn best(&self) -> Vec<(u32, f64)> {
        let top = |bin: &Bin| {
            let likelier = |a: (u32, f64), &b: &(u32, f64)| if b.1 > a.1 { b } else { a };
            let (word, _) = bin.0.iter().fold((NONE, f64::NEG_INFINITY), likelier);
            (word != NONE).then(|| (word, bin.share(word, self.mass)))
        };
        self.bins.iter().filter_map(top).collect()
    }

    /// The step into each cell of (positions x words). A word into a position costs what of its mass
    /// differs, past a position what of it is a word, a new position all.
    fn align(&self, text: &[u32]) -> Vec<Step> {
        let width = text.len() + 1;
        let mut steps = vec![Step::Between; (self.bins.len() + 1) * width];
        let mut row: Vec<f64> = (0..width).map(|n| n as f64).collect();
        for (i, bin) in self.bins.iter().enumerate() {
            let past = 1.0 - bin.share(NONE, self.mass);
            let mut diagonal = row[0];
            row[0] += past;
            steps[(i + 1) * width] = Step::Past;
            for (j, &word) in text.iter().enumerate() {
                let into = diagonal + 1.0 - bin.share(word, self.mass);
                let (past, between) = (row[j + 1] + past, row[j] + 1.0);
                diagonal = row[j + 1];
                let (cost, step) = match () {
                    () if into <= past.min(between) => (into, Step::Into),
                    () if past <= between => (past, Step::Past),
                    () => (between, Step::Between),
                };
                row[j + 1] = cost;
                steps[(i + 1) * width + j + 1] = step;
            }
        }
        steps
    }
}

impl Bin {
    fn add(&mut self, word: u32, mass: f64) {
        match self.0.iter_mut().find(|(other, _)| *other == word) {
            Some((_, sum)) => *sum += mass,
            None => self.0.push((word, mass)),
        }
    }

    fn share(&self, word: u32, all: f64) -> f64 {
        let own = self.0.iter().find(|(other, _)| *other == word).map_or(0.0, |&(_, mass)| mass);
        if all > 0.0 { (own / all).min(1.0) } else { 0.0 }
    }
}

const NONE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_open_where_a_word_fits_nowhere() {
        let mut network = Network::new(&[0, 1], 0.5);
        network.add(&[0, 2, 1], 0.3);
        network.add(&[2, 1], 0.2);
        let pivot = network.pivot();
        assert_eq!(network.bins.len(), 3);
        assert!((pivot[0].1 - 0.8).abs() < 1e-12 && (pivot[1].1 - 1.0).abs() < 1e-12);
        // The word in between has the mass of two, 0.5: as much as its absence, which was there first.
        assert_eq!(network.best(), [(0, pivot[0].1), (1, pivot[1].1)]);
        for bin in &network.bins {
            assert!((bin.0.iter().map(|entry| entry.1).sum::<f64>() - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn nothing_against_something() {
        let mut network = Network::new(&[], 0.4);
        assert!(network.pivot().is_empty());
        network.add(&[7], 0.6);
        network.add(&[], 0.0);
        assert_eq!(network.best(), [(7, 0.6)]);
    }
}
