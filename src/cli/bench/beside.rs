//! A fast mode beside the exact one, on the same lists in the same run.

use serde_json::{Value, json};

use super::accuracy::Accuracy;
use super::measure::{Part, throughput};
use crate::Result;
use crate::lm::Work;
use crate::nbest::{Name, Utterance};
use crate::rescorer::Rescorer;

/// What a fast mode saves and what it costs.
pub(super) struct Beside {
    /// By model: how many times fewer histories.
    saved: Vec<(Name, f64)>,
    /// Where winners are confirmed: hypotheses of a list that are scored again, on average, and the share of
    /// lists that have such.
    confirmed: Option<[f64; 2]>,
    /// How many times as fast.
    faster: f64,
    accuracy: Accuracy,
}

impl Beside {
    /// Rescores all lists with `exact`; `fast` and `rescored` are what the fast mode made of them.
    ///
    /// # Errors
    /// If a model fails.
    pub fn measure(
        exact: &Rescorer,
        fast: &Part,
        rescored: &[Utterance],
        utterances: &[Utterance],
        jobs: usize,
    ) -> Result<Self> {
        let mut everything = Vec::with_capacity(utterances.len());
        let whole = throughput(exact, utterances, jobs, Some(&mut everything))?;
        let rows = |work: &Work| work.rows.max(1) as f64;
        // What confirms winners has no counterpart.
        let pairs = fast.work.iter().zip(&whole.work);
        let again = fast.work.len() > whole.work.len();
        let share = |count: usize| count as f64 / utterances.len() as f64;
        Ok(Self {
            saved: pairs.map(|((name, fast), (_, whole))| (name.clone(), rows(whole) / rows(fast))).collect(),
            confirmed: again.then(|| fast.confirmed.map(share)),
            faster: whole.wall.as_secs_f64() / fast.wall.as_secs_f64(),
            accuracy: Accuracy::of(&everything, rescored, exact.gained()),
        })
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let saved: serde_json::Map<_, _> =
            self.saved.iter().map(|(name, times)| (name.to_string(), json!(times))).collect();
        let mut object = json!({"times_as_fast": self.faster, "times_fewer_histories": saved});
        if let Some([hypotheses, lists]) = self.confirmed {
            object["confirmed"] = json!({"hypotheses_per_list": hypotheses, "share_of_lists": lists});
        }
        if let (Value::Object(object), Value::Object(more)) = (&mut object, self.accuracy.json()) {
            object.extend(more);
        }
        object
    }
}

impl std::fmt::Display for Beside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let saved: Vec<String> =
            self.saved.iter().map(|(name, times)| format!("{name} {times:.2}")).collect();
        writeln!(
            f,
            "beside everything scored in f32: {:.2} times as fast; times fewer histories: {}",
            self.faster,
            saved.join(", ")
        )?;
        if let Some([hypotheses, lists]) = self.confirmed {
            writeln!(
                f,
                "confirmed in f32: {hypotheses:.2} hypotheses a list, in {:.1} % of the lists",
                100.0 * lists
            )?;
        }
        f.write_str(&self.accuracy.table())
    }
}
