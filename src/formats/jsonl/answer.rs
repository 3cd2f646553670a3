//! What our records say about themselves beside the status: confidences and times.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Members of a record's `secondpass` that were asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// The words decided for, where they need not be those of a hypothesis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Probability that all words of the answer are right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// The words of the answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<AnswerWord>,
    /// Probability of each hypothesis, as they stand in the list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub posteriors: Vec<f64>,
    /// Only the winner is decided: hypotheses that have a total; the others stand in first-pass order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_only: Option<usize>,
    /// Hypotheses whose scores are exact ones, where others' are of fewer bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirmed: Option<usize>,
    /// From reading the record to its answer, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<f64>,
}

/// A word of the answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AnswerWord {
    /// As in the hypothesis.
    pub word: String,
    /// Probability that it is right.
    pub confidence: f64,
}

impl Answer {
    /// What the record in `line` says; `None` where it is not our own, or says nothing that can be
    /// read.
    pub fn read(line: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Record {
            secondpass: Option<Answer>,
        }
        serde_json::from_slice::<Record>(line).ok()?.secondpass
    }

    /// The members as JSON text, each with a comma before it; empty if there are none.
    pub fn members(&self) -> String {
        // Strings, numbers and lists of them cannot fail.
        let object = serde_json::to_string(self).unwrap_or_default();
        match object.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(members) if !members.is_empty() => format!(",{members}"),
            _ => String::new(),
        }
    }
}

/// Everything that `scores` of our own record in `line` holds, with the first-pass rank of each
/// hypothesis, as they stand: first-pass features, the models', counts and `total`. Empty where the record is
/// not our own, or a rank is missing.
pub fn scores(line: &[u8]) -> Vec<(u32, Vec<(String, f64)>)> {
    let Ok(Value::Object(record)) = serde_json::from_slice(line) else { return Vec::new() };
    let numbers = |scores: &Value| -> Option<Vec<(String, f64)>> {
        let all = scores.as_object()?.iter();
        Some(all.filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))).collect())
    };
    let pair = |rank: &Value, scores: &Value| Some((u32::try_from(rank.as_u64()?).ok()?, numbers(scores)?));
    if !record.contains_key("secondpass") {
        return Vec::new();
    }
    // Parallel lists.
    if let (Some(Value::Array(ranks)), Some(Value::Array(scores))) =
        (record.get("rank"), record.get("scores"))
    {
        let pairs = ranks.iter().zip(scores).map(|(rank, scores)| pair(rank, scores));
        return pairs.collect::<Option<_>>().unwrap_or_default();
    }
    let hypotheses = record.values().find_map(|value| {
        let list = value.as_array().filter(|list| !list.is_empty())?;
        list.iter().map(|hypothesis| pair(hypothesis.get("rank")?, hypothesis.get("scores")?)).collect()
    });
    hypotheses.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let word = |word: &str| AnswerWord { word: word.into(), confidence: 0.25 };
        let answer = Answer {
            text: Some("a \"b\"".into()),
            confidence: Some(0.5),
            words: vec![word("a"), word("\"b\"")],
            best_only: Some(3),
            confirmed: Some(2),
            posteriors: vec![0.75, 0.25],
            took_ms: Some(1.5),
        };
        let line = format!("{{\"hyps\":[],\"secondpass\":{{\"status\":\"ok\"{}}}}}", answer.members());
        assert_eq!(Answer::read(line.as_bytes()), Some(answer));
        assert_eq!(Answer::default().members(), "");
        assert_eq!(Answer::read(b"{\"secondpass\":{\"status\":\"ok\"}}"), Some(Answer::default()));
        for other in ["{}", "", "[]", "{\"secondpass\":3}", "{\"secondpass\":{\"confidence\":\"x\"}}"] {
            assert_eq!(Answer::read(other.as_bytes()), None, "{other}");
        }
    }
    #[test]
    fn all_scores_of_our_own_records() {
        let want = vec![(2, vec![("a".to_owned(), -1.0), ("total".to_owned(), -2.5)]), (1, vec![])];
        let list = r#"{"x":[1],"nbest":[{"t":"","scores":{"a":-1,"b":null,"total":-2.5},"rank":2},{"scores":{},"rank":1}],"secondpass":{}}"#;
        let parallel =
            r#"{"hyps":["a","b"],"scores":[{"a":-1,"total":-2.5},{}],"rank":[2,1],"secondpass":{}}"#;
        assert_eq!(scores(list.as_bytes()), want);
        assert_eq!(scores(parallel.as_bytes()), want);
        for other in
            ["", "{}", r#"{"hyps":[{"scores":{},"rank":1}]}"#, r#"{"hyps":[{"scores":{}}],"secondpass":{}}"#]
        {
            assert!(scores(other.as_bytes()).is_empty(), "{other}");
        }
    }
}
